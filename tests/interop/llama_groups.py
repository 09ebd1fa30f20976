"""Names the groups of Linears of a Llama as QuantizeTensors has them: names, inputs, and where their
scales go."""

import numpy as np

import llama_np

ROWS_PER_BATCH = 8  # The model runs on so many calibration rows at a time.
# s of a group goes into the rows of this Linear of the same block.
FOLDED_INTO = {"o": ("qkv", "self_attn.v_proj"), "down": ("gate_up", "mlp.up_proj")}
NORMS = {"qkv": "input_layernorm", "gate_up": "post_attention_layernorm"}


def group_name(layer, group):
    return f"model.layers.{layer}.{group}"


def module(layer, linear):
    return f"model.layers.{layer}.{linear}"


def tied_heads(model):
    """Returns (head_dim, query heads per kv head): s of o_proj must fit the outputs of v_proj."""
    return (model.head_dim, model.heads // model.kv_heads)


def v_proj_rows(model, s):
    """Returns s of o_proj as a factor of each row of v_proj."""
    heads = s.reshape(model.kv_heads, -1, model.head_dim)
    if (heads != heads[:, :1]).any():
        raise ValueError("s of o_proj differs between query heads that read one kv head")
    return heads[:, 0].reshape(-1)


def quantizable(model, layer, group, group_size):
    """Returns whether the AWQ gemm format holds every Linear of a group."""
    shapes = [model.weight(layer, linear).shape for linear in llama_np.GROUPS[group]]
    return all(out % 8 == 0 and columns % group_size == 0 for out, columns in shapes)


def quantizable_groups(model, group_size):
    return [
        (layer, group)
        for layer in range(model.layers)
        for group in llama_np.GROUPS
        if quantizable(model, layer, group, group_size)
    ]


def run_block(model, layer, hidden):
    """Returns (hidden states leaving a block, {group: its input}), a few rows at a time."""
    parts, leaving = {group: [] for group in llama_np.GROUPS}, []
    for start in range(0, len(hidden), ROWS_PER_BATCH):
        part = hidden[start : start + ROWS_PER_BATCH]
        leaving.append(model.block(layer, part, lambda group, x: parts[group].append(x)))
    return np.concatenate(leaving), {g: np.concatenate(x) for g, x in parts.items()}

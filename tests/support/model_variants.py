#!/usr/bin/env python3
"""Makes test models, from fixed seeds: variants of the committed pocket-llama that compute the same
function, and small models with random weights for each switch of an architecture.

    python tests/support/model_variants.py NAME OUT_DIR [--source DIR] [--dtype f16] [--shards 3]
    python tests/support/model_variants.py --list

A preserving variant also takes another Llama of full or grouped-query attention as its source.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys

import numpy as np

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "interop"))
import llama_np  # noqa: E402
import safetensors_np  # noqa: E402

POCKET_LLAMA = TESTS / "data" / "pocket-llama"
NORM_READERS = {"input_layernorm": "qkv", "post_attention_layernorm": "gate_up"}
LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


# Preserving: (config, tensors) to (config, tensors), the same logits. Tensors are float32 or F16.


def salient(config, tensors, share=0.01, factor=24, seed=1):
    """A few channels of each norm grow by a factor, the columns that read them shrink by it: small
    models hardly have such channels, large ones do, and they are what the AWQ search is for."""
    random = np.random.default_rng(seed)
    count = max(1, round(share * config["hidden_size"]))
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for norm, group in NORM_READERS.items():
            channels = random.choice(config["hidden_size"], count, replace=False)
            tensors[f"{prefix}{norm}.weight"][channels] *= factor
            for linear in llama_np.GROUPS[group]:
                tensors[f"{prefix}{linear}.weight"][:, channels] /= factor
    return config, tensors


def full_attention(config, tensors):
    """Every query head gets a copy of the kv head that it reads."""
    heads = config["num_attention_heads"]
    shared = heads // config.get("num_key_value_heads", heads)
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    for name, array in tensors.items():
        if name.split(".")[-2] in ("k_proj", "v_proj"):
            of_heads = array.reshape(-1, head_dim, *array.shape[1:])
            tensors[name] = np.repeat(of_heads, shared, 0).reshape(-1, *array.shape[1:])
    return {**config, "num_key_value_heads": heads}, tensors


def untied(config, tensors):
    """The head is a tensor of its own, equal to the embeddings."""
    tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"].copy())
    return {**config, "tie_word_embeddings": False}, tensors


def big_residual(config, tensors, factor=2.0**14):
    """What the residual stream is made of grows by a factor, which the norms divide out: beyond
    what F16 holds, as that of some large models is."""
    config, tensors = untied(config, tensors)
    for name in tensors:
        if name.endswith(("embed_tokens.weight", "o_proj.weight", "down_proj.weight")):
            tensors[name] *= np.float32(factor)
    return config, tensors


def mistral(config, tensors):
    """Without a window it is a Llama."""
    config = {**config, "architectures": ["MistralForCausalLM"], "model_type": "mistral",
              "sliding_window": None}
    return config, tensors


def qwen2(config, tensors):
    """With zeros as its q, k and v biases it is a Llama."""
    for name, array in list(tensors.items()):
        if name.split(".")[-2] in ("q_proj", "k_proj", "v_proj"):
            tensors[name.replace(".weight", ".bias")] = np.zeros(len(array), array.dtype)
    config = {**config, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
              "use_sliding_window": False}
    return config, tensors


def zero_biases(config, tensors):
    """Biases wherever a Llama can have them, all zero."""
    for name, array in list(tensors.items()):
        if name.endswith("_proj.weight"):
            tensors[name.replace(".weight", ".bias")] = np.zeros(len(array), array.dtype)
    return {**config, "attention_bias": True, "mlp_bias": True}, tensors


def padded_mlp(config, tensors, channels=32):
    """Channels of zeros at the end of the MLP: groups of 64 or more divide down_proj's input no
    longer, and some groups of gate and up are all zero."""
    for name, array in tensors.items():
        linear = name.split(".")[-2] if "." in name else ""
        if linear in ("gate_proj", "up_proj", "down_proj"):
            axis = 1 if linear == "down_proj" else 0
            tensors[name] = np.pad(array, [(0, channels * (i == axis)) for i in (0, 1)])
    inner = config["intermediate_size"] + channels
    return {**config, "intermediate_size": inner}, tensors


def same(config, tensors):
    return config, tensors


PRESERVING = {
    "plain": same,
    "salient": salient,
    "full-attention": full_attention,
    "untied": untied,
    "mistral": mistral,
    "qwen2": qwen2,
    "zero-biases": zero_biases,
    "padded-mlp": padded_mlp,
    "sharded": same,  # It has three files.
    "f32": same,
    "bf16": same,  # It is rounded: the function is the same only about.
    "big-residual": big_residual,  # It is rounded, too.
}
# They stand by variant; others have f16.
DTYPES = {"f32": "f32", "bf16": "bf16", "big-residual": "bf16"}
SHARDS = {"sharded": 3, "random-all-together": 3}


# Weights are random. Groups of 32 and 64 divide every input but that of the 172-column down_proj.

RANDOM_BASE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128,
    "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 16, "vocab_size": 256, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "hidden_act": "silu", "max_position_embeddings": 512,
    "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
}
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
RANDOM = {
    "random": {},
    "random-full-attention": {"num_key_value_heads": 8},
    "random-multi-query": {"num_key_value_heads": 1, "num_attention_heads": 4, "head_dim": 32},
    "random-llama3-rope": {"rope_scaling": LLAMA3_ROPE},
    "random-attention-bias": {"attention_bias": True},
    "random-all-biases": {"attention_bias": True, "mlp_bias": True},
    "random-untied": {"tie_word_embeddings": False},
    "random-172-columns": {"intermediate_size": 172},
    "random-mistral": {**MISTRAL, "sliding_window": 24, "tie_word_embeddings": False},
    "random-qwen2": {**QWEN2, "use_sliding_window": False},
    "random-all-together": {
        "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False,
        "intermediate_size": 172, "rope_theta": 5000.0, "rope_scaling": LLAMA3_ROPE},
}


def has_bias(config, linear):
    if config["architectures"] == ["Qwen2ForCausalLM"]:
        return linear[-6:] in ("q_proj", "k_proj", "v_proj")
    return config.get("attention_bias" if linear.startswith("self_attn") else "mlp_bias", False)


def random_model(config, seed):
    """Returns {name: float64 array} with activations of about unit size."""
    random = np.random.default_rng(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim", hidden // config["num_attention_heads"])
    query, key = (config[n] * head_dim for n in ("num_attention_heads", "num_key_value_heads"))
    shapes = {"self_attn.q_proj": (query, hidden), "self_attn.k_proj": (key, hidden),
              "self_attn.v_proj": (key, hidden), "self_attn.o_proj": (hidden, query),
              "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
              "mlp.down_proj": (hidden, inner)}
    tensors = {"model.embed_tokens.weight": random.normal(size=(config["vocab_size"], hidden)),
               "model.norm.weight": 1 + 0.3 * random.normal(size=hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for norm in NORM_READERS:
            tensors[f"{prefix}{norm}.weight"] = 1 + 0.3 * random.normal(size=hidden)
        for linear, shape in shapes.items():
            tensors[f"{prefix}{linear}.weight"] = 1.5 * random.normal(size=shape) / shape[1] ** 0.5
            if has_bias(config, linear):
                tensors[f"{prefix}{linear}.bias"] = 0.5 * random.normal(size=shape[0])
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = random.normal(size=(config["vocab_size"], hidden))
    return tensors


def write_checkpoint(directory, config, tensors, dtype="f16", shards=1):
    """Writes config.json and the tensors in `dtype` (f32, f16, bf16), in one file or with an index."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    kind = np.float16 if dtype == "f16" else np.float32
    tensors = {name: array.astype(kind) for name, array in tensors.items()}
    names = sorted(tensors)
    files = {"model.safetensors": names}
    if shards > 1:
        files = {f"model-{i + 1:05}-of-{shards:05}.safetensors": names[i::shards]
                 for i in range(shards)}
        size = sum(array.size for array in tensors.values()) * (4 if dtype == "f32" else 2)
        index = {"metadata": {"total_size": size},
                 "weight_map": {name: file for file, part in files.items() for name in part}}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    for file, part in files.items():
        safetensors_np.write(directory / file, {name: tensors[name] for name in part},
                             bf16=part if dtype == "bf16" else ())


def make(name, source=POCKET_LLAMA):
    """Returns (config, tensors) of a variant before they are stored; preserving ones in float32."""
    if name in RANDOM:
        config = {**RANDOM_BASE, **RANDOM[name]}
        return config, random_model(config, list(RANDOM).index(name))
    tensors = {n: a.astype(np.float32) for n, a in llama_np.read_tensors(source).items()}
    return PRESERVING[name](llama_np.read_config(source), tensors)


def write(name, directory, source=POCKET_LLAMA, dtype=None, shards=None):
    """Writes a variant; a preserving one gets its source's other files, too."""
    config, tensors = make(name, source)
    dtype = dtype or DTYPES.get(name, "f16")
    config["torch_dtype"] = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[dtype]
    write_checkpoint(directory, config, tensors, dtype, shards or SHARDS.get(name, 1))
    if name in PRESERVING:
        for file in os.listdir(source):
            if not file.endswith((".md", "safetensors", ".index.json")) and file != "config.json":
                shutil.copyfile(os.path.join(source, file), os.path.join(directory, file))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", nargs="?", choices=[*PRESERVING, *RANDOM])
    parser.add_argument("directory", nargs="?", help="to write; created")
    parser.add_argument("--list", action="store_true", help="the names, and nothing else")
    parser.add_argument("--source", default=POCKET_LLAMA, help="of a preserving variant")
    parser.add_argument("--dtype", choices=("f32", "f16", "bf16"))
    parser.add_argument("--shards", type=int)
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join([*PRESERVING, *RANDOM]))
        return
    if not arguments.directory:
        parser.error("NAME and OUT_DIR are required")
    write(arguments.name, arguments.directory, arguments.source, arguments.dtype, arguments.shards)


if __name__ == "__main__":
    main()

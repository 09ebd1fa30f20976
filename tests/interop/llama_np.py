"""A Llama in NumPy, float32, as a caller with a framework of its own would run it.

Shapes: tokens [rows, positions] of integers, hidden states [rows, positions, hidden_size].
Rotary embedding in the rotate-half form, grouped-query attention, SiLU-gated MLP, tied or untied
head. Sources: Touvron et al., "LLaMA", arXiv:2302.13971; Su et al., "RoFormer", arXiv:2104.09864.
"""

import json
import os

import numpy as np

import safetensors_np

# The groups of a block: Linears that read the same input, by the name of the input.
GROUPS = {
    "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "o": ["self_attn.o_proj"],
    "gate_up": ["mlp.gate_proj", "mlp.up_proj"],
    "down": ["mlp.down_proj"],
}


def read_tensors(directory):
    """{name: array} of every safetensors file of a checkpoint directory."""
    tensors = {}
    for file in sorted(os.listdir(directory)):
        if file.endswith(".safetensors"):
            tensors.update(safetensors_np.read(os.path.join(directory, file)))
    return tensors


def read_config(directory):
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
        return json.load(file)


class Llama:
    """Weights in float32, one block after the other."""

    def __init__(self, config, tensors):
        self.config = config
        self.hidden = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads", self.heads)
        self.head_dim = config.get("head_dim") or self.hidden // self.heads
        self.layers = config["num_hidden_layers"]
        self.epsilon = config["rms_norm_eps"]
        self.theta = config.get("rope_theta", 10000.0)
        self.tensors = {name: array.astype(np.float32) for name, array in tensors.items()}

    @staticmethod
    def load(directory):
        return Llama(read_config(directory), read_tensors(directory))

    def with_tensors(self, replaced):
        """The same model with some tensors replaced."""
        return Llama(self.config, {**self.tensors, **replaced})

    def weight(self, layer, linear):
        return self.tensors[f"model.layers.{layer}.{linear}.weight"]

    def embed(self, tokens):
        return self.tensors["model.embed_tokens.weight"][tokens]

    def norm(self, hidden, name):
        mean_square = np.mean(hidden * hidden, axis=-1, keepdims=True)
        return hidden / np.sqrt(mean_square + np.float32(self.epsilon)) * self.tensors[name]

    def _rotate(self, heads):
        """Rotary embedding of [rows, heads, positions, head_dim]."""
        positions, dim = heads.shape[-2:]
        frequency = self.theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
        angle = np.outer(np.arange(positions), np.concatenate([frequency, frequency]))
        first, second = np.split(heads, 2, axis=-1)
        turned = np.concatenate([-second, first], axis=-1)
        return heads * np.cos(angle).astype(np.float32) + turned * np.sin(angle).astype(np.float32)

    def _attend(self, query, key, value):
        """Causal attention of [rows, heads, positions, head_dim]."""
        positions = query.shape[-2]
        scores = query @ key.swapaxes(-1, -2) * np.float32(self.head_dim**-0.5)
        scores += np.triu(np.full((positions, positions), -np.inf, np.float32), 1)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return scores @ value

    def block(self, layer, hidden, observe=None):
        """One decoder block. `observe(group, input)` sees the input of each group of Linears."""
        observe = observe or (lambda group, value: None)
        prefix = f"model.layers.{layer}."
        rows, positions, _ = hidden.shape

        normed = self.norm(hidden, prefix + "input_layernorm.weight")
        observe("qkv", normed)

        def heads(linear, count):
            flat = normed @ self.weight(layer, linear).T
            return flat.reshape(rows, positions, count, self.head_dim).swapaxes(1, 2)

        query = self._rotate(heads("self_attn.q_proj", self.heads))
        key = self._rotate(heads("self_attn.k_proj", self.kv_heads))
        value = heads("self_attn.v_proj", self.kv_heads)
        shared = self.heads // self.kv_heads
        context = self._attend(query, np.repeat(key, shared, 1), np.repeat(value, shared, 1))
        context = context.swapaxes(1, 2).reshape(rows, positions, -1)
        observe("o", context)
        hidden = hidden + context @ self.weight(layer, "self_attn.o_proj").T

        normed = self.norm(hidden, prefix + "post_attention_layernorm.weight")
        observe("gate_up", normed)
        gate = normed @ self.weight(layer, "mlp.gate_proj").T
        inner = gate / (1 + np.exp(-gate)) * (normed @ self.weight(layer, "mlp.up_proj").T)
        observe("down", inner)
        return hidden + inner @ self.weight(layer, "mlp.down_proj").T

    def logits(self, tokens):
        hidden = self.embed(tokens)
        for layer in range(self.layers):
            hidden = self.block(layer, hidden)
        hidden = self.norm(hidden, "model.norm.weight")
        head = self.tensors.get("lm_head.weight", self.tensors["model.embed_tokens.weight"])
        return hidden @ head.T

    def log_probabilities(self, tokens):
        """[rows, positions - 1, vocabulary]: what each token says of the next."""
        logits = self.logits(tokens)[:, :-1]
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return logits


def perplexity(model, tokens, batch=8):
    """Over tokens 2..T of each row."""
    return compare([model], tokens, batch)[0]["perplexity"]


def compare(models, tokens, batch=8):
    """For each model its perplexity and KL(first model || model) in nats a token."""
    loss = np.zeros(len(models))
    divergence = np.zeros(len(models))
    count = 0
    for start in range(0, len(tokens), batch):
        part = tokens[start : start + batch]
        target = part[:, 1:, None].astype(np.int64)
        count += target.size
        source = None
        for i, model in enumerate(models):
            log_p = model.log_probabilities(part)
            loss[i] -= np.take_along_axis(log_p, target, -1).sum(dtype=np.float64)
            if source is None:
                source, weight = log_p, np.exp(log_p)
            else:
                divergence[i] += (weight * (source - log_p)).sum(dtype=np.float64)
    return [
        {"perplexity": float(np.exp(l / count)), "kl": float(d / count)}
        for l, d in zip(loss, divergence)
    ]


def group_inputs(model, tokens):
    """Yields (layer, {group: [rows, positions, in_features]}), block by block."""
    hidden = model.embed(tokens)
    for layer in range(model.layers):
        inputs = {}
        hidden = model.block(layer, hidden, inputs.__setitem__)
        yield layer, inputs

"""Is a Llama in NumPy, float32, as a caller with a framework of its own would run it.

Shapes: tokens [rows, positions] of integers, hidden states [rows, positions, hidden_size].
Rotary embedding in the rotate-half form, also with Llama 3's scaling; full, grouped-query and
sliding-window attention; biases wherever the checkpoint has them; SiLU-gated MLP; tied or untied
head. Sources: Touvron et al., "LLaMA", arXiv:2302.13971; Su et al., "RoFormer", arXiv:2104.09864;
Jiang et al., "Mistral 7B", arXiv:2310.06825.
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
    """Returns {name: array} of a checkpoint directory: of the files its index names, else of
    model.safetensors. checkpoint_np.py is stricter."""
    files = {"model.safetensors"}
    index = os.path.join(directory, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index, encoding="utf-8") as file:
            files = set(json.load(file)["weight_map"].values())
    tensors = {}
    for file in sorted(files):
        tensors.update(safetensors_np.read(os.path.join(directory, file)))
    return tensors


def read_config(directory):
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
        return json.load(file)


def rotary_frequencies(config, head_dim):
    """Returns [head_dim / 2] angles a position. Wavelengths that long contexts made too long are stretched
    by Llama 3's factor; between its two bounds the stretch is interpolated."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10000.0
    plain = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return plain
    if kind != "llama3":
        raise ValueError(f"rotary embedding {kind}")
    turns = rope["original_max_position_embeddings"] * plain / (2 * np.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return plain * (kept + (1 - kept) / rope["factor"])


def attention_window(config):
    """Returns how many positions a query sees, its own included; None: all."""
    (architecture,) = config["architectures"]
    if architecture == "MistralForCausalLM":
        return config.get("sliding_window", 4096)
    if architecture == "Qwen2ForCausalLM" and config.get("use_sliding_window"):
        if config.get("max_window_layers", 28) > 0:
            raise ValueError("max_window_layers: blocks with and without a window")
        return config.get("sliding_window", 4096)
    return None


class Llama:
    """Holds weights in float32, one block after the other. `inputs` is {module path: what becomes of its
    input before the product}, for activations that are quantized."""

    def __init__(self, config, tensors, inputs=None):
        self.config = config
        self.inputs = inputs or {}
        self.hidden = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads", self.heads)
        self.head_dim = config.get("head_dim") or self.hidden // self.heads
        self.layers = config["num_hidden_layers"]
        self.epsilon = config["rms_norm_eps"]
        self.frequencies = rotary_frequencies(config, self.head_dim)
        self.window = attention_window(config)
        self.tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
        # What an engine's dtype makes of the residual stream, such as infinities in float16.
        self.rounds = lambda hidden: hidden

    @staticmethod
    def load(directory):
        return Llama(read_config(directory), read_tensors(directory))

    def with_tensors(self, replaced):
        """Returns the same model with some tensors replaced."""
        return Llama(self.config, {**self.tensors, **replaced}, self.inputs)

    def weight(self, layer, linear):
        return self.tensors[f"model.layers.{layer}.{linear}.weight"]

    def linear(self, layer, linear, value):
        """Takes [..., in_features] to [..., out_features]."""
        change = self.inputs.get(f"model.layers.{layer}.{linear}")
        value = value if change is None else change(value)
        product = value @ self.weight(layer, linear).T
        bias = self.tensors.get(f"model.layers.{layer}.{linear}.bias")
        return product if bias is None else product + bias

    def embed(self, tokens):
        return self.rounds(self.tensors["model.embed_tokens.weight"][tokens])

    def norm(self, hidden, name):
        mean_square = np.mean(hidden * hidden, axis=-1, keepdims=True)
        return hidden / np.sqrt(mean_square + np.float32(self.epsilon)) * self.tensors[name]

    def _rotate(self, heads):
        """Rotary embedding of [rows, heads, positions, head_dim]."""
        positions = heads.shape[-2]
        angle = np.outer(np.arange(positions), np.tile(self.frequencies, 2))
        first, second = np.split(heads, 2, axis=-1)
        turned = np.concatenate([-second, first], axis=-1)
        return heads * np.cos(angle).astype(np.float32) + turned * np.sin(angle).astype(np.float32)

    def _attend(self, query, key, value):
        """Causal attention of [rows, heads, positions, head_dim]."""
        positions = query.shape[-2]
        scores = query @ key.swapaxes(-1, -2) * np.float32(self.head_dim**-0.5)
        scores += np.triu(np.full((positions, positions), -np.inf, np.float32), 1)
        if self.window and self.window < positions:
            hidden = np.tri(positions, positions, -self.window, dtype=bool)
            scores[..., hidden] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return scores @ value

    def block(self, layer, hidden, observe=None):
        """Runs one decoder block. `observe(group, input)` sees the input of each group of Linears."""
        observe = observe or (lambda group, value: None)
        prefix = f"model.layers.{layer}."
        rows, positions, _ = hidden.shape

        normed = self.norm(hidden, prefix + "input_layernorm.weight")
        observe("qkv", normed)

        def heads(linear, count):
            flat = self.linear(layer, linear, normed)
            return flat.reshape(rows, positions, count, self.head_dim).swapaxes(1, 2)

        query = self._rotate(heads("self_attn.q_proj", self.heads))
        key = self._rotate(heads("self_attn.k_proj", self.kv_heads))
        value = heads("self_attn.v_proj", self.kv_heads)
        shared = self.heads // self.kv_heads
        context = self._attend(query, np.repeat(key, shared, 1), np.repeat(value, shared, 1))
        context = context.swapaxes(1, 2).reshape(rows, positions, -1)
        observe("o", context)
        hidden = self.rounds(hidden + self.linear(layer, "self_attn.o_proj", context))

        normed = self.norm(hidden, prefix + "post_attention_layernorm.weight")
        observe("gate_up", normed)
        gate = self.linear(layer, "mlp.gate_proj", normed)
        inner = gate / (1 + np.exp(-gate)) * self.linear(layer, "mlp.up_proj", normed)
        observe("down", inner)
        return self.rounds(hidden + self.linear(layer, "mlp.down_proj", inner))

    def logits(self, tokens):
        hidden = self.embed(tokens)
        for layer in range(self.layers):
            hidden = self.block(layer, hidden)
        hidden = self.norm(hidden, "model.norm.weight")
        # A head that is stored counts: tied to the embeddings, it is a copy of them or its own.
        tied = self.config.get("tie_word_embeddings", False) and "lm_head.weight" not in self.tensors
        return hidden @ self.tensors["model.embed_tokens.weight" if tied else "lm_head.weight"].T

    def log_probabilities(self, tokens):
        """Returns [rows, positions - 1, vocabulary]: what each token says of the next."""
        logits = self.logits(tokens)[:, :-1]
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return logits


def perplexity(model, tokens, batch=8):
    """Returns the perplexity over tokens 2..T of each row."""
    return compare([model], tokens, batch)[0]["perplexity"]


def compare(models, tokens, batch=8):
    """For each model its perplexity, KL(first model || model) in nats a token, and the share of
    positions where its most likely token is that of the first."""
    loss = np.zeros(len(models))
    divergence = np.zeros(len(models))
    agreeing = np.zeros(len(models))
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
            agreeing[i] += (log_p.argmax(-1) == source.argmax(-1)).sum()
    return [
        {"perplexity": float(np.exp(nats / count)), "kl": float(d / count),
         "top1_agreement": float(a / count)}
        for nats, d, a in zip(loss, divergence, agreeing)
    ]


def group_inputs(model, tokens):
    """Yields (layer, {group: [rows, positions, in_features]}), block by block."""
    hidden = model.embed(tokens)
    for layer in range(model.layers):
        inputs = {}
        hidden = model.block(layer, hidden, inputs.__setitem__)
        yield layer, inputs

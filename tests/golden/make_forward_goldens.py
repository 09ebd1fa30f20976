"""Makes the files under forward/ beside this script: tiny models with random weights, one for each
switch of the forward pass and one for all together, with what NumPy computes for them in float64.

    python tests/golden/make_forward_goldens.py

A case is a checkpoint directory and, beside it, a file of its name: `tokens` [70], `logits` [70,
vocabulary] and, for the last block, the input of each group of Linears. pocket_llama.safetensors
holds the summed negative log likelihood of four evaluation rows of tests/data/pocket-llama, from
tests/interop/llama_np.py, which also has to agree on every case. What transformers computes for the
same models: make_transformers_goldens.py.
"""

import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "interop"), str(HERE.parent / "support")]

import llama_np  # noqa: E402
import model_variants  # noqa: E402
import safetensors_np  # noqa: E402

TOKENS = 70  # They are two tiles of 64.
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
BASE = {"architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 44,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "vocab_size": 40, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": True}
CASES = {
    "plain": {},
    "grouped_query": {"num_key_value_heads": 2},
    "multi_query_own_head_dim": {"num_key_value_heads": 1, "hidden_size": 24, "head_dim": 8},
    "qkv_bias": {"architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": 2},
    "all_biases": {"attention_bias": True, "mlp_bias": True},
    "llama3_rope": {"rope_scaling": LLAMA3},
    "untied_head": {"tie_word_embeddings": False},
    "sliding_window": {"architectures": ["MistralForCausalLM"], "sliding_window": 9},
    "all_together": {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True,
                     "rope_theta": None, "tie_word_embeddings": False,
                     "rope_parameters": {**LLAMA3, "rope_theta": 5000.0}},
    "columns_172": {"intermediate_size": 172},
    "mistral_together": {"architectures": ["MistralForCausalLM"], "sliding_window": 20,
                         "num_key_value_heads": 2, "head_dim": 12, "rope_theta": 1e6,
                         "tie_word_embeddings": False},
    "qwen2_together": {"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": False,
                       "sliding_window": 20, "max_window_layers": 2, "num_key_value_heads": 1,
                       "rope_theta": 1e6, "tie_word_embeddings": False},
}
STORED = {"all_together": "bf16", "plain": "f32"}  # The others are f16.
SHARDS = {"all_together": 3}


def window(config):
    """Returns how many positions a query sees."""
    windowed = {"MistralForCausalLM": True, "Qwen2ForCausalLM": config.get("use_sliding_window")}
    seen = windowed.get(config["architectures"][0]) and config.get("sliding_window")
    return seen or TOKENS


def frequencies(config, head_dim):
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta") or config["rope_theta"]
    inverse = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    if rope.get("rope_type") != "llama3":
        return inverse
    length = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    wavelength = 2 * np.pi / inverse
    smooth = (length / wavelength - low) / (high - low)
    between = (1 - smooth) * inverse / rope["factor"] + smooth * inverse
    slow, fast = wavelength > length / low, wavelength < length / high
    assert slow.any() and fast.any() and not (slow | fast).all()
    return np.where(slow, inverse / rope["factor"], np.where(fast, inverse, between))


def bf16(values):
    return safetensors_np.widen_bf16(safetensors_np.round_bf16(values)).astype(np.float64)


def forward(config, tensors, tokens, observe=lambda layer, group, x: None, rounded=lambda x: x):
    """Logits [tokens, vocabulary], token by token where a formula allows it."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim", config["hidden_size"] // heads)
    angle = np.outer(np.arange(len(tokens)), frequencies(config, head_dim))
    turn = np.exp(1j * angle)

    def linear(name, x):
        bias = tensors.get(f"{name}.bias", 0)
        return rounded(x) @ rounded(tensors[f"{name}.weight"]).T + bias

    def norm(name, x):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"]) * tensors[name]

    def rotate(x):  # It takes channel pairs (i, i + head_dim / 2) as complex numbers.
        z = (x[:, : head_dim // 2] + 1j * x[:, head_dim // 2 :]) * turn
        return np.concatenate([z.real, z.imag], axis=1)

    hidden = tensors["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        x = norm(p + "input_layernorm.weight", hidden)
        observe(layer, "qkv", x)
        q, k, v = (linear(f"{p}self_attn.{n}_proj", x) for n in "qkv")
        context = np.zeros((len(tokens), heads * head_dim))
        for head in range(heads):
            own = slice(head * head_dim, (head + 1) * head_dim)
            kv = head * kv_heads // heads
            shared = slice(kv * head_dim, (kv + 1) * head_dim)
            query, key = rotate(q[:, own]), rotate(k[:, shared])
            for t in range(len(tokens)):
                first = max(0, t + 1 - window(config))
                score = key[first : t + 1] @ query[t] / np.sqrt(head_dim)
                p_t = np.exp(score - score.max())
                context[t, own] = p_t / p_t.sum() @ v[first : t + 1, shared]
        observe(layer, "o", context)
        hidden = hidden + linear(p + "self_attn.o_proj", context)
        x = norm(p + "post_attention_layernorm.weight", hidden)
        observe(layer, "gate_up", x)
        gate = linear(p + "mlp.gate_proj", x)
        inner = gate / (1 + np.exp(-gate)) * linear(p + "mlp.up_proj", x)
        observe(layer, "down", inner)
        hidden = hidden + linear(p + "mlp.down_proj", inner)
    hidden = norm("model.norm.weight", hidden)
    return hidden @ tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"]).T


def make_case(seed, name, changes):
    config = {k: v for k, v in {**BASE, **changes}.items() if v is not None}
    directory = HERE / "forward" / name
    model_variants.write_checkpoint(directory, config, model_variants.random_model(config, seed),
                                    STORED.get(name, "f16"), SHARDS.get(name, 1))
    stored = llama_np.read_tensors(directory)
    tensors = {key: array.astype(np.float64) for key, array in stored.items()}
    tokens = np.random.default_rng(seed).integers(0, config["vocab_size"], TOKENS)
    golden, last = {}, config["num_hidden_layers"] - 1

    def observe(layer, group, x):
        if layer == last:
            golden[group] = x

    golden["logits"] = forward(config, tensors, tokens, observe)
    if name == "grouped_query":
        golden["logits_bf16"] = forward(config, tensors, tokens, rounded=bf16)
    other = llama_np.Llama(config, tensors).logits(tokens[None])[0]
    assert np.abs(other - golden["logits"]).max() < 1e-4, name
    golden = {k: v.astype(np.float32) for k, v in golden.items()}
    golden["tokens"] = tokens.astype(np.int64)
    # Beside the directory, which holds the model alone.
    safetensors_np.write(HERE / "forward" / f"{name}.safetensors", golden)
    return golden["logits"]


def main():
    (HERE / "forward").mkdir(exist_ok=True)
    all_logits = {n: make_case(i, n, changes) for i, (n, changes) in enumerate(CASES.items())}
    print({name: float(np.abs(logits).max()) for name, logits in all_logits.items()})

    data = HERE.parent / "data" / "pocket-llama"
    rows = safetensors_np.read(data / "evaluation_open.safetensors")["input_ids"][:4]
    log_p = llama_np.Llama.load(data).log_probabilities(rows)
    loss = -np.take_along_axis(log_p, rows[:, 1:, None].astype(np.int64), -1)
    loss = loss.sum(axis=(1, 2), dtype=np.float64)
    print("perplexity of four rows", float(np.exp(loss.sum() / (rows.size - len(rows)))))
    safetensors_np.write(HERE / "forward" / "pocket_llama.safetensors",
                         {"negative_log_likelihood": loss})


if __name__ == "__main__":
    main()

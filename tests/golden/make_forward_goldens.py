"""Makes the files under forward/ beside this script: tiny models with random weights, one for each
switch of the forward pass and one for all together, with what NumPy computes for them in float64.

    python tests/golden/make_forward_goldens.py

A case is a checkpoint directory and, beside it, a file of its name: `tokens` [70], `logits` [70, vocabulary]
and, for the last block, the input of each group of Linears. pocket_llama.safetensors holds the
summed negative log likelihood of four evaluation rows of tests/data/pocket-llama, from
tests/interop/llama_np.py, which also has to agree on the cases it can compute.
"""

import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "interop"))

import llama_np  # noqa: E402
import safetensors_np  # noqa: E402

TOKENS = 70  # two tiles of 64
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
}
STORED = {"all_together": "bf16", "plain": "f32"}  # else f16
SHARDED = "all_together"


def bias_of(config, linear):
    if config["architectures"] == ["Qwen2ForCausalLM"]:
        return linear[-6:] in ("q_proj", "k_proj", "v_proj")
    return config.get("attention_bias" if linear.startswith("self_attn") else "mlp_bias", False)


def random_model(config, seed):
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
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{norm}.weight"] = 1 + 0.3 * random.normal(size=hidden)
        for linear, shape in shapes.items():
            tensors[f"{prefix}{linear}.weight"] = 1.5 * random.normal(size=shape) / shape[1] ** 0.5
            if bias_of(config, linear):
                tensors[f"{prefix}{linear}.bias"] = 0.5 * random.normal(size=shape[0])
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = random.normal(size=(config["vocab_size"], hidden))
    return tensors


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

    def rotate(x):  # channel pairs (i, i + head_dim / 2) as complex numbers
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
                first = 0
                if config["architectures"] == ["MistralForCausalLM"] and "sliding_window" in config:
                    first = max(0, t + 1 - config["sliding_window"])
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


def write_model(directory, config, tensors, stored):
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    kind = np.float16 if stored == "f16" else np.float32
    tensors = {name: array.astype(kind) for name, array in tensors.items()}
    names = sorted(tensors)
    files = {"model.safetensors": names}
    if directory.name == SHARDED:
        files = {f"model-0000{i + 1}-of-00003.safetensors": names[i::3] for i in range(3)}
        index = {"metadata": {"total_size": sum(t.nbytes // 2 for t in tensors.values())},
                 "weight_map": {name: file for file, part in files.items() for name in part}}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    for file, part in files.items():
        safetensors_np.write(directory / file, {name: tensors[name] for name in part},
                             bf16=part if stored == "bf16" else ())
    return {name: array.astype(np.float64)
            for name, array in llama_np.read_tensors(directory).items()}


def make_case(seed, name, changes):
    config = {k: v for k, v in {**BASE, **changes}.items() if v is not None}
    directory = HERE / "forward" / name
    tensors = write_model(directory, config, random_model(config, seed), STORED.get(name, "f16"))
    tokens = np.random.default_rng(seed).integers(0, config["vocab_size"], TOKENS)
    golden, last = {}, config["num_hidden_layers"] - 1

    def observe(layer, group, x):
        if layer == last:
            golden[group] = x

    golden["logits"] = forward(config, tensors, tokens, observe)
    if name == "grouped_query":
        golden["logits_bf16"] = forward(config, tensors, tokens, rounded=bf16)
    if name in ("plain", "grouped_query", "multi_query_own_head_dim", "untied_head"):
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

"""Makes configs.json beside this script: what transformers makes of many a config.json of its Llama,
Mistral and Qwen2 classes, with every key that their code reads absent, null, usual and odd.

    build/venv-transformers/bin/python tests/golden/make_config_goldens.py [--check]

tests/tool_environment.sh makes that environment. A case is a family's base with some members changed;
its weights and tokens come from a hash of their names (see `uniform`), so the file holds no tensors.
`perplexity` is that of AutoModelForCausalLM in float32; where it refuses or fails, `model_error` is
the beginning of what it said. `config_error` is what AutoConfig said, if it refused the config alone.
--check computes everything anew, writes nothing, and fails where the committed file says something else.
"""

import argparse
import json
import logging
import pathlib
import sys
import tempfile
import warnings

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / "configs.json"
sys.path[:0] = [str(HERE), str(HERE.parent / "interop")]

import safetensors_np  # noqa: E402
from config_cases import ABSENT, FAMILIES, Raw, cases, without  # noqa: E402

ROUNDING = 2e-5  # It is relative, between builds of torch.
TOKENS = 40
BIASES = {"llama": "", "mistral": "", "qwen2": "qkv"}


def text_of(value):
    return str(value) if isinstance(value, Raw) else json.dumps(value)


def members_of(family, changes):
    """Returns JSON text by name; what is absent is left out."""
    members = {**FAMILIES[family], **changes}
    return {key: text_of(value) for key, value in members.items() if value is not ABSENT}


def uniform(name, count):
    """`count` multiples of 2^-23 from [-1, 1): splitmix64 of the FNV-1a hash of the name, plus i."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1


def tensors_of(weights):
    """Returns tensors of the case's shapes, float32. Vectors of norms lie around 1, Linears are scaled by 1/2."""
    hidden, inner, vocabulary = weights["hidden"], 44, 40
    query = weights["heads"] * weights["head_dim"]
    key = weights["kv_heads"] * weights["head_dim"]
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        linears = {"self_attn.q_proj": (query, hidden), "self_attn.k_proj": (key, hidden),
                   "self_attn.v_proj": (key, hidden), "self_attn.o_proj": (hidden, query),
                   "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
                   "mlp.down_proj": (hidden, inner)}
        for name, shape in linears.items():
            shapes[f"{prefix}{name}.weight"] = shape
            part = "mlp" if name.startswith("mlp") else "qkvo"
            stored = weights["biases"].split()
            if part in stored or (part == "qkvo" and "qkv" in stored and "o_proj" not in name):
                shapes[f"{prefix}{name}.bias"] = shape[:1]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{norm}.weight"] = (hidden,)
    if weights["head"] == "own":
        shapes["lm_head.weight"] = (vocabulary, hidden)
    tensors = {}
    for name, shape in shapes.items():
        values = uniform(name, int(np.prod(shape))).reshape(shape) * 0.5
        tensors[name] = (1 + values if name.endswith("norm.weight") else values).astype(np.float32)
    for name, dtype in (("model.embed_tokens.weight", weights["embedding_dtype"]),
                        ("lm_head.weight", weights["head_dtype"])):
        if dtype == "bf16" and name in tensors:
            tensors[name] = safetensors_np.widen_bf16(safetensors_np.round_bf16(tensors[name]))
    if weights["head"] == "copy":
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    return tensors


def tokens_of(count):
    return ((uniform("tokens", count) + 1) * 20).astype(np.int64)


def beginning(error):
    # The innermost cause says most: others wrap it.
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]


def run(directory, tokens):
    """Returns (perplexity, None) or (None, what it said)."""
    try:
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, output_loading_info=True)
        if loading["missing_keys"]:
            return None, f"missing: {sorted(loading['missing_keys'])[0]}"
        with torch.no_grad():
            logits = model(torch.from_numpy(tokens)[None]).logits[0].double()
        nll = torch.nn.functional.cross_entropy(logits[:-1], torch.from_numpy(tokens)[1:])
        perplexity = float(torch.exp(nll))
        return (perplexity, None) if np.isfinite(perplexity) else (None, f"perplexity {perplexity}")
    except Exception as error:  # noqa: BLE001: whatever it raises is its answer
        return None, beginning(error)


def make_case(family, name, changes, weights):
    usual = {"hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 8, "biases": BIASES[family],
             "head": "none", "embedding_dtype": "f32", "head_dtype": "f32", "tokens": TOKENS}
    members = members_of(family, changes)
    case = {"family": family, "name": name,
            "changes": {key: members.get(key) for key in changes}}
    if weights:
        case["weights"] = weights
    full = {**usual, **weights}
    with tempfile.TemporaryDirectory() as directory:
        text = "{" + ", ".join(f"{json.dumps(k)}: {v}" for k, v in members.items()) + "}"
        (pathlib.Path(directory) / "config.json").write_text(text)
        safetensors_np.write(pathlib.Path(directory) / "model.safetensors", tensors_of(full))
        try:
            transformers.AutoConfig.from_pretrained(directory)
        except Exception as error:
            case["config_error"] = beginning(error).replace(directory, "DIR")
        perplexity, error = run(directory, tokens_of(full["tokens"]))
        if error is None:
            case["perplexity"] = perplexity
        else:
            case["model_error"] = error.replace(directory, "DIR")
    return case


def same(made, committed):
    if without(made, "perplexity") != without(committed, "perplexity"):
        return False
    if "perplexity" not in made:
        return "perplexity" not in committed
    return abs(made["perplexity"] / committed.get("perplexity", 0.0) - 1) < ROUNDING


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    made = [make_case(*case) for case in cases()]
    ran = sum("perplexity" in case for case in made)
    print(f"{len(made)} configs: {ran} run, {len(made) - ran} do not")
    if arguments.check:
        committed = json.loads(GOLDEN.read_text())["cases"]
        wrong = [a["family"] + "/" + a["name"] for a, b in zip(made, committed) if not same(a, b)]
        if wrong or len(made) != len(committed):
            sys.exit(f"not what is committed: {', '.join(wrong) or 'other cases'}")
        return
    bases = {family: members_of(family, {}) for family in FAMILIES}
    lines = ",\n".join(json.dumps(case) for case in made)
    GOLDEN.write_text(f'{{"transformers": "{transformers.__version__}",\n'
                      f'"bases": {json.dumps(bases)},\n"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()

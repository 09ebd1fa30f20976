"""Makes families/ beside this script: small random models of every family and what transformers
computes for them, float32 on a CPU, eager attention, one row at once.

    build/venv-transformers/bin/python tests/golden/make_family_goldens.py [--check]

tests/tool_environment.sh makes that environment; family_cases.py says what a case is. Each case is
a checkpoint, families/NAME/; families/logits.safetensors has NAME [tokens, vocabulary] and
NAME.tokens. It fails where a switch of a case changes nothing, a tensor of a checkpoint does not
matter, or AutoModelForCausalLM reads a model from the directory that computes something else.

--check computes everything anew, writes nothing, and fails where a committed file differs by more
than rounding does.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import zlib

import family_cases
import numpy as np
import torch
import transformers

FAMILIES = pathlib.Path(__file__).parent / "families"
GOLDEN = FAMILIES / "logits.safetensors"
sys.path[:0] = [str(FAMILIES.parents[1] / "interop"), str(FAMILIES.parents[1] / "support")]

import safetensors_np  # noqa: E402

DTYPE_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
ROUNDING = 5e-5  # Builds of torch differ by so much.
EFFECT = 1e-3  # A switch changes some logit by more.


def random_of(*names):
    return np.random.default_rng([zlib.crc32(name.encode()) for name in names])


def random_tensor(case_name, name, shape, one_is_added):
    """Returns float64 values that depend on nothing but the arguments."""
    values = random_of(case_name, name).normal(size=shape)
    if name.endswith("norm.weight"):
        return 0.2 * values + (0 if one_is_added else 1)
    if name.endswith("bias"):
        return 0.2 * values
    if "embed" in name or name == "lm_head.weight":
        return values
    return values / np.prod(shape[1:]) ** 0.5


def stored(values, dtype):
    """Returns what a file in this dtype holds of the values, in float32."""
    values = values.astype(np.float32)
    if dtype == "bf16":
        return safetensors_np.widen_bf16(safetensors_np.round_bf16(values))
    return values.astype(np.float16).astype(np.float32) if dtype == "f16" else values


def config_of(members):
    members = {k: v for k, v in members.items() if v is not family_cases.ABSENT}
    model_type = members["model_type"]
    members = {k: v for k, v in members.items() if k != "model_type"}
    # Config classes change dictionaries that they are given.
    return transformers.AutoConfig.for_model(model_type, **json.loads(json.dumps(members)))


def as_written(case):
    """Returns the members of config.json."""
    dtype = DTYPE_NAMES[case.dtype]
    if not case.new:
        return {**case.config, "torch_dtype": dtype}
    config = config_of(case.config)
    config.dtype = dtype
    config.architectures = case.config["architectures"]
    return json.loads(config.to_json_string(use_diff=True))


def build(case_name, members, dtype):
    """Returns a model of the config with the case's weights."""
    config = config_of(members)
    config._attn_implementation = "eager"
    model = getattr(transformers, members["architectures"][0])(config).float().eval()
    one_is_added = config.model_type.startswith("gemma")
    model.tie_weights()
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    state = {}
    for name, tensor in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        values = random_tensor(case_name, name, tuple(tensor.shape), one_is_added)
        state[name] = torch.from_numpy(stored(values, dtype))
    loading = model.load_state_dict(state, strict=False)
    assert not loading.unexpected_keys and loading.missing_keys == ["lm_head.weight"] * tied, loading
    return model, {name: tensor.numpy().copy() for name, tensor in state.items()}


def logits(model, tokens):
    with torch.no_grad():
        return model(torch.from_numpy(tokens)[None], use_cache=False).logits[0].numpy().copy()


def difference(a, b):
    return float(np.abs(a - b).max())


def read_back(directory, tokens):
    """Returns the logits of the model that users of the directory get."""
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not loading.get(problem), (directory, problem, loading[problem])
    return logits(model.eval(), tokens)


def names_on_disk(model):
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        return safetensors_np.read_header(pathlib.Path(directory) / "model.safetensors")[0].keys() - {"__metadata__"}


def check_switches(name, case, tokens, expected):
    for switches, has_effect in ((case.switches, True), (case.without_effect, False)):
        for label, members in switches.items():
            model, _ = build(name, {**case.config, **members}, case.dtype)
            changed = difference(logits(model, tokens), expected)
            print(f"  {label:44} {changed:.4f}" + ("" if has_effect else " (none expected)"))
            assert changed > EFFECT if has_effect else changed == 0, (name, label, changed)


def check_tensors(name, case, model, tokens, expected):
    """Fails if logits do not depend on each tensor."""
    for key, tensor in model.named_parameters():
        kept = tensor.data.clone()
        noise = random_of(name, key, "noise").normal(size=tuple(tensor.shape)).astype(np.float32)
        tensor.data += torch.from_numpy(0.1 * noise)
        changed = difference(logits(model, tokens), expected)
        tensor.data = kept
        used = not any(key.endswith(end) for end in case.unused)
        assert changed > 1e-4 if used else changed < 1e-4, (name, key, changed)
    assert difference(logits(model, tokens), expected) == 0


def make(name, case, root):
    """Writes the case below root, and returns (tokens, logits)."""
    tokens = random_of(name, "tokens").integers(0, case.config["vocab_size"], case.tokens)
    model, tensors = build(name, case.config, case.dtype)
    expected = logits(model, tokens)
    print(f"{name}: {case.dtype}, largest logit {np.abs(expected).max():.1f}")
    assert names_on_disk(model) == tensors.keys(), name

    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_written(case), indent=2)
    (directory / "config.json").write_text(text + "\n")
    kind = np.float16 if case.dtype == "f16" else np.float32
    safetensors_np.write(directory / "model.safetensors", {k: v.astype(kind) for k, v in tensors.items()},
                         bf16=tensors if case.dtype == "bf16" else ())
    assert difference(read_back(directory, tokens), expected) == 0, name
    check_switches(name, case, tokens, expected)
    check_tensors(name, case, model, tokens, expected)
    return tokens, expected


def compare(made, root):
    """Returns what of the committed files differs from the made ones."""
    committed = safetensors_np.read(GOLDEN)
    wrong = sorted(committed.keys() ^ made.keys())
    wrong += [k for k in committed.keys() & made.keys() if not difference(made[k], committed[k]) < ROUNDING]
    for path in sorted(root.glob("*/*")):
        other = FAMILIES / path.relative_to(root)
        if not other.exists() or other.read_bytes() != path.read_bytes():
            wrong.append(str(path.relative_to(root)))
    wrong += [path.name for path in FAMILIES.iterdir() if path.is_dir() and not (root / path.name).exists()]
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch) if arguments.check else FAMILIES
        made = {}
        for name, case in family_cases.cases().items():
            made[f"{name}.tokens"], made[name] = make(name, case, root)
        if arguments.check:
            wrong = compare(made, root)
            if wrong:
                sys.exit(f"not what is committed: {', '.join(wrong)}")
            return
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    safetensors_np.write(GOLDEN, made, metadata=versions)


if __name__ == "__main__":
    main()

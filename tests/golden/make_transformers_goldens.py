"""Makes forward/transformers.safetensors: the logits [70, vocabulary] that transformers' own
LlamaForCausalLM, MistralForCausalLM and Qwen2ForCausalLM compute in float32 on a CPU for each model
under forward/, one tensor a case.

    build/venv-transformers/bin/python tests/golden/make_transformers_goldens.py [--check]

tests/tool_environment.sh makes that environment. --check computes everything anew,
writes nothing, and fails where the committed file differs by more than rounding does.
"""

import argparse
import pathlib
import sys

import numpy as np
import torch
import transformers

FORWARD = pathlib.Path(__file__).parent / "forward"
GOLDEN = FORWARD / "transformers.safetensors"
sys.path.insert(0, str(FORWARD.parents[1] / "interop"))

import safetensors_np  # noqa: E402

ROUNDING = 5e-5  # Logits are up to 31; builds of torch differ by so much.


def cases():
    return sorted(path for path in FORWARD.iterdir() if path.is_dir())


def logits(directory):
    config = transformers.PretrainedConfig.get_config_dict(directory)[0]
    model_class = getattr(transformers, config["architectures"][0])
    model, loading = model_class.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading.get(problem):
            raise ValueError(f"{directory}: {problem}: {sorted(loading[problem])}")
    tokens = safetensors_np.read(f"{directory}.safetensors")["tokens"]
    with torch.no_grad():
        return model(torch.from_numpy(tokens.copy())[None]).logits[0].numpy()


def check(made):
    """Returns the names of cases that differ from the committed ones."""
    committed = safetensors_np.read(GOLDEN)
    if committed.keys() != made.keys():
        return sorted(committed.keys() ^ made.keys())
    differences = {name: float(np.abs(made[name] - committed[name]).max()) for name in made}
    print("largest differences from the committed logits:", differences)
    return [name for name, difference in differences.items() if not difference < ROUNDING]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    made = {directory.name: logits(directory) for directory in cases()}
    for name, values in made.items():
        numpy_logits = safetensors_np.read(FORWARD / f"{name}.safetensors")["logits"]
        print(f"{name:26} largest difference from NumPy {np.abs(values - numpy_logits).max():.1e}")
    if arguments.check:
        wrong = check(made)
        if wrong:
            sys.exit(f"not what is committed: {', '.join(wrong)}")
        return
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    safetensors_np.write(GOLDEN, made, metadata=versions)


if __name__ == "__main__":
    main()

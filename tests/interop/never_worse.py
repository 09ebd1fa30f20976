#!/usr/bin/env python3
"""Tells whether results are ever worse than plain round-to-nearest on text that was not calibrated on: by
NumPy, from the written files.

    SALIENT=build/release/salient never_worse.py [--full] [--models "A;B"]

Each case is a model that computes what its source does, and some calibration tokens. KL(source ||
model) is taken row by row of the evaluation text, for the written result and for NumPy's own
round-to-nearest of the source, so that the standard error of their difference is known. Prints a
Markdown table and fails if a result is above round-to-nearest by more than that. --full takes all
scalings and numbers of tokens, and the models of quality.py that are here.
"""

import argparse
import os
import sys
import tempfile
import unittest

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import paths  # noqa: F401
import checkpoint_np
import evaluate_np
import llama_np
import model_variants
import quality
import safetensors_np
import salient_cli

SMALL_MODELS = ("committed, salient",)
FULL_MODELS = ("committed, salient", "stories260k", "babyllama-969k", "pocket-llama")
# (up_proj times 2^-k and down_proj times 2^k, calibration rows, tokens of each, heavy tails)
SMALL = [(0, 8, 256, False), (12, 8, 256, False), (-12, 8, 256, False), (0, 1, 4, False),
         (0, 1, 48, False), (0, 8, 256, True)]
FULL = [*((k, 32, 256, False) for k in range(-20, 21)),
        *((0, 1, tokens, False) for tokens in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)),
        (0, 32, 256, True)]
GROUP_SIZE = 32


def scaled(tensors, k):
    """SwiGLU is linear in up_proj, so the function stays."""
    for name, array in tensors.items():
        if name.endswith("up_proj.weight"):
            tensors[name] = np.ldexp(array, -k)
        if name.endswith("down_proj.weight"):
            tensors[name] = np.ldexp(array, k)


def with_heavy_tails(tensors, seed=5):
    """One weight of 500 is ten times as large: another model, which is as good a source."""
    random = np.random.default_rng(seed)
    for array in tensors.values():
        if array.ndim == 2 and min(array.shape) < 2000:
            array[random.random(array.shape) < 0.002] *= 10


def divergences(source, models, tokens):
    """Returns KL(source || model) of each row, by model."""
    rows = [llama_np.compare([source, *models], row[None]) for row in tokens]
    return [np.array([scores[1 + i]["kl"] for scores in rows]) for i in range(len(models))]


def measure(model, case, scratch, evaluation_rows):
    k, rows, length, heavy = case
    source, calibration, evaluation = quality.MODELS[model](scratch)
    tensors = {name: array.astype(np.float32)
               for name, array in llama_np.read_tensors(source).items()}
    if heavy:
        with_heavy_tails(tensors)
    scaled(tensors, k)
    if max(np.abs(array).max() for array in tensors.values()) > np.finfo(np.float16).max:
        return None  # What stays F16 would not fit.
    config = {**llama_np.read_config(source), "torch_dtype": "float32"}
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        changed = os.path.join(directory, "source")
        model_variants.write_checkpoint(changed, config, tensors, "f32")
        tokens = safetensors_np.read(calibration)["input_ids"][:rows, :length]
        given = salient_cli.write_tokens(os.path.join(directory, "tokens.safetensors"), tokens)
        output = os.path.join(directory, "output")
        report = salient_cli.quantize(changed, output, given, "--group-size", GROUP_SIZE)
        plain = llama_np.Llama.load(changed)
        written = checkpoint_np.read(output)
        nearest = evaluate_np.round_to_nearest(plain, written.schemes)
        result, rtn = divergences(plain, [written, nearest],
                                  evaluate_np.read_tokens(evaluation, evaluation_rows))
    difference = result - rtn
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return {"model": model, "k": k, "tokens": int(tokens.size), "heavy": heavy,
            "kl": float(result.mean()), "rtn_kl": float(rtn.mean()), "error": float(error),
            "ratio": report.get("mean_loss_ratio"),
            "worse": bool(difference.mean() > error), "warnings": report.get("warnings", [])}


def cells(models, cases, evaluation_rows):
    with tempfile.TemporaryDirectory() as scratch:
        for model in models:
            try:
                quality.MODELS[model](scratch)
            except unittest.SkipTest as absent:
                print(f"{model} is left out: {absent}", file=sys.stderr)
                continue
            for case in cases:
                cell = measure(model, case, scratch, evaluation_rows)
                if cell is not None:
                    yield cell


def row_text(cell):
    tails = ", heavy tails" if cell["heavy"] else ""
    return (f"| {cell['model']}{tails} | {cell['k']} | {cell['tokens']} | {cell['kl']:.5f} | "
            f"{cell['rtn_kl']:.5f} | {cell['error']:.5f} |{' worse' if cell['worse'] else ''}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--full", action="store_true", help="all cases on all models")
    parser.add_argument("--models", default="", help="names of quality.py, with ;")
    arguments = parser.parse_args()
    models = [m for m in arguments.models.split(";") if m] or (
        FULL_MODELS if arguments.full else SMALL_MODELS)
    print("| model | k | calibration tokens | KL | round-to-nearest | standard error |\n"
          "| --- | --- | --- | --- | --- | --- |")
    worse = 0
    for cell in cells(models, FULL if arguments.full else SMALL, 16):
        print(row_text(cell), flush=True)
        worse += cell["worse"]
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What bits, group sizes and methods cost, on test models: quantizes and verifies each through the
program `salient` and prints a Markdown table.

    SALIENT=build/release/salient quality.py [--models "A;B"] [--bits 3,4] [--groups 32,64,128]
                                             [--methods rtn,awq+clip,awq+clip+block] [--json]

Perplexity and KL(source || result) are those of `salient verify`, which test_checkpoints.py holds
against NumPy; the error is the relative output error, mean over the groups of Linears, that
`salient quantize` reports on the calibration rows. 3 bits are written decoded, as F16. Models that
are not in this repository are left out, and the program says so, where they are absent.
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import paths  # noqa: E402
import model_variants  # noqa: E402
import safetensors_np  # noqa: E402
import salient_cli  # noqa: E402
from shared_models import shared  # noqa: E402

METHODS = {
    "rtn": ["--method", "rtn"],
    "awq+clip": ["--method", "awq", "--rounding", "nearest"],
    "awq+clip+block": ["--method", "awq"],  # the default
}
FORMATS = {4: "awq-gemm"}  # else dequantized-fp16
CALIBRATION_ROWS, EVALUATION_ROWS = 64, 128


def committed(variant):
    """The model of this repository with its own token files."""

    def directories(scratch):
        source = os.path.join(scratch, variant)
        if not os.path.exists(source):
            model_variants.write(variant, source)
        return (source, *(str(paths.POCKET_LLAMA / f"{kind}_open.safetensors")
                          for kind in ("calibration", "evaluation")))

    return directories


def elsewhere(model, data):
    def directories(scratch):
        tokens = (shared("data", data, f"{kind}.safetensors")
                  for kind in ("calibration", "evaluation"))
        return (shared("models", model), *tokens)

    return directories


# Each gives (source directory, calibration file, evaluation file), or raises SkipTest.
MODELS = {
    "pocket-llama": elsewhere("pocket-llama", "pocket-llama"),
    "pocket-llama-salient": elsewhere("pocket-llama-salient", "pocket-llama"),
    "stories260k": elsewhere("stories260k", "stories260k"),
    "babyllama-969k": elsewhere("babyllama-969k", "babyllama-969k"),
    "committed": committed("plain"),
    "committed, salient": committed("salient"),
}


def first_rows(path, rows, directory):
    """A file of the first rows, so that the flags of `salient` are not trusted with it."""
    name = os.path.basename(os.path.dirname(path)) + "-" + os.path.basename(path)
    tokens = safetensors_np.read(path)["input_ids"][:rows]
    return salient_cli.write_tokens(os.path.join(directory, name), tokens)


def measure(model, bits, group_size, method, scratch):
    """{perplexity, source_perplexity, kl, top1_agreement, error, groups, seconds} of one cell."""
    source, calibration, evaluation = MODELS[model](scratch)
    calibration = first_rows(calibration, CALIBRATION_ROWS, scratch)
    evaluation = first_rows(evaluation, EVALUATION_ROWS, scratch)
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        output = os.path.join(directory, "result")
        said = salient_cli.quantize(
            source, output, calibration, "--bits", bits, "--group-size", group_size,
            "--format", FORMATS.get(bits, "dequantized-fp16"), *METHODS[method])
        found = salient_cli.verify(output, evaluation, "--against", source, "--no-rtn")
    errors = [group["relative_output_error"] for group in said["groups"]]
    return {"perplexity": found["result"]["perplexity"],
            "source_perplexity": found["source"]["perplexity"],
            "kl": found["kl"], "top1_agreement": found["top1_agreement"],
            "error": sum(errors) / len(errors), "groups": len(errors),
            "seconds": said["seconds"]}


def markdown(rows):
    """Lines of a table of [(model, bits, group size, method, measured)]."""
    yield "| model | bits | group | method | perplexity | KL | relative error |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for model, bits, group_size, method, cell in rows:
        yield (f"| {model} ({cell['source_perplexity']:.4f}) | {bits} | {group_size} | {method} |"
               f" {cell['perplexity']:.4f} | {cell['kl']:.5f} | {cell['error']:.5f} |")


def numbers(text):
    return [int(value) for value in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", default=";".join(MODELS), help="separated by semicolons")
    parser.add_argument("--bits", type=numbers, default=[3, 4])
    parser.add_argument("--groups", type=numbers, default=[32, 64, 128])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", action="store_true", help="a list of objects, not a table")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in arguments.models.split(";"):
            cells = itertools.product(arguments.bits, arguments.groups,
                                      arguments.methods.split(","))
            with skipping(model):
                for bits, group_size, method in cells:
                    try:
                        cell = measure(model, bits, group_size, method, scratch)
                    except salient_cli.Failed as error:
                        if "nothing to quantize" not in str(error):
                            raise
                        print(f"{model} {bits} {group_size}: nothing to quantize", file=sys.stderr)
                        continue
                    rows.append((model, bits, group_size, method, cell))
                    print(*rows[-1][:4], f"{cell['seconds']:.1f} s", file=sys.stderr)
    if arguments.json:
        print(json.dumps([{"model": m, "bits": b, "group_size": g, "method": k, **cell}
                          for m, b, g, k, cell in rows]))
    else:
        print("\n".join(markdown(rows)))


@contextlib.contextmanager
def skipping(model):
    """Says which model is absent, and goes on."""
    try:
        yield
    except unittest.SkipTest as reason:
        print(f"SKIPPED {model}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()

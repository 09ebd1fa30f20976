#!/usr/bin/env python3
"""Tells what bits, group sizes, methods and formats cost, on test models: quantizes and verifies each
through the program `salient` and prints a Markdown table.

    SALIENT=build/release/salient quality.py [--models "A;B"] [--bits 3,4] [--groups 32,64,128]
                                             [--methods "rtn;awq+clip+block"] [--json]
    SALIENT=build/release/salient quality.py --peers [--json]

Perplexity and KL(source || result) are those of `salient verify`, which test_checkpoints.py holds
against NumPy; the error is the relative output error, mean over the groups of Linears, that
`salient quantize` reports on the calibration rows. 3 bits are written decoded, as F16. --peers puts
the checkpoints that other tools made of pocket-llama-salient beside ours: same tokens, same widths,
same evaluation. Models that are not in this repository are left out, and the program says so, where
they are absent.
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
import paths
import model_variants
import safetensors_np
import salient_cli
from shared_models import shared

GPTQ = ["--method", "awq", "--rounding", "gptq"]
SYMMETRIC_GPTQ = ["--symmetric", "--format", "gptq"]
FEEDBACK_ONLY = ["--descent-sweeps", 0, "--refits", 0]
METHODS: dict[str, list] = {
    "rtn": ["--method", "rtn"],
    "awq+clip": ["--method", "awq", "--rounding", "nearest"],
    "awq+clip+block": ["--method", "awq"],  # It is the default.
    "awq+clip+gptq": GPTQ,
    "awq+clip+gptq, feedback only": [*GPTQ, *FEEDBACK_ONLY],
    "awq+clip+gptq, damping 0.01": [*GPTQ, "--gptq-damping", 0.01],
    "awq+clip+gptq, damping 0.01, feedback only": [*GPTQ, "--gptq-damping", 0.01, *FEEDBACK_ONLY],
    "awq+clip+gptq, symmetric": [*GPTQ, *SYMMETRIC_GPTQ],
    "gptq": ["--method", "gptq"],
    "gptq, damping 0.01, feedback only": ["--method", "gptq", "--gptq-damping", 0.01,
                                          *FEEDBACK_ONLY],
    "rtn, W8A8": ["--method", "rtn", *salient_cli.INT_QUANTIZED],
    "smoothquant, W8A8": ["--method", "smoothquant", *salient_cli.INT_QUANTIZED],
    "smoothquant, W8A8 static": ["--method", "smoothquant", *salient_cli.INT_QUANTIZED,
                                 *salient_cli.STATIC],
}
IN_THE_GRID = ("rtn", "awq+clip", "awq+clip+block", "awq+clip+gptq")
FORMATS = {4: "awq-gemm"}  # Other widths take dequantized-fp16.
CALIBRATION_ROWS, EVALUATION_ROWS = 64, 128

# Directories of the shared `peers`, with the flags that give the same format. PEERS_ARE_WORTH has
# the perplexity and KL on all evaluation rows, as another implementation measured them.
PEERS = {
    "AutoAWQ 0.2.9, repaired": ("autoawq-awq", "awq-gemm"),
    "GPTQModel 7.7, AWQ": ("gptqmodel-awq", "awq-gemm"),
    "llm-compressor 0.14, AWQ": ("llmcompressor-awq", "compressed-tensors"),
    "AutoRound 0.16": ("autoround-awq", "awq-gemm"),
    "GPTQModel 7.7, GPTQ": ("gptqmodel-gptq", "gptq, symmetric"),
    "llm-compressor 0.14, GPTQ": ("llmcompressor-gptq", "compressed-tensors, symmetric"),
    "llm-compressor 0.14, SmoothQuant": ("llmcompressor-w8a8", "int-quantized, W8A8"),
}
PEERS_ARE_WORTH = {
    "autoawq-awq": (16.9430, 0.01201),
    "gptqmodel-awq": (16.9098, 0.01198),
    "autoround-awq": (17.0471, 0.01754),
    "llmcompressor-awq": (16.9330, 0.01317),
    "gptqmodel-gptq": (17.1210, 0.01970),
    "llmcompressor-gptq": (17.1209, 0.01908),
    "llmcompressor-w8a8": (16.7555, 0.00068),
}
BESIDE_PEERS = {
    **{name: (METHODS[name], "awq-gemm")
       for name in ("rtn", "awq+clip", "awq+clip+block", "awq+clip+gptq, feedback only",
                    "awq+clip+gptq", "awq+clip+gptq, damping 0.01, feedback only",
                    "awq+clip+gptq, damping 0.01")},
    "gptq, symmetric": ([*METHODS["gptq"], *SYMMETRIC_GPTQ], "gptq, symmetric"),
    "awq+clip+gptq, symmetric": (METHODS["awq+clip+gptq, symmetric"], "gptq, symmetric"),
    **{name: (METHODS[name], "int-quantized, W8A8")
       for name in ("rtn, W8A8", "smoothquant, W8A8", "smoothquant, W8A8 static")},
}


def committed(variant):
    """Returns the model of this repository with its own token files."""

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
    """Returns a file of the first rows, so that the flags of `salient` are not trusted with it."""
    name = os.path.basename(os.path.dirname(path)) + "-" + os.path.basename(path)
    tokens = safetensors_np.read(path)["input_ids"][:rows]
    return salient_cli.write_tokens(os.path.join(directory, name), tokens)


def verified(directory, evaluation, source):
    """Returns {perplexity, source_perplexity, kl, top1_agreement} of a directory."""
    found = salient_cli.verify(directory, evaluation, "--against", source, "--no-rtn")
    return {"perplexity": found["result"]["perplexity"],
            "source_perplexity": found["source"]["perplexity"],
            "kl": found["kl"], "top1_agreement": found["top1_agreement"]}


def measure_flags(model, flags, scratch):
    """Returns what `verified` says and {error, groups, seconds} of what `salient quantize` makes."""
    source, calibration, evaluation = MODELS[model](scratch)
    calibration = first_rows(calibration, CALIBRATION_ROWS, scratch)
    evaluation = first_rows(evaluation, EVALUATION_ROWS, scratch)
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        output = os.path.join(directory, "result")
        said = salient_cli.quantize(source, output, calibration, *flags)
        found = verified(output, evaluation, source)
    errors = [group["relative_output_error"] for group in said["groups"]]
    return {**found, "error": sum(errors) / len(errors), "groups": len(errors),
            "seconds": said["seconds"]}


def measure(model, bits, group_size, method, scratch):
    """One cell; methods of a format of their own do not ask for bits and group size."""
    flags = METHODS[method]
    if "--format" not in flags:
        flags = [*flags, "--bits", bits, "--group-size", group_size,
                 "--format", FORMATS.get(bits, "dequantized-fp16")]
    return measure_flags(model, flags, scratch)


def measure_peer(name, scratch):
    """Returns what `verified` says of a checkpoint that another tool made of pocket-llama-salient."""
    source, _, evaluation = MODELS["pocket-llama-salient"](scratch)
    evaluation = first_rows(evaluation, EVALUATION_ROWS, scratch)
    return verified(shared("peers", PEERS[name][0]), evaluation, source)


def grid(rows):
    """Returns the lines of a table of [(model, bits, group size, method, cell)], a column for each method."""
    methods = list(dict.fromkeys(row[3] for row in rows))
    yield "| model | bits | group | " + " | ".join(methods) + " |"
    yield "| --- | --- | --- |" + " --- |" * len(methods)
    for (model, bits, group_size), members in itertools.groupby(rows, lambda row: row[:3]):
        cells = {row[3]: row[4] for row in members}
        source = next(iter(cells.values()))["source_perplexity"]
        texts = (f"{c['perplexity']:.4f} {short(c['kl'])} {short(c['error'])}" if c else ""
                 for c in map(cells.get, methods))
        yield f"| {model} ({source:.4f}) | {bits} | {group_size} | {' | '.join(texts)} |"


def short(value):
    return f"{value:.5f}".removeprefix("0")


def peers_table(rows):
    """Returns the lines of a table of [(who, format, cell)], by falling KL."""
    best = min(cell["kl"] for who, _, cell in rows if who in PEERS and "AWQ" in who)
    yield "| | format | perplexity | KL | of the best other AWQ |"
    yield "| --- | --- | --- | --- | --- |"
    for who, form, cell in sorted(rows, key=lambda row: -row[2]["kl"]):
        name = who if who in PEERS else f"**Salient, {who}**"
        yield (f"| {name} | {form} | {cell['perplexity']:.4f} | {short(cell['kl'])} |"
               f" {cell['kl'] / best:.2f} |")


def compare_with_peers(scratch):
    """Returns [(who, format, cell)] of the other tools and of ours."""
    rows = [(who, form, measure_peer(who, scratch)) for who, (_, form) in PEERS.items()]
    for name, (flags, form) in BESIDE_PEERS.items():
        rows.append((name, form, measure_flags("pocket-llama-salient", flags, scratch)))
        print(*rows[-1], file=sys.stderr)
    return rows


def measure_grid(arguments, scratch):
    rows = []
    for model in arguments.models.split(";"):
        cells = itertools.product(arguments.bits, arguments.groups, arguments.methods.split(";"))
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
    return rows


def numbers(text):
    return [int(value) for value in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", default=";".join(MODELS), help="separated by semicolons")
    parser.add_argument("--bits", type=numbers, default=[4, 3])
    parser.add_argument("--groups", type=numbers, default=[32, 64, 128])
    parser.add_argument("--methods", default=";".join(IN_THE_GRID),
                        help="separated by semicolons: " + "; ".join(METHODS))
    parser.add_argument("--peers", action="store_true", help="other tools' checkpoints and ours")
    parser.add_argument("--json", action="store_true", help="a list of objects, not a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.peers:
            rows = compare_with_peers(scratch)
            keys, table = ("who", "format"), peers_table
        else:
            rows = measure_grid(arguments, scratch)
            keys, table = ("model", "bits", "group_size", "method"), grid
    if arguments.json:
        print(json.dumps([{**dict(zip(keys, row)), **row[-1]} for row in rows]))
    else:
        print("\n".join(table(rows)))


@contextlib.contextmanager
def skipping(model):
    """Says which model is absent, and goes on."""
    try:
        yield
    except unittest.SkipTest as reason:
        print(f"SKIPPED {model}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()

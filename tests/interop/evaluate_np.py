#!/usr/bin/env python3
"""Perplexity of a checkpoint directory, plain or quantized, and its distance from its source, by a
reader that shares no code with Salient.

    evaluate_np.py DIR TOKENS [--against SOURCE_DIR] [--rows N] [--json]

Prints what `salient verify --json` prints: {source: {perplexity}, result: {perplexity},
rtn: {perplexity}, kl, top1_agreement, rtn_kl, rtn_top1_agreement}; without --against only the
result's perplexity. `rtn` is the source rounded to nearest in the result's bits and group size,
which --bits and --group-size say of a directory without quantization_config.
"""

import argparse
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import checkpoint_np  # noqa: E402
import llama_np  # noqa: E402
import quantize_np  # noqa: E402
import safetensors_np  # noqa: E402


def read_tokens(path, rows=0):
    """input_ids [rows, tokens]; all rows for 0."""
    tensors = safetensors_np.read(path)
    tokens = tensors["input_ids"]
    if "lengths" in tensors and (tensors["lengths"] != tokens.shape[1]).any():
        raise ValueError(f"{path}: rows of different lengths")
    return tokens[:rows] if rows else tokens


def round_to_nearest(model, bits, group_size):
    """The Llama with its Linears rounded to nearest, but for groups of Linears whose input the
    group size does not divide. (What a file format cannot hold is rounded all the same.)"""
    rounded = {}
    for layer in range(model.layers):
        for linears in llama_np.GROUPS.values():
            weights = {linear: model.weight(layer, linear) for linear in linears}
            (columns,) = {weight.shape[1] for weight in weights.values()}
            size = columns if group_size == -1 else group_size
            if columns % size:
                continue
            for linear, weight in weights.items():
                quantized = quantize_np.round_nearest(weight, bits, size).decode()
                rounded[f"model.layers.{layer}.{linear}.weight"] = quantized.astype(np.float32)
    return model.with_tensors(rounded)


def evaluate(directory, tokens, source=None, bits=None, group_size=None):
    """The object that is printed. Any dtype of scales: other tools' are judged, too."""
    result = checkpoint_np.read(directory, scale_dtypes=(np.float16, np.float32))
    if source is None:
        return {"result": {"perplexity": llama_np.perplexity(result, tokens)}}
    models = {"source": llama_np.Llama.load(source), "result": result}
    quantization = result.config.get("quantization_config", {})
    bits = bits or quantization.get("bits")
    group_size = group_size or quantization.get("group_size")
    if bits and group_size:
        models["rtn"] = round_to_nearest(models["source"], bits, group_size)
    scores = dict(zip(models, llama_np.compare(list(models.values()), tokens)))
    found = {name: {"perplexity": score["perplexity"]} for name, score in scores.items()}
    for prefix, name in (("", "result"), ("rtn_", "rtn")):
        if name in scores:
            found[f"{prefix}kl"] = scores[name]["kl"]
            found[f"{prefix}top1_agreement"] = scores[name]["top1_agreement"]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("directory", help="checkpoint directory")
    parser.add_argument("tokens", help="safetensors with input_ids")
    parser.add_argument("--against", metavar="DIR", help="the directory it was made from")
    parser.add_argument("--rows", type=int, default=0, help="the first rows only; 0: all")
    parser.add_argument("--bits", type=int, help="of round-to-nearest")
    parser.add_argument("--group-size", type=int, help="of round-to-nearest; -1: a whole row")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    found = evaluate(arguments.directory, read_tokens(arguments.tokens, arguments.rows),
                     arguments.against, arguments.bits, arguments.group_size)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"perplexity {name:14} {value['perplexity']:.5f}")
        else:
            print(f"{name:25} {value:.5f}")


if __name__ == "__main__":
    main()

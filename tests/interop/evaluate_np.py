#!/usr/bin/env python3
"""Tells the perplexity of a checkpoint directory, plain or quantized, and its distance from its source, by a
reader that shares no code with Salient.

    evaluate_np.py DIR TOKENS [--against SOURCE_DIR] [--rows N] [--json]

Prints what `salient verify --json` prints: {source: {perplexity}, result: {perplexity},
rtn: {perplexity}, kl, top1_agreement, rtn_kl, rtn_top1_agreement}; without --against only the
result's perplexity. `rtn` is the source rounded to nearest, each Linear in the format that the
result stores it in; --bits and --group-size say one for all. Activations that a result quantizes are
quantized here, one token at a time or by the scale that the file has.
"""

import argparse
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import checkpoint_np
import compressed_tensors_reader_np
import llama_np
import quantize_np
import safetensors_np
from stored_formats_np import WHOLE_ROW, WHOLE_TENSOR, Scheme


def read_tokens(path, rows=0):
    """input_ids [rows, tokens], none of them padding; all rows for 0."""
    tensors = safetensors_np.read(path)
    tokens = tensors["input_ids"]
    tokens = tokens[:rows] if rows else tokens
    lengths = tensors.get("lengths", np.full(len(tokens), tokens.shape[1]))[:len(tokens)]
    mask = tensors.get("attention_mask", np.ones_like(tokens))[:len(tokens)]
    if (lengths != tokens.shape[1]).any() or (mask != 1).any():
        raise ValueError(f"{path}: rows of different lengths")
    return tokens


def round_to_nearest(model, schemes):
    """Returns the Llama with its Linears rounded to nearest: {module: Scheme} says which and how, or one
    Scheme for all whose input the group size divides."""
    rounded, inputs = {}, {}
    for layer in range(model.layers):
        for linears in llama_np.GROUPS.values():
            for linear in linears:
                module, weight = f"model.layers.{layer}.{linear}", model.weight(layer, linear)
                scheme = schemes.get(module) if isinstance(schemes, dict) else schemes
                if scheme is None:
                    continue
                columns = weight.shape[1]
                size = columns if scheme.group_size == WHOLE_ROW else scheme.group_size
                if scheme.group_size != WHOLE_TENSOR and columns % size:
                    continue
                flat = weight.reshape(1, -1) if scheme.group_size == WHOLE_TENSOR else weight
                quantized = quantize_np.round_nearest(
                    flat, scheme.bits, size if flat is weight else flat.size,
                    symmetric=scheme.symmetric,
                    scale_dtype=np.float32 if scheme.activations else np.float16)
                rounded[f"{module}.weight"] = quantized.decode().astype(np.float32).reshape(
                    weight.shape)
                if scheme.activations:  # Static scales take a calibration, which nearest has not.
                    inputs[module] = compressed_tensors_reader_np.round_tokens
    return llama_np.Llama(model.config, {**model.tensors, **rounded}, inputs)


def evaluate(directory, tokens, source=None, bits=None, group_size=None, foreign=True):
    """Returns the object that is printed. Other tools' directories are judged, too, if they may be."""
    result = checkpoint_np.read(directory, foreign)
    if source is None:
        return {"result": {"perplexity": llama_np.perplexity(result, tokens)}}
    models = {"source": llama_np.Llama.load(source), "result": result}
    schemes = Scheme(bits, group_size, False) if bits and group_size else result.schemes
    if schemes:
        models["rtn"] = round_to_nearest(models["source"], schemes)
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
    parser.add_argument("--bits", type=int, help="of round-to-nearest, for all Linears")
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

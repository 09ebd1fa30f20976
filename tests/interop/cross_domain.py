#!/usr/bin/env python3
"""Tells what roundings are worth on text unlike that of calibration: relative output error
tr(D H D^T) / tr(W H W^T), H of tokens that nobody calibrated with, mean over the groups of Linears.

    SALIENTD=build/release/salientd cross_domain.py [--bits 3] [--group-size 128] [--json]

Quantizes pocket-llama-salient through QuantizeTensors with AWQ, clip and each rounding, calibrated
on 64 rows of the King James Bible, and prints a Markdown table: error on those rows, on other rows
of the same book, and on articles about computing. Folds are undone, so that all errors are in the
source model's terms.
"""

import argparse
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import paths  # noqa: F401
import judge_np
import llama
import llama_call
import llama_groups
import llama_np
from shared_models import shared

FEEDBACK_ONLY = {"descent_sweeps": 0, "refits": 0}
# Arguments of salient_client.options; scale awq and range clip in all of them.
ROUNDINGS = {
    "nearest": {"rounding": "nearest"},
    "block": {"rounding": "block"},
    "gptq, damping 0.2": {"rounding": "gptq"},
    "gptq, damping 0.2, feedback only": {"rounding": "gptq", "gptq": FEEDBACK_ONLY},
    "gptq, damping 0.01": {"rounding": "gptq", "gptq": {"damping": 0.01}},
    "gptq, damping 0.01, feedback only": {"rounding": "gptq",
                                          "gptq": {"damping": 0.01, **FEEDBACK_ONLY}},
}
CALIBRATION_ROWS, EVALUATION_ROWS = 64, 64
TEXTS = ("calibration", "kjv", "computing")


def effective_weights(model, results):
    """Returns {(layer, group): [weight]}: what the server sent, as it acts on the source's activations."""
    tensors = {name: array.astype(np.float32)
               for result in results.values() for name, array in result.tensors.items()}
    for layer in range(model.layers):
        for group, norm in llama_groups.NORMS.items():
            name = f"{llama_groups.module(layer, norm)}.weight"
            result = results[llama_groups.group_name(layer, group)]
            tensors[name] = model.tensors[name] / result.scales
    return judge_np.effective_weights(model, model.with_tensors(tensors), results)


class CrossDomain:
    def __init__(self):
        directory = shared("models", "pocket-llama-salient")
        tokens = lambda kind, text: llama.read_tokens(
            shared("data", "pocket-llama", f"{kind}_{text}.safetensors"),
            CALIBRATION_ROWS if kind == "calibration" else EVALUATION_ROWS)
        self.model = llama_np.Llama.load(directory)
        self.source = llama_np.read_tensors(directory)
        self.calibration = tokens("calibration", "kjv")
        self.statistics = {
            text: judge_np.group_statistics(self.model, rows) for text, rows in
            zip(TEXTS, (self.calibration, tokens("evaluation", "kjv"),
                        tokens("evaluation", "computing")))}

    def errors(self, address, rounding, bits=3, group_size=128):
        """Returns {text: mean relative output error} of a rounding."""
        from salient_client import connect, options

        caller = llama_call.Caller(self.model, self.source, self.calibration, group_size, "<f4")
        with connect(address) as channel:
            results = caller.run(channel, options(
                **ROUNDINGS[rounding], bits=bits, group_size=group_size,
                output_format="DEQUANTIZED_FP16"))
        weights = effective_weights(self.model, results)
        return {
            text: judge_np.mean(judge_np.relative_error(self.model, statistics, *key, members)
                             for key, members in weights.items())
            for text, statistics in self.statistics.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bits", type=int, default=3)
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--json", action="store_true", help="one object, not a table")
    arguments = parser.parse_args()
    from live_server import LiveServer

    domains, server = CrossDomain(), LiveServer()
    try:
        found = {name: domains.errors(server.address, name, arguments.bits, arguments.group_size)
                 for name in ROUNDINGS}
    finally:
        server.stop()
    if arguments.json:
        print(json.dumps(found))
        return
    print("| rounding | calibration rows | same book | computing |")
    print("| --- | --- | --- | --- |")
    for name, errors in found.items():
        print(f"| {name} | " + " | ".join(f"{errors[text]:.5f}".removeprefix("0")
                                          for text in TEXTS) + " |")


if __name__ == "__main__":
    main()

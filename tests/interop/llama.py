#!/usr/bin/env python3
"""Quantizes a Llama through QuantizeTensors, as a program with a framework of its own would.

The framework is NumPy: this program runs the model on calibration tokens block by block, streams
each group's weights and activations to a Salient server, folds the returned scales into the
checkpoint, writes an AWQ gemm directory, reads that back with a reader of its own and prints what
the quantization cost.

    llama.py --model DIR --calibration TOKENS --evaluation TOKENS --server ADDR --output DIR
    llama.py --model DIR --calibration TOKENS --capture ACTIVATIONS    (no server: files for
                                                                        `salient tensors`)

It needs: pip install numpy grpcio grpcio-tools googleapis-common-protos
"""

import argparse
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import checkpoint_np
import llama_np
import safetensors_np
from awq_directory_np import write_awq
from evaluate_np import read_tokens
from judge_np import Judge, mean
from llama_call import Caller
from llama_groups import group_name, module, quantizable_groups, run_block, tied_heads

# Arguments of salient_client.options.
METHODS = {
    "rtn": {"scale": "none", "range": "minmax", "rounding": "nearest"},
    "awq": {"range": "minmax", "rounding": "nearest"},
    "awq+clip": {"rounding": "nearest"},
    "block128-rounding": {"block": {"width": 128, "descent_sweeps": 0, "refits": 0}},
    "block128": {"block": {"width": 128}},
    "block256": {"block": {"width": 256}},
}


def report_row(report):
    candidate = report.candidate
    return {
        "name": report.name,
        "identity": candidate.identity,
        "weight_aware": candidate.weight_aware,
        "ratio": candidate.ratio,
        "loss_rtn": report.loss_rtn,
        "loss": report.loss,
        "relative_output_error": report.relative_output_error,
        "seconds": report.seconds,
        "notes": list(report.notes),
    }


def quantize(model_dir, tokens, address, output, method, *, group_size=128,
             activation_dtype="<f4", progress=lambda result: None):
    """Quantizes a checkpoint into an AWQ directory. ({group: GroupResult}, summary)."""
    from salient_client import connect, options

    model, source = llama_np.Llama.load(model_dir), llama_np.read_tensors(model_dir)
    if not quantizable_groups(model, group_size):
        raise ValueError(f"{model_dir}: no Linear that groups of {group_size} divide")
    start = time.monotonic()
    caller = Caller(model, source, tokens, group_size, activation_dtype)
    with connect(address) as channel:
        results = caller.run(
            channel, options(**METHODS[method], group_size=group_size), progress
        )
    seconds = time.monotonic() - start
    write_awq(output, model_dir, model, source, results, group_size)
    return results, {
        "method": method,
        "seconds": seconds,
        "groups": [report_row(result.report) for result in results.values()],
    }


def capture(model_dir, tokens, path, activation_dtype):
    """Writes every group's activations [rows, tokens, in], and groups.json beside them."""
    model = llama_np.Llama.load(model_dir)
    tensors, groups = {}, []
    hidden = model.embed(tokens)
    for layer in range(model.layers):
        hidden, inputs = run_block(model, layer, hidden)
        for group, linears in llama_np.GROUPS.items():
            name = group_name(layer, group)
            tensors[name] = inputs[group].astype(activation_dtype)
            entry = {
                "name": name,
                "linears": [module(layer, linear) for linear in linears],
                "input": name,
            }
            if group == "o":
                head_dim, shared = tied_heads(model)
                entry["tied_heads"] = {"head_dim": head_dim, "query_heads_per_kv_head": shared}
            groups.append(entry)
    safetensors_np.write(path, tensors)
    description = os.path.join(os.path.dirname(os.path.abspath(path)), "groups.json")
    with open(description, "w", encoding="utf-8") as file:
        json.dump(groups, file, indent=1)
        file.write("\n")
    return description


def print_result(result):
    row = report_row(result.report)
    ratio = "identity" if row["identity"] else f"{row['ratio']:.2f}{' w' * row['weight_aware']}"
    print(
        f"{row['name']:24} {ratio:>9} {row['loss_rtn']:12.4e} {row['loss']:12.4e} "
        f"{row['relative_output_error']:9.6f} {row['seconds']:7.2f} s",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="Hugging Face checkpoint directory")
    parser.add_argument("--calibration", required=True, help="safetensors with input_ids")
    parser.add_argument("--rows", type=int, default=64, help="calibration rows; 0: all")
    parser.add_argument("--evaluation", help="safetensors with input_ids; none: no perplexity")
    parser.add_argument("--server", help="host:port of a salientd without TLS")
    parser.add_argument("--output", help="directory to write; must not exist")
    parser.add_argument("--method", choices=METHODS, default="block256")
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--activations", choices=("f32", "f16"), help="element type sent")
    parser.add_argument("--capture", metavar="FILE", help="only write the activations of groups")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()

    tokens = read_tokens(arguments.calibration, arguments.rows)
    dtype = "<f4" if arguments.activations == "f32" else "<f2"
    if arguments.capture:
        print(capture(arguments.model, tokens, arguments.capture, dtype))
        return
    if not arguments.server or not arguments.output:
        parser.error("--server and --output are required without --capture")
    if os.path.exists(arguments.output):
        parser.error(f"{arguments.output} exists")

    dtype = "<f2" if arguments.activations == "f16" else "<f4"
    progress = (lambda result: None) if arguments.json else print_result
    results, summary = quantize(
        arguments.model, tokens, arguments.server, arguments.output, arguments.method,
        group_size=arguments.group_size, activation_dtype=dtype, progress=progress,
    )
    evaluation = read_tokens(arguments.evaluation, 0) if arguments.evaluation else None
    judge = Judge(arguments.model, tokens, evaluation, arguments.group_size)
    written = checkpoint_np.read(arguments.output)
    rtn_errors, result_errors = judge.rtn_errors(), judge.result_errors(written, results)
    summary["relative_output_error"] = {
        part: {"rtn": mean(rtn_errors[part].values()), "result": mean(errors.values())}
        for part, errors in result_errors.items()
    }
    quality = judge.quality({"result": written}) if arguments.evaluation else {}
    summary.update(quality)
    if arguments.json:
        print(json.dumps(summary))
        return
    for part, errors in summary["relative_output_error"].items():
        print(f"relative output error on {part:11}: rtn {errors['rtn']:.5f}, "
              f"result {errors['result']:.5f}")
    for name, value in quality.items():
        print(f"perplexity {name:6}: {value['perplexity']:8.4f}   KL {value['kl']:.5f}")
    print(f"{len(results)} groups in {summary['seconds']:.1f} s -> {arguments.output}")


if __name__ == "__main__":
    main()

"""Runs each tool on one checkpoint and one token file, one after the other, and prints a table.

    python compare.py --model DIR --tokens FILE --rows N [--evaluation FILE] [--evaluation-rows N]
                      --work DIR --salient PROGRAM [--autoawq PYTHON] [--llmcompressor PYTHON]

Seconds are those of the whole process, start to end, with both cores; memory is the peak of its
resident set. What a result is worth is told by `salient verify`: the squared error of the blocks'
outputs over their energy (largest over the blocks), and perplexity and KL against the source.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent


def measured(command, log):
    """Returns seconds, CPU seconds and peak bytes of one process and its children."""
    begun = time.monotonic()
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"compare.py: {command[0]} failed with {process.returncode}; see {log}")
    return {
        "seconds": time.monotonic() - begun,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def worth(args, result):
    command = [args.salient, "verify", result, "--against", args.model, "--no-rtn", "--json",
               "--evaluation", args.evaluation or args.tokens, "--rows", str(args.evaluation_rows)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {
        "error": max(layer["error"] for layer in report["layers"]),
        "perplexity": report["result"]["perplexity"],
        "source_perplexity": report["source"]["perplexity"],
        "kl": report["kl"],
    }


def commands(args):
    salient = [args.salient, "quantize", args.model, None, "--calibration", args.tokens,
               "--rows", args.rows]
    yield "Salient, awq + clip + block", salient
    yield "Salient, awq + clip + nearest", salient + ["--rounding", "nearest"]
    for name, python, script in (
        ("llm-compressor 0.14.0.1 AWQ", args.llmcompressor, "run_llmcompressor.py"),
        ("AutoAWQ 0.2.9", args.autoawq, "run_autoawq.py"),
    ):
        if python:
            yield name, [python, str(HERE / script), args.model, None, args.tokens, args.rows]


def main():
    parser = argparse.ArgumentParser()
    for required in ("--model", "--tokens", "--rows", "--work", "--salient"):
        parser.add_argument(required, required=True)
    parser.add_argument("--evaluation")
    parser.add_argument("--evaluation-rows", type=int, default=0)
    parser.add_argument("--autoawq")
    parser.add_argument("--llmcompressor")
    parser.add_argument("--json", help="also write the figures here")
    args = parser.parse_args()
    work = pathlib.Path(args.work)
    work.mkdir(parents=True, exist_ok=True)

    rows = []
    for number, (name, command) in enumerate(commands(args)):
        out = work / f"result-{number}"
        shutil.rmtree(out, ignore_errors=True)
        command = [str(out) if part is None else part for part in command]
        figures = {"tool": name, **measured(command, work / f"result-{number}.log")}
        rows.append({**figures, **worth(args, str(out))})
        shutil.rmtree(out)
    ours = rows[0]["seconds"]
    print(f"source perplexity {rows[0]['source_perplexity']:.4f}")
    print("| tool | seconds | of ours | CPU s | peak MiB | output error | perplexity | KL |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(f"| {row['tool']} | {row['seconds']:.1f} | {row['seconds'] / ours:.1f} "
              f"| {row['cpu_seconds']:.1f} | {row['peak_bytes'] / 2**20:.0f} "
              f"| {row['error']:.5f} | {row['perplexity']:.4f} | {row['kl']:.5f} |")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


main()

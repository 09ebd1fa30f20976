"""Runs the program `salient` ($SALIENT) as a user does, and reads what it says to machines."""

import json
import os
import subprocess

import numpy as np

import safetensors_np

TIMEOUT = 900  # It limits any one run; only a hang reaches it.

# Flags of W8A8, whose activations are quantized a token at a time, or by a scale from calibration.
INT_QUANTIZED = ["--format", "int-quantized", "--bits", 8, "--group-size", -1, "--symmetric"]
STATIC = ["--activations", "static"]


class Failed(Exception):
    """`salient` ended with another exit code than 0."""


def run(*arguments, program=None):
    """Returns the JSON object that a command ends with."""
    program = program or os.environ["SALIENT"]
    command = [program, *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def quantize(source, output, calibration, *flags, **options):
    return run("quantize", source, output, "--calibration", calibration, *flags, **options)


def verify(directory, evaluation, *flags, **options):
    return run("verify", directory, "--evaluation", evaluation, *flags, **options)


def write_tokens(path, tokens):
    """Returns a token file of [rows, tokens]."""
    safetensors_np.write(path, {"input_ids": np.ascontiguousarray(tokens, np.int32)})
    return str(path)


def random_tokens(path, vocabulary, rows, tokens, seed):
    """Returns tokens of models with random weights, which no text suits better."""
    random = np.random.default_rng(seed)
    return write_tokens(path, random.integers(0, vocabulary, (rows, tokens)))

"""Makes the golden files beside this script: what the NumPy twin computes for one small group.

    python tests/golden/make_goldens.py

Each file holds one choice's result; inputs.safetensors what all of them start from: activations
X [320, 256] with a mean shift and salient channels, two weights [24, 256] and [8, 256], all F16.
Format: 4 bit, group 64, asymmetric, F16 scales.
"""

import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "interop"))

import quantize_np as twin  # noqa: E402
import salient_fp16_np as fp16  # noqa: E402
import w8a8_np as w8a8  # noqa: E402
from safetensors_np import write as write_safetensors  # noqa: E402

METHOD = twin.Method(group_size=64, width=128)


def inputs():
    random = np.random.default_rng(20)
    factors = random.normal(size=(24, 256)) * 0.4
    x = random.normal(size=(320, 24)) @ factors + random.normal(size=(320, 256))
    x = x + 0.5 * random.normal(size=256)
    x[:, 5::97] *= 16
    weights = [random.normal(size=(rows, 256)) * 0.05 for rows in (24, 8)]
    weights[0][np.arange(24), (np.arange(24) * 31) % 256] *= 6
    return x.astype(np.float16), [w.astype(np.float16) for w in weights]


def symmetric_grid(weight, bits, group_size):
    largest = np.abs(weight).reshape(len(weight), -1, group_size).max(-1)
    scale = (largest / np.float32((2**bits - 1) / 2)).astype(np.float16).astype(np.float32)
    return twin.Quantized(None, scale, np.full(scale.shape, 2 ** (bits - 1)))


# bits, group size, symmetric, damping
GPTQ_CASES = [(4, 64, False, 0.2), (4, 256, True, 0.2), (3, 32, False, 0.05), (2, 128, False, 1.0),
              (8, 64, True, 0.01)]
GPTQ_WIDE_CASES = [(4, 100, False, 0.2), (3, 300, True, 0.05)]


def gptq_cases(weight, gram, tokens, cases, prefix, tensors):
    for bits, group_size, symmetric, damping in cases:
        make = symmetric_grid if symmetric else twin.round_nearest
        start = make(weight, bits, group_size)
        for act_order in (False, True):
            rounded = twin.round_gptq(weight, gram, start, bits, damping, act_order)
            case = f"{prefix}.{bits}.{group_size}.{int(symmetric)}.{damping}.{int(act_order)}"
            tensors[f"{case}.codes"] = rounded.codes.astype(np.uint8)
            tensors[f"{case}.scales"] = start.scales.astype(np.float32)
            tensors[f"{case}.zero_points"] = start.zeros.astype(np.uint8)
            loss = twin.quadratic_loss(rounded.decode() - weight.astype(np.float64), gram) / tokens
            tensors[f"{case}.loss"] = np.array([loss])


def round_gptq(scaled, gram, tokens):
    """Rounds the common inputs; and of wide ones, X [48, 1500] with correlated columns, whose Gram
    matrix is singular, and a weight [20, 1500]."""
    tensors = {}
    gptq_cases(np.concatenate(scaled), gram, tokens, GPTQ_CASES, "common", tensors)
    random = np.random.default_rng(21)
    x = random.normal(size=(48, 8)) @ random.normal(size=(8, 1500)) * 0.5
    x = (x + random.normal(size=(48, 1500)) + 0.5 * random.normal(size=1500)).astype(np.float16)
    x[:, 7::251] *= 8
    weight = (random.normal(size=(20, 1500)) * 0.05).astype(np.float16)
    statistics = twin.Statistics.of(x.astype(np.float32))
    gptq_cases(weight.astype(np.float32), statistics.gram, len(x), GPTQ_WIDE_CASES, "wide", tensors)
    tensors["wide.x"], tensors["wide.weight"] = x, weight
    write_safetensors(HERE / "round_gptq.safetensors", tensors)


def packed(name, linears):
    tensors = {}
    for index, linear in enumerate(linears):
        tensors[f"{index}.codes"] = linear.codes.astype(np.int32)
        tensors[f"{index}.scales"] = linear.scales.astype(np.float32)
        tensors[f"{index}.zero_points"] = linear.zeros.astype(np.int32)
    write_safetensors(HERE / f"{name}.safetensors", tensors)


def whole_tensor(weight, factor):
    """RTN of 4 bits on one range for all of the weight, both ends times `factor`."""
    factor = np.float32(factor)
    scale, zero = twin.fit_range(weight.min() * factor, weight.max() * factor, 4)
    codes = np.clip(np.rint(weight / scale) + zero, 0, 15)
    return twin.Quantized(codes, np.full((len(weight), 1), scale),
                          np.full((len(weight), 1), zero))


def clip_whole_tensor(weight, gram):
    """Takes of 20 factors the one with the least loss of the whole weight."""
    best = min(range(20), key=lambda step: twin.quadratic_loss(
        whole_tensor(weight, 1 - 0.025 * step).decode() - weight, gram))
    return whole_tensor(weight, 1 - 0.025 * best)


def smoothquant(x, weights):
    """Returns all candidates and their output errors on the first 64 tokens."""
    x = x.astype(np.float32)
    largest, sample = np.abs(x).max(0), x[:64]
    scales = w8a8.candidates(largest, weights)
    write_safetensors(HERE / "scale_smoothquant.safetensors", {
        "s": np.stack(scales),
        "dynamic": np.array([w8a8.output_error(weights, s, sample) for s in scales]),
        "static": np.array([w8a8.output_error(weights, s, sample, w8a8.input_scale(largest, s))
                            for s in scales]),
        "whole_tensor": np.array([w8a8.output_error(weights, s, sample, whole_tensor=True)
                                  for s in scales]),
        "input_scales": np.array([w8a8.input_scale(largest, s) for s in scales], np.float32),
    })


def main():
    x, weights = inputs()
    write_safetensors(HERE / "inputs.safetensors",
                      {"x": x, "0.weight": weights[0], "1.weight": weights[1]})
    statistics = twin.Statistics.of(x.astype(np.float32))
    weights = [w.astype(np.float32) for w in weights]

    candidate, s, losses = twin.search_scale(weights, statistics, METHOD)
    rows = [(c is not None and c[0], 0 if c is None else c[1], loss / statistics.tokens)
            for c, loss in losses.items()]
    write_safetensors(HERE / "scale_awq.safetensors",
                      {"s": s, "losses": np.array([[float(v) for v in row] for row in rows])})

    scaled = [w * s for w in weights]
    gram = statistics.gram / np.outer(s, s).astype(np.float64)
    packed("round_nearest", [twin.round_nearest(w, 4, 64) for w in scaled])
    clipped = [twin.round_nearest(w, 4, 64, twin.clip_factors(w, gram, 4, 64)) for w in scaled]
    packed("range_clip", clipped)
    packed("round_block",
           [twin.round_block(w, gram, start, METHOD) for w, start in zip(scaled, clipped)])
    packed("whole_tensor", [whole_tensor(w, 1) for w in scaled])
    packed("whole_tensor_clip", [clip_whole_tensor(w, gram) for w in scaled])
    smoothquant(x, weights)
    round_gptq(scaled, gram, statistics.tokens)
    salient_fp16(weights, statistics)
    print("chosen", candidate)


def salient_fp16(weights, statistics):
    """3 bit, a share of 0.02, seed 7: channels kept, weights decoded, squared error over |y|^2."""
    tensors = {}
    for index, weight in enumerate(weights):
        energy = twin.quadratic_loss(weight, statistics.gram)
        for choice in fp16.CHOICES:
            kept = fp16.salient_channels(choice, weight, statistics.mean_abs, 0.02, 7, index)
            rounded = fp16.round_keeping(weight, kept, 3, 64)
            error = twin.quadratic_loss(rounded - weight, statistics.gram) / energy
            tensors[f"{index}.{choice}.channels"] = kept.astype(np.int64)
            tensors[f"{index}.{choice}.weight"] = rounded
            tensors[f"{index}.{choice}.error"] = np.array([error])
    write_safetensors(HERE / "salient_fp16.safetensors", tensors)


if __name__ == "__main__":
    main()

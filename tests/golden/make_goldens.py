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
    """Of 20 factors the one with the least loss of the whole weight."""
    best = min(range(20), key=lambda step: twin.quadratic_loss(
        whole_tensor(weight, 1 - 0.025 * step).decode() - weight, gram))
    return whole_tensor(weight, 1 - 0.025 * best)


def smoothquant(x, weights):
    """All candidates and their output errors on the first 64 tokens."""
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
    print("chosen", candidate)


if __name__ == "__main__":
    main()

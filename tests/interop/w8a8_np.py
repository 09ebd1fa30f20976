"""Weights and activations in 8 bits, once more in NumPy: an independent twin.

SmoothQuant's scales (Xiao et al., arXiv:2211.10438), weights and activations rounded to symmetric
8-bit grids, and the output error of a group of Linears [out, in] on sampled tokens [tokens, in].
"""

import numpy as np

import quantize_np

STEPS = 20


def tie_largest(values, tied):
    """Returns the largest over the query heads of one kv head; tied = (head_dim, query heads a kv head)."""
    head_dim, shared = tied
    heads = values.reshape(-1, shared, head_dim)
    return np.broadcast_to(heads.max(1, keepdims=True), heads.shape).reshape(-1)


def smoothquant_scale(largest_input, weights, alpha, tied=None):
    """s_j = max|x_j|^alpha / max|W_ij|^(1 - alpha), in 8 bits, sqrt(max min) = 1."""
    x = largest_input.astype(np.float64)
    w = np.abs(np.concatenate(weights)).max(0).astype(np.float64)
    if tied:
        x, w = tie_largest(x, tied), tie_largest(w, tied)
    x, w = np.maximum(x, x.mean() / 128), np.maximum(w, w.mean() / 128)
    s = x**alpha / w ** (1 - alpha)
    return quantize_np.round_to_bits(s / np.sqrt(s.max() * s.min()))


def round_inputs(x, step=None):
    """Returns x [..., in] on multiples of `step`; by default of the largest of each token over 127."""
    if step is None:
        step = np.abs(x).max(-1, keepdims=True) / np.float32(127)
        step = np.where(step > 0, step, np.float32(1))
    return np.clip(np.rint(x / step), -128, 127) * step


def round_weight(weight, whole_tensor=False):
    """Rounds symmetric to 8 bits, with a float16 scale of each row or of all: largest / 127.5."""
    largest = np.abs(weight).max(None if whole_tensor else 1, keepdims=True).astype(np.float32)
    scale = (2 * largest / np.float32(255)).astype(np.float16).astype(np.float32)
    scale = np.where(scale > 0, scale, np.float32(1))
    return np.clip(np.rint(weight / scale), -128, 127) * scale


def input_scale(largest_input, s):
    """One step of static activations: no calibration token leaves the grid."""
    return np.float32((largest_input / s).max() / np.float32(127))


def output_error(weights, s, sample, step=None, whole_tensor=False):
    """Mean over tokens of |Q(x / s) Q(W s)^T - x W^T|^2, summed over all Linears."""
    rounded = round_inputs(sample * (np.float32(1) / s), step).astype(np.float64)
    total = 0.0
    for weight in weights:
        error = rounded @ round_weight(weight * s, whole_tensor).T.astype(np.float64)
        error -= sample.astype(np.float64) @ weight.T.astype(np.float64)
        total += (error**2).sum()
    return total / len(sample)


def candidates(largest_input, weights, tied=None):
    """Returns [s] of the identity and of alpha = 0, 0.05 ... 1."""
    ones = np.ones(len(largest_input), np.float32)
    return [ones] + [
        smoothquant_scale(largest_input, weights, i / STEPS, tied) for i in range(STEPS + 1)
    ]

"""Decodes the tensors of AWQ "gemm" with NumPy, by the published layout and nothing else.

Eight outputs share a word: output 8c + _ORDER[i] stands in bits 4i to 4i + 3 of word c.
W[n][k] = scales[k // g][n] * (code[k][n] - zero_point[k // g][n]); zero points are stored as
they are.
"""

import numpy as np

_ORDER = np.array([0, 2, 4, 6, 1, 3, 5, 7])


def unpack(words):
    """Returns the codes [rows, columns * 8] of packed words [rows, columns]."""
    words = np.ascontiguousarray(words).view(np.uint32)
    nibbles = (words[:, :, None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
    codes = np.empty_like(nibbles)
    codes[:, :, _ORDER] = nibbles
    return codes.reshape(len(words), -1).astype(np.int32)


def dequantize(qweight, qzeros, scales, scale_dtypes=(np.float16,)):
    """Returns the weight [out, in] in float32."""
    if scales.dtype not in scale_dtypes or qweight.dtype != np.int32 or qzeros.dtype != np.int32:
        raise ValueError(f"dtypes {qweight.dtype}, {qzeros.dtype}, {scales.dtype}")
    codes, zeros = unpack(qweight), unpack(qzeros)
    groups, out = scales.shape
    if codes.shape[1] != out or zeros.shape != scales.shape or len(codes) % groups:
        raise ValueError(f"shapes {qweight.shape}, {qzeros.shape}, {scales.shape}")
    size = len(codes) // groups
    weight = (codes - np.repeat(zeros, size, 0)) * np.repeat(scales.astype(np.float32), size, 0)
    return np.ascontiguousarray(weight.T)


def linear(tensors, name, scale_dtypes=(np.float16,)):
    """Returns the weight [out, in] of one module of {name: array}."""
    parts = (tensors[f"{name}.{part}"] for part in ("qweight", "qzeros", "scales"))
    return dequantize(*parts, scale_dtypes)

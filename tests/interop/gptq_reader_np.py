"""Decodes the tensors of GPTQ, v1 and v2, with NumPy, by the published layout and nothing else.

qweight [in b/32, out] holds the codes of an output along its inputs, qzeros [groups, out b/32] the
zero points of a group along the outputs, both as streams of bits; v1 stores zero points minus one.
W[n][k] = scales[g][n] * (code[k][n] - zero_point[g][n]), g = g_idx[k].
"""

import numpy as np

import bit_stream_np

BITS = (2, 3, 4, 8)


def dequantize(qweight, qzeros, scales, g_idx, bits, v2, scale_dtypes=(np.float16,)):
    """Returns the weight [out, in] in float32."""
    if (bits not in BITS or scales.dtype not in scale_dtypes
            or {qweight.dtype, qzeros.dtype, g_idx.dtype} != {np.dtype(np.int32)}):
        raise ValueError(f"{bits} bits, dtypes {qweight.dtype}, {qzeros.dtype}, {scales.dtype},"
                         f" {g_idx.dtype}")
    codes = bit_stream_np.unpack(qweight.T, bits)  # They are [out, in].
    zeros = bit_stream_np.unpack(qzeros, bits)  # They are [groups, out].
    if (codes.shape != (scales.shape[1], len(g_idx)) or zeros.shape != scales.shape
            or len(qweight) * 32 % bits or qzeros.shape[1] * 32 % bits):
        raise ValueError(f"{bits} bits, shapes {qweight.shape}, {qzeros.shape}, {scales.shape},"
                         f" {g_idx.shape}")
    if g_idx.min() < 0 or g_idx.max() >= len(scales):
        raise ValueError(f"g_idx {g_idx.min()} to {g_idx.max()} of {len(scales)} groups")
    if not v2:
        if (zeros == 2**bits - 1).any():
            # 0 for readers that keep `bits` bits of the sum, 2^bits for those that do not.
            raise ValueError("v1 with a zero point of 0")
        zeros = zeros + 1
    weight = (codes - zeros[g_idx].T) * scales[g_idx].T.astype(np.float32)
    return np.ascontiguousarray(weight, np.float32)


def linear(tensors, name, bits, v2, scale_dtypes=(np.float16,)):
    """Returns the weight [out, in] of one module of {name: array}."""
    parts = (tensors[f"{name}.{part}"] for part in ("qweight", "qzeros", "scales", "g_idx"))
    return dequantize(*parts, bits, v2, scale_dtypes)

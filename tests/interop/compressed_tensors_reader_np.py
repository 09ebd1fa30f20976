"""Decodes the tensors of compressed-tensors, "pack-quantized" and "int-quantized", with NumPy, by
the published layout and nothing else; and what W8A8 does to the input of a Linear.

W = weight_scale * (code - zero_point). Packed codes and zero points are the signed ones plus
2^(bits - 1), as many to a word as fit it: codes along the inputs, zero points along the outputs.
"""

import numpy as np

import bit_stream_np


def _unpack(words, bits, count):
    """`count` unsigned codes of each row of words; the padding behind them is 0."""
    if bits not in (4, 8) or words.dtype != np.int32:
        raise ValueError(f"{bits} bits in {words.dtype}")
    if words.shape[1] != -(-count * bits // 32):
        raise ValueError(f"{words.shape[1]} words for {count} codes of {bits} bits")
    codes = bit_stream_np.unpack(words, bits)
    if codes[:, count:].any():
        raise ValueError("padding that is not 0")
    return codes[:, :count]


def _groups(scale, g_idx, columns, group_size):
    """Returns the group of each of `columns` inputs, for scales [out, groups]; a group_size of 0: one."""
    groups = scale.shape[1]
    if groups != -(-columns // (group_size or columns)):
        raise ValueError(f"{groups} groups of {group_size} for {columns} inputs")
    if g_idx is None:
        return np.arange(columns) // (group_size or columns)
    if g_idx.dtype != np.int32 or g_idx.shape != (columns,) or (g_idx < 0).any() \
            or (g_idx >= groups).any():
        raise ValueError(f"weight_g_idx {g_idx.dtype} {g_idx.shape} of {groups} groups")
    return g_idx


def pack_quantized(tensors, name, bits, group_size, symmetric, scale_dtypes=(np.float16,)):
    """Returns the weight [out, in] in float32 of one module of {name: array}. A group_size of 0 stands
    for whole rows, or one scale of the whole tensor."""
    packed, scale = tensors[f"{name}.weight_packed"], tensors[f"{name}.weight_scale"]
    shape, zeros = tensors[f"{name}.weight_shape"], tensors.get(f"{name}.weight_zero_point")
    if shape.dtype not in (np.int32, np.int64) or shape.shape != (2,):
        raise ValueError(f"{name}: weight_shape {shape.dtype} {shape.shape}")
    rows, columns = map(int, shape)
    if scale.dtype not in scale_dtypes or len(packed) != rows or symmetric != (zeros is None):
        raise ValueError(f"{name}: scales {scale.dtype}, {len(packed)} rows of {rows}, zero points"
                         f" {zeros is not None}, symmetric {symmetric}")
    if scale.shape == (1,):  # It is one of the whole tensor.
        scale = np.broadcast_to(scale, (rows, 1))
    if len(scale) != rows:
        raise ValueError(f"{name}: weight_scale {scale.shape} for {rows} rows")
    if symmetric:
        zeros = np.full(scale.shape, 2 ** (bits - 1))
    else:
        zeros = _unpack(zeros.T, bits, rows).T
        if zeros.shape != scale.shape:
            raise ValueError(f"{name}: zero points {zeros.shape}, scales {scale.shape}")
    group = _groups(scale, tensors.get(f"{name}.weight_g_idx"), columns, group_size)
    codes = _unpack(packed, bits, columns)
    return (codes - zeros[:, group]).astype(np.float32) * scale[:, group].astype(np.float32)


def int_quantized(tensors, name, scale_dtypes=(np.float16, np.float32)):
    """Returns the weight [out, in] in float32 of one module whose codes are I8."""
    codes, scale = tensors[f"{name}.weight"], tensors[f"{name}.weight_scale"]
    if codes.dtype != np.int8 or scale.dtype not in scale_dtypes:
        raise ValueError(f"{name}: codes {codes.dtype}, scales {scale.dtype}")
    if scale.shape not in ((len(codes), 1), (1,)):
        raise ValueError(f"{name}: weight_scale {scale.shape} for {codes.shape}")
    return codes.astype(np.float32) * scale.astype(np.float32)


def _on_grid(values, scale):
    return np.clip(np.rint(values / scale), -128, 127) * scale


def round_tokens(values):
    """Activations [..., in] on 8 bits, each token by the largest of itself."""
    scale = np.abs(values).max(-1, keepdims=True) / np.float32(127)
    return _on_grid(values, np.where(scale > 0, scale, np.float32(1)))


def round_static(scale):
    """Returns the function that puts activations on 8 bits by one scale, [1] float32."""
    if scale.dtype != np.float32 or scale.shape != (1,) or not 0 < scale[0] < np.inf:
        raise ValueError(f"input_scale {scale.dtype} {scale.shape} {scale}")
    return lambda values: _on_grid(values, scale[0])

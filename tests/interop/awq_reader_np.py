"""Reads AWQ "gemm" checkpoints with NumPy, by the published layout and nothing else.

Eight outputs share a word: output 8c + _ORDER[i] stands in bits 4i to 4i + 3 of word c.
W[n][k] = scales[k // g][n] * (code[k][n] - zero_point[k // g][n]); zero points are stored as
they are.
"""

import numpy as np

import llama_np

_ORDER = np.array([0, 2, 4, 6, 1, 3, 5, 7])


def unpack(words):
    """Codes [rows, columns * 8] of packed words [rows, columns]."""
    words = np.ascontiguousarray(words).view(np.uint32)
    nibbles = (words[:, :, None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
    codes = np.empty_like(nibbles)
    codes[:, :, _ORDER] = nibbles
    return codes.reshape(len(words), -1).astype(np.int32)


def dequantize(qweight, qzeros, scales):
    """The weight [out, in] in float32."""
    if scales.dtype != np.float16 or qweight.dtype != np.int32 or qzeros.dtype != np.int32:
        raise ValueError(f"dtypes {qweight.dtype}, {qzeros.dtype}, {scales.dtype}")
    codes, zeros = unpack(qweight), unpack(qzeros)
    groups, out = scales.shape
    if codes.shape[1] != out or zeros.shape != scales.shape or len(codes) % groups:
        raise ValueError(f"shapes {qweight.shape}, {qzeros.shape}, {scales.shape}")
    size = len(codes) // groups
    weight = (codes - np.repeat(zeros, size, 0)) * np.repeat(scales.astype(np.float32), size, 0)
    return np.ascontiguousarray(weight.T)


def linear(tensors, name):
    """The weight [out, in] of one module of {name: array}."""
    return dequantize(*(tensors[f"{name}.{part}"] for part in ("qweight", "qzeros", "scales")))


def read(directory):
    """A Llama whose quantized weights are decoded. Raises ValueError if config.json lies."""
    config = llama_np.read_config(directory)
    quantization = config["quantization_config"]
    if (quantization["quant_method"], quantization["version"]) != ("awq", "gemm"):
        raise ValueError(f"{directory}: {quantization}")
    packed = llama_np.read_tensors(directory)
    tensors = {}
    for name, array in packed.items():
        module, _, part = name.rpartition(".")
        if part == "qweight":
            tensors[f"{module}.weight"] = linear(packed, module)
            size = len(array) // len(packed[f"{module}.scales"])
            if size != quantization["group_size"]:
                raise ValueError(f"{module}: groups of {size}, config {quantization}")
        elif part not in ("qzeros", "scales"):
            tensors[name] = array
    return llama_np.Llama(config, tensors)

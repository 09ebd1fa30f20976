"""Handles safetensors files with NumPy alone: a reader and a writer that share no code with Salient's.

Layout: 8 bytes header length (little-endian u64), a JSON header, then the bytes of the tensors.
BF16 tensors are read as float32 (every bfloat16 is one) and written from float32, rounded half to
even.
"""

import json
import struct

import numpy as np

_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
# Files list their tensors by falling element type, then by name, as the reference writer does.
_ORDER = ["I64", "F64", "F32", "I32", "BF16", "F16", "I8", "U8"]


def widen_bf16(bits):
    """Returns the float32 values of bfloat16 bit patterns (uint16)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def round_bf16(values):
    """Returns the bfloat16 bit patterns (uint16) of finite float32 values, rounded half to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def read_header(path):
    """Returns (header, position of the first tensor byte) of a file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)), 8 + length


def read(path):
    """Returns {name: array}. Raises ValueError for a tensor whose bytes do not fit its shape."""
    header, base = read_header(path)
    with open(path, "rb") as file:
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype = _DTYPES[entry["dtype"]]
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if count * dtype.itemsize != end - begin or base + end > len(data):
            raise ValueError(f"{path}: {name}: {end - begin} bytes for shape {entry['shape']}")
        array = np.frombuffer(data, dtype, count, base + begin).reshape(entry["shape"])
        tensors[name] = widen_bf16(array) if entry["dtype"] == "BF16" else array
    return tensors


def dtypes(path):
    """Returns {name: dtype name} of a file."""
    header, _ = read_header(path)
    return {name: entry["dtype"] for name, entry in header.items() if name != "__metadata__"}


def encode(tensors, bf16=(), metadata=None):
    """Returns the bytes of a file of {name: array}; names in `bf16` are rounded to BF16."""
    entries = []
    for name, array in tensors.items():
        if name in bf16:
            entries.append(("BF16", name, round_bf16(array)))
        else:
            (kind,) = [k for k, d in _DTYPES.items() if k != "BF16" and d == array.dtype]
            entries.append((kind, name, array))
    entries.sort(key=lambda entry: (_ORDER.index(entry[0]), entry[1]))
    header, offset = {"__metadata__": {"format": "pt", **(metadata or {})}}, 0
    for kind, name, array in entries:
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    parts = [struct.pack("<Q", len(text)), text]
    parts += [np.ascontiguousarray(array).tobytes() for _, _, array in entries]
    return b"".join(parts)


def write(path, tensors, bf16=(), metadata=None):
    with open(path, "wb") as file:
        file.write(encode(tensors, bf16, metadata))

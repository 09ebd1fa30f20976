"""Tensors for `salient tensors`, and what it made of them.

Knows nothing of the program's sources: safetensors files are written and read here, packed words
are decoded here by the published layout.
"""

import json
import os
import random
import struct

# A packed AWQ word holds these columns from its lowest nibble upwards.
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "I64": 8}


def write_safetensors(path, tensors):
    """tensors: {name: (dtype, shape, bytes)}."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def read_safetensors(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], data[begin:end])
    return tensors, metadata


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


def halves(values):
    return struct.pack(f"<{len(values)}e", *values)


def unpack(tensor):
    dtype, _, data = tensor
    code = {"F32": "f", "F16": "e", "I32": "i"}[dtype]
    return struct.unpack(f"<{len(data) // SIZES[dtype]}{code}", data)


def nibbles(tensor):
    """Turns AWQ gemm words [rows, columns / 8] into codes [rows][columns]."""
    _, (rows, words), _ = tensor
    values = unpack(tensor)
    result = []
    for row in range(rows):
        codes = [0] * (words * 8)
        for word in range(words):
            value = values[row * words + word] & 0xFFFFFFFF
            for place, column in enumerate(AWQ_ORDER):
                codes[word * 8 + column] = value >> (4 * place) & 15
        result.append(codes)
    return result


def gaussian(rng, count, deviation=1.0):
    return [rng.gauss(0, deviation) for _ in range(count)]


def small_model(directory, seed=1):
    """q, k [16 and 8, 128] that read "qk"; down [24, 256] that reads "down"."""
    rng = random.Random(seed)
    weights = os.path.join(directory, "weights.safetensors")
    activations = os.path.join(directory, "activations.safetensors")
    write_safetensors(weights, {
        "q.weight": ("F16", [16, 128], halves(gaussian(rng, 16 * 128, 0.05))),
        "k.weight": ("F32", [8, 128], floats(gaussian(rng, 8 * 128, 0.05))),
        "down.weight": ("F32", [24, 256], floats(gaussian(rng, 24 * 256, 0.02))),
    })
    # A few loud channels, or there would be nothing for the search to find.
    loud = [8.0 if j % 37 == 0 else 1.0 for j in range(256)]
    hidden = [x * loud[i % 128] for i, x in enumerate(gaussian(rng, 3 * 20 * 128))]
    inner = [x * loud[i % 256] for i, x in enumerate(gaussian(rng, 30 * 256))]
    write_safetensors(activations, {
        "qk.input": ("F32", [3, 20, 128], floats(hidden)),
        "qk.lengths": ("I64", [3], struct.pack("<3q", 20, 11, 0)),
        "down": ("F16", [30, 256], halves(inner)),
    })
    return weights, activations

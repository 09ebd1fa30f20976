"""Writes statistics files from activations with NumPy, by core/statistics/statistics_file.h.

Sums are rounded to multiples of 2^-24 row by row, as Salient rounds them, so parts add exactly.
"""

import numpy as np

import safetensors_np

PARAMS = {
    "block_width": 256,
    "sketch_rows": 256,
    "exact_gram_limit": 1024,
    "sample_tokens": 256,
}
_GOLDEN = 0x9E3779B97F4A7C15
_SKETCH, _SAMPLE = 0x3243F6A8885A308D, 0x2B7E151628AED2A6
_MASK = 2**64 - 1


def _mix(x):
    """The splitmix64 finalizer."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _key(stream, seed, row, position):
    row_key = _mix(_mix(seed ^ stream) ^ (row * _GOLDEN & _MASK))
    return _mix(row_key ^ (position * _GOLDEN & _MASK))


def sample_hash(seed, row, position):
    """What the sample of tokens is drawn by: those with the smallest."""
    return _key(_SAMPLE, seed, row, position)


def signs(seed, row, position, count):
    """A token's column of the sketch matrix R: +1 or -1, 64 of one draw."""
    key = _key(_SKETCH, seed, row, position)
    words = [_mix((key + i * _GOLDEN) & _MASK) for i in range(-(-count // 64))]
    bits = [(words[k // 64] >> (k % 64)) & 1 for k in range(count)]
    return 1.0 - 2.0 * np.array(bits)


def _round(values):
    return np.rint(values * 2.0**24) / 2.0**24


def _intervals(rows):
    intervals = []
    for row in sorted(rows):
        if intervals and intervals[-1][1] == row:
            intervals[-1][1] = row + 1
        else:
            intervals.append([row, row + 1])
    return np.array(intervals, np.int64)


def encode(activations, seed=0):
    """The file of {calibration row: activations [tokens, in_features]}."""
    p = PARAMS
    width = p["block_width"]
    arrays = {row: np.asarray(x, np.float64) for row, x in activations.items()}
    in_features = next(iter(arrays.values())).shape[1]
    tensors = {
        "sum": sum(_round(x.sum(0)) for x in arrays.values()),
        "sum_abs": sum(_round(np.abs(x).sum(0)) for x in arrays.values()),
        "max_abs": np.max([np.abs(x).max(0) for x in arrays.values()], 0).astype(np.float32),
        "rows": _intervals(arrays),
    }
    if in_features <= p["exact_gram_limit"]:
        tensors["gram"] = sum(_round(x.T @ x) for x in arrays.values())
    else:
        count = -(-in_features // width)
        blocks = np.zeros((count, width, width))
        sketch = np.zeros((p["sketch_rows"], in_features))
        row_sums = np.zeros(p["sketch_rows"])
        for row, x in arrays.items():
            for b in range(count):
                part = x[:, b * width : (b + 1) * width]
                n = part.shape[1]
                blocks[b, :n, :n] += _round(part.T @ part)
            r = np.stack([signs(seed, row, t, p["sketch_rows"]) for t in range(len(x))], 1)
            sketch += _round(r @ x)
            row_sums += r.sum(1)
        tensors.update(blocks=blocks, sketch=sketch, sketch_row_sums=row_sums)
    tokens = sorted(
        (_key(_SAMPLE, seed, row, t), row, t) for row, x in arrays.items() for t in range(len(x))
    )[: p["sample_tokens"]]
    tensors["sample_tokens"] = np.array([[row, t] for _, row, t in tokens], np.int64)
    tensors["sample_values"] = np.stack([arrays[row][t] for _, row, t in tokens]).astype(
        np.float32
    )
    metadata = {
        "salient_statistics": "1",
        "in_features": in_features,
        **p,
        "seed": seed,
        "token_count": sum(len(x) for x in arrays.values()),
    }
    return safetensors_np.encode(
        tensors, metadata={key: str(value) for key, value in metadata.items()}
    )

"""Writes statistics files from activations with NumPy, by core/statistics/statistics_file.h.

Sums are words of two digits of 23 bits, as core/kernels/binned_sums.h has them: by whole numbers here,
which Python adds exactly.
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
    """Is the splitmix64 finalizer."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _key(stream, seed, row, position):
    row_key = _mix(_mix(seed ^ stream) ^ (row * _GOLDEN & _MASK))
    return _mix(row_key ^ (position * _GOLDEN & _MASK))


def sample_hash(seed, row, position):
    """Returns what the sample of tokens is drawn by: those with the smallest."""
    return _key(_SAMPLE, seed, row, position)


def signs(seed, row, position, count):
    """Returns a token's column of the sketch matrix R: +1 or -1, 64 of one draw."""
    key = _key(_SKETCH, seed, row, position)
    words = [_mix((key + i * _GOLDEN) & _MASK) for i in range(-(-count // 64))]
    bits = [(words[k // 64] >> (k % 64)) & 1 for k in range(count)]
    return 1.0 - 2.0 * np.array(bits)


_DIGIT, _LOWER, _NO_BOUND = 23, 40, -320


def bound_exponents(bounds):
    """Returns the least e with 1.0625 bound < 2^e, of each; _NO_BOUND of 0."""
    exponents = np.frexp(1.0625 * np.asarray(bounds, np.float64))[1]
    return np.where(np.asarray(bounds) > 0, exponents, _NO_BOUND).astype(np.int32)


def _frames(doubled, rows):
    """Returns the frames of summands below 2^(doubled / 2), one a row."""
    count = int(rows - 1).bit_length()
    return -((-(np.asarray(doubled, np.int64) + 2 * count + 2)) // (2 * _DIGIT))


def _word(values, frames):
    """One row's summands as words: the digits of frames - 1 and of frames - 2."""
    units = np.ldexp(np.asarray(values, np.float64), -_DIGIT * (frames - 2))
    upper = np.rint(np.ldexp(units, -_DIGIT))
    lower = np.rint(units - np.ldexp(upper, _DIGIT))
    return (upper.astype(np.int64) << _LOWER) + lower.astype(np.int64)


def _sum(summands, doubled):
    frames = _frames(doubled, len(summands))
    return sum(_word(summand, frames) for summand in summands)


def _intervals(rows):
    intervals = []
    for row in sorted(rows):
        if intervals and intervals[-1][1] == row:
            intervals[-1][1] = row + 1
        else:
            intervals.append([row, row + 1])
    return np.array(intervals, np.int64)


def encode(activations, seed=0):
    """Makes the file of {calibration row: activations [tokens, in_features]}."""
    p = PARAMS
    width = p["block_width"]
    arrays = {row: np.asarray(x, np.float64) for row, x in activations.items()}
    in_features = next(iter(arrays.values())).shape[1]
    absolutes = [np.abs(x).sum(0) for x in arrays.values()]
    sums = np.max([bound_exponents(a) for a in absolutes], 0)
    squares = np.max(
        [bound_exponents(np.abs(x).max(0) * a) for x, a in zip(arrays.values(), absolutes)], 0
    )
    tensors = {
        "sum_exponents": sums,
        "square_exponents": squares,
        "sum": _sum([x.sum(0) for x in arrays.values()], 2 * sums),
        "sum_abs": _sum(absolutes, 2 * sums),
        "max_abs": np.max([np.abs(x).max(0) for x in arrays.values()], 0).astype(np.float32),
        "rows": _intervals(arrays),
    }
    pairs = squares[:, None] + squares[None, :]
    if in_features <= p["exact_gram_limit"]:
        tensors["gram"] = _sum([x.T @ x for x in arrays.values()], pairs)
    else:
        count = -(-in_features // width)
        blocks = np.zeros((count, width, width), np.int64)
        for b in range(count):
            part = slice(b * width, min(in_features, (b + 1) * width))
            n = part.stop - part.start
            products = [x[:, part].T @ x[:, part] for x in arrays.values()]
            blocks[b, :n, :n] = _sum(products, pairs[part, part])
        signs_of = [
            np.stack([signs(seed, row, t, p["sketch_rows"]) for t in range(len(x))], 1)
            for row, x in arrays.items()
        ]
        sketch = _sum([r @ x for r, x in zip(signs_of, arrays.values())], 2 * sums)
        row_sums = sum(r.sum(1) for r in signs_of)
        tensors.update(blocks=blocks, sketch=sketch, sketch_row_sums=row_sums)
    tokens = sorted(
        (_key(_SAMPLE, seed, row, t), row, t) for row, x in arrays.items() for t in range(len(x))
    )[: p["sample_tokens"]]
    tensors["sample_tokens"] = np.array([[row, t] for _, row, t in tokens], np.int64)
    tensors["sample_values"] = np.stack([arrays[row][t] for _, row, t in tokens]).astype(
        np.float32
    )
    metadata = {
        "salient_statistics": "2",
        "in_features": in_features,
        **p,
        "seed": seed,
        "token_count": sum(len(x) for x in arrays.values()),
    }
    return safetensors_np.encode(
        tensors, metadata={key: str(value) for key, value in metadata.items()}
    )

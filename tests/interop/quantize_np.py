"""Does Salient's method once more, in NumPy: an independent twin to hold the C++ against.

A group is Linears that read the same input. Its statistics here are the whole Gram matrix
H = X^T X (float64 sums, not centred) and mean |x| a channel. A loss is tr(D H D^T), D = W' - W:
the squared output error, summed over tokens and outputs. Weights are [out, in]; scales and
zero points are [out, in / group_size].
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Statistics:
    gram: np.ndarray  # It is [in, in], the sum over tokens of x x^T.
    mean_abs: np.ndarray  # It is [in].
    tokens: int

    @staticmethod
    def of(inputs):
        """Sums activations [..., in_features]."""
        x = inputs.reshape(-1, inputs.shape[-1])
        gram = np.zeros((x.shape[1], x.shape[1]))
        for start in range(0, len(x), 1024):
            part = x[start : start + 1024].astype(np.float64)
            gram += part.T @ part
        return Statistics(gram, np.abs(x).mean(0, dtype=np.float64), len(x))


@dataclass
class Method:
    scale: str = "awq"  # It is none or awq.
    range: str = "clip"  # It is minmax or clip.
    rounding: str = "block"  # It is nearest or block.
    bits: int = 4
    group_size: int = 128
    width: int = 256
    shrinkage: float = 0.5
    damping: float = 0.01
    sweeps: int = 4
    refits: int = 2
    extra_sweeps: int = 1


@dataclass
class Quantized:
    """codes [out, in], scales and zero points [out, groups]; decodes to scale * (code - zero)."""

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray

    def decode(self):
        groups = self.scales.shape[1]
        codes = self.codes.reshape(len(self.codes), groups, -1)
        return (self.scales[:, :, None] * (codes - self.zeros[:, :, None])).reshape(
            self.codes.shape
        )


@dataclass
class Result:
    scale: np.ndarray  # s is [in].
    linears: list  # They are Quantized, of W * s.
    candidate: tuple  # It is (weight_aware, ratio), or None for the identity.
    losses: dict = field(default_factory=dict)


def fit_range(low, high, bits, symmetric=False, scale_dtype=np.float16):
    """Scale (a value of its dtype) and zero point of ranges that include 0."""
    top = 2**bits - 1
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    width = 2 * np.maximum(-low, high) if symmetric else high - low
    scale = (width / np.float32(top)).astype(scale_dtype).astype(np.float32)
    # Where the scale is so small that a code would be cut off, it is the next larger one.
    if scale_dtype == np.float16:
        scale = np.where((top + 1) * scale < width, scale + np.float32(2.0**-24), scale)
    scale = np.where(scale > 0, scale, np.float32(1))
    if symmetric:
        return scale, np.full(scale.shape, 2.0 ** (bits - 1))
    return scale, np.clip(np.rint(-low / scale), 0, top)


def nearest_codes(grouped, scale, zero, bits):
    """Returns the codes of [out, groups, group_size] on a grid of [out, groups]."""
    return np.clip(np.rint(grouped / scale[..., None]) + zero[..., None], 0, 2**bits - 1)


def round_nearest(weight, bits, group_size, factor=None, symmetric=False, scale_dtype=np.float16):
    """RTN; `factor` [out, groups] shrinks both ends of each range."""
    grouped = weight.reshape(len(weight), -1, group_size)
    factor = np.float32(1) if factor is None else factor
    scale, zero = fit_range(grouped.min(-1) * factor, grouped.max(-1) * factor, bits, symmetric,
                            scale_dtype)
    codes = nearest_codes(grouped, scale, zero, bits)
    return Quantized(codes.reshape(weight.shape), scale, zero)


def quadratic_loss(difference, gram):
    """Returns tr(D H D^T)."""
    difference = difference.astype(np.float64)
    return float(((difference @ gram) * difference).sum())


def round_to_bits(values, bits=8):
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(mantissa * 2**bits), exponent - bits).astype(np.float32)


def relative_weight(weights, group_size):
    """Returns w_j: |w| over the largest |w| of its group, mean over all rows of all Linears."""
    joined = np.abs(np.concatenate(weights)).astype(np.float64)
    grouped = joined.reshape(len(joined), -1, group_size)
    largest = grouped.max(-1, keepdims=True)
    return (grouped / np.where(largest > 0, largest, 1)).reshape(joined.shape).mean(0)


def tie(values, tied):
    """Mean over the query heads of one kv head; tied = (head_dim, query heads per kv head)."""
    head_dim, shared = tied
    heads = values.reshape(-1, shared, head_dim)
    return np.broadcast_to(heads.mean(1, keepdims=True), heads.shape).reshape(-1)


def scale_candidates(weights, statistics, group_size, tied=None):
    """Returns [(candidate, s)], the identity (None) first."""
    x, w = statistics.mean_abs, relative_weight(weights, group_size)
    if tied:
        x, w = tie(x, tied), tie(w, tied)
    x = np.maximum(x, x.mean() * 2.0**-7)
    w = np.maximum(w, 1e-9)
    candidates = [(None, np.ones(len(x), np.float32))]
    for weight_aware in (False, True):
        for step in range(21):
            if step == 0 and not weight_aware:
                continue  # It is the identity.
            ratio = step / 20
            s = x**ratio / w ** (1 - ratio) if weight_aware else x**ratio
            s = s / np.sqrt(s.max() * s.min())
            candidates.append(((weight_aware, ratio), round_to_bits(s)))
    return candidates


def search_scale(weights, statistics, method, tied=None):
    """Returns (candidate, s, {candidate: loss}) of the least round-to-nearest loss."""
    losses, best = {}, None
    for candidate, s in scale_candidates(weights, statistics, method.group_size, tied):
        loss = 0.0
        for weight in weights:
            rounded = round_nearest(weight * s, method.bits, method.group_size).decode()
            loss += quadratic_loss(rounded / s - weight, statistics.gram)
        losses[candidate] = loss
        if best is None or loss < losses[best[0]]:
            best = (candidate, s)
    return best[0], best[1], losses


def clip_factors(weight, gram, bits, group_size):
    """Returns [out, groups] of 20 factors from 1 to 0.525, the least loss on the group's own Gram."""
    grouped = weight.reshape(len(weight), -1, group_size)
    low, high = grouped.min(-1), grouped.max(-1)
    groups = grouped.shape[1]
    blocks = np.stack(
        [gram[g * group_size : (g + 1) * group_size, g * group_size : (g + 1) * group_size]
         for g in range(groups)]
    ).astype(np.float32)
    best = np.full(low.shape, np.inf)
    factors = np.ones(low.shape, np.float32)
    for step in range(20):
        factor = np.float32(1 - 0.025 * step)
        scale, zero = fit_range(low * factor, high * factor, bits)
        codes = nearest_codes(grouped, scale, zero, bits)
        d = scale[..., None] * (codes - zero[..., None]) - grouped
        loss = np.stack([((d[:, g] @ blocks[g]) * d[:, g]).sum(-1) for g in range(groups)], 1)
        better = loss < best
        best[better], factors[better] = loss[better], factor
    return factors


def _feedback_order(block, damping):
    """Returns the columns by falling diagonal, and the upper Cholesky factor of the inverse in that order."""
    damped = block + np.eye(len(block)) * damping * np.diag(block).mean()
    order = np.argsort(-np.diag(block), kind="stable")
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    return order, np.linalg.cholesky(inverse).T


def _feedback(weight, scale, zero, block, method):
    """GPTQ inside one block with given grids; scale and zero are [out, columns]."""
    order, factor = _feedback_order(block, method.damping)
    factor = factor.astype(np.float32)
    left = weight[:, order].copy()
    codes = np.zeros_like(weight)
    for i, j in enumerate(order):
        code = np.clip(np.rint(left[:, i] / scale[:, j]) + zero[:, j], 0, 2**method.bits - 1)
        codes[:, j] = code
        error = (left[:, i] - scale[:, j] * (code - zero[:, j])) / factor[i, i]
        left[:, i:] -= error[:, None] * factor[i, i:]
    return codes


def _descend(weight, codes, scale, zero, block, sweeps, bits):
    """Does exact coordinate descent on the codes of one block, column after column."""
    block = block.astype(np.float32)
    diagonal = np.diag(block)
    difference = scale * (codes - zero) - weight
    for _ in range(sweeps):
        gradient = difference @ block
        for j in range(weight.shape[1]):
            if diagonal[j] <= 0:
                continue
            target = codes[:, j] - gradient[:, j] / (diagonal[j] * scale[:, j])
            code = np.clip(np.rint(target), 0, 2**bits - 1)
            step = scale[:, j] * (code - codes[:, j])
            rows = np.nonzero(step)[0]
            if len(rows):
                gradient[rows] += step[rows, None] * block[j]
                difference[rows, j] += step[rows]
                codes[rows, j] = code[rows]
    return codes


def _refit(weight, codes, scales, zeros, block, group_size):
    """Least-squares scales of each row's groups in one block; kept where the loss falls."""
    rows, width = weight.shape
    groups = width // group_size
    steps = (codes - np.repeat(zeros, group_size, 1)).reshape(rows, groups, group_size)
    steps = steps.astype(np.float64)
    tiles = block.reshape(groups, group_size, groups, group_size)
    normal = np.empty((rows, groups, groups))
    for a in range(groups):
        for b in range(groups):
            normal[:, a, b] = ((steps[:, a] @ tiles[a, :, b]) * steps[:, b]).sum(-1)
    right = ((weight @ block).reshape(rows, groups, group_size) * steps).sum(-1)
    ridge = 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-30
    fitted = np.linalg.solve(normal + ridge * np.eye(groups), right[..., None])[..., 0]
    fitted = fitted.astype(np.float16).astype(np.float32)

    def loss(candidate):
        d = (candidate[..., None] * steps).reshape(rows, width) - weight
        return ((d @ block) * d).sum(-1)

    better = (fitted > 0).all(-1) & np.isfinite(fitted).all(-1) & (loss(fitted) < loss(scales))
    return np.where(better[:, None], fitted, scales)


def round_block(weight, gram, start, method):
    """Codes and scales from a grid `start`, one diagonal block of columns after the other."""
    codes, scales = start.codes.copy(), start.scales.copy()
    size = method.group_size
    for begin in range(0, weight.shape[1], method.width):
        columns = slice(begin, min(begin + method.width, weight.shape[1]))
        groups = slice(begin // size, columns.stop // size)
        block = gram[columns, columns].copy()
        off = ~np.eye(len(block), dtype=bool)
        block[off] *= method.shrinkage
        w, zero = weight[:, columns], start.zeros[:, groups]
        wide = lambda v: np.repeat(v, size, 1)
        scale = scales[:, groups]
        code = _feedback(w, wide(scale), wide(zero), block, method)
        for _ in range(method.refits):
            code = _descend(w, code, wide(scale), wide(zero), block, method.sweeps, method.bits)
            scale = _refit(w, code, scale, zero, block, size)
        if method.refits:
            code = _descend(w, code, wide(scale), wide(zero), block, method.extra_sweeps,
                            method.bits)
        codes[:, columns], scales[:, groups] = code, scale
    return Quantized(codes, scales, start.zeros)


def round_gptq(weight, gram, start, bits, damping, act_order, width=128):
    """GPTQ step by step as arXiv:2210.17323 has it: the inverse, its Cholesky factor, blocks of
    `width` columns whose errors reach the columns after them together. All of it in float64, on
    the grid of `start`; groups stay where they are. A channel that never fired is not zeroed."""
    columns = weight.shape[1]
    size = columns // start.scales.shape[1]
    damped = gram.astype(np.float64).copy()
    diagonal = np.diag(gram)
    order = np.argsort(-diagonal, kind="stable") if act_order else np.arange(columns)
    mean = diagonal.mean()
    damped[np.diag_indices(columns)] += np.where(diagonal > 0, 0, mean) + damping * mean
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T
    left = weight[:, order].astype(np.float64)
    codes = np.zeros(weight.shape)
    for begin in range(0, columns, width):
        end = min(begin + width, columns)
        errors = np.zeros((len(weight), end - begin))
        for i in range(begin, end):
            scale = start.scales[:, order[i] // size].astype(np.float64)
            zero = start.zeros[:, order[i] // size]
            code = np.clip(np.rint(left[:, i] / scale) + zero, 0, 2**bits - 1)
            codes[:, order[i]] = code
            error = (left[:, i] - scale * (code - zero)) / factor[i, i]
            left[:, i:end] -= np.outer(error, factor[i, i:end])
            errors[:, i - begin] = error
        left[:, end:] -= errors @ factor[begin:end, end:]
    return Quantized(codes, start.scales, start.zeros)


def round_all(weights, gram, s, method):
    """Rounds every Linear of W * s on the Gram of X / s, with the range and rounding of `method`."""
    scaled_gram = gram / np.outer(s, s).astype(np.float64)
    linears = []
    for weight in (w * s for w in weights):
        factor = None
        if method.range == "clip":
            factor = clip_factors(weight, scaled_gram, method.bits, method.group_size)
        rounded = round_nearest(weight, method.bits, method.group_size, factor)
        if method.rounding == "block":
            rounded = round_block(weight, scaled_gram, rounded, method)
        linears.append(rounded)
    return linears


def quantize_group(weights, statistics, method, tied=None):
    """Quantizes Linears [out, in] that read one input. No Linear is worse than plain RTN: if one
    is, under a scale that the others share, the scale is dropped; if it still is, RTN is kept."""
    gram = statistics.gram
    weights = [weight.astype(np.float32) for weight in weights]

    def losses_of(linears, s):
        return [quadratic_loss(q.decode() / s - w, gram) for q, w in zip(linears, weights)]

    one = np.ones(len(gram), np.float32)
    plain = [round_nearest(w, method.bits, method.group_size) for w in weights]
    nearest = losses_of(plain, one)
    losses, candidate, s = {"rtn": sum(nearest)}, None, one
    if method.scale == "awq":
        candidate, s, losses["search"] = search_scale(weights, statistics, method, tied)
    linears = round_all(weights, gram, s, method)
    mine = losses_of(linears, s)
    if candidate and any(a > b for a, b in zip(mine, nearest)):
        candidate, s = None, one
        linears = round_all(weights, gram, s, method)
        mine = losses_of(linears, s)
    linears = [p if a > b else q for a, b, p, q in zip(mine, nearest, plain, linears)]
    losses["result"] = sum(min(a, b) for a, b in zip(mine, nearest))
    return Result(s, linears, candidate, losses)


# The rows stand as in the table of test_llama.py.
METHODS = {
    "rtn": Method(scale="none", range="minmax", rounding="nearest"),
    "awq": Method(range="minmax", rounding="nearest"),
    "awq+clip": Method(rounding="nearest"),
    "block128-rounding": Method(width=128, sweeps=0, refits=0, extra_sweeps=0),
    "block128": Method(width=128),
    "block256": Method(width=256),
}

"""Builds QuantizeTensors messages: a group of Linears as NumPy arrays becomes its messages."""

import dataclasses

import numpy as np

from contract import Request, method_pb2, service_pb2, tensor_pb2
from crc32c import crc32c  # noqa: F401, offered to the tests

CHUNK_BYTES = 1 << 20


def to_bytes(array, dtype):
    """Returns the wire bytes of `array` as `dtype`, a tensor_pb2.DataType."""
    if dtype == tensor_pb2.DATA_TYPE_F32:
        return array.astype("<f4").tobytes()
    if dtype == tensor_pb2.DATA_TYPE_F16:
        return array.astype("<f2").tobytes()
    if dtype == tensor_pb2.DATA_TYPE_BF16:
        # Truncation: any BF16 number will do here.
        return (np.ascontiguousarray(array.astype("<f4")).view("<u4") >> 16).astype("<u2").tobytes()
    raise ValueError(dtype)


@dataclasses.dataclass
class Group:
    """One group to send. Weights [out_features, in_features], rows of [tokens, in_features]."""

    name: str
    weights: dict  # It maps a Linear's name to an array.
    rows: list  # They are calibration rows.
    dtype: int = tensor_pb2.DATA_TYPE_F32
    activation_dtype: int = tensor_pb2.DATA_TYPE_F32
    tied_heads: tuple | None = None  # It is (head_dim, query_heads_per_kv_head).
    batch_tokens: int = 64

    @property
    def in_features(self):
        return next(iter(self.weights.values())).shape[1]

    @property
    def parameters(self):
        return sum(w.size for w in self.weights.values())

    @property
    def tokens(self):
        return sum(len(row) for row in self.rows)


def random_group(name, seed, out_features, in_features, tokens=96, rows=2, **kwargs):
    """Makes heavy-tailed weights and activations with a few salient channels, fixed by `seed`."""
    rng = np.random.default_rng(seed)
    if isinstance(out_features, int):
        out_features = [out_features]
    weights = {f"{name}.linear_{i}": (rng.standard_t(5, (o, in_features)) * 0.02).astype(np.float32)
               for i, o in enumerate(out_features)}
    gain = np.exp(rng.standard_normal(in_features)).astype(np.float32)
    shares = np.array_split(np.arange(tokens), rows)
    activations = [rng.standard_normal((len(s), in_features)).astype(np.float32) * gain
                   for s in shares]
    return Group(name, weights, activations, **kwargs)


def options(**kwargs):
    """Makes the first message. `method` and `format` are dicts; the default is the server's."""
    message = service_pb2.QuantizeTensorsOptions(seed=kwargs.get("seed", 0))
    if "method" in kwargs:
        message.method.CopyFrom(method_pb2.Method(**kwargs["method"]))
    if "format" in kwargs:
        message.format.CopyFrom(method_pb2.WeightFormat(**kwargs["format"]))
    return Request(options=message)


ROUND_TO_NEAREST = dict(scale=method_pb2.SCALE_NONE, range=method_pb2.RANGE_MIN_MAX,
                        rounding=method_pb2.ROUNDING_NEAREST)


def group_header(group):
    header = service_pb2.GroupHeader(name=group.name, in_features=group.in_features,
                                     activation_dtype=group.activation_dtype)
    for name, weight in group.weights.items():
        header.linears.add(name=name, dtype=group.dtype, out_features=weight.shape[0])
    if group.tied_heads:
        header.tied_heads.head_dim, header.tied_heads.query_heads_per_kv_head = group.tied_heads
    return Request(group=header)


def weight(linear_index, offset, data, crc=None):
    chunk = tensor_pb2.Chunk(offset_bytes=offset, data=data)
    if crc is not None:
        chunk.crc32c = crc
    return Request(weight=service_pb2.WeightChunk(linear_index=linear_index, chunk=chunk))


def weights(group, chunk_bytes=CHUNK_BYTES):
    for index, array in enumerate(group.weights.values()):
        data = to_bytes(array, group.dtype)
        for offset in range(0, len(data), chunk_bytes):
            yield weight(index, offset, data[offset:offset + chunk_bytes])


def activation(row, first_position, data, crc=None):
    batch = service_pb2.ActivationBatch(calibration_row=row, first_position=first_position, data=data)
    if crc is not None:
        batch.crc32c = crc
    return Request(activations=batch)


def activations(group):
    for index, row in enumerate(group.rows):
        for first in range(0, len(row), group.batch_tokens):
            data = to_bytes(row[first:first + group.batch_tokens], group.activation_dtype)
            yield activation(index, first, data)


def end_group():
    return Request(end_group=service_pb2.EndGroup())


def group_messages(group):
    yield group_header(group)
    yield from weights(group)
    yield from activations(group)
    yield end_group()


def call_messages(groups, **option_kwargs):
    yield options(**option_kwargs)
    for group in groups:
        yield from group_messages(group)


def content(result):
    """Returns what must be equal whenever the input was: all of a GroupResult but the seconds it took."""
    return (result.report.name, result.report.loss, result.report.loss_rtn, result.scales.tobytes(),
            tuple((name, array.dtype.str, array.shape, array.tobytes())
                  for name, array in result.tensors.items()))

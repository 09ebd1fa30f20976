"""Calls that are wrong in one place, and how each must end. The cases declare themselves in CASES
when their modules are imported: bad_sequences, bad_groups, bad_batches."""

import dataclasses

import grpc

import messages as m
from contract import tensor_pb2

Code = grpc.StatusCode
F32, F16, BF16 = (tensor_pb2.DATA_TYPE_F32, tensor_pb2.DATA_TYPE_F16, tensor_pb2.DATA_TYPE_BF16)
MAX_INT64 = 2**63 - 1
CASES: dict = {}


@dataclasses.dataclass
class Case:
    """Requests and how the call must end.

    names: what the message, the metadata or the BadRequest has to contain. field: the BadRequest
    field, or its beginning. reason None: gRPC itself refuses, there is no ErrorInfo.
    """

    requests: object
    code: grpc.StatusCode
    reason: str | None
    names: tuple = ()
    field: str | None = None


def case(code, reason, *names, field=None):
    """Declares the decorated function's requests as a case of that name."""

    def declare(function):
        CASES[function.__name__] = Case(function, code, reason, names, field)
        return function

    return declare


def group(**kwargs):
    """Returns a small good group, to be spoilt: linear "a" [16, 64], rows of 40 and 24 tokens."""
    settings = dict(name="blk.0", seed=1, out_features=16, in_features=64, tokens=64, rows=2)
    settings.update(kwargs)
    return m.random_group(**settings)


FORMAT = dict(group_size=64)
LINEAR = "blk.0.linear_0"


def start(**kwargs):
    """Returns the options every case begins with."""
    return m.options(**{"format": FORMAT, **kwargs})


def call_with(format=None, **options):
    """Makes a good group under these options."""
    return [start(format={**FORMAT, **(format or {})}, **options), *m.group_messages(group())]


def header(**changes):
    """Returns the header of group() with some fields changed; `linear` changes its first Linear."""
    message = m.group_header(group())
    linear = changes.pop("linear", {})
    for name, value in changes.items():
        setattr(message.group, name, value)
    for name, value in linear.items():
        setattr(message.group.linears[0], name, value)
    return message


def raw(message):
    return message.SerializeToString()


def weight_bytes():
    return m.to_bytes(next(iter(group().weights.values())), F32)


def row_bytes(row=0, tokens=slice(None)):
    return m.to_bytes(group().rows[row][tokens], F32)


def finish_with(*tail):
    """Makes a good group up to its weights, then `tail`."""
    return [start(), m.group_header(group()), *m.weights(group()), *tail]

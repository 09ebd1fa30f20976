"""Bad input: every mistake a client can make gets its code, its reason and the name of what is at
fault, and the next good call on the same server gives the same bytes as ever."""

import dataclasses
import re
import socket
import struct
import unittest

import grpc
import numpy as np
from grpc_health.v1 import health_pb2

import messages as m
from contract import (ERROR_DOMAIN, Request, failure_of, method_pb2,
                      service_grpc, service_pb2, tensor_pb2)
from live_server import LiveServer, run_tests

Code = grpc.StatusCode
F32, F16, BF16 = (tensor_pb2.DATA_TYPE_F32, tensor_pb2.DATA_TYPE_F16, tensor_pb2.DATA_TYPE_BF16)
MAX_INT64 = 2**63 - 1
CALL_SECONDS = 30
CASES = {}


@dataclasses.dataclass
class Case:
    """Requests and how the call must end.

    names: what the message, the metadata or the BadRequest has to contain. field: the BadRequest
    field, or its beginning. reason None: gRPC itself refuses, there is no ErrorInfo.
    """

    requests: object
    code: Code
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
    """A small good group, to be spoilt: linear "a" [16, 64], rows of 40 and 24 tokens."""
    settings = dict(name="blk.0", seed=1, out_features=16, in_features=64, tokens=64, rows=2)
    settings.update(kwargs)
    return m.random_group(**settings)


FORMAT = dict(group_size=64)
LINEAR = "blk.0.linear_0"


def start(**kwargs):
    """The options every case begins with."""
    return m.options(**{"format": FORMAT, **kwargs})


def call_with(format=None, **options):
    """A good group under these options."""
    return [start(format={**FORMAT, **(format or {})}, **options), *m.group_messages(group())]


def header(**changes):
    """The header of group() with some fields changed; `linear` changes its first Linear."""
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
    """A good group up to its weights, then `tail`."""
    return [start(), m.group_header(group()), *m.weights(group()), *tail]


# ---- the order of messages


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "options")
def empty_stream():
    return []


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "options", "group")
def options_and_nothing_more():
    return [start()]


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "options", "group")
def group_before_options():
    return list(m.group_messages(group()))


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "options")
def options_twice():
    return [start(), start(), *m.group_messages(group())]


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "options")
def options_inside_a_group():
    return [start(), m.group_header(group()), start()]


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER")
def message_with_nothing_set():
    return [start(), Request(), *m.group_messages(group())]


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "blk.0", "end_group")
def group_inside_a_group():
    return [start(), m.group_header(group()), m.group_header(group(name="blk.1"))]


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "weight", "group")
def weight_outside_a_group():
    return [start(), *m.weights(group())]


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "activations", "group")
def activations_after_end_group():
    return [start(), *m.group_messages(group()), *m.activations(group())]


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "end_group")
def end_group_without_a_group():
    return [start(), m.end_group()]


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER", "blk.0", "end_group")
def stream_ends_inside_a_group():
    return finish_with(*m.activations(group()))


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER")
def bytes_that_are_no_message():
    return [raw(start()), raw(m.group_header(group())), b"\xff\xff\xff\xff\xff"]


@case(Code.INVALID_ARGUMENT, "MESSAGE_ORDER")
def a_name_that_is_not_utf8():
    good = raw(start()), raw(m.group_header(group()))
    return [good[0], good[1].replace(b"blk.0.linear_0", b"blk.0.linear_\xff")]


# ---- options


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "77", field="options.method.scale")
def unknown_scale():
    return call_with(method=dict(scale=77))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "78", field="options.method.range")
def unknown_range():
    return call_with(method=dict(range=78))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "79", field="options.method.rounding")
def unknown_rounding():
    return call_with(method=dict(rounding=79))


@case(Code.INVALID_ARGUMENT, "BAD_FORMAT", "80", field="options.format.output_format")
def unknown_output_format():
    return call_with(format=dict(output_format=80))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "1.5", field="options.method.smoothquant.alpha")
def alpha_above_one():
    return call_with(method=dict(smoothquant=dict(alpha=1.5)))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "11", field="options.method.gptq.damping")
def gptq_damping_above_ten():
    return call_with(method=dict(rounding=method_pb2.ROUNDING_GPTQ, gptq=dict(damping=11)))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "ROUNDING_GPTQ", field="options.method.autoawq")
def autoawq_with_gptq():
    return call_with(method=dict(rounding=method_pb2.ROUNDING_GPTQ, autoawq=True))


@case(Code.INVALID_ARGUMENT, "BAD_FORMAT", "gptq-v2 and compressed-tensors",
      field="options.format.symmetric")
def asymmetric_gptq():
    return call_with(format=dict(output_format=method_pb2.OUTPUT_FORMAT_GPTQ))


@case(Code.INVALID_ARGUMENT, "BAD_FORMAT", "64", "compressed-tensors",
      field="options.format.group_size")
def groups_of_int_quantized():
    return call_with(format=dict(output_format=method_pb2.OUTPUT_FORMAT_INT_QUANTIZED))


@case(Code.INVALID_ARGUMENT, "BAD_FORMAT", "dynamic", "int-quantized",
      field="options.format.activations")
def activations_of_awq_gemm():
    return call_with(format=dict(activations=method_pb2.ACTIVATION_FORMAT_DYNAMIC_TOKEN))


@case(Code.INVALID_ARGUMENT, "BAD_FORMAT", "3", "4", field="options.format.bits")
def three_bits_in_awq_gemm():
    return call_with(format=dict(bits=3))


@case(Code.INVALID_ARGUMENT, "BAD_FORMAT", "9", field="options.format.bits")
def nine_bits():
    return call_with(format=dict(bits=9))


@case(Code.INVALID_ARGUMENT, "BAD_FORMAT", "-4", field="options.format.bits")
def negative_bits():
    return call_with(format=dict(bits=-4))


@case(Code.INVALID_ARGUMENT, "BAD_FORMAT", "-5", field="options.format.group_size")
def negative_group_size():
    return call_with(format=dict(group_size=-5))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "ROUNDING_NEAREST", field="options.method.autoawq")
def autoawq_with_block_rounding():
    return call_with(method=dict(autoawq=True, rounding=method_pb2.ROUNDING_BLOCK))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "100", field="options.method.block.width")
def block_width_that_is_not_there():
    return call_with(method=dict(block=dict(width=100)))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "1.5", field="options.method.block.shrinkage")
def block_shrinkage_above_one():
    return call_with(method=dict(block=dict(shrinkage=1.5)))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "nan", field="options.method.block.damping")
def block_damping_not_a_number():
    return call_with(method=dict(block=dict(damping=float("nan"))))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "65", field="options.method.block.descent_sweeps")
def too_many_descent_sweeps():
    return call_with(method=dict(block=dict(descent_sweeps=65)))


@case(Code.INVALID_ARGUMENT, "BAD_METHOD", "-1", field="options.method.block.refits")
def negative_refits():
    return call_with(method=dict(block=dict(refits=-1)))


# ---- the group's header


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "blk.0", field="group.linears")
def group_without_linears():
    message = m.group_header(group())
    del message.group.linears[:]
    return [start(), message]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", field="group.name")
def group_without_a_name():
    return [start(), header(name="")]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "513", "512", field="group.name")
def group_name_of_513_bytes():
    return [start(), header(name="n" * 513)]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", field="group.linears[0].name")
def linear_without_a_name():
    return [start(), header(linear=dict(name=""))]


@case(Code.INVALID_ARGUMENT, "DUPLICATE_NAME", "blk.0", field="group.name")
def two_groups_of_one_name():
    other = group()
    other.weights = {"other": other.weights[LINEAR]}
    return [start(), *m.group_messages(group()), *m.group_messages(other)]


@case(Code.INVALID_ARGUMENT, "DUPLICATE_NAME", LINEAR, field="group.linears[1].name")
def two_linears_of_one_name():
    message = m.group_header(group())
    message.group.linears.add(name=LINEAR, dtype=F32, out_features=16)
    return [start(), message]


@case(Code.INVALID_ARGUMENT, "DUPLICATE_NAME", LINEAR, field="group.linears[0].name")
def one_linear_in_two_groups():
    other = group()
    other.name = "blk.1"
    return [start(), *m.group_messages(group()), *m.group_messages(other)]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "blk.0", "0", field="group.in_features")
def zero_in_features():
    return [start(), header(in_features=0)]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "-64", field="group.in_features")
def negative_in_features():
    return [start(), header(in_features=-64)]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", str(MAX_INT64), field="group.in_features")
def in_features_of_two_to_the_63():
    return [start(), header(in_features=MAX_INT64)]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", LINEAR, "0", field="group.linears[0].out_features")
def zero_out_features():
    return [start(), header(linear=dict(out_features=0))]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", LINEAR, "-8", field="group.linears[0].out_features")
def negative_out_features():
    return [start(), header(linear=dict(out_features=-8))]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", LINEAR, str(MAX_INT64 - 7),
      field="group.linears[0].out_features")
def out_features_of_two_to_the_63():
    return [start(), header(linear=dict(out_features=MAX_INT64 - 7))]


@case(Code.RESOURCE_EXHAUSTED, "MEMORY", "blk.0")
def more_elements_than_the_memory_of_a_call():
    # Each number alone is within the limits; the weights would be 2^32 bytes and more.
    message = header(in_features=32768, linear=dict(out_features=32768))
    return [start(), message]


@case(Code.INVALID_ARGUMENT, "BAD_SHAPE", LINEAR, "12", "8", field="group.linears[0].out_features")
def out_features_not_a_multiple_of_8():
    return [start(), *m.group_messages(group(out_features=12))]


@case(Code.INVALID_ARGUMENT, "BAD_SHAPE", LINEAR, "96", "64", field="options.format.group_size")
def group_size_that_does_not_divide():
    return [start(), *m.group_messages(group(in_features=96))]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", LINEAR, field="group.linears[0].dtype")
def weight_dtype_not_set():
    return [start(), header(linear=dict(dtype=0))]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", LINEAR, "DATA_TYPE_I8", field="group.linears[0].dtype")
def weight_dtype_integer():
    return [start(), header(linear=dict(dtype=tensor_pb2.DATA_TYPE_I8))]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", LINEAR, "99", field="group.linears[0].dtype")
def weight_dtype_unknown():
    return [start(), header(linear=dict(dtype=99))]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "blk.0", field="group.activation_dtype")
def activation_dtype_not_set():
    return [start(), header(activation_dtype=0), *m.weights(group()), *m.activations(group()),
            m.end_group()]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "98", field="group.activation_dtype")
def activation_dtype_unknown():
    return [start(), header(activation_dtype=98), *m.weights(group()), *m.activations(group()),
            m.end_group()]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "48", field="group.tied_heads.head_dim")
def head_dim_that_does_not_divide():
    return [start(), *m.group_messages(group(tied_heads=(48, 1)))]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "0", field="group.tied_heads.head_dim")
def head_dim_zero():
    return [start(), *m.group_messages(group(tied_heads=(0, 1)))]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "3", field="group.tied_heads.query_heads_per_kv_head")
def query_heads_that_do_not_divide():
    return [start(), *m.group_messages(group(tied_heads=(16, 3)))]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", field="group.tied_heads.query_heads_per_kv_head")
def query_heads_of_two_to_the_63():
    return [start(), *m.group_messages(group(tied_heads=(16, MAX_INT64)))]


# ---- weights


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "1", "blk.0", field="weight.linear_index")
def linear_index_past_the_end():
    return [start(), m.group_header(group()), m.weight(1, 0, weight_bytes())]


@case(Code.INVALID_ARGUMENT, "BAD_HEADER", "-1", field="weight.linear_index")
def linear_index_negative():
    return [start(), m.group_header(group()), m.weight(-1, 0, weight_bytes())]


@case(Code.OUT_OF_RANGE, "OFFSET", LINEAR, "2048", "1024")
def weight_chunk_out_of_order():
    data = weight_bytes()
    return [start(), m.group_header(group()), m.weight(0, 0, data[:1024]),
            m.weight(0, 2048, data[2048:])]


@case(Code.OUT_OF_RANGE, "OFFSET", LINEAR, "512", "1024")
def weight_chunk_that_overlaps():
    data = weight_bytes()
    return [start(), m.group_header(group()), m.weight(0, 0, data[:1024]),
            m.weight(0, 512, data[512:])]


@case(Code.OUT_OF_RANGE, "OFFSET", LINEAR, "-1")
def weight_chunk_at_a_negative_offset():
    return [start(), m.group_header(group()), m.weight(0, -1, weight_bytes())]


@case(Code.OUT_OF_RANGE, "OFFSET", LINEAR, str(MAX_INT64))
def weight_chunk_at_an_absurd_offset():
    return [start(), m.group_header(group()), m.weight(0, MAX_INT64, weight_bytes())]


@case(Code.INVALID_ARGUMENT, "MISSING_BYTES", LINEAR, "4096", "3072")
def last_weight_chunk_missing():
    return [start(), m.group_header(group()), m.weight(0, 0, weight_bytes()[:3072]),
            *m.activations(group()), m.end_group()]


@case(Code.INVALID_ARGUMENT, "MISSING_BYTES", LINEAR, "4096")
def no_weight_at_all():
    return [start(), m.group_header(group()), *m.activations(group()), m.end_group()]


@case(Code.INVALID_ARGUMENT, "BAD_SHAPE", LINEAR, "4096")
def more_weight_bytes_than_the_shape():
    return [start(), m.group_header(group()), m.weight(0, 0, weight_bytes() + b"\0" * 64),
            *m.activations(group()), m.end_group()]


@case(Code.INVALID_ARGUMENT, "CHUNK_TOO_LARGE", field="weight.chunk.data")
def chunk_above_the_limit():
    large = group(out_features=16384)
    return [start(), m.group_header(large), *m.weights(large, chunk_bytes=3 << 20)]


@case(Code.RESOURCE_EXHAUSTED, None, "larger than max")
def message_above_the_limit():
    large = group(out_features=32768)
    return [start(), m.group_header(large), *m.weights(large, chunk_bytes=5 << 20)]


@case(Code.DATA_LOSS, "CHUNK_CRC", LINEAR)
def weight_chunk_with_a_wrong_crc():
    data = weight_bytes()
    return [start(), m.group_header(group()), m.weight(0, 0, data, m.crc32c(data) ^ 1)]


def spoilt_weight(dtype, row, column, value):
    bad = group(dtype=dtype)
    bad.weights[LINEAR][row, column] = value
    return [start(), *m.group_messages(bad)]


@case(Code.INVALID_ARGUMENT, "NON_FINITE", LINEAR, "3", "17")
def nan_in_an_f32_weight():
    return spoilt_weight(F32, 3, 17, np.nan)


@case(Code.INVALID_ARGUMENT, "NON_FINITE", LINEAR, "15", "63")
def infinity_in_an_f16_weight():
    return spoilt_weight(F16, 15, 63, np.inf)


@case(Code.INVALID_ARGUMENT, "NON_FINITE", LINEAR, "0", "5")
def minus_infinity_in_a_bf16_weight():
    return spoilt_weight(BF16, 0, 5, -np.inf)


# ---- activations


def spoilt_activation(dtype, value):
    bad = group(activation_dtype=dtype)
    bad.rows[1][21, 33] = value
    return [start(), *m.group_messages(bad)]


@case(Code.INVALID_ARGUMENT, "NON_FINITE", "blk.0", "21", "33")
def nan_in_f32_activations():
    return spoilt_activation(F32, np.nan)


@case(Code.INVALID_ARGUMENT, "NON_FINITE", "blk.0", "21", "33")
def infinity_in_f16_activations():
    return spoilt_activation(F16, np.inf)


@case(Code.INVALID_ARGUMENT, "NON_FINITE", "blk.0", "21", "33")
def nan_in_bf16_activations():
    return spoilt_activation(BF16, np.nan)


@case(Code.INVALID_ARGUMENT, "NO_TOKENS", "blk.0")
def zero_tokens():
    return finish_with(m.end_group())


@case(Code.INVALID_ARGUMENT, "BAD_SHAPE", "blk.0", field="activations.data")
def batch_of_zero_tokens():
    return finish_with(m.activation(0, 0, b""), m.end_group())


@case(Code.INVALID_ARGUMENT, "BAD_SHAPE", "blk.0", "260", "256", field="activations.data")
def row_that_does_not_match_in_features():
    return finish_with(m.activation(0, 0, b"\0" * 260), m.end_group())


@case(Code.OUT_OF_RANGE, "POSITION", "blk.0", "12", "10")
def position_hole():
    return finish_with(m.activation(0, 0, row_bytes(0, slice(0, 10))),
                       m.activation(0, 12, row_bytes(0, slice(12, 20))))


@case(Code.OUT_OF_RANGE, "POSITION", "blk.0", "5", "10")
def position_sent_twice():
    return finish_with(m.activation(0, 0, row_bytes(0, slice(0, 10))),
                       m.activation(0, 5, row_bytes(0, slice(5, 20))))


@case(Code.OUT_OF_RANGE, "POSITION", "blk.0", "7")
def row_that_does_not_begin_at_zero():
    return finish_with(m.activation(0, 7, row_bytes(0, slice(7, 20))))


@case(Code.OUT_OF_RANGE, "POSITION", "-3")
def negative_position():
    return finish_with(m.activation(0, -3, row_bytes()))


@case(Code.INVALID_ARGUMENT, "BAD_SHAPE", "-1", field="activations.calibration_row")
def negative_row():
    return finish_with(m.activation(-1, 0, row_bytes()))


@case(Code.FAILED_PRECONDITION, "DUPLICATE_ROW", "blk.0", "0")
def calibration_row_twice():
    return finish_with(m.activation(0, 0, row_bytes(0)), m.activation(1, 0, row_bytes(1)),
                       m.activation(0, 0, row_bytes(0)), m.end_group())


@case(Code.DATA_LOSS, "CHUNK_CRC", "blk.0")
def activations_with_a_wrong_crc():
    return finish_with(m.activation(0, 0, row_bytes(), m.crc32c(row_bytes()) ^ 1))


# ---- statistics


def statistics(offset, data, total, crc=None):
    chunk = tensor_pb2.Chunk(offset_bytes=offset, data=data)
    if crc is not None:
        chunk.crc32c = crc
    return Request(statistics=service_pb2.StatisticsChunk(chunk=chunk, total_bytes=total))


@case(Code.INVALID_ARGUMENT, "STATISTICS", "blk.0")
def statistics_garbage():
    data = np.random.default_rng(7).bytes(4096)
    return finish_with(statistics(0, data, len(data)), m.end_group())


@case(Code.INVALID_ARGUMENT, "STATISTICS", "blk.0")
def statistics_with_an_absurd_header_length():
    data = struct.pack("<Q", 2**64 - 1) + b"{}" + b" " * 100
    return finish_with(statistics(0, data, len(data)), m.end_group())


@case(Code.INVALID_ARGUMENT, "STATISTICS", "blk.0")
def statistics_without_its_tensors():
    data = struct.pack("<Q", 2) + b"{}"
    return finish_with(statistics(0, data, len(data)), m.end_group())


@case(Code.INVALID_ARGUMENT, "MISSING_BYTES", "blk.0", "4096", "100")
def statistics_cut_short():
    return finish_with(statistics(0, b"x" * 100, 4096), m.end_group())


@case(Code.RESOURCE_EXHAUSTED, "MEMORY", "blk.0")
def statistics_of_two_to_the_63_bytes():
    return finish_with(statistics(0, b"x" * 100, MAX_INT64), m.end_group())


@case(Code.INVALID_ARGUMENT, "BAD_SHAPE", "-1", field="statistics.total_bytes")
def statistics_of_a_negative_size():
    return finish_with(statistics(0, b"x" * 100, -1), m.end_group())


@case(Code.OUT_OF_RANGE, "OFFSET", "blk.0", "200", "100")
def statistics_chunk_out_of_order():
    return finish_with(statistics(0, b"x" * 100, 4096), statistics(200, b"x" * 100, 4096))


@case(Code.DATA_LOSS, "CHUNK_CRC", "blk.0")
def statistics_with_a_wrong_crc():
    return finish_with(statistics(0, b"x" * 100, 100, m.crc32c(b"x" * 100) ^ 1))


MUTATIONS = 300
MUTATION_CODES = (Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.FAILED_PRECONDITION, Code.DATA_LOSS,
                  Code.UNIMPLEMENTED, Code.RESOURCE_EXHAUSTED)


def mutated(sent, rng):
    """One to three changes to a list of serialized messages."""
    sent = list(sent)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(sent)))
        kind = rng.integers(5)
        if kind == 0 and len(sent) > 1:
            del sent[at]
        elif kind == 1:
            sent.insert(at, sent[int(rng.integers(len(sent)))])
        elif kind == 2:
            other = int(rng.integers(len(sent)))
            sent[at], sent[other] = sent[other], sent[at]
        elif kind == 3 and sent[at]:
            sent[at] = sent[at][:int(rng.integers(len(sent[at])))]
        elif sent[at]:
            # The first bytes are tags, lengths and numbers; the rest is tensor data.
            changed = bytearray(sent[at])
            changed[int(rng.integers(min(len(changed), 48)))] = int(rng.integers(256))
            sent[at] = bytes(changed)
    return sent


class BadInputTest(unittest.TestCase):
    """Each case runs on the one server, and after each the same good call."""

    @classmethod
    def setUpClass(cls):
        cls.server = LiveServer("--workers", "2")
        cls.addClassCleanup(cls.server.stop)
        cls.good = list(m.call_messages([group()], format=FORMAT))
        results, failure = cls.server.quantize(cls.good)
        if failure:
            raise AssertionError(f"the good call fails: {failure}")
        cls.content = [m.content(r) for r in results]

    def check_still_good(self):
        self.assertTrue(self.server.alive(), self.server.log())
        results, failure = self.server.quantize(self.good, timeout=CALL_SECONDS)
        self.assertIsNone(failure)
        self.assertEqual([m.content(r) for r in results], self.content)

    def run_case(self, spoilt):
        before = self.server.metrics()
        failure = self.fail_call(spoilt.requests())
        self.assertIsNotNone(failure, "the call succeeded")
        self.check_failure(spoilt, failure)
        self.check_still_good()
        if spoilt.reason:
            # The observable side of the same refusal: its reason is counted, once.
            rise = self.server.metrics().total(ERRORS, reason=spoilt.reason) - before.total(
                ERRORS, reason=spoilt.reason)
            self.assertEqual(rise, 1, f"{ERRORS}{{reason={spoilt.reason}}}")

    def fail_call(self, requests):
        if not requests or not isinstance(requests[0], bytes):
            return self.server.quantize(requests, timeout=CALL_SECONDS)[1]
        # Bytes that protobuf's own serializer would refuse to make.
        with self.server.channel() as channel:
            call = channel.stream_stream("/salient.v1.QuantizationService/QuantizeTensors",
                                         request_serializer=None, response_deserializer=None)
            try:
                list(call(iter(requests), timeout=CALL_SECONDS))
                return None
            except grpc.RpcError as error:
                return failure_of(error)

    def check_failure(self, spoilt, failure):
        self.assertEqual(failure.code, spoilt.code, failure)
        self.assertTrue(failure.message, failure)
        if spoilt.reason is not None:
            self.assertEqual((failure.reason, failure.domain), (spoilt.reason, ERROR_DOMAIN), failure)
        self.assertLess(failure.details_bytes, 4096)
        for name in spoilt.names:
            # Whole words: a "3" is not found in a "13".
            self.assertRegex(failure.everything(), rf"(?i)(?<![\w.-]){re.escape(name)}(?!\w)")
        if spoilt.field:
            self.assertTrue(any(f.startswith(spoilt.field) for f in failure.fields),
                            f"want BadRequest field {spoilt.field}: {failure}")

    def test_good_crc_is_accepted(self):
        """So that the crc cases cannot pass because every crc is refused."""
        data = weight_bytes()
        rows = [m.activation(i, 0, row_bytes(i), m.crc32c(row_bytes(i))) for i in range(2)]
        results, failure = self.server.quantize(
            [start(), m.group_header(group()), m.weight(0, 0, data, m.crc32c(data)), *rows,
             m.end_group()])
        self.assertIsNone(failure)
        self.assertEqual([m.content(r) for r in results], self.content)

    def test_mutated_calls_end_in_an_answer_or_a_reason(self):
        """Good calls with messages dropped, doubled, swapped and bytes changed, fixed seeds."""
        ends = {}
        for seed in range(MUTATIONS):
            failure = self.fail_call(mutated([raw(r) for r in self.good],
                                             np.random.default_rng(seed)))
            self.assertTrue(self.server.alive(), f"seed {seed}: {self.server.log()}")
            end = "OK" if failure is None else f"{failure.code.name} {failure.reason}"
            ends[end] = ends.get(end, 0) + 1
            if failure is not None:
                self.assertIn(failure.code, MUTATION_CODES, f"seed {seed}: {failure}")
                self.assertNotIn(failure.reason, ("", "INTERNAL"), f"seed {seed}: {failure}")
        print(f"\n  {dict(sorted(ends.items()))}")
        self.assertGreater(len(ends), 5, "the mutations all look alike to the server")
        self.check_still_good()

    def test_finite_extremes_give_an_answer_or_a_reason(self):
        """Finite numbers may overflow on the way; they never crash or pass for a result."""
        for value in (3e38, -3e38, 1e-45, 0.0):
            with self.subTest(value=value):
                extreme = group()
                extreme.weights[LINEAR][:, :] = value
                results, failure = self.server.quantize([start(), *m.group_messages(extreme)],
                                                        timeout=CALL_SECONDS)
                if failure:
                    self.assertEqual((failure.code, failure.reason),
                                     (Code.INVALID_ARGUMENT, "NON_FINITE"), failure)
                else:
                    self.assert_finite(results[0])
                self.check_still_good()

    def assert_finite(self, result):
        self.assertTrue(np.isfinite(result.scales).all())
        self.assertTrue(np.isfinite([result.report.loss, result.report.loss_rtn]).all())
        for name, array in result.tensors.items():
            if array.dtype.kind == "f":
                self.assertTrue(np.isfinite(array).all(), name)

    def test_a_compressed_message_is_refused(self):
        """A small message must not become a large one inside the server."""
        with self.server.channel() as channel:
            stub = service_grpc.QuantizationServiceStub(channel)
            with self.assertRaises(grpc.RpcError) as raised:
                list(stub.QuantizeTensors(iter(self.good), timeout=CALL_SECONDS,
                                          compression=grpc.Compression.Gzip))
        self.assertEqual(raised.exception.code(), Code.UNIMPLEMENTED, raised.exception.details())
        self.check_still_good()

    def test_noise_on_the_ports(self):
        """Bytes that are neither HTTP/2 nor HTTP."""
        noise = np.random.default_rng(11).bytes(4096)
        for address in (self.server.address, self.server.metrics_url.split("/")[2]):
            host, port = address.rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                try:
                    connection.sendall(noise)
                except ConnectionError:
                    pass
        self.assertEqual(self.server.health(), health_pb2.HealthCheckResponse.SERVING)
        self.check_still_good()


ERRORS = "salient_errors_total"

for _name, _case in CASES.items():
    setattr(BadInputTest, f"test_{_name}", lambda self, spoilt=_case: self.run_case(spoilt))

if __name__ == "__main__":
    run_tests()

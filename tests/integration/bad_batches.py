"""Lists bad calls: groups whose activations or statistics are wrong."""

import struct

import numpy as np

import messages as m
from bad_calls import (BF16, F16, F32, MAX_INT64, Code, case, finish_with, group, row_bytes,
                       start)
from contract import Request, service_pb2, tensor_pb2

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

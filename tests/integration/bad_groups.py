"""Lists bad calls: groups whose headers or weights are wrong."""

import numpy as np

import messages as m
from bad_calls import (BF16, F16, F32, LINEAR, MAX_INT64, Code, case, group, header, start,
                       weight_bytes)
from contract import tensor_pb2

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

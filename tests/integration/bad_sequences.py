"""Lists bad calls: messages out of order, and options that are none."""

import messages as m
from bad_calls import Code, call_with, case, finish_with, group, raw, start
from contract import Request, method_pb2

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

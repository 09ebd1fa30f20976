"""Makes malformed safetensors: every kind that the reference reader rejects, and those that this server
rejects beyond it, each made of a good file.

CASES: {name: (bytes of the good file -> bytes, what the error has to name)}.
"""

import json
import struct

# Tensors that are changed. Offsets follow the names, so the first tensor of a file is LOW.
TENSOR = "model.norm.weight"
LOW = "lm_head.weight"
LAST = TENSOR

CASES: dict = {}


def case(*names):
    def declare(function):
        CASES[function.__name__] = (function, names)
        return function

    return declare


def parts(data):
    """Returns (header as dict, tensor bytes) of a good file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + length]), data[8 + length:]


def join(header, body):
    """Makes a file of a header, text or dict, and bytes, without padding."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def edited(data, **fields):
    """Returns the file with fields of TENSOR replaced; None removes one."""
    header, body = parts(data)
    entry = {**header[TENSOR], **fields}
    header[TENSOR] = {k: v for k, v in entry.items() if v is not None}
    return join(header, body)


def moved(data, by, first=0):
    """Returns the file with offsets from `first` on moved by so many bytes."""
    header, body = parts(data)
    for name, entry in header.items():
        if name != "__metadata__" and entry["data_offsets"][0] >= first:
            entry["data_offsets"] = [o + by for o in entry["data_offsets"]]
    return header, body


def begin_of(data, name):
    return parts(data)[0][name]["data_offsets"][0]


def spelled(data, old, new):
    """Returns the file with a piece of the header's text replaced, once."""
    header, body = parts(data)
    text = json.dumps(header)
    assert text.count(old) >= 1, old
    return join(text.replace(old, new, 1).encode(), body)


# ---- where tensors lie


@case(TENSOR, "data_offsets")
def overlap(data):
    header, body = moved(data, -2, begin_of(data, TENSOR))
    return join(header, body[:-2])


@case(TENSOR, "data_offsets")
def hole(data):
    header, body = moved(data, 2, begin_of(data, TENSOR))
    return join(header, body + b"\0\0")


@case(LOW, "data_offsets")
def first_tensor_not_at_0(data):
    header, body = moved(data, 2)
    return join(header, b"\0\0" + body)


@case(TENSOR, "data_offsets")
def begin_above_end(data):
    begin, end = parts(data)[0][TENSOR]["data_offsets"]
    return edited(data, data_offsets=[end, begin])


@case(TENSOR, "data_offsets")
def negative_offset(data):
    return edited(data, data_offsets=[-2, 254])


@case(TENSOR, "data_offsets")
def three_offsets(data):
    begin, end = parts(data)[0][TENSOR]["data_offsets"]
    return edited(data, data_offsets=[begin, end, end])


@case(TENSOR, "data_offsets")
def no_offsets(data):
    return edited(data, data_offsets=None)


@case()
def bytes_after_the_last_tensor(data):
    return data + b"\0\0"


@case()
def bytes_missing(data):
    return data[:-2]


# ---- what tensors are


@case(TENSOR, "shape")
def shape_smaller_than_its_bytes(data):
    return edited(data, shape=[127])


@case(TENSOR, "shape")
def shape_overflows(data):
    return edited(data, shape=[2**40, 2**40])


@case(TENSOR, "shape")
def no_shape(data):
    return edited(data, shape=None)


@case(TENSOR, "shape")
def negative_dimension(data):
    return edited(data, shape=[-128])


@case(TENSOR, "shape")
def dimension_with_a_point(data):
    return edited(data, shape=[128.0])


@case("shape")
def dimension_with_an_exponent(data):
    return spelled(data, '"shape": [128, 128]', '"shape": [128, 128e0]')


@case(TENSOR, "shape")
def rank_of_a_thousand(data):
    return edited(data, shape=[128] + [1] * 1000)


@case(TENSOR, "dtype", "Q4")
def unknown_dtype(data):
    return edited(data, dtype="Q4")


@case(TENSOR, "dtype", "f16")
def lower_case_dtype(data):
    return edited(data, dtype="f16")


@case(TENSOR, "dtype", "F4")
def dtype_below_a_byte(data):
    return edited(data, dtype="F4", shape=[3])


@case(TENSOR, "dtype")
def no_dtype(data):
    return edited(data, dtype=None)


@case(TENSOR)
def field_twice_in_a_tensor(data):
    return spelled(data, f'"{TENSOR}": {{', f'"{TENSOR}": {{"dtype": "F16", ')


@case(TENSOR)
def entry_that_is_no_object(data):
    header, body = parts(data)
    header[TENSOR] = 3
    return join(header, body)


# ---- names


@case(TENSOR)
def name_twice_with_another_range(data):
    header, body = parts(data)
    entry = {**header[TENSOR], "shape": [0], "data_offsets": [0, 0]}
    return spelled(join(header, body), f'"{TENSOR}": ', f'"{TENSOR}": {json.dumps(entry)}, '
                   f'"{TENSOR}": ')


@case(TENSOR)
def name_twice_alike(data):
    header, _ = parts(data)
    entry = json.dumps(header[TENSOR])
    return spelled(data, f'"{TENSOR}": ', f'"{TENSOR}": {entry}, "{TENSOR}": ')


@case()
def empty_name(data):
    header, body = parts(data)
    header[""] = {"dtype": "F16", "shape": [0], "data_offsets": [len(body), len(body)]}
    return join(header, body)


@case()
def name_of_a_megabyte(data):
    header, body = parts(data)
    header["n" * 10**6] = {"dtype": "F16", "shape": [0], "data_offsets": [len(body), len(body)]}
    return join(header, body)


# ---- metadata


@case("__metadata__")
def metadata_twice(data):
    return spelled(data, '"__metadata__": ', '"__metadata__": {"format": "pt"}, "__metadata__": ')


@case("__metadata__")
def metadata_that_is_no_text(data):
    header, body = parts(data)
    header["__metadata__"] = {"format": 1}
    return join(header, body)


# ---- the header as a whole


@case()
def no_bytes(data):
    return b""


@case()
def seven_bytes(data):
    return data[:7]


@case("header")
def header_beyond_the_file(data):
    return struct.pack("<Q", len(data)) + data[8:]


@case("header", "100000001")
def header_above_the_limit(data):
    return struct.pack("<Q", 100_000_001) + data[8:]


@case("header")
def header_of_all_ones(data):
    return b"\xff" * 8 + data[8:]


@case()
def header_that_is_empty(data):
    return join(b"", parts(data)[1])


@case()
def header_that_is_a_list(data):
    return join(b"[]", parts(data)[1])


@case()
def header_that_is_no_json(data):
    return join(b"{model: 1}", parts(data)[1])


@case()
def header_cut_off(data):
    header, body = parts(data)
    return join(json.dumps(header).encode()[:-1], body)


@case()
def header_not_utf8(data):
    header, body = parts(data)
    return join(json.dumps(header).encode().replace(b"norm", b"n\xff\xfem", 1), body)


@case()
def header_after_a_byte_order_mark(data):
    header, body = parts(data)
    return join(b"\xef\xbb\xbf" + json.dumps(header).encode(), body)


@case()
def header_padded_with_zeros(data):
    header, body = parts(data)
    return join(json.dumps(header).encode() + b"\0" * 8, body)


@case()
def header_nested_deeply(data):
    return join(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", parts(data)[1])


def odd_but_good(data):
    """All at once that is unusual and yet allowed."""
    header, body = parts(data)
    header["__metadata__"] = None
    header[TENSOR]["comment"] = [1, {"x": None}]
    names = sorted(header, reverse=True)
    return join(b"  \n" + json.dumps({n: header[n] for n in names}).encode() + b" \r\n\t ", body)

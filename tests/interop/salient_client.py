"""Is a small client of QuantizeTensors, made from the proto files alone.

    with connect("127.0.0.1:8443") as channel:
        for result in quantize_tensors(channel, options(), groups):
            fold(result.scales); keep(result.tensors)

`groups` is an iterator and is advanced on gRPC's sending thread, one message at a time and only as
fast as the server takes them; results are read by the caller of the generator meanwhile. So a
caller may compute activations while it iterates, and may wait there for a result of an earlier
group. At no time does more than one message wait here to be sent.
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc
import numpy as np

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PACKAGE = "salient/v1"


def _generate():
    """Generates the stubs into a directory that lives as long as the process."""
    import grpc_tools
    from grpc_tools import protoc

    directory = tempfile.TemporaryDirectory(prefix="salient_stubs_")
    root = os.path.join(REPOSITORY, "proto")
    # google/rpc comes from the installed googleapis package, not from the minimal copy.
    files = sorted(f for f in os.listdir(os.path.join(root, _PACKAGE)) if f.endswith(".proto"))
    status = protoc.main(
        ["protoc", f"-I{root}", f"-I{os.path.join(os.path.dirname(grpc_tools.__file__), '_proto')}",
         f"--python_out={directory.name}", f"--grpc_python_out={directory.name}"]
        + [f"{_PACKAGE}/{f}" for f in files]
    )
    if status != 0:
        raise RuntimeError(f"protoc failed on {root}")
    sys.path.insert(0, directory.name)
    return directory


_stubs = _generate()
pb = importlib.import_module("salient.v1.quantization_service_pb2")
rpc = importlib.import_module("salient.v1.quantization_service_pb2_grpc")
method_pb = importlib.import_module("salient.v1.method_pb2")
report_pb = importlib.import_module("salient.v1.report_pb2")
tensor_pb = importlib.import_module("salient.v1.tensor_pb2")

_DTYPES = {
    np.dtype("<f4"): tensor_pb.DATA_TYPE_F32,
    np.dtype("<f2"): tensor_pb.DATA_TYPE_F16,
    np.dtype("<i4"): tensor_pb.DATA_TYPE_I32,
}
_ARRAYS = {value: key for key, value in _DTYPES.items()}
_CHUNK_BYTES = 1 << 20


@dataclass
class Group:
    """Linears that read one input, and that input.

    linears: [(module path, weight [out, in])], float32 or float16.
    batches: iterable of (calibration row, first position, activations [tokens, in]), all of
    one dtype, which `activation_dtype` names; larger ones are cut to fit a message.
    tied_heads: (head_dim, query heads per kv head) or None.
    statistics: files of other calibration rows, instead of or beside batches.
    """

    name: str
    linears: list
    batches: Iterable
    activation_dtype: np.dtype = np.dtype("<f4")
    tied_heads: tuple | None = None
    statistics: Iterable = ()


@dataclass
class GroupResult:
    report: object  # It is a salient.v1.GroupReport.
    scales: np.ndarray  # s is [in].
    tensors: dict = field(default_factory=dict)  # It is {name: array}.


def connect(address):
    """Opens a plaintext channel. The message limit of 4 MiB stays as it is."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def options(scale="awq", range="clip", rounding="block", *, bits=4, group_size=128, seed=0,
            output_format="AWQ_GEMM", block=None, gptq=None, **method):
    """Makes the first message of a call. `block` and `gptq` are fields of BlockRounding and GptqRounding."""
    ranges = {"minmax": method_pb.RANGE_MIN_MAX, "clip": method_pb.RANGE_CLIP}
    return pb.QuantizeTensorsOptions(
        method=method_pb.Method(
            scale=method_pb.Scale.Value(f"SCALE_{scale.upper()}"),
            range=ranges[range],
            rounding=method_pb.Rounding.Value(f"ROUNDING_{rounding.upper()}"),
            block=method_pb.BlockRounding(**(block or {})),
            gptq=method_pb.GptqRounding(**gptq) if gptq else None,
            **method,
        ),
        format=method_pb.WeightFormat(
            bits=bits, group_size=group_size,
            output_format=method_pb.OutputFormat.Value(f"OUTPUT_FORMAT_{output_format}"),
        ),
        seed=seed,
    )


def chunks(data):
    """Makes chunk messages of some bytes."""
    view = memoryview(data)
    for offset in range(0, len(view), _CHUNK_BYTES):
        part = bytes(view[offset : offset + _CHUNK_BYTES])
        yield tensor_pb.Chunk(offset_bytes=offset, data=part)


def _batches(group):
    for row, first, values in group.batches:
        values = np.ascontiguousarray(values, group.activation_dtype)
        tokens = max(1, _CHUNK_BYTES // (values.shape[1] * values.itemsize))
        for start in range(0, len(values), tokens):
            yield pb.QuantizeTensorsRequest(
                activations=pb.ActivationBatch(
                    calibration_row=row,
                    first_position=first + start,
                    data=values[start : start + tokens].tobytes(),
                )
            )


def group_requests(group):
    """Makes the messages of one group."""
    header = pb.GroupHeader(
        name=group.name,
        in_features=group.linears[0][1].shape[1],
        activation_dtype=_DTYPES[np.dtype(group.activation_dtype)],
        linears=[
            pb.LinearHeader(name=name, dtype=_DTYPES[weight.dtype], out_features=weight.shape[0])
            for name, weight in group.linears
        ],
    )
    if group.tied_heads:
        header.tied_heads.head_dim, header.tied_heads.query_heads_per_kv_head = group.tied_heads
    yield pb.QuantizeTensorsRequest(group=header)
    for index, (_, weight) in enumerate(group.linears):
        for chunk in chunks(np.ascontiguousarray(weight).tobytes()):
            yield pb.QuantizeTensorsRequest(
                weight=pb.WeightChunk(linear_index=index, chunk=chunk)
            )
    for data in group.statistics:
        for chunk in chunks(data):
            yield pb.QuantizeTensorsRequest(
                statistics=pb.StatisticsChunk(chunk=chunk, total_bytes=len(data))
            )
    yield from _batches(group)
    yield pb.QuantizeTensorsRequest(end_group=pb.EndGroup())


class _Requests:
    """Iterator of all messages that keeps the exception that ended it, which gRPC would hide."""

    def __init__(self, first, groups):
        self.error = None
        self._messages = self._generate(first, groups)

    def _generate(self, first, groups):
        yield pb.QuantizeTensorsRequest(options=first)
        for group in groups:
            yield from group_requests(group)

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise


def quantize_tensors(channel, first, groups, timeout=600):
    """Yields a GroupResult for each of `groups`, in order, as soon as it is there.

    Raises grpc.RpcError for what the server refuses, ValueError for an answer that breaks the
    contract, and whatever advancing `groups` raised.
    """
    requests = _Requests(first, groups)
    call = rpc.QuantizationServiceStub(channel).QuantizeTensors(requests, timeout=timeout)
    try:
        yield from read_results(call)
    except grpc.RpcError:
        if requests.error is not None:
            raise requests.error from None
        raise
    finally:
        call.cancel()


def read_results(responses):
    """Assembles GroupResults of a stream of responses."""
    for response in responses:
        if response.WhichOneof("message") != "group":
            raise ValueError("a chunk came before its group, or after its last byte")
        headers = response.group.tensors
        result = GroupResult(
            response.group.report, np.array(response.group.scales, np.float32)
        )
        for index, header in enumerate(headers):
            dtype, shape = _ARRAYS[header.dtype], tuple(header.shape)
            data = bytearray()
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            while len(data) < size:
                response = next(responses, None)
                if response is None or response.WhichOneof("message") != "chunk":
                    raise ValueError(f"{header.name}: ended at byte {len(data)} of {size}")
                part = response.chunk
                if part.tensor_index != index or part.chunk.offset_bytes != len(data):
                    raise ValueError(
                        f"{header.name}: expected byte {len(data)}, got tensor "
                        f"{part.tensor_index} byte {part.chunk.offset_bytes}"
                    )
                data += part.chunk.data
            if len(data) != size:
                raise ValueError(f"{header.name}: {len(data)} bytes for shape {shape}")
            result.tensors[header.name] = np.frombuffer(data, dtype).reshape(shape)
        yield result

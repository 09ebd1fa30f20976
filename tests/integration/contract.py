"""Shows the contract as Python sees it: messages and stubs generated from proto/, decoded errors.

Nothing here knows the server's sources: only proto/salient/v1 and the public google.rpc types.
"""

import dataclasses
import importlib
import pathlib
import sys

import grpc
from google.rpc import error_details_pb2, status_pb2

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "interop"))
import salient_client  # It generates the stubs.

service_pb2, service_grpc = salient_client.pb, salient_client.rpc
method_pb2, tensor_pb2 = salient_client.method_pb, salient_client.tensor_pb
blob_pb2 = importlib.import_module("salient.v1.blob_service_pb2")
blob_grpc = importlib.import_module("salient.v1.blob_service_pb2_grpc")
job_pb2 = importlib.import_module("salient.v1.job_pb2")

SERVICES = ("salient.v1.BlobService", "salient.v1.QuantizationService")
ERROR_DOMAIN = "salient.v1"

Request = service_pb2.QuantizeTensorsRequest


@dataclasses.dataclass
class Failure:
    """Holds how a call ended, with the details of grpc-status-details-bin."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: dict = dataclasses.field(default_factory=dict)
    fields: dict = dataclasses.field(default_factory=dict)  # It is BadRequest: field -> description.
    retry_after_seconds: float | None = None
    quotas: list = dataclasses.field(default_factory=list)  # They are the subjects of QuotaFailure.
    details_bytes: int = 0

    def everything(self):
        """All text a developer gets to see, for looking up what it names."""
        return "\n".join([self.message, *self.metadata.keys(), *self.metadata.values(),
                          *self.fields.keys(), *self.fields.values()])


def failure_of(call):
    """Decodes a finished call or an RpcError."""
    failure = Failure(call.code(), call.details() or "")
    for key, value in call.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status.FromString(value)
        failure.details_bytes = len(value)
        if status.code != failure.code.value[0] or status.message != failure.message:
            raise AssertionError(f"grpc-status-details-bin disagrees with the status: {status}")
        for detail in status.details:
            _add_detail(failure, detail)
    return failure


def failure_of_status(status):
    """Returns the same of a google.rpc.Status, such as Job.error."""
    (code,) = [c for c in grpc.StatusCode if c.value[0] == status.code]
    failure = Failure(code, status.message, details_bytes=status.ByteSize())
    for detail in status.details:
        _add_detail(failure, detail)
    return failure


def _add_detail(failure, detail):
    if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
        info = error_details_pb2.ErrorInfo()
        detail.Unpack(info)
        failure.reason, failure.domain = info.reason, info.domain
        failure.metadata = dict(info.metadata)
    elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
        bad = error_details_pb2.BadRequest()
        detail.Unpack(bad)
        failure.fields = {v.field: v.description for v in bad.field_violations}
    elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
        retry = error_details_pb2.RetryInfo()
        detail.Unpack(retry)
        failure.retry_after_seconds = retry.retry_delay.ToTimedelta().total_seconds()
    elif detail.Is(error_details_pb2.QuotaFailure.DESCRIPTOR):
        quota = error_details_pb2.QuotaFailure()
        detail.Unpack(quota)
        failure.quotas = [v.subject for v in quota.violations]

"""Is a client of blobs and jobs, made from the proto files alone.

    client = JobClient(channel)
    tokens = client.upload(token_bytes)
    job = client.create(quantize(manifest(files), tokens))
    for name in job.missing: ...upload...
    outcome = client.finish(job.name)          # watches until the job ended
    files = client.read_files(outcome.job)     # every digest and checksum verified
"""

import dataclasses
import hashlib
import json
import struct
import threading
import time

import grpc

from contract import (Failure, blob_grpc, blob_pb2, failure_of, failure_of_status, job_pb2,
                      method_pb2, service_grpc, service_pb2, tensor_pb2)
from crc32c import crc32c

CHUNK_BYTES = 1 << 20
CALL_SECONDS = 60
WATCH_SECONDS = 280
SMALL_FILES = ("config.json", "model.safetensors.index.json")

SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
FAILED = job_pb2.JOB_STATE_FAILED
CANCELLED = job_pb2.JOB_STATE_CANCELLED
QUEUED = job_pb2.JOB_STATE_QUEUED
RUNNING = job_pb2.JOB_STATE_RUNNING
ENDED = (SUCCEEDED, FAILED, CANCELLED)


# ---- digests and specs


def digest_of(data):
    return blob_pb2.Digest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def key_of(digest):
    """Returns a digest as something that can be compared, hashed and sorted."""
    return digest.sha256, digest.size_bytes


def safetensors_head(data):
    """Length and JSON of a safetensors file; all of it if it lies about its length."""
    (length,) = struct.unpack("<Q", data[:8].ljust(8, b"\0"))
    return data[:8 + length]


def inline_content(name, data):
    """Returns what of a file goes into the manifest itself: config, index, safetensors headers."""
    if name in SMALL_FILES:
        return data
    return safetensors_head(data) if name.endswith(".safetensors") else b""


def manifest(files, inline=inline_content):
    """Returns the ModelSource of {name: bytes}, to be uploaded."""
    source = job_pb2.ModelSource()
    for name, data in files.items():
        source.manifest.files.add(name=name, digest=digest_of(data),
                                  inline_content=inline(name, data))
    return source


def model_path(path):
    """Returns the ModelSource of a directory below the server's --model-root."""
    return job_pb2.ModelSource(path=str(path))


def quantize(model, tokens, *, max_rows=0, group_size=128, method=None, formats=None, timeout=None,
             ttl=None, priority=0, **task):
    """Returns the JobSpec of a QuantizeTask. `tokens` is a Digest, or None for no calibration."""
    spec = job_pb2.JobSpec(model=model, priority=priority)
    spec.quantize.CopyFrom(job_pb2.QuantizeTask(**task))
    if tokens is not None:
        spec.quantize.calibration.tokens.tokens.CopyFrom(tokens)
        spec.quantize.calibration.tokens.max_rows = max_rows
    if method:
        spec.quantize.method.CopyFrom(method_pb2.Method(**method))
    for settings in formats or [dict(bits=4, group_size=group_size)]:
        spec.quantize.formats.add(**settings)
    if timeout is not None:
        spec.timeout.FromNanoseconds(int(timeout * 1e9))
    if ttl is not None:
        spec.ttl_after_finished.FromNanoseconds(int(ttl * 1e9))
    return spec


# ---- what a job did


@dataclasses.dataclass
class Outcome:
    """Is a job that ended and all that was said of it."""

    job: object
    events: list

    def of(self, kind):
        """Returns the events of one kind, e.g. "tensor_ready"."""
        return [getattr(e, kind) for e in self.events if e.WhichOneof("event") == kind]

    @property
    def tensors(self):
        """Returns {name: (sha256, size)} of every tensor that was announced."""
        return {t.header.name: key_of(t.digest) for t in self.of("tensor_ready")}

    @property
    def files(self):
        """Returns {name: (sha256, size)} of the result files."""
        return {f.name: key_of(f.digest) for f in self.job.files}

    @property
    def failure(self):
        return failure_of_status(self.job.error) if self.job.state == FAILED else None


class DigestMismatch(AssertionError):
    """The server sent bytes that are not what their name or checksum says."""


class JobClient:
    """Calls for blobs and jobs over one channel. It is thread-safe, as the channel is."""

    def __init__(self, channel):
        self.blobs = blob_grpc.BlobServiceStub(channel)
        self.jobs = service_grpc.QuantizationServiceStub(channel)

    # ---- blobs

    def find_missing(self, digests):
        request = blob_pb2.FindMissingBlobsRequest(digests=digests)
        return list(self.blobs.FindMissingBlobs(request, timeout=CALL_SECONDS).missing)

    def blob_status(self, digest):
        request = blob_pb2.GetBlobStatusRequest(digest=digest)
        return self.blobs.GetBlobStatus(request, timeout=CALL_SECONDS)

    def upload(self, data, chunk_bytes=CHUNK_BYTES, digest=None):
        """Uploads what the server does not have of it. Returns its digest."""
        digest = digest or digest_of(data)
        end = time.monotonic() + CALL_SECONDS
        while not (status := self.blob_status(digest)).complete:
            messages = upload_messages(digest, data, status.committed_bytes, chunk_bytes)
            try:
                answer = self.blobs.WriteBlob(messages, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                # A stream of ours that broke may not be noticed yet.
                if failure_of(error).reason != "UPLOAD_TAKEN_OVER" or time.monotonic() > end:
                    raise
                time.sleep(0.2)
                continue
            if not answer.complete or answer.committed_bytes != len(data):
                raise AssertionError(f"{digest} after its last byte: {answer}")
        return digest

    def upload_part(self, data, end, chunk_bytes=CHUNK_BYTES, digest=None):
        """Uploads up to byte `end` and hangs up. Returns what the server says it has then."""
        digest = digest or digest_of(data)
        begin = self.blob_status(digest).committed_bytes
        messages = upload_messages(digest, data[:end], begin, chunk_bytes, finish=False)
        try:
            self.blobs.WriteBlob(messages, timeout=CALL_SECONDS)
        except grpc.RpcError:
            pass  # The status counts.
        return self.blob_status(digest)

    def read(self, digest, offset=0, limit=0):
        """Returns a blob or a part of it. A whole one must have its digest, every chunk its checksum."""
        request = blob_pb2.ReadBlobRequest(digest=digest, offset_bytes=offset, limit_bytes=limit)
        data = bytearray()
        for response in self.blobs.ReadBlob(request, timeout=CALL_SECONDS):
            chunk = response.chunk
            if chunk.offset_bytes != offset + len(data):
                raise DigestMismatch(f"{digest}: byte {chunk.offset_bytes}, not {offset + len(data)}")
            if chunk.HasField("crc32c") and chunk.crc32c != crc32c(chunk.data):
                raise DigestMismatch(f"{digest}: chunk at {chunk.offset_bytes}")
            data += chunk.data
        data = bytes(data)
        if offset == 0 and limit == 0 and digest_of(data) != digest:
            raise DigestMismatch(f"{digest}: got {digest_of(data)}")
        return data

    def can_read(self, digest):
        """False for NOT_FOUND; other errors rise."""
        try:
            self.read(digest)
            return True
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return False

    # ---- jobs

    def create(self, spec, job_id="", request_id="", validate_only=False):
        request = service_pb2.CreateJobRequest(spec=spec, job_id=job_id, request_id=request_id,
                                               validate_only=validate_only)
        return self.jobs.CreateJob(request, timeout=CALL_SECONDS).job

    def get(self, name):
        return self.jobs.GetJob(service_pb2.GetJobRequest(name=name), timeout=CALL_SECONDS).job

    def list(self, page_size=0, page_token="", states=()):
        request = service_pb2.ListJobsRequest(page_size=page_size, page_token=page_token,
                                              states=states)
        return self.jobs.ListJobs(request, timeout=CALL_SECONDS)

    def cancel(self, name):
        return self.jobs.CancelJob(service_pb2.CancelJobRequest(name=name),
                                   timeout=CALL_SECONDS).job

    def delete(self, name):
        self.jobs.DeleteJob(service_pb2.DeleteJobRequest(name=name), timeout=CALL_SECONDS)

    def watch(self, name, after_revision=0, reconnect_every=0):
        """Yields events until the job ended, heartbeats left out.

        With `reconnect_every` the stream is dropped after so many events, on purpose, and taken
        up after the last revision.
        """
        while True:
            call = self.jobs.WatchJob(
                service_pb2.WatchJobRequest(name=name, after_revision=after_revision),
                timeout=WATCH_SECONDS)
            seen = 0
            try:
                for response in call:
                    event = response.event
                    if event.WhichOneof("event") == "heartbeat":
                        continue
                    if event.revision <= after_revision:
                        raise AssertionError(f"revision {event.revision} after {after_revision}")
                    after_revision = event.revision
                    yield event
                    seen += 1
                    if seen == reconnect_every:
                        break
                else:
                    return
            finally:
                call.cancel()

    def finish(self, name, events=(), **watch):
        """Watches to the end. `events`: those that were seen already."""
        events = list(events)
        after = events[-1].revision if events else 0
        events += self.watch(name, after, **watch)
        job = self.get(name)
        if job.state not in ENDED:
            raise AssertionError(f"the watch of {name} ended in state {job.state}")
        return Outcome(job, events)

    def run(self, spec, blobs=(), **create):
        """Creates a job, uploads those of `blobs` (bytes) that it misses, waits for its end."""
        job = self.create(spec, **create)
        wanted = {key_of(d) for d in job.missing}
        for data in blobs:
            if key_of(digest_of(data)) in wanted:
                self.upload(data)
        return self.finish(job.name)

    def failure(self, spec, blobs=()):
        """Returns the Failure of a job that must not succeed, and where: "CreateJob" or "job"."""
        try:
            outcome = self.run(spec, blobs)
        except grpc.RpcError as error:
            return failure_of(error), "CreateJob"
        return outcome.failure, "job"

    def read_files(self, job):
        """Returns {name: bytes} of the result files, put together from their parts."""
        files = {}
        for file in job.files:
            parts = file.parts or [file.digest]
            files[file.name] = b"".join(self.read(part) for part in parts)
            if digest_of(files[file.name]) != file.digest:
                raise DigestMismatch(f"{file.name}: its parts are not {file.digest}")
        return files


# ---- uploads


def upload_messages(digest, data, begin, chunk_bytes=CHUNK_BYTES, finish=True):
    yield blob_pb2.WriteBlobRequest(digest=digest)
    for offset in range(begin, len(data), chunk_bytes):
        part = data[offset:offset + chunk_bytes]
        yield blob_pb2.WriteBlobRequest(
            chunk=tensor_pb2.Chunk(offset_bytes=offset, data=part, crc32c=crc32c(part)))
    if finish:
        yield blob_pb2.WriteBlobRequest(finish=blob_pb2.WriteBlobFinish())


class HeldUpload(threading.Thread):
    """Is an upload that keeps its last byte until `release`."""

    def __init__(self, client, data):
        super().__init__(daemon=True)
        self.client = client
        self.digest = digest_of(data)
        self.failure: Failure | None = None
        self._data = data
        self._last = data[-1:]
        self._released = threading.Event()

    def _messages(self):
        yield from upload_messages(self.digest, self._data[:-1], 0, finish=False)
        self._released.wait(WATCH_SECONDS)
        chunk = tensor_pb2.Chunk(offset_bytes=len(self._data) - 1, data=self._last)
        yield blob_pb2.WriteBlobRequest(chunk=chunk)
        yield blob_pb2.WriteBlobRequest(finish=blob_pb2.WriteBlobFinish())

    def run(self):
        try:
            self.client.blobs.WriteBlob(self._messages(), timeout=WATCH_SECONDS)
        except grpc.RpcError as error:
            self.failure = failure_of(error)

    @property
    def released(self):
        return self._released.is_set()

    def release(self, last=None):
        """Sends the last byte, or `last` in its place, and waits for the server's answer."""
        self._last = self._last if last is None else last
        self._released.set()
        self.join(CALL_SECONDS)


def config_of(files):
    return json.loads(files["config.json"])

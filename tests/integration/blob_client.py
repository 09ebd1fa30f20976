"""Blobs from the proto file alone: messages of an upload, a client, and what tests of blobs share."""

import hashlib
import threading
import unittest

import grpc
import numpy as np

import messages as m
from contract import blob_grpc, blob_pb2, failure_of, tensor_pb2
from live_server import LiveServer, wait_until

MIB = 1 << 20
CALL_SECONDS = 60
WORKERS = 2
Request = blob_pb2.WriteBlobRequest


def noise(seed, size):
    return np.random.default_rng(seed).bytes(size)


def digest_of(data):
    return blob_pb2.Digest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def begin(digest):
    return Request(digest=digest)


def chunk(offset, data, crc=None):
    message = tensor_pb2.Chunk(offset_bytes=offset, data=data)
    if crc is not None:
        message.crc32c = crc
    return Request(chunk=message)


def finish():
    return Request(finish=blob_pb2.WriteBlobFinish())


def chunks(data, start=0, end=None, chunk_bytes=MIB):
    end = len(data) if end is None else end
    for offset in range(start, end, chunk_bytes):
        yield chunk(offset, data[offset:min(offset + chunk_bytes, end)])


def whole(data, start=0):
    return [begin(digest_of(data)), *chunks(data, start), finish()]


class Blobs:
    """Is a client on a connection of its own. Failures come back beside results."""

    def __init__(self, server):
        self.channel = server.channel()
        self.stub = blob_grpc.BlobServiceStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def write(self, requests):
        try:
            return self.stub.WriteBlob(iter(requests), timeout=CALL_SECONDS), None
        except grpc.RpcError as error:
            return None, failure_of(error)

    def read(self, digest, offset=0, limit=0):
        """Returns (bytes, Failure or None); offsets and checksums are asserted."""
        request = blob_pb2.ReadBlobRequest(digest=digest, offset_bytes=offset, limit_bytes=limit)
        data = bytearray()
        try:
            for response in self.stub.ReadBlob(request, timeout=CALL_SECONDS):
                part = response.chunk
                assert part.offset_bytes == offset + len(data), (part.offset_bytes, len(data))
                assert part.HasField("crc32c") and 0 < len(part.data) <= MIB
                if len(part.data) <= 4096:  # Our own CRC is slow.
                    assert part.crc32c == m.crc32c(part.data)
                data += part.data
        except grpc.RpcError as error:
            return bytes(data), failure_of(error)
        return bytes(data), None

    def status(self, digest):
        answer = self.stub.GetBlobStatus(blob_pb2.GetBlobStatusRequest(digest=digest),
                                         timeout=CALL_SECONDS)
        return answer.committed_bytes, answer.complete

    def missing(self, digests):
        return list(self.stub.FindMissingBlobs(blob_pb2.FindMissingBlobsRequest(digests=digests),
                                               timeout=CALL_SECONDS).missing)


class OpenUpload:
    """Is an upload that is sent message by message from outside."""

    def __init__(self, blobs, first=()):
        self._messages = list(first)
        self._changed = threading.Condition()
        self._closed = False
        self.future = blobs.stub.WriteBlob.future(self._requests(), timeout=CALL_SECONDS)

    def _requests(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._messages or self._closed, CALL_SECONDS)
                if not self._messages:
                    return
                message = self._messages.pop(0)
            yield message

    def send(self, *more):
        with self._changed:
            self._messages += more
            self._changed.notify()

    def close(self):
        with self._changed:
            self._closed = True
            self._changed.notify()

    def failure(self):
        try:
            self.future.result(CALL_SECONDS)
        except grpc.RpcError as error:
            return failure_of(error)
        finally:
            self.close()
        return None


class BlobTestCase(unittest.TestCase):
    FLAGS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = LiveServer("--workers", str(WORKERS), *cls.FLAGS)
        cls.addClassCleanup(cls.server.stop)
        cls.blobs = Blobs(cls.server)
        cls.addClassCleanup(cls.blobs.channel.close)

    def assert_stored(self, data):
        """Complete, and comes back byte for byte."""
        digest = digest_of(data)
        self.assertEqual(self.blobs.status(digest), (len(data), True))
        self.assertEqual(self.blobs.missing([digest]), [])
        back, failure = self.blobs.read(digest)
        self.assertIsNone(failure)
        self.assertTrue(back == data, "other bytes came back")

    def assert_failure(self, failure, code, reason, *names):
        self.assertIsNotNone(failure, "the call succeeded")
        self.assertEqual((failure.code, failure.reason), (code, reason), failure)
        for name in names:
            self.assertIn(name, failure.everything())

    def wait_for_committed(self, digest, size):
        self.assertIsNotNone(wait_until(lambda: self.blobs.status(digest)[0] >= size, 20),
                             f"{size} bytes were not committed")

"""Blobs over the wire: uploads that break and go on, two writers of one blob, bytes that are not
what they claim to be, a store that is full; downloads whole, in part, damaged and unread."""

import hashlib
import os
import pathlib
import subprocess
import tempfile
import threading
import time
import unittest

import grpc
import numpy as np

import messages as m
from contract import blob_grpc, blob_pb2, failure_of, tensor_pb2
from live_server import LiveServer, run_tests, wait_until

Code = grpc.StatusCode
MIB = 1 << 20
CALL_SECONDS = 60
IDLE_SECONDS = 2
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
    """A client on a connection of its own. Failures come back beside results."""

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
        """(bytes, Failure or None); offsets and checksums are asserted."""
        request = blob_pb2.ReadBlobRequest(digest=digest, offset_bytes=offset, limit_bytes=limit)
        data = bytearray()
        try:
            for response in self.stub.ReadBlob(request, timeout=CALL_SECONDS):
                part = response.chunk
                assert part.offset_bytes == offset + len(data), (part.offset_bytes, len(data))
                assert part.HasField("crc32c") and 0 < len(part.data) <= MIB
                if len(part.data) <= 4096:  # ours is slow
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
    """An upload that is sent message by message from outside."""

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


class UploadTest(BlobTestCase):
    """Bytes in."""

    def test_a_blob_comes_back(self):
        for size in (1, 4096, MIB, MIB + 1, 5 * MIB - 3):
            with self.subTest(size=size):
                data = noise(size, size)
                self.assertEqual(self.blobs.missing([digest_of(data)]), [digest_of(data)])
                answer, failure = self.blobs.write(whole(data))
                self.assertIsNone(failure)
                self.assertEqual((answer.committed_bytes, answer.complete), (size, True))
                self.assert_stored(data)

    def test_the_empty_blob_is_always_there(self):
        self.assert_stored(b"")
        answer, failure = self.blobs.write([begin(digest_of(b""))])
        self.assertIsNone(failure)
        self.assertTrue(answer.complete)

    def test_a_complete_blob_is_answered_before_anything_is_sent(self):
        data = noise(1, 3 * MIB)
        self.assertIsNone(self.blobs.write(whole(data))[1])
        upload = OpenUpload(self.blobs, [begin(digest_of(data))])  # sends nothing more
        self.assertTrue(upload.future.result(CALL_SECONDS).complete)
        upload.close()
        before = self.server.metrics().total("salient_blob_bytes_total", direction="in")
        self.assertTrue(self.blobs.write(whole(data))[0].complete)
        self.assertEqual(self.server.metrics().total("salient_blob_bytes_total", direction="in"),
                         before)

    def test_a_broken_stream_goes_on_where_it_was(self):
        data = noise(2, 6 * MIB)
        digest = digest_of(data)
        self.assertEqual(self.blobs.status(digest), (0, False))
        with Blobs(self.server) as first:
            upload = OpenUpload(first, [begin(digest), *chunks(data, 0, 3 * MIB)])
            self.wait_for_committed(digest, 3 * MIB)
            upload.future.cancel()
            upload.close()
        committed, complete = self.blobs.status(digest)
        self.assertEqual((committed, complete), (3 * MIB, False))
        self.assertEqual(self.blobs.missing([digest]), [digest])
        self.assert_failure(self.blobs.read(digest)[1], Code.NOT_FOUND, "UNKNOWN_BLOB",
                            digest.sha256)
        self.assertIsNone(self.blobs.write(whole(data, committed))[1])
        self.assert_stored(data)

    def test_closing_is_no_finish(self):
        data = noise(3, 2 * MIB)
        answer, failure = self.blobs.write([begin(digest_of(data)), *chunks(data)])
        self.assertIsNone(failure)
        self.assertEqual((answer.committed_bytes, answer.complete), (2 * MIB, False))
        self.assertEqual(self.blobs.status(digest_of(data)), (2 * MIB, False))
        answer, failure = self.blobs.write([begin(digest_of(data)), finish()])
        self.assertIsNone(failure)
        self.assert_stored(data)

    def test_a_wrong_offset_says_the_right_one(self):
        data = noise(4, 3 * MIB)
        for wrong in (0, MIB - 1, 2 * MIB, -1, 1 << 62):
            with self.subTest(offset=wrong):
                start, _ = self.blobs.status(digest_of(data))
                messages = [begin(digest_of(data)), *chunks(data, start, MIB),
                            chunk(wrong, b"x"), finish()]
                failure = self.blobs.write(messages)[1]
                self.assert_failure(failure, Code.OUT_OF_RANGE, "OFFSET", str(wrong))
                self.assertEqual(failure.metadata["committed_bytes"], str(MIB))
                self.assertIn("chunk.offset_bytes", failure.fields)
        self.assertIsNone(self.blobs.write(whole(data, MIB))[1])
        self.assert_stored(data)

    def test_a_wrong_checksum_commits_nothing(self):
        data = noise(5, 4096)
        right = m.crc32c(data[1024:])
        failure = self.blobs.write([begin(digest_of(data)), chunk(0, data[:1024]),
                                    chunk(1024, data[1024:], right ^ 1)])[1]
        self.assert_failure(failure, Code.DATA_LOSS, "CHUNK_CRC", f"0x{right:08x}")
        self.assertEqual(failure.metadata["committed_bytes"], "1024")
        self.assertEqual(self.blobs.status(digest_of(data)), (1024, False))
        self.assertIsNone(self.blobs.write([begin(digest_of(data)),
                                            chunk(1024, data[1024:], right), finish()])[1])
        self.assert_stored(data)

    def test_other_bytes_than_the_digest_says_are_discarded(self):
        data = noise(6, 2 * MIB)
        spoiled = data[:-1] + bytes([data[-1] ^ 1])
        digest = digest_of(data)
        failure = self.blobs.write([begin(digest), *chunks(spoiled), finish()])[1]
        self.assert_failure(failure, Code.INVALID_ARGUMENT, "DIGEST_MISMATCH", digest.sha256,
                            hashlib.sha256(spoiled).hexdigest())
        self.assertEqual(self.blobs.status(digest), (0, False))
        self.assertIsNone(self.blobs.write(whole(data))[1])
        self.assert_stored(data)

    def test_finish_before_the_end(self):
        data = noise(7, 2 * MIB)
        failure = self.blobs.write([begin(digest_of(data)), *chunks(data, 0, MIB), finish()])[1]
        self.assert_failure(failure, Code.INVALID_ARGUMENT, "MISSING_BYTES", str(MIB), str(2 * MIB))
        self.assertEqual(self.blobs.status(digest_of(data)), (MIB, False))

    def test_more_than_was_announced(self):
        data = noise(8, MIB)
        failure = self.blobs.write([begin(digest_of(data)), chunk(0, data + b"x")])[1]
        self.assert_failure(failure, Code.INVALID_ARGUMENT, "BAD_SHAPE", str(MIB + 1))
        self.assertEqual(self.blobs.status(digest_of(data)), (0, False))

    def test_a_chunk_above_the_limit(self):
        data = noise(9, 3 * MIB)
        failure = self.blobs.write([begin(digest_of(data)), chunk(0, data[:2 * MIB + 1])])[1]
        self.assert_failure(failure, Code.INVALID_ARGUMENT, "CHUNK_TOO_LARGE", str(2 * MIB + 1))
        answer, failure = self.blobs.write([begin(digest_of(data)), chunk(0, data[:2 * MIB]),
                                            chunk(2 * MIB, data[2 * MIB:]), finish()])
        self.assertIsNone(failure)
        self.assert_stored(data)

    def test_messages_out_of_order(self):
        digest = digest_of(noise(10, 100))
        for name, messages in {
                "nothing": [],
                "nothing set": [Request()],
                "chunk first": [chunk(0, b"x")],
                "finish first": [finish()],
                "two digests": [begin(digest), begin(digest)],
                "empty in the middle": [begin(digest), Request()]}.items():
            with self.subTest(name):
                self.assert_failure(self.blobs.write(messages)[1], Code.INVALID_ARGUMENT,
                                    "MESSAGE_ORDER", "expected")

    def test_bytes_that_are_no_message(self):
        with self.server.channel() as channel:
            for method, call in (("WriteBlob", channel.stream_unary), ("ReadBlob",
                                                                       channel.unary_stream)):
                with self.subTest(rpc=method):
                    multi = call(f"/salient.v1.BlobService/{method}")
                    noise_bytes = b"\xff\xff\xff"
                    with self.assertRaises(grpc.RpcError) as raised:
                        if method == "WriteBlob":
                            multi(iter([noise_bytes]), timeout=CALL_SECONDS)
                        else:
                            list(multi(noise_bytes, timeout=CALL_SECONDS))
                    self.assert_failure(failure_of(raised.exception), Code.INVALID_ARGUMENT,
                                        "MESSAGE_ORDER", f"{method}Request")

    def test_the_newer_writer_takes_over(self):
        data = noise(11, 4 * MIB)
        digest = digest_of(data)
        old = OpenUpload(self.blobs, [begin(digest), *chunks(data, 0, MIB)])
        self.wait_for_committed(digest, MIB)
        with Blobs(self.server) as other:
            new = OpenUpload(other, [begin(digest), *chunks(data, MIB, 2 * MIB)])
            self.wait_for_committed(digest, 2 * MIB)
            old.send(*chunks(data, 2 * MIB, 3 * MIB))
            self.assert_failure(old.failure(), Code.ABORTED, "UPLOAD_TAKEN_OVER", digest.sha256)
            new.send(*chunks(data, 2 * MIB), finish())
            self.assertIsNone(new.failure())
        self.assert_stored(data)

    def test_many_at_once(self):
        contents = [noise(100 + i, 3 * MIB + i) for i in range(12)]
        failures = []

        def upload(data):
            with Blobs(self.server) as own:
                failures.append(own.write(whole(data))[1])

        threads = [threading.Thread(target=upload, args=(data,)) for data in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [None] * len(contents))
        for data in contents:
            self.assert_stored(data)

    def test_counters(self):
        data = noise(12, 2 * MIB + 5)
        before = self.server.metrics()
        self.assertIsNone(self.blobs.write(whole(data))[1])
        self.assertIsNone(self.blobs.read(digest_of(data), MIB, 10)[1])
        after = self.server.metrics()

        def grown(name, **labels):
            return after.total(name, **labels) - before.total(name, **labels)

        self.assertEqual(grown("salient_blob_bytes_total", direction="in"), len(data))
        self.assertEqual(grown("salient_blob_bytes_total", direction="out"), 10)
        self.assertEqual(grown("salient_store_blobs"), 1)
        self.assertEqual(grown("salient_store_used_bytes"), len(data))
        self.assertEqual(grown("salient_store_uploads"), 0)
        self.assertEqual(grown("grpc_server_handled_total", grpc_method="WriteBlob",
                               grpc_code="OK"), 1)


GOOD = "0123456789abcdef" * 4
BAD_DIGESTS = {
    "empty": ("", 1),
    "short": (GOOD[:-1], 1),
    "long": (GOOD + "0", 1),
    "upper case": (GOOD.upper(), 1),
    "other letters": ("g" * 64, 1),
    "path": ("../" * 21 + "x", 1),
    "NUL": ("\0" * 64, 1),
    "negative size": (GOOD, -1),
    "least size": (GOOD, -(1 << 63)),
}


class DigestTest(BlobTestCase):
    """Names of blobs are untrusted text."""

    def test_bad_digests(self):
        for name, (sha256, size) in BAD_DIGESTS.items():
            digest = blob_pb2.Digest(sha256=sha256, size_bytes=size)
            calls = {
                "FindMissingBlobs": lambda: self.blobs.missing([digest_of(b"x"), digest]),
                "GetBlobStatus": lambda: self.blobs.status(digest),
            }
            for rpc, call in calls.items():
                with self.subTest(name, rpc=rpc), self.assertRaises(grpc.RpcError) as raised:
                    call()
                failure = failure_of(raised.exception)
                with self.subTest(name, rpc=rpc):
                    self.assert_failure(failure, Code.INVALID_ARGUMENT, "BAD_DIGEST", "expected")
                    field = "digests[1]" if rpc == "FindMissingBlobs" else "digest"
                    self.assertEqual(list(failure.fields), [field])
            for rpc, failure in (("WriteBlob", self.blobs.write([begin(digest)])[1]),
                                 ("ReadBlob", self.blobs.read(digest)[1])):
                with self.subTest(name, rpc=rpc):
                    self.assert_failure(failure, Code.INVALID_ARGUMENT, "BAD_DIGEST", "expected")
                    self.assertEqual(list(failure.fields), ["digest"])

    def test_too_many(self):
        digests = [blob_pb2.Digest(sha256=GOOD, size_bytes=i) for i in range(1001)]
        self.assertEqual(len(self.blobs.missing(digests[:1000])), 1000)
        with self.assertRaises(grpc.RpcError) as raised:
            self.blobs.missing(digests)
        self.assert_failure(failure_of(raised.exception), Code.INVALID_ARGUMENT, "BAD_DIGEST",
                            "1001", "1000")

    def test_missing_ones_keep_their_order(self):
        held = [noise(20 + i, 10) for i in range(3)]
        for data in held:
            self.assertIsNone(self.blobs.write(whole(data))[1])
        unknown = [digest_of(noise(30 + i, 10)) for i in range(3)]
        asked = [unknown[2], digest_of(held[0]), unknown[0], digest_of(held[1]), unknown[1],
                 digest_of(b"")]
        self.assertEqual(self.blobs.missing(asked), [unknown[2], unknown[0], unknown[1]])


class DownloadTest(BlobTestCase):
    """Bytes out."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = noise(40, 3 * MIB + 77)
        cls.digest = digest_of(cls.data)
        assert cls.blobs.write(whole(cls.data))[1] is None

    def test_parts(self):
        size = len(self.data)
        for offset, limit in ((0, 1), (0, MIB), (1, MIB), (MIB - 1, 2), (size - 1, 0), (size, 0),
                              (5, size), (0, 1 << 62), (2 * MIB, 0)):
            with self.subTest(offset=offset, limit=limit):
                part, failure = self.blobs.read(self.digest, offset, limit)
                self.assertIsNone(failure)
                end = size if limit == 0 else min(size, offset + limit)
                self.assertTrue(part == self.data[offset:end], "other bytes came back")

    def test_beyond_the_end(self):
        failure = self.blobs.read(self.digest, len(self.data) + 1)[1]
        self.assert_failure(failure, Code.OUT_OF_RANGE, "BAD_DIGEST", str(len(self.data) + 1))
        self.assertEqual(list(failure.fields), ["offset_bytes"])

    def test_negative_numbers(self):
        for field in ("offset", "limit"):
            failure = self.blobs.read(self.digest, **{field: -1})[1]
            self.assert_failure(failure, Code.INVALID_ARGUMENT, "BAD_DIGEST", "-1")
            self.assertEqual(list(failure.fields), [f"{field}_bytes"])

    def test_unknown_blobs(self):
        other_size = blob_pb2.Digest(sha256=self.digest.sha256, size_bytes=5)
        for digest in (digest_of(b"never sent"), other_size):
            self.assert_failure(self.blobs.read(digest)[1], Code.NOT_FOUND, "UNKNOWN_BLOB",
                                digest.sha256)


class IdleTest(BlobTestCase):
    """Clients that fall asleep."""
    FLAGS = ("--idle-seconds", str(IDLE_SECONDS))

    def test_a_writer_that_sends_nothing(self):
        data = noise(50, 2 * MIB)
        upload = OpenUpload(self.blobs, [begin(digest_of(data)), *chunks(data, 0, MIB)])
        failure = upload.failure()
        self.assert_failure(failure, Code.ABORTED, "CLIENT_IDLE")
        self.assertEqual(failure.metadata["committed_bytes"], str(MIB))
        self.assertIsNone(self.blobs.write(whole(data, MIB))[1])
        self.assert_stored(data)

    def test_readers_that_read_nothing_cost_a_chunk_each_and_are_let_go(self):
        data = noise(51, 64 * MIB)
        self.assertIsNone(self.blobs.write(whole(data))[1])
        self.assert_stored(data)  # warm
        before = self.server.rss_bytes()
        request = blob_pb2.ReadBlobRequest(digest=digest_of(data))
        stalled = [Blobs(self.server) for _ in range(16)]
        calls = [client.stub.ReadBlob(request, timeout=CALL_SECONDS) for client in stalled]
        time.sleep(IDLE_SECONDS / 2)
        grown = self.server.rss_bytes() - before
        print(f"\n  16 readers that do not read: RSS grew by {grown / MIB:.0f} MiB")
        # Each may hold what HTTP/2 lets through and a chunk, not the 64 MiB it asked for.
        self.assertLess(grown, 16 * 10 * MIB)
        ended = lambda: self.server.metrics().total("salient_errors_total",
                                                    reason="CLIENT_NOT_READING")
        self.assertIsNotNone(wait_until(lambda: ended() == 16, 30), "they were not let go")
        for call, client in zip(calls, stalled):
            with self.assertRaises(grpc.RpcError):
                list(call)
            client.channel.close()
        self.assert_stored(data)


class FullTest(BlobTestCase):
    """No room."""
    FLAGS = ("--store-bytes", str(8 * MIB))

    def test_full_and_too_large(self):
        first, second = noise(60, 6 * MIB), noise(61, 3 * MIB)
        self.assertIsNone(self.blobs.write(whole(first))[1])
        failure = self.blobs.write(whole(second))[1]
        self.assert_failure(failure, Code.RESOURCE_EXHAUSTED, "SPOOL_FULL", str(2 * MIB))
        self.assertGreater(failure.retry_after_seconds, 0)
        self.assertEqual(failure.quotas, ["store_bytes"])
        self.assertEqual(self.blobs.status(digest_of(second)), (0, False))
        huge = blob_pb2.Digest(sha256=GOOD, size_bytes=1 << 62)
        self.assert_failure(self.blobs.write([begin(huge)])[1], Code.INVALID_ARGUMENT, "BAD_DIGEST",
                            str(8 * MIB))
        self.assert_stored(first)
        metrics = self.server.metrics()
        self.assertEqual(metrics.total("salient_store_capacity_bytes"), 8 * MIB)
        self.assertEqual(metrics.total("salient_store_used_bytes"), 6 * MIB)


class DiskTest(unittest.TestCase):
    """The directory under the store."""

    def setUp(self):
        self._directory = tempfile.TemporaryDirectory(prefix="salient_store_")
        self.addCleanup(self._directory.cleanup)
        self.path = pathlib.Path(self._directory.name)

    def test_what_was_committed_survives_the_server(self):
        data, half = noise(70, 3 * MIB), noise(71, 130 * MIB)
        flags = ("--store-directory", str(self.path / "store"))
        with LiveServer(*flags) as server, Blobs(server) as blobs:
            self.assertIsNone(blobs.write(whole(data))[1])
            self.assertIsNone(blobs.write([begin(digest_of(half)), *chunks(half, 0, 100 * MIB)])[1])
            server.kill()
        with LiveServer(*flags) as server, Blobs(server) as blobs:
            self.assertEqual(blobs.status(digest_of(data)), (len(data), True))
            committed, complete = blobs.status(digest_of(half))
            self.assertEqual((committed, complete), (64 * MIB, False))
            self.assertIsNone(blobs.write(whole(half, committed))[1])
            self.assertTrue(blobs.read(digest_of(half))[0] == half)
            second = subprocess.run([os.environ["SALIENTD"], "--listen", "127.0.0.1:0",
                                     "--metrics-listen", "", *flags], capture_output=True,
                                    text=True, timeout=60)
            self.assertEqual(second.returncode, 1, second.stderr)
            self.assertIn(str(self.path / "store"), second.stderr)

    def test_a_damaged_blob_is_not_served_as_good(self):
        data = noise(72, 3 * MIB)
        digest = digest_of(data)
        with LiveServer("--store-directory", str(self.path / "store")) as server, \
                Blobs(server) as blobs:
            self.assertIsNone(blobs.write(whole(data))[1])
            file, = (self.path / "store" / "blobs").rglob(f"{digest.sha256}-*")
            with open(file, "r+b") as stored:
                stored.seek(5)
                stored.write(bytes([data[5] ^ 1]))
            back, failure = blobs.read(digest)
            self.assertLess(len(back), len(data))
            self.assertEqual((failure.code, failure.reason), (Code.DATA_LOSS, "BLOB_DAMAGED"))
            self.assertEqual(blobs.status(digest), (0, False), "it must be sent again")
            self.assertIsNone(blobs.write(whole(data))[1])
            self.assertTrue(blobs.read(digest)[0] == data)

    def test_a_full_disk(self):
        mount = self.path / "small"
        mount.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)],
                          capture_output=True).returncode != 0:
            self.skipTest("SKIPPED: may not mount a tmpfs of 8 MiB")
        self.addCleanup(subprocess.run, ["umount", "-l", str(mount)])
        first, second = noise(73, 5 * MIB), noise(74, 4 * MIB)
        with LiveServer("--store-directory", str(mount / "store")) as server, \
                Blobs(server) as blobs:
            self.assertIsNone(blobs.write(whole(first))[1])
            failure = blobs.write(whole(second))[1]
            self.assertEqual((failure.code, failure.reason),
                             (Code.RESOURCE_EXHAUSTED, "SPOOL_FULL"), failure)
            self.assertTrue(blobs.read(digest_of(first))[0] == first)
            self.assertEqual(server.health(), 1)

    def test_a_temporary_store_goes_with_the_server(self):
        environment = dict(os.environ)
        os.environ["TMPDIR"] = str(self.path)
        try:
            with LiveServer() as server, Blobs(server) as blobs:
                self.assertIsNone(blobs.write(whole(noise(75, MIB)))[1])
                self.assertEqual(len(list(self.path.glob("salient-*/blobs/sha256/*/*"))), 1)
        finally:
            os.environ.clear()
            os.environ.update(environment)
        self.assertEqual(list(self.path.glob("salient-*")), [])


class LargeTest(BlobTestCase):
    """What does not fit into memory twice."""
    SIZE = 300 * MIB

    def test_memory_stays_and_health_answers(self):
        data = noise(80, self.SIZE)
        before = self.server.rss_bytes(peak=True)
        slowest, stop = [0.0], threading.Event()

        def watch_health():
            while not stop.is_set():
                start = time.monotonic()
                self.server.health()
                slowest[0] = max(slowest[0], time.monotonic() - start)
                time.sleep(0.05)

        watcher = threading.Thread(target=watch_health)
        watcher.start()
        start = time.monotonic()
        self.assertIsNone(self.blobs.write(iter(whole(data)))[1])
        written = time.monotonic()
        back, failure = self.blobs.read(digest_of(data))
        done = time.monotonic()
        stop.set()
        watcher.join()
        self.assertIsNone(failure)
        self.assertTrue(back == data)
        grown = self.server.rss_bytes(peak=True) - before
        print(f"\n  300 MiB: in {self.SIZE / MIB / (written - start):.0f} MiB/s, out "
              f"{self.SIZE / MIB / (done - written):.0f} MiB/s, RSS grew by {grown / MIB:.0f} MiB, "
              f"slowest health {1e3 * slowest[0]:.0f} ms")
        self.assertLess(grown, 64 * MIB)
        self.assertLess(slowest[0], 2)


class DrainTest(unittest.TestCase):
    """SIGTERM in the middle of an upload."""

    def test_open_uploads_end_and_new_calls_are_refused(self):
        server = LiveServer("--drain-seconds", "20")
        data = noise(90, 2 * MIB)
        with Blobs(server) as blobs, Blobs(server) as others:
            upload = OpenUpload(blobs, [begin(digest_of(data)), *chunks(data, 0, MIB)])
            self.assertIsNotNone(wait_until(lambda: others.status(digest_of(data))[0] == MIB, 20))
            server.process.terminate()
            self.assertIsNotNone(wait_until(lambda: server.health("readiness") == 2, 20))
            for failure in (others.write(whole(data))[1], others.read(digest_of(data))[1]):
                self.assertEqual((failure.code, failure.reason), (Code.UNAVAILABLE, "DRAINING"))
                self.assertGreater(failure.retry_after_seconds, 0)
            with self.assertRaises(grpc.RpcError) as raised:
                others.status(digest_of(data))
            self.assertEqual(failure_of(raised.exception).reason, "DRAINING")
            upload.send(*chunks(data, MIB), finish())
            self.assertIsNone(upload.failure())
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    run_tests()

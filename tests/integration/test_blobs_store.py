"""Blobs that are stored: downloads whole, in part, damaged and unread; a store and a disk that are
full; 300 MiB in bounded memory; clients that fall asleep and servers that stop."""

import os
import pathlib
import subprocess
import tempfile
import threading
import time
import unittest

import grpc

from blob_client import (CALL_SECONDS, MIB, Blobs, BlobTestCase, OpenUpload, begin, chunks,
                         digest_of, finish, noise, whole)
from contract import blob_pb2, failure_of
from live_server import LiveServer, run_tests, wait_until

Code = grpc.StatusCode
SERVING, NOT_SERVING = 1, 2
IDLE_SECONDS = 2


class DownloadTest(BlobTestCase):
    """Tests bytes that go out."""

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
        self.assert_stored(data)  # It warms up.
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
    """Tests a store without room."""
    FLAGS = ("--store-bytes", str(8 * MIB))

    def test_full_and_too_large(self):
        first, second = noise(60, 6 * MIB), noise(61, 3 * MIB)
        self.assertIsNone(self.blobs.write(whole(first))[1])
        failure = self.blobs.write(whole(second))[1]
        self.assert_failure(failure, Code.RESOURCE_EXHAUSTED, "SPOOL_FULL", str(2 * MIB))
        self.assertGreater(failure.retry_after_seconds, 0)
        self.assertEqual(failure.quotas, ["store_bytes"])
        self.assertEqual(self.blobs.status(digest_of(second)), (0, False))
        huge = blob_pb2.Digest(sha256="0123456789abcdef" * 4, size_bytes=1 << 62)
        self.assert_failure(self.blobs.write([begin(huge)])[1], Code.INVALID_ARGUMENT, "BAD_DIGEST",
                            str(8 * MIB))
        self.assert_stored(first)
        metrics = self.server.metrics()
        self.assertEqual(metrics.total("salient_store_capacity_bytes"), 8 * MIB)
        self.assertEqual(metrics.total("salient_store_used_bytes"), 6 * MIB)


class DiskTest(unittest.TestCase):
    """Tests what happens to the directory under the store."""

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
            # It reads a part as well as the whole.
            with open(file, "r+b") as stored:
                stored.seek(2 * MIB)
                stored.write(bytes([data[2 * MIB] ^ 1]))
            self.assertTrue(blobs.read(digest, 0, MIB)[0] == data[:MIB])
            failure = blobs.read(digest, 2 * MIB, 1)[1]
            self.assertEqual((failure.code, failure.reason), (Code.DATA_LOSS, "BLOB_DAMAGED"))
            self.assertEqual(blobs.missing([digest]), [digest])

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
            self.assertNotIn(str(mount), failure.everything())
            # The flag says 64 GiB.
            self.assertEqual(server.metrics().total("salient_store_capacity_bytes"), 8 * MIB)
            failure = blobs.write(whole(noise(76, 9 * MIB)))[1]
            self.assertEqual((failure.code, failure.reason),
                             (Code.INVALID_ARGUMENT, "BAD_DIGEST"), failure)
            self.assertTrue(blobs.read(digest_of(first))[0] == first)
            self.assertEqual(server.health(), 1)

    def test_a_store_that_cannot_be_written(self):
        mount = self.path / "fixed"
        mount.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)],
                          capture_output=True).returncode != 0:
            self.skipTest("SKIPPED: may not mount a tmpfs of 8 MiB")
        self.addCleanup(subprocess.run, ["umount", "-l", str(mount)])
        data = noise(76, MIB)
        needs_it = ("readiness", "salient.v1.BlobService")

        def remounted(how, serving):
            subprocess.run(["mount", "-o", f"remount,{how}", str(mount)], check=True)
            return wait_until(lambda: {server.health(name) for name in needs_it} == {serving}, 30)

        with LiveServer("--store-directory", str(mount / "store")) as server, \
                Blobs(server) as blobs:
            self.assertIsNone(blobs.write(whole(data))[1])
            self.assertIsNotNone(remounted("ro", NOT_SERVING), "health does not say it")
            self.assertEqual(server.metrics().total("salient_store_writable"), 0)
            self.assertIn("the store cannot be written", server.log())
            # What needs no writing goes on.
            for name in ("", "salient.v1.QuantizationService"):
                self.assertEqual(server.health(name), SERVING)
            self.assertTrue(blobs.read(digest_of(data))[0] == data)
            self.assertIsNotNone(remounted("rw", SERVING), "health stays as it was")
            self.assertEqual(server.metrics().total("salient_store_writable"), 1)
            self.assertIsNone(blobs.write(whole(noise(77, MIB)))[1])

    def test_a_temporary_store_goes_with_the_server(self):
        environment = dict(os.environ)
        os.environ["TMPDIR"] = str(self.path)
        try:
            with LiveServer() as server, Blobs(server) as blobs:
                self.assertIsNone(blobs.write(whole(noise(75, MIB)))[1])
                kept = self.path.glob("salient.scratch-*/store/blobs/sha256/*/*")
                self.assertEqual(len(list(kept)), 1)
        finally:
            os.environ.clear()
            os.environ.update(environment)
        self.assertEqual(list(self.path.glob("salient*")), [])


class LargeTest(BlobTestCase):
    """Tests what does not fit into memory twice."""
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
    """Sends SIGTERM in the middle of an upload."""

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

"""Blobs over the wire: uploads that break and go on, two writers of one blob, bytes that are not
what they claim to be, and names that are none."""

import hashlib
import threading

import grpc

import messages as m
from blob_client import (CALL_SECONDS, MIB, Blobs, BlobTestCase, OpenUpload, Request, begin, chunk,
                         chunks, digest_of, finish, noise, whole)
from contract import blob_pb2, failure_of
from live_server import run_tests

Code = grpc.StatusCode


class UploadTest(BlobTestCase):
    """Tests bytes that come in."""

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
        upload = OpenUpload(self.blobs, [begin(digest_of(data))])  # It sends nothing more.
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
        _, failure = self.blobs.write([begin(digest_of(data)), chunk(0, data[:2 * MIB]),
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

    def test_a_writer_at_work_is_not_disturbed(self):
        data = noise(11, 4 * MIB)
        digest = digest_of(data)
        garbage = bytes(len(data))
        old = OpenUpload(self.blobs, [begin(digest), *chunks(data, 0, MIB)])
        self.wait_for_committed(digest, MIB)
        with Blobs(self.server) as stranger:
            failure = stranger.write([begin(digest), *chunks(garbage, MIB), finish()])[1]
            self.assert_failure(failure, Code.ABORTED, "UPLOAD_TAKEN_OVER", digest.sha256)
            self.assertGreater(failure.retry_after_seconds, 0)
            failure = stranger.write([begin(digest), *chunks(garbage), finish()])[1]
            self.assert_failure(failure, Code.INVALID_ARGUMENT, "DIGEST_MISMATCH", digest.sha256)
        self.assertEqual(self.blobs.status(digest), (MIB, False))
        old.send(*chunks(data, MIB), finish())
        self.assertIsNone(old.failure())
        self.assert_stored(data)

    def test_wrong_bytes_behind_what_another_sent_are_cut_off(self):
        data = noise(13, 4 * MIB)
        digest = digest_of(data)
        self.assertIsNone(self.blobs.write([begin(digest), *chunks(data, 0, 2 * MIB)])[1])
        failure = self.blobs.write([begin(digest), *chunks(bytes(len(data)), 2 * MIB), finish()])[1]
        self.assert_failure(failure, Code.INVALID_ARGUMENT, "DIGEST_MISMATCH", digest.sha256)
        self.assertEqual(self.blobs.status(digest), (2 * MIB, False))
        self.assertIsNone(self.blobs.write(whole(data, 2 * MIB))[1])
        self.assert_stored(data)

    def test_who_finishes_first_finishes_for_both(self):
        data = noise(14, 4 * MIB)
        digest = digest_of(data)
        slow = OpenUpload(self.blobs, [begin(digest), *chunks(data, 0, MIB)])
        self.wait_for_committed(digest, MIB)
        with Blobs(self.server) as quick:
            self.assertIsNone(quick.write(whole(data))[1])
        slow.send(*chunks(data, MIB, 2 * MIB))
        self.assertIsNone(slow.failure())
        self.assertTrue(slow.future.result().complete)
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


if __name__ == "__main__":
    run_tests()

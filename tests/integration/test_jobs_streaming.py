"""Streaming is real: results of the first block are read before the last byte of the model is sent.
And they are provisional: when that byte is wrong, they go away, and the job waits for the right one."""

import unittest

import grpc

import job_models as models
from job_client import (FAILED, QUEUED, RUNNING, SUCCEEDED, HeldUpload, JobClient, digest_of, key_of,
                        manifest, quantize)
from job_server import JobServer
from live_server import run_tests, wait_until

FIRST_BLOCK = "model.layers.0."


def undisturbed(files, tokens):
    """Returns the outcome on a server that knows nothing else."""
    with JobServer() as server:
        spec = quantize(manifest(files), server.client.upload(tokens))
        return server.client.run(spec, files.values())


class WithheldByteTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = models.pocket_llama_checkpoint().files(shards=3)
        cls.last_shard = sorted(n for n in cls.files if n.endswith(".safetensors"))[-1]
        cls.tokens = models.token_file(models.pocket_tokens(rows=4, tokens=128))
        cls.want = undisturbed(cls.files, cls.tokens)
        assert cls.want.job.state == SUCCEEDED, cls.want.failure

    def setUp(self):
        self.server = JobServer()
        self.addCleanup(self.server.stop)
        self.client = self.server.client
        # The upload has a connection of its own, as another process would.
        self.upload_channel = self.server.channel()
        self.addCleanup(self.upload_channel.close)

    def begin(self, inline=True):
        """Returns a job, created before any byte of the model, and all of it uploaded but one byte.

        Returns (job name, held upload, events up to the first tensor of block 0).
        """
        source = manifest(self.files) if inline else manifest(
            self.files, lambda name, data: data if name in ("config.json", models.INDEX) else b"")
        job = self.client.create(quantize(source, self.client.upload(self.tokens)))
        self.assertIn(job.state, (QUEUED, RUNNING))
        self.assertTrue(job.missing)
        held = HeldUpload(JobClient(self.upload_channel), self.files[self.last_shard])
        for name, data in self.files.items():
            if name != self.last_shard:
                self.client.upload(data)
        held.start()
        self.addCleanup(held.release)
        events = []
        for event in self.client.watch(job.name):
            events.append(event)
            ready = event.tensor_ready
            if ready.header.name.startswith(FIRST_BLOCK):
                return job.name, held, events
        self.fail(f"no tensor of block 0 before the last byte: {self.client.get(job.name)}")

    def check_provisional(self, job_name, held, events):
        """Block 0's tensor is there, whole, and the last byte is not."""
        ready = events[-1].tensor_ready
        self.assertTrue(ready.provisional)
        data = self.client.read(ready.digest)  # It verifies it.
        self.assertEqual(key_of(digest_of(data)), self.want.tensors[ready.header.name])
        self.assertFalse(held.released)
        status = self.client.blob_status(held.digest)
        self.assertFalse(status.complete)
        self.assertLess(status.committed_bytes, held.digest.size_bytes)
        job = self.client.get(job_name)
        self.assertEqual(job.state, RUNNING)
        self.assertTrue(job.provisional)
        self.assertIn(key_of(held.digest), {key_of(d) for d in job.missing})

    def run_to_the_end(self, inline):
        name, held, events = self.begin(inline)
        self.check_provisional(name, held, events)
        held.release()
        self.assertIsNone(held.failure)
        outcome = self.client.finish(name, events)
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertFalse(outcome.job.provisional)
        self.assertEqual(outcome.files, self.want.files)
        self.assertEqual(outcome.tensors, self.want.tensors)
        self.assertEqual(set(self.client.read_files(outcome.job)), set(self.want.files))

    def test_block_0_is_read_before_the_last_byte_is_sent(self):
        self.run_to_the_end(inline=True)

    def test_headers_are_read_from_the_files_that_arrive(self):
        self.run_to_the_end(inline=False)

    def test_a_wrong_last_byte_takes_everything_back(self):
        name, held, events = self.begin()
        self.check_provisional(name, held, events)
        right = self.files[self.last_shard][-1:]
        held.release(bytes([right[0] ^ 0xFF]))
        self.assertIsNotNone(held.failure)
        self.assertEqual((held.failure.code, held.failure.reason),
                         (grpc.StatusCode.INVALID_ARGUMENT, "DIGEST_MISMATCH"), held.failure)

        # The job takes back what it told of, waits for good bytes, and begins anew with them.
        announced = []
        for event in self.client.watch(name):
            if event.WhichOneof("event") == "tensor_ready":
                announced.append(event.tensor_ready)
            if self.last_shard in event.warning:
                break
        self.assertTrue(announced)
        for ready in announced:
            self.assertFalse(self.client.can_read(ready.digest), ready.header.name)
        job = self.client.get(name)
        self.assertEqual(job.state, RUNNING)
        self.assertEqual([key_of(d) for d in job.missing], [key_of(held.digest)])
        self.assertEqual(self.client.blob_status(held.digest).committed_bytes, 0)
        self.client.upload(self.files[self.last_shard])
        outcome = self.client.finish(name)
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertEqual(outcome.files, self.want.files)
        self.assertFalse(outcome.job.provisional)

    def test_a_client_that_dies_may_go_on_elsewhere(self):
        """The stream breaks before the last byte; another one brings it."""
        name, held, events = self.begin()
        committed = wait_until(lambda: self.client.blob_status(held.digest).committed_bytes ==
                               held.digest.size_bytes - 1, 20)
        self.assertIsNotNone(committed)
        self.upload_channel.close()
        self.client.upload(self.files[self.last_shard])
        outcome = self.client.finish(name, events)
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertEqual(outcome.files, self.want.files)

    def test_events_of_a_running_job_survive_reconnects(self):
        name, held, events = self.begin()
        held.release()
        outcome = self.client.finish(name, events, reconnect_every=3)
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertEqual(outcome.tensors, self.want.tensors)
        self.assertEqual(len(outcome.of("group_report")), len(self.want.of("group_report")))
        revisions = [e.revision for e in outcome.events]
        self.assertEqual(revisions, sorted(set(revisions)))


class RottenShardTest(unittest.TestCase):
    """A bit flips in a stored shard: the job says where, and the shard is asked for again."""

    def test_a_bit_that_flipped_fails_the_job(self):
        files = models.pocket_llama_checkpoint().files(shards=3)
        tokens = models.token_file(models.pocket_tokens(rows=2, tokens=64))
        shard = sorted(n for n in files if n.endswith(".safetensors"))[1]
        digest = digest_of(files[shard])
        with JobServer() as server:
            client = server.client
            for data in (tokens, *files.values()):
                client.upload(data)
            names = lambda: {p.name for p in (server.store / "blobs").rglob("*") if p.is_file()}
            blobs = names()
            (stored,) = (server.store / "blobs").rglob(f"{digest.sha256}-*")
            with open(stored, "r+b") as file:
                file.seek(digest.size_bytes - 100)
                byte = file.read(1)
                file.seek(-1, 1)
                file.write(bytes([byte[0] ^ 0x10]))
            job = client.create(quantize(manifest(files), digest_of(tokens)))
            outcome = client.finish(job.name)
            self.assertEqual(outcome.job.state, FAILED)
            failure = outcome.failure
            self.assertEqual((failure.code, failure.reason),
                             (grpc.StatusCode.DATA_LOSS, "BLOB_DAMAGED"), failure)
            for part in (shard, "tensor model.", digest.sha256):
                self.assertIn(part, failure.everything())
            self.assertNotIn(str(server.store), failure.everything())
            self.assertEqual(names(), blobs - {stored.name})
            self.assertTrue((server.store / "quarantine" / stored.name).exists())
            again = client.create(quantize(manifest(files), digest_of(tokens)))
            self.assertEqual([key_of(d) for d in again.missing], [key_of(digest)])
            client.upload(files[shard])
            outcome = client.finish(again.name)
            self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)


if __name__ == "__main__":
    run_tests()

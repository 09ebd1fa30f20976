"""Holds what tests of jobs share: a server, a small good job, and what a refusal must look like."""

import unittest

import grpc

import job_models as models
from contract import failure_of
from job_client import manifest, quantize
from job_server import JobServer


def failure(call, *args, **kwargs):
    """Returns the Failure of a call that must not succeed."""
    try:
        answer = call(*args, **kwargs)
    except grpc.RpcError as error:
        return failure_of(error)
    raise AssertionError(f"succeeded: {str(answer)[:300]}")


def content(event):
    """Returns what two watchers must see alike."""
    return event.revision, event.WhichOneof("event"), event.SerializeToString(deterministic=True)


class JobCase(unittest.TestCase):
    """Takes one server a class: its jobs are told apart by what they are."""

    @classmethod
    def setUpClass(cls):
        cls.server = JobServer()
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client
        cls.files = models.random_llama(seed=21).files()
        cls.tokens = models.token_file(models.random_tokens(4, 64, 256))
        cls.digest = cls.client.upload(cls.tokens)
        cls.spec = quantize(manifest(cls.files), cls.digest)

    def absent_spec(self, seed):
        """Returns a job whose weights nobody uploads: it waits."""
        return quantize(manifest(models.random_llama(seed=seed).files()), self.digest)

    def assert_fails(self, failed, code, reason, *names):
        self.assertEqual((failed.code, failed.reason), (code, reason), failed)
        for name in names:
            self.assertIn(name, failed.everything())

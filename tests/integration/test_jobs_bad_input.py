"""Tests bad models and bad tokens: each gets its code, its reason and the name of what is at fault, whether
it comes as blobs or from a directory; no output appears, nothing stays behind, and the next good job
on the same server gives the same bytes."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

import numpy as np

import bad_shards
import job_models as models
from bad_models import CASES, IDS, INVALID, MODEL, SHARD, Case, whole
from contract import ERROR_DOMAIN
from job_client import (SUCCEEDED, JobClient, Outcome, digest_of, inline_content, manifest,
                        model_path, quantize)
from job_server import JobServer
from live_server import run_tests

BAD_INPUT_EXIT = 42  # It is that of the command line.


class BadModelTest(unittest.TestCase):
    """One method a case is added below."""

    client: JobClient
    good: dict
    want: dict

    @classmethod
    def setUpClass(cls):
        cls.server = JobServer(workers=2)
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client
        cls.good = MODEL.files()
        cls.want = cls.run_good().files
        cls.paths = 0

    @classmethod
    def tearDownClass(cls):
        assert cls.run_good().files == cls.want, "bad input changed what a good job gives"

    @classmethod
    def run_good(cls) -> Outcome:
        """Returns a job of its own each time: the one before is deleted."""
        tokens = cls.client.upload(models.token_file(IDS))
        outcome = cls.client.run(quantize(manifest(cls.good), tokens), cls.good.values())
        assert outcome.job.state == SUCCEEDED, outcome.failure
        cls.client.delete(outcome.job.name)
        return outcome

    def run_case(self, spoilt):
        files, tokens, task = whole(spoilt.make())
        only_texts = lambda name, data: b"" if name.endswith(".safetensors") else inline_content(
            name, data)
        with self.subTest(source="blobs, headers inline"):
            self.check(spoilt, manifest(files), files, tokens, task, spoilt.at_once)
        with self.subTest(source="blobs"):
            self.check(spoilt, manifest(files, only_texts), files, tokens, task, False)
        with self.subTest(source="path"):
            type(self).paths += 1
            path = self.server.add_model(f"bad-{self.paths}", files)
            self.check(spoilt, model_path(path), {}, tokens, task, spoilt.at_once)

    def check(self, spoilt, source, files, tokens, task, at_once):
        digest = self.client.upload(tokens)
        spec = quantize(source, digest, output_path="never", **task)
        failure, where = self.client.failure(spec, files.values())
        if failure is None:
            shutil.rmtree(self.server.outputs / "never")
        self.assertIsNotNone(failure, "the job succeeded")
        self.assertTrue(self.server.alive(), self.server.log())
        self.assertEqual((failure.code, failure.reason), (spoilt.code, spoilt.reason), failure)
        self.assertEqual(failure.domain, ERROR_DOMAIN)
        for name in spoilt.names:
            self.assertIn(name, failure.everything())
        if at_once:
            self.assertEqual(where, "CreateJob", failure)
        if self.server.output("never"):
            shutil.rmtree(self.server.outputs / "never")
            self.fail("a failed job left its output directory")
        self.assertEqual(self.server.leftovers(), [])


for _name, _case in CASES.items():
    setattr(BadModelTest, f"test_{_name}", lambda self, spoilt=_case: self.run_case(spoilt))


class OddModelTest(BadModelTest):
    """Tests what is unusual and yet allowed."""

    run_case = None  # type: ignore[assignment]

    def quantize(self, files):
        digest = self.client.upload(models.token_file(IDS))
        outcome = self.client.run(quantize(manifest(files), digest), files.values())
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        return outcome

    def test_an_odd_header_changes_nothing(self):
        odd = {**self.good, SHARD: bad_shards.odd_but_good(self.good[SHARD])}
        self.assertNotEqual(digest_of(odd[SHARD]), digest_of(self.good[SHARD]))
        self.assertEqual(self.quantize(odd).files, self.want)

    def test_a_tensor_named_like_a_path_goes_nowhere(self):
        """Names are names. Old checkpoints have tensors nobody needs; this one would escape."""
        for name in ("../../escaped", "/tmp/salient-escaped", "a/../../b", "model.layers.0.\n"):
            with self.subTest(name=name):
                files = MODEL.with_tensor(name, np.ones(2, np.float16)).files()
                outcome = self.quantize(files)
                self.assertEqual(outcome.files, self.want)
                self.assertNotIn(name, outcome.tensors)
        self.assertFalse(os.path.exists("/tmp/salient-escaped"))
        self.assertEqual(sorted(p.name for p in self.server.root.iterdir()),
                         ["models", "outputs", "store"])

    def test_one_kept_linear_is_listed(self):
        files = models.random_llama(intermediate=184).files()
        outcome = self.quantize(files)
        warnings = " ".join(outcome.of("warning"))
        self.assertIn("down_proj", warnings)
        config = json.loads(self.client.read_files(outcome.job)["config.json"])
        kept = config["quantization_config"]["modules_to_not_convert"]
        self.assertEqual(sorted(kept), [f"model.layers.{i}.mlp.down_proj" for i in range(2)])
        self.assertIn("model.layers.0.mlp.down_proj.weight", outcome.tensors)


for _name in CASES:  # Inherited cases run once.
    setattr(OddModelTest, f"test_{_name}", None)


class CommandLineTest(unittest.TestCase):
    """Tests the same through `salient quantize`: exit code, one clear line, no output directory."""

    CASES = ("shard_overlap", "shard_header_beyond_the_file", "shard_bytes_missing", "no_weight",
             "weight_with_fewer_columns", "nan_in_a_weight", "config_without_hidden_size",
             "config_that_is_no_json", "no_config", "unknown_architecture",
             "index_names_an_absent_shard", "index_leads_above", "every_linear_would_be_kept",
             "tokens_beyond_the_vocabulary", "tokens_under_another_name",
             "tokens_that_are_no_safetensors")

    def setUp(self):
        self.program = os.environ.get("SALIENT", "")
        if not os.access(self.program, os.X_OK):
            self.skipTest(f"SALIENT={self.program!r} is no program")

    def quantize(self, directory, spoilt):
        files, tokens, task = whole(spoilt.make())
        model = models.write(files, f"{directory}/model")
        (model.parent / "tokens.safetensors").write_bytes(tokens)
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in task.items()]
        return subprocess.run(
            [self.program, "quantize", "model", "out", "--calibration", "tokens.safetensors",
             *flags], cwd=directory, capture_output=True, text=True, timeout=120)

    def test_bad_input(self):
        for name in self.CASES:
            spoilt = CASES[name]
            with self.subTest(name), tempfile.TemporaryDirectory() as directory:
                done = self.quantize(directory, spoilt)
                self.assertEqual(done.returncode, BAD_INPUT_EXIT, done.stderr)
                lines = done.stderr.strip().splitlines()
                errors = [line for line in lines if line.startswith("salient")]
                self.assertEqual(len(errors), 1, done.stderr)
                for named in spoilt.names:
                    self.assertIn(named, errors[0])
                self.assertEqual(sorted(os.listdir(directory)), ["model", "tokens.safetensors"])

    def test_good_input(self):
        """So that the cases above cannot pass because nothing works."""
        good = Case(MODEL.files, INVALID, "", (), True)
        with tempfile.TemporaryDirectory() as directory:
            done = self.quantize(directory, good)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("model.safetensors", os.listdir(f"{directory}/out"))


if __name__ == "__main__":
    run_tests()

"""Tests the study of salient channels as a job: its numbers are those that NumPy computes from the same
files, and bad ones are refused when the job is created."""

import unittest

import grpc

import job_models as models
from contract import job_pb2
from job_client import SUCCEEDED, manifest, model_path
from job_server import JobServer
from live_server import run_tests

import llama_np
import salient_fp16_np

ROWS = 6
CALIBRATION_ROWS = 4
CHOICES = {job_pb2.SALIENT_CHOICE_NONE: "none", job_pb2.SALIENT_CHOICE_WEIGHT: "weight",
           job_pb2.SALIENT_CHOICE_RANDOM: "random", job_pb2.SALIENT_CHOICE_ACTIVATION: "activation"}


def study(model, calibration, evaluation, **fields):
    """Returns the JobSpec of a StudyTask."""
    spec = job_pb2.JobSpec(model=model)
    spec.study.CopyFrom(job_pb2.StudyTask(**fields))
    if calibration is not None:
        spec.study.calibration.tokens.CopyFrom(calibration)
    if evaluation is not None:
        spec.study.evaluation.tokens.CopyFrom(evaluation)
    return spec


class StudyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = JobServer()
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client
        cls.source = models.pocket_llama()
        cls.source_path = cls.server.add_model("source", cls.source)
        cls.calibration_rows = models.pocket_tokens(rows=CALIBRATION_ROWS)
        cls.rows = models.pocket_tokens("evaluation", rows=ROWS)
        cls.calibration = cls.client.upload(models.token_file(cls.calibration_rows))
        cls.evaluation = cls.client.upload(models.token_file(cls.rows))
        cls.model = llama_np.Llama.load(models.POCKET_LLAMA)

    def spec(self, model=None, **fields):
        return study(model or model_path(self.source_path), self.calibration, self.evaluation,
                     **fields)

    def run_job(self, spec, blobs=()):
        outcome = self.client.run(spec, blobs)
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertEqual(self.server.leftovers(), [])
        self.assertFalse(outcome.files)
        return outcome

    def check(self, found, want):
        self.assertEqual([CHOICES[row.choice] for row in found.rows], list(CHOICES.values()))
        scores = {CHOICES[row.choice]: row.score for row in found.rows} | {"source": found.source}
        for name, score in scores.items():
            with self.subTest(name):
                print(f"\n  {name}: perplexity {score.perplexity:.5f}, NumPy"
                      f" {want[name]['perplexity']:.5f}; KL {score.kl:.6f}, {want[name]['kl']:.6f}",
                      end="")
                self.assertAlmostEqual(score.perplexity / want[name]["perplexity"], 1, delta=1e-4)
                self.assertEqual(score.token_count, ROWS * 255)
                if name != "source":
                    self.assertAlmostEqual(score.kl / want[name]["kl"], 1, delta=2e-3)
        for row in found.rows:
            known = want[CHOICES[row.choice]]["relative_error"]
            self.assertAlmostEqual(row.relative_output_error / known, 1, delta=1e-3)

    def test_defaults(self):
        """3 bits, groups of 128, 1 %; the arithmetic of calibration is NumPy's."""
        found = self.run_job(self.spec(compute_dtype=job_pb2.COMPUTE_DTYPE_F32)).job.study
        self.check(found, salient_fp16_np.study(self.model, self.calibration_rows, self.rows))

    def test_everything_else(self):
        spec = self.spec(manifest(self.source), compute_dtype=job_pb2.COMPUTE_DTYPE_F32,
                         salient_share=0.05, seed=3)
        spec.study.format.bits = 2
        spec.study.format.group_size = -1
        found = self.run_job(spec, self.source.values()).job.study
        self.check(found, salient_fp16_np.study(self.model, self.calibration_rows, self.rows,
                                                share=0.05, bits=2, group_size=-1, seed=3))

    def test_what_it_says_on_its_way(self):
        outcome = self.run_job(self.spec())
        stages = {progress.stage for progress in outcome.of("progress")}
        self.assertIn(job_pb2.Progress.STAGE_CALIBRATE, stages)
        self.assertFalse(outcome.job.HasField("evaluation"))
        self.assertIn("bf16", outcome.job.numerics_id)
        self.assertGreater(outcome.job.estimate.seconds, 0)
        usage = outcome.job.usage
        self.assertEqual(usage.parameters, models.pocket_llama_checkpoint().parameters)
        self.assertEqual(usage.bytes_in, 2 * usage.parameters)
        (listed,) = [job for job in self.client.list().jobs if job.name == outcome.job.name]
        self.assertFalse(listed.HasField("study"))

    def test_what_cannot_be_studied_is_refused_at_once(self):
        def spoiled(change):
            spec = self.spec()
            change(spec.study)
            return spec

        cases = {
            "share": (lambda s: setattr(s, "salient_share", 1.01), "BAD_JOB", "salient_share"),
            "negative": (lambda s: setattr(s, "salient_share", -0.01), "BAD_JOB", "salient_share"),
            "nan": (lambda s: setattr(s, "salient_share", float("nan")), "BAD_JOB", "nan"),
            "calibration": (lambda s: s.ClearField("calibration"), "BAD_JOB", "calibration"),
            "evaluation": (lambda s: s.ClearField("evaluation"), "BAD_JOB", "evaluation"),
            "bits": (lambda s: setattr(s.format, "bits", 1), "BAD_FORMAT", "bits"),
            "group": (lambda s: setattr(s.format, "group_size", -2), "BAD_FORMAT", "group_size"),
            "divisor": (lambda s: setattr(s.format, "group_size", 1000), "BAD_FORMAT",
                        "nothing to quantize"),
        }
        for name, (change, reason, says) in cases.items():
            with self.subTest(name):
                failure, where = self.client.failure(spoiled(change))
                self.assertEqual((failure.code, failure.reason, where),
                                 (grpc.StatusCode.INVALID_ARGUMENT, reason, "CreateJob"), failure)
                self.assertIn(says, failure.message)

    def test_rows_of_one_token(self):
        """A row of one token predicts nothing; it is said before anything is run."""
        spec = self.spec()
        spec.study.evaluation.tokens.CopyFrom(
            self.client.upload(models.token_file(self.rows[:, :1])))
        failure, where = self.client.failure(spec)
        self.assertEqual((failure.code, failure.reason, where),
                         (grpc.StatusCode.INVALID_ARGUMENT, "BAD_TOKENS", "CreateJob"), failure)
        self.assertIn("row 0 has 1 tokens", failure.message)
        self.assertIn("study.evaluation.tokens", failure.fields)

    def test_a_weight_that_is_missing(self):
        """As of a model that is quantized already."""
        files = models.pocket_llama_checkpoint().without_tensor(
            "model.layers.2.mlp.up_proj.weight").files()
        spec = self.spec(model_path(self.server.add_model("packed", files)))
        failure, where = self.client.failure(spec)
        self.assertEqual((failure.reason, where), ("BAD_MODEL", "CreateJob"), failure)
        self.assertIn("model.layers.2.mlp.up_proj.weight", failure.message)


if __name__ == "__main__":
    run_tests()

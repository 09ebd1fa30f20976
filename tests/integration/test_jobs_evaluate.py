"""Tests evaluation as a job: its numbers are those that NumPy computes from the same files."""

import pathlib
import tempfile
import unittest

import grpc

import job_models as models
from contract import job_pb2
from job_client import SUCCEEDED, manifest, model_path, quantize
from job_server import JobServer
from live_server import run_tests

import evaluate_np

ROWS = 8


def evaluate(model, tokens, reference=None, max_rows=0, round_to_nearest=None):
    """Returns the JobSpec of an EvaluateTask."""
    spec = job_pb2.JobSpec(model=model)
    spec.evaluate.tokens.tokens.CopyFrom(tokens)
    spec.evaluate.tokens.max_rows = max_rows
    if reference is not None:
        spec.evaluate.reference.CopyFrom(reference)
    if round_to_nearest is not None:
        spec.evaluate.round_to_nearest.bits = round_to_nearest
    return spec


class EvaluateTest(unittest.TestCase):
    """pocket-llama and what a quantize job made of it."""

    @classmethod
    def setUpClass(cls):
        cls.server = JobServer()
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client
        cls.source = models.pocket_llama()
        cls.source_path = cls.server.add_model("source", cls.source)
        calibration = cls.client.upload(models.token_file(models.pocket_tokens(rows=ROWS)))
        outcome = cls.client.run(quantize(model_path(cls.source_path), calibration))
        assert outcome.job.state == SUCCEEDED, outcome.failure
        cls.result = cls.client.read_files(outcome.job)
        cls.result_path = cls.server.add_model("result", cls.result)
        cls.rows = models.pocket_tokens("evaluation", rows=ROWS)
        cls.tokens = cls.client.upload(models.token_file(cls.rows))
        with tempfile.TemporaryDirectory() as directory:
            written = models.write(cls.result, pathlib.Path(directory) / "result")
            cls.want = evaluate_np.evaluate(written, cls.rows, models.POCKET_LLAMA)

    def run_job(self, spec, blobs=()):
        outcome = self.client.run(spec, blobs)
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertEqual(self.server.leftovers(), [])
        self.assertFalse(outcome.files)
        return outcome.job.evaluation

    def check(self, evaluation):
        want = self.want
        print(f"\n  perplexity {evaluation.reference.perplexity:.5f} -> "
              f"{evaluation.model.perplexity:.5f}, round to nearest "
              f"{evaluation.round_to_nearest.perplexity:.5f}; NumPy {want['source']['perplexity']:.5f}"
              f" -> {want['result']['perplexity']:.5f}, {want['rtn']['perplexity']:.5f}")
        for name, score in (("result", evaluation.model), ("source", evaluation.reference),
                            ("rtn", evaluation.round_to_nearest)):
            with self.subTest(name):
                self.assertAlmostEqual(score.perplexity, want[name]["perplexity"], delta=1e-3)
                self.assertEqual(score.token_count, ROWS * 255)
        self.assertAlmostEqual(evaluation.model.kl, want["kl"], delta=1e-4)
        self.assertAlmostEqual(evaluation.model.top1_agreement, want["top1_agreement"], delta=2e-3)
        self.assertEqual(len(evaluation.model.layer_errors), 4)
        self.assertTrue(all(0 < e < 0.1 for e in evaluation.model.layer_errors))
        self.assertEqual(evaluation.reference.kl, 0)

    def test_directories(self):
        spec = evaluate(model_path(self.result_path), self.tokens, model_path(self.source_path))
        self.check(self.run_job(spec))

    def test_blobs(self):
        spec = evaluate(manifest(self.result), self.tokens, manifest(self.source))
        self.check(self.run_job(spec, [*self.result.values(), *self.source.values()]))

    def test_one_model_alone(self):
        evaluation = self.run_job(evaluate(model_path(self.source_path), self.tokens))
        self.assertAlmostEqual(evaluation.model.perplexity, self.want["source"]["perplexity"],
                               delta=1e-3)
        self.assertFalse(evaluation.HasField("reference"))
        self.assertFalse(evaluation.HasField("round_to_nearest"))

    def test_first_rows(self):
        one = self.run_job(evaluate(model_path(self.source_path), self.tokens, max_rows=1))
        self.assertEqual(one.model.token_count, 255)

    def test_models_that_cannot_be_compared(self):
        other = self.server.add_model("other", models.random_llama().files())
        spec = evaluate(model_path(self.source_path), self.tokens, model_path(other))
        failure, _ = self.client.failure(spec)
        self.assertEqual((failure.code, failure.reason),
                         (grpc.StatusCode.INVALID_ARGUMENT, "BAD_MODEL"), failure)

    def test_rows_of_one_token(self):
        """A row of one token predicts nothing."""
        tokens = self.client.upload(models.token_file(self.rows[:, :1]))
        failure, _ = self.client.failure(evaluate(model_path(self.source_path), tokens))
        self.assertEqual((failure.code, failure.reason),
                         (grpc.StatusCode.INVALID_ARGUMENT, "BAD_TOKENS"), failure)
        self.assertIn("row 0 has 1 tokens", failure.message)


if __name__ == "__main__":
    run_tests()

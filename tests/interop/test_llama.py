"""The whole of a real model through a live server, by a caller with a framework of its own.

Errors, perplexity and KL are computed here, from the written files, by readers that share no code
with Salient.
"""

import json
import os
import tempfile
import unittest

import numpy as np

import paths
import llama
import run_tests
import salient_variant
from live_server import LiveServer
from shared_models import shared

# What an independent implementation of the same method measured on pocket-llama-salient, 4 bit,
# group 128, 64 calibration rows: relative output error on those rows and on 16 evaluation rows.
TABLE = {
    "rtn": (0.00673, 0.00682),
    "awq": (0.00435, 0.00436),
    "awq+clip": (0.00347, 0.00345),
    "block128-rounding": (0.00280, 0.00282),
    "block128": (0.00255, 0.00257),
    "block256": (0.00217, 0.00222),
}


def setUpModule():
    global server
    server = LiveServer()


def tearDownModule():
    server.stop()


class Model:
    """A checkpoint, its tokens, and the directory its results go to."""

    def __init__(self, directory, calibration, evaluation, rows):
        self.directory = directory
        self.calibration = llama.read_tokens(calibration, rows)
        self.judge = llama.Judge(
            directory, self.calibration, llama.read_tokens(evaluation, 0)
        )

    def quantize(self, method):
        """(server's reports, verdict on the written directory)."""
        with tempfile.TemporaryDirectory() as directory:
            output = os.path.join(directory, "awq")
            results, _ = llama.quantize(
                self.directory, self.calibration, server.address, output, method
            )
            return results, self.judge.judge(output, results)


def mean(errors):
    return float(np.mean(list(errors.values())))


class EveryModel:
    def check_reports(self, results, verdict):
        """The losses that the server reported are those of the bytes it sent."""
        for name, error in verdict["errors"]["calibration"].items():
            report = results[name].report
            self.assertTrue(report.exact_loss, name)
            self.assertLess(report.relative_output_error, report.relative_output_error_rtn, name)
            if name.endswith((".o", ".down")):  # the others were folded before they were sent
                self.assertAlmostEqual(error / report.relative_output_error, 1, delta=1e-3)

    def check_never_worse(self, verdict):
        for name, error in verdict["errors"]["calibration"].items():
            self.assertLess(error, verdict["errors_rtn"]["calibration"][name], name)


class CommittedModel(EveryModel, unittest.TestCase):
    def run_model(self, directory):
        model = Model(
            directory,
            paths.POCKET_LLAMA / "calibration_open.safetensors",
            paths.POCKET_LLAMA / "evaluation_open.safetensors",
            rows=32,
        )
        results, verdict = model.quantize("block256")
        self.assertEqual(len(results), 16)
        self.check_reports(results, verdict)
        self.check_never_worse(verdict)
        print(json.dumps(verdict["quality"], indent=1))
        return verdict

    def test_model_with_salient_channels(self):
        with tempfile.TemporaryDirectory() as directory:
            variant = os.path.join(directory, "salient")
            salient_variant.write(paths.POCKET_LLAMA, variant)
            verdict = self.run_model(variant)
        quality = verdict["quality"]
        self.assertAlmostEqual(quality["source"]["perplexity"], 20.3436, delta=0.01)
        self.assertLess(quality["result"]["kl"], 0.5 * quality["rtn"]["kl"])
        self.assertLess(quality["result"]["perplexity"], quality["rtn"]["perplexity"])
        for part in ("calibration", "evaluation"):
            self.assertLess(
                mean(verdict["errors"][part]), 0.5 * mean(verdict["errors_rtn"][part]), part
            )

    def test_model_as_trained(self):
        verdict = self.run_model(str(paths.POCKET_LLAMA))
        quality = verdict["quality"]
        self.assertLess(quality["result"]["kl"], 0.75 * quality["rtn"]["kl"])
        for part in ("calibration", "evaluation"):
            self.assertLess(
                mean(verdict["errors"][part]), 0.6 * mean(verdict["errors_rtn"][part]), part
            )


class PublishedTable(EveryModel, unittest.TestCase):
    """Six methods on the salient model, row by row."""

    def test_every_row(self):
        directory = shared("models", "pocket-llama-salient")
        tokens = lambda kind: shared("data", "pocket-llama", f"{kind}.safetensors")
        model = Model(directory, tokens("calibration"), tokens("evaluation"), rows=64)
        print(f"{'':18} {'perplexity':>10} {'KL':>8} {'calibr.':>8} {'evaluat.':>8}")
        for method, expected in TABLE.items():
            with self.subTest(method):
                results, verdict = model.quantize(method)
                quality, errors = verdict["quality"], verdict["errors"]
                measured = (mean(errors["calibration"]), mean(errors["evaluation"]))
                print(f"{method:18} {quality['result']['perplexity']:10.4f} "
                      f"{quality['result']['kl']:8.5f} {measured[0]:8.5f} {measured[1]:8.5f}",
                      flush=True)
                self.assertAlmostEqual(quality["source"]["perplexity"], 16.7410, delta=1e-3)
                self.assertAlmostEqual(quality["rtn"]["perplexity"], 17.178, delta=1e-3)
                for value, known in zip(measured, expected):
                    self.assertAlmostEqual(value / known, 1, delta=0.05)
                if method == "block256":
                    self.check_reports(results, verdict)
                    self.check_never_worse(verdict)
                    gap = {name: quality[name]["perplexity"] - quality["source"]["perplexity"]
                           for name in ("rtn", "result")}
                    self.assertLessEqual(gap["result"], 0.5 * gap["rtn"])


if __name__ == "__main__":
    run_tests.run()

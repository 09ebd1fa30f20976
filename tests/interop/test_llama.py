"""Tests the whole of a real model through a live server, by a caller with a framework of its own.

Errors, perplexity and KL are computed here, from the written files, by readers that share no code
with Salient.
"""

import os
import tempfile
import unittest

import numpy as np

import paths
import checkpoint_np
import judge_np
import llama
import model_variants
import run_tests
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
    """Is a checkpoint, its tokens, and the directory its results go to."""

    def __init__(self, directory, calibration, evaluation, rows, evaluation_rows):
        self.directory = directory
        self.calibration = llama.read_tokens(calibration, rows)
        self.judge = judge_np.Judge(
            directory, self.calibration, llama.read_tokens(evaluation, evaluation_rows)
        )

    def quantize(self, method):
        """Returns (results of the server, the written directory as read back, its errors)."""
        with tempfile.TemporaryDirectory() as directory:
            output = os.path.join(directory, "awq")
            results, _ = llama.quantize(
                self.directory, self.calibration, server.address, output, method
            )
            written = checkpoint_np.read(output)
        return results, written, self.judge.result_errors(written, results)


def mean(errors):
    return float(np.mean(list(errors.values())))


class EveryModel:
    def check_groups(self, model, results, errors):
        """Every group beats round-to-nearest, and the server said of its bytes what they are."""
        for name, nearest in model.judge.rtn_errors()["calibration"].items():
            error, report = errors["calibration"][name], results[name].report
            self.assertLess(error, nearest, name)
            self.assertTrue(report.exact_loss, name)
            self.assertLess(report.relative_output_error, report.relative_output_error_rtn, name)
            if name.endswith((".o", ".down")):  # The others were folded before they were sent.
                self.assertAlmostEqual(error / report.relative_output_error, 1, delta=1e-3)


class CommittedModel(EveryModel, unittest.TestCase):
    def run_model(self, directory, error_share, kl_share):
        """Quantizes it; errors and KL must not exceed these shares of round-to-nearest's."""
        model = Model(
            directory,
            paths.POCKET_LLAMA / "calibration_open.safetensors",
            paths.POCKET_LLAMA / "evaluation_open.safetensors",
            rows=32, evaluation_rows=16,
        )
        results, written, errors = model.quantize("block256")
        self.assertEqual(len(results), 16)
        self.check_groups(model, results, errors)
        nearest = model.judge.rtn_errors()
        for part, of_groups in errors.items():
            print(f"{part}: error {mean(of_groups):.5f}, rtn {mean(nearest[part]):.5f}")
            self.assertLess(mean(of_groups), error_share * mean(nearest[part]), part)
        quality = model.judge.quality({"result": written})
        print(quality)
        self.assertLess(quality["result"]["kl"], kl_share * quality["rtn"]["kl"])
        return quality

    def test_model_with_salient_channels(self):
        with tempfile.TemporaryDirectory() as directory:
            variant = os.path.join(directory, "salient")
            model_variants.write("salient", variant)
            quality = self.run_model(variant, error_share=0.5, kl_share=0.5)
        self.assertLess(quality["result"]["perplexity"], quality["rtn"]["perplexity"])

    def test_model_as_trained(self):
        self.run_model(str(paths.POCKET_LLAMA), error_share=0.6, kl_share=0.75)


class PublishedTable(EveryModel, unittest.TestCase):
    """Holds six methods on the salient model, row by row."""

    def test_every_row(self):
        directory = shared("models", "pocket-llama-salient")
        tokens = lambda kind: shared("data", "pocket-llama", f"{kind}.safetensors")
        model = Model(directory, tokens("calibration"), tokens("evaluation"),
                      rows=64, evaluation_rows=32)
        errors, models = {}, {}
        for method in TABLE:
            results, models[method], errors[method] = model.quantize(method)
            if method == "block256":
                self.check_groups(model, results, errors[method])
        plain = {part: mean(e) for part, e in model.judge.rtn_errors().items()}
        quality = model.judge.quality(models)
        print(f"\n{'':18} {'perplexity':>10} {'KL':>8} {'calibr.':>8} {'evaluat.':>8}")
        for method, expected in TABLE.items():
            measured = [mean(errors[method][part]) for part in ("calibration", "evaluation")]
            print(f"{method:18} {quality[method]['perplexity']:10.4f} "
                  f"{quality[method]['kl']:8.5f} {measured[0]:8.5f} {measured[1]:8.5f}")
            with self.subTest(method):
                for value, known in zip(measured, expected):
                    self.assertAlmostEqual(value / known, 1, delta=0.05)
        self.assertAlmostEqual(plain["calibration"] / TABLE["rtn"][0], 1, delta=0.01)
        perplexity = {name: value["perplexity"] for name, value in quality.items()}
        gap = {name: perplexity[name] - perplexity["source"] for name in ("rtn", "block256")}
        print(f"gap to the source {perplexity['source']:.4f}: {gap['block256'] / gap['rtn']:.2f} "
              "of round-to-nearest's")
        self.assertLessEqual(gap["block256"], 0.5 * gap["rtn"])


if __name__ == "__main__":
    run_tests.run()

"""Tests what `salient study` finds on models with salient channels: that 1 % of the channels in F16 help if
activations choose them, and hardly otherwise (Lin et al., arXiv:2306.00978, table 1), and that NumPy
finds the same."""

import os
import tempfile
import unittest

import evaluate_np
import llama_np
import paths
import model_variants
import run_tests
import salient_cli
import salient_fp16_np
from shared_models import shared

CALIBRATION_ROWS, ROWS = 32, 16


class Finding(unittest.TestCase):
    def check(self, source, calibration, evaluation):
        found = salient_cli.run("study", source, "--calibration", calibration, "--calibration-rows",
                                CALIBRATION_ROWS, "--evaluation", evaluation, "--rows", ROWS,
                                "--compute-dtype", "f32")
        want = salient_fp16_np.study(llama_np.Llama.load(source),
                                     evaluate_np.read_tokens(calibration, CALIBRATION_ROWS),
                                     evaluate_np.read_tokens(evaluation, ROWS))
        print(f"\n  source: perplexity {found['source']['perplexity']:.4f}", flush=True)
        for choice in salient_fp16_np.CHOICES:
            ours, numpys = found[choice], want[choice]
            print(f"  {choice}: perplexity {ours['perplexity']:.4f} (NumPy"
                  f" {numpys['perplexity']:.4f}), KL {ours['kl']:.5f} ({numpys['kl']:.5f}), error"
                  f" {ours['relative_error']:.5f} ({numpys['relative_error']:.5f})", flush=True)
            with self.subTest(choice):
                self.assertAlmostEqual(ours["perplexity"] / numpys["perplexity"], 1, delta=1e-4)
                self.assertAlmostEqual(ours["kl"] / numpys["kl"], 1, delta=2e-3)
                self.assertAlmostEqual(ours["relative_error"] / numpys["relative_error"], 1,
                                       delta=1e-3)
        plain = found["none"]
        # Only norms have salient channels here, so only groups after them gain: KL falls by a fifth or
        # more, by a fiftieth or less with channels that are not the salient ones.
        saved = {choice: 1 - found[choice]["kl"] / plain["kl"] for choice in found
                 if choice in ("weight", "random", "activation")}
        self.assertGreater(saved["activation"], 0.15)
        self.assertLess(saved["weight"], 0.05)
        self.assertLess(saved["random"], 0.05)
        self.assertGreater(saved["activation"], 5 * max(saved["weight"], saved["random"]))
        self.assertLess(found["activation"]["perplexity"], plain["perplexity"])
        self.assertLess(found["activation"]["relative_error"], 0.9 * plain["relative_error"])
        for choice in ("weight", "random"):
            self.assertGreater(found[choice]["relative_error"], 0.95 * plain["relative_error"])

    def test_salient_model(self):
        tokens = (shared("data", "pocket-llama", f"{kind}.safetensors")
                  for kind in ("calibration", "evaluation"))
        self.check(shared("models", "pocket-llama-salient"), *tokens)

    def test_committed_model(self):
        with tempfile.TemporaryDirectory() as scratch:
            source = os.path.join(scratch, "salient")
            model_variants.write("salient", source)
            self.check(source, *(str(paths.POCKET_LLAMA / f"{kind}_open.safetensors")
                                 for kind in ("calibration", "evaluation")))


if __name__ == "__main__":
    run_tests.run()

"""Cells of quality.py's table against what an independent implementation of the same method
measured on the same tokens, and against the checkpoints of other tools."""

import tempfile
import unittest

import paths  # noqa: F401
import quality
import run_tests
from shared_models import shared

# (bits, method): perplexity, KL, relative output error; groups of 128, 64 calibration rows.
SALIENT = {  # 128 evaluation rows, source 16.7410
    (4, "rtn"): (17.178, 0.02707, 0.00673),
    (4, "awq+clip"): (16.917, 0.01127, 0.00347),
    (4, "awq+clip+block"): (16.891, 0.00912, 0.00217),
    (3, "rtn"): (18.282, 0.08118, 0.02294),
    (3, "awq+clip"): (17.641, 0.04710, 0.01358),
}
OPEN = {  # the committed token files, source 20.3436; other channels are salient
    (4, "rtn"): (20.795, 0.02696, 0.00694),
    (4, "awq+clip"): (20.575, 0.01117, 0.00353),
}
# KL of the best AWQ checkpoint of another tool on the salient model, 4 bits, groups of 128.
BEST_OTHER_KL = 0.01198


class Cells(unittest.TestCase):
    def check(self, model, table, source_perplexity):
        cells = {}
        with tempfile.TemporaryDirectory() as scratch:
            for (bits, method), (perplexity, kl, error) in table.items():
                with self.subTest(bits=bits, method=method):
                    cell = quality.measure(model, bits, 128, method, scratch)
                    cells[bits, method] = cell
                    print(f"\n{model}, {bits} bits, {method}: perplexity {cell['perplexity']:.4f}"
                          f" (known {perplexity}), KL {cell['kl']:.5f} ({kl}),"
                          f" error {cell['error']:.5f} ({error})", flush=True)
                    self.assertEqual(cell["groups"], 16)
                    self.assertAlmostEqual(cell["source_perplexity"], source_perplexity, delta=1e-3)
                    self.assertAlmostEqual(cell["perplexity"] / perplexity, 1, delta=0.01)
                    self.assertAlmostEqual(cell["error"] / error, 1, delta=0.02)
                    self.assertAlmostEqual(cell["kl"] / kl, 1, delta=0.05)
        return cells

    def test_salient_model(self):
        shared("models", "pocket-llama-salient")  # skips the whole, not each cell
        cells = self.check("pocket-llama-salient", SALIENT, 16.7410)
        self.assertLessEqual(cells[4, "awq+clip+block"]["kl"], BEST_OTHER_KL)

    def test_committed_model(self):
        self.check("committed, salient", OPEN, 20.3436)


if __name__ == "__main__":
    run_tests.run()

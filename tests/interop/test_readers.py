"""The readers that judge Salient's files are right themselves: published words, round trips."""

import os
import tempfile
import unittest

import numpy as np

import paths  # noqa: F401
import awq_reader_np
import llama_np
import run_tests
import safetensors_np
from shared_models import shared

# in = 16, out = 8, groups of 8: code[k][n] = (k + 3 n) mod 16.
QWEIGHT = """5F932C60 60A43D71 71B54E82 82C65F93 93D760A4 A4E871B5 B5F982C6 C60A93D7
             D71BA4E8 E82CB5F9 F93DC60A 0A4ED71B 1B5FE82C 2C60F93D 3D710A4E 4E821B5F"""
QZEROS = "86427531 FDB9ECA8"


def words(text):
    return np.array([int(w, 16) for w in text.split()], np.uint32).view(np.int32).reshape(-1, 1)


class AwqReader(unittest.TestCase):
    def setUp(self):
        k, n = np.mgrid[0:16, 0:8]
        self.codes = (k + 3 * n) % 16
        self.zeros = np.array([np.arange(1, 9), np.arange(8, 16)])
        self.scales = np.array(
            [[2.0 ** -(2 + n % 4) for n in range(8)], [2.0 ** -(3 + n % 4) for n in range(8)]]
        ).astype(np.float16)

    def test_golden_words_unpack(self):
        np.testing.assert_array_equal(awq_reader_np.unpack(words(QWEIGHT)), self.codes)
        np.testing.assert_array_equal(awq_reader_np.unpack(words(QZEROS)), self.zeros)

    def test_golden_words_decode(self):
        expected = np.empty((8, 16), np.float32)
        for k in range(16):
            for n in range(8):
                zero, scale = self.zeros[k // 8, n], self.scales[k // 8, n]
                expected[n, k] = float(scale) * (int(self.codes[k, n]) - int(zero))
        decoded = awq_reader_np.dequantize(words(QWEIGHT), words(QZEROS), self.scales)
        np.testing.assert_array_equal(decoded, expected)

    def test_float32_scales_are_refused(self):
        with self.assertRaises(ValueError):
            awq_reader_np.dequantize(
                words(QWEIGHT), words(QZEROS), self.scales.astype(np.float32)
            )

    def test_checkpoint_of_another_tool_has_its_known_quality(self):
        """AutoAWQ's checkpoint, whose perplexity and KL another implementation measured."""
        written = awq_reader_np.read(shared("peers", "autoawq-awq"))
        source = llama_np.Llama.load(shared("models", "pocket-llama-salient"))
        tokens = shared("data", "pocket-llama", "evaluation.safetensors")
        tokens = safetensors_np.read(tokens)["input_ids"]
        before, after = llama_np.compare([source, written], tokens)
        self.assertAlmostEqual(before["perplexity"], 16.7410, delta=2e-4)
        self.assertAlmostEqual(after["perplexity"], 16.9430, delta=2e-4)
        self.assertAlmostEqual(after["kl"], 0.01201, delta=2e-5)


class Safetensors(unittest.TestCase):
    def test_every_dtype_comes_back(self):
        random = np.random.default_rng(1)
        tensors = {
            "b.f32": random.standard_normal((3, 5)).astype(np.float32),
            "a.f16": random.standard_normal((2, 2)).astype(np.float16),
            "c.i32": np.arange(-3, 3, dtype=np.int32),
            "d.i64": np.array([-(2**40), 2**40]),
            "empty": np.zeros((0, 4), np.float32),
            "scalar": np.array(7, np.int32),
        }
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "t.safetensors")
            safetensors_np.write(path, tensors)
            header, base = safetensors_np.read_header(path)
            back = safetensors_np.read(path)
        self.assertEqual(base % 8, 0)
        self.assertEqual(header["__metadata__"], {"format": "pt"})
        self.assertEqual(list(header)[1:], ["d.i64", "b.f32", "empty", "c.i32", "scalar", "a.f16"])
        for name, array in tensors.items():
            self.assertEqual(back[name].dtype, array.dtype)
            np.testing.assert_array_equal(back[name], array)

    def test_bf16_rounds_half_to_even(self):
        values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-7, 3e38], np.float32)
        bits = safetensors_np.round_bf16(values)
        self.assertEqual([hex(b) for b in bits],
                         ["0x3f80", "0x3f80", "0x3f82", "0xbf81", "0x7f62"])
        wide = safetensors_np.widen_bf16(bits)
        self.assertEqual(wide[2], 1 + 2**-6)


class Llama(unittest.TestCase):
    def test_committed_model_has_its_known_perplexity(self):
        model = llama_np.Llama.load(paths.POCKET_LLAMA)
        tokens = safetensors_np.read(paths.POCKET_LLAMA / "evaluation_open.safetensors")
        self.assertAlmostEqual(
            llama_np.perplexity(model, tokens["input_ids"]), 20.3436, delta=2e-4
        )


if __name__ == "__main__":
    run_tests.run()

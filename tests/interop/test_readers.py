"""The readers that judge Salient's files are right themselves: published words, round trips."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

import numpy as np

import paths  # noqa: F401
import awq_reader_np
import checkpoint_np
import evaluate_np
import llama_np
import model_variants
import run_tests
import safetensors_np
from shared_models import shared

GOLDEN = paths.TESTS / "golden" / "forward"

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


# Perplexity and KL on all evaluation rows, as another implementation measured them.
OTHER_TOOLS = {
    "autoawq-awq": (16.9430, 0.01201),
    "gptqmodel-awq": (16.9098, 0.01198),
    "autoround-awq": (17.0471, 0.01754),
}


class CheckpointReader(unittest.TestCase):
    def test_checkpoints_of_other_tools_have_their_known_quality(self):
        """A wrong nibble, a transposed zero point, a scale of another group: none survives this."""
        source = llama_np.Llama.load(shared("models", "pocket-llama-salient"))
        models = [checkpoint_np.read(shared("peers", tool), (np.float16, np.float32))
                  for tool in OTHER_TOOLS]
        tokens = shared("data", "pocket-llama", "evaluation.safetensors")
        scores = llama_np.compare([source, *models], evaluate_np.read_tokens(tokens))
        self.assertAlmostEqual(scores[0]["perplexity"], 16.7410, delta=2e-4)
        self.assertEqual((scores[0]["kl"], scores[0]["top1_agreement"]), (0, 1))
        for (tool, (perplexity, kl)), score in zip(OTHER_TOOLS.items(), scores[1:]):
            with self.subTest(tool):
                self.assertAlmostEqual(score["perplexity"], perplexity, delta=2e-4)
                self.assertAlmostEqual(score["kl"], kl, delta=2e-5)

    def test_program_prints_what_it_found(self):
        tokens = paths.POCKET_LLAMA / "evaluation_open.safetensors"
        with tempfile.TemporaryDirectory() as result:
            model_variants.write("sharded", result)
            done = subprocess.run(
                [sys.executable, evaluate_np.__file__, result, tokens, "--rows", "4", "--bits", "3",
                 "--group-size", "64", "--against", paths.POCKET_LLAMA, "--json"],
                capture_output=True, text=True, check=True, timeout=120)
        found = json.loads(done.stdout)
        # The four rows that the forward pass in C++ is tested with.
        self.assertAlmostEqual(found["result"]["perplexity"], 19.5257, delta=2e-4)
        self.assertEqual(found["source"], found["result"])
        self.assertEqual((found["kl"], found["top1_agreement"]), (0, 1))
        self.assertGreater(found["rtn_kl"], 0.01)
        self.assertLess(found["rtn_top1_agreement"], 1)

    def test_round_to_nearest_has_its_known_quality(self):
        tokens = evaluate_np.read_tokens(paths.POCKET_LLAMA / "evaluation_open.safetensors")
        source = llama_np.Llama.load(paths.POCKET_LLAMA)
        self.assertAlmostEqual(llama_np.perplexity(source, tokens), 20.3436, delta=2e-4)
        nearest = evaluate_np.round_to_nearest(source, 4, 128)
        _, score = llama_np.compare([source, nearest], tokens[:8])
        self.assertLess(score["kl"], 0.03)
        self.assertGreater(score["kl"], 0.005)
        self.assertGreater(score["top1_agreement"], 0.85)


class StrictReader(unittest.TestCase):
    """What engines trip over is refused."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name
        model_variants.write("sharded", self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def refused(self, words):
        with self.assertRaisesRegex(ValueError, words):
            checkpoint_np.read(self.directory)

    def change_index(self, change):
        with open(self.path(checkpoint_np.INDEX), encoding="utf-8") as file:
            index = json.load(file)
        change(index)
        with open(self.path(checkpoint_np.INDEX), "w", encoding="utf-8") as file:
            json.dump(index, file)

    def test_what_the_writer_wrote_is_accepted(self):
        checkpoint_np.read(self.directory)

    def test_tensor_in_two_files(self):
        norm = np.ones(64, np.float32)
        safetensors_np.write(self.path("stray.safetensors"), {"model.norm.weight": norm})
        self.refused("model.norm.weight in .* and in stray")

    def test_tensor_that_the_index_does_not_name(self):
        self.change_index(lambda index: index["weight_map"].pop("model.norm.weight"))
        self.refused("not what the files hold")

    def test_wrong_total_size(self):
        self.change_index(lambda index: index["metadata"].update(total_size=1))
        self.refused("total_size 1")

    def test_shards_without_an_index(self):
        os.remove(self.path(checkpoint_np.INDEX))
        self.refused("without an index")

    def test_linear_neither_quantized_nor_listed(self):
        module = "model.layers.0.mlp.down_proj"
        plain = {f"model.layers.0.{linear}.weight": 0 for linear in checkpoint_np.LINEARS}
        others = [f"model.layers.0.{linear}" for linear in checkpoint_np.LINEARS[:-1]]
        checkpoint_np.check_kept("d", {"modules_to_not_convert": others + [module]}, plain, 1)
        for listed in (others, None):
            with self.assertRaisesRegex(ValueError, "plain True"):
                checkpoint_np.check_kept("d", {"modules_to_not_convert": listed}, plain, 1)
        packed = {**plain, f"{module}.qweight": 0}
        del packed[f"{module}.weight"]
        checkpoint_np.check_kept("d", {"modules_to_not_convert": others}, packed, 1)
        with self.assertRaisesRegex(ValueError, "plain False"):
            checkpoint_np.check_kept("d", {"modules_to_not_convert": others + [module]}, packed, 1)


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
    def test_every_switch_of_the_forward_pass(self):
        """Against what another forward pass computes token by token in float64."""
        cases = sorted(path for path in GOLDEN.iterdir() if path.is_dir())
        self.assertGreaterEqual(len(cases), 9)
        for case in cases:
            with self.subTest(case.name):
                golden = safetensors_np.read(f"{case}.safetensors")
                logits = checkpoint_np.read(case).logits(golden["tokens"][None])[0]
                np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-4)


if __name__ == "__main__":
    run_tests.run()

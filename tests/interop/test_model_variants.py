"""Variants of the test model compute its function, whatever was moved where; random models are
complete. What each switch computes is held against transformers in tests/golden."""

import os
import subprocess
import sys
import tempfile
import unittest

import numpy as np

import paths
import checkpoint_np
import llama_np
import model_variants
import run_tests
import safetensors_np

TOKENS = safetensors_np.read(paths.POCKET_LLAMA / "evaluation_open.safetensors")["input_ids"]


class Preserving(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.source = llama_np.Llama.load(paths.POCKET_LLAMA)
        cls.logits = cls.source.logits(TOKENS[:2])

    def test_every_variant_gives_the_same_logits(self):
        for name in model_variants.PRESERVING:
            with self.subTest(name):
                variant = llama_np.Llama(*model_variants.make(name))
                logits = variant.logits(TOKENS[:2])
                # Beside a larger residual stream the eps of the norms counts less.
                bound = {"big-residual": 0.05}.get(name, 2e-4)
                self.assertLess(np.abs(logits - self.logits).max(), bound)

    def test_every_directory_gives_the_same_distribution(self):
        """As stored: /24 and BF16 round the weights, nothing else changes a bit."""
        for name in model_variants.PRESERVING:
            with self.subTest(name), tempfile.TemporaryDirectory() as directory:
                model_variants.write(name, directory)
                stored = checkpoint_np.read(directory)
                kl = llama_np.compare([self.source, stored], TOKENS[:2])[1]["kl"]
                self.assertLess(kl, {"bf16": 1e-3, "big-residual": 1e-3, "salient": 1e-5}.get(name, 1e-9))
                for file in ("tokenizer.model", "generation_config.json"):
                    self.assertTrue(os.path.exists(os.path.join(directory, file)), file)

    def test_salient_channels_are_salient(self):
        """A variant that changed nothing would preserve everything."""
        _, tensors = model_variants.make("salient")
        for layer in range(self.source.layers):
            for norm, group in model_variants.NORM_READERS.items():
                name = f"model.layers.{layer}.{norm}.weight"
                ratio = tensors[name] / self.source.tensors[name]
                self.assertEqual(np.count_nonzero(np.isclose(ratio, 24)), 3)
                self.assertEqual(np.count_nonzero(np.isclose(ratio, 1)), 253)
                for linear in llama_np.GROUPS[group]:
                    name = f"model.layers.{layer}.{linear}.weight"
                    columns = np.abs(tensors[name]).sum(0) * ratio
                    np.testing.assert_allclose(
                        columns, np.abs(self.source.tensors[name]).sum(0), rtol=1e-5)

    def test_shapes_are_what_the_names_say(self):
        config, tensors = model_variants.make("full-attention")
        self.assertEqual(config["num_key_value_heads"], 8)
        self.assertEqual(tensors["model.layers.0.self_attn.k_proj.weight"].shape, (256, 256))
        _, tensors = model_variants.make("untied")
        self.assertIn("lm_head.weight", tensors)
        self.assertIn("model.layers.3.self_attn.v_proj.bias", model_variants.make("qwen2")[1])

    def test_dtypes_and_shards(self):
        with tempfile.TemporaryDirectory() as directory:
            for dtype in ("f32", "f16", "bf16"):
                out = os.path.join(directory, dtype)
                subprocess.run(
                    [sys.executable, model_variants.__file__, "random-untied", out,
                     "--dtype", dtype, "--shards", "5"], check=True, timeout=120)
                files = sorted(f for f in os.listdir(out) if f.endswith(".safetensors"))
                self.assertEqual(len(files), 5)
                self.assertEqual(files[4], "model-00005-of-00005.safetensors")
                kinds = {k for f in files
                         for k in safetensors_np.dtypes(os.path.join(out, f)).values()}
                self.assertEqual(kinds, {dtype.upper()})
                checkpoint_np.read(out)


class Random(unittest.TestCase):
    def test_every_model_is_complete_and_finite(self):
        for name in model_variants.RANDOM:
            with self.subTest(name), tempfile.TemporaryDirectory() as directory:
                model_variants.write(name, directory)
                model = checkpoint_np.read(directory)
                logits = model.logits(np.arange(40)[None])
                self.assertEqual(logits.shape, (1, 40, 256))
                self.assertTrue(np.isfinite(logits).all())
                self.assertGreater(logits.std(), 1)

    def test_seeds_are_fixed(self):
        first, second = (model_variants.make("random-qwen2")[1] for _ in range(2))
        for name, array in first.items():
            np.testing.assert_array_equal(array, second[name])


if __name__ == "__main__":
    run_tests.run()

"""Tests the reader of whole directories: checkpoints of other tools have their known quality, and files
that engines trip over are refused. What they trip over in each format: test_stored_formats.py."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

import numpy as np

import paths
import checkpoint_np
import evaluate_np
import llama_np
import model_variants
import run_tests
import safetensors_np
from quality import PEERS_ARE_WORTH
from shared_models import shared
from stored_formats_np import Scheme


class CheckpointReader(unittest.TestCase):
    def test_checkpoints_of_other_tools_and_nearest_have_their_known_quality(self):
        """A wrong nibble, a transposed zero point, a scale of another group, activations left as
        they are: none survives this."""
        source = llama_np.Llama.load(shared("models", "pocket-llama-salient"))
        models = [checkpoint_np.read(shared("peers", tool), foreign=True)
                  for tool in PEERS_ARE_WORTH]
        nearest = evaluate_np.round_to_nearest(source, Scheme(8, -1, True, "token"))
        tokens = shared("data", "pocket-llama", "evaluation.safetensors")
        scores = llama_np.compare([source, *models, nearest], evaluate_np.read_tokens(tokens))
        self.assertAlmostEqual(scores[0]["perplexity"], 16.7410, delta=2e-4)
        self.assertEqual((scores[0]["kl"], scores[0]["top1_agreement"]), (0, 1))
        for (tool, (perplexity, kl)), score in zip(PEERS_ARE_WORTH.items(), scores[1:-1]):
            print(f"\n{tool}: {score['perplexity']:.4f} (known {perplexity}), KL {score['kl']:.5f}"
                  f" ({kl})", end="")
            with self.subTest(tool):
                self.assertAlmostEqual(score["perplexity"], perplexity, delta=1e-3)
                self.assertAlmostEqual(score["kl"], kl, delta=2e-5)
        # Known of an evaluation whose codes differ here and there: perplexity moves by chance, KL
        # hardly.
        print(f"\nnearest, W8A8: {scores[-1]}", end="")
        self.assertAlmostEqual(scores[-1]["perplexity"], 16.8610, delta=0.02)
        self.assertAlmostEqual(scores[-1]["kl"] / 0.00717, 1, delta=0.02)

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
        nearest = evaluate_np.round_to_nearest(source, Scheme(4, 128, False))
        _, score = llama_np.compare([source, nearest], tokens[:8])
        self.assertLess(score["kl"], 0.03)
        self.assertGreater(score["kl"], 0.005)
        self.assertGreater(score["top1_agreement"], 0.85)

class Directory(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name

    def path(self, name):
        return os.path.join(self.directory, name)

    def refused(self, words, foreign=False):
        with self.assertRaisesRegex((ValueError, KeyError), words):
            checkpoint_np.read(self.directory, foreign)


class PlainDirectory(Directory):
    """Tests what engines trip over in the files themselves."""

    def setUp(self):
        super().setUp()
        model_variants.write("sharded", self.directory)

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

    def test_file_that_does_not_say_pt(self):
        path = self.path("model-00001-of-00003.safetensors")
        tensors = safetensors_np.read(path)
        safetensors_np.write(path, tensors, metadata={"format": "np"})
        self.refused("says pt")


if __name__ == "__main__":
    run_tests.run()

"""Is a test case of `salient tensors`: small work, long work, and what a failure must look like."""

import os
import random
import subprocess
import tempfile
import unittest

import programs
from programs import run
from tensor_files import floats, gaussian, small_model, write_safetensors


class TensorsCase(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.directory = self.temporary.name
        self.weights, self.activations = small_model(self.directory)
        self.output = self.path("packed.safetensors")

    def path(self, name):
        return os.path.join(self.directory, name)

    def tensors(self, *flags, groups=("--group", "qk=q,k", "--group", "down=down")):
        return run("tensors", self.weights, self.activations, "-o", self.output, *groups, *flags)

    def assert_fails(self, result, code, *says):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        for text in says:
            self.assertIn(text, result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("salient: "), result.stderr)
        self.assertFalse(os.path.exists(self.output))
        left = [name for name in os.listdir(self.directory) if name.startswith("packed")]
        self.assertEqual(left, [], "something was left behind")

    def make_long_work(self, count=48):
        """Enough groups that a call is still running long after its first one."""
        rng = random.Random(5)
        self.weights, self.activations = self.path("long_w"), self.path("long_a")
        row = floats(gaussian(rng, 512))
        write_safetensors(self.weights, {
            f"m{i}.weight": ("F32", [512, 512], row * 512) for i in range(count)})
        write_safetensors(self.activations, {
            f"m{i}": ("F32", [64, 512], floats(gaussian(rng, 64 * 512))) for i in range(count)})

    def start_long_work(self, *flags):
        """Returns a running call whose first group is done."""
        process = subprocess.Popen(
            [programs.SALIENT, "tensors", self.weights, self.activations, "-o", self.output,
             *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = process.stderr.readline()
        self.assertIn("group 1 of 48 done", first)
        return process

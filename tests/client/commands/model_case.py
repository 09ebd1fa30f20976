"""Is a test case of commands on a whole model, of which nothing may be left behind."""

import hashlib
import json
import os
import shutil
import struct
import tempfile
import unittest

from programs import run

MODEL = ""  # A test sets it.
ROWS = "3"  # Enough to be a calibration, few enough to be quick.


def digests(directory):
    """Returns {file: sha256} of a directory."""
    result = {}
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), "rb") as file:
            result[name] = hashlib.sha256(file.read()).hexdigest()
    return result


class ModelCase(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.directory = self.temporary.name
        self.output = self.path("out")
        self.calibration = os.path.join(MODEL, "calibration_open.safetensors")
        self.evaluation = os.path.join(MODEL, "evaluation_open.safetensors")
        # Token files lie beside the model, and are none of it.
        self.source = self.path("model")
        shutil.copytree(MODEL, self.source, ignore=shutil.ignore_patterns("*_open.safetensors"))

    def path(self, name):
        return os.path.join(self.directory, name)

    @staticmethod
    def repeat_tokens(source, target, times):
        """Returns the rows of a token file, so many times."""
        with open(source, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            shape = json.loads(file.read(length))["input_ids"]["shape"]
            ids = file.read()
        header = json.dumps({"input_ids": {
            "dtype": "I32", "shape": [shape[0] * times, shape[1]],
            "data_offsets": [0, len(ids) * times]}}).encode()
        with open(target, "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header + ids * times)

    def quantize(self, *flags, output=None, rows=ROWS):
        return run("quantize", self.source, output or self.output, "--calibration",
                   self.calibration, "--rows", rows, "--group-size", "32", *flags)

    def verify(self, *flags):
        return run("verify", *flags, "--evaluation", self.evaluation, "--rows", "2")

    def assert_done(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def assert_fails(self, result, code, *says):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        for text in says:
            self.assertIn(text, result.stderr)
        self.assert_nothing_written()

    def assert_nothing_written(self, *beside):
        left = [name for name in os.listdir(self.directory) if name.startswith("out")]
        self.assertEqual(left, list(beside), "something was left behind")

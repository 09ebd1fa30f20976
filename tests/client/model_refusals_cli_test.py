"""What `salient` refuses to do with a model, mostly before any server is asked. Standard library
only.

    model_refusals_cli_test.py SALIENT SALIENTD MODEL_DIRECTORY
"""

import json
import os
import struct
import sys
import unittest

import model_case
import programs
from model_case import ModelCase
from programs import free_port, run
from tensor_files import write_safetensors


class RefusedTest(ModelCase):
    def setUp(self):
        super().setUp()
        # Whoever asks a server before looking gets another exit code.
        self.nowhere = ("--server", f"127.0.0.1:{free_port()}")

    def test_usage_is_2(self):
        tokens = ("--calibration", self.calibration)
        for arguments in (
                ["quantize", self.source], ["quantize", self.source, self.output],
                ["quantize", self.source, self.output, *tokens, "--format", "best"],
                ["quantize", self.source, self.output, *tokens, "--method", "best"],
                ["quantize", self.source, self.output, *tokens, "--bits", "9"],
                ["quantize", self.source, self.output, *tokens, "--workers", "1", *self.nowhere],
                ["verify", self.source],
                ["verify", self.source, "--evaluation", self.evaluation, "--rtn-bits", "4"],
                ["estimate", self.source, *tokens, "--tokens", "5"],
                ["estimate", self.source, "--rows", "-1"],
                ["estimate", self.source, "--engine", "best"],
                ["inspect"], ["inspect", self.source, "--tensor-parallel", "0"],
                ["jobs"], ["jobs", "watch"], ["jobs", "download", "j"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertEqual(result.stdout, "")
        self.assert_nothing_written()

    def test_bad_calibration_is_42_and_needs_no_server(self):
        self.calibration = self.path("none.safetensors")
        self.assert_fails(self.quantize(*self.nowhere), 42, "none.safetensors")
        write_safetensors(self.calibration, {"ids": ("I32", [1, 2], bytes(8))})
        self.assert_fails(self.quantize(*self.nowhere), 42, "none.safetensors", '"input_ids"')

    def test_bad_model_is_42_and_needs_no_server(self):
        weights = os.path.join(self.source, "model.safetensors")
        with open(weights, "r+b") as file:
            file.write(struct.pack("<Q", 1 << 60))
        self.assert_fails(self.quantize(*self.nowhere), 42, "model.safetensors")
        self.assert_fails(run("estimate", self.source, *self.nowhere), 42,
                          "model.safetensors")
        self.assert_fails(run("inspect", self.source, *self.nowhere), 42,
                          "model.safetensors")
        os.remove(weights)
        self.assert_fails(self.quantize(*self.nowhere), 42, "model.safetensors")
        os.remove(os.path.join(self.source, "config.json"))
        self.assert_fails(self.quantize(*self.nowhere), 42, "config.json")
        self.assert_fails(self.verify(self.source, *self.nowhere), 42, "config.json")
        self.source = self.path("nowhere")
        self.assert_fails(self.quantize(*self.nowhere), 42, self.source)

    def test_output_in_the_way_is_42_and_stays(self):
        os.mkdir(self.output)
        with open(os.path.join(self.output, "mine"), "w") as file:
            file.write("mine")
        for server in (self.nowhere, ()):
            result = self.quantize(*server)
            self.assertEqual(result.returncode, 42, result.stderr)
            self.assertIn("not empty", result.stderr)
        self.assertEqual(os.listdir(self.output), ["mine"])
        self.assertEqual(self.quantize(output=self.source).returncode, 42)
        self.assertEqual(self.quantize(output=self.path("no/such")).returncode, 42)
        os.symlink("nowhere", self.path("link"))
        result = self.quantize(*self.nowhere, output=self.path("link"))
        self.assertEqual(result.returncode, 42, result.stderr)
        self.assertIn("link that leads nowhere", result.stderr)

    def test_combinations_that_no_layout_has_are_42_and_say_what_works(self):
        self.assert_fails(self.quantize("--bits", "3"), 42, "awq-gemm", "bits is 3", "gptq")
        self.assert_fails(self.quantize("--format", "gptq", "--bits", "5"), 42, "bits is 5")
        self.assert_fails(self.quantize("--format", "int-quantized"), 42, "--group-size is 32")
        self.assert_fails(self.quantize("--format", "awq-gemm:group_size=-1", "--engine", "tgi"),
                          42, "tgi", "-1")
        self.assert_fails(self.quantize("--activations", "dynamic"), 2, "activations")

    def test_overrides_and_limits_that_cannot_be_are_refused(self):
        for code, says, flags in (
                (2, "--override", ("--override", "nothing")),
                (2, "--format", ("--format", "awq-gemm:bits=x")),
                (2, "--max-relative-error", ("--max-relative-error", "-1")),
                (42, "no Linear", ("--override", "lm_head:skip")),
                (42, "k_proj", ("--override", "model.layers.0.self_attn.q_proj:skip")),
                (42, "one format", ("--override", "model.layers.0.mlp.down_proj:bits=8")),
                (42, "awq-gemm-4bit-g32", ("--format", "awq-gemm", "--format", "awq-gemm"))):
            self.assert_fails(self.quantize(*flags), code, says)

    def test_no_server_is_69(self):
        address = self.nowhere[1]
        for result in (self.quantize(*self.nowhere), self.verify(self.source, *self.nowhere),
                       run("estimate", self.source, *self.nowhere),
                       run("jobs", "list", *self.nowhere),
                       run("jobs", "watch", "j", *self.nowhere),
                       run("jobs", "cancel", "j", *self.nowhere),
                       run("jobs", "download", "j", self.output, *self.nowhere)):
            self.assert_fails(result, 69, f"cannot reach a server at {address}")

    def test_bad_config_is_42_and_leaves_nothing(self):
        config = os.path.join(self.source, "config.json")
        with open(config) as file:
            fields = json.load(file)
        for change in ({"architectures": ["NobodyForCausalLM"], "model_type": "nobody"},
                       {"num_hidden_layers": None}):
            with open(config, "w") as file:
                json.dump({**fields, **change}, file)
            self.assert_fails(self.quantize(), 42, next(iter(change)))


if __name__ == "__main__":
    programs.SALIENT, programs.SALIENTD, model_case.MODEL = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)

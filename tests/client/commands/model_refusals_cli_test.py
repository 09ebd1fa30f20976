"""Tests what `salient` refuses to do with a model, mostly before any server is asked. Standard library
only.

    model_refusals_cli_test.py SALIENT SALIENTD MODEL_DIRECTORY
"""

import ctypes
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


PR_CAPBSET_DROP = 24


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

    def test_what_is_no_token_file_is_called_what_it_is(self):
        for name, content, says in (
                ("corpus.txt", b"Once upon a time there was", "a text"),
                ("corpus.jsonl", b'{"text": "Once upon a time"}\n', "JSON"),
                ("tokens.npy", b"\x93NUMPY\x01\x00v\x00" + bytes(120), "NumPy"),
                ("tokens.pt", b"PK\x03\x04\x00\x00\x08\x08" + bytes(120), "torch.save")):
            self.calibration = self.path(name)
            with open(self.calibration, "wb") as file:
                file.write(content)
            self.assert_fails(self.quantize(*self.nowhere), 42, name, says, "tokens.py")

    def test_what_is_no_model_directory_is_called_what_it_is(self):
        source = self.source
        self.source = "meta-llama/Llama-3.2-1B"
        self.assert_fails(self.quantize(*self.nowhere), 42, "hf download meta-llama/Llama-3.2-1B")
        self.source = self.path("m.gguf")
        with open(self.source, "wb") as file:
            file.write(b"GGUF\x03\x00\x00\x00")
        self.assert_fails(self.quantize(*self.nowhere), 42, "m.gguf", "GGUF")
        self.source = self.path("models--x--y")
        os.makedirs(os.path.join(self.source, "snapshots"))
        os.rename(source, os.path.join(self.source, "snapshots", "0123"))
        self.assert_fails(self.quantize(*self.nowhere), 42, "models--x--y/snapshots/0123")
        os.rename(os.path.join(self.source, "snapshots", "0123"), source)
        self.source = source
        weights = os.path.join(source, "model.safetensors")
        with open(weights, "wb") as file:
            file.write(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        self.assert_fails(self.quantize(*self.nowhere), 42, "model.safetensors", "git lfs pull")
        os.rename(weights, os.path.join(source, "pytorch_model.bin"))
        self.assert_fails(self.quantize(*self.nowhere), 42, "pytorch_model.bin", "save_pretrained")

    def test_a_file_to_take_along_that_cannot_be_read_is_42_before_the_work(self):
        def drop_override():
            # Without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH root may read no more than others.
            for capability in (1, 2):
                ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)

        path = os.path.join(self.source, "tokenizer_config.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write("{}")
        os.chmod(path, 0)
        result = run("quantize", self.source, self.output, "--calibration", self.calibration,
                     "--rows", "2", "--method", "rtn", "--group-size", "32",
                     preexec_fn=drop_override)
        os.chmod(path, 0o644)
        self.assert_fails(result, 42, "tokenizer_config.json: cannot read: Permission denied")
        self.assertNotIn("block 1", result.stderr)

    def test_a_path_that_is_not_utf8_is_42(self):
        path = os.fsencode(self.directory) + b"/m\xff"
        os.rename(self.source, path)
        self.source = path
        self.assert_fails(self.quantize(), 42, "/m\\xff", "not UTF-8")
        self.source = model_case.MODEL
        result = self.quantize(output=os.fsencode(self.directory) + b"/out\xff")
        self.assert_fails(result, 42, "/out\\xff", "not UTF-8")

    def test_a_model_of_an_unknown_family_is_told_where_those_that_are_known_are_listed(self):
        config = os.path.join(self.source, "config.json")
        with open(config) as file:
            fields = json.load(file)
        fields["architectures"] = ["GPT2LMHeadModel"]
        with open(config, "w") as file:
            json.dump(fields, file)
        says = ("config.json", 'architectures[0] is "GPT2LMHeadModel"', "salient info --families")
        self.assert_fails(self.quantize(), 42, *says)
        self.assert_fails(run("estimate", self.source, "--rows", "1", "--tokens", "8"), 42, *says)
        self.assert_fails(run("inspect", self.source), 42, *says)

    def test_a_model_that_is_quantized_is_called_so(self):
        config = os.path.join(self.source, "config.json")
        with open(config) as file:
            fields = json.load(file)
        fields["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": 32,
                                         "version": "gemm", "zero_point": True}
        with open(config, "w") as file:
            json.dump(fields, file)
        self.assert_fails(self.quantize(), 42, "awq", "not quantized yet")

    def test_rows_beyond_the_models_context_are_42_unless_they_are_allowed(self):
        config = os.path.join(self.source, "config.json")
        with open(config) as file:
            fields = json.load(file)
        with open(config, "w") as file:
            json.dump({**fields, "max_position_embeddings": 255}, file)
        says = (self.calibration, "row 0 has 256 tokens; expected at most 255")
        self.assert_fails(self.quantize(), 42, *says)
        estimate = ("estimate", self.source, "--group-size", "32")
        self.assert_fails(run(*estimate, "--calibration", self.calibration), 42, *says)
        self.assert_fails(self.verify(self.source), 42, self.evaluation, "at most 255")
        self.assert_done(run(*estimate, "--calibration", self.calibration, "--allow-long-rows"))
        self.assert_done(self.verify(self.source, "--allow-long-rows"))
        # Without a file rows are as long as the model lets them be.
        self.assert_done(run(*estimate))
        self.assert_fails(run(*estimate, "--tokens", "256"), 42, "blank tokens", "at most 255")

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

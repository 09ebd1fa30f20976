"""Tests `salient inspect` over what real tools wrote and over a result of our own; engines asked for
before any work."""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

from live_server import LiveServer, run_tests

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "support"))
from shared_models import shared  # noqa: E402

POCKET_LLAMA = TESTS / "data" / "pocket-llama"
ENGINES = ["vllm", "vllm-cpu", "sglang", "tgi", "lmdeploy", "transformers", "llama-cpp"]
# quant_method, output_format, bits, group_size, symmetric as headers tell (None: they do not),
# activations, and the engines that do not load it.
PEERS = {
    "autoawq-awq": ("awq", "awq-gemm", 4, 128, None, "none", ["llama-cpp"]),
    "gptqmodel-awq": ("awq", "awq-gemm", 4, 128, None, "none", ["llama-cpp"]),
    "autoround-awq": ("awq", "awq-gemm", 4, 128, None, "none", ["llama-cpp"]),
    "gptqmodel-gptq": ("gptq", "gptq", 4, 128, True, "none", []),
    "llmcompressor-awq": ("compressed-tensors", "compressed-tensors", 4, 128, False, "none",
                          ["tgi", "transformers"]),
    "llmcompressor-gptq": ("compressed-tensors", "compressed-tensors", 4, 128, True, "none", []),
    "llmcompressor-w8a8": ("compressed-tensors", "int-quantized", 8, -1, True, "dynamic-token",
                           ["lmdeploy"]),
}


def salient(*arguments):
    return subprocess.run([os.environ["SALIENT"], *map(str, arguments)], capture_output=True,
                          text=True, timeout=600)


def header_of(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


class InspectTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.source = self.directory / "source"
        shutil.copytree(POCKET_LLAMA, self.source,
                        ignore=shutil.ignore_patterns("*_open.safetensors"))
        self.calibration = POCKET_LLAMA / "calibration_open.safetensors"

    def inspect(self, directory, *flags):
        done = salient("inspect", directory, "--json", *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def quantize(self, output, *flags):
        return salient("quantize", self.source, output, "--calibration", self.calibration, "--rows",
                       "2", "--method", "rtn", *flags)

    def not_loading(self, found):
        self.assertEqual([verdict["engine"] for verdict in found["engines"]], ENGINES)
        for verdict in found["engines"]:
            self.assertTrue(verdict["loads"] or verdict["reasons"], verdict)
        return [verdict["engine"] for verdict in found["engines"] if not verdict["loads"]]

    def test_what_real_tools_wrote(self):
        for name, (method, output, bits, group, symmetric, activations, not_loading) in (
                PEERS.items()):
            with self.subTest(name):
                directory = shared("peers", name)
                found = self.inspect(directory)
                self.assertEqual(found["architecture"], "LlamaForCausalLM")
                self.assertEqual(found["quant_method"], method)
                stored = found["format"]
                self.assertEqual((stored["output_format"], stored["bits"], stored["group_size"],
                                  stored["activations"]), (output, bits, group, activations))
                if symmetric is not None:
                    self.assertEqual(stored["symmetric"], symmetric)
                tensors = header_of(os.path.join(directory, "model.safetensors"))
                packed = [tensor for tensor in tensors if tensor.endswith((".qweight", "_packed"))
                          or tensors[tensor].get("dtype") == "I8"]
                self.assertEqual(found["quantized_linears"], len(packed))
                self.assertEqual(found["plain_linears"], 0)
                self.assertEqual(self.not_loading(found), not_loading)

    def test_a_result_of_our_own(self):
        output = self.directory / "out"
        done = self.quantize(output, "--group-size", "64")
        self.assertEqual(done.returncode, 0, done.stderr)
        found = self.inspect(output)
        self.assertEqual(found["format"]["group_size"], 64)
        self.assertEqual(self.not_loading(found), ["lmdeploy", "llama-cpp"])
        tensors = header_of(output / "model.safetensors")
        tensors.pop("__metadata__")
        self.assertEqual(found["bytes"], max(t["data_offsets"][1] for t in tensors.values()))
        table = salient("inspect", output).stdout
        self.assertIn("awq-gemm, 4 bit, group 64", table)
        self.assertIn("lmdeploy wants 128", table)
        # Another server is given headers, and no weights.
        with LiveServer() as server:
            self.assertEqual(self.inspect(output, "--server", server.address), found)

    def test_a_mixed_result_is_said_to_be_mixed(self):
        output = self.directory / "out"
        module = "model.layers.0.self_attn.o_proj"
        flags = ["--format", "gptq", "--symmetric", "--override", f"{module}:bits=8"]
        done = self.quantize(output, *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = self.inspect(output)
        self.assertEqual(found["format"]["bits"], 4)
        self.assertEqual([(kind["bits"], kind["linears"]) for kind in found["formats"]],
                         [(4, found["quantized_linears"] - 1), (8, 1)])
        self.assertEqual(self.not_loading(found),
                         ["vllm-cpu", "tgi", "lmdeploy", "transformers", "llama-cpp"])
        table = salient("inspect", output).stdout
        for said in ("gptq, mixed", "8 bit, group 128, symmetric: 1 Linear"):
            self.assertIn(said, table)
        done = self.quantize(self.directory / "other", *flags, "--engine", "transformers")
        self.assertEqual(done.returncode, 42, done.stderr)
        self.assertIn("o_proj: bits is 8", done.stderr)

    def test_a_plain_model_loads_everywhere(self):
        found = self.inspect(self.source)
        self.assertEqual(found["quant_method"], "")
        self.assertNotIn("format", found)
        self.assertEqual(self.not_loading(found), [])

    def test_devices_that_cannot_share_it(self):
        found = self.inspect(self.source, "--tensor-parallel", "3")
        self.assertEqual(self.not_loading(found),
                         ["vllm", "vllm-cpu", "sglang", "tgi", "lmdeploy"])

    def test_a_broken_directory_names_file_and_tensor(self):
        config = json.loads((self.source / "config.json").read_text())
        (self.source / "config.json").write_text(
            json.dumps({**config, "intermediate_size": config["intermediate_size"] + 8}))
        done = salient("inspect", self.source)
        self.assertEqual(done.returncode, 42, done.stderr)
        self.assertIn("model.safetensors", done.stderr)
        self.assertIn("mlp.gate_proj.weight", done.stderr)
        (self.source / "model.safetensors").write_bytes(b"\xff" * 100)
        done = salient("inspect", self.source)
        self.assertEqual(done.returncode, 42, done.stderr)
        self.assertIn("model.safetensors", done.stderr)

    def test_engines_are_asked_before_any_work(self):
        output = self.directory / "out"
        done = self.quantize(output, "--group-size", "-1", "--engine", "vllm", "--engine", "tgi")
        self.assertEqual(done.returncode, 42, done.stderr)
        for said in ("group_size is -1; tgi wants 32, 64 or 128",
                     "the nearest that vllm and tgi load: group_size 128"):
            self.assertIn(said, done.stderr)
        self.assertFalse(output.exists())
        done = salient("estimate", self.source, "--group-size", "64", "--engine", "lmdeploy")
        self.assertEqual(done.returncode, 42, done.stderr)
        self.assertIn("lmdeploy wants 128", done.stderr)
        done = salient("estimate", self.source, "--group-size", "64", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        loads = ("the result loads in vllm, vllm-cpu, sglang, tgi and transformers; not in lmdeploy "
                 "and llama-cpp (inspect says why)")
        self.assertEqual(done.stderr.count("the result loads in"), 1, done.stderr)
        self.assertIn(loads, done.stderr)
        self.assertIn(loads, json.loads(done.stdout)["warnings"])
        # Of engines that nobody asked for nothing is said.
        done = self.quantize(output, "--engine", "lmdeploy")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("llama-cpp", done.stderr)


if __name__ == "__main__":
    run_tests()

"""Tests what `salient` exits with, says and leaves behind when something goes wrong, and what it says of
itself and of a server. Standard library only.

    exit_codes_cli_test.py SALIENT SALIENTD
"""

import json
import os
import signal
import socket
import subprocess
import sys
import unittest

import programs
from programs import free_port, LiveServer, run
from tensor_files import floats, read_safetensors, small_model, write_safetensors
from tensors_case import TensorsCase


class SayingTest(unittest.TestCase):
    def test_health_and_info_of_a_live_server(self):
        with LiveServer("--workers", "2") as server:
            healthy = run("health", "--server", server.address)
            self.assertEqual((healthy.returncode, healthy.stdout), (0, "SERVING\n"))
            service = run("health", "--server", server.address, "--service",
                          "salient.v1.QuantizationService")
            self.assertEqual(service.returncode, 0, service.stderr)
            unknown = run("health", "--server", server.address, "--service", "nobody")
            self.assertEqual(unknown.returncode, 69)
            self.assertIn("nobody", unknown.stderr)
            table = run("info", "--server", server.address)
            self.assertEqual(table.returncode, 0, table.stderr)
            self.assertRegex(table.stdout, r"workers +2\n")
            info = run("info", "--server", server.address, "--json")
            self.assertEqual(info.returncode, 0, info.stderr)
            described = json.loads(info.stdout)
            self.assertEqual(described["worker_count"], 2)
            self.assertIn("awq", described["scales"])
            self.assertIn("awq-gemm", described["output_formats"])
            self.assertEqual(described["ranges"], ["minmax", "clip"])
            self.assertIn("vllm-cpu", described["engines"])
            self.assertEqual(described["activation_formats"], ["dynamic", "static"])
            self.assertEqual(described["tasks"], ["quantize", "evaluate", "study", "inspect"])
            self.assertRegex(table.stdout, r"tasks of jobs +quantize, evaluate, study, inspect\n")
            self.assertGreater(described["limits"]["max_chunk_bytes"], 0)
            self.assertIn({"architecture": "LlamaForCausalLM", "model_type": "llama"},
                          described["families"])
            there = run("info", "--families", "--server", server.address)
            self.assertEqual(there.returncode, 0, there.stderr)
            self.assertEqual([tuple(line.split()) for line in there.stdout.splitlines()[2:]],
                             [(family["architecture"], family["model_type"])
                              for family in described["families"]])
            # What it prints can be typed back: the fault is the model that is not there.
            for name, *flags in (("scales", "--scale"), ("ranges", "--range"),
                                 ("roundings", "--rounding"), ("output_formats", "--format"),
                                 ("activation_formats", "--format=int-quantized", "--activations"),
                                 ("engines", "--engine")):
                self.assertNotEqual(described[name], [])
                for value in described[name]:
                    taken = run("estimate", "/nowhere", "--rows", "1", "--tokens", "8", *flags,
                                value)
                    self.assertNotEqual(taken.returncode, 2, taken.stderr)
                    self.assertIn("/nowhere", taken.stderr)

    def test_families_need_no_server(self):
        table = run("info", "--families")
        self.assertEqual((table.returncode, table.stderr), (0, ""))
        self.assertRegex(table.stdout, r"\Aarchitecture +model_type\n-[- ]*\n")
        self.assertRegex(table.stdout, r"\nLlamaForCausalLM +llama\n")
        described = json.loads(run("info", "--families", "--json").stdout)
        self.assertEqual(len(described["families"]), len(table.stdout.splitlines()) - 2)
        nowhere = f"127.0.0.1:{free_port()}"
        self.assertEqual(run("info", "--families", "--server", nowhere).returncode, 69)

    def test_version_and_help(self):
        self.assertRegex(run("--version").stdout, r"^salient \d+\.\d+\.\d+\n$")
        for arguments in (["--help"], ["tensors", "--help"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 0)
            self.assertIn("Usage", result.stdout)


class FailingTest(TensorsCase):
    def test_usage_is_2(self):
        for arguments in (
                [], ["nonsense"], ["tensors"], ["tensors", self.weights, self.activations],
                ["tensors", self.weights, self.activations, "-o", self.output, "--method", "best"],
                ["tensors", self.weights, self.activations, "-o", self.output, "--bits", "9"],
                ["tensors", self.weights, self.activations, "-o", self.output, "--group-size", "0"],
                ["tensors", self.weights, self.activations, "-o", self.output, "--server", "x:1",
                 "--workers", "2"],
                ["tensors", self.weights, self.activations, "-o", self.output, "--group", "qk"],
                ["health", "--timeout", "0"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertEqual(result.stdout, "")
            self.assertNotEqual(result.stderr, "")
        self.assertFalse(os.path.exists(self.output))

    def test_bad_files_are_42_and_need_no_server(self):
        nowhere = ("--server", f"127.0.0.1:{free_port()}")
        self.assert_fails(self.tensors(*nowhere, groups=("--group", "qk=q,absent")), 42,
                          "weights.safetensors", '"absent.weight"')
        self.assert_fails(self.tensors(*nowhere, groups=("--group", "qk=q,down")), 42,
                          '"down.weight"', "expected in_features 128")
        self.assert_fails(self.tensors(*nowhere, groups=("--group", "other=q")), 42,
                          "activations.safetensors", '"other"')
        self.assert_fails(self.tensors(*nowhere, groups=("--groups", self.path("none.json"))), 42,
                          "none.json")
        # A directory is no list, and not an empty one.
        self.assert_fails(self.tensors(*nowhere, groups=("--groups", self.directory)), 42,
                          self.directory, "regular file")
        good = self.weights
        self.weights = self.path("missing.safetensors")
        self.assert_fails(self.tensors(*nowhere), 42, "missing.safetensors")
        self.weights = self.path("noise.safetensors")
        with open(self.weights, "wb") as file:
            file.write(b"\xff" * 100)
        self.assert_fails(self.tensors(*nowhere), 42, "noise.safetensors")
        self.weights = good
        self.output = self.path("no/such/packed.safetensors")
        self.assert_fails(self.tensors(*nowhere), 42, self.output)

    def test_an_input_is_never_overwritten(self):
        with open(self.weights, "rb") as file:
            before = file.read()
        self.output = self.weights
        result = self.tensors()
        self.assertEqual(result.returncode, 42)
        self.assertIn("is an input", result.stderr)
        with open(self.weights, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_what_the_server_refuses_is_42_and_a_good_call_still_works(self):
        with LiveServer() as server:
            there = ("--server", server.address)
            tensors, _ = read_safetensors(self.weights)
            _, shape, data = tensors["down.weight"]
            bad = data[:400] + floats([float("nan")]) + data[404:]
            write_safetensors(self.weights, {**tensors, "down.weight": ("F32", shape, bad)})
            self.assert_fails(self.tensors(*there), 42, "down")
            write_safetensors(self.weights, tensors)
            self.assert_fails(self.tensors(*there, "--bits", "3"), 42, "--bits is 3")
            self.assert_fails(self.tensors(*there, "--group-size", "96"), 42, "group_size")
            self.assertEqual(self.tensors(*there).returncode, 0)

    def test_no_server_is_69(self):
        address = f"127.0.0.1:{free_port()}"
        says = f"cannot reach a server at {address}: Connection refused"
        self.assert_fails(self.tensors("--server", address), 69, says)
        for command in ("health", "info"):
            self.assert_fails(run(command, "--server", address), 69, says)

    def test_silent_server_is_69(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            self.assert_fails(run("health", "--server", address, "--timeout", "0.5"), 69, address)

    def test_server_that_dies_midway_is_69(self):
        self.make_long_work()
        with LiveServer("--workers", "1") as server:
            process = self.start_long_work("--server", server.address)
            server.process.kill()
            stdout, stderr = process.communicate(timeout=programs.TIMEOUT)
        result = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
        self.assert_fails(result, 69, server.address)

    def test_full_server_is_75(self):
        self.make_long_work()
        with LiveServer("--workers", "1", "--max-active-calls", "1") as server:
            process = self.start_long_work("--server", server.address)
            self.weights, self.activations = small_model(self.directory)
            refused = self.tensors("--server", server.address)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=programs.TIMEOUT)
        self.assert_fails(refused, 75, "try again")

    def interrupt(self, *flags):
        self.make_long_work()
        process = self.start_long_work(*flags)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=programs.TIMEOUT)
        result = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
        self.assert_fails(result, 130, "interrupted")

    def test_ctrl_c_is_130_with_an_embedded_server(self):
        self.interrupt("--workers", "1")

    def test_ctrl_c_is_130_and_the_server_lives_on(self):
        with LiveServer("--workers", "1") as server:
            self.interrupt("--server", server.address)
            self.weights, self.activations = small_model(self.directory)
            again = self.tensors("--server", server.address)
            self.assertEqual(again.returncode, 0, again.stderr)


if __name__ == "__main__":
    programs.SALIENT, programs.SALIENTD = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)

"""A server that is limited to an instruction set says so, and one that has it not says what it has."""

import os
import pathlib
import subprocess
import tempfile
import unittest

from contract import service_grpc, service_pb2
from live_server import LiveServer, run_tests, salientd_path

MODEL = pathlib.Path(__file__).resolve().parents[1] / "data" / "pocket-llama"
SETS = ("avx2", "avx512_core", "avx512_core_bf16", "avx512_core_amx")


def attempt(instruction_set):
    """Returns whether a server limited so starts, its exit code, what it says."""
    flags = ("--listen", "127.0.0.1:0", "--instruction-set", instruction_set)
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen([salientd_path(), *flags, "--metrics-listen", ""], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=directory)
        ready = process.stdout.readline()
        if ready:
            process.terminate()
        said = process.communicate(timeout=60)[1]
    return bool(ready), process.returncode, said


class InstructionSets(unittest.TestCase):
    def test_the_limit_is_what_the_server_names(self):
        ran = 0
        for name in SETS:
            with self.subTest(name):
                started, code, said = attempt(name)
                if not started:
                    self.assertEqual(code, 1, said)
                    # Which it has is for the CPU to say; that both are named, for us.
                    self.assertRegex(said, rf"instruction set {name} is not on this CPU, which has \w+")
                    print(f"NOT RUN: {said.strip()}")
                    continue
                with LiveServer("--instruction-set", name) as server, server.channel() as channel:
                    info = service_grpc.QuantizationServiceStub(channel).GetServerInfo(
                        service_pb2.GetServerInfoRequest(), timeout=10)
                self.assertEqual(info.instruction_path, name)
                kernels = "AVX2" if name == "avx2" else "AVX3"
                self.assertIn(f"/{name}+{kernels}/", info.numerics_id)
                ran += 1
        if ran == 0:
            self.skipTest("SKIPPED: this CPU has none of the sets")

    def test_an_unknown_set_is_a_usage_error_with_the_known_names(self):
        started, code, said = attempt("sse9")
        self.assertFalse(started)
        self.assertEqual(code, 2)
        for name in ("--instruction-set", "sse9", "native", *SETS):
            self.assertIn(name, said)

    def test_the_embedded_server_is_limited_by_the_same_names(self):
        said = subprocess.run([os.environ["SALIENT"], "estimate", MODEL, "--instruction-set", "sse9"],
                              capture_output=True, text=True, timeout=60).stderr
        for name in ("sse9", "native", *SETS):
            self.assertIn(name, said)


if __name__ == "__main__":
    run_tests()

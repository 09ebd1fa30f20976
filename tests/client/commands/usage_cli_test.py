"""Tests what `salient` and `salientd` say to somebody who mistyped. Standard library only.

    usage_cli_test.py SALIENT SALIENTD
"""

import json
import re
import subprocess
import sys
import unittest

import programs
from programs import free_port, LiveServer, run


class UsageTest(unittest.TestCase):
    def says(self, arguments, *texts):
        result = run(*arguments)
        self.assertEqual(result.returncode, 2, (arguments, result.stderr))
        self.assertEqual(result.stdout, "")
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 2, result.stderr)
        self.assertTrue(lines[0].startswith("salient: "), result.stderr)
        self.assertRegex(lines[1], r"^Run salient.* --help")
        self.assertLess(len(lines[0]), 300)
        for text in texts:
            self.assertIn(text, lines[0])
        return lines[1]

    def test_a_mistyped_command_is_told_the_one_that_was_meant(self):
        self.says(["quantise", "a", "b"], 'unknown command "quantise"; did you mean quantize?')
        hint = self.says(["jobs", "lst"], 'unknown command "lst"; did you mean list?')
        self.assertIn("salient jobs --help", hint)
        self.says(["serve"], 'unknown command "serve"; expected quantize, verify')
        self.says([], "a command is missing; expected quantize, verify")
        self.says(["jobs"], "a command is missing; expected list, watch")

    def test_a_mistyped_flag_is_told_the_one_that_was_meant(self):
        model = ["quantize", "a", "b", "--calibration", "c"]
        self.says(model + ["--bit", "4"], 'unknown flag "--bit"; did you mean --bits?')
        self.says(model + ["--group_size=64"], '"--group_size"; did you mean --group-size?')
        # The rest of the line is not looked at: it is the flag that is wrong.
        self.says(["quantize", "a", "b", "--calibraton", "c"], "did you mean --calibration?")
        self.says(["health", "--zebra"], 'unknown flag "--zebra"')
        self.says(["inspect", "a", "b", "c"], 'unexpected arguments "b" "c"')
        self.says(["inspect", "a", "b"], 'unexpected argument "b"')

    def test_a_bad_value_is_told_with_what_was_expected(self):
        model = ["quantize", "a", "b", "--calibration", "c"]
        for flags, text in (
                (["--bits", "four"], '--bits: "four"; expected an integer from 2 to 8'),
                (["--bits", "9"], "an integer from 2 to 8"),
                (["--rows", "-1"], '--rows: "-1"; expected an integer of at least 0'),
                (["--group-size", "0"], "-1 or channel"),
                (["--format", "qptq"], "did you mean gptq?"),
                (["--format", "gptq:bit=8"], "NAME:bits=2..8"),
                (["--override", "x"], "MODULE:skip"),
                (["--engine", "vlm"], "did you mean vllm?"),
                (["--max-shard-bytes", "5 apples"], "KiB, MiB, GiB or TiB"),
                (["--gptq-damping", "0.1"], "--gptq-damping goes with --rounding gptq only"),
                (["--seed", "-1"], "0 to 2^64 - 1"),
                (["--server", "https://quant.example"], "plaintext"),
                (["--server", "quant.example:port"], "expected HOST:PORT"),
                (["--server", "x:1", "--workers", "2"], "--server")):
            with self.subTest(flags=flags):
                # No file is looked at: there is none.
                self.says(model + flags, text)

    def test_a_path_that_is_empty_is_not_taken_for_one_that_is_left_out(self):
        tokens = ["--calibration", "c"]
        for arguments, flag in ((["quantize", "a", "", *tokens], "output"),
                                (["quantize", "", "b", *tokens], "source"),
                                (["quantize", "a", "b", "--calibration", ""], "--calibration"),
                                (["quantize", "a", "b", *tokens, "--job-id", ""], "--job-id"),
                                (["verify", "a", "--evaluation", "c", "--against", ""],
                                 "--against"),
                                (["verify", "a", "--evaluation", ""], "--evaluation"),
                                (["inspect", ""], "model"),
                                (["estimate", "a", "--calibration", ""], "--calibration"),
                                (["tensors", "a", "b", "-o", ""], "--output"),
                                (["jobs", "download", "j", ""], "directory"),
                                (["jobs", "cancel", ""], "job")):
            self.says(arguments, f'{flag}: ""; expected a ')

    def test_usage_errors_are_json_for_those_who_ask(self):
        result = run("jobs", "lst", "--json")
        self.assertEqual(result.returncode, 2)
        error = json.loads(result.stdout)["error"]
        self.assertEqual(error["exit_code"], 2)
        self.assertIn("did you mean list?", error["message"])

    def test_no_positional_has_the_name_of_a_flag(self):
        """CLI11 2.4 takes the two for one, and ends the program."""
        commands = ["quantize", "verify", "inspect", "estimate", "study", "tensors", "info",
                    "health", "jobs list", "jobs watch", "jobs cancel", "jobs download"]
        positionals = set()
        for command in commands:
            text = run(*command.split(), "--help").stdout
            flags = set(re.findall(r"--([a-z-]+)", text))
            listed = text.partition("Positionals:")[2].partition("\n\n")[0]
            names = set(re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE))
            self.assertFalse(names & flags, command)
            positionals |= names
        self.assertIn("weights", positionals)

    def test_help_and_version_are_commands_too(self):
        for arguments in (["help"], ["help", "jobs"], ["help", "jobs", "watch"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout, run(*arguments[1:], "--help").stdout)
        self.assertEqual(run("version").stdout, run("--version").stdout)
        with open("/dev/full", "w") as full:
            result = subprocess.run([programs.SALIENT, "--help"], stdout=full, check=False,
                                    stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 70, result.stderr)

    def test_a_server_is_found_however_it_is_written(self):
        with LiveServer() as server:
            port = server.address.rsplit(":", 1)[1]
            for address in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/",
                            f"dns:///127.0.0.1:{port}"):
                healthy = run("health", "--server", address)
                self.assertEqual((healthy.returncode, healthy.stdout), (0, "SERVING\n"), address)
        nobody = run("health", "--server", f"http://127.0.0.1:{free_port()}")
        self.assertIn("cannot reach a server at 127.0.0.1:", nobody.stderr)
        # The port of salientd, whether somebody listens there or not.
        default = run("health", "--server", "127.0.0.1", "--service", "nobody")
        self.assertIn("127.0.0.1:8443", default.stderr)

    def test_a_server_takes_units(self):
        bad = subprocess.run([programs.SALIENTD, "--memory-bytes", "8 parsecs"], check=False,
                             capture_output=True, text=True)
        self.assertEqual(bad.returncode, 2)
        self.assertIn('--memory-bytes: "8 parsecs"; expected bytes', bad.stderr)
        with LiveServer("--memory-bytes", "1GiB", "--call-memory-bytes", "64M",
                        "--idle-seconds", "5m", "--store-bytes", "2GiB") as server:
            limits = json.loads(run("info", "--server", server.address, "--json").stdout)["limits"]
        self.assertEqual(limits["call_memory_bytes"], 64 << 20)
        self.assertEqual(limits["idle_timeout_seconds"], 300)


if __name__ == "__main__":
    programs.SALIENT, programs.SALIENTD = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)

"""Runs `salient quantize` on a whole model, with the embedded server and against a live `salientd`.
Standard library only.

    model_cli_test.py SALIENT SALIENTD MODEL_DIRECTORY
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import unittest

import model_case
import programs
from model_case import ModelCase, digests
from programs import LiveServer, run


class QuantizeTest(ModelCase):
    def test_embedded_and_remote_give_the_same_files(self):
        embedded = self.assert_done(self.quantize("--json", "--workers", "1"))
        expected = digests(self.output)
        self.assertIn("config.json", expected)
        self.assertIn("model.safetensors", expected)
        self.assertIn("tokenizer.model", expected)
        report = json.loads(embedded)
        shutil.rmtree(self.output)
        with LiveServer("--workers", "2") as server:
            remote = json.loads(self.assert_done(
                self.quantize("--json", "--server", server.address)))
        self.assertEqual(digests(self.output), expected)
        self.assert_nothing_written("out")
        for name in ("parameters", "bytes_in", "bytes_out"):
            self.assertEqual(remote[name], report[name], name)
        losses = [(group["name"], group["ratio"], group["loss"]) for group in report["groups"]]
        self.assertEqual([(group["name"], group["ratio"], group["loss"])
                          for group in remote["groups"]], losses)

    def test_several_formats_are_directories_of_their_own(self):
        formats = ("--format", "awq-gemm", "--format", "dequantized-fp16:bits=3")
        skipped = "model.layers.0.mlp.down_proj"
        flags = ("--method", "rtn", "--override", skipped + ":skip")
        embedded = json.loads(self.assert_done(
            self.quantize("--json", *flags, *formats, "--workers", "1")))
        names = ["awq-gemm", "dequantized-fp16"]
        self.assertEqual(sorted(os.listdir(self.output)), names)
        expected = {name: digests(os.path.join(self.output, name)) for name in names}
        shutil.rmtree(self.output)
        with LiveServer("--workers", "2") as server:
            there = ("--server", server.address)
            remote = json.loads(self.assert_done(
                self.quantize("--json", *flags, *formats, *there, "--job-id", "both")))
            self.assert_done(run("jobs", "download", "both", self.path("again"), *there))
            for name, settings in zip(names, ("awq-gemm", "dequantized-fp16:bits=3")):
                one = self.path("one-" + name)
                self.assert_done(self.quantize(*flags, "--format", settings, *there, output=one))
                self.assertEqual(digests(one), expected[name])
        for output in (self.output, self.path("again")):
            self.assertEqual({name: digests(os.path.join(output, name))
                              for name in os.listdir(output)}, expected)
        for report in (embedded, remote):
            directories = [group["directory"] for group in report["groups"]]
            blocks = len(directories) // 2
            self.assertEqual(sorted(directories), [names[0]] * blocks + [names[1]] * blocks)
            self.assertNotIn(skipped, [group["name"] for group in report["groups"]])
            self.assertEqual({linear["bits"] for group in report["groups"]
                              for linear in group["linear_reports"]}, {3, 4})
        with open(self.path(os.path.join("again", "awq-gemm", "config.json"))) as file:
            listed = json.load(file)["quantization_config"]["modules_to_not_convert"]
        self.assertEqual(listed, [skipped])
        self.assert_nothing_written("out")

    def test_a_limit_of_error_is_held_and_told(self):
        limit = 0.01
        report = json.loads(self.assert_done(self.quantize(
            "--json", "--method", "rtn", "--bits", "3", "--format", "dequantized-fp16",
            "--max-relative-error", str(limit))))
        linears = [linear for group in report["groups"] for linear in group["linear_reports"]]
        for linear in linears:
            self.assertLessEqual(linear["relative_output_error"], limit, linear["name"])
        self.assertIn(8, {linear["bits"] for linear in linears})
        self.assertTrue(any("has 8 bits" in warning for warning in report["warnings"]))

    def test_json_is_all_of_standard_output(self):
        result = self.quantize("--json")
        report = json.loads(self.assert_done(result))
        self.assertEqual(report["output"], self.output)
        self.assertTrue(report["job"].startswith("jobs/"))
        self.assertEqual(report["bytes_out"], sum(
            os.path.getsize(os.path.join(self.output, name)) for name in os.listdir(self.output)))
        self.assertGreater(report["bytes_in"], report["bytes_out"])
        self.assertGreater(report["parameters"], 0)
        self.assertGreater(report["peak_rss_bytes"], 0)
        self.assertEqual((report["linears"], report["quantized_linears"]), (28, 28))
        self.assertGreater(report["seconds"], 0)
        self.assertGreater(report["estimate"]["seconds"], 0)
        self.assertGreater(report["estimate"]["peak_rss_bytes"], 0)
        for group in report["groups"]:
            self.assertLessEqual(group["loss"], group["loss_rtn"])
            self.assertTrue(group["ratio"])
            self.assertEqual("fold_error" in group, group["ratio"] != "identity", group["name"])
            self.assertTrue(0 <= group.get("fold_error", 0) < 1e-4, group["name"])
        self.assertTrue(any("fold_error" in group for group in report["groups"]))
        with open(os.path.join(self.source, "config.json")) as file:
            blocks = json.load(file)["num_hidden_layers"]
        self.assertEqual(len(report["groups"]), 4 * blocks)
        lines = [line for line in result.stderr.splitlines() if line.startswith("block ")]
        # Blocks that end within a quarter of a second share a line.
        self.assertTrue(1 <= len(lines) <= blocks, result.stderr)
        self.assertIn(f"block {blocks} of {blocks} done", lines[-1])

    def test_table_says_what_it_cost(self):
        table = self.assert_done(self.quantize("--method", "rtn"))
        for what in ("parameters", "bytes before", "bytes after", "peak memory", "mean loss/RTN"):
            self.assertIn(what, table)
        self.assertIn(self.output, table)

    def test_what_stays_f16_is_told_once_with_its_cause_and_what_would_help(self):
        arguments = [self.source, "--calibration", self.calibration, "--rows", "2", "--group-size",
                     "384"]  # It divides 768, the inputs of down_proj, and not 256.
        result = run("quantize", *arguments[:1], self.output, *arguments[1:], "--method", "awq")
        table = self.assert_done(result)
        told = [line for line in result.stderr.splitlines() if "not quantized" in line]
        self.assertEqual(told, [
            "warning: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj of all 4 blocks are not "
            "quantized: group_size 384 does not divide in_features 256; with group_size 128 all would be "
            "quantized"])
        self.assertRegex(table, r"quantized +4 of 28 Linears\n")
        notes = [line for line in table.splitlines() if line.startswith("note: ")]
        self.assertEqual(notes, ["note: 4 of model.layers.*.mlp.down_proj: not scaled, because the "
                                 "Linear before it is not quantized"])
        estimate = run("estimate", *arguments)
        self.assertIn(told[0], estimate.stderr)
        self.assertEqual(run("estimate", self.source, "--rows", "7").stdout.count(
            "7 calibration rows of 256 tokens, for want of --calibration"), 1)

    def test_an_empty_output_directory_is_taken(self):
        os.mkdir(self.output)
        self.assert_done(self.quantize("--method", "rtn"))
        self.assertIn("config.json", os.listdir(self.output))
        self.assert_nothing_written("out")

    def test_shards_are_cut_where_asked(self):
        self.assert_done(self.quantize("--method", "rtn", "--max-shard-bytes", "500000"))
        names = os.listdir(self.output)
        self.assertIn("model.safetensors.index.json", names)
        self.assertGreater(len([name for name in names if name.endswith(".safetensors")]), 1)
        # The server is remote and takes shards.
        self.source, first = self.output, self.source
        with LiveServer() as server:
            said = self.assert_done(run("verify", self.output, "--against", first,
                                        "--evaluation", self.evaluation, "--rows", "2",
                                        "--json", "--server", server.address))
        self.assertGreater(json.loads(said)["result"]["perplexity"], 1)

    def interrupt(self, *server):
        """Ctrl-C once a block is done, with so many tokens that the next ones take a while."""
        calibration = self.path("long.safetensors")
        self.repeat_tokens(self.calibration, calibration, 16)
        process = subprocess.Popen(
            [programs.SALIENT, "quantize", self.source, self.output, "--calibration",
             calibration, "--group-size", "32", *server],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.startswith("block 1 "):
                break
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=programs.TIMEOUT)
        self.assert_fails(
            subprocess.CompletedProcess([], process.returncode, stdout, stderr), 130,
            "interrupted", "was cancelled", "run the same command again")

    def test_ctrl_c_is_130_and_leaves_nothing(self):
        self.interrupt()

    def test_ctrl_c_cancels_the_job_of_a_server(self):
        with LiveServer() as server:
            self.interrupt("--server", server.address)
            listed = json.loads(self.assert_done(
                run("jobs", "list", "--server", server.address, "--json")))
            self.assertEqual([job["state"] for job in listed["jobs"]], ["cancelled"])
            self.assert_done(self.quantize("--server", server.address))
        self.assert_nothing_written("out")


if __name__ == "__main__":
    programs.SALIENT, programs.SALIENTD, model_case.MODEL = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)

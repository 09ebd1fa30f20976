"""Runs `salient quantize`, `verify`, `estimate` and `jobs` on a whole model: with the embedded
server, and against a live `salientd`. Standard library only.

    model_cli_test.py SALIENT SALIENTD MODEL_DIRECTORY
"""

import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

import cli_test

MODEL = ""
ROWS = "3"  # Enough to be a calibration, few enough to be quick.


def digests(directory):
    """{file: sha256} of a directory."""
    result = {}
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), "rb") as file:
            result[name] = hashlib.sha256(file.read()).hexdigest()
    return result


class ModelCliTest(unittest.TestCase):
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
        """The rows of a token file, so many times."""
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
        return cli_test.run("quantize", self.source, output or self.output, "--calibration",
                            self.calibration, "--rows", rows, "--group-size", "32", *flags)

    def verify(self, *flags):
        return cli_test.run("verify", *flags, "--evaluation", self.evaluation, "--rows", "2")

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


class RefusedTest(ModelCliTest):
    def setUp(self):
        super().setUp()
        # Whoever asks a server before looking gets another exit code.
        self.nowhere = ("--server", f"127.0.0.1:{cli_test.free_port()}")

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
            result = cli_test.run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertEqual(result.stdout, "")
        self.assert_nothing_written()

    def test_bad_calibration_is_42_and_needs_no_server(self):
        self.calibration = self.path("none.safetensors")
        self.assert_fails(self.quantize(*self.nowhere), 42, "none.safetensors")
        cli_test.write_safetensors(self.calibration, {"ids": ("I32", [1, 2], bytes(8))})
        self.assert_fails(self.quantize(*self.nowhere), 42, "none.safetensors", '"input_ids"')

    def test_bad_model_is_42_and_needs_no_server(self):
        weights = os.path.join(self.source, "model.safetensors")
        with open(weights, "r+b") as file:
            file.write(struct.pack("<Q", 1 << 60))
        self.assert_fails(self.quantize(*self.nowhere), 42, "model.safetensors")
        self.assert_fails(cli_test.run("estimate", self.source, *self.nowhere), 42,
                          "model.safetensors")
        self.assert_fails(cli_test.run("inspect", self.source, *self.nowhere), 42,
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

    def test_combinations_that_no_layout_has_are_42_and_say_what_works(self):
        self.assert_fails(self.quantize("--bits", "3"), 42, "awq-gemm", "bits is 3", "gptq")
        self.assert_fails(self.quantize("--format", "gptq", "--bits", "5"), 42, "bits is 5")
        self.assert_fails(self.quantize("--format", "int-quantized"), 42, "group_size is 32")
        self.assert_fails(self.quantize("--format", "awq-gemm:group_size=-1", "--engine", "tgi"),
                          42, "tgi", "-1")
        self.assert_fails(self.quantize("--activations", "dynamic"), 42, "activations")

    def test_overrides_and_limits_that_cannot_be_are_refused(self):
        for code, says, flags in (
                (42, "--override", ("--override", "nothing")),
                (42, "--format", ("--format", "awq-gemm:bits=x")),
                (2, "--max-relative-error", ("--max-relative-error", "-1")),
                (42, "no Linear", ("--override", "lm_head:skip")),
                (42, "k_proj", ("--override", "model.layers.0.self_attn.q_proj:skip")),
                (42, "one format", ("--override", "model.layers.0.mlp.down_proj:bits=8")),
                (42, "awq-gemm-4bit-g32", ("--format", "awq-gemm", "--format", "awq-gemm"))):
            self.assert_fails(self.quantize(*flags), code, says)

    def test_no_server_is_69(self):
        address = self.nowhere[1]
        for result in (self.quantize(*self.nowhere), self.verify(self.source, *self.nowhere),
                       cli_test.run("estimate", self.source, *self.nowhere),
                       cli_test.run("jobs", "list", *self.nowhere),
                       cli_test.run("jobs", "watch", "j", *self.nowhere),
                       cli_test.run("jobs", "cancel", "j", *self.nowhere),
                       cli_test.run("jobs", "download", "j", self.output, *self.nowhere)):
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


class QuantizeTest(ModelCliTest):
    def test_embedded_and_remote_give_the_same_files(self):
        embedded = self.assert_done(self.quantize("--json", "--workers", "1"))
        expected = digests(self.output)
        self.assertIn("config.json", expected)
        self.assertIn("model.safetensors", expected)
        self.assertIn("tokenizer.model", expected)
        report = json.loads(embedded)
        shutil.rmtree(self.output)
        with cli_test.LiveServer("--workers", "2") as server:
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
        with cli_test.LiveServer("--workers", "2") as server:
            there = ("--server", server.address)
            remote = json.loads(self.assert_done(
                self.quantize("--json", *flags, *formats, *there, "--job-id", "both")))
            self.assert_done(cli_test.run("jobs", "download", "both", self.path("again"), *there))
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
        self.assertGreater(report["seconds"], 0)
        self.assertGreater(report["estimate"]["seconds"], 0)
        self.assertGreater(report["estimate"]["peak_memory_bytes"], 0)
        for group in report["groups"]:
            self.assertLessEqual(group["loss"], group["loss_rtn"])
            self.assertTrue(group["ratio"])
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
        # Remote, from shards.
        self.source, first = self.output, self.source
        with cli_test.LiveServer() as server:
            said = self.assert_done(cli_test.run("verify", self.output, "--against", first,
                                                 "--evaluation", self.evaluation, "--rows", "2",
                                                 "--json", "--server", server.address))
        self.assertGreater(json.loads(said)["result"]["perplexity"], 1)

    def interrupt(self, *server):
        """Ctrl-C once a block is done, with so many tokens that the next ones take a while."""
        calibration = self.path("long.safetensors")
        self.repeat_tokens(self.calibration, calibration, 16)
        process = subprocess.Popen(
            [cli_test.SALIENT, "quantize", self.source, self.output, "--calibration",
             calibration, "--group-size", "32", *server],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.startswith("block 1 "):
                break
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=cli_test.TIMEOUT)
        self.assert_fails(
            subprocess.CompletedProcess([], process.returncode, stdout, stderr), 130,
            "interrupted", "was cancelled", "run the same command again")

    def test_ctrl_c_is_130_and_leaves_nothing(self):
        self.interrupt()

    def test_ctrl_c_cancels_the_job_of_a_server(self):
        with cli_test.LiveServer() as server:
            self.interrupt("--server", server.address)
            listed = json.loads(self.assert_done(
                cli_test.run("jobs", "list", "--server", server.address, "--json")))
            self.assertEqual([job["state"] for job in listed["jobs"]], ["cancelled"])
            self.assert_done(self.quantize("--server", server.address))
        self.assert_nothing_written("out")


class OtherCommandsTest(ModelCliTest):
    def test_verify_compares_source_result_and_rtn(self):
        self.assert_done(self.quantize())
        report = json.loads(self.assert_done(
            self.verify(self.output, "--against", self.source, "--json")))
        self.assertGreater(report["source"]["perplexity"], 1)
        self.assertGreater(report["result"]["perplexity"], 1)
        self.assertGreater(report["rtn"]["perplexity"], 1)
        self.assertGreater(report["kl"], 0)
        self.assertLess(report["kl"], report["rtn_kl"])
        self.assertGreater(report["top1_agreement"], 0.5)
        self.assertLessEqual(report["top1_agreement"], 1)
        for layer in report["layers"]:
            self.assertGreater(layer["error"], 0)
        table = self.assert_done(self.verify(self.output, "--against", self.source))
        for name in (self.output, self.source, "round-to-nearest", "KL"):
            self.assertIn(name, table)

    def test_verify_of_a_model_and_itself_finds_nothing(self):
        report = json.loads(self.assert_done(
            self.verify(self.source, "--against", self.source, "--no-rtn", "--json")))
        self.assertEqual(report["result"], report["source"])
        self.assertEqual(report["kl"], 0)
        self.assertEqual(report["top1_agreement"], 1)
        self.assertNotIn("rtn", report)

    def test_verify_alone_is_perplexity(self):
        report = json.loads(self.assert_done(self.verify(self.source, "--json")))
        self.assertGreater(report["result"]["perplexity"], 1)
        self.assertNotIn("source", report)
        self.assertNotIn("kl", report)

    def test_round_to_nearest_can_be_asked_for(self):
        three, eight = (json.loads(self.assert_done(self.verify(
            self.source, "--against", self.source, "--rtn-bits", bits, "--rtn-group-size", "32",
            "--json")))["rtn_kl"] for bits in ("3", "8"))
        self.assertGreater(three, 10 * eight)

    def test_estimate_needs_no_tokens_and_changes_nothing(self):
        before = digests(self.source)
        estimates = {}
        with cli_test.LiveServer() as server:
            for name, flags in {"small": ("--rows", "2", "--tokens", "64"), "default": (),
                                "file": ("--calibration", self.calibration, "--rows", "2"),
                                "remote": ("--rows", "2", "--tokens", "64", "--server",
                                           server.address)}.items():
                said = self.assert_done(cli_test.run("estimate", self.source, *flags, "--json"))
                estimates[name] = json.loads(said)
            jobs = json.loads(self.assert_done(
                cli_test.run("jobs", "list", "--server", server.address, "--json")))
        self.assertEqual(jobs, {"jobs": []})
        for name, estimate in estimates.items():
            for field in ("seconds", "peak_memory_bytes", "flop", "output_bytes"):
                self.assertGreater(estimate[field], 0, name)
        self.assertGreater(estimates["default"]["flop"], estimates["small"]["flop"])
        self.assertEqual(estimates["remote"]["flop"], estimates["small"]["flop"])
        table = self.assert_done(cli_test.run("estimate", self.source))
        self.assertIn("peak memory", table)
        self.assertEqual(digests(self.source), before)
        self.assert_nothing_written()

    def test_jobs_are_listed_watched_downloaded_and_forgotten(self):
        with cli_test.LiveServer() as server:
            there = ("--server", server.address)
            self.assert_done(self.quantize(*there, "--job-id", "first"))
            listed = json.loads(self.assert_done(cli_test.run("jobs", "list", *there, "--json")))
            self.assertEqual([(job["name"], job["state"], job["task"]) for job in listed["jobs"]],
                             [("jobs/first", "succeeded", "quantize")])
            self.assertIn("jobs/first", self.assert_done(cli_test.run("jobs", "list", *there)))
            self.assert_done(cli_test.run("jobs", "watch", "first", *there))
            self.assert_done(cli_test.run("jobs", "cancel", "jobs/first", *there))
            again = self.path("again")
            self.assert_done(cli_test.run("jobs", "download", "first", again, *there))
            self.assertEqual(digests(again), digests(self.output))
            refused = cli_test.run("jobs", "download", "first", again, *there)
            self.assertEqual(refused.returncode, 42, refused.stderr)
            self.assert_done(cli_test.run("jobs", "delete", "first", *there))
            gone = cli_test.run("jobs", "watch", "first", *there)
            self.assertEqual(gone.returncode, 42, gone.stderr)
            self.assertIn("first", gone.stderr)

    def test_interrupted_watch_lets_the_job_go_on(self):
        with cli_test.LiveServer("--workers", "1") as server:
            there = ("--server", server.address)
            process = subprocess.Popen(
                [cli_test.SALIENT, "quantize", self.source, self.output, "--calibration",
                 self.calibration, "--group-size", "32", "--job-id", "long", *there],
                stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            for line in process.stderr:
                if line.startswith("block 1 "):
                    break
            watch = subprocess.Popen([cli_test.SALIENT, "jobs", "watch", "long", *there],
                                     stderr=subprocess.PIPE, text=True)
            first = next(line for line in watch.stderr if not line.startswith("warning: "))
            self.assertIn("block 1 ", first, "all events, from the first")
            watch.send_signal(signal.SIGINT)
            _, said = watch.communicate(timeout=cli_test.TIMEOUT)
            if watch.returncode != 0:  # the job may have been faster
                self.assertEqual(watch.returncode, 130)
                self.assertIn("goes on", said)
            _, said = process.communicate(timeout=cli_test.TIMEOUT)
            self.assertEqual(process.returncode, 0, said)


if __name__ == "__main__":
    cli_test.SALIENT, cli_test.SALIENTD, MODEL = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)

"""Tests how `salient` ends when its terminal, its reader, its disk or somebody else ends it, and what is
left then. Standard library only.

    endings_cli_test.py SALIENT SALIENTD MODEL_DIRECTORY
"""

import json
import os
import resource
import signal
import subprocess
import sys
import unittest

import model_case
import programs
from model_case import ModelCase
from programs import LiveServer, run


class EndingsTest(ModelCase):
    def start(self, *flags, **options):
        """Starts a run that has many blocks to go when its first one is done."""
        calibration = self.path("long.safetensors")
        if not os.path.exists(calibration):
            self.repeat_tokens(self.calibration, calibration, 16)
        process = subprocess.Popen(
            [programs.SALIENT, "quantize", self.source, self.output, "--calibration",
             calibration, "--group-size", "32", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        for line in process.stderr:
            if line.startswith("block 1 "):
                return process
        self.fail(f"rc {process.wait()}")

    def finished(self, process):
        stdout, stderr = process.communicate(timeout=programs.TIMEOUT)
        return subprocess.CompletedProcess([], process.returncode, stdout, stderr)

    def states(self, server):
        jobs = json.loads(self.assert_done(run("jobs", "list", "--server", server.address,
                                               "--json")))["jobs"]
        return [job["state"] for job in jobs]

    def test_a_terminal_that_closes_is_130_and_leaves_nothing(self):
        process = self.start()
        process.send_signal(signal.SIGHUP)
        self.assert_fails(self.finished(process), 130, "interrupted", "was cancelled")
        with LiveServer() as server:
            process = self.start("--server", server.address)
            process.send_signal(signal.SIGHUP)
            self.assert_fails(self.finished(process), 130, "was cancelled")
            self.assertEqual(self.states(server), ["cancelled"])

    def test_nohup_outlives_its_terminal(self):
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        process = self.start(preexec_fn=ignore)
        process.send_signal(signal.SIGHUP)
        self.assert_done(self.finished(process))

    def test_a_reader_that_goes_away_is_130_and_leaves_nothing(self):
        process = self.start()
        process.stderr.close()
        self.assertEqual(process.wait(programs.TIMEOUT), 130)
        process.stdout.close()
        self.assert_nothing_written()

    def test_what_a_killed_run_left_goes_with_the_next_and_a_living_one_stays(self):
        process = self.start()
        process.kill()
        self.finished(process)
        left = [name for name in os.listdir(self.directory) if name.startswith("out.")]
        self.assertTrue(left)
        process = self.start()
        growing = {name for name in os.listdir(self.directory) if name.startswith("out.")}
        self.assertFalse(growing & set(left), "left behind")
        # Another run into the same place does not rob the first one.
        self.assert_done(self.quantize("--method", "rtn"))
        self.assertTrue(growing <= set(os.listdir(self.directory)))
        second = self.finished(process)
        self.assertEqual(second.returncode, 42, second.stderr)
        self.assertIn("is there already", second.stderr)
        self.assert_nothing_written("out")

    def test_scratch_of_a_killed_process_goes_with_the_next(self):
        os.mkdir(self.path("tmp"))
        environment = {**os.environ, "TMPDIR": self.path("tmp")}
        killed = subprocess.Popen(
            [programs.SALIENTD, "--listen", "127.0.0.1:0", "--metrics-listen", ""],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        killed.stdout.readline()
        (left,) = os.listdir(self.path("tmp"))
        inspect = ("inspect", self.source)
        self.assert_done(run(*inspect, env=environment))
        self.assertEqual(os.listdir(self.path("tmp")), [left], "that of a living server stays")
        killed.kill()
        killed.communicate()
        self.assertEqual(os.listdir(self.path("tmp")), [left])
        self.assert_done(run(*inspect, env=environment))
        self.assertEqual(os.listdir(self.path("tmp")), [])

    def test_an_output_root_is_cleaned_by_the_next_job_into_the_same_place(self):
        left = self.output + ".incomplete-01234567"
        os.mkdir(left)
        self.assert_done(self.quantize("--method", "rtn"))
        self.assert_nothing_written("out")

    def test_a_file_that_may_not_grow_is_70_and_leaves_nothing(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        result = run("quantize", self.source, self.output, "--calibration", self.calibration,
                     "--rows", "2", "--method", "rtn", "--group-size", "32", preexec_fn=limit)
        self.assert_fails(result, 70, "File too large")
        self.assertNotIn("try again", result.stderr)

    def test_too_many_open_files_is_70_and_leaves_nothing(self):
        told = 0
        for files in range(18, 30, 2):  # gRPC needs some before it can say anything.
            limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
            result = run("quantize", self.source, self.output, "--calibration", self.calibration,
                         "--rows", "2", "--method", "rtn", "--group-size", "32", preexec_fn=limit)
            if result.returncode == 0:
                break
            self.assert_nothing_written()
            if "Too many open files" in result.stderr.splitlines()[-1]:
                told += 1
                self.assert_fails(result, 70)
                self.assertNotIn("try again", result.stderr)
        self.assertGreater(told, 0, result.stderr)

    def test_standard_output_that_takes_nothing_is_70(self):
        self.assert_done(self.quantize("--method", "rtn"))
        for command in (["verify", self.output, "--evaluation", self.evaluation, "--rows", "2"],
                        ["inspect", self.output], ["inspect", self.output, "--json"]):
            with open("/dev/full", "w") as full:
                result = subprocess.run([programs.SALIENT, *command], stdout=full, text=True,
                                        stderr=subprocess.PIPE, timeout=programs.TIMEOUT)
            self.assertEqual(result.returncode, 70, result.stderr)
            self.assertIn("standard output cannot be written: No space", result.stderr)
        reader, writer = os.pipe()
        os.close(reader)
        result = subprocess.run([programs.SALIENT, "inspect", self.output], stdout=writer,
                                stderr=subprocess.PIPE, text=True, timeout=programs.TIMEOUT)
        os.close(writer)
        self.assertEqual(result.returncode, 130, result.stderr)

    def test_standard_descriptors_that_are_closed_are_given_to_nobody(self):
        process = self.start("--method", "rtn", preexec_fn=lambda: os.closerange(0, 2))
        # gRPC's library takes the lowest number while it is loaded, and never uses it.
        self.assertEqual(os.readlink(f"/proc/{process.pid}/fd/1"), "/dev/null")
        result = self.finished(process)
        self.assertEqual(result.returncode, 70, result.stderr)
        self.assertIn("standard output cannot be written: Bad file descriptor", result.stderr)

    def test_a_long_name_is_written_and_one_too_long_is_42(self):
        self.output = self.path("out" + "n" * 252)
        self.assert_done(self.quantize("--method", "rtn"))
        self.assert_nothing_written(os.path.basename(self.output))
        self.output += "n"
        result = self.quantize("--method", "rtn")
        self.assertEqual(result.returncode, 42, result.stderr)
        self.assertIn("File name too long", result.stderr)

    def test_a_job_that_somebody_else_cancels_is_76(self):
        with LiveServer() as server:
            there = ("--server", server.address)
            process = self.start(*there, "--job-id", "mine")
            watch = subprocess.Popen([programs.SALIENT, "jobs", "watch", "mine", *there],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            watch.stderr.readline()
            self.assert_done(run("jobs", "cancel", "mine", *there))
            self.assert_fails(self.finished(process), 76, "cancelled by somebody else")
            self.assertEqual(self.finished(watch).returncode, 76)

    def test_errors_are_json_for_those_who_ask(self):
        nowhere = ("--server", f"127.0.0.1:{programs.free_port()}", "--json")
        for code, name, arguments in (
                (69, "UNAVAILABLE", ["health"]), (69, "UNAVAILABLE", ["jobs", "list"]),
                (42, "NOT_FOUND", ["inspect", self.path("nothing")])):
            result = run(*arguments, *nowhere)
            self.assertEqual(result.returncode, code, result.stderr)
            error = json.loads(result.stdout)["error"]
            self.assertEqual((error["code"], error["exit_code"]), (name, code))
            self.assertIn(error["message"], result.stderr)
        with LiveServer() as server:
            answer = json.loads(self.assert_done(
                run("health", "--server", server.address, "--json")))
            self.assertEqual(answer, {"status": "SERVING", "server": server.address})
            unknown = run("jobs", "watch", "nobody", "--server", server.address, "--json")
            self.assertEqual(json.loads(unknown.stdout)["error"]["reason"], "UNKNOWN_JOB")


class ServerEndingsTest(unittest.TestCase):
    def stopped(self, signal_number, **options):
        process = subprocess.Popen(
            [programs.SALIENTD, "--listen", "127.0.0.1:0", "--metrics-listen", ""],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        self.assertIn("ready", process.stdout.readline())
        process.send_signal(signal_number)
        if options:
            process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=programs.TIMEOUT)
        return process.returncode, log

    def test_hang_up_drains_and_is_logged(self):
        code, log = self.stopped(signal.SIGHUP)
        self.assertEqual(code, 0, log)
        self.assertIn("stopping: signal 1 (Hangup)", log)
        self.assertIn("stopped", log)

    def test_standard_descriptors_that_are_closed_are_given_to_nobody(self):
        process = subprocess.Popen(
            [programs.SALIENTD, "--listen", "127.0.0.1:0", "--metrics-listen", ""],
            stdout=subprocess.PIPE, text=True, preexec_fn=lambda: (os.close(0), os.close(2)))
        self.assertIn("ready", process.stdout.readline())
        held = os.readlink(f"/proc/{process.pid}/fd/2")
        process.terminate()
        process.communicate(timeout=programs.TIMEOUT)
        self.assertEqual(held, "/dev/null")
        self.assertEqual(process.returncode, 0)

    def test_nohup_is_stopped_by_others_alone(self):
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        code, log = self.stopped(signal.SIGHUP, preexec_fn=ignore)
        self.assertEqual(code, 0, log)
        self.assertIn("stopping: signal 15", log)
        self.assertNotIn("signal 1 ", log)


if __name__ == "__main__":
    programs.SALIENT, programs.SALIENTD, model_case.MODEL = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)

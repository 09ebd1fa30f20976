"""Runs `salient jobs` against a live `salientd`. Standard library only.

    jobs_cli_test.py SALIENT SALIENTD MODEL_DIRECTORY
"""

import json
import signal
import subprocess
import sys
import unittest

import model_case
import programs
from model_case import ModelCase, digests
from programs import LiveServer, run


class JobsTest(ModelCase):
    def test_jobs_are_listed_watched_downloaded_and_forgotten(self):
        with LiveServer() as server:
            there = ("--server", server.address)
            self.assert_done(self.quantize(*there, "--job-id", "first"))
            listed = json.loads(self.assert_done(run("jobs", "list", *there, "--json")))
            self.assertEqual([(job["job"], job["state"], job["task"]) for job in listed["jobs"]],
                             [("jobs/first", "succeeded", "quantize")])
            self.assertIn("jobs/first", self.assert_done(run("jobs", "list", *there)))
            self.assert_done(run("jobs", "watch", "first", *there))
            self.assert_done(run("jobs", "cancel", "jobs/first", *there))
            again = self.path("again")
            self.assert_done(run("jobs", "download", "first", again, *there))
            self.assertEqual(digests(again), digests(self.output))
            refused = run("jobs", "download", "first", again, *there)
            self.assertEqual(refused.returncode, 42, refused.stderr)
            self.assert_done(run("jobs", "delete", "first", *there))
            gone = run("jobs", "watch", "first", *there)
            self.assertEqual(gone.returncode, 42, gone.stderr)
            self.assertIn("first", gone.stderr)

    def test_interrupted_watch_lets_the_job_go_on(self):
        with LiveServer("--workers", "1") as server:
            there = ("--server", server.address)
            process = subprocess.Popen(
                [programs.SALIENT, "quantize", self.source, self.output, "--calibration",
                 self.calibration, "--group-size", "32", "--job-id", "long", *there],
                stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            for line in process.stderr:
                if line.startswith("block 1 "):
                    break
            watch = subprocess.Popen([programs.SALIENT, "jobs", "watch", "long", *there],
                                     stderr=subprocess.PIPE, text=True)
            first = next(line for line in watch.stderr if not line.startswith("warning: "))
            self.assertIn("block 1 ", first, "all events, from the first")
            watch.send_signal(signal.SIGINT)
            _, said = watch.communicate(timeout=programs.TIMEOUT)
            if watch.returncode != 0:  # The job may have been faster.
                self.assertEqual(watch.returncode, 130)
                self.assertIn("goes on", said)
            _, said = process.communicate(timeout=programs.TIMEOUT)
            self.assertEqual(process.returncode, 0, said)

    def test_a_watch_tells_of_a_server_that_went_away_and_ends_as_the_run_does(self):
        port = programs.free_port()
        with LiveServer("--workers", "1", listen=f"127.0.0.1:{port}") as server:
            there = ("--server", server.address)
            calibration = self.path("long.safetensors")
            self.repeat_tokens(self.calibration, calibration, 16)
            process = subprocess.Popen(
                [programs.SALIENT, "quantize", self.source, self.output, "--calibration",
                 calibration, "--group-size", "32", *there],
                stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            named = next(line for line in process.stderr if line.startswith("jobs/"))
            name, _, address = named.split()
            self.assertEqual(address, server.address)
            next(line for line in process.stderr if line.startswith("block 1 "))
            watch = subprocess.Popen([programs.SALIENT, "jobs", "watch", name, *there],
                                     stderr=subprocess.PIPE, text=True)
            next(line for line in watch.stderr if line.startswith("block 1 "))
            server.process.kill()
            server.process.wait()
            for said in (watch.stderr, process.stderr):
                next(line for line in said if "trying again" in line)
            # Restarted, it knows neither.
            with LiveServer(listen=f"127.0.0.1:{port}"):
                for client in (watch, process):
                    _, said = client.communicate(timeout=programs.TIMEOUT)
                    self.assertEqual(client.returncode, 75, said)
                    self.assertIn(f"lost {name}, as after a restart", said)
        self.assert_nothing_written()


if __name__ == "__main__":
    programs.SALIENT, programs.SALIENTD, model_case.MODEL = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)

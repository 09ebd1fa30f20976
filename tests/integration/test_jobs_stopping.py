"""A job stops when it is told to: cancelled, out of time, or together with its server."""

import signal
import threading
import time
import unittest

import grpc

import job_models as models
from contract import failure_of, job_pb2
from job_case import JobCase
from job_client import (CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, JobClient, model_path, quantize)
from job_server import JobServer
from live_server import run_tests, wait_until

Code = grpc.StatusCode
CPU_FREE_SECONDS = 10
END_SECONDS = 10


class CancelTest(JobCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.heavy_ids = models.random_tokens(32, 256, 512)
        cls.heavy_tokens = cls.client.upload(models.token_file(cls.heavy_ids))
        cls.heavy = cls.server.add_model("heavy", models.heavy_llama().files())

    def start_heavy(self, output="", server=None, **task):
        """Starts a job that is on its way through block 0. Returns its name."""
        client = (server or self.server).client
        spec = quantize(model_path(self.heavy), self.heavy_tokens, output_path=output, **task)
        name = client.create(spec).name
        for event in client.watch(name):
            if event.WhichOneof("event") == "progress" and event.progress.token_count:
                return name
        self.fail(f"{client.get(name)}")

    def assert_cpu_free(self):
        def idle():
            before, start = self.server.cpu_seconds(), time.monotonic()
            time.sleep(0.5)
            return self.server.cpu_seconds() - before < 0.1 * (time.monotonic() - start)

        seconds = wait_until(idle, CPU_FREE_SECONDS, every=0)
        self.assertIsNotNone(seconds, "the server still computes")
        return seconds

    def test_a_running_job(self):
        name = self.start_heavy(output="cancelled")
        start = time.monotonic()
        answer = self.client.cancel(name)
        self.assertIn(answer.state, (RUNNING, CANCELLED))
        outcome = self.client.finish(name)
        seconds = time.monotonic() - start
        idle = self.assert_cpu_free()
        print(f"\n  cancelled after {seconds:.3f} s (promised: 1), CPU idle within {idle:.1f} s more")
        self.assertEqual(outcome.job.state, CANCELLED)
        self.assertEqual(outcome.events[-1].state_changed, CANCELLED)
        self.assertLess(seconds, END_SECONDS)
        self.assertEqual(self.server.leftovers(), [])
        self.assertIsNone(self.server.output("cancelled"))
        # Cancelling once more changes nothing.
        self.assertEqual(self.client.cancel(name), self.client.get(name))
        self.assertEqual(self.client.get(name).revision, outcome.job.revision)

    def test_results_of_a_cancelled_job_are_gone(self):
        client = self.client
        name = client.create(quantize(model_path(self.heavy), self.heavy_tokens, max_rows=1)).name
        ready = next(e.tensor_ready for e in client.watch(name)
                     if e.WhichOneof("event") == "tensor_ready")
        client.cancel(name)
        outcome = client.finish(name)
        if outcome.job.state == SUCCEEDED:
            self.skipTest("the machine was faster than the cancel")
        self.assertFalse(outcome.job.files)
        self.assertFalse(client.can_read(ready.digest))

    def test_a_waiting_job_and_those_behind_it(self):
        waiting = self.client.create(self.absent_spec(300))
        ready = self.client.run(self.spec, self.files.values())
        self.assertEqual(ready.job.state, SUCCEEDED)  # It was not held up.
        self.assertIn(self.client.get(waiting.name).state, (QUEUED, RUNNING))
        self.client.cancel(waiting.name)
        self.assertEqual(self.client.finish(waiting.name).job.state, CANCELLED)

    def test_an_ended_job_stays_as_it_is(self):
        outcome = self.client.run(self.spec, self.files.values())
        self.assertEqual(outcome.job.state, SUCCEEDED)
        self.assertEqual(self.client.cancel(outcome.job.name), outcome.job)

    def test_a_job_that_takes_too_long(self):
        start = time.monotonic()
        spec = quantize(model_path(self.heavy), self.heavy_tokens, timeout=0.5, output_path="late")
        outcome = self.client.run(spec)
        print(f"\n  a timeout of 0.5 s ended the job after {time.monotonic() - start:.2f} s")
        self.assertEqual(outcome.job.state, FAILED)
        self.assert_fails(outcome.failure, Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        self.assert_cpu_free()
        self.assertIsNone(self.server.output("late"))
        self.assertEqual(self.server.leftovers(), [])


class DrainTest(unittest.TestCase):
    def setUp(self):
        self.server = JobServer("--drain-seconds", "1")
        self.addCleanup(self.server.stop)
        self.client = self.server.client
        tokens = self.client.upload(models.token_file(models.random_tokens(32, 256, 512)))
        path = self.server.add_model("heavy", models.heavy_llama().files())
        self.spec = quantize(model_path(path), tokens, output_path="drained")

    def test_sigterm_ends_a_running_job(self):
        name = self.client.create(self.spec).name
        events = []
        for event in self.client.watch(name):
            events.append(event)
            if event.WhichOneof("event") == "progress" and event.progress.token_count:
                break
        watch_end = []

        def watch():
            channel = self.server.channel()
            try:
                watch_end.extend(JobClient(channel).watch(name, events[-1].revision))
            except grpc.RpcError as error:
                watch_end.append(failure_of(error))
            channel.close()

        watcher = threading.Thread(target=watch)
        watcher.start()
        outputs, start = self.server.outputs, time.monotonic()
        self.server.process.send_signal(signal.SIGTERM)
        code = self.server.process.wait(30)
        watcher.join(10)
        print(f"\n  SIGTERM with a running job: exit {code} after {time.monotonic() - start:.2f} s, "
              f"1 s of it to drain")
        self.assertEqual(code, 0, self.server.log())
        self.assertFalse(watcher.is_alive())
        self.assertEqual(list(outputs.iterdir()), [])
        self.assertEqual(self.server.leftovers(), [])
        last = watch_end[-1]
        if isinstance(last, job_pb2.JobEvent):
            self.assertEqual(last.state_changed, FAILED)
        else:
            self.assertEqual(last.code, Code.UNAVAILABLE, last)

    def test_no_job_is_accepted_while_draining(self):
        name = self.client.create(self.spec).name
        started = wait_until(lambda: self.client.get(name).state == RUNNING, 20)
        self.assertIsNotNone(started)
        self.server.process.send_signal(signal.SIGTERM)
        refused = []

        def is_refused():
            try:
                self.client.create(self.spec, job_id="late", validate_only=False)
            except grpc.RpcError as error:
                refused.append(failure_of(error))
            return bool(refused)

        self.assertIsNotNone(wait_until(is_refused, 20))
        self.assertEqual(refused[0].code, Code.UNAVAILABLE, refused[0])
        self.assertEqual(self.server.process.wait(30), 0)


if __name__ == "__main__":
    run_tests()

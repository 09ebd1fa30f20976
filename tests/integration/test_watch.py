"""Tests WatchJob as a stream: heartbeats while nothing happens, watchers that read nothing, watchers that
go away, a server that stops."""

import time

import grpc

from contract import failure_of, service_pb2
from job_case import JobCase
from job_client import CANCELLED, FAILED, JobClient
from job_server import JobServer
from live_server import run_tests, wait_until

Code = grpc.StatusCode
MIB = 1 << 20
HEARTBEAT_SECONDS = 15
WATCHERS = 50
STREAM = dict(grpc_method="WatchJob")


def open_watches(server):
    metrics = server.metrics()
    return metrics.total("grpc_server_started_total", **STREAM) - metrics.total(
        "grpc_server_handled_total", **STREAM)


class WatchStreamTest(JobCase):
    def watch(self, name, after_revision=0, client=None):
        request = service_pb2.WatchJobRequest(name=name, after_revision=after_revision)
        return (client or self.client).jobs.WatchJob(request, timeout=120)

    def test_a_waiting_job_has_a_pulse(self):
        job = self.client.create(self.absent_spec(900))
        call = self.watch(job.name, after_revision=job.revision)
        start = time.monotonic()
        event = next(call).event
        while event.WhichOneof("event") != "heartbeat":
            start, event = time.monotonic(), next(call).event
        seconds = time.monotonic() - start
        print(f"\n  the first heartbeat came after {seconds:.1f} s")
        self.assertGreater(seconds, HEARTBEAT_SECONDS - 1)
        self.assertEqual(event.revision, self.client.get(job.name).revision)
        # The way to go on is the same after a heartbeat as after the event before it.
        self.client.cancel(job.name)
        states = [r.event.state_changed for r in call if r.event.WhichOneof("event") != "heartbeat"]
        self.assertEqual(states[-1], CANCELLED)

    def test_watchers_that_read_nothing_cost_little_and_miss_nothing(self):
        job = self.client.create(self.absent_spec(901))
        before = self.server.rss_bytes()
        channels = [self.server.channel() for _ in range(WATCHERS)]
        calls = [self.watch(job.name, client=JobClient(channel)) for channel in channels]
        self.assertIsNotNone(wait_until(lambda: open_watches(self.server) >= WATCHERS, 20))
        good = self.client.run(self.spec, self.files.values())  # Others go on.
        self.assertEqual(self.client.cancel(job.name).state, CANCELLED)
        grown = self.server.rss_bytes() - before
        print(f"\n  {WATCHERS} watchers that read nothing: RSS grew by {grown / MIB:.0f} MiB, a job "
              f"between included")
        self.assertLess(grown, 200 * MIB)
        self.assertTrue(good.tensors)
        for call, channel in zip(calls, channels):
            self.assertEqual(list(call)[-1].event.state_changed, CANCELLED)
            channel.close()
        self.assertIsNotNone(wait_until(lambda: open_watches(self.server) == 0, 20))

    def test_watchers_that_go_away_leave_nothing(self):
        job = self.client.create(self.absent_spec(902))
        self.addCleanup(self.client.cancel, job.name)
        for _ in range(100):
            call = self.watch(job.name)
            next(call)
            call.cancel()
        self.assertIsNotNone(wait_until(lambda: open_watches(self.server) == 0, 20),
                             f"{open_watches(self.server)} watches are still open")
        self.assertEqual(self.server.health(), 1)

    def test_bad_requests(self):
        job = self.client.create(self.absent_spec(903))
        self.addCleanup(self.client.cancel, job.name)
        for name, after, code, reason in (("jobs/nobody", 0, Code.NOT_FOUND, "UNKNOWN_JOB"),
                                          (job.name, -1, Code.INVALID_ARGUMENT, "BAD_JOB")):
            with self.assertRaises(grpc.RpcError) as raised:
                list(self.watch(name, after))
            self.assert_fails(failure_of(raised.exception), code, reason)


class DrainTest(JobCase):
    def test_a_watch_sees_what_the_end_of_the_server_does_to_its_job(self):
        server = JobServer("--drain-seconds", "1")
        self.addCleanup(server.stop)
        server.client.upload(self.tokens)
        job = server.client.create(self.absent_spec(904))
        call = server.client.jobs.WatchJob(service_pb2.WatchJobRequest(name=job.name), timeout=60)
        next(call)
        server.process.terminate()
        events = [response.event for response in call]
        self.assertEqual(events[-1].state_changed, FAILED)
        self.assertEqual(server.process.wait(30), 0)


if __name__ == "__main__":
    run_tests()

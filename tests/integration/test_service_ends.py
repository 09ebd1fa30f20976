"""Calls that end early: cancelled, broken off anywhere; and SIGTERM."""

import threading
import time
import unittest

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

import messages as m
from contract import failure_of, service_grpc
from live_server import ACTIVE_CALLS, HeldCall, LiveServer, run_tests, wait_until
from streams import MEMORY_RESERVED, MIB, copies, heavy_groups, is_empty

Code = grpc.StatusCode


class CancellationTest(unittest.TestCase):
    """Aim: the CPU is free within a second. Asserted: ten."""

    def test_cpu_is_free_soon_after_a_cancel(self):
        with LiveServer("--workers", "2") as server, server.channel() as channel:
            stub = service_grpc.QuantizationServiceStub(channel)
            written = threading.Event()

            def requests():
                yield from m.call_messages(heavy_groups()[:1])
                written.set()

            call = stub.QuantizeTensors(requests(), timeout=120)
            self.assertTrue(written.wait(60))
            # All input is there: from now on only the search costs time.
            cpu = server.cpu_seconds()
            self.assertIsNotNone(wait_until(lambda: server.cpu_seconds() > cpu + 0.2, 30),
                                 "the server does not compute")
            self.assertTrue(call.is_active(), "the group was done too soon to be cancelled")
            call.cancel()
            seconds = self.seconds_until_idle(server)
            print(f"\n  the CPU is free {seconds:.2f} s after the cancel")
            self.assertLess(seconds, 10)
            results, failure = server.quantize(m.call_messages([m.random_group("next", 1, 64, 128)]))
            self.assertIsNone(failure)
            self.assertEqual(len(results), 1)

    def seconds_until_idle(self, server, limit=20):
        """Until a moment after which the threads use less than 0.1 CPU for half a second."""
        start = time.monotonic()
        while time.monotonic() - start < limit:
            at, cpu = time.monotonic() - start, server.cpu_seconds()
            idle = True
            for _ in range(10):
                time.sleep(0.05)
                if server.cpu_seconds() - cpu > 0.05:
                    idle = False
                    break
            if idle:
                return at
        return limit


class LeakTest(unittest.TestCase):
    """Tests what clients leave behind when they go."""

    def test_calls_broken_off_anywhere_leave_nothing(self):
        groups = copies(m.random_group("broken", 3, [128, 64], 256, batch_tokens=8), 3)
        sent = list(m.call_messages(groups))
        rng = np.random.default_rng(17)
        with LiveServer("--workers", "2") as server:
            self.break_off(server, sent, rng, 20)  # So pools and arenas have grown.
            before = self.held(server)
            self.break_off(server, sent, rng, 100)
            after = self.held(server)
            print(f"\n  before and after 100 broken calls: {before}, {after}")
            self.assertEqual((after["calls"], after["reserved"]), (0, 0))
            self.assertLessEqual(after["fds"], before["fds"] + 2)
            self.assertLess(after["rss"], before["rss"] + 48 * MIB)
            results, failure = server.quantize(sent)
            self.assertIsNone(failure)
            self.assertEqual(len(results), len(groups))

    def break_off(self, server, sent, rng, count):
        for _ in range(count):
            stop = int(rng.integers(1, len(sent) + 1))
            with server.channel() as channel:
                call = service_grpc.QuantizationServiceStub(channel).QuantizeTensors(
                    self.waiting(sent[:stop]), timeout=60)
                time.sleep(float(rng.uniform(0, 0.05)))
                if rng.integers(2):
                    call.cancel()
                # Else the connection is closed under it.

    def waiting(self, sent):
        yield from sent
        time.sleep(1)

    def held(self, server):
        wait_until(lambda: is_empty(server), 20)
        metrics = server.metrics()
        return {"calls": metrics.total(ACTIVE_CALLS), "reserved": metrics.total(MEMORY_RESERVED),
                "fds": metrics.total("process_open_fds"), "rss": server.rss_bytes()}


class DrainTest(unittest.TestCase):
    """SIGTERM: what runs ends well, what is new goes elsewhere, the exit code is 0."""

    def test_running_call_finishes_and_new_calls_are_refused(self):
        # Both connections are open before the signal, as a load balancer's are.
        with LiveServer() as server, server.channel() as other, HeldCall(server) as held:
            health_pb2_grpc.HealthStub(other).Check(health_pb2.HealthCheckRequest(), timeout=10)
            want, failure = server.quantize(m.call_messages([held.group]))
            self.assertIsNone(failure)
            server.process.terminate()
            self.assertIsNotNone(wait_until(lambda: self.is_refused(other), 10),
                                 "new calls are still served")
            self.assertEqual(server.health(), health_pb2.HealthCheckResponse.NOT_SERVING)
            self.assertTrue(server.alive(), "the running call was not waited for")
            self.assertEqual([m.content(r) for r in held.finish()], [m.content(r) for r in want])
            self.assertEqual(server.process.wait(30), 0, server.log())

    def is_refused(self, channel):
        stub = service_grpc.QuantizationServiceStub(channel)
        try:
            list(stub.QuantizeTensors(m.call_messages([m.random_group("new", 2, 8, 128)]), timeout=10))
            return False
        except grpc.RpcError as error:
            failure = failure_of(error)
            self.assertEqual((failure.code, failure.reason), (Code.UNAVAILABLE, "DRAINING"), failure)
            return True

    def test_grace_ends_what_does_not(self):
        """A client that never finishes does not keep the process."""
        with LiveServer("--drain-seconds", "2") as server, HeldCall(server) as held:
            server.process.terminate()
            self.assertEqual(server.process.wait(30), 0, server.log())
            with self.assertRaises(grpc.RpcError) as raised:
                list(held.call)
            self.assertEqual(raised.exception.code(), Code.UNAVAILABLE)

    def test_idle_server_exits_at_once(self):
        server = LiveServer()
        self.assertEqual(server.stop(20), 0)


if __name__ == "__main__":
    run_tests()

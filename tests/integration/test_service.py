"""Tests a service, not a demo: many clients at once, good and bad; each gets what is its own, and the
server stays bounded, awake and accountable. Also admission, idleness and limits."""

import pathlib
import subprocess
import sys
import threading
import time
import unittest

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import messages as m
from contract import failure_of, service_grpc, service_pb2, tensor_pb2
from live_server import ACTIVE_CALLS, HeldCall, LiveServer, run_tests, wait_until
from streams import (CALL_MEMORY_BYTES, ERRORS, F16, MANY_RESULTS_OPTIONS, MEMORY_RESERVED, MIB,
                     STALL_SECONDS, Canceller, LateReader, NeverReader, ShortDeadline, SlowReader,
                     Staller, Stream, heavy_groups, is_empty, many_results)

HERE = str(pathlib.Path(__file__).resolve().parent)
Code = grpc.StatusCode
BF16 = tensor_pb2.DATA_TYPE_BF16
QUANTIZE = dict(grpc_method="QuantizeTensors")

MEMORY_BYTES = 512 * MIB  # All calls together have it.
NOT_READING_SECONDS = 5
# What the process may hold beside its calls: code, libraries, arenas, windows of 16 streams.
BASE_BYTES = 256 * MIB

GROUPS = "salient_groups_total"
PARAMETERS = "salient_parameters_total"
TOKENS = "salient_tokens_total"
BYTES = "salient_bytes_total"
RELATIVE_ERROR = "salient_relative_output_error_ratio"
LOSS_RATIO = "salient_loss_ratio"

# A client in a process of its own: half a group, a word on standard output, and silence.
DYING_CLIENT = """
import sys, time
sys.path.insert(0, {here!r})
import grpc, messages as m
from contract import service_grpc
group = m.random_group("dying", 5, 512, 512)
def requests():
    yield m.options()
    sent = list(m.group_messages(group))
    yield from sent[:2]
    print("sent", flush=True)
    time.sleep(1000)
channel = grpc.insecure_channel({address!r})
list(service_grpc.QuantizationServiceStub(channel).QuantizeTensors(requests()))
"""


class HealthWatch(threading.Thread):
    """Asks for health ten times a second; keeps the worst latency and every answer."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self._channel = server.channel()
        self._ended = threading.Event()
        self.latencies = []
        self.answers = set()

    def run(self):
        stub = health_pb2_grpc.HealthStub(self._channel)
        while not self._ended.wait(0.1):
            start = time.monotonic()
            try:
                self.answers.add(stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status)
            except grpc.RpcError as error:
                self.answers.add(error.code())
            self.latencies.append(time.monotonic() - start)

    def stop(self):
        self._ended.set()
        self.join()
        self._channel.close()


def good_streams():
    """Class, groups, options of eleven calls: shapes, types, methods and sizes all differ."""
    g64, g128, rows = dict(group_size=64), dict(group_size=128), dict(group_size=-1)
    r = m.random_group
    return [
        (Stream, [r("a", 1, 8, 64)], dict(format=g64)),
        (Stream, [r("b", 2, [24, 40], 128, dtype=F16)], dict()),
        (Stream, [r("c", 3, 256, 320, dtype=BF16)], dict(format=g64)),
        (Stream, [r("d", 4, [64, 64, 64], 512, activation_dtype=BF16)], dict(format=g128)),
        (Stream, [r("e", 5, 1024, 256, tokens=300, rows=5)], dict(format=rows)),
        (Stream, [r(f"f{i}", 60 + i, 64, 192, batch_tokens=7) for i in range(4)],
         dict(format=g64, method=m.ROUND_TO_NEAREST)),
        (Stream, [r("g", 7, 128, 1280, tokens=128)], dict(seed=42)),
        (Stream, [r("h", 8, 256, 256, tied_heads=(32, 2))], dict()),
        (Stream, [r("i", 9, 512, 128, tokens=1, rows=1)], dict(format=dict(symmetric=True))),
        (SlowReader, [r(f"j{i}", 100 + i, 512, 128) for i in range(6)], dict()),
        (Staller, [r("k", 11, 768, 384, dtype=F16)], dict()),
    ]


class SixteenStreamsTest(unittest.TestCase):
    """Sixteen clients at once on one server."""

    @classmethod
    def setUpClass(cls):
        cls.server = LiveServer("--workers", "2", "--memory-bytes", str(MEMORY_BYTES),
                                "--call-memory-bytes", str(CALL_MEMORY_BYTES),
                                "--not-reading-seconds", str(NOT_READING_SECONDS))
        cls.addClassCleanup(cls.server.stop)

    def alone(self, groups, options):
        """Returns the bytes of these groups when nobody else is there."""
        results, failure = self.server.quantize(m.call_messages(groups, **options))
        self.assertIsNone(failure)
        return [m.content(r) for r in results]

    def test_each_gets_what_is_its_own(self):
        plans = good_streams()
        want = [self.alone(groups, options) for _, groups, options in plans]
        before = self.server.metrics()
        health = HealthWatch(self.server)
        health.start()

        good = [kind(self.server, groups, **options) for kind, groups, options in plans]
        cancelled = Canceller(self.server, heavy_groups())
        late = ShortDeadline(self.server, heavy_groups())
        unread = NeverReader(self.server, many_results(), **MANY_RESULTS_OPTIONS)
        dying = subprocess.Popen(
            [sys.executable, "-c", DYING_CLIENT.format(here=HERE, address=self.server.address)],
            stdout=subprocess.PIPE)
        streams = [*good, cancelled, late, unread]
        for stream in streams:
            stream.start()
        self.assertEqual(dying.stdout.readline(), b"sent\n")
        dying.kill()
        dying.wait()
        dying.stdout.close()
        for stream in streams:
            stream.join(170)
            self.assertFalse(stream.is_alive(), stream.name)
        # The server may learn of the dead client after the others are through.
        ended = wait_until(lambda: is_empty(self.server), 20)
        health.stop()
        after = self.server.metrics()
        self.report(streams, health)

        for stream, content in zip(good, want):
            with self.subTest(groups=stream.groups[0].name):
                self.assertIsNone(stream.failure)
                self.assertEqual(stream.contents(), content)
        self.assertGreaterEqual(good[-1].seconds, STALL_SECONDS)
        self.assertEqual(cancelled.failure.code, Code.CANCELLED)
        self.assertEqual(late.failure.code, Code.DEADLINE_EXCEEDED)
        self.assertIsNotNone(unread.failure, "a client that does not read was served in full")
        self.assertIsNotNone(unread.ended_by_server)
        # Past the results that nobody reads only a reset gets through: it has no ErrorInfo.
        self.assertEqual(unread.failure.code, Code.ABORTED, unread.failure)
        self.assertIn("CLIENT_NOT_READING", unread.failure.message)
        self.assertIsNotNone(ended, f"{after.total(ACTIVE_CALLS)} calls and "
                             f"{after.total(MEMORY_RESERVED)} bytes stay")

        self.assertEqual(health.answers, {health_pb2.HealthCheckResponse.SERVING})
        self.assertLess(max(health.latencies), 2.0)
        self.assertLess(self.server.rss_bytes(peak=True), self.memory_bound())
        self.check_accounts(before, after, good, want)

    def memory_bound(self):
        return BASE_BYTES + MEMORY_BYTES

    def report(self, streams, health):
        print(f"\n  peak RSS {self.server.rss_bytes(peak=True) / MIB:.0f} MiB, bound "
              f"{self.memory_bound() / MIB:.0f} MiB (calls {MEMORY_BYTES / MIB:.0f} "
              f"+ process {BASE_BYTES / MIB:.0f}); RSS now {self.server.rss_bytes() / MIB:.0f} MiB")
        print(f"  health: {len(health.latencies)} checks, worst {max(health.latencies):.3f} s")
        for stream in streams:
            ended = "OK" if stream.failure is None else (
                f"{stream.failure.code.name} {stream.failure.reason}")
            print(f"  {stream.name:14} {stream.groups[0].name:6} {stream.seconds:6.1f} s  {ended}")

    def check_accounts(self, before, after, good, want):
        def rise(metric, **labels):
            return after.total(metric, **labels) - before.total(metric, **labels)

        with self.subTest("calls by code"):
            self.assertEqual(rise("grpc_server_started_total", **QUANTIZE), 15)
            codes = {code: rise("grpc_server_handled_total", grpc_code=code, **QUANTIZE)
                     for code in ("OK", "Canceled", "Cancelled", "DeadlineExceeded", "Aborted")}
            self.assertEqual(codes["OK"], len(good), codes)
            self.assertEqual(codes["Aborted"], 1, codes)
            self.assertEqual(codes["DeadlineExceeded"], 1, codes)
            self.assertEqual(codes["Canceled"] + codes["Cancelled"], 2, codes)
        with self.subTest("errors by reason"):
            self.assertEqual(rise(ERRORS, reason="CLIENT_NOT_READING"), 1)
        finished = [g for stream in good for g in stream.groups]
        with self.subTest("work"):
            # The cancelled, late and unread calls did some of theirs.
            self.assertGreaterEqual(rise(GROUPS), len(finished))
            self.assertGreaterEqual(rise(PARAMETERS), sum(g.parameters for g in finished))
            self.assertGreaterEqual(rise(TOKENS), sum(g.tokens for g in finished))
        with self.subTest("bytes"):
            tensors = sum(len(data) for contents in want for content in contents
                          for *_, data in content[-1])
            self.assertGreaterEqual(rise(BYTES, direction="in"),
                                    sum(g.parameters * 2 for g in finished))
            self.assertGreaterEqual(rise(BYTES, direction="out"), tensors)


class LateReaderTest(unittest.TestCase):
    """Makes the mistake that the contract warns of: all is written before anything is read."""

    def test_gets_an_answer_instead_of_a_deadlock(self):
        with LiveServer("--call-memory-bytes", str(CALL_MEMORY_BYTES), "--not-reading-seconds",
                        "2") as server:
            late = LateReader(server, many_results(), **MANY_RESULTS_OPTIONS)
            late.start()
            late.join(120)
            self.assertFalse(late.is_alive())
            self.assertEqual((late.failure.code, late.failure.reason),
                             (Code.ABORTED, "CLIENT_NOT_READING"), late.failure)
            self.assertTrue(late.results, "what was done before is not lost")
            self.assertEqual(server.metrics().total(ERRORS, reason="CLIENT_NOT_READING"), 1)
            self.assertIsNotNone(wait_until(lambda: is_empty(server), 20))


class AccountTest(unittest.TestCase):
    """What is counted is what was sent, exactly, when nothing goes wrong."""

    def test_counts_of_one_call(self):
        groups = [m.random_group(f"g{i}", i, [64, 32], 128, tokens=70 + i, rows=3)
                  for i in range(3)]
        with LiveServer() as server:
            before = server.metrics()
            results, failure = server.quantize(m.call_messages(groups))
            self.assertIsNone(failure)
            after = server.metrics()

        def rise(metric, **labels):
            return after.total(metric, **labels) - before.total(metric, **labels)

        self.assertEqual(rise(GROUPS), 3)
        self.assertEqual(rise(PARAMETERS), sum(g.parameters for g in groups))
        self.assertEqual(rise(TOKENS), sum(g.tokens for g in groups))
        self.assertEqual(rise("grpc_server_handled_total", grpc_code="OK", **QUANTIZE), 1)
        self.assertEqual(rise("grpc_server_msg_received_total", **QUANTIZE),
                         len(list(m.call_messages(groups))))
        self.assertEqual(rise(RELATIVE_ERROR + "_count"), 3)
        self.assertEqual(rise(LOSS_RATIO + "_count"), 3)
        want = sum(r.report.relative_output_error for r in results)
        self.assertAlmostEqual(rise(RELATIVE_ERROR + "_sum"), want, delta=1e-5 * want)
        want = sum(r.report.loss / r.report.loss_rtn for r in results)
        self.assertAlmostEqual(rise(LOSS_RATIO + "_sum"), want, delta=1e-5 * want)


class AdmissionTest(unittest.TestCase):
    """Says no early and clearly."""

    def test_more_calls_than_admitted(self):
        another = list(m.call_messages([m.random_group("b", 2, 64, 128)]))
        with LiveServer("--max-active-calls", "1") as server, HeldCall(server) as held:
            _, failure = server.quantize(another)
            self.assertIsNotNone(failure, "a second call was admitted")
            self.assertEqual((failure.code, failure.reason), (Code.RESOURCE_EXHAUSTED, "BUSY"), failure)
            self.assertGreater(failure.retry_after_seconds, 0)
            self.assertEqual(len(held.finish()), 1)
            _, failure = server.quantize(another)
            self.assertIsNone(failure)

    def test_a_silent_client(self):
        with LiveServer("--idle-seconds", "2") as server, HeldCall(server) as held:
            with self.assertRaises(grpc.RpcError) as raised:
                list(held.call)
            failure = failure_of(raised.exception)
            self.assertEqual((failure.code, failure.reason), (Code.ABORTED, "CLIENT_IDLE"), failure)

    def test_limits_are_published(self):
        with LiveServer("--max-active-calls", "3", "--idle-seconds", "77", "--call-memory-bytes",
                        str(48 * MIB), "--workers", "1") as server, server.channel() as channel:
            info = service_grpc.QuantizationServiceStub(channel).GetServerInfo(
                service_pb2.GetServerInfoRequest(), timeout=10)
        limits = info.limits
        self.assertEqual((limits.max_active_calls, limits.idle_timeout_seconds,
                          limits.call_memory_bytes, info.worker_count), (3, 77, 48 * MIB, 1))
        self.assertEqual(limits.max_message_bytes, 4 * MIB)
        self.assertEqual(limits.max_chunk_bytes, 2 * MIB)
        self.assertRegex(info.version, r"^\d+\.\d+\.\d+")
        self.assertTrue(info.scales and info.ranges and info.roundings and info.output_formats)
        self.assertTrue(info.instruction_path and info.numerics_id)
        self.assertLessEqual({"onednn", "grpc"}, set(info.library_versions))


if __name__ == "__main__":
    run_tests()

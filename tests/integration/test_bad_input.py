"""Tests bad input: every mistake a client can make gets its code, its reason and the name of what is at
fault, and the next good call on the same server gives the same bytes as ever."""

import re
import socket
import unittest

import grpc
import numpy as np
from grpc_health.v1 import health_pb2

import bad_batches  # noqa: F401, as the next two: their cases
import bad_groups  # noqa: F401
import bad_sequences  # noqa: F401
import messages as m
from bad_calls import CASES, FORMAT, LINEAR, Code, group, raw, row_bytes, start, weight_bytes
from contract import ERROR_DOMAIN, failure_of, service_grpc
from live_server import LiveServer, run_tests

CALL_SECONDS = 30
MUTATIONS = 300
MUTATION_CODES = (Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.FAILED_PRECONDITION, Code.DATA_LOSS,
                  Code.UNIMPLEMENTED, Code.RESOURCE_EXHAUSTED)


def mutated(sent, rng):
    """One to three changes to a list of serialized messages."""
    sent = list(sent)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(sent)))
        kind = rng.integers(5)
        if kind == 0 and len(sent) > 1:
            del sent[at]
        elif kind == 1:
            sent.insert(at, sent[int(rng.integers(len(sent)))])
        elif kind == 2:
            other = int(rng.integers(len(sent)))
            sent[at], sent[other] = sent[other], sent[at]
        elif kind == 3 and sent[at]:
            sent[at] = sent[at][:int(rng.integers(len(sent[at])))]
        elif sent[at]:
            # The first bytes are tags, lengths and numbers; the rest is tensor data.
            changed = bytearray(sent[at])
            changed[int(rng.integers(min(len(changed), 48)))] = int(rng.integers(256))
            sent[at] = bytes(changed)
    return sent


class BadInputTest(unittest.TestCase):
    """Each case runs on the one server, and after each the same good call."""

    @classmethod
    def setUpClass(cls):
        cls.server = LiveServer("--workers", "2")
        cls.addClassCleanup(cls.server.stop)
        cls.good = list(m.call_messages([group()], format=FORMAT))
        results, failure = cls.server.quantize(cls.good)
        if failure:
            raise AssertionError(f"the good call fails: {failure}")
        cls.content = [m.content(r) for r in results]

    def check_still_good(self):
        self.assertTrue(self.server.alive(), self.server.log())
        results, failure = self.server.quantize(self.good, timeout=CALL_SECONDS)
        self.assertIsNone(failure)
        self.assertEqual([m.content(r) for r in results], self.content)

    def run_case(self, spoilt):
        before = self.server.metrics()
        failure = self.fail_call(spoilt.requests())
        self.assertIsNotNone(failure, "the call succeeded")
        self.check_failure(spoilt, failure)
        self.check_still_good()
        if spoilt.reason:
            # The observable side of the same refusal: its reason is counted, once.
            rise = self.server.metrics().total(ERRORS, reason=spoilt.reason) - before.total(
                ERRORS, reason=spoilt.reason)
            self.assertEqual(rise, 1, f"{ERRORS}{{reason={spoilt.reason}}}")

    def fail_call(self, requests):
        if not requests or not isinstance(requests[0], bytes):
            return self.server.quantize(requests, timeout=CALL_SECONDS)[1]
        # Bytes that protobuf's own serializer would refuse to make.
        with self.server.channel() as channel:
            call = channel.stream_stream("/salient.v1.QuantizationService/QuantizeTensors",
                                         request_serializer=None, response_deserializer=None)
            try:
                list(call(iter(requests), timeout=CALL_SECONDS))
                return None
            except grpc.RpcError as error:
                return failure_of(error)

    def check_failure(self, spoilt, failure):
        self.assertEqual(failure.code, spoilt.code, failure)
        self.assertTrue(failure.message, failure)
        if spoilt.reason is not None:
            self.assertEqual((failure.reason, failure.domain), (spoilt.reason, ERROR_DOMAIN), failure)
        self.assertLess(failure.details_bytes, 4096)
        for name in spoilt.names:
            # Whole words: a "3" is not found in a "13".
            self.assertRegex(failure.everything(), rf"(?i)(?<![\w.-]){re.escape(name)}(?!\w)")
        if spoilt.field:
            self.assertTrue(any(f.startswith(spoilt.field) for f in failure.fields),
                            f"want BadRequest field {spoilt.field}: {failure}")

    def test_good_crc_is_accepted(self):
        """So that the crc cases cannot pass because every crc is refused."""
        data = weight_bytes()
        rows = [m.activation(i, 0, row_bytes(i), m.crc32c(row_bytes(i))) for i in range(2)]
        results, failure = self.server.quantize(
            [start(), m.group_header(group()), m.weight(0, 0, data, m.crc32c(data)), *rows,
             m.end_group()])
        self.assertIsNone(failure)
        self.assertEqual([m.content(r) for r in results], self.content)

    def test_mutated_calls_end_in_an_answer_or_a_reason(self):
        """Good calls with messages dropped, doubled, swapped and bytes changed, fixed seeds."""
        ends = {}
        for seed in range(MUTATIONS):
            failure = self.fail_call(mutated([raw(r) for r in self.good],
                                             np.random.default_rng(seed)))
            self.assertTrue(self.server.alive(), f"seed {seed}: {self.server.log()}")
            end = "OK" if failure is None else f"{failure.code.name} {failure.reason}"
            ends[end] = ends.get(end, 0) + 1
            if failure is not None:
                self.assertIn(failure.code, MUTATION_CODES, f"seed {seed}: {failure}")
                self.assertNotIn(failure.reason, ("", "INTERNAL"), f"seed {seed}: {failure}")
        print(f"\n  {dict(sorted(ends.items()))}")
        self.assertGreater(len(ends), 5, "the mutations all look alike to the server")
        self.check_still_good()

    def test_finite_extremes_give_an_answer_or_a_reason(self):
        """Finite numbers may overflow on the way; they never crash or pass for a result."""
        for value in (3e38, -3e38, 1e-45, 0.0):
            with self.subTest(value=value):
                extreme = group()
                extreme.weights[LINEAR][:, :] = value
                results, failure = self.server.quantize([start(), *m.group_messages(extreme)],
                                                        timeout=CALL_SECONDS)
                if failure:
                    self.assertEqual((failure.code, failure.reason),
                                     (Code.INVALID_ARGUMENT, "NON_FINITE"), failure)
                else:
                    self.assert_finite(results[0])
                self.check_still_good()

    def assert_finite(self, result):
        self.assertTrue(np.isfinite(result.scales).all())
        self.assertTrue(np.isfinite([result.report.loss, result.report.loss_rtn]).all())
        for name, array in result.tensors.items():
            if array.dtype.kind == "f":
                self.assertTrue(np.isfinite(array).all(), name)

    def test_a_compressed_message_is_refused(self):
        """A small message must not become a large one inside the server."""
        with self.server.channel() as channel:
            stub = service_grpc.QuantizationServiceStub(channel)
            with self.assertRaises(grpc.RpcError) as raised:
                list(stub.QuantizeTensors(iter(self.good), timeout=CALL_SECONDS,
                                          compression=grpc.Compression.Gzip))
        self.assertEqual(raised.exception.code(), Code.UNIMPLEMENTED, raised.exception.details())
        self.check_still_good()

    def test_noise_on_the_ports(self):
        """Bytes that are neither HTTP/2 nor HTTP."""
        noise = np.random.default_rng(11).bytes(4096)
        for address in (self.server.address, self.server.metrics_url.split("/")[2]):
            host, port = address.rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                try:
                    connection.sendall(noise)
                except ConnectionError:
                    pass
        self.assertEqual(self.server.health(), health_pb2.HealthCheckResponse.SERVING)
        self.check_still_good()


ERRORS = "salient_errors_total"

for _name, _case in CASES.items():
    setattr(BadInputTest, f"test_{_name}", lambda self, spoilt=_case: self.run_case(spoilt))

if __name__ == "__main__":
    run_tests()

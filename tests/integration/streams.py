"""Clients of QuantizeTensors on connections of their own, good ones and others, and what the server
counts of them."""

import threading
import time

import grpc

import messages as m
from contract import failure_of, salient_client, service_grpc, tensor_pb2
from live_server import ACTIVE_CALLS, wait_until

F16 = tensor_pb2.DATA_TYPE_F16
MIB = 1 << 20
CALL_MEMORY_BYTES = 96 * MIB
STALL_SECONDS = 20
# After that the server stops waiting for a client to read, and resets the stream.
LINGER_SECONDS = 12

ERRORS = "salient_errors_total"
MEMORY_RESERVED = "salient_memory_reserved_bytes"


def copies(group, count):
    """Returns the same arrays under `count` names."""
    return [m.Group(f"{group.name}{i}", {f"{name}.{i}": w for name, w in group.weights.items()},
                    group.rows, group.dtype, group.activation_dtype) for i in range(count)]


def heavy_groups():
    """Makes groups that take a second of search or more on two cores when nothing stops it, with 16 MiB of
    weights each."""
    return copies(m.random_group("heavy", 99, [1024] * 4, 2048, tokens=64, rows=1, dtype=F16,
                                 activation_dtype=F16), 4)


def many_results():
    """Makes 300 groups of 1 Mi weights: 162 MiB at 4 bit, for a budget of 96."""
    return copies(m.random_group("unread", 1, 16384, 64, tokens=8, rows=1, dtype=F16), 300)


MANY_RESULTS_OPTIONS = dict(format=dict(group_size=64), method=m.ROUND_TO_NEAREST)


class Stream(threading.Thread):
    """Is a client on a connection of its own. `failure` is None when the call ended OK."""

    def __init__(self, server, groups=(), **option_kwargs):
        super().__init__(name=type(self).__name__, daemon=True)
        self.server = server
        self.channel = server.channel()
        self.stub = service_grpc.QuantizationServiceStub(self.channel)
        self.groups = list(groups)
        self.option_kwargs = option_kwargs
        self.results = []
        self.failure = None
        self.seconds = 0.0
        self.timeout = 150
        self.call = None

    def requests(self):
        return m.call_messages(self.groups, **self.option_kwargs)

    def read(self):
        for result in salient_client.read_results(self.responses()):
            self.results.append(result)

    def responses(self):
        return self.call

    def run(self):
        start = time.monotonic()
        try:
            self.call = self.stub.QuantizeTensors(self.requests(), timeout=self.timeout)
            self.read()
        except grpc.RpcError as error:
            self.failure = failure_of(error)
        finally:
            self.seconds = time.monotonic() - start
            self.channel.close()

    def contents(self):
        return [m.content(r) for r in self.results]


class SlowReader(Stream):
    """Good, but takes its time between messages."""

    def responses(self):
        for response in self.call:
            time.sleep(0.05)
            yield response


class Staller(Stream):
    """Goes silent in the middle of a weight, longer than others may not read, then goes on."""

    def requests(self):
        sent = list(super().requests())
        yield from sent[:3]
        time.sleep(STALL_SECONDS)
        yield from sent[3:]


class Canceller(Stream):
    """Cancels while the server computes its first group and the second waits to be sent."""

    def requests(self):
        for request in super().requests():
            yield request
            if request.HasField("end_group"):
                threading.Timer(2.0, self.call.cancel).start()


class ShortDeadline(Stream):
    """Its deadline passes while the server computes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.timeout = 3


class NeverReader(Stream):
    """Writes everything and reads nothing until the server has ended the call.

    Not even the status: gRPC shows it to a client only after the messages before it.
    """

    def __init__(self, server, *args, **kwargs):
        super().__init__(server, *args, **kwargs)
        self.ended_by_server = None

    def read(self):
        self.ended_by_server = wait_until(self.is_ended, 100, every=0.5)
        time.sleep(LINGER_SECONDS)
        super().read()

    def is_ended(self):
        return self.server.metrics().total(ERRORS, reason="CLIENT_NOT_READING") > 0


class LateReader(Stream):
    """Writes everything before it reads anything."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.all_written = threading.Event()

    def requests(self):
        yield from super().requests()
        self.all_written.set()

    def read(self):
        self.all_written.wait(self.timeout)
        super().read()


def is_empty(server):
    """No call is active, and no worker is still winding one up."""
    metrics = server.metrics()
    return metrics.total(ACTIVE_CALLS) == 0 and metrics.total(MEMORY_RESERVED) == 0

"""Is a salientd of one's own: started on free ports, watched from outside, stopped.

The program is the first of --salientd PATH on the command line, $SALIENTD.
"""

import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import messages
from contract import failure_of, salient_client, service_grpc

START_SECONDS = 60
ACTIVE_CALLS = "salient_active_calls"


# What ctest takes for "skipped": all that ran passed, and something could not run.
SKIPPED = 77


def run_tests():
    """Runs the tests of a script; it is the main of every one."""
    salientd_path()
    result = unittest.main(module="__main__", verbosity=2, exit=False).result
    sys.exit(1 if not result.wasSuccessful() else SKIPPED if result.skipped else 0)


def salientd_path():
    """Takes --salientd PATH off the command line, else $SALIENTD."""
    if "--salientd" in sys.argv:
        at = sys.argv.index("--salientd")
        os.environ["SALIENTD"] = sys.argv[at + 1]
        del sys.argv[at:at + 2]
    path = os.environ.get("SALIENTD", "")
    if not os.access(path, os.X_OK):
        raise SystemExit(f"SALIENTD={path!r} is no program: pass --salientd PATH or set SALIENTD")
    return path


class LiveServer:
    """Is a context manager around one server process.

    address: host:port of gRPC; metrics_url: the scrape endpoint. What the server writes goes to
    `log_path` and is printed when the test fails to start or stop it.
    """

    def __init__(self, *flags, ready_seconds=START_SECONDS, descriptors=None):
        """descriptors: the limits of the process, (soft, hard)."""
        limit = descriptors and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, descriptors))
        self._directory = tempfile.TemporaryDirectory(prefix="salientd_")
        self.log_path = pathlib.Path(self._directory.name) / "log"
        self._log = open(self.log_path, "wb", buffering=0)
        command = [salientd_path(), "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                   *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log,
                                        cwd=self._directory.name, preexec_fn=limit)
        self.pid = self.process.pid
        self._addresses = {}
        self._ready = threading.Event()
        self._pump = threading.Thread(target=self._read_output, daemon=True)
        self._pump.start()
        if not self._ready.wait(ready_seconds):
            self.kill()
            raise RuntimeError(f"no ready line from {command}:\n{self.log()}")
        self.address = self._addresses["grpc"]
        self.metrics_url = f"http://{self._addresses['metrics']}/metrics"

    # ---- life

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, seconds=60):
        """SIGTERM and wait, then forgets the log. Returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            print(self.log(), file=sys.stderr)
            self.kill()
            raise
        finally:
            self._pump.join(5)
            self.process.stdout.close()
            self._log.close()
            self._directory.cleanup()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def alive(self):
        return self.process.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def _read_output(self):
        for line in self.process.stdout:
            self._log.write(line)
            text = line.decode(errors="replace")
            found = dict(re.findall(r"\b(grpc|metrics)[=:]\s*(\S+:\d+)", text))
            self._addresses.update(found)
            if {"grpc", "metrics"} <= self._addresses.keys():
                self._ready.set()

    # ---- calls

    def channel(self, **extra):
        """Returns a connection of its own: channels of equal arguments would share one."""
        settings = {"grpc.use_local_subchannel_pool": 1, "grpc.max_send_message_length": -1, **extra}
        return grpc.insecure_channel(self.address, options=list(settings.items()))

    def quantize(self, requests, timeout=120):
        """Runs one call to its end. Returns (results, Failure or None)."""
        results = []
        with self.channel() as own:
            call = service_grpc.QuantizationServiceStub(own).QuantizeTensors(iter(requests),
                                                                            timeout=timeout)
            try:
                for result in salient_client.read_results(call):
                    results.append(result)
            except grpc.RpcError as error:
                return results, failure_of(error)
        return results, None

    def health(self, service="", timeout=5):
        with self.channel() as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout).status

    # ---- measurements

    def scrape(self):
        """Returns the endpoint's text."""
        with urllib.request.urlopen(self.metrics_url, timeout=10) as response:
            return response.read().decode()

    def metrics(self):
        return Metrics(self.scrape())

    def rss_bytes(self, peak=False):
        key = "VmHWM" if peak else "VmRSS"
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+) kB", status, re.M).group(1)) * 1024

    def cpu_seconds(self):
        """Returns user and system time of all threads so far."""
        total = 0
        for stat in pathlib.Path(f"/proc/{self.pid}/task").glob("*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")


class HeldCall:
    """Is a good call that stays open: options and a group's header are sent, the rest waits.

    Context manager; the server has accepted the call when it is entered. `call` is the stream.
    """

    def __init__(self, server, channel=None):
        self._server = server
        self._channel = channel or server.channel()
        self._release = threading.Event()
        self.group = messages.random_group("held", 1, 64, 128)
        self.call = None

    def _requests(self):
        sent = list(messages.call_messages([self.group]))
        yield from sent[:2]
        self._release.wait(120)
        yield from sent[2:]

    def __enter__(self):
        open_calls = self._server.metrics().total(ACTIVE_CALLS)
        stub = service_grpc.QuantizationServiceStub(self._channel)
        self.call = stub.QuantizeTensors(self._requests(), timeout=120)
        if wait_until(lambda: self._server.metrics().total(ACTIVE_CALLS) > open_calls, 20) is None:
            raise AssertionError(f"{ACTIVE_CALLS} does not show the call")
        return self

    def __exit__(self, *_):
        self._release.set()
        self.call.cancel()
        self._channel.close()

    def finish(self):
        """Sends the rest, returns the results. Raises grpc.RpcError."""
        self._release.set()
        return list(salient_client.read_results(self.call))


class Metrics:
    """Holds one scrape: samples by name and labels."""

    _SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\d+)?$")
    _LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.samples = []
        self.types = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(None, 3)
                self.types[name] = kind
            elif line and not line.startswith("#"):
                name, labels, value = self._SAMPLE.match(line).groups()
                self.samples.append((name, dict(self._LABEL.findall(labels or "")), float(value)))

    def names(self):
        return {name for name, _, _ in self.samples}

    def total(self, metric, **labels):
        """Sum over all samples with these labels; 0 when there is none."""
        return sum(value for name, have, value in self.samples
                   if name == metric and labels.items() <= have.items())

    def by(self, metric, label, **labels):
        """Returns {label value: sum}, zeros left out."""
        sums = {}
        for name, have, value in self.samples:
            if name == metric and labels.items() <= have.items() and value:
                sums[have.get(label, "")] = sums.get(have.get(label, ""), 0) + value
        return sums


def wait_until(condition, seconds, every=0.05):
    """Polls; returns the seconds it took, or None if `condition` never came true."""
    start = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - start
        if time.monotonic() - start > seconds:
            return None
        time.sleep(every)

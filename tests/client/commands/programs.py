"""Names the programs that these tests run: `salient`, and a live `salientd`. A test sets their paths."""

import socket
import subprocess

SALIENT, SALIENTD = "", ""
TIMEOUT = 240  # Of any one run; only a hang reaches it.


def run(*arguments, **options):
    return subprocess.run([SALIENT, *arguments], capture_output=True, text=True, timeout=TIMEOUT,
                          check=False, **options)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LiveServer:
    """Is a salientd on a port of its own."""

    def __init__(self, *flags, listen="127.0.0.1:0"):
        self.process = subprocess.Popen(
            [SALIENTD, "--listen", listen, "--metrics-listen", "", "--log-level", "off",
             *flags], stdout=subprocess.PIPE, text=True)
        ready = self.process.stdout.readline()
        self.address = dict(word.split("=") for word in ready.split() if "=" in word)["grpc"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(TIMEOUT)
        self.process.stdout.close()

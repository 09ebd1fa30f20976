"""Tests connections: as many as allowed, told from where, and again after descriptors ran out."""

import resource
import socket
import unittest

from contract import service_grpc, service_pb2
from live_server import LiveServer, run_tests, wait_until

REFUSED = "salient_connections_refused_total"
OPEN = "salient_connections"
SERVING = 1


def silent_connections(server, count):
    """Connections on which nothing is sent."""
    host, port = server.address.rsplit(":", 1)
    return [socket.create_connection((host, int(port)), timeout=10) for _ in range(count)]


def is_closed(connection):
    """Returns whether the server has closed it."""
    connection.settimeout(0.01)
    try:
        return connection.recv(1 << 16) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def close(connections):
    for connection in connections:
        connection.close()


class ConnectionsTest(unittest.TestCase):
    def flood(self, server):
        """Opens a hundred connections and closes them; then a new one must be answered."""
        connections = silent_connections(server, 100)
        closed = wait_until(lambda: any(is_closed(c) for c in connections), 20)
        self.assertIsNotNone(closed, "those refused are left waiting")
        close(connections)
        self.assertGreater(server.metrics().total(REFUSED), 0)
        self.assertIsNotNone(wait_until(lambda: server.metrics().total(OPEN) == 0, 20))
        self.assertEqual(server.health(timeout=10), SERVING)
        self.assertIsNotNone(wait_until(lambda: "connections refused" in server.log(), 20))

    def test_few_descriptors(self):
        with LiveServer("--workers", "1", descriptors=(64, 64)) as server:
            self.flood(server)
            self.assertGreater(server.metrics().total(REFUSED, reason="limit"), 0)
            self.assertEqual(server.stop(), 0)

    def test_more_connections_allowed_than_there_are_descriptors(self):
        with LiveServer("--workers", "1", "--max-connections", "1000",
                        descriptors=(64, 64)) as server:
            self.flood(server)

    def test_the_limit(self):
        with LiveServer("--workers", "1", "--max-connections", "2") as server:
            metrics = server.metrics()
            self.assertEqual(metrics.total("salient_connections_limit"), 2)
            connections = silent_connections(server, 2)
            self.assertIsNotNone(wait_until(lambda: server.metrics().total(OPEN) == 2, 20))
            late, = silent_connections(server, 1)
            self.assertIsNotNone(wait_until(lambda: is_closed(late), 20))
            self.assertEqual(server.metrics().total(REFUSED, reason="limit"), 1)
            self.assertEqual(server.metrics().total(OPEN), 2)
            close([late, connections.pop()])
            self.assertIsNotNone(wait_until(lambda: server.metrics().total(OPEN) == 1, 20))
            self.assertEqual(server.health(timeout=10), SERVING)
            close(connections)

    def test_the_soft_limit_is_raised_to_the_hard_one(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard <= 200 or hard == resource.RLIM_INFINITY:
            self.skipTest(f"SKIPPED: the hard limit is {hard}")
        with LiveServer("--workers", "1", descriptors=(200, hard)) as server:
            self.assertEqual(server.metrics().total("process_max_fds"), hard)
            self.assertIn(f"{hard} may be open", server.log())
            self.assertEqual(server.metrics().total("salient_connections_limit"),
                             min(4096, hard // 2))

    def test_peers_and_the_check_of_itself(self):
        with LiveServer("--workers", "1") as server, server.channel() as channel:
            stub = service_grpc.QuantizationServiceStub(channel)
            stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=20)
            self.assertRegex(server.log(), r"method=GetServerInfo peer=ipv4:127\.0\.0\.1:\d+ code=OK")
            self.assertEqual(server.metrics().total("salient_self_checks_failed_total"), 0)
            self.assertEqual(server.metrics().total(OPEN), 1)


if __name__ == "__main__":
    run_tests()

"""Asks for the services by reflection, from two clients that know nothing of our sources: grpcio-reflection
always, and grpcurl (of $SALIENT_GRPCURL, PATH or ~/.cache/salient-tests/bin) where it is there."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)

from contract import SERVICES, blob_pb2, method_pb2, service_pb2
from live_server import LiveServer, run_tests

CACHED = pathlib.Path.home() / ".cache" / "salient-tests" / "bin" / "grpcurl"
# grpcurl exits with 64 plus the gRPC code.
INVALID_ARGUMENT, NOT_FOUND = 64 + 3, 64 + 5


def find_grpcurl():
    named = os.environ.get("SALIENT_GRPCURL")
    if named:
        return named
    return shutil.which("grpcurl") or (str(CACHED) if CACHED.exists() else None)


class ReflectionTest(unittest.TestCase):
    """Asks by grpcio-reflection."""

    @classmethod
    def setUpClass(cls):
        cls.server = LiveServer()
        cls.addClassCleanup(cls.server.stop)

    def test_lists_the_services(self):
        with self.server.channel() as channel:
            listed = ProtoReflectionDescriptorDatabase(channel).get_services()
        self.assertLessEqual({*SERVICES, "grpc.health.v1.Health"}, set(listed))

    def test_describes_the_contract_that_is_in_the_tree(self):
        ours = {**blob_pb2.DESCRIPTOR.services_by_name, **service_pb2.DESCRIPTOR.services_by_name}
        with self.server.channel() as channel:
            pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
            for name in SERVICES:
                theirs = pool.FindServiceByName(name)
                want = ours[name.rpartition(".")[2]]
                self.assertEqual(self.methods(theirs), self.methods(want))
            for message in ("QuantizeTensorsRequest", "GroupHeader", "GroupReport", "Job"):
                full = f"salient.v1.{message}"
                theirs = pool.FindMessageTypeByName(full)
                want = service_pb2.DESCRIPTOR.pool.FindMessageTypeByName(full)
                self.assertEqual(self.fields(theirs), self.fields(want))

    def methods(self, service):
        found = {}
        for method in service.methods:
            proto = descriptor_pb2.MethodDescriptorProto()
            method.CopyToProto(proto)
            found[method.name] = (proto.input_type, proto.output_type, proto.client_streaming,
                                  proto.server_streaming)
        return found

    def fields(self, message):
        return {f.name: (f.number, f.type) for f in message.fields}

    def test_health_by_service(self):
        for service in ("", *SERVICES):
            with self.subTest(service=service):
                self.assertEqual(self.server.health(service), health_pb2.HealthCheckResponse.SERVING)


GRPCURL = find_grpcurl()


@unittest.skipUnless(GRPCURL, "SKIPPED: no grpcurl in $SALIENT_GRPCURL, PATH or " + str(CACHED))
class GrpcurlTest(unittest.TestCase):
    """Asks by grpcurl."""

    @classmethod
    def setUpClass(cls):
        cls.server = LiveServer()
        cls.addClassCleanup(cls.server.stop)

    def grpcurl(self, *arguments, before=()):
        command = [GRPCURL, "-plaintext", "-max-time", "20", *before, self.server.address, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def test_list(self):
        done = self.grpcurl("list")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLessEqual(set(SERVICES), set(done.stdout.split()))

    def test_describe(self):
        for service, methods in ((SERVICES[0], ("WriteBlob", "ReadBlob")),
                                 (SERVICES[1], ("QuantizeTensors", "CreateJob", "GetServerInfo"))):
            done = self.grpcurl("describe", service)
            self.assertEqual(done.returncode, 0, done.stderr)
            for method in methods:
                self.assertIn(f"rpc {method} (", done.stdout)
        self.assertIn("rpc QuantizeTensors ( stream .salient.v1.QuantizeTensorsRequest ) returns "
                      "( stream .salient.v1.QuantizeTensorsResponse )", done.stdout)

    def test_calls_get_server_info(self):
        done = self.grpcurl("salient.v1.QuantizationService/GetServerInfo")
        self.assertEqual(done.returncode, 0, done.stderr)
        info = json_format.Parse(done.stdout, service_pb2.GetServerInfoResponse())
        self.assertIn(method_pb2.OUTPUT_FORMAT_AWQ_GEMM, info.output_formats)
        self.assertGreaterEqual(info.worker_count, 1)

    def test_an_error_reads_well(self):
        done = self.grpcurl("salient.v1.QuantizationService/CreateJob")
        self.assertEqual(done.returncode, INVALID_ARGUMENT, done.stderr)
        self.assertIn("spec.model", done.stderr)

    def test_calls_health(self):
        # grpc's built-in health service has no descriptor to reflect: grpcurl gets it from a file.
        descriptors = descriptor_pb2.FileDescriptorSet()
        health_pb2.DESCRIPTOR.CopyToProto(descriptors.file.add())
        with tempfile.NamedTemporaryFile(suffix=".protoset") as protoset:
            protoset.write(descriptors.SerializeToString())
            protoset.flush()
            for service, code in ((SERVICES[1], 0), ("no.such.Service", NOT_FOUND)):
                done = self.grpcurl("grpc.health.v1.Health/Check",
                                    before=("-protoset", protoset.name, "-d",
                                            json.dumps({"service": service})))
                self.assertEqual(done.returncode, code, done.stdout + done.stderr)
                if code == 0:
                    self.assertEqual(json.loads(done.stdout), {"status": "SERVING"})


if __name__ == "__main__":
    run_tests()

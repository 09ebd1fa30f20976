"""Whoever asks gets an answer, whatever others have a server with one worker judge."""

import json
import struct
import threading
import time
import unittest

import grpc

import job_models as models
from contract import failure_of, job_pb2, service_pb2
from job_case import failure
from job_client import SUCCEEDED, digest_of, manifest, model_path, quantize
from job_server import JobServer
from live_server import run_tests
import messages

MIB = 1 << 20
ANSWER_SECONDS = 2
CREATE_JOB = "/salient.v1.QuantizationService/CreateJob"
# A CreateJobRequest whose model has two million files without a name.
EMPTY_FILES = 2 * MIB - 64
BOMB_FRAMES = 3


def field(number, content):
    """Returns a length-delimited field as it is on the wire."""
    length, head = len(content), bytes([number << 3 | 2])
    while length >= 128:
        head += bytes([length & 127 | 128])
        length >>= 7
    return head + bytes([length]) + content


def bomb():
    content = b"\x0a\x00" * (EMPTY_FILES - BOMB_FRAMES * 8)
    for number in (1, 1, 1):  # They are manifest of model of spec.
        content = field(number, content)
    return content


def large_index(tensors):
    names = {f"model.layers.{i}.{'x' * 200}.weight": "model-00001-of-00001.safetensors"
             for i in range(tensors)}
    return json.dumps({"metadata": {}, "weight_map": names}).encode()


def large_header(tensors):
    """Returns a safetensors file of many small tensors, which is no model."""
    header = {f"t{i:06d}.{'y' * 250}": {"dtype": "F16", "shape": [1, 1, 1, 1],
                                        "data_offsets": [2 * i, 2 * i + 2]}
              for i in range(tensors)}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * (2 * tensors)


class Prober(threading.Thread):
    """Asks again and again until stopped. `seconds`: how long the slowest answer took."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self._ask, self._halt, self.seconds, self.answers = ask, threading.Event(), 0, 0

    def run(self):
        while not self._halt.is_set():
            begin = time.monotonic()
            self._ask()
            self.seconds = max(self.seconds, time.monotonic() - begin)
            self.answers += 1
            time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._halt.set()
        self.join(60)


class ControlTest(unittest.TestCase):
    def test_expired_create_jobs_hold_up_nobody(self):
        files = models.random_llama(seed=3).files()
        with JobServer(workers=1) as server:
            client = server.client
            index = large_index(100_000)
            model = job_pb2.ModelSource()
            model.manifest.files.add(name="config.json", digest=digest_of(files["config.json"]),
                                     inline_content=files["config.json"])
            model.manifest.files.add(name=models.INDEX, digest=client.upload(index))
            shard = model.manifest.files.add(name="model-00001-of-00001.safetensors")
            shard.digest.sha256, shard.digest.size_bytes = "1" * 64, MIB
            tokens = client.upload(models.token_file(models.random_tokens(2, 64, 256)))
            request = service_pb2.CreateJobRequest(spec=quantize(model, tokens), validate_only=True)
            calls = [client.jobs.CreateJob.future(request, timeout=0.1) for _ in range(40)]
            for call in calls:
                call.exception()
            before, begin = server.cpu_seconds(), time.monotonic()
            missing = failure(client.get, "jobs/none")
            answered = time.monotonic() - begin
            self.assertEqual(missing.reason, "UNKNOWN_JOB")
            group = messages.random_group("group", 1, 64, 128)
            _, failed = server.quantize(messages.call_messages([group]))
            self.assertIsNone(failed)
            quantized = time.monotonic() - begin
            time.sleep(2)
            spent = server.cpu_seconds() - before
            print(f"\n  GetJob after {answered:.2f} s, a group after {quantized:.2f} s, "
                  f"{spent:.1f} CPU s after the clients were gone")
            self.assertLess(answered, ANSWER_SECONDS)
            self.assertLess(quantized, 5 * ANSWER_SECONDS)

    def test_messages_of_millions_of_parts_do_not_delay_health(self):
        content = bomb()
        self.assertLess(len(content), 4 * MIB)
        with JobServer(workers=1) as server:
            codes = set()

            def send():
                with server.channel() as channel:
                    call = channel.unary_unary(CREATE_JOB)
                    for _ in range(2):
                        try:
                            call(content, timeout=60)
                        except grpc.RpcError as error:
                            codes.add((error.code(), failure_of(error).reason))

            senders = [threading.Thread(target=send) for _ in range(12)]
            with Prober(lambda: server.health(timeout=30)) as health:
                for sender in senders:
                    sender.start()
                for sender in senders:
                    sender.join()
            print(f"\n  health within {health.seconds:.2f} s of {health.answers}; {codes}")
            self.assertLess(health.seconds, ANSWER_SECONDS)
            self.assertEqual({code for code, _ in codes}, {grpc.StatusCode.INVALID_ARGUMENT})

    def test_one_large_refusal_refuses_no_job_after_it(self):
        files = models.random_llama(seed=4).files()
        tokens = models.token_file(models.random_tokens(2, 64, 256))
        with JobServer("--memory-bytes", str(128 * MIB), workers=1) as server:
            path = server.add_model("large", {"config.json": files["config.json"],
                                              "model.safetensors": large_header(100_000)})
            inspect = job_pb2.JobSpec(model=model_path(path))
            inspect.inspect.SetInParent()
            spec = quantize(manifest(files), digest_of(tokens))
            self.assertEqual(server.client.run(spec, [tokens, *files.values()]).job.state, SUCCEEDED)
            failure(server.client.create, inspect)
            print(f"\n  {server.rss_bytes() / MIB:.0f} MiB after the refusal, "
                  f"{server.rss_bytes(peak=True) / MIB:.0f} MiB at its peak")
            self.assertEqual(server.client.run(spec, files.values()).job.state, SUCCEEDED)


if __name__ == "__main__":
    run_tests()

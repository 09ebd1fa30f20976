"""Tests bad requests for jobs: fields out of range, digests that lie, paths that lead out."""

import os

import grpc

import job_models as models
from contract import blob_pb2, job_pb2, method_pb2
from job_case import JobCase, failure
from job_client import (FAILED, SUCCEEDED, digest_of, key_of, manifest, model_path, quantize)
from job_server import JobServer
from live_server import LiveServer, run_tests

Code = grpc.StatusCode
INVALID = Code.INVALID_ARGUMENT
MIB = 1 << 20


class SpecTest(JobCase):
    """CreateJob refuses at once."""

    def refuse(self, spec, code, reason, *names, **create):
        failed = failure(self.client.create, spec, **create)
        self.assert_fails(failed, code, reason, *names)
        failed = failure(self.client.create, spec, **{**create, "validate_only": True})
        self.assert_fails(failed, code, reason, *names)
        return failed

    def spec_with(self, **task):
        return quantize(manifest(self.files), self.digest, **task)

    def test_what_is_missing(self):
        self.refuse(job_pb2.JobSpec(), INVALID, "BAD_JOB", "model")
        self.refuse(job_pb2.JobSpec(model=manifest(self.files)), INVALID, "BAD_JOB", "task")
        self.refuse(job_pb2.JobSpec(model=job_pb2.ModelSource(), quantize=self.spec.quantize),
                    INVALID, "BAD_JOB", "model")
        self.refuse(quantize(manifest({}), self.digest), INVALID, "BAD_JOB", "model")
        self.refuse(quantize(manifest(self.files), None), INVALID, "BAD_JOB", "calibration")

    def test_numbers_out_of_range(self):
        self.refuse(self.spec_with(priority=10), INVALID, "BAD_JOB", "priority", "10")
        self.refuse(self.spec_with(priority=-1), INVALID, "BAD_JOB", "priority", "-1")
        self.refuse(self.spec_with(max_rows=-1), INVALID, "BAD_JOB", "max_rows", "-1")
        self.refuse(self.spec_with(max_shard_bytes=-1), INVALID, "BAD_JOB", "max_shard_bytes", "-1")
        self.refuse(self.spec_with(timeout=-1), INVALID, "BAD_JOB", "timeout")
        self.refuse(self.spec_with(ttl=-1), INVALID, "BAD_JOB", "ttl_after_finished")

    def test_formats(self):
        alike = [dict(bits=4), dict(bits=4, symmetric=True)]
        self.refuse(self.spec_with(formats=alike), INVALID, "BAD_JOB", "formats",
                    "awq-gemm-4bit-g128")
        for bits in (1, 9, -4):
            with self.subTest(bits=bits):
                self.refuse(self.spec_with(formats=[dict(bits=bits)]), INVALID, "BAD_FORMAT",
                            "bits", str(bits))
        self.refuse(self.spec_with(formats=[dict(bits=3)]), INVALID, "BAD_FORMAT", "bits", "3")
        self.refuse(self.spec_with(formats=[dict(group_size=-2)]), INVALID, "BAD_FORMAT",
                    "group_size", "-2")
        gptq = dict(output_format=method_pb2.OUTPUT_FORMAT_GPTQ)
        self.refuse(self.spec_with(formats=[gptq]), INVALID, "BAD_FORMAT", "symmetric",
                    "gptq-v2 and compressed-tensors")
        spec = self.spec_with()
        del spec.quantize.formats[:]
        self.refuse(spec, INVALID, "BAD_JOB", "formats")

    def test_what_this_server_does_not_do(self):
        tokens = job_pb2.TokenCalibration(tokens=self.digest)
        model = manifest(self.files)
        calibrate = job_pb2.CalibrateTask(calibration=tokens)
        self.refuse(job_pb2.JobSpec(model=model, calibrate=calibrate), Code.UNIMPLEMENTED,
                    "UNSUPPORTED", "calibrate")
        keep = self.spec_with(non_finite_policy=job_pb2.NON_FINITE_POLICY_KEEP_FP16)
        self.refuse(keep, Code.UNIMPLEMENTED, "UNSUPPORTED", "non_finite_policy")
        statistics = self.spec_with()
        statistics.quantize.calibration.statistics.files.add().CopyFrom(self.digest)
        self.refuse(statistics, Code.UNIMPLEMENTED, "UNSUPPORTED", "statistics")

    def test_enums_of_the_future(self):
        self.refuse(self.spec_with(compute_dtype=99), INVALID, "BAD_JOB", "compute_dtype", "99")
        self.refuse(self.spec_with(method=dict(scale=99)), INVALID, "BAD_METHOD", "scale", "99")

    def test_digests_that_are_none(self):
        good = digest_of(b"x").sha256
        for digest in (dict(sha256="abc", size_bytes=1), dict(sha256=good.upper(), size_bytes=1),
                       dict(sha256=good, size_bytes=-1), dict(sha256="", size_bytes=1),
                       dict(sha256=good[:-1] + "g", size_bytes=1)):
            bad = blob_pb2.Digest(**digest)
            with self.subTest(digest):
                spec = self.spec_with()
                spec.quantize.calibration.tokens.tokens.CopyFrom(bad)
                self.refuse(spec, INVALID, "BAD_DIGEST", "tokens")
                spec = self.spec_with()
                spec.model.manifest.files[0].digest.CopyFrom(bad)
                self.refuse(spec, INVALID, "BAD_DIGEST", "files")

    def test_file_names_that_lead_elsewhere(self):
        for name in ("../model.safetensors", "a/model.safetensors", "/etc/model.safetensors", "",
                     "..", ".", "a\\b.safetensors", "a\0b.safetensors", "n" * 300 + ".safetensors",
                     "line\nfeed.json"):
            with self.subTest(name=name[:30]):
                spec = self.spec_with()
                spec.model.manifest.files.add(name=name, digest=digest_of(b"x"))
                failed = failure(self.client.create, spec)
                self.assertEqual(failed.code, INVALID, failed)
                self.assertIn(failed.reason, ("BAD_MODEL", "BAD_JOB"), failed)
                self.assertIn("name", failed.everything())

    def test_a_file_twice(self):
        spec = self.spec_with()
        spec.model.manifest.files.add().CopyFrom(spec.model.manifest.files[1])
        failed = failure(self.client.create, spec)
        self.assertEqual(failed.code, INVALID)
        self.assertIn(spec.model.manifest.files[1].name, failed.everything())

    def test_too_much_inline(self):
        spec = self.spec_with()
        big = b"x" * (MIB + 1)
        for name in ("a.txt", "b.txt"):
            spec.model.manifest.files.add(name=name, digest=digest_of(big), inline_content=big)
        self.refuse(spec, INVALID, "BAD_JOB", "inline_content")

    def test_inline_content_that_is_not_the_file(self):
        spec = self.spec_with()
        (config,) = [f for f in spec.model.manifest.files if f.name == "config.json"]
        config.inline_content = config.inline_content + b" "
        self.refuse(spec, INVALID, "DIGEST_MISMATCH", "config.json")

    def test_an_inline_header_that_is_not_the_file_s(self):
        """Seen when the file is there: its results were of another model."""
        spec = self.spec_with()
        (weights,) = [f for f in spec.model.manifest.files if f.name == "model.safetensors"]
        head = weights.inline_content
        # Two matrices of one shape change places.
        weights.inline_content = head.replace(b"gate_proj", b"x_proj", 1).replace(
            b"up_proj", b"gate_proj", 1).replace(b"x_proj", b"up_proj", 1)
        self.assertNotEqual(weights.inline_content, head)
        outcome = self.client.run(spec, self.files.values())
        self.assertEqual(outcome.job.state, FAILED)
        self.assert_fails(outcome.failure, INVALID, "DIGEST_MISMATCH", "model.safetensors")

    def test_an_absent_blob_is_waited_for(self):
        spec = quantize(manifest(self.files), digest_of(b"tokens that nobody has"))
        job = self.client.create(spec)
        self.assertIn(key_of(digest_of(b"tokens that nobody has")),
                      {key_of(d) for d in job.missing})
        self.client.cancel(job.name)

    def test_a_config_that_is_nowhere(self):
        model = manifest({**self.files, "config.json": b'{"of": "nobody"}'}, lambda n, d: b"")
        self.refuse(quantize(model, self.digest), Code.FAILED_PRECONDITION, "MISSING_BLOB",
                    "config.json")

    def test_more_memory_than_there_is(self):
        with JobServer("--memory-bytes", str(16 * MIB)) as server:
            tokens = server.client.upload(models.token_file(models.random_tokens(4, 256, 512)))
            spec = quantize(manifest(models.heavy_llama().files()), tokens)
            failed = failure(server.client.create, spec)
            self.assert_fails(failed, Code.RESOURCE_EXHAUSTED, "MEMORY")
            self.assertTrue(failed.quotas, failed)


class PathTest(JobCase):
    """Paths stay below their roots, by name and by link."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        server = cls.server
        server.add_model("good", cls.files)
        models.write(cls.files, server.root / "outside")
        os.symlink(server.root / "outside", server.models / "link")
        os.symlink("../outside", server.models / "relative-link")
        models.write({n: d for n, d in cls.files.items() if n != "model.safetensors"},
                     server.models / "linked-file")
        os.symlink(server.root / "outside" / "model.safetensors",
                   server.models / "linked-file" / "model.safetensors")
        (server.models / "empty").mkdir()
        (server.models / "file").write_bytes(b"x")
        os.symlink(server.root / "outside", server.outputs / "link")
        (server.outputs / "empty").mkdir()
        models.write({"keep.txt": b"mine"}, server.outputs / "taken")
        (server.outputs / "file").write_bytes(b"x")

    def assert_refused(self, spec, *names):
        failed, _ = self.client.failure(spec)
        self.assertIsNotNone(failed, "the job succeeded")
        self.assertIn(failed.code, (INVALID, Code.NOT_FOUND, Code.ALREADY_EXISTS,
                                    Code.PERMISSION_DENIED, Code.FAILED_PRECONDITION), failed)
        self.assertIn(failed.reason, ("BAD_PATH", "BAD_MODEL", "BAD_JOB"), failed)
        for name in names:
            self.assertIn(name, failed.everything())

    def test_models(self):
        for path in ("../outside", "good/../../outside", str(self.server.root / "outside"), "link",
                     "relative-link", "/etc", "absent", "file", "a\0b", "x" * 5000,
                     "linked-file", ".."):
            with self.subTest(path=path[:40]):
                self.assert_refused(quantize(model_path(path), self.digest, output_path="never"))
                self.assertIsNone(self.server.output("never"))
        with self.subTest("empty directory"):
            self.assert_refused(quantize(model_path("empty"), self.digest), "config.json")

    def test_outputs(self):
        outside = models.read(self.server.root / "outside")
        for path in ("../elsewhere", "x/../../elsewhere", str(self.server.root / "elsewhere"),
                     "link", "link/new", "taken", "file", "file/new", "absent/new", "a\0b",
                     "x" * 5000, "..", "."):
            with self.subTest(path=path[:40]):
                self.assert_refused(quantize(model_path("good"), self.digest, output_path=path))
        self.assertEqual(models.read(self.server.root / "outside"), outside)
        self.assertEqual(models.read(self.server.outputs / "taken"), {"keep.txt": b"mine"})
        self.assertFalse((self.server.root / "elsewhere").exists())
        self.assertEqual(sorted(p.name for p in self.server.outputs.iterdir()),
                         ["empty", "file", "link", "taken"])

    def test_an_empty_output_directory_is_as_good_as_none(self):
        outcome = self.client.run(quantize(model_path("good"), self.digest, output_path="empty"))
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertIn("model.safetensors", self.server.output("empty"))
        for path in (self.server.outputs / "empty").iterdir():
            path.unlink()

    def test_a_server_without_roots(self):
        with LiveServer() as server, server.channel() as channel:
            client = type(self.client)(channel)
            digest = client.upload(self.tokens)
            for spec, flag in ((quantize(model_path("good"), digest), "--model-root"),
                               (quantize(manifest(self.files), digest, output_path="x"),
                                "--output-root")):
                failed = failure(client.create, spec)
                self.assertEqual(failed.reason, "BAD_PATH", failed)
                self.assertIn(flag, failed.message)


if __name__ == "__main__":
    run_tests()

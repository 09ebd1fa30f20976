"""Tests several results of one job, overrides by module path and the limit of error, through blobs and
through directories: NumPy reads what came back."""

import json
import pathlib
import tempfile

import numpy as np

import job_models as models
from contract import job_pb2, method_pb2
from job_case import JobCase, failure
from job_client import SUCCEEDED, manifest, quantize
from live_server import run_tests

import safetensors_np

AWQ = dict(bits=4, group_size=32)
PLAIN = dict(bits=3, group_size=32, output_format=method_pb2.OUTPUT_FORMAT_DEQUANTIZED_FP16)
DOWN = "model.layers.1.mlp.down_proj"


class OutputsTest(JobCase):
    def run_job(self, **task):
        outcome = self.client.run(quantize(manifest(self.files), self.digest, **task),
                                  self.files.values())
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        return outcome

    def test_results_are_those_of_jobs_of_their_own(self):
        expected = {}
        for directory, settings in (("awq-gemm", AWQ), ("dequantized-fp16", PLAIN)):
            one = self.run_job(formats=[settings])
            self.assertFalse([t for t in one.of("tensor_ready") if t.directory])
            expected |= {f"{directory}/{name}": key for name, key in one.files.items()}
        both = self.run_job(formats=[AWQ, PLAIN])
        self.assertEqual(both.files, expected)
        self.assertEqual(set(self.client.read_files(both.job)), set(expected))
        for kind in ("tensor_ready", "group_report"):
            self.assertEqual({event.directory for event in both.of(kind)},
                             {"awq-gemm", "dequantized-fp16"})
        written = self.run_job(formats=[AWQ, PLAIN], output_path="both")
        self.assertEqual(written.files, expected)
        directory = self.server.outputs / "both"
        self.assertEqual({str(p.relative_to(directory)): p.stat().st_size
                          for p in directory.rglob("*") if p.is_file()},
                         {name: size for name, (_, size) in expected.items()})
        self.assertEqual(self.server.leftovers(), [])

    def test_a_skipped_linear_is_the_source(self):
        outcome = self.run_job(formats=[AWQ],
                               overrides=[job_pb2.ModuleOverride(module=DOWN, skip=True)])
        files = self.client.read_files(outcome.job)
        config = json.loads(files["config.json"])["quantization_config"]
        self.assertEqual(config["modules_to_not_convert"], [DOWN])
        with tempfile.TemporaryDirectory() as directory:
            models.write(files, pathlib.Path(directory) / "awq")
            models.write(self.files, pathlib.Path(directory) / "source")
            result, source = (safetensors_np.read(
                pathlib.Path(directory) / name / "model.safetensors") for name in ("awq", "source"))
        np.testing.assert_array_equal(result[DOWN + ".weight"], source[DOWN + ".weight"])
        self.assertNotIn(DOWN + ".qweight", result)
        self.assertIn(DOWN.replace("1", "0") + ".qweight", result)

    def test_no_linear_errs_by_more_than_the_limit(self):
        free = self.run_job(formats=[AWQ])
        errors = sorted(linear.relative_output_error for group in free.of("group_report")
                        for linear in group.linears)
        limit = errors[len(errors) // 2]
        outcomes = [self.run_job(formats=[AWQ, PLAIN], max_relative_error=limit, output_path=path)
                    for path in ("", "limited")]
        self.assertEqual(outcomes[0].files, outcomes[1].files)
        got = {"awq-gemm": set(), "dequantized-fp16": set()}
        for group in outcomes[0].of("group_report"):
            for linear in group.linears:
                self.assertLessEqual(linear.relative_output_error, limit, linear.name)
                got[group.directory].add(linear.bits)
        self.assertEqual(got["awq-gemm"], {4, 16})
        self.assertIn(8, got["dequantized-fp16"])
        warnings = outcomes[0].of("warning")
        self.assertTrue(any(w.startswith("awq-gemm: ") and "is not quantized" in w for w in warnings))
        self.assertTrue(any("has 8 bits" in w for w in warnings))
        self.assertEqual(self.server.leftovers(), [])

    def test_an_estimate_counts_them_all(self):
        def estimate(*formats):
            spec = quantize(manifest(self.files), self.digest, formats=list(formats))
            return self.client.create(spec, validate_only=True).estimate

        awq, plain, both = estimate(AWQ), estimate(PLAIN), estimate(AWQ, PLAIN)
        self.assertEqual(both.output_bytes, awq.output_bytes + plain.output_bytes)
        self.assertGreater(both.flop, max(awq.flop, plain.flop))
        self.assertLess(both.flop, awq.flop + plain.flop)

    def test_what_cannot_be_is_refused_with_what_can(self):
        down, query = DOWN, "model.layers.0.self_attn.q_proj"
        for names, task in (
                (("quantize.formats", "awq-gemm-4bit-g32"), dict(formats=[AWQ, AWQ])),
                (("spec.quantize.formats", "at most 8"), dict(formats=[AWQ] * 9)),
                (("quantize.formats[1]", "group_size"),
                 dict(formats=[AWQ, PLAIN | dict(group_size=96)], strict=True)),
                (("overrides", "no Linear", "lm_head"), dict(overrides=[dict(module="lm_head",
                                                                             skip=True)])),
                (("overrides", "twice"), dict(overrides=[dict(module=down, skip=True)] * 2)),
                (("overrides", "says nothing", "skip"), dict(overrides=[dict(module=down)])),
                (("overrides", "bits is 16", "2 to 8"), dict(overrides=[dict(module=down, bits=16)])),
                (("overrides", "k_proj", "v_proj"), dict(overrides=[dict(module=query, skip=True)])),
                (("overrides", down, "compressed-tensors"), dict(overrides=[dict(module=down,
                                                                                 bits=8)])),
                (("max_relative_error", "-1"), dict(max_relative_error=-1)),
                (("max_relative_error", "nan"), dict(max_relative_error=float("nan")))):
            with self.subTest(names):
                overrides = [job_pb2.ModuleOverride(**o) for o in task.pop("overrides", ())]
                spec = quantize(manifest(self.files), self.digest, overrides=overrides,
                                **(dict(formats=[AWQ]) | task))
                failed = failure(self.client.create, spec)
                self.assertEqual(failed.code.name, "INVALID_ARGUMENT", failed)
                for name in names:
                    self.assertIn(name, failed.everything())


if __name__ == "__main__":
    run_tests()

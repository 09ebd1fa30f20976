"""Tests what a job was estimated to cost beside what it took. The machine is shared and noisy: memory is
held to its promise, seconds to a generous factor of the CPU's, and all are printed."""

import unittest

import job_models as models
from job_client import SUCCEEDED, model_path, quantize
from job_server import JobServer
from live_server import run_tests

MIB = 1 << 20
SECONDS_FACTOR = 4  # 2 is promised.


class EstimateTest(unittest.TestCase):
    def check(self, name, files, ids, workers=2):
        with JobServer(workers=workers) as server:
            client = server.client
            path = server.add_model("model", files)
            spec = quantize(model_path(path), client.upload(models.token_file(ids)),
                            output_path="out")
            estimate = client.create(spec, validate_only=True).estimate
            cpu_before = server.cpu_seconds()
            outcome = client.run(spec)
            cpu = (server.cpu_seconds() - cpu_before) / workers
            self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
            usage, peak = outcome.job.usage, server.rss_bytes(peak=True)
            written = sum(len(d) for d in server.output("out").values())
        memory = usage.peak_memory_bytes / estimate.peak_memory_bytes
        # What the job would have taken with the machine to itself.
        seconds = min(usage.seconds, cpu) / estimate.seconds
        print(f"\n  {name}, {workers} workers, {ids.size} tokens: "
              f"{usage.seconds:.2f} s, {cpu:.2f} s of CPU a worker, of {estimate.seconds:.2f} estimated "
              f"({usage.seconds / estimate.seconds:.2f}, {seconds:.2f}), "
              f"{usage.peak_memory_bytes / MIB:.1f} MiB of {estimate.peak_memory_bytes / MIB:.1f} "
              f"({memory:.2f}; VmHWM {peak / MIB:.1f}), {estimate.flop:.3g} FLOP")
        with self.subTest(name, what="memory"):
            self.assertTrue(0.8 <= memory <= 1.25, memory)
            self.assertAlmostEqual(usage.peak_memory_bytes / peak, 1, delta=0.1)
        with self.subTest(name, what="seconds"):
            self.assertTrue(1 / SECONDS_FACTOR <= seconds <= SECONDS_FACTOR, seconds)
        with self.subTest(name, what="size"):
            self.assertAlmostEqual(estimate.output_bytes / written, 1, delta=0.2)

    def test_pocket_llama(self):
        for workers in (1, 2):
            self.check("pocket-llama", models.pocket_llama(), models.pocket_tokens(rows=32), workers)

    def test_a_wider_model(self):
        wide = models.random_llama(hidden=1024, intermediate=2816, layers=2, heads=8, kv_heads=8,
                                   vocabulary=2048, seed=9)
        self.check("hidden 1024, 2 layers", wide.files(), models.random_tokens(8, 256, 2048))


if __name__ == "__main__":
    run_tests()

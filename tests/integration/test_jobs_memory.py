"""Memory is the block's, not the model's: models of one width with 8 and with 32 layers."""

import unittest

import job_models as models
from job_client import SUCCEEDED, manifest, model_path, quantize
from job_server import JobServer
from live_server import run_tests
from messages import ROUND_TO_NEAREST

MIB = 1 << 20
DIFFERENCE_BYTES = 16 * MIB
GROUP_SIZE = 16  # It divides both 256 and 688 columns.


def model(layers):
    return models.random_llama(hidden=256, intermediate=688, layers=layers, heads=8, kv_heads=4,
                               vocabulary=256, seed=layers).files()


class MemoryTest(unittest.TestCase):
    """Takes a fresh server for each model, because VmHWM only rises."""

    def peak(self, files, through_blobs):
        with JobServer(workers=2) as server:
            tokens = server.client.upload(models.token_file(models.random_tokens(8, 128, 256)))
            settings = dict(group_size=GROUP_SIZE)
            if through_blobs:
                # Blocks follow each other quickest, and what is freed has least time to be reused.
                settings["method"] = ROUND_TO_NEAREST
                outcome = server.client.run(quantize(manifest(files), tokens, **settings),
                                            files.values())
            else:
                path = server.add_model("model", files)
                outcome = server.client.run(
                    quantize(model_path(path), tokens, output_path="out", **settings))
            self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
            self.assertEqual(outcome.job.usage.parameters * 2, outcome.job.usage.bytes_in)
            return server.rss_bytes(peak=True)

    def compare(self, through_blobs):
        peaks = {}
        for layers in (8, 32):
            files = model(layers)
            peaks[layers] = self.peak(files, through_blobs)
            weights = len(files["model.safetensors"]) / MIB
            print(f"\n  {layers} layers, {weights:.1f} MiB of weights: "
                  f"peak {peaks[layers] / MIB:.1f} MiB", end="")
        print(f"\n  difference {(peaks[32] - peaks[8]) / MIB:.1f} MiB, "
              f"{'blobs' if through_blobs else 'directories'}")
        self.assertLess(abs(peaks[32] - peaks[8]), DIFFERENCE_BYTES)

    def test_through_directories(self):
        self.compare(through_blobs=False)

    def test_through_blobs(self):
        self.compare(through_blobs=True)


if __name__ == "__main__":
    run_tests()

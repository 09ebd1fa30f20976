"""Tests whole models through jobs: a client made from the proto files alone uploads, submits, watches and
downloads; NumPy reads what came back; no byte depends on how it went."""

import json
import pathlib
import tempfile
import unittest

import numpy as np

import job_models as models
from contract import job_pb2, tensor_pb2
from job_client import (SUCCEEDED, Outcome, digest_of, key_of, manifest, model_path, quantize)
from job_server import JobServer
from live_server import run_tests
from messages import ROUND_TO_NEAREST

import checkpoint_np
import llama_np
import safetensors_np

ROWS = 6
GROUP_SIZE = 128


def quantize_model(server, files, tokens, **task):
    """Quantizes through blobs, to the end. Returns the Outcome, which succeeded."""
    digest = server.client.upload(tokens)
    outcome = server.client.run(quantize(manifest(files), digest, **task), files.values())
    if outcome.job.state != SUCCEEDED:
        raise AssertionError(f"{outcome.failure}")
    return outcome


def sizes(tensors):
    return {name: (np.dtype(a.dtype).str, a.shape) for name, a in tensors.items()}


def expected_tensors(config, group_size):
    """Returns {name: (dtype, shape)} that AWQ gemm gives a Llama without biases."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    attended, shared = (config[k] * head for k in ("num_attention_heads", "num_key_value_heads"))
    shapes = {  # Each is (out, in).
        "self_attn.q_proj": (attended, hidden), "self_attn.k_proj": (shared, hidden),
        "self_attn.v_proj": (shared, hidden), "self_attn.o_proj": (hidden, attended),
        "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner)}
    want = {"model.embed_tokens.weight": ("<f2", (config["vocab_size"], hidden)),
            "model.norm.weight": ("<f2", (hidden,))}
    if not config["tie_word_embeddings"]:
        want["lm_head.weight"] = ("<f2", (config["vocab_size"], hidden))
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            want[f"{block}{norm}.weight"] = ("<f2", (hidden,))
        for linear, (out, into) in shapes.items():
            want[f"{block}{linear}.qweight"] = ("<i4", (into, out // 8))
            want[f"{block}{linear}.qzeros"] = ("<i4", (into // group_size, out // 8))
            want[f"{block}{linear}.scales"] = ("<f2", (into // group_size, out))
    return want


class WholeModelTest(unittest.TestCase):
    """Sends pocket-llama through blobs."""

    @classmethod
    def setUpClass(cls):
        cls.server = JobServer()
        cls.addClassCleanup(cls.server.stop)
        cls.source = models.pocket_llama()
        cls.outcome = quantize_model(cls.server, cls.source,
                                     models.token_file(models.pocket_tokens(rows=ROWS)))
        cls.files = cls.server.client.read_files(cls.outcome.job)
        cls._directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls._directory.cleanup)
        cls.directory = models.write(cls.files, pathlib.Path(cls._directory.name) / "awq")

    def test_tensors_are_those_of_the_format(self):
        config = json.loads(self.source["config.json"])
        tensors = safetensors_np.read(self.directory / "model.safetensors")
        self.assertEqual(sizes(tensors), expected_tensors(config, GROUP_SIZE))

    def test_every_tensor_was_announced_with_its_bytes(self):
        dtypes = {tensor_pb2.DATA_TYPE_I32: "<i4", tensor_pb2.DATA_TYPE_F16: "<f2"}
        tensors = safetensors_np.read(self.directory / "model.safetensors")
        announced = {t.header.name: t for t in self.outcome.of("tensor_ready")}
        self.assertEqual(set(announced), set(tensors))
        for name, ready in announced.items():
            array = np.frombuffer(self.server.client.read(ready.digest),
                                  dtypes[ready.header.dtype]).reshape(tuple(ready.header.shape))
            np.testing.assert_array_equal(array, tensors[name], name)

    def test_a_file_is_its_header_and_its_tensors(self):
        (file,) = [f for f in self.outcome.job.files if f.name == "model.safetensors"]
        tensors = {key_of(t.digest) for t in self.outcome.of("tensor_ready")}
        self.assertEqual({key_of(p) for p in file.parts[1:]}, tensors)
        self.assertEqual(sum(p.size_bytes for p in file.parts), file.digest.size_bytes)

    def test_config_says_how_it_was_quantized(self):
        source, result = json.loads(self.source["config.json"]), llama_np.read_config(self.directory)
        quantization = result.pop("quantization_config")
        self.assertEqual(
            {k: quantization.get(k)
             for k in ("quant_method", "bits", "group_size", "zero_point", "version")},
            dict(quant_method="awq", bits=4, group_size=GROUP_SIZE, zero_point=True,
                 version="gemm"))
        self.assertFalse(quantization.get("modules_to_not_convert"))
        dtype_keys = {"torch_dtype", "dtype"}
        self.assertEqual({result[k] for k in dtype_keys & result.keys()}, {"float16"})
        for key in source.keys() - dtype_keys:
            self.assertEqual(result[key], source[key], key)

    def test_other_files_are_carried_over(self):
        carried = set(self.source) - {"config.json", "model.safetensors"}
        self.assertEqual(set(self.files), set(self.source))
        for name in carried:
            self.assertEqual(self.files[name], self.source[name], name)

    def test_numpy_reads_a_model_as_good_as_the_source(self):
        rows = models.pocket_tokens("evaluation", rows=16)
        source = llama_np.Llama.load(models.POCKET_LLAMA)
        result = checkpoint_np.read(self.directory)
        before, after = llama_np.compare([source, result], rows)
        print(f"\n  perplexity {before['perplexity']:.4f} -> {after['perplexity']:.4f}, "
              f"KL {after['kl']:.5f}")
        self.assertTrue(np.isfinite(after["perplexity"]))
        self.assertLess(after["perplexity"] / before["perplexity"], 1.05)
        self.assertLess(after["kl"], 0.1)
        self.assertGreater(after["kl"], 0)

    def test_every_group_was_reported_and_beats_round_to_nearest(self):
        reports = {r.name: r for r in self.outcome.of("group_report")}
        self.assertEqual(len(reports), 4 * 4)
        for name, report in reports.items():
            self.assertLessEqual(report.loss, report.loss_rtn, name)
            self.assertEqual(report.row_count, ROWS, name)
            self.assertEqual(report.token_count, ROWS * 256, name)

    def test_usage_counts_the_model(self):
        usage = self.outcome.job.usage
        self.assertEqual(usage.parameters, models.pocket_llama_checkpoint().parameters)
        self.assertEqual(usage.bytes_in, 2 * usage.parameters)
        self.assertEqual(usage.bytes_out, sum(len(d) for d in self.files.values()))
        self.assertGreater(usage.seconds, 0)
        self.assertFalse(self.outcome.job.provisional)
        self.assertFalse(self.outcome.job.missing)
        self.assertTrue(self.outcome.job.numerics_id)

    def test_nothing_is_left_over(self):
        self.assertEqual(self.server.leftovers(), [])


class SameBytesTest(unittest.TestCase):
    """Tests what must not matter for a single byte of the result."""

    files: dict
    tokens: bytes

    @classmethod
    def setUpClass(cls):
        cls.model = models.random_llama(hidden=256, intermediate=512, heads=8, kv_heads=4)
        cls.files = cls.model.files()
        cls.ids = models.random_tokens(8, 96, 256)
        cls.tokens = models.token_file(cls.ids)
        cls.server = JobServer(workers=1)
        cls.addClassCleanup(cls.server.stop)
        cls.outcome = quantize_model(cls.server, cls.files, cls.tokens)
        cls.result = cls.server.client.read_files(cls.outcome.job)

    def on_a_server_of_its_own(self, files=None, tokens=None, workers=1, **task) -> Outcome:
        with JobServer(workers=workers) as server:
            return quantize_model(server, files or self.files, tokens or self.tokens, **task)

    def test_number_of_workers(self):
        for workers in (2, 3):
            with self.subTest(workers=workers):
                again = self.on_a_server_of_its_own(workers=workers)
                self.assertEqual(again.files, self.outcome.files)

    def test_path_source_and_output_directory(self):
        path = self.server.add_model("plain", self.files)
        digest = self.server.client.upload(self.tokens)
        outcome = self.server.client.run(quantize(model_path(path), digest, output_path="plain-awq"))
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertEqual(self.server.output("plain-awq"), self.result)
        self.assertEqual(outcome.files, self.outcome.files)
        self.assertEqual(self.server.leftovers(), [])

    def test_path_source_to_blobs(self):
        path = self.server.add_model("to-blobs", self.files)
        digest = self.server.client.upload(self.tokens)
        outcome = self.server.client.run(quantize(model_path(path), digest))
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertEqual(self.server.client.read_files(outcome.job), self.result)

    def test_blobs_to_an_output_directory(self):
        digest = self.server.client.upload(self.tokens)
        outcome = self.server.client.run(
            quantize(manifest(self.files), digest, output_path="from-blobs"), self.files.values())
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        self.assertEqual(self.server.output("from-blobs"), self.result)

    def test_source_in_three_shards(self):
        files = self.model.files(shards=3)
        self.assertEqual(sum(name.endswith(".safetensors") for name in files), 3)
        again = self.on_a_server_of_its_own(files)
        self.assertEqual(again.tensors, self.outcome.tensors)
        self.assertEqual(again.files, self.outcome.files)

    def test_result_in_several_shards(self):
        largest = sum(size for _, size in self.outcome.tensors.values()) // 3
        again = self.on_a_server_of_its_own(max_shard_bytes=largest)
        self.assertEqual(again.tensors, self.outcome.tensors)
        shards = [name for name in again.files if name.endswith(".safetensors")]
        self.assertGreater(len(shards), 2)
        self.assertIn(models.INDEX, again.files)
        self.assertNotIn("model.safetensors", again.files)

    def test_order_of_calibration_rows(self):
        orders = {"backwards": slice(None, None, -1), "shuffled": [3, 0, 7, 1, 6, 2, 5, 4]}
        for name, order in orders.items():
            with self.subTest(name):
                again = quantize_model(self.server, self.files, models.token_file(self.ids[order]))
                self.assertEqual(again.files, self.outcome.files)

    def test_max_rows_is_a_shorter_file(self):
        few = quantize_model(self.server, self.files, self.tokens, max_rows=3)
        short = quantize_model(self.server, self.files, models.token_file(self.ids[:3]))
        self.assertEqual(few.files, short.files)
        # So that calibration does matter.
        self.assertFalse(few.tensors == self.outcome.tensors)

    def test_lengths_are_shorter_rows(self):
        """Padding takes no part, whatever stands there."""
        lengths = np.full(8, 64, np.int32)
        results = []
        for filler in (0, 7):
            padded = self.ids.copy()
            padded[:, 64:] = filler
            outcome = quantize_model(self.server, self.files,
                                     models.token_file(padded, lengths=lengths))
            results.append(outcome.files)
        cut = quantize_model(self.server, self.files, models.token_file(self.ids[:, :64]))
        self.assertEqual(results, [cut.files] * 2)

    def test_width_of_token_ids(self):
        again = quantize_model(self.server, self.files,
                               models.token_file(self.ids.astype(np.int64)))
        self.assertEqual(again.files, self.outcome.files)

    def test_how_bytes_arrive(self):
        """The job waits while files come last to first, in pieces, through broken streams."""
        for chunk_bytes in (65_537, 999_983):
            with self.subTest(chunk_bytes=chunk_bytes), JobServer(workers=2) as server:
                client = server.client
                digest = client.upload(self.tokens, chunk_bytes=101)
                job = client.create(quantize(manifest(self.files), digest))
                missing = {key_of(d) for d in job.missing}
                weights = key_of(digest_of(self.files["model.safetensors"]))
                self.assertIn(weights, missing)
                self.assertLessEqual(missing, {key_of(digest_of(d)) for d in self.files.values()})
                for data in reversed(self.files.values()):
                    half = client.upload_part(data, len(data) // 2, chunk_bytes)
                    self.assertFalse(half.complete)
                    client.upload(data, chunk_bytes)
                again = client.finish(job.name)
                self.assertEqual(again.job.state, SUCCEEDED, again.failure)
                self.assertEqual(again.files, self.outcome.files)

    def test_nothing_inline_but_the_config(self):
        only_config = lambda name, data: data if name == "config.json" else b""
        with JobServer(workers=2) as server:
            spec = quantize(manifest(self.files, only_config), server.client.upload(self.tokens))
            again = server.client.run(spec, self.files.values())
            self.assertEqual(again.job.state, SUCCEEDED, again.failure)
            self.assertEqual(again.files, self.outcome.files)

    def test_the_same_weights_in_other_dtypes(self):
        """F16 weights widened to F32 are the same weights."""
        wide = models.random_llama(hidden=256, intermediate=512, heads=8, kv_heads=4)
        wide.tensors = {name: t.astype(np.float32) for name, t in wide.tensors.items()}
        again = quantize_model(self.server, wide.with_config(torch_dtype="float32").files(),
                               self.tokens)
        self.assertEqual(again.tensors, self.outcome.tensors)

    def test_method_and_arithmetic_do_matter(self):
        """So that the cases above cannot pass because nothing matters."""
        other = quantize_model(self.server, self.files, self.tokens, method=ROUND_TO_NEAREST)
        self.assertFalse(other.tensors == self.outcome.tensors)
        exact = quantize_model(self.server, self.files, self.tokens,
                               compute_dtype=job_pb2.COMPUTE_DTYPE_F32)
        self.assertFalse(exact.tensors == self.outcome.tensors)


if __name__ == "__main__":
    run_tests()

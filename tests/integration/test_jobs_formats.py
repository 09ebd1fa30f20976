"""Tests pocket-llama in every output format through jobs: names, shapes and dtypes of the tensors, what
config.json says, and what NumPy decodes, by the published layouts and nothing else.

Rounded to nearest, every weight is within half a step of the source's, whatever the layout: a code
or zero point that is out of its place is not.
"""

import json
import pathlib
import tempfile
import unittest

import numpy as np

import job_models as models
from contract import method_pb2
from job_client import SUCCEEDED, manifest, quantize
from job_server import JobServer
from live_server import run_tests
from messages import ROUND_TO_NEAREST

import llama_np
import safetensors_np

ROWS = 2
LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def words_of(codes, bits):
    """Words that a stream of so many codes takes."""
    return -(-codes * bits // 32)


def unpack(words, bits, count):
    """Returns the first `count` codes along axis 0 of words [words, columns], as a stream of bits."""
    raw = np.ascontiguousarray(words.T).view(np.uint8)
    stream = np.unpackbits(raw, axis=1, bitorder="little")[:, :count * bits]
    weights = 1 << np.arange(bits)
    return (stream.reshape(len(raw), count, bits) @ weights).T.astype(np.int32)


def by_group(values, inputs):
    """Spreads [out, groups] to [out, inputs]."""
    return np.repeat(values, inputs // values.shape[1], axis=1)


def gptq(shape, bits, group, v2, symmetric):
    out, into = shape
    groups = into // group if group > 0 else 1

    def decode(tensors):
        codes = unpack(tensors["qweight"], bits, into).T
        zeros = unpack(tensors["qzeros"].T, bits, out) + (0 if v2 else 1)
        scales = tensors["scales"].astype(np.float32).T
        np.testing.assert_array_equal(tensors["g_idx"], np.arange(into) // (into // groups))
        if symmetric:
            np.testing.assert_array_equal(zeros, 1 << (bits - 1))
        return by_group(scales, into) * (codes - by_group(zeros, into)), scales

    return {"qweight": ("I32", [words_of(into, bits), out]),
            "qzeros": ("I32", [groups, words_of(out, bits)]),
            "scales": ("F16", [groups, out]), "g_idx": ("I32", [into])}, decode


def compressed(shape, bits, group, symmetric):
    out, into = shape
    groups = into // group if group > 0 else 1

    def decode(tensors):
        np.testing.assert_array_equal(tensors["weight_shape"], [out, into])
        codes = unpack(tensors["weight_packed"].T, bits, into).T
        zeros = np.full((out, groups), 1 << (bits - 1))
        if not symmetric:
            zeros = unpack(tensors["weight_zero_point"], bits, out)
        scales = tensors["weight_scale"].astype(np.float32)
        return by_group(scales, into) * (codes - by_group(zeros, into)), scales

    tensors = {"weight_packed": ("I32", [out, words_of(into, bits)]),
               "weight_scale": ("F16", [out, groups]), "weight_shape": ("I64", [2])}
    if not symmetric:
        tensors["weight_zero_point"] = ("I32", [words_of(out, bits), groups])
    return tensors, decode


def int_quantized(shape):
    def decode(tensors):
        scales = tensors["weight_scale"]
        return scales * tensors["weight"].astype(np.float32), scales

    return {"weight": ("I8", list(shape)), "weight_scale": ("F32", [shape[0], 1])}, decode


class FormatsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = JobServer()
        cls.addClassCleanup(cls.server.stop)
        cls.files = models.pocket_llama()
        cls.source = models.pocket_llama_checkpoint().tensors
        cls.tokens = cls.server.client.upload(
            models.token_file(models.pocket_tokens(rows=ROWS)))
        cls._directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls._directory.cleanup)

    def run_job(self, name, method=ROUND_TO_NEAREST, **settings):
        """Returns (directory, files) of the result."""
        spec = quantize(manifest(self.files), self.tokens, method=method, formats=[settings])
        outcome = self.server.client.run(spec, self.files.values())
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        files = self.server.client.read_files(outcome.job)
        self.assertEqual(outcome.job.usage.bytes_out, sum(len(data) for data in files.values()))
        return models.write(files, pathlib.Path(self._directory.name) / name), files

    def check_linears(self, directory, bits, layout):
        """Tensors of each Linear are those of layout(shape), and decode to what rounding gives."""
        path = directory / "model.safetensors"
        tensors, dtypes = safetensors_np.read(path), safetensors_np.dtypes(path)
        seen = set()
        for layer in range(4):
            for linear in LINEARS:
                module = f"model.layers.{layer}.{linear}"
                weight = self.source[f"{module}.weight"].astype(np.float32)
                want, decode = layout(weight.shape)
                own = {name: tensors[f"{module}.{name}"] for name in want}
                seen |= {f"{module}.{name}" for name in want}
                self.assertEqual({n: (dtypes[f"{module}.{n}"], list(a.shape))
                                  for n, a in own.items()}, want, module)
                decoded, scales = decode(own)
                self.assertEqual(decoded.shape, weight.shape)
                # Half a step, and what rounding the scale to F16 moves the ends of the range by.
                step = by_group(scales, weight.shape[1])
                worst = np.max(np.abs(decoded - weight) / step)
                self.assertLess(worst, 0.51 + 2.0 ** (bits - 11), module)
                self.assertGreater(worst, 0.3, module)
        self.assertEqual({n for n in tensors if ".layers." in n and "norm" not in n}, seen)
        for name in set(tensors) - seen:
            np.testing.assert_array_equal(tensors[name], self.source[name], name)

    def quantization(self, files):
        config = json.loads(files["config.json"])
        self.assertEqual(config.get("dtype", config["torch_dtype"]), "float16")
        return config["quantization_config"]

    def test_gptq(self):
        for bits, group in ((4, 128), (8, 64), (3, 32), (4, -1)):
            for v2, symmetric in ((False, True), (True, True), (True, False)):
                with self.subTest(bits=bits, group=group, v2=v2, symmetric=symmetric):
                    kind = method_pb2.OUTPUT_FORMAT_GPTQ_V2 if v2 else method_pb2.OUTPUT_FORMAT_GPTQ
                    directory, files = self.run_job(
                        f"gptq-{bits}-{group}-{v2}-{symmetric}", bits=bits, group_size=group,
                        symmetric=symmetric, output_format=kind)
                    self.check_linears(directory, bits,
                                       lambda shape: gptq(shape, bits, group, v2, symmetric))
                    config = self.quantization(files)
                    self.assertEqual(config, {
                        "quant_method": "gptq", "bits": bits, "group_size": group,
                        "desc_act": False, "sym": symmetric,
                        "checkpoint_format": "gptq_v2" if v2 else "gptq", "lm_head": False})
                    self.assertEqual(json.loads(files["quantize_config.json"]), config)

    def test_compressed_tensors(self):
        for bits, group, symmetric in ((4, 128, True), (4, 32, False), (8, 64, False),
                                       (8, -1, True)):
            with self.subTest(bits=bits, group=group, symmetric=symmetric):
                directory, files = self.run_job(
                    f"compressed-{bits}-{group}-{symmetric}", bits=bits, group_size=group,
                    symmetric=symmetric,
                    output_format=method_pb2.OUTPUT_FORMAT_COMPRESSED_TENSORS)
                self.check_linears(directory, bits,
                                   lambda shape: compressed(shape, bits, group, symmetric))
                config = self.quantization(files)
                self.assertEqual((config["quant_method"], config["format"],
                                  config["quantization_status"], config["ignore"]),
                                 ("compressed-tensors", "pack-quantized", "compressed", ["lm_head"]))
                self.assertEqual(list(config["config_groups"]), ["group_0"])
                scheme = config["config_groups"]["group_0"]
                self.assertEqual(scheme["targets"], ["Linear"])
                self.assertIsNone(scheme["input_activations"])
                weights = scheme["weights"]
                self.assertEqual(
                    (weights["num_bits"], weights["symmetric"], weights["strategy"],
                     weights["group_size"]),
                    (bits, symmetric, "group" if group > 0 else "channel",
                     group if group > 0 else None))
                self.assertNotIn("quantize_config.json", files)

    def test_int_quantized(self):
        directory, files = self.run_job("w8a8",
                                        output_format=method_pb2.OUTPUT_FORMAT_INT_QUANTIZED)
        self.check_linears(directory, 8, int_quantized)
        config = self.quantization(files)
        scheme = config["config_groups"]["group_0"]
        self.assertEqual((config["format"], scheme["format"]), ("int-quantized",) * 2)
        self.assertEqual((scheme["weights"]["strategy"], scheme["weights"]["num_bits"]),
                         ("channel", 8))
        inputs = scheme["input_activations"]
        self.assertEqual((inputs["strategy"], inputs["dynamic"], inputs["symmetric"]),
                         ("token", True, True))

    def test_scaled_is_the_same_model(self):
        """The search folds scales into it and rounds nothing but to F16."""
        method = dict(scale=method_pb2.SCALE_AWQ, range=method_pb2.RANGE_MIN_MAX,
                      rounding=method_pb2.ROUNDING_NEAREST)
        directory, files = self.run_job("scaled", method=method, bits=3, group_size=64,
                                        output_format=method_pb2.OUTPUT_FORMAT_SCALED_FP16)
        self.assertNotIn("quantization_config", json.loads(files["config.json"]))
        tensors = safetensors_np.read(directory / "model.safetensors")
        self.assertEqual({n: t.shape for n, t in tensors.items()},
                         {n: t.shape for n, t in self.source.items()})
        moved = [n for n, t in tensors.items() if not np.array_equal(t, self.source[n])]
        self.assertTrue(any("norm" in name for name in moved), "nothing was scaled")
        rows = models.pocket_tokens("evaluation", rows=4)
        before, after = llama_np.compare([llama_np.Llama.load(models.POCKET_LLAMA),
                                          llama_np.Llama.load(directory)], rows)
        print(f"\n  scaled: perplexity {before['perplexity']:.5f} -> {after['perplexity']:.5f}, "
              f"KL {after['kl']:.2e}")
        self.assertLess(abs(after["perplexity"] / before["perplexity"] - 1), 1e-4)
        self.assertLess(after["kl"], 1e-5)


if __name__ == "__main__":
    run_tests()

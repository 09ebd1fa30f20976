"""Reads whole directories written by `salient quantize` with a reader in NumPy that shares no code
with it: `salient verify` must say of them what that reader computes."""

import os
import pathlib
import subprocess
import tempfile
import unittest

import numpy as np

import paths
import checkpoint_np
import evaluate_np
import llama_np
import model_variants
import run_tests
import salient_cli
import safetensors_np
from stored_formats_np import Scheme

ROWS = 4  # They are rows of evaluation.
# What the dtype that config.json says makes of the residual stream.
ROUNDS = {
    "float16": lambda hidden: hidden.astype(np.float16).astype(np.float32),
    "bfloat16": lambda hidden: safetensors_np.widen_bf16(safetensors_np.round_bf16(hidden)),
}


class Directory(unittest.TestCase):
    rounds_activations = False

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.source, self.output = (os.path.join(scratch.name, n) for n in ("source", "output"))
        self.calibration, self.evaluation = (
            os.path.join(scratch.name, f"{n}.safetensors") for n in ("calibration", "evaluation"))

    def make(self, variant, **stored):
        """Makes a source directory and its token files."""
        model_variants.write(variant, self.source, **stored)
        if variant in model_variants.PRESERVING:
            for kind, path in (("calibration", self.calibration), ("evaluation", self.evaluation)):
                tokens = safetensors_np.read(paths.POCKET_LLAMA / f"{kind}_open.safetensors")
                salient_cli.write_tokens(path, tokens["input_ids"][:16])
        else:
            for seed, path in enumerate((self.calibration, self.evaluation)):
                salient_cli.random_tokens(path, 256, 16, 80, seed)

    def quantize(self, *flags):
        return salient_cli.quantize(self.source, self.output, self.calibration, *flags)

    def kept(self):
        """Returns the Linears of the result that stayed plain."""
        tensors = checkpoint_np.read_tensors(self.output)
        return sorted(name.removesuffix(".weight") for name, tensor in tensors.items()
                      if name.endswith("_proj.weight") and tensor.dtype != np.int8)

    def agree(self, *rtn):
        """verify and NumPy, which reads as strictly as engines do, agree on perplexities, KL and
        the share of equal best tokens."""
        flags = [f"--rtn-{k}={v}" for k, v in rtn]
        found = salient_cli.verify(self.output, self.evaluation, "--against", self.source,
                                   "--rows", ROWS, *flags)
        tokens = evaluate_np.read_tokens(self.evaluation, ROWS)
        expected = evaluate_np.evaluate(self.output, tokens, self.source, foreign=False,
                                        **{k.replace("-", "_"): v for k, v in rtn})
        print(f"\nsalient {found}\nNumPy   {expected}")
        for model in ("source", "result", "rtn"):
            said, known = found[model]["perplexity"], expected[model]["perplexity"]
            # Those of random models are in the millions. Where activations are rounded, too, a
            # difference in a last bit becomes a whole step: NumPy's own perplexity moves by 3e-3
            # and its KL by 1 % if the inputs of Linears change by 1e-6 of themselves.
            of_it = 2e-3 if self.rounds_activations and model != "source" else 1e-4
            self.assertAlmostEqual(said, known, delta=max(1e-3, of_it * known), msg=model)
        for prefix in ("", "rtn_"):
            kl, agreement = f"{prefix}kl", f"{prefix}top1_agreement"
            of_it = 3e-2 if self.rounds_activations else 2e-3
            self.assertAlmostEqual(found[kl], expected[kl], delta=max(of_it * expected[kl], 2e-6),
                                   msg=kl)
            self.assertAlmostEqual(found[agreement], expected[agreement],
                                   delta=5e-3 if self.rounds_activations else 2e-3,
                                   msg=agreement)
        return found


class AwqGemm(Directory):
    def test_default_of_the_salient_model(self):
        self.make("salient")
        said = self.quantize()
        self.assertEqual(self.kept(), [])
        self.assertEqual(len(said["groups"]), 16)
        found = self.agree()
        self.assertLess(found["kl"], 0.5 * found["rtn_kl"])
        for file in ("tokenizer.model", "tokenizer_config.json", "generation_config.json"):
            with open(os.path.join(self.source, file), "rb") as before, \
                    open(os.path.join(self.output, file), "rb") as after:
                self.assertEqual(before.read(), after.read(), file)

    def test_files_are_cut_and_indexed(self):
        self.make("untied", shards=4)
        self.quantize("--max-shard-bytes", 900000, "--method", "rtn")
        files = [file for file in os.listdir(self.output) if file.endswith(".safetensors")]
        self.assertGreater(len(files), 3)
        for file in files:
            self.assertLess(os.path.getsize(os.path.join(self.output, file)), 1.2e6, file)
        self.agree()

    def test_files_beside_the_model_come_along_but_no_other_weights(self):
        """The committed directory holds token files, which engines would take for weights."""
        self.make("plain")
        self.source = str(paths.POCKET_LLAMA)
        self.quantize("--method", "rtn")
        checkpoint_np.read(self.output)
        files = {file for file in os.listdir(self.source) if not file.endswith(".safetensors")}
        self.assertLessEqual(files - {"README.md"}, set(os.listdir(self.output)))

    def test_linears_that_the_group_size_does_not_divide_are_kept(self):
        self.make("padded-mlp")
        self.quantize()
        self.assertEqual(self.kept(), [f"model.layers.{i}.mlp.down_proj" for i in range(4)])
        self.agree()

    def test_bf16_source(self):
        self.make("bf16")
        self.quantize("--group-size", 64)
        self.agree()

    def test_residual_stream_beyond_f16(self):
        """Results of a model in BF16 have its range in the dtype that their config.json says."""
        self.make("big-residual")
        tokens = evaluate_np.read_tokens(self.evaluation, ROWS)
        source = llama_np.perplexity(llama_np.Llama.load(self.source), tokens)
        names = ("awq-gemm", "gptq", "gptq-v2", "compressed-tensors", "scaled-fp16",
                 "dequantized-fp16")
        together = self.output
        self.quantize("--method", "rtn", "--symmetric",
                      *(word for name in names for word in ("--format", name)))
        self.output = os.path.join(together, "int-quantized")
        self.quantize("--method", "smoothquant", *salient_cli.INT_QUANTIZED)
        for name in (*names, "int-quantized"):
            with self.subTest(name):
                self.output = os.path.join(together, name)
                self.assertEqual(llama_np.read_config(self.output)["torch_dtype"], "bfloat16")
                headers = safetensors_np.read_header(
                    os.path.join(self.output, "model.safetensors"))[0]
                for tensor in ("model.embed_tokens", "model.norm", "lm_head",
                               "model.layers.3.input_layernorm"):
                    self.assertEqual(headers[f"{tensor}.weight"]["dtype"], "BF16", tensor)
                model = checkpoint_np.read(self.output)
                exact = llama_np.perplexity(model, tokens)
                self.assertLess(exact, 1.1 * source)
                model.rounds = ROUNDS["bfloat16"]
                self.assertAlmostEqual(llama_np.perplexity(model, tokens), exact,
                                       delta=0.02 * exact)
                model.rounds = ROUNDS["float16"]
                with np.errstate(all="ignore"):
                    self.assertTrue(np.isnan(llama_np.perplexity(model, tokens)))
                found = salient_cli.verify(self.output, self.evaluation, "--rows", ROWS)
                self.assertAlmostEqual(found["result"]["perplexity"], exact, delta=3e-3 * exact)

    def test_every_architecture(self):
        for variant in model_variants.RANDOM:
            with self.subTest(variant):
                self.setUp()
                self.make(variant)
                self.quantize("--group-size", 32)
                # 172 outputs fill no whole words of eight codes; 32 does not divide 172 inputs.
                kept = [f"model.layers.{layer}.mlp.{linear}" for layer in range(2)
                        for linear in ("down_proj", "gate_proj", "up_proj")]
                odd = variant in ("random-172-columns", "random-all-together")
                self.assertEqual(self.kept(), kept if odd else [])
                self.agree()


    def test_output_may_be_named_relative_to_the_working_directory(self):
        self.make("plain")
        done = subprocess.run(
            [os.environ["SALIENT"], "quantize", "source", "output", "--method", "rtn",
             "--calibration", "calibration.safetensors"],
            cwd=os.path.dirname(self.output), capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.agree()


class Formats(Directory):
    """Tests every other format, of the model with salient channels."""

    def check(self, *flags):
        """Returns (what verify says, the schemes that the directory is read with)."""
        self.make("salient")
        said = self.quantize(*flags)
        self.assertEqual(len(said["groups"]), 16)
        self.assertEqual(self.kept(), [])
        found = self.agree()
        schemes = set(checkpoint_np.read(self.output).schemes.values())
        self.assertEqual(len(schemes), 1)
        return found, schemes.pop()

    def test_gptq(self):
        for bits, least in ((4, 0.5), (8, 0.9), (3, 0.5)):
            with self.subTest(bits=bits):
                self.setUp()
                found, scheme = self.check("--format", "gptq", "--symmetric", "--bits", bits)
                self.assertEqual(scheme, Scheme(bits, 128, True))
                self.assertLess(found["kl"], least * found["rtn_kl"])

    def test_gptq_v2(self):
        for bits in (4, 3):
            with self.subTest(bits=bits):
                self.setUp()
                found, scheme = self.check("--format", "gptq-v2", "--bits", bits)
                self.assertEqual(scheme, Scheme(bits, 128, False))
                self.assertLess(found["kl"], 0.5 * found["rtn_kl"])

    def test_compressed_tensors(self):
        for bits, symmetric, size in ((4, True, 128), (4, False, 64), (8, True, -1),
                                      (8, False, 128)):
            with self.subTest(bits=bits, symmetric=symmetric, size=size):
                self.setUp()
                _, scheme = self.check("--format", "compressed-tensors", "--bits", bits,
                                       "--group-size", size, *["--symmetric"] * symmetric)
                self.assertEqual(scheme, Scheme(bits, size, symmetric))

    def test_weights_and_activations(self):
        self.rounds_activations = True
        found, scheme = self.check("--method", "smoothquant", *salient_cli.INT_QUANTIZED)
        self.assertEqual(scheme, Scheme(8, -1, True, "token"))
        self.assertLess(found["kl"], 0.2 * found["rtn_kl"])

    def test_static_activations(self):
        self.rounds_activations = True
        _, scheme = self.check("--method", "smoothquant", *salient_cli.INT_QUANTIZED,
                               *salient_cli.STATIC)
        self.assertEqual(scheme, Scheme(8, -1, True, "tensor"))

    def test_round_to_nearest_is_what_verify_compares_with(self):
        """The directory of a method that is round-to-nearest has just its perplexity."""
        for flags in (["--format", "gptq", "--symmetric"], ["--format", "compressed-tensors"]):
            with self.subTest(flags):
                self.setUp()
                found, _ = self.check("--method", "rtn", *flags)
                self.assertAlmostEqual(found["kl"], found["rtn_kl"], delta=2e-6)

    def test_scaled(self):
        """Is folded and rounded to F16 and nothing else: it is the source to rounding."""
        self.make("salient")
        self.quantize("--format", "scaled-fp16")
        self.assertNotIn("quantization_config", llama_np.read_config(self.output))
        source, scaled = llama_np.Llama.load(self.source), checkpoint_np.read(self.output)
        name = "model.layers.0.mlp.down_proj.weight"
        self.assertGreater(np.abs(scaled.tensors[name] - source.tensors[name]).max(), 1e-3)
        found = self.agree(("bits", 4), ("group-size", 128))
        self.assertLess(found["kl"], 1e-4)

    def test_several_formats_of_one_job(self):
        """Each in a directory of its own, the same as a job for it alone would have made it."""
        self.make("salient")
        formats = ("awq-gemm", "gptq-v2", "compressed-tensors", "dequantized-fp16")
        self.quantize(*(word for name in formats for word in ("--format", name)))
        together = self.output
        self.assertEqual(sorted(os.listdir(together)), sorted(formats))
        plain = checkpoint_np.read(os.path.join(together, "dequantized-fp16"))
        for name in formats:
            with self.subTest(name):
                self.output = os.path.join(together, name)
                model = checkpoint_np.read(self.output)
                for tensor, array in model.tensors.items():
                    np.testing.assert_allclose(plain.tensors[tensor], array, rtol=2**-11,
                                               atol=2**-25, err_msg=tensor)
                self.agree(("bits", 4), ("group-size", 128))
                alone = self.output = f"{together}-{name}-alone"
                self.quantize("--format", name)
                self.assertEqual(contents(alone), contents(os.path.join(together, name)))

    def test_linears_of_other_widths(self):
        """Overrides by module path, in the formats that can mix widths."""
        self.make("salient")
        wide = "model.layers.0.mlp.down_proj"
        for name in ("gptq-v2", "compressed-tensors"):
            with self.subTest(name):
                self.output += "-" + name
                self.quantize("--format", name, "--override", f"{wide}:bits=8")
                self.agree(("bits", 4), ("group-size", 128))
                schemes = checkpoint_np.read(self.output).schemes
                self.assertEqual({m for m, scheme in schemes.items() if scheme.bits == 8}, {wide})


def contents(directory):
    """Returns {file: its bytes}."""
    return {path.name: path.read_bytes() for path in pathlib.Path(directory).iterdir()}


class Dequantized(Directory):
    def test_three_bits(self):
        self.make("salient")
        self.quantize("--bits", 3, "--format", "dequantized-fp16")
        self.assertNotIn("quantization_config", llama_np.read_config(self.output))
        self.agree(("bits", 3), ("group-size", 128))

    def test_four_bits_are_those_of_awq_gemm(self):
        """The same codes, whatever they are stored as; F16 rounds their products once more."""
        self.make("salient")
        self.quantize()
        packed = checkpoint_np.read(self.output)
        self.output += "-plain"
        self.quantize("--format", "dequantized-fp16")
        plain = checkpoint_np.read(self.output)
        for name, array in packed.tensors.items():
            np.testing.assert_allclose(plain.tensors[name], array, rtol=2**-11, atol=2**-25,
                                       err_msg=name)


if __name__ == "__main__":
    run_tests.run()

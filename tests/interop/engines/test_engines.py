"""The real vLLM and the real transformers, on this CPU, load what `salient quantize` writes, and
find the perplexity that `salient verify` and the NumPy reader find; the libraries that define the
formats decode the same weights, bit for bit.

Needs the interpreters that tests/tool_environment.sh makes: $SALIENT_VLLM_PYTHON, $SALIENT_TRANSFORMERS_PYTHON
(`tests/run.sh --interop` makes both). Without them tests say SKIPPED.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import paths  # noqa: E402
import checkpoint_np  # noqa: E402
import evaluate_np  # noqa: E402
import model_variants  # noqa: E402
import processor  # noqa: E402
import run_tests  # noqa: E402
import salient_cli  # noqa: E402
import safetensors_np  # noqa: E402
from shared_models import shared  # noqa: E402

ROWS = 16
TIMEOUT = 900  # An engine takes a minute or two; the first AWQ in transformers compiles a kernel.
# Shares of the perplexity. vLLM reads AWQ in F16 alone; everything else runs in F32. Activations
# of 8 bits fall on other codes where an engine rounds their scale or their sums in another way.
F32, F16, W8A8 = 1e-4, 1e-3, 3e-3

# Directories of one model, by name: flags of `salient quantize`. What an engine cannot load on a
# CPU stands with the engine.
GPTQ = {
    "gptq": ["--format", "gptq", "--symmetric"],
    "gptq 8 bit": ["--format", "gptq", "--symmetric", "--bits", 8],
    "gptq 3 bit": ["--format", "gptq", "--symmetric", "--bits", 3],
    "gptq-v2": ["--format", "gptq-v2"],
    "gptq-v2 3 bit": ["--format", "gptq-v2", "--bits", 3],
    "gptq-v2 8 bit": ["--format", "gptq-v2", "--bits", 8],
}
PACKED = {
    "packed": ["--format", "compressed-tensors", "--symmetric"],
    "packed asymmetric": ["--format", "compressed-tensors"],
    "packed 8 bit": ["--format", "compressed-tensors", "--symmetric", "--bits", 8],
    "packed channel": ["--format", "compressed-tensors", "--symmetric", "--bits", 8,
                       "--group-size", -1],
}
W8A8_FORMAT = ["--method", "smoothquant", *salient_cli.INT_QUANTIZED]
INT = {
    "int": W8A8_FORMAT,
    "int static": [*W8A8_FORMAT, *salient_cli.STATIC],
}


DOWN = "model.layers.1.mlp.down_proj"
GPTQ_SYMMETRIC = GPTQ["gptq"]
# Whether transformers loads them, by name: flags of `salient quantize`, and what is changed in
# quantization_config afterwards, as other tools write it.
VERDICTS = {
    "mixed bits": (False, [*GPTQ_SYMMETRIC, "--override", f"{DOWN}:bits=8"], {}),
    "mixed groups": (False, [*GPTQ_SYMMETRIC, "--override", f"{DOWN}:group_size=32"], {}),
    "one block kept": (False, [*GPTQ_SYMMETRIC, "--override", f"{DOWN}:skip"], {}),
    "mixed v2": (False, ["--format", "gptq-v2", "--override", f"{DOWN}:bits=8"], {}),
    "act order": (True, GPTQ_SYMMETRIC, {"desc_act": True}),
    "mixed packed": (True, [*PACKED["packed"], "--override", f"{DOWN}:bits=8"], {}),
    "unknown argument": (False, PACKED["packed"],
                         {"config_groups.group_0.weights.percdamp": 0.1}),
    "unknown field": (False, PACKED["packed"], {"config_groups.group_0.note": "x"}),
    "dtypes said": (True, PACKED["packed"], {"config_groups.group_0.weights.scale_dtype": None}),
    "packed act order": (False, PACKED["packed"],
                         {"config_groups.group_0.weights.actorder": "group"}),
    "old names": (False, [], {"w_bit": 4, "q_group_size": 64, "bits": ..., "group_size": ...}),
    "zero_point false": (True, ["--symmetric"], {"zero_point": False}),
}


def say(directory, fields):
    """Sets fields of quantization_config by their paths; those that are ... are taken out."""
    for name in ("config.json", "quantize_config.json"):
        path = directory / name
        if not path.exists():
            continue
        config = json.loads(path.read_text())
        for field, value in fields.items():
            *parents, last = field.split(".")
            place = config.get("quantization_config", config)
            for parent in parents:
                place = place[parent]
            if value is ...:
                place.pop(last)
            else:
                place[last] = value
        path.write_text(json.dumps(config))


def as_version_1(directory):
    """Makes a gptq-v2 directory the same weights in gptq: zero points are stored minus one."""
    path = directory / "model.safetensors"
    tensors = safetensors_np.read(path)
    for name in [name for name in tensors if name.endswith(".qzeros")]:
        words = np.ascontiguousarray(tensors[name]).view(np.uint32)
        codes = [words >> np.uint32(shift) & np.uint32(15) for shift in range(0, 32, 4)]
        assert all((code > 0).all() for code in codes), f"{name}: a zero point of 0 has no place"
        tensors[name] = (words - np.uint32(0x11111111)).view(np.int32)
    path.unlink()
    safetensors_np.write(path, tensors)
    say(directory, {"checkpoint_format": "gptq"})


def interpreter(engine):
    """Returns the Python that has an engine; skips the running test when there is none."""
    variable = f"SALIENT_{engine.upper()}_PYTHON"
    python = os.environ.get(variable)
    if not python:
        raise unittest.SkipTest(f"NOT RUN: {variable} is not set (tests/run.sh --interop sets it)")
    return python


def run_engine(engine, *arguments):
    """Returns the JSON object that <engine>_perplexity.py ends with."""
    program = HERE / f"{engine}_perplexity.py"
    done = subprocess.run([interpreter(engine), program, *map(str, arguments)],
                          capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode != 0:
        raise AssertionError(f"{program.name} {arguments}: exit code {done.returncode}\n"
                             f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Results:
    """Directories written once for all tests: {name: (directory, source)}."""

    def __init__(self):
        self._scratch = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self._scratch.name)
        tokens = {kind: safetensors_np.read(paths.POCKET_LLAMA / f"{kind}_open.safetensors")
                  for kind in ("calibration", "evaluation")}
        self.tokens = {kind: salient_cli.write_tokens(self.path / f"{kind}.safetensors",
                                                      tensors["input_ids"])
                       for kind, tensors in tokens.items()}
        self.source = self.path / "source"
        model_variants.write("salient", self.source)
        self.awq = self.quantize("awq", self.source)
        # Several files, and a head of its own.
        model_variants.write("untied", self.path / "untied", shards=3)
        self.cut = self.quantize("cut", self.path / "untied", "--group-size", 64,
                                 "--max-shard-bytes", 1500000)
        # Some Linears stay F16.
        model_variants.write("padded-mlp", self.path / "padded")
        self.kept = self.quantize("kept", self.path / "padded")
        self.plain = self.quantize("plain", self.source, "--bits", 3,
                                   "--format", "dequantized-fp16")
        self._written = {}

    def of(self, formats):
        """Returns the directories of one of the tables above."""
        for name, flags in formats.items():
            if name not in self._written:
                self._written[name] = self.quantize(name.replace(" ", "-"), self.source, *flags)
        return [self._written[name] for name in formats]

    def quantize(self, name, source, *flags):
        salient_cli.quantize(source, self.path / name, self.tokens["calibration"], *flags)
        return self.path / name

    def cleanup(self):
        self._scratch.cleanup()


def setUpModule():
    global results
    if not any(os.environ.get(f"SALIENT_{e}_PYTHON") for e in ("VLLM", "TRANSFORMERS")):
        raise unittest.SkipTest("NOT RUN: no engine is installed (tests/run.sh --interop does it)")
    results = Results()
    unittest.addModuleCleanup(results.cleanup)


class Engines(unittest.TestCase):
    def agrees(self, engine, perplexity, directory, share):
        """An engine's perplexity is verify's and NumPy's."""
        tokens = results.tokens["evaluation"]
        verified = salient_cli.verify(directory, tokens, "--rows", ROWS)["result"]["perplexity"]
        rows = evaluate_np.read_tokens(tokens, ROWS)
        reader = evaluate_np.evaluate(directory, rows)["result"]["perplexity"]
        print(f"\n{pathlib.Path(directory).name}: {engine} {perplexity:.5f}, "
              f"salient verify {verified:.5f}, NumPy {reader:.5f}", flush=True)
        self.assertAlmostEqual(perplexity / reader, 1, delta=share)
        self.assertAlmostEqual(perplexity / verified, 1, delta=share)


class Transformers(Engines):
    def test_directories_load_and_agree(self):
        packed = [results.awq, results.cut, results.kept]
        directories = [results.source, results.plain, *packed]
        found = run_engine("transformers", results.tokens["evaluation"], ROWS, *directories)
        for directory in directories:
            with self.subTest(directory.name):
                score = found[str(directory)]
                self.agrees("transformers", score["perplexity"], directory, F32)
                self.assertEqual("Awq" in score["linear"], directory in packed, score["linear"])

    def check(self, share, directories):
        found = run_engine("transformers", results.tokens["evaluation"], ROWS, *directories)
        for directory in directories:
            with self.subTest(directory.name):
                self.agrees("transformers", found[str(directory)]["perplexity"], directory, share)

    def test_gptq(self):
        self.check(F16, results.of(GPTQ))

    def test_compressed_tensors(self):
        """Asymmetric ones it refuses, those of llm-compressor, too."""
        self.check(F32, results.of({name: flags for name, flags in PACKED.items()
                                    if "--symmetric" in flags}))

    def test_weights_and_activations(self):
        self.check(W8A8, results.of(INT))


# These tensors take a scale; others that are not quantized keep their bytes.
TAKES_A_SCALE = re.compile(
    r"\.layers\.\d+\.(.*\.bias|(input_layernorm|pre_feedforward_layernorm|operator_norm|ffn_norm"
    r"|self_attn_layer_norm|final_layer_norm)\.weight)$")
# In these families this norm gives the input of gate and up.
POST_ATTENTION = re.compile(r"\.layers\.\d+\.post_attention_layernorm\.weight$")
NORM_BEHIND = ("gemma", "olmo")


class Families(unittest.TestCase):
    """Every small model of tests/golden/families, quantized, as transformers' own class of it opens
    and computes it."""

    @classmethod
    def setUpClass(cls):
        interpreter("transformers")
        cls.cases = sorted(p for p in (HERE.parents[1] / "golden" / "families").iterdir()
                           if p.is_dir())
        # A row longer than any window and most original positions, and for models of fewer
        # positions one that fits.
        cls.tokens = {length: salient_cli.random_tokens(
            results.path / f"families-{length}.safetensors", 40, 16, length, 3)
            for length in (24, 60)}

    def test_results_are_worth_what_verify_says_and_keep_what_they_do_not_change(self):
        directories, verified = {24: [], 60: []}, {}
        for source in self.cases:
            length = 24 if source.name.endswith("short") else 60
            directory = results.path / f"family-{source.name}"
            salient_cli.quantize(source, directory, self.tokens[length], "--format",
                                 "compressed-tensors", "--symmetric", "--group-size", 4,
                                 "--allow-long-rows")
            directories[length].append(directory)
            score = salient_cli.verify(directory, self.tokens[length], "--allow-long-rows")
            verified[str(directory)] = score["result"]["perplexity"]
            with self.subTest(source.name, what="bytes"):
                self.keeps(source, directory)
        for length, of_length in directories.items():
            found = run_engine("transformers", self.tokens[length], 16, *of_length)
            for directory, score in found.items():
                with self.subTest(directory, what="perplexity"):
                    ratio = score["perplexity"] / verified[directory]
                    print(f"{pathlib.Path(directory).name}: transformers / verify - 1 = "
                          f"{ratio - 1:.1e}", flush=True)
                    self.assertAlmostEqual(ratio, 1, delta=F16)

    def keeps(self, source, directory):
        before = self.tensors_of(source)
        behind = source.name.startswith(NORM_BEHIND)
        same = 0
        for name, (dtype, data) in self.tensors_of(directory).items():
            scaled = TAKES_A_SCALE.search(name) or (not behind and POST_ATTENTION.search(name))
            if name not in before or before[name][0] == "F32" or scaled:
                continue
            self.assertEqual((dtype, data), before[name], name)
            same += 1
        self.assertGreater(same + ({dtype for dtype, _ in before.values()} == {"F32"}), 0)

    @staticmethod
    def tensors_of(directory):
        """Returns {name: (dtype, bytes)} of a directory of one file."""
        found = {}
        with open(directory / "model.safetensors", "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            start = file.tell()
            for name, entry in header.items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    file.seek(start + begin)
                    found[name] = (entry["dtype"], file.read(end - begin))
        return found


class Verdicts(unittest.TestCase):
    """Tests that what `salient inspect` says of transformers is what the real one does."""

    def verdict(self, directory):
        (found,) = [engine for engine in salient_cli.run("inspect", directory)["engines"]
                    if engine["engine"] == "transformers"]
        return found

    def test_transformers_does_what_inspect_says(self):
        interpreter("transformers")
        wanted = {}
        for name, (loads, flags, fields) in VERDICTS.items():
            directory = results.quantize(f"verdict-{name.replace(' ', '-')}", results.source,
                                         "--method", "rtn", "--group-size", 64, *flags)
            say(directory, fields)
            wanted[directory] = loads
        version_1 = results.quantize("verdict-version-1", results.source, "--method", "rtn",
                                     "--group-size", 64, "--format", "gptq-v2")
        as_version_1(version_1)
        wanted[version_1] = True
        tokens = results.tokens["evaluation"]
        done = subprocess.run(
            [interpreter("transformers"), HERE / "transformers_verdicts.py", tokens, "2",
             *map(str, wanted)], capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr[-6000:])
        found = json.loads(done.stdout.strip().splitlines()[-1])
        for directory, loads in wanted.items():
            with self.subTest(directory.name):
                real = found[str(directory)]
                print(f"\n{directory.name}: {real}", flush=True)
                # Tensors that it does not find it leaves as memory was, so a number may be wrong.
                right = False
                if isinstance(real, float):
                    verified = salient_cli.verify(directory, tokens, "--rows", 2)["result"]
                    right = abs(real / verified["perplexity"] - 1) < F16
                self.assertEqual(right, loads, real)
                verdict = self.verdict(directory)
                self.assertEqual(verdict["loads"], loads, verdict["reasons"])


class Vllm(Engines):
    @classmethod
    def setUpClass(cls):
        interpreter("vllm")

    def skip_without_4_bits(self):
        why = processor.why_no_4_bits_in_vllm(processor.flags())
        if why:
            self.skipTest(f"NOT RUN: {why}")

    def check(self, dtype, share, *directories):
        found = run_engine("vllm", results.tokens["evaluation"], ROWS, dtype, *directories)
        for directory in directories:
            with self.subTest(directory.name):
                self.agrees("vLLM", found[str(directory)], directory, share)

    def test_source_and_dequantized(self):
        self.check("float32", F32, results.source, results.plain)

    def test_which_processors_run_4_bits(self):
        avx2 = {"fma", "avx2", "avx_vnni"}
        self.assertIsNone(processor.why_no_4_bits_in_vllm(avx2 | set(processor.AVX512)))
        self.assertIn("lacks avx512f, avx512vl, avx512bw, avx512dq",
                      processor.why_no_4_bits_in_vllm(avx2))
        # The first processors with AVX-512 had no more of it than this.
        self.assertIn("lacks avx512vl, avx512bw, avx512dq",
                      processor.why_no_4_bits_in_vllm(avx2 | {"avx512f", "avx512cd"}))
        cpuinfo = results.path / "cpuinfo"
        cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2\nvmx flags\t: vnmi\n\n"
                           "processor\t: 1\nflags\t\t: fpu\n")
        self.assertEqual(processor.flags(cpuinfo), {"fpu", "avx2"})
        cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
        self.assertEqual(processor.flags(cpuinfo), frozenset())

    def test_awq(self):
        self.skip_without_4_bits()
        self.check("float16", F16, results.awq, results.cut, results.kept)

    def test_gptq(self):
        """On a CPU it reads 4 bits, symmetric, alone."""
        self.skip_without_4_bits()
        self.check("float16", F16, *results.of({"gptq": GPTQ["gptq"]}))

    def test_compressed_tensors(self):
        self.skip_without_4_bits()
        self.check("float16", F16, *results.of(
            {name: PACKED[name] for name in ("packed", "packed asymmetric")}))

    def test_weights_and_activations(self):
        self.check("float16", W8A8, *results.of(INT))


class Libraries(unittest.TestCase):
    """Needs no engine, but their interpreter."""

    def check_weights(self, program, directories, foreign=False):
        """A library's weights are the NumPy reader's, rounded once to the library's dtype."""
        out = {directory: results.path / f"{directory.name}.weights" for directory in directories}
        arguments = [str(path) for pair in out.items() for path in pair]
        done = subprocess.run([interpreter("transformers"), HERE / program, *arguments],
                              capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr[-6000:])
        for directory, path in out.items():
            with self.subTest(directory.name):
                found, model = safetensors_np.read(path), checkpoint_np.read(directory, foreign)
                self.assertEqual(set(found), {f"{m}.weight" for m in model.schemes})
                for name, weight in found.items():
                    expected = model.tensors[name].astype(weight.dtype)
                    # Of +0 and -0 a library may choose either.
                    np.testing.assert_array_equal(weight, expected, name)

    def test_compressed_tensors_decompresses_the_same_weights(self):
        self.check_weights("compressed_tensors_weights.py", results.of({**PACKED, **INT}))

    def test_gptqmodel_unpacks_the_same_weights(self):
        self.check_weights("gptqmodel_weights.py", results.of(GPTQ))

    def test_numpy_reads_what_they_read_in_checkpoints_of_other_tools(self):
        peers = pathlib.Path(shared("peers"))
        self.check_weights("compressed_tensors_weights.py",
                           [peers / f"llmcompressor-{kind}" for kind in ("awq", "gptq", "w8a8")],
                           foreign=True)
        self.check_weights("gptqmodel_weights.py", [peers / "gptqmodel-gptq"], foreign=True)

    def test_safetensors_opens_every_file(self):
        directories = [results.awq, results.cut, results.kept, results.plain,
                       *results.of({**GPTQ, **PACKED, **INT})]
        done = subprocess.run(
            [interpreter("transformers"), HERE / "safetensors_digests.py", *directories],
            capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr[-6000:])
        found = json.loads(done.stdout.strip().splitlines()[-1])
        for directory in directories:
            files = sorted(directory.glob("*.safetensors"))
            self.assertEqual(sorted(found[str(directory)]), [path.name for path in files])
            for path in files:
                expected = {name: [str(array.dtype), list(array.shape),
                                   hashlib.sha256(array.tobytes()).hexdigest()]
                            for name, array in safetensors_np.read(path).items()}
                self.assertEqual(found[str(directory)][path.name], expected, path)


class Goldens(unittest.TestCase):
    def test_committed_logits_are_those_of_transformers(self):
        self.check("make_transformers_goldens.py")

    def test_committed_families_are_those_of_transformers(self):
        self.check("make_family_goldens.py")

    def test_committed_configs_are_read_as_transformers_reads_them(self):
        self.check("make_config_goldens.py")

    def check(self, maker):
        program = paths.TESTS / "golden" / maker
        done = subprocess.run([interpreter("transformers"), program, "--check"],
                              capture_output=True, text=True, timeout=TIMEOUT)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])


if __name__ == "__main__":
    run_tests.run()

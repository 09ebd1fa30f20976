"""Each format, written once more by a few lines of NumPy, is read as what was written; what engines
trip over in it is refused."""

import json
import os

import numpy as np

import paths  # noqa: F401
import checkpoint_np
import model_variants
import run_tests
import safetensors_np
from test_checkpoint_reader import Directory

CONFIG = {**model_variants.RANDOM_BASE, "hidden_size": 32, "intermediate_size": 64,
          "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1,
          "vocab_size": 16, "torch_dtype": "float16"}
GROUP = 16
DOWN, GATE, Q = (f"model.layers.0.{linear}"
                 for linear in ("mlp.down_proj", "mlp.gate_proj", "self_attn.q_proj"))
ARGUMENTS = {"type": "int", "dynamic": False, "actorder": None, "block_structure": None,
             "observer": "minmax", "observer_kwargs": {}}
TOKEN = {**ARGUMENTS, "num_bits": 8, "symmetric": True, "strategy": "token", "group_size": None,
         "dynamic": True}
QUANTIZATION = {
    "awq": {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True,
            "version": "gemm"},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False,
             "sym": False, "checkpoint_format": "gptq_v2"},
}


def compressed(layout, weights, inputs):
    group = {"targets": ["Linear"], "format": layout, "weights": {**ARGUMENTS, **weights},
             "input_activations": inputs, "output_activations": None}
    return {"quant_method": "compressed-tensors", "format": layout,
            "quantization_status": "compressed", "ignore": ["lm_head"], "kv_cache_scheme": None,
            "config_groups": {"group_0": group}}


QUANTIZATION["pack-quantized"] = compressed(
    "pack-quantized",
    {"num_bits": 4, "symmetric": False, "strategy": "group", "group_size": GROUP}, None)
QUANTIZATION["int-quantized"] = compressed(
    "int-quantized",
    {"num_bits": 8, "symmetric": True, "strategy": "channel", "group_size": None}, TOKEN)


def words_of(codes, bits=4):
    """Returns the int32 words of rows of codes that fill them, the first code in the lowest bits."""
    codes = codes.reshape(len(codes), -1, 32 // bits).astype(np.uint32)
    return np.ascontiguousarray(
        np.bitwise_or.reduce(codes << (bits * np.arange(32 // bits, dtype=np.uint32)), -1)
    ).view(np.int32)


def awq_words(codes):
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
    return words_of(codes.reshape(len(codes), -1, 8)[:, :, order].reshape(codes.shape))


def stored(kind, module, codes, zeros, scales):
    """Returns the tensors of codes [out, in], zero points and scales [out, groups]."""
    parts = {
        "awq": lambda: {"qweight": awq_words(codes.T), "qzeros": awq_words(zeros.T),
                        "scales": scales.T},
        "gptq": lambda: {"qweight": words_of(codes).T, "qzeros": words_of(zeros.T),
                         "scales": scales.T,
                         "g_idx": (np.arange(codes.shape[1]) // GROUP).astype(np.int32)},
        "pack-quantized": lambda: {"weight_packed": words_of(codes), "weight_scale": scales,
                                   "weight_shape": np.array(codes.shape),
                                   "weight_zero_point": words_of(zeros.T).T},
        "int-quantized": lambda: {"weight": (codes - 8).astype(np.int8),
                                  "weight_scale": scales[:, :1].astype(np.float32)},
    }[kind]()
    return {f"{module}.{part}": np.ascontiguousarray(array) for part, array in parts.items()}


class QuantizedDirectory(Directory):
    """Tests what engines trip over in quantized directories; the same model in every format."""

    def make(self, kind):
        """Writes a directory; {module: weight} of what it holds."""
        random = np.random.default_rng(5)
        self.kind = kind
        self.config = json.loads(json.dumps(
            {**CONFIG, "quantization_config": QUANTIZATION[kind]}))
        self.tensors, self.weights = {}, {}
        for name, array in model_variants.random_model(CONFIG, 1).items():
            if not name.endswith("_proj.weight"):
                self.tensors[name] = array.astype(np.float16)
                continue
            module = name.removesuffix(".weight")
            codes = random.integers(0, 16, array.shape)
            groups = (len(array), array.shape[1] // GROUP)
            zeros = random.integers(1, 16, groups)
            scales = random.random(groups).astype(np.float16)
            self.tensors.update(stored(kind, module, codes, zeros, scales))
            if kind == "int-quantized":
                zeros, scales = np.full(groups, 8), np.repeat(scales[:, :1], groups[1], 1)
            wide = (np.repeat(part, GROUP, 1) for part in (zeros, scales))
            zeros, scales = wide
            self.weights[module] = (codes - zeros) * scales.astype(np.float32)
        self.write()
        return self.weights

    @property
    def quantization(self):
        return self.config["quantization_config"]

    @property
    def group(self):
        return self.quantization["config_groups"]["group_0"]

    def write(self):
        safetensors_np.write(self.path("model.safetensors"), self.tensors)
        with open(self.path("config.json"), "w", encoding="utf-8") as file:
            json.dump(self.config, file)
        if self.kind == "gptq":
            with open(self.path("quantize_config.json"), "w", encoding="utf-8") as file:
                json.dump(self.quantization, file)

    def keep(self, *modules):
        """Stores modules plain, in place of what they were."""
        for module in modules:
            for name in [n for n in self.tensors if n.startswith(module + ".")]:
                del self.tensors[name]
            self.tensors[f"{module}.weight"] = self.weights[module].astype(np.float16)

    def changed(self, change, words, kinds=QUANTIZATION):
        """Every format is refused once `change` has changed it."""
        for kind in kinds:
            with self.subTest(kind):
                self.make(kind)
                change()
                self.write()
                self.refused(words)

    def test_formats_decode(self):
        for kind in QUANTIZATION:
            with self.subTest(kind):
                weights = self.make(kind)
                model = checkpoint_np.read(self.directory)
                self.assertEqual(set(model.schemes), set(weights))
                for module, weight in weights.items():
                    read = model.tensors[f"{module}.weight"]
                    np.testing.assert_allclose(read, weight, rtol=1e-6, atol=1e-7)
                self.assertEqual(set(model.inputs),
                                 set(weights) if kind == "int-quantized" else set())

    def test_kept_linears_are_listed_in_each_formats_way(self):
        pattern = "-:^" + DOWN.replace(".", "\\.") + "$"
        for kind, listed in (("awq", {"modules_to_not_convert": [DOWN]}),
                             ("gptq", {"dynamic": {pattern: {}}}),
                             ("pack-quantized", {"ignore": ["lm_head", DOWN]}),
                             ("int-quantized", {"ignore": ["lm_head", "re:.*down_proj$"]})):
            with self.subTest(kind):
                self.make(kind)
                self.quantization.update(listed)
                self.write()
                self.refused("down_proj: has")
                self.keep(DOWN)
                self.write()
                self.assertNotIn(DOWN, checkpoint_np.read(self.directory).schemes)

    def test_linear_that_is_kept_and_not_listed(self):
        self.changed(lambda: self.keep(DOWN), "down_proj")

    def test_fused_linears_are_kept_together(self):
        def keep_gate():
            self.keep(GATE)
            for key in ("modules_to_not_convert", "ignore"):
                self.quantization[key] = ["lm_head", GATE]
            self.quantization["dynamic"] = {"-:^" + GATE + "$": {}}

        self.changed(keep_gate, "fused")

    def test_other_widths_of_single_linears(self):
        codes = np.random.default_rng(6).integers(0, 256, (32, 64))
        scales = np.full((32, 4), 0.5, np.float16)
        self.make("gptq")
        self.quantization["dynamic"] = {"+:^" + DOWN + "$": {"bits": 8}}
        self.tensors.update({f"{DOWN}.qweight": words_of(codes, 8).T,
                             f"{DOWN}.qzeros": words_of(np.full((4, 32), 128), 8)})
        self.tensors[f"{DOWN}.scales"] = scales.T
        self.write()
        read = checkpoint_np.read(self.directory).tensors[f"{DOWN}.weight"]
        np.testing.assert_array_equal(read, 0.5 * (codes - 128))
        self.make("pack-quantized")
        eight = json.loads(json.dumps({**self.group, "targets": [DOWN]}))
        eight["weights"].update(num_bits=8, symmetric=True)
        self.quantization["config_groups"]["group_1"] = eight
        self.tensors.update({f"{DOWN}.weight_packed": words_of(codes, 8),
                             f"{DOWN}.weight_scale": scales})
        del self.tensors[f"{DOWN}.weight_zero_point"]
        self.write()
        read = checkpoint_np.read(self.directory).tensors[f"{DOWN}.weight"]
        np.testing.assert_array_equal(read, 0.5 * (codes - 128))

    def test_groups_of_another_size(self):
        def change():
            if "config_groups" in self.quantization:
                self.group["weights"]["group_size"] = 8
            else:
                self.quantization["group_size"] = 8

        self.changed(change, "groups? of 8", ("awq", "gptq", "pack-quantized"))

    def test_scales_of_another_dtype(self):
        def widen():
            for name in self.tensors:
                if name.endswith(("scales", "weight_scale")):
                    self.tensors[name] = self.tensors[name].astype(np.float32)

        for kind in ("awq", "gptq", "pack-quantized"):
            with self.subTest(kind):
                self.make(kind)
                widen()
                self.write()
                self.refused("float32")
                checkpoint_np.read(self.directory, foreign=True)

    def test_stray_tensors(self):
        def add():
            self.tensors[f"{DOWN}.g_idx2"] = np.zeros(4, np.int32)

        self.changed(add, "g_idx2")
        self.make("awq")
        self.tensors["model.rotary.inv_freq"] = np.ones(4, np.float32)
        self.write()
        self.refused("inv_freq")

    def test_head_of_a_tied_model(self):
        def add():
            self.tensors["lm_head.weight"] = self.tensors["model.embed_tokens.weight"]

        self.changed(add, "tied")

    def test_dtype_that_kernels_do_not_compute_in(self):
        self.changed(lambda: self.config.update(torch_dtype="float32"), "torch_dtype float32")
        self.changed(lambda: self.config.update(dtype="bfloat16"), "dtype bfloat16")

    def test_awq(self):
        self.changed(lambda: self.quantization.update(version="GEMM"), "GEMM", ["awq"])
        self.changed(lambda: self.quantization.update(zero_point=False), "False", ["awq"])
        # Engines look for the entry in every path.
        self.changed(lambda: self.quantization.update(modules_to_not_convert=["mlp.gate"]),
                     "is part of", ["awq"])

    def test_gptq(self):
        def only(**change):
            return lambda: self.quantization.update(change)

        self.changed(only(checkpoint_format="gptq"), "asymmetric", ["gptq"])
        self.changed(only(checkpoint_format="marlin"), "marlin", ["gptq"])
        self.changed(only(modules_to_not_convert=None, modules_in_block_to_quantize=["mlp"]),
                     "blocks", ["gptq"])
        self.changed(lambda: self.quantization.pop("desc_act"), "desc_act", ["gptq"])

        def turn():
            self.tensors[f"{DOWN}.g_idx"] = self.tensors[f"{DOWN}.g_idx"][::-1]

        self.changed(turn, "desc_act false", ["gptq"])
        self.quantization["desc_act"] = True
        self.write()
        checkpoint_np.read(self.directory)
        self.make("gptq")
        os.remove(self.path("quantize_config.json"))
        self.refused("quantize_config.json is absent")
        checkpoint_np.read(self.directory, foreign=True)
        with open(self.path("quantize_config.json"), "w", encoding="utf-8") as file:
            json.dump({**self.quantization, "bits": 8}, file)
        self.refused("bits is 8", foreign=True)

    def test_compressed_tensors(self):
        def rename():
            groups = self.quantization["config_groups"]
            groups["group_a"] = groups.pop("group_0")

        packed = ["pack-quantized"]
        both = packed + ["int-quantized"]
        self.changed(rename, "group_a", both)
        self.changed(lambda: self.group.pop("format"), "format", both)
        self.changed(lambda: self.group["weights"].update(zp_dtype=None), "unknown.*zp_dtype", both)
        self.changed(lambda: self.quantization.update(ignore=[]), "lm_head", both)
        self.changed(lambda: self.quantization.update(quantization_status="frozen"), "frozen", both)
        self.changed(lambda: self.group.update(targets=["LinearX"]), "neither a target", both)
        # A symmetric checkpoint has no zero points, an asymmetric one has.
        self.changed(lambda: self.group["weights"].update(symmetric=True), "weight_zero_point",
                     packed)
        self.changed(lambda: self.group["weights"].update(strategy="channel"), "channel", packed)

    def test_static_activations(self):
        def static(scale_of):
            self.group["input_activations"].update(strategy="tensor", dynamic=False)
            for module in self.weights:
                self.tensors[f"{module}.input_scale"] = np.array([scale_of(module)], np.float32)
            self.write()

        self.make("int-quantized")
        static(lambda module: 0.25)
        model = checkpoint_np.read(self.directory)
        np.testing.assert_array_equal(model.inputs[Q](np.array([[0.3, 40]], np.float32)),
                                      [[0.25, 31.75]])
        self.make("int-quantized")
        static(lambda module: 0.5 if module == Q else 0.25)
        self.refused("different input_scale")
        self.make("int-quantized")
        self.group["input_activations"].update(dynamic=False)
        self.write()
        self.refused("token")


if __name__ == "__main__":
    run_tests.run()

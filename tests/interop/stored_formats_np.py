"""Reads what a quantization_config says of every Linear, and its decoding: AWQ gemm, GPTQ, and both
layouts of compressed-tensors. What engines trip over is a ValueError.

A format has, of a module path: `scheme(module)`, None for one that stays plain; `parts(scheme)`,
the names of its tensors; `weight(tensors, module, scheme)`, [out, in] in float32; `change(tensors,
module, scheme)`, what becomes of its input, or None. A `foreign` checkpoint, one that another tool
wrote, may have scales of any dtype and keys that only newer readers know.
"""

import dataclasses
import json
import os
import re

import numpy as np

import awq_reader_np
import compressed_tensors_reader_np as ct_reader
import gptq_reader_np

WHOLE_ROW, WHOLE_TENSOR = -1, -2


@dataclasses.dataclass(frozen=True)
class Scheme:
    """Says how one Linear is stored."""

    bits: int
    group_size: int  # It may be WHOLE_ROW or WHOLE_TENSOR.
    symmetric: bool
    activations: str = ""  # It is "", "token" or "tensor".
    by_index: bool = False  # Groups are where g_idx says.


def check(holds, said):
    if not holds:
        raise ValueError(f"quantization_config: {said}")


def group_columns(scheme, columns):
    return columns if scheme.group_size == WHOLE_ROW else scheme.group_size


class Awq:
    def __init__(self, config, scale_dtypes):
        said = tuple(config.get(key) for key in ("quant_method", "version", "bits", "zero_point"))
        check(said == ("awq", "gemm", 4, True), said)
        self.listed = set(config.get("modules_to_not_convert") or [])
        self.uniform = Scheme(4, config["group_size"], False)
        self.scale_dtypes = scale_dtypes

    def scheme(self, module):
        return None if module in self.listed else self.uniform

    def check_modules(self, quantized):
        """Engines take an entry for a part of a path: none may be a part of another's."""
        for module in quantized:
            hit = [entry for entry in self.listed if entry in module]
            check(not hit, f"{hit} in modules_to_not_convert is part of {module}")

    def parts(self, scheme):
        return {"qweight", "qzeros", "scales"}

    def weight(self, tensors, module, scheme):
        rows, groups = (len(tensors[f"{module}.{part}"]) for part in ("qweight", "scales"))
        size = group_columns(scheme, rows)
        check(groups * size == rows, f"{module}: {groups} groups of {size} for {rows} inputs")
        return awq_reader_np.linear(tensors, module, self.scale_dtypes)

    def change(self, tensors, module, scheme):
        return None


class Gptq:
    def __init__(self, config, scale_dtypes):
        # Engines ask for these four, and take what they do not find for something else.
        bits, group_size, by_index, symmetric = (
            config[key] for key in ("bits", "group_size", "desc_act", "sym"))
        version = config.get("checkpoint_format", "gptq")
        check(bits in gptq_reader_np.BITS and version in ("gptq", "gptq_v2"), config)
        check(group_size == WHOLE_ROW or group_size > 0, config)
        check(symmetric or version == "gptq_v2", "asymmetric v1, of which readers disagree")
        blocks = config.get("modules_in_block_to_quantize")
        check(blocks is None or all(isinstance(b, list) for b in blocks), f"blocks {blocks}")
        self.v2 = version == "gptq_v2"
        self.uniform = Scheme(bits, group_size, symmetric, by_index=by_index)
        self.dynamic = config.get("dynamic") or {}
        self.scale_dtypes = scale_dtypes

    def scheme(self, module):
        """Returns the scheme that the first pattern of `dynamic` says that matches from the start of the path."""
        for pattern, change in self.dynamic.items():
            if re.match(pattern.removeprefix("-:").removeprefix("+:"), module):
                if pattern.startswith("-:"):
                    return None
                names = {"bits": "bits", "group_size": "group_size", "sym": "symmetric",
                         "desc_act": "by_index"}
                return dataclasses.replace(
                    self.uniform, **{names[key]: value for key, value in change.items()})
        return self.uniform

    def check_modules(self, quantized):
        for pattern in self.dynamic:
            check(pattern[:2] in ("-:", "+:"), f"dynamic {pattern}")

    def parts(self, scheme):
        return {"qweight", "qzeros", "scales", "g_idx"}

    def weight(self, tensors, module, scheme):
        g_idx, scales = tensors[f"{module}.g_idx"], tensors[f"{module}.scales"]
        size = group_columns(scheme, len(g_idx))
        check(len(scales) == -(-len(g_idx) // size), f"{module}: {len(scales)} groups of {size}")
        if not scheme.by_index:
            plain = np.arange(len(g_idx)) // size
            check((g_idx == plain).all(), f"{module}: desc_act false, and g_idx is not k / {size}")
        return gptq_reader_np.linear(tensors, module, scheme.bits, self.v2, self.scale_dtypes)

    def change(self, tensors, module, scheme):
        return None


# An unknown key inside a group is a load failure; the last two only newer readers know.
_ARGUMENTS = {"num_bits", "type", "symmetric", "strategy", "group_size", "dynamic", "actorder",
              "block_structure", "observer", "observer_kwargs"}
_NEWER = {"scale_dtype", "zp_dtype"}
_GROUP = {"targets", "format", "weights", "input_activations", "output_activations"}
_SIZES = {"channel": WHOLE_ROW, "tensor": WHOLE_TENSOR}


class CompressedTensors:
    def __init__(self, config, scale_dtypes, foreign):
        self.layout = config["format"]
        check(self.layout in ("pack-quantized", "int-quantized"), f"format {self.layout}")
        check(config["quantization_status"] == "compressed", config["quantization_status"])
        check(config.get("kv_cache_scheme") is None, "kv_cache_scheme")
        check("group_0" in config["config_groups"], f"groups {list(config['config_groups'])}")
        self.ignore = config["ignore"]
        # The head is a Linear, too, which no target may reach.
        check("lm_head" in self.ignore, "lm_head is not ignored")
        self.scale_dtypes = scale_dtypes
        self.targets = [(target, self._read(group, foreign))
                        for group in config["config_groups"].values()
                        for target in group["targets"]]

    def _read(self, group, foreign):
        weights, inputs = group["weights"], group.get("input_activations")
        allowed = _ARGUMENTS | (_NEWER if foreign else set())
        for said, known in ((group, _GROUP), (weights, allowed), (inputs or {}, allowed)):
            check(set(said) <= known, f"unknown {sorted(set(said) - known)}")
        check(group["format"] == self.layout, f"formats {group['format']}, {self.layout}")
        check(weights["type"] == "int" and not weights["dynamic"], weights)
        check(group.get("output_activations") is None, "output_activations")
        strategy, size = weights["strategy"], weights["group_size"]
        check((strategy == "group") == (size is not None), f"{strategy}, group_size {size}")
        bits, symmetric = weights["num_bits"], weights["symmetric"]
        activations = ""
        if self.layout == "int-quantized":
            check(bits == 8 and symmetric and strategy in _SIZES, weights)
            said = tuple(inputs[key] for key in ("num_bits", "type", "symmetric", "dynamic"))
            activations = inputs["strategy"]
            check(said == (8, "int", True, activations == "token"), inputs)
            check(activations in ("token", "tensor"), inputs)
        else:
            check(bits in (4, 8) and inputs is None, group)
        by_index = weights.get("actorder") == "group"
        return Scheme(bits, size or _SIZES[strategy], symmetric, activations, by_index)

    @staticmethod
    def _matches(entry, module):
        return re.match(entry[3:], module) if entry.startswith("re:") else entry == module

    def scheme(self, module):
        """A target that names the module wins over one that names its class."""
        if any(self._matches(entry, module) for entry in self.ignore):
            return None
        named = [scheme for target, scheme in self.targets if self._matches(target, module)]
        named += [scheme for target, scheme in self.targets if target == "Linear"]
        check(named, f"{module}: neither a target nor ignored")
        return named[0]

    def check_modules(self, quantized):
        pass

    def parts(self, scheme):
        if self.layout == "int-quantized":
            return {"weight", "weight_scale"} | (
                {"input_scale"} if scheme.activations == "tensor" else set())
        return {"weight_packed", "weight_scale", "weight_shape"} | (
            set() if scheme.symmetric else {"weight_zero_point"}) | (
            {"weight_g_idx"} if scheme.by_index else set())

    def weight(self, tensors, module, scheme):
        if self.layout == "int-quantized":
            one = tensors[f"{module}.weight_scale"].shape == (1,)
            check(one == (scheme.group_size == WHOLE_TENSOR), f"{module}: {scheme}, {one}")
            return ct_reader.int_quantized(tensors, module)
        return ct_reader.pack_quantized(tensors, module, scheme.bits, max(0, scheme.group_size),
                                        scheme.symmetric, self.scale_dtypes)

    def change(self, tensors, module, scheme):
        if scheme.activations == "tensor":
            return ct_reader.round_static(tensors[f"{module}.input_scale"])
        return ct_reader.round_tokens if scheme.activations else None


def check_gptq_file(directory, config, foreign):
    """Some engines read quantize_config.json, not config.json: both say the same."""
    path = os.path.join(directory, "quantize_config.json")
    check(foreign or os.path.exists(path), f"{path} is absent")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            other = json.load(file)
        needed = ("bits", "group_size", "desc_act", "sym")
        for key in needed if foreign else config.keys() | other.keys():
            check(config.get(key) == other.get(key), f"{path}: {key} is {other.get(key)}")


def read(directory, config, foreign):
    """Returns the format of a directory with this config.json, or None for a plain one."""
    quantization = config.get("quantization_config")
    if quantization is None:
        return None
    method = quantization["quant_method"]
    if not foreign:
        # Kernels of packed weights compute in no other; engines look at either key.
        dtype = config["torch_dtype"]
        check(dtype in ("float16", "bfloat16"), f"torch_dtype {dtype}")
        check(config.get("dtype", dtype) == dtype, f"dtype {config.get('dtype')}")
    scale_dtypes = (np.float16, np.float32) if foreign else (np.float16,)
    if method == "awq":
        return Awq(quantization, scale_dtypes)
    if method == "gptq":
        check_gptq_file(directory, quantization, foreign)
        return Gptq(quantization, scale_dtypes)
    check(method == "compressed-tensors", f"quant_method {method}")
    return CompressedTensors(quantization, scale_dtypes, foreign)

"""Tells the weights that compressed-tensors' own decompressor makes of checkpoint directories. Run by the
interpreter that tests/tool_environment.sh makes for transformers.

    compressed_tensors_weights.py DIR OUT.safetensors [DIR OUT.safetensors ...]

OUT gets MODULE.weight of every quantized Linear, in the dtype that the library gives.
"""

import json
import pathlib
import sys

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.utils import is_match
from safetensors import safe_open
from safetensors.torch import save_file

LINEAR = torch.nn.Linear(1, 1)  # Every module here is one; targets may name the class.


def modules_of(directory):
    """Returns {module path: {name: tensor}}."""
    modules = {}
    for path in pathlib.Path(directory).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                module, _, part = name.rpartition(".")
                modules.setdefault(module, {})[part] = file.get_tensor(name)
    return modules


def decompressed(directory):
    config = json.loads((pathlib.Path(directory) / "config.json").read_text())
    said = config["quantization_config"]
    # The library's own schema, which forbids what it does not know.
    parsed = QuantizationConfig.model_validate(said)
    weights = {}
    for module, state in modules_of(directory).items():
        if "weight_scale" not in state:
            continue
        schemes = [scheme for scheme in parsed.config_groups.values()
                   if is_match(module, LINEAR, [t for t in scheme.targets if t != "Linear"])]
        schemes += [scheme for scheme in parsed.config_groups.values()
                    if is_match(module, LINEAR, scheme.targets, parsed.ignore)]
        compressor = BaseCompressor.get_value_from_registry(schemes[0].format or parsed.format)
        weight = compressor.decompress(state, schemes[0])["weight"]
        weights[f"{module}.weight"] = weight.contiguous()
    return weights


def main():
    for directory, out in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        save_file(decompressed(directory), out)


if __name__ == "__main__":
    main()

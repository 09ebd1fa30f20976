"""Tells the weights that GPTQModel's own linear module unpacks from GPTQ directories, v1 and v2. Run by
the interpreter that tests/tool_environment.sh makes for transformers.

    gptqmodel_weights.py DIR OUT.safetensors [DIR OUT.safetensors ...]

OUT gets MODULE.weight [out, in] of every quantized Linear, in F16. No model is loaded.
"""

import json
import os
import pathlib
import re
import sys

# gptqmodel refuses machines with fewer than four processors, where it is slow, not wrong.
processors = os.cpu_count() or 1
os.cpu_count = lambda: max(4, processors)
os.environ["GPTQ_TORCH_TRITON_DEQUANT"] = "0"

import torch  # noqa: E402
from gptqmodel.nn_modules.qlinear.torch import TorchLinear  # noqa: E402
from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

PARTS = ("qweight", "qzeros", "scales", "g_idx")


def tensors_of(directory):
    tensors = {}
    for path in pathlib.Path(directory).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    return tensors


def unpacked(directory):
    said = json.loads((pathlib.Path(directory) / "quantize_config.json").read_text())
    tensors, weights = tensors_of(directory), {}
    for module in (n.removesuffix(".qweight") for n in tensors if n.endswith(".qweight")):
        own = dict(said)
        for pattern, change in (said.get("dynamic") or {}).items():
            if pattern.startswith("+:") and re.match(pattern[2:], module):
                own.update(change)
        parts = {part: tensors[f"{module}.{part}"] for part in PARTS}
        linear = TorchLinear(
            bits=own["bits"], group_size=own["group_size"], sym=own["sym"],
            desc_act=own["desc_act"], in_features=len(parts["g_idx"]),
            out_features=parts["scales"].shape[1], bias=False, register_buffers=True)
        for part, tensor in parts.items():
            buffer = getattr(linear, part)
            if buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                raise ValueError(f"{module}.{part}: {tensor.dtype} {tuple(tensor.shape)}, expected"
                                 f" {buffer.dtype} {tuple(buffer.shape)}")
            buffer.copy_(tensor)
        if said.get("checkpoint_format", "gptq") == "gptq":
            convert_gptq_v1_to_v2_format_module(linear, own["bits"], torch.int32)
        weights[f"{module}.weight"] = linear.dequantize_weight().T.contiguous()
    return weights


def main():
    with torch.no_grad():
        for directory, out in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
            save_file(unpacked(directory), out)


if __name__ == "__main__":
    main()

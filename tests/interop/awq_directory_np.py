"""Writes an AWQ gemm directory of what a server packed."""

import json
import os
import shutil

import numpy as np

import llama_np
import safetensors_np
from llama_groups import FOLDED_INTO, NORMS, group_name, module, v_proj_rows


def write_awq(directory, model_dir, model, source, results, group_size):
    """Returns the AWQ gemm directory: packed Linears, folded norms, everything else as it was."""
    tensors = {}
    skipped = []
    packed = {}
    for result in results.values():
        packed.update(result.tensors)
    for name, array in source.items():
        linear = name.removesuffix(".weight")
        if linear + ".qweight" in packed:
            continue
        if ".layers." in name and linear.endswith("_proj"):
            skipped.append(linear)
        tensors[name] = array
    for layer in range(model.layers):
        folds = {}
        for group, (reader, linear) in FOLDED_INTO.items():
            result = results.get(group_name(layer, group))
            # A folded Linear that is quantized was folded before it was sent.
            if result and group_name(layer, reader) not in results:
                s = result.scales
                folds[module(layer, linear)] = v_proj_rows(model, s) if group == "o" else s
        for linear, factor in folds.items():
            weight = source[linear + ".weight"].astype(np.float32)
            tensors[linear + ".weight"] = weight / factor[:, None]
        for group, norm in NORMS.items():
            result = results.get(group_name(layer, group))
            if result:
                name = f"{module(layer, norm)}.weight"
                tensors[name] = source[name].astype(np.float32) / result.scales
    tensors = {name: array.astype(np.float16) for name, array in tensors.items()}

    os.makedirs(directory)
    for file in os.listdir(model_dir):
        replaced = file.endswith((".safetensors", ".safetensors.index.json"))
        if not replaced and file not in ("config.json", "README.md"):
            shutil.copyfile(os.path.join(model_dir, file), os.path.join(directory, file))
    safetensors_np.write(os.path.join(directory, "model.safetensors"), {**tensors, **packed})
    config = llama_np.read_config(model_dir)
    config["torch_dtype"] = "float16"
    config["quantization_config"] = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": group_size,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": sorted(skipped) or None,
    }
    with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
        file.write("\n")

"""Reads a whole checkpoint directory, as strictly as the strictest engine: a Llama with plain
float32 weights, whether they were stored plain or as AWQ gemm.

What engines trip over is a ValueError here: a tensor in two files, one that the index does not
name or names elsewhere, a Linear neither quantized nor listed as kept, a list of one that is
quantized, groups of another size than config.json says.
"""

import json
import os

import numpy as np

import awq_reader_np
import llama_np
import safetensors_np

INDEX = "model.safetensors.index.json"
LINEARS = [linear for group in llama_np.GROUPS.values() for linear in group]


def read_tensors(directory):
    """{name: array} of every safetensors file, which the index must describe if there is one."""
    found, tensors = {}, {}
    for file in sorted(os.listdir(directory)):
        if not file.endswith(".safetensors"):
            continue
        for name, array in safetensors_np.read(os.path.join(directory, file)).items():
            if name in found:
                raise ValueError(f"{directory}: {name} in {found[name]} and in {file}")
            found[name], tensors[name] = file, array
    if not found:
        raise ValueError(f"{directory}: no safetensors file")
    path = os.path.join(directory, INDEX)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            index = json.load(file)
        if index["weight_map"] != found:
            different = set(index["weight_map"].items()) ^ set(found.items())
            raise ValueError(f"{path}: not what the files hold: {sorted(different)[:4]}")
        if index["metadata"]["total_size"] != tensor_bytes(directory):
            raise ValueError(f"{path}: total_size {index['metadata']['total_size']}, the tensors"
                             f" have {tensor_bytes(directory)} bytes")
    elif set(found.values()) != {"model.safetensors"}:
        raise ValueError(f"{directory}: {sorted(set(found.values()))} without an index")
    return tensors


def tensor_bytes(directory):
    """Size of all tensors as they are stored."""
    total = 0
    for file in os.listdir(directory):
        if file.endswith(".safetensors"):
            header, _ = safetensors_np.read_header(os.path.join(directory, file))
            for name, entry in header.items():
                if name != "__metadata__":
                    total += entry["data_offsets"][1] - entry["data_offsets"][0]
    return total


def check_kept(directory, quantization, tensors, layers):
    """Each Linear of a block is quantized or listed by its full path, and not both."""
    listed = set(quantization.get("modules_to_not_convert") or [])
    for module in (f"model.layers.{i}.{linear}" for i in range(layers) for linear in LINEARS):
        packed, plain = f"{module}.qweight" in tensors, f"{module}.weight" in tensors
        if packed == plain:
            raise ValueError(f"{directory}: {module}: packed {packed}, plain {plain}")
        if plain != (module in listed):
            raise ValueError(f"{directory}: {module}: plain {plain}, modules_to_not_convert"
                             f" {sorted(listed)}")


def decode_awq(directory, config, stored, scale_dtypes):
    quantization = config["quantization_config"]
    method = tuple(quantization.get(key) for key in ("quant_method", "version", "bits"))
    if method != ("awq", "gemm", 4) or quantization["zero_point"] is not True:
        raise ValueError(f"{directory}: quantization_config {quantization}")
    check_kept(directory, quantization, stored, config["num_hidden_layers"])
    tensors = {}
    for name, array in stored.items():
        module, _, part = name.rpartition(".")
        if part == "qweight":
            tensors[f"{module}.weight"] = awq_reader_np.linear(stored, module, scale_dtypes)
            size = len(array) // len(stored[f"{module}.scales"])
            wanted = quantization["group_size"]
            if size != (len(array) if wanted == -1 else wanted):
                raise ValueError(f"{directory}: {module}: groups of {size}, config {quantization}")
        elif part not in ("qzeros", "scales"):
            tensors[name] = array
    return tensors


def read(directory, scale_dtypes=(np.float16,)):
    """A Llama. Scales of another dtype than float16 are refused unless they are allowed."""
    directory = str(directory)
    config, tensors = llama_np.read_config(directory), read_tensors(directory)
    if "quantization_config" in config:
        tensors = decode_awq(directory, config, tensors, scale_dtypes)
    return llama_np.Llama(config, tensors)

"""Reads a whole checkpoint directory, as strictly as the strictest engine: a Llama with plain
float32 weights, whether they were stored plain or in a format of stored_formats_np.

What engines trip over is a ValueError here: a tensor in two files, one that the index does not
name or names elsewhere, a Linear neither quantized nor listed as kept, a list of one that is
quantized, groups of another size than config.json says, a tensor that nobody asked for, Linears
that engines fuse in different formats.
"""

import json
import os

import llama_np
import safetensors_np
import stored_formats_np

INDEX = "model.safetensors.index.json"


def read_tensors(directory):
    """Returns {name: array} of every safetensors file, which the index must describe if there is one."""
    found, tensors = {}, {}
    for file in sorted(os.listdir(directory)):
        if not file.endswith(".safetensors"):
            continue
        header, _ = safetensors_np.read_header(os.path.join(directory, file))
        if header.get("__metadata__", {}).get("format") != "pt":
            raise ValueError(f"{directory}: {file}: no metadata that says pt")
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


def linears_of(config):
    """Returns the module paths of the Linears of all blocks, in the groups that engines fuse."""
    for layer in range(config["num_hidden_layers"]):
        for group in llama_np.GROUPS.values():
            yield [f"model.layers.{layer}.{linear}" for linear in group]


def parts_of(tensors):
    """Returns {module path: names of its tensors}, biases left out."""
    parts = {}
    for name in tensors:
        module, _, part = name.rpartition(".")
        if part != "bias":
            parts.setdefault(module, set()).add(part)
    return parts


def check_modules(config, stored, stored_format):
    """Returns {module: scheme} of the quantized Linears, once every module has just the tensors that it is
    said to have, and engines can fuse what they fuse."""
    parts, schemes = parts_of(stored), {}
    for fused in linears_of(config):
        for module in fused:
            schemes[module] = stored_format.scheme(module) if stored_format else None
            wanted = stored_format.parts(schemes[module]) if schemes[module] else {"weight"}
            if parts.get(module) != wanted:
                raise ValueError(f"{module}: has {sorted(parts.get(module, set()))}, config.json"
                                 f" says {sorted(wanted)}")
        if len({schemes[module] for module in fused}) > 1:
            raise ValueError(f"{fused}: fused, but {[schemes[module] for module in fused]}")
        scales = {stored[f"{m}.input_scale"].tobytes() for m in fused if "input_scale" in parts[m]}
        if len(scales) > 1:
            raise ValueError(f"{fused}: fused, but of different input_scale")
    for module, names in parts.items():
        if module not in schemes and names != {"weight"}:
            raise ValueError(f"{module}: has {sorted(names)}")
        if schemes.get(module) is None and stored[f"{module}.weight"].dtype.kind != "f":
            raise ValueError(f"{module}.weight: {stored[f'{module}.weight'].dtype}")
    quantized = {module: scheme for module, scheme in schemes.items() if scheme}
    if stored_format:
        stored_format.check_modules(quantized)
    return quantized


def read(directory, foreign=False):
    """Returns a Llama. What only other tools write, scales of other dtypes among it, is refused unless the
    directory is `foreign`. Its `schemes` say how each quantized Linear was stored."""
    directory = str(directory)
    config, stored = llama_np.read_config(directory), read_tensors(directory)
    try:
        if config.get("tie_word_embeddings") and "lm_head.weight" in stored:
            raise ValueError("lm_head.weight of a model whose embeddings are tied")
        stored_format = stored_formats_np.read(directory, config, foreign)
        schemes = check_modules(config, stored, stored_format)
        parts = {f"{m}.{part}" for m, scheme in schemes.items()
                 for part in stored_format.parts(scheme)}
        tensors = {name: array for name, array in stored.items() if name not in parts}
        inputs = {}
        for module, scheme in schemes.items():
            tensors[f"{module}.weight"] = stored_format.weight(stored, module, scheme)
            change = stored_format.change(stored, module, scheme)
            if change:
                inputs[module] = change
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error
    model = llama_np.Llama(config, tensors, inputs)
    model.schemes = schemes
    return model

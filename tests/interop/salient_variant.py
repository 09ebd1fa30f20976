"""Gives a Llama salient channels without changing what it computes.

A few channels of each norm are multiplied by a power of two and the columns that read them are
divided by it: small models hardly have such channels of their own, large ones do, and they are
what the AWQ search is for.
"""

import os
import shutil

import numpy as np

import llama_np
import safetensors_np

_READERS = {"input_layernorm": "qkv", "post_attention_layernorm": "gate_up"}


def write(model_dir, directory, share=0.01, factor=32, seed=1):
    """Writes the variant of a checkpoint directory with one safetensors file."""
    random = np.random.default_rng(seed)
    config = llama_np.read_config(model_dir)
    tensors = {name: array.copy() for name, array in llama_np.read_tensors(model_dir).items()}
    count = max(1, round(share * config["hidden_size"]))
    for layer in range(config["num_hidden_layers"]):
        for norm, group in _READERS.items():
            prefix = f"model.layers.{layer}."
            channels = random.choice(config["hidden_size"], count, replace=False)
            tensors[f"{prefix}{norm}.weight"][channels] *= factor
            for linear in llama_np.GROUPS[group]:
                weight = tensors[f"{prefix}{linear}.weight"]
                weight[:, channels] /= factor
    os.makedirs(directory)
    safetensors_np.write(os.path.join(directory, "model.safetensors"), tensors)
    shutil.copyfile(os.path.join(model_dir, "config.json"), os.path.join(directory, "config.json"))

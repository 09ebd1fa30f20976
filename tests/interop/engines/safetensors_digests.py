"""Tells what safetensors' own reader finds in checkpoint directories. Run by the interpreter that
tests/tool_environment.sh makes for transformers.

    safetensors_digests.py DIR...

Ends with one JSON object on standard output: {directory: {file: {tensor: [dtype, shape, sha256 of
its bytes]}}}. Every file is opened a second time for PyTorch, as engines open it.
"""

import hashlib
import json
import pathlib
import sys

import numpy as np
from safetensors import safe_open


def tensors_of(path):
    with safe_open(path, "pt") as file:
        torch_shapes = {name: list(file.get_tensor(name).shape) for name in file.keys()}
    found = {}
    with safe_open(path, "np") as file:
        if (file.metadata() or {}).get("format") != "pt":
            raise ValueError(f"{path}: metadata {file.metadata()}")
        for name in file.keys():
            array = file.get_tensor(name)
            if list(array.shape) != torch_shapes[name]:
                raise ValueError(f"{path}: {name}: {array.shape}, {torch_shapes[name]}")
            digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
            found[name] = [str(array.dtype), list(array.shape), digest]
    return found


def main():
    print(json.dumps({
        directory: {path.name: tensors_of(path)
                    for path in sorted(pathlib.Path(directory).glob("*.safetensors"))}
        for directory in sys.argv[1:]}))


if __name__ == "__main__":
    main()

"""Checkpoints for jobs: pocket-llama and random Llamas, as {file name: bytes}."""

import dataclasses
import functools
import json
import pathlib

import numpy as np

from contract import salient_client
import safetensors_np  # contract.py puts tests/interop on the path.
from safetensors_np import encode

REPOSITORY = pathlib.Path(salient_client.REPOSITORY)
POCKET_LLAMA = REPOSITORY / "tests" / "data" / "pocket-llama"
# These stand beside the weights in their directory and are not of the model.
NOT_OF_THE_MODEL = ("README.md", "calibration_open.safetensors", "evaluation_open.safetensors")
INDEX = "model.safetensors.index.json"


@dataclasses.dataclass
class Checkpoint:
    """config: what config.json says. Tensors of float16, float32, or BF16 where `bf16` says."""

    config: dict
    tensors: dict
    carried: dict = dataclasses.field(default_factory=dict)  # These files are taken along: {name: bytes}.
    bf16: bool = False

    def files(self, shards=1):
        """Returns {name: bytes}: config.json, weights in `shards` files, index if there are several."""
        files = {"config.json": json.dumps(self.config, indent=2).encode() + b"\n"}
        parts = cut(self.tensors, shards)
        for name, tensors in parts.items():
            files[name] = encode(tensors, bf16=tensors if self.bf16 else ())
        if shards > 1:
            files[INDEX] = index_of(parts)
        return files | self.carried

    @property
    def parameters(self):
        return sum(t.size for t in self.tensors.values())

    def with_tensor(self, name, array):
        return dataclasses.replace(self, tensors={**self.tensors, name: array})

    def without_tensor(self, name):
        return dataclasses.replace(
            self, tensors={n: t for n, t in self.tensors.items() if n != name})

    def with_config(self, **fields):
        """Fields of None are left out."""
        config = {**self.config, **fields}
        return dataclasses.replace(
            self, config={k: v for k, v in config.items() if v is not None})


def index_of(parts):
    """Returns the index of {file: {tensor: array}}, as bytes."""
    total = sum(t.nbytes for tensors in parts.values() for t in tensors.values())
    weight_map = {tensor: file for file, tensors in parts.items() for tensor in tensors}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}).encode()


def model_order(name):
    """Sorts tensors as the model runs: embeddings, blocks by number, norm, head."""
    parts = name.split(".")
    if "embed_tokens" in parts:
        return 0, 0, name
    if "layers" in parts:
        return 1, int(parts[parts.index("layers") + 1]), name
    return 2, 0, name


def cut(tensors, shards):
    """Returns {file name: {name: array}} in the order of the model, of about equal size."""
    if shards == 1:
        return {"model.safetensors": tensors}
    names = sorted(tensors, key=model_order)
    ends = np.cumsum([tensors[n].nbytes for n in names])
    of = np.minimum((ends - 1) * shards // ends[-1], shards - 1)
    return {f"model-{i + 1:05}-of-{shards:05}.safetensors":
            {n: tensors[n] for n, shard in zip(names, of) if shard == i} for i in range(shards)}


@functools.cache
def pocket_llama():
    """Returns the files of the model, without its token files."""
    return {path.name: path.read_bytes() for path in sorted(POCKET_LLAMA.iterdir())
            if path.name not in NOT_OF_THE_MODEL}


@functools.cache
def pocket_llama_checkpoint():
    """Returns the same taken apart, to be cut otherwise."""
    files = pocket_llama()
    tensors = safetensors_np.read(POCKET_LLAMA / "model.safetensors")
    carried = {name: data for name, data in files.items()
               if name not in ("config.json", "model.safetensors")}
    return Checkpoint(json.loads(files["config.json"]), tensors, carried)


def pocket_tokens(kind="calibration", rows=8, tokens=None):
    """Token ids [rows, tokens] of a committed token file."""
    path = POCKET_LLAMA / f"{kind}_open.safetensors"
    return safetensors_np.read(path)["input_ids"][:rows, :tokens]


def token_file(ids, **tensors):
    """Returns the bytes of a tokens file of ids [rows, tokens]."""
    return encode({"input_ids": np.asarray(ids), **tensors})


def random_tokens(rows, tokens, vocabulary, seed=0):
    ids = np.random.default_rng(seed).integers(0, vocabulary, (rows, tokens))
    return ids.astype(np.int32)


def random_llama(hidden=128, intermediate=256, layers=2, heads=4, kv_heads=2, vocabulary=256,
                 seed=0, dtype=np.float16, tied=False):
    """Makes a Llama with heavy-tailed weights and uneven norms, fixed by `seed`."""
    random = np.random.default_rng(seed)
    head_dim = hidden // heads
    tensors = {}

    def add(name, out_features, in_features):
        weight = random.standard_normal((out_features, in_features), np.float32)
        weight *= np.float32(in_features ** -0.5)
        weight[random.integers(0, out_features, 4), random.integers(0, in_features, 4)] *= 6
        tensors[name + ".weight"] = weight.astype(dtype)

    def add_norm(name):
        weight = np.exp(random.standard_normal(hidden, np.float32) * np.float32(0.3))
        tensors[name + ".weight"] = weight.astype(dtype)

    add("model.embed_tokens", vocabulary, hidden)
    for layer in range(layers):
        block = f"model.layers.{layer}."
        add_norm(block + "input_layernorm")
        add(block + "self_attn.q_proj", heads * head_dim, hidden)
        add(block + "self_attn.k_proj", kv_heads * head_dim, hidden)
        add(block + "self_attn.v_proj", kv_heads * head_dim, hidden)
        add(block + "self_attn.o_proj", hidden, heads * head_dim)
        add_norm(block + "post_attention_layernorm")
        add(block + "mlp.gate_proj", intermediate, hidden)
        add(block + "mlp.up_proj", intermediate, hidden)
        add(block + "mlp.down_proj", hidden, intermediate)
    add_norm("model.norm")
    if not tied:
        add("lm_head", vocabulary, hidden)
    config = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=hidden,
        intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=vocabulary, rms_norm_eps=1e-5,
        rope_theta=10000.0, hidden_act="silu", max_position_embeddings=512,
        tie_word_embeddings=tied, torch_dtype=np.dtype(dtype).name)
    return Checkpoint(config, tensors, {"tokenizer_config.json": b'{"model_max_length": 512}\n'})


def heavy_llama():
    """Many seconds of work for two cores: to be interrupted."""
    return random_llama(hidden=1024, intermediate=2816, layers=4, heads=8, kv_heads=8,
                        vocabulary=512, seed=5)


def write(files, directory):
    """Writes {name: bytes} as a directory that must not exist."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def read(directory):
    """Returns {name: bytes} of a directory without subdirectories."""
    return {p.name: p.read_bytes() for p in sorted(pathlib.Path(directory).iterdir())}

"""Makes bad models and bad token files: every kind, each with the code, the reason and the names that the
error must have.

CASES: {name: Case}. The shards of bad_shards.py are among them.
"""

import dataclasses
import json

import grpc
import numpy as np

import bad_shards
import job_models as models
from job_models import encode
from messages import ROUND_TO_NEAREST

Code = grpc.StatusCode
INVALID = Code.INVALID_ARGUMENT
SHARD = "model.safetensors"
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"

MODEL = models.random_llama(seed=33)  # It has hidden 128, 2 layers and vocabulary 256.
IDS = models.random_tokens(4, 64, 256)
CASES: dict = {}


@dataclasses.dataclass
class Case:
    """make: () -> ({file: bytes}, token file, task fields). names: what the error has to say.

    at_once: headers and config tell already, so CreateJob must refuse, before any upload.
    """

    make: object
    code: grpc.StatusCode
    reason: str
    names: tuple
    at_once: bool


def add(name, make, reason, *names, code=INVALID, at_once=True):
    assert name not in CASES, name
    CASES[name] = Case(make, code, reason, names, at_once)


def case(reason, *names, **kwargs):
    """Declares a function without arguments that returns files, (files, tokens) or all three."""

    def declare(function):
        add(function.__name__, function, reason, *names, **kwargs)
        return function

    return declare


def whole(made):
    """Returns (files, tokens, task fields) of what a case made."""
    files, tokens, task = ({}, None, {})
    if isinstance(made, tuple):
        files, tokens, *rest = made
        task = rest[0] if rest else {}
    else:
        files = made
    return files, models.token_file(IDS) if tokens is None else tokens, task


# ---- shards: the table of malformed files

for _name, (_spoil, _names) in bad_shards.CASES.items():
    def _make(spoil=_spoil):
        files = MODEL.files()
        return {**files, SHARD: spoil(files[SHARD])}

    add(f"shard_{_name}", _make, "BAD_MODEL", SHARD, *_names)


# ---- tensors that do not fit the config


def spoilt(name, array):
    return MODEL.with_tensor(name, array).files()


@case("BAD_MODEL", SHARD, Q_PROJ, "[128, 64]", "[128, 128]")
def weight_with_fewer_columns():
    return spoilt(Q_PROJ, MODEL.tensors[Q_PROJ][:, :64])


@case("BAD_MODEL", SHARD, NORM, "[127]", "[128]")
def norm_too_short():
    return spoilt(NORM, MODEL.tensors[NORM][:127])


@case("BAD_MODEL", SHARD, "model.embed_tokens.weight", "[255, 128]", "[256, 128]")
def vocabulary_too_small():
    name = "model.embed_tokens.weight"
    return spoilt(name, MODEL.tensors[name][:255])


@case("BAD_MODEL", SHARD, Q_PROJ, "[16384]", "[128, 128]")
def weight_of_rank_1():
    return spoilt(Q_PROJ, MODEL.tensors[Q_PROJ].reshape(-1))


for _name, _tensor in dict(weight=Q_PROJ, norm=NORM, embeddings="model.embed_tokens.weight",
                           final_norm="model.norm.weight", head="lm_head.weight").items():
    add(f"no_{_name}", lambda tensor=_tensor: MODEL.without_tensor(tensor).files(), "BAD_MODEL",
        _tensor)


@case("BAD_MODEL", "model.layers.2")
def fewer_layers_than_the_config_says():
    return MODEL.with_config(num_hidden_layers=3).files()


@case("BAD_MODEL", SHARD, Q_PROJ, "I32")
def weight_of_integers():
    return spoilt(Q_PROJ, np.ones((128, 128), np.int32))


@case("BAD_MODEL", SHARD, NORM, "I64")
def norm_of_integers():
    return spoilt(NORM, np.ones(128, np.int64))


# ---- values: seen only when they are read


def with_value(name, at, value, model=MODEL):
    array = model.tensors[name].copy()
    array[at] = value
    return model.with_tensor(name, array)


for _name, _tensor, _at, _value, _names in (
        ("nan_in_a_weight", Q_PROJ, (3, 5), np.nan, ("3", "5")),
        ("infinity_in_a_weight", "model.layers.0.mlp.down_proj.weight", (7, 255), np.inf,
         ("7", "255")),
        ("nan_in_a_norm", NORM, 17, np.nan, ("17",)),
        ("nan_in_the_final_norm", "model.norm.weight", 1, np.nan, ("1",)),
        ("nan_in_an_embedding", "model.embed_tokens.weight", (int(IDS[0, 0]), 2), np.nan, ()),
        ("nan_in_an_unused_embedding", "model.embed_tokens.weight", (255, 4), np.nan, ("255",)),
        ("minus_infinity_in_the_head", "lm_head.weight", (9, 9), -np.inf, ("9",))):
    add(_name, lambda t=_tensor, at=_at, v=_value: with_value(t, at, v).files(), "NON_FINITE",
        SHARD, _tensor, *_names, at_once=False)


def f32_model():
    """What is not quantized is written in F16."""
    wide = {name: t.astype(np.float32) for name, t in MODEL.tensors.items()}
    return dataclasses.replace(MODEL, tensors=wide).with_config(torch_dtype="float32")


def bf16_model():
    return dataclasses.replace(f32_model(), bf16=True).with_config(torch_dtype="bfloat16")


for _name, _tensor, _at in (("embedding", "model.embed_tokens.weight", (250, 3)),
                            ("final_norm", "model.norm.weight", 3),
                            ("head", "lm_head.weight", (11, 3))):
    add(f"f32_{_name}_beyond_f16", lambda t=_tensor, at=_at: with_value(
        t, at, 2.0**17, f32_model()).files(), "NON_FINITE", SHARD, _tensor, "131072",
        at_once=False)


@case("NON_FINITE", NORM, "131072", at_once=False)
def f32_norm_beyond_f16():
    # A search would divide it by s until it fits.
    return with_value(NORM, 3, 2.0**17, f32_model()).files(), None, dict(method=ROUND_TO_NEAREST)


@case("NON_FINITE", Q_PROJ.removesuffix(".weight"), at_once=False)
def bf16_weight_whose_scale_is_beyond_f16():
    model = with_value(Q_PROJ, (1, 1), 2.0**20, bf16_model())
    return model.files(), None, dict(method=ROUND_TO_NEAREST)


@case("BAD_MODEL", "model.embed_tokens.weight", "[256, 128]")
def shard_without_a_tensor():
    return {**MODEL.files(), SHARD: bad_shards.join(b"{}", b"")}


# ---- config.json


def with_text(text):
    return {**MODEL.files(), "config.json": text}


for _field in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
               "vocab_size"):
    add(f"config_without_{_field}", lambda field=_field: MODEL.with_config(**{field: None}).files(),
        "BAD_MODEL", "config.json", _field)

for _name, _field, _wrong in (
        ("text_for_a_number", "hidden_size", "128"), ("a_fraction", "hidden_size", 128.5),
        ("zero_layers", "num_hidden_layers", 0), ("negative_size", "intermediate_size", -1),
        ("a_huge_size", "vocab_size", 2**62), ("zero_epsilon", "rms_norm_eps", -1e-5),
        ("heads_that_do_not_divide", "num_attention_heads", 3),
        ("kv_heads_that_do_not_divide", "num_key_value_heads", 3),
        ("no_list_of_architectures", "architectures", "LlamaForCausalLM"),
        ("another_model_type", "model_type", "mistral"),
        ("negative_theta", "rope_theta", -1.0)):
    add(f"config_with_{_name}", lambda field=_field, value=_wrong: MODEL.with_config(
        **{field: value}).files(), "BAD_MODEL", "config.json", _field)

for _name, _fields, _names in (
        ("unknown_architecture", dict(architectures=["MambaForCausalLM"]), ("MambaForCausalLM",)),
        ("unknown_activation", dict(hidden_act="gelu_new"), ("hidden_act", "gelu_new")),
        ("unknown_rotary", dict(rope_scaling={"rope_type": "mscale", "factor": 2.0}), ("mscale",))):
    add(_name, lambda fields=_fields: MODEL.with_config(**fields).files(), "UNSUPPORTED",
        "config.json", *_names, code=Code.UNIMPLEMENTED)


@case("BAD_MODEL", "config.json", "awq")
def quantized_already():
    awq = dict(quant_method="awq", bits=4, group_size=128, zero_point=True, version="gemm")
    return MODEL.with_config(quantization_config=awq).files()


for _name, _text in dict(empty=b"", no_json=b"{hidden_size: 128}", a_list=b"[]", a_word=b"null",
                         cut_off=b'{"hidden_size": 128,', not_utf8=b'{"a": "\xff\xfe"}',
                         nested_deeply=b'{"a":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
                         too_long=b'{"a": "' + b"x" * (1 << 20) + b'"}').items():
    add(f"config_that_is_{_name}", lambda text=_text: with_text(text), "BAD_MODEL", "config.json")


@case("BAD_MODEL", "config.json")
def no_config():
    return {n: d for n, d in MODEL.files().items() if n != "config.json"}


@case("BAD_MODEL", SHARD)
def no_weights():
    return {n: d for n, d in MODEL.files().items() if n != SHARD}


# ---- the index


def sharded(edit):
    """Two shards, with the index edited: a function of the dict, which returns what is written."""
    files = MODEL.files(shards=2)
    index = edit(json.loads(files[models.INDEX]))
    return {**files, models.INDEX: index if isinstance(index, bytes) else json.dumps(index).encode()}


def with_entry(tensor, file):
    return lambda: sharded(lambda index: {**index, "weight_map": {**index["weight_map"],
                                                                  tensor: file}})


SECOND = "model-00002-of-00002.safetensors"

add("index_names_an_absent_shard", with_entry(Q_PROJ, "model-00003-of-00003.safetensors"),
    "BAD_MODEL", "model-00003-of-00003.safetensors")
add("index_names_an_absent_tensor", with_entry("model.layers.9.x.weight", SECOND), "BAD_MODEL",
    SECOND, "model.layers.9.x.weight")
add("index_names_the_wrong_shard", with_entry("model.embed_tokens.weight", SECOND), "BAD_MODEL",
    "model.embed_tokens.weight")
for _name, _file in dict(above="../model.safetensors", absolute="/etc/passwd",
                         below="x/model.safetensors", no_file="").items():
    add(f"index_leads_{_name}", with_entry(Q_PROJ, _file), "BAD_MODEL", models.INDEX, _file)
add("index_without_weight_map", lambda: sharded(lambda index: {"metadata": index["metadata"]}),
    "BAD_MODEL", models.INDEX, "weight_map")
add("index_that_is_no_json", lambda: sharded(lambda index: b"{"), "BAD_MODEL", models.INDEX)
add("index_maps_to_a_number", with_entry(Q_PROJ, 7), "BAD_MODEL", models.INDEX, Q_PROJ)


@case("BAD_MODEL", SECOND, "model.embed_tokens.weight")
def unequal_copies_in_two_shards():
    files = MODEL.files(shards=2)
    header, body = bad_shards.parts(files[SECOND])
    header["model.embed_tokens.weight"] = {"dtype": "F16", "shape": [1],
                                           "data_offsets": [len(body), len(body) + 2]}
    return {**files, SECOND: bad_shards.join(header, body + b"\0\0")}


@case("BAD_MODEL", "model-00001-of-00002.safetensors")
def shard_that_is_not_there():
    return {n: d for n, d in MODEL.files(shards=2).items() if "00001" not in n}


@case("BAD_MODEL", models.INDEX, SHARD)
def index_and_single_file():
    return {**MODEL.files(shards=2), **MODEL.files()}


# ---- what the format cannot hold


@case("BAD_MODEL", "group_size")
def every_linear_would_be_kept():
    return MODEL.files(), None, dict(group_size=96)


@case("BAD_MODEL", "mlp.down_proj", "184", "128")
def strict_and_one_linear_would_be_kept():
    return models.random_llama(intermediate=184).files(), None, dict(strict=True)


# ---- tokens


def with_tokens(tokens):
    return lambda: (MODEL.files(), tokens() if callable(tokens) else tokens)


def bad_tokens(name, tokens, *names):
    # The token file is a blob that is there: CreateJob may look, or the job.
    add(f"tokens_{name}", with_tokens(tokens), "BAD_TOKENS", *names, at_once=False)


def ids_with(row, position, value):
    ids = IDS.astype(np.int64)
    ids[row, position] = value
    return models.token_file(ids)


bad_tokens("beyond_the_vocabulary", lambda: ids_with(2, 7, 256), "256")
bad_tokens("far_beyond_the_vocabulary", lambda: ids_with(0, 0, 2**40), str(2**40))
bad_tokens("negative", lambda: ids_with(1, 3, -1), "input_ids", "-1")
bad_tokens("under_another_name", lambda: encode({"tokens": IDS}), "input_ids")
bad_tokens("of_floats", lambda: encode({"input_ids": IDS.astype(np.float32)}), "input_ids", "F32")
bad_tokens("of_rank_1", lambda: encode({"input_ids": IDS[0]}), "input_ids", "[64]")
bad_tokens("without_a_row", lambda: encode({"input_ids": IDS[:0]}), "input_ids")
bad_tokens("without_a_token", lambda: encode({"input_ids": IDS[:, :0]}), "input_ids")
bad_tokens("of_nothing", lambda: encode({}), "input_ids")
bad_tokens("that_are_no_safetensors", b"In the beginning", )
bad_tokens("cut_off", lambda: models.token_file(IDS)[:-4])
for _name, _lengths, _names in (
        ("too_few", np.array([64, 64, 64], np.int32), ("[3]",)),
        ("zero", np.array([64, 0, 64, 64], np.int32), ("0",)),
        ("too_long", np.array([64, 64, 64, 65], np.int32), ("65",)),
        ("negative", np.array([64, 64, 64, -1], np.int64), ("-1",)),
        ("of_floats", np.full(4, 64, np.float32), ("F32",))):
    bad_tokens(f"lengths_{_name}", lambda lengths=_lengths: models.token_file(IDS, lengths=lengths),
               "lengths", *_names)

"""Lists the config.json files that make_config_goldens.py asks transformers about: what each changes in the
base of its family, and how its weights differ from the usual ones.
"""

import json

BASE = {"hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 40,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "max_position_embeddings": 64, "tie_word_embeddings": True}
FAMILIES = {
    "llama": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **BASE},
    "mistral": {"architectures": ["MistralForCausalLM"], "model_type": "mistral", **BASE,
                "sliding_window": None},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **BASE},
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
ABSENT = object()


class Raw(str):
    """JSON text as it stands, for what json.dumps would not write."""


def without(members, *names):
    return {key: value for key, value in members.items() if key not in names}


def cases():
    """Returns (family, name, members of config.json, weights); weights are what differs from the usual."""
    found = []

    def add(families, name, weights=None, **members):
        for family in families.split():
            found.append((family, name, members, weights or {}))

    every = "llama mistral qwen2"
    add(every, "as_it_is")
    # These vary shapes.
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "vocab_size"):
        add("llama", f"{key}_absent", **{key: ABSENT})
        add(every, f"{key}_null", **{key: None})
        add("llama", f"{key}_float", **{key: float(BASE[key])})
        add("qwen2", f"{key}_text", **{key: str(BASE[key])})
    add("mistral", "vocab_size_larger", vocab_size=41)
    add(every, "one_layer_of_two", num_hidden_layers=1)
    # These vary heads.
    add("llama", "kv_heads_absent", {"kv_heads": 4}, num_key_value_heads=ABSENT)
    add("mistral", "kv_heads_absent", {"heads": 8, "kv_heads": 8, "head_dim": 4},
        num_key_value_heads=ABSENT, num_attention_heads=8)
    add("mistral", "kv_heads_absent_heads_16", {"heads": 16, "kv_heads": 8, "head_dim": 2},
        num_key_value_heads=ABSENT, num_attention_heads=16)
    add("mistral", "kv_heads_absent_heads_4", {"kv_heads": 4}, num_key_value_heads=ABSENT)
    add("qwen2", "kv_heads_absent", {"heads": 32, "kv_heads": 32, "head_dim": 2, "hidden": 64},
        num_key_value_heads=ABSENT, num_attention_heads=32, hidden_size=64)
    add("qwen2", "kv_heads_absent_heads_4", {"kv_heads": 4}, num_key_value_heads=ABSENT)
    add(every, "kv_heads_null", {"kv_heads": 4}, num_key_value_heads=None)
    add(every, "kv_heads_float", num_key_value_heads=2.0)
    add(every, "kv_heads_3", {"kv_heads": 3}, num_key_value_heads=3)
    add("llama", "kv_heads_0", num_key_value_heads=0)
    add(every, "kv_heads_1", {"kv_heads": 1}, num_key_value_heads=1)
    add(every, "head_dim_null", head_dim=None)
    add(every, "head_dim_own", {"head_dim": 12}, head_dim=12)
    add(every, "head_dim_float", head_dim=8.0)
    add(every, "head_dim_odd", {"head_dim": 7}, head_dim=7)
    add(every, "hidden_size_no_multiple", {"hidden": 34}, hidden_size=34, head_dim=8)
    # These vary scalars.
    add(every, "eps_absent", rms_norm_eps=ABSENT)
    add(every, "eps_null", rms_norm_eps=None)
    add(every, "eps_zero", rms_norm_eps=0.0)
    add(every, "eps_integer_zero", rms_norm_eps=0)
    add("llama", "eps_large", rms_norm_eps=0.5)
    add("llama", "eps_integer_one", rms_norm_eps=1)
    add("qwen2", "eps_text", rms_norm_eps="1e-5")
    add(every, "act_absent", hidden_act=ABSENT)
    add(every, "act_null", hidden_act=None)
    add("llama", "act_swish", hidden_act="swish")
    add("llama", "act_gelu", hidden_act="gelu")
    add("mistral", "act_unknown", hidden_act="SiLU")
    add(every, "positions_absent", max_position_embeddings=ABSENT)
    add(every, "positions_null", max_position_embeddings=None)
    add("qwen2", "positions_float", max_position_embeddings=64.0)
    add("llama", "positions_fewer_than_tokens", max_position_embeddings=8)
    # Biases.
    for value in (None, True, False):
        label = json.dumps(value)
        add(every, f"attention_bias_{label}", attention_bias=value)
        add("llama qwen2", f"mlp_bias_{label}", mlp_bias=value)
    add("llama", "attention_bias_stored", {"biases": "qkvo"}, attention_bias=True)
    add("llama", "mlp_bias_stored", {"biases": "mlp"}, mlp_bias=True)
    add("llama", "all_biases_stored", {"biases": "qkvo mlp"}, attention_bias=True, mlp_bias=True)
    add("mistral", "attention_bias_stored", {"biases": "qkvo"}, attention_bias=True)
    add("qwen2", "biases_missing", {"biases": ""})
    # These vary the head.
    for head in ("none", "own", "copy"):
        for value in (ABSENT, None, True, False):
            label = "absent" if value is ABSENT else json.dumps(value)
            add("llama", f"tie_{label}_head_{head}", {"head": head}, tie_word_embeddings=value)
    for head in ("own", "copy"):
        add("mistral qwen2", f"tie_true_head_{head}", {"head": head})
    add("mistral qwen2", "tie_absent_head_own", {"head": "own"}, tie_word_embeddings=ABSENT)
    add("llama", "tie_number", tie_word_embeddings=1)
    add("llama", "tie_true_head_own_two_dtypes", {"head": "own", "head_dtype": "bf16"})
    add("llama", "tie_true_head_copy_two_dtypes", {"head": "copy", "head_dtype": "f32",
                                                   "embedding_dtype": "bf16"})
    # These vary rotary embeddings.
    add(every, "theta_absent", rope_theta=ABSENT)
    add(every, "theta_null", rope_theta=None)
    add(every, "theta_integer", rope_theta=500000)
    add("llama", "theta_text", rope_theta="10000")
    add(every, "rope_empty", rope_scaling={}, rope_theta=5e5)
    add("llama", "rope_empty_parameters", rope_parameters={}, rope_theta=5e5)
    add(every, "rope_default", rope_scaling={"rope_type": "default"})
    add("llama", "rope_default_by_type", rope_scaling={"type": "default"})
    add("llama", "rope_without_type", rope_scaling={"factor": 2.0})
    add(every, "rope_parameters_theta_inside", rope_theta=ABSENT,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    add(every, "rope_parameters_theta_beside",
        rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    add("llama", "rope_parameters_theta_null_beside", rope_theta=None,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    add("llama", "rope_parameters_theta_null_inside",
        rope_parameters={"rope_type": "default", "rope_theta": None})
    add(every, "rope_scaling_theta_beside", rope_scaling={"type": "default", "rope_theta": 5e5})
    add("llama", "rope_parameters_theta_outside", rope_theta=5e5,
        rope_parameters={"rope_type": "default"})
    add(every, "llama3", rope_scaling=LLAMA3)
    add("llama", "llama3_by_type", rope_scaling={"type": "llama3", **without(LLAMA3, "rope_type")})
    add(every, "llama3_parameters", rope_theta=ABSENT,
        rope_parameters={**LLAMA3, "rope_theta": 5e5})
    add(every, "llama3_original_absent", max_position_embeddings=16,
        rope_scaling=without(LLAMA3, "original_max_position_embeddings"))
    add("llama", "llama3_original_and_positions_absent", max_position_embeddings=ABSENT,
        rope_scaling=without(LLAMA3, "original_max_position_embeddings"))
    add("llama", "llama3_original_null",
        rope_scaling={**LLAMA3, "original_max_position_embeddings": None})
    add("llama", "llama3_original_float",
        rope_scaling={**LLAMA3, "original_max_position_embeddings": 16.0})
    add("llama", "llama3_original_outside", original_max_position_embeddings=32,
        rope_scaling=LLAMA3)
    add("llama", "llama3_original_outside_alone", original_max_position_embeddings=32,
        rope_scaling=without(LLAMA3, "original_max_position_embeddings"))
    add("llama", "llama3_original_outside_equal", original_max_position_embeddings=16,
        rope_scaling=LLAMA3)
    add("llama", "llama3_original_outside_null", original_max_position_embeddings=None,
        rope_scaling=LLAMA3)
    add("llama", "llama3_theta_null", rope_scaling=LLAMA3, rope_theta=None)
    for key in ("factor", "low_freq_factor", "high_freq_factor"):
        add("llama", f"llama3_{key}_absent", rope_scaling=without(LLAMA3, key))
    add("llama", "llama3_factors_integers", rope_scaling={**LLAMA3, "factor": 8})
    add("llama", "llama3_factor_small", rope_scaling={**LLAMA3, "factor": 0.5})
    add("llama", "llama3_equal_factors", rope_scaling={**LLAMA3, "high_freq_factor": 1.0})
    add("llama", "two_types_default_llama3", rope_scaling={**LLAMA3, "type": "default"})
    add("llama", "two_types_llama3_default",
        rope_scaling={**LLAMA3, "type": "llama3", "rope_type": "default"})
    add("llama", "type_null", rope_scaling={**LLAMA3, "rope_type": None, "type": "llama3"})
    add(every, "both_spellings", rope_scaling=LLAMA3,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    add("llama", "both_spellings_alike", rope_scaling=LLAMA3, rope_parameters=LLAMA3)
    add("llama", "both_spellings_empty_scaling", rope_scaling={}, rope_parameters=LLAMA3)
    add(every, "linear_factor_1", rope_scaling={"type": "linear", "factor": 1.0})
    add("llama", "linear_factor_integer_1", rope_scaling={"rope_type": "linear", "factor": 1})
    add("llama", "linear_factor_2", rope_scaling={"type": "linear", "factor": 2.0})
    add("llama", "linear_factor_absent", rope_scaling={"type": "linear"})
    add("llama", "dynamic", rope_scaling={"type": "dynamic", "factor": 2.0})
    add("qwen2", "yarn", rope_scaling={"type": "yarn", "factor": 4.0,
                                       "original_max_position_embeddings": 16})
    add("llama", "rope_unknown", rope_scaling={"type": "su"})
    add("llama", "rope_false", rope_scaling=False)
    add("llama", "rope_text", rope_scaling="linear")
    add("llama qwen2", "rope_nested", rope_parameters={"full_attention": {"rope_theta": 5e5}},
        layer_types=["full_attention"] * 2)
    add("llama", "partial_rotary", partial_rotary_factor=0.5)
    add("llama", "partial_rotary_1", partial_rotary_factor=1.0)
    # These vary windows.
    add(every, "window_absent", sliding_window=ABSENT)
    add(every, "window_8", sliding_window=8)
    add(every, "window_1", sliding_window=1)
    add(every, "window_null", sliding_window=None)
    add(every, "window_float", sliding_window=8.0)
    add(every, "window_0", sliding_window=0)
    add(every, "window_long_row_absent", {"tokens": 4200}, sliding_window=ABSENT,
        num_hidden_layers=1)
    add("mistral", "window_long_row_null", {"tokens": 4200}, num_hidden_layers=1)
    for use in (None, True, False):
        label = json.dumps(use)
        add(every, f"use_{label}_window_8", use_sliding_window=use, sliding_window=8)
        add("qwen2", f"use_{label}_window_8_layers_0", use_sliding_window=use, sliding_window=8,
            max_window_layers=0)
    for layers in (-1, 1, 2, 3, None, 0.0):
        add("qwen2", f"use_true_layers_{json.dumps(layers)}", use_sliding_window=True,
            sliding_window=8, max_window_layers=layers)
    add("qwen2", "use_true_window_null", use_sliding_window=True, sliding_window=None,
        max_window_layers=0)
    add("qwen2", "use_true_window_absent", use_sliding_window=True, max_window_layers=0)
    add("qwen2", "use_true_window_absent_long_row", {"tokens": 4200}, use_sliding_window=True,
        max_window_layers=0, num_hidden_layers=1)
    add("qwen2", "use_number", use_sliding_window=0)
    full, sliding = "full_attention", "sliding_attention"
    for label, types in (("null", None), ("full", [full] * 2), ("sliding", [sliding] * 2),
                         ("mixed", [full, sliding]), ("three", [full] * 3), ("one", [full]),
                         ("legacy", ["attention"] * 2), ("chunked", ["chunked_attention"] * 2),
                         ("unknown", ["full", "full"]), ("numbers", [1, 2]), ("text", full)):
        add(every, f"layer_types_{label}", layer_types=types)
        add(every, f"layer_types_{label}_window_8", layer_types=types, sliding_window=8)
        add("mistral", f"layer_types_{label}_head_dim", layer_types=types, sliding_window=8,
            head_dim=8)
        add("qwen2", f"layer_types_{label}_use_true", layer_types=types, sliding_window=8,
            use_sliding_window=True)
    # Names and dtypes.
    add(every, "architectures_absent", architectures=ABSENT)
    add("llama", "architectures_null", architectures=None)
    add("llama", "architectures_empty", architectures=[])
    add("llama", "architectures_two", architectures=["LlamaForCausalLM", "LlamaModel"])
    add("llama", "architectures_base", architectures=["LlamaModel"])
    add(every, "model_type_absent", model_type=ABSENT)
    add("llama", "model_type_null", model_type=None)
    add("llama", "model_type_unknown", model_type="lama")
    add("llama", "model_type_mistral_window_8", model_type="mistral", sliding_window=8)
    add("mistral", "model_type_llama_window_8", model_type="llama", sliding_window=8)
    add("qwen2", "model_type_llama", model_type="llama")
    for label, dtype in (("auto", "auto"), ("torch", "torch.float32"), ("float64", "float64"),
                         ("fp8", "float8_e4m3fn"), ("unknown", "half-precision"), ("null", None),
                         ("int8", "int8"), ("number", 16)):
        add("llama", f"torch_dtype_{label}", torch_dtype=dtype)
        add("qwen2", f"dtype_{label}", dtype=dtype)
    add("llama", "dtypes_differ", dtype="bfloat16", torch_dtype="float16")
    # Members that decide nothing, by their types.
    for key, odd in (("initializer_range", 0), ("initializer_range", None), ("use_cache", None),
                     ("use_cache", "yes"), ("pad_token_id", "0"), ("pad_token_id", -1), ("pad_token_id", 39),
                     ("pad_token_id", 40), ("pad_token_id", -40), ("pad_token_id", -41),
                     ("bos_token_id", [1]), ("bos_token_id", None), ("eos_token_id", [2, 3]),
                     ("eos_token_id", 2.0), ("attention_dropout", None), ("attention_dropout", 0),
                     ("pretraining_tp", None), ("pretraining_tp", "1"), ("id2label", {"0": "a"}),
                     ("output_hidden_states", None), ("chunk_size_feed_forward", None),
                     ("is_encoder_decoder", None), ("transformers_version", 4)):
        add(every, f"{key}_{json.dumps(odd)}", **{key: odd})
    add("llama", "per_layer_config", per_layer_config={"0": {"intermediate_size": 44}})
    add("llama", "per_layer_config_null", per_layer_config=None)
    add("llama", "configuration_files", configuration_files=["config.4.0.0.json"])
    # JSON as Python reads it.
    add("llama", "nan", layer_norm_cap=Raw("NaN"))
    add("qwen2", "infinities", cap=Raw('[Infinity, -Infinity, {"a": NaN, "b": null}]'))
    add("mistral", "lone_surrogate", note=Raw(r'"a\ud800b\ufffd\ud83d\ude00"'))
    add("mistral", "lone_low_surrogate_in_a_name", note=Raw(r'{"\uDC00": "\ud800\ud800"}'))
    add("llama", "nan_as_eps", rms_norm_eps=Raw("NaN"))
    add("llama", "infinite_theta", rope_theta=Raw("Infinity"))
    add("llama", "tagged_float", rms_norm_eps={"__float__": "NaN"})
    add("llama", "named_twice", note=Raw('1, "note": 2'))
    names = [f"{family}/{name}" for family, name, _, _ in found]
    assert len(set(names)) == len(names), "two cases of one name"
    return found

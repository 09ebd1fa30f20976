"""The cases of make_family_goldens.py: small models of every family, one or more for each switch.

A config is written as checkpoints of its family on the Hub have it, with rope_theta, rope_scaling
and torch_dtype, or, where `new` is set, as transformers 5 writes it.
"""

import dataclasses

ABSENT = object()
LONG, SHORT = 66, 24  # A long row has two tiles of 64.
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclasses.dataclass
class Case:
    config: dict
    dtype: str  # Tensors are stored in it: f32, f16 or bf16.
    tokens: int
    new: bool
    switches: dict  # A label has the members that the model without the switch has instead.
    without_effect: dict  # The same, of switches that must change nothing here.
    unused: dict  # An end of names has the reason why no such tensor matters.


SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40,
         "initializer_range": 0.02, "use_cache": True, "transformers_version": "4.57.1"}
GATED = {**SHAPE, "intermediate_size": 24, "num_key_value_heads": 2, "max_position_embeddings": 128,
         "attention_dropout": 0.0, "hidden_act": "silu", "rms_norm_eps": 1e-5, "bos_token_id": 1,
         "eos_token_id": 2, "rope_theta": 10000.0, "rope_scaling": None,
         "tie_word_embeddings": False}
FAMILIES = {
    "opt": {
        **{k: v for k, v in SHAPE.items() if k != "initializer_range"},
        "architectures": ["OPTForCausalLM"], "_remove_final_layer_norm": False,
        "activation_dropout": 0.0, "activation_function": "relu", "attention_dropout": 0.0,
        "bos_token_id": 2, "do_layer_norm_before": True, "dropout": 0.1, "eos_token_id": 2,
        "ffn_dim": 44, "init_std": 0.02, "layerdrop": 0.0, "max_position_embeddings": 68,
        "pad_token_id": 1, "prefix": "</s>", "word_embed_proj_dim": 32},
    "llama": {**GATED, "architectures": ["LlamaForCausalLM"], "attention_bias": False,
              "mlp_bias": False, "pretraining_tp": 1},
    "mistral": {**GATED, "architectures": ["MistralForCausalLM"], "sliding_window": None},
    "qwen2": {**GATED, "architectures": ["Qwen2ForCausalLM"], "rope_theta": 1000000.0,
              "sliding_window": 4096, "max_window_layers": 2, "use_sliding_window": False},
    "qwen3": {**GATED, "architectures": ["Qwen3ForCausalLM"], "attention_bias": False,
              "head_dim": 12, "max_window_layers": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
              "sliding_window": None, "use_sliding_window": False, "tie_word_embeddings": True},
    "phi3": {**GATED, "architectures": ["Phi3ForCausalLM"], "embd_pdrop": 0.0, "resid_pdrop": 0.0,
             "num_key_value_heads": 4, "original_max_position_embeddings": 128, "pad_token_id": 0,
             "sliding_window": 2047},
    "gemma2": {
        **{k: v for k, v in GATED.items() if k not in ("tie_word_embeddings", "rope_scaling")},
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": False,
        "attn_logit_softcapping": 4.0, "final_logit_softcapping": 15.0, "bos_token_id": 2,
        "eos_token_id": 1, "pad_token_id": 0, "cache_implementation": "hybrid", "head_dim": 12,
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 7, "rms_norm_eps": 1e-6, "sliding_window": 9},
    "gemma3_text": {
        **{k: v for k, v in GATED.items() if k not in ("tie_word_embeddings", "hidden_act")},
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": False,
        "attn_logit_softcapping": None, "final_logit_softcapping": None, "bos_token_id": 2,
        "eos_token_id": [1, 3], "pad_token_id": 0, "cache_implementation": "hybrid", "head_dim": 12,
        "hidden_activation": "gelu_pytorch_tanh", "num_key_value_heads": 1,
        "query_pre_attn_scalar": 12, "rms_norm_eps": 1e-6, "rope_local_base_freq": 100,
        "rope_theta": 1000000, "sliding_window": 9, "sliding_window_pattern": 6},
    "ministral3": {
        **{k: v for k, v in GATED.items() if k not in ("rope_theta", "rope_scaling")},
        "architectures": ["Ministral3ForCausalLM"], "head_dim": 12, "sliding_window": None,
        "pad_token_id": 11, "tie_word_embeddings": True,
        "rope_parameters": {
            "beta_fast": 4.0, "beta_slow": 0.5, "factor": 8.0, "llama_4_scaling_beta": 0.3,
            "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 16,
            "rope_theta": 1000.0, "rope_type": "yarn", "type": "yarn"}},
    "granite": {**GATED, "architectures": ["GraniteForCausalLM"], "attention_bias": False,
                "attention_dropout": 0.1, "attention_multiplier": 0.7, "embedding_multiplier": 3.0,
                "logits_scaling": 2.0, "residual_multiplier": 0.6, "mlp_bias": False,
                "pad_token_id": 0, "tie_word_embeddings": True},
    "olmo2": {**GATED, "architectures": ["Olmo2ForCausalLM"], "attention_bias": False,
              "pad_token_id": 3, "rms_norm_eps": 1e-6, "rope_theta": 500000, "use_cache": False},
    "olmo3": {**GATED, "architectures": ["Olmo3ForCausalLM"], "attention_bias": False,
              "num_hidden_layers": 4, "pad_token_id": 3,
              "rms_norm_eps": 1e-6, "rope_theta": 500000, "sliding_window": 9, "use_cache": False},
    "smollm3": {**GATED, "architectures": ["SmolLM3ForCausalLM"], "attention_bias": False,
                "max_window_layers": 28, "mlp_bias": False, "no_rope_layer_interval": 4,
                "no_rope_layers": [1, 0, 1], "num_hidden_layers": 3, "pad_token_id": 0,
                "pretraining_tp": 2, "rms_norm_eps": 1e-6, "rope_theta": 5000.0,
                "sliding_window": None, "use_sliding_window": False, "tie_word_embeddings": True},
    "lfm2": {
        **SHAPE, "architectures": ["Lfm2ForCausalLM"], "block_auto_adjust_ff_dim": True,
        "block_dim": 32, "block_ff_dim": 66, "block_ffn_dim_multiplier": 1.0,
        "block_mlp_init_scale": 1.0, "block_multiple_of": 12, "block_norm_eps": 1e-5,
        "block_out_init_scale": 1.0, "block_use_swiglu": True, "block_use_xavier_init": True,
        "bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 0, "conv_L_cache": 3,
        "conv_bias": False, "conv_dim": 32, "conv_dim_out": 32, "conv_use_xavier_init": True,
        "full_attn_idxs": [1], "max_position_embeddings": 128, "norm_eps": 1e-5, "num_heads": 4,
        "num_hidden_layers": 3, "num_key_value_heads": 2, "rope_theta": 10000.0, "use_pos_enc": True},
}

NO_ROPE_SCALING = {"rope_scaling": None}
KEY_BIAS = {"k_proj.bias": "it adds the same to all scores of a query where nothing turns the keys"}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
SHORT_FACTORS, LONG_FACTORS = [1.0, 1.25, 1.75, 3.0], [1.0, 2.5, 4.5, 8.0]
LONGROPE = {"type": "longrope", "short_factor": SHORT_FACTORS, "long_factor": LONG_FACTORS}


def cases():
    """Returns {name: Case}."""
    found = {}

    def add(name, dtype="f16", *, tokens=LONG, new=False, off=None, same=None, unused=None, **members):
        family = next(f for f in sorted(FAMILIES, key=len, reverse=True)
                      if name.startswith(f.removesuffix("_text")))
        config = {"model_type": family, **FAMILIES[family], **members}
        config = {key: value for key, value in sorted(config.items()) if value is not ABSENT}
        assert name not in found
        found[name] = Case(config, dtype, tokens, new, off or {}, same or {}, unused or {})

    add("opt_plain", ffn_dim=64, unused=KEY_BIAS, off={
        "do_layer_norm_before": {"do_layer_norm_before": False},
        "activation_function relu": {"activation_function": "gelu"}})
    add("opt_after_norm", do_layer_norm_before=False, word_embed_proj_dim=20, unused=KEY_BIAS, off={
        "after norm": {"do_layer_norm_before": True},
        "after norm, no last norm": {"do_layer_norm_before": True, "_remove_final_layer_norm": True},
        "word_embed_proj_dim": {"word_embed_proj_dim": 32}})
    add("opt_no_final_layer_norm", "f32", _remove_final_layer_norm=True, unused=KEY_BIAS, off={
        "_remove_final_layer_norm": {"_remove_final_layer_norm": False}})
    add("opt_no_bias", "bf16", enable_bias=False, off={"enable_bias false": {"enable_bias": True}})
    add("opt_projected_48", new=True, hidden_size=48, word_embed_proj_dim=24, ffn_dim=44,
        unused=KEY_BIAS, off={"word_embed_proj_dim": {"word_embed_proj_dim": 48}})
    add("opt_untied", tie_word_embeddings=False, unused=KEY_BIAS, off={
        "untied": {"tie_word_embeddings": True}})

    add("qwen3_plain", "bf16", intermediate_size=44, off={"default theta": {"rope_theta": 10000}})
    add("qwen3_attention_bias", attention_bias=True, head_dim=8, off={
        "attention_bias": {"attention_bias": False}})
    add("qwen3_layer_types", layer_types=[SLIDING, FULL], max_window_layers=1,
        use_sliding_window=True, sliding_window=9, off={
            "layer_types": {"layer_types": [FULL] * 2},
            "layer_types, not max_window_layers": {"layer_types": ABSENT},
            "use_sliding_window": {"use_sliding_window": False, "layer_types": ABSENT}})
    add("qwen3_max_window_layers", use_sliding_window=True, sliding_window=11, max_window_layers=1,
        off={"use_sliding_window": {"use_sliding_window": False},
             "max_window_layers": {"max_window_layers": 0}})
    add("qwen3_yarn", max_position_embeddings=40, rope_theta=1000.0, rope_scaling=YARN,
        off={"yarn": NO_ROPE_SCALING})
    add("qwen3_untied", new=True, tie_word_embeddings=False, num_key_value_heads=1,
        off={"untied": {"tie_word_embeddings": True}})

    add("qwen2_max_window_layers", use_sliding_window=True, sliding_window=9,
        max_window_layers=1, off={"use_sliding_window": {"use_sliding_window": False},
                                  "max_window_layers": {"max_window_layers": 0}})
    add("qwen2_layer_types", "bf16", new=True, use_sliding_window=True, sliding_window=9,
        max_window_layers=1, layer_types=[SLIDING, FULL], off={
            "layer_types": {"layer_types": [FULL] * 2},
            "layer_types, not max_window_layers": {"layer_types": ABSENT}})
    add("qwen2_yarn", tie_word_embeddings=True, max_position_embeddings=32, rope_theta=1000.0,
        rope_scaling={"type": "yarn", "factor": 4.0}, off={"yarn": NO_ROPE_SCALING})
    add("mistral_yarn", sliding_window=20, head_dim=12, rope_theta=1000.0, rope_scaling=YARN, off={
        "yarn": NO_ROPE_SCALING, "sliding_window": {"sliding_window": None}})

    add("llama_linear", rope_scaling={"type": "linear", "factor": 2.0}, off={
        "linear": NO_ROPE_SCALING})
    dynamic = {"max_position_embeddings": 32, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    add("llama_dynamic", **dynamic, off={"dynamic": NO_ROPE_SCALING, "factor": {
        "rope_scaling": {"type": "dynamic", "factor": 3.0}}})
    add("llama_dynamic_short", tokens=SHORT, **dynamic, same={"dynamic": NO_ROPE_SCALING})
    add("llama_llama3", new=True, rope_theta=500.0, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}, off={"llama3": NO_ROPE_SCALING})
    add("llama_yarn", rope_theta=1000.0, rope_scaling=YARN, off={
        "yarn": NO_ROPE_SCALING, "default attention factor": {
            "rope_scaling": {**YARN, "attention_factor": 1.0}}})
    add("llama_yarn_attention_factor", rope_theta=1000.0, off={"attention_factor": {
            "rope_scaling": YARN}}, rope_scaling={**YARN, "attention_factor": 1.5})
    steep = {**YARN, "original_max_position_embeddings": 64}
    add("llama_yarn_betas", rope_theta=100.0, off={
        "beta_fast": {"rope_scaling": {**steep, "beta_slow": 2}},
        "beta_slow": {"rope_scaling": {**steep, "beta_fast": 3}}},
        rope_scaling={**steep, "beta_fast": 3, "beta_slow": 2})
    add("llama_yarn_mscale", rope_theta=1000.0, off={
        "mscale and mscale_all_dim": {"rope_scaling": YARN},
        "mscale_all_dim": {"rope_scaling": {**YARN, "mscale": 1.4, "mscale_all_dim": 1.4}}},
        rope_scaling={**YARN, "mscale": 1.4, "mscale_all_dim": 0.5})
    add("llama_yarn_mscale_alone", rope_theta=1000.0, rope_scaling={**YARN, "mscale": 1.4},
        off={"yarn": NO_ROPE_SCALING}, same={"mscale alone": {"rope_scaling": YARN}})
    add("llama_yarn_untruncated", new=True, rope_theta=100.0, off={
        "truncate": {"rope_scaling": steep}}, rope_scaling={**steep, "truncate": False})
    longrope = {**LONGROPE, "original_max_position_embeddings": 32}
    short_only = {**longrope, "long_factor": SHORT_FACTORS}
    add("llama_longrope", rope_scaling=longrope, off={
        "longrope": NO_ROPE_SCALING, "long_factor": {"rope_scaling": short_only},
        "default attention factor": {"rope_scaling": {**longrope, "attention_factor": 1.0}}})
    add("llama_longrope_short", tokens=SHORT, rope_scaling=longrope,
        off={"longrope": NO_ROPE_SCALING, "short_factor": {"rope_scaling": {
            **longrope, "short_factor": [1.0] * 4}}}, same={"long_factor": {"rope_scaling": short_only}})
    add("llama_longrope_factor", rope_scaling={**longrope, "factor": 16.0}, off={
        "factor": {"rope_scaling": longrope}})
    add("llama_longrope_attention_factor", new=True, off={
        "attention_factor": {"rope_scaling": longrope}},
        rope_scaling={**longrope, "factor": 16.0, "attention_factor": 1.5})

    add("phi3_plain", "bf16", intermediate_size=44, auto_map={"AutoConfig": "configuration_phi3.Phi3Config"},
        same={"sliding_window": {"sliding_window": None}}, off={"rope_theta": {"rope_theta": 500.0}})
    add("phi3_sliding_window", num_key_value_heads=2, sliding_window=9, off={
        "sliding_window": {"sliding_window": None}})
    long_phi = {"original_max_position_embeddings": 32, "rope_scaling": LONGROPE}
    off = {"longrope": NO_ROPE_SCALING,
           "original_max_position_embeddings": {"original_max_position_embeddings": 64}}
    add("phi3_longrope", **long_phi, num_key_value_heads=2, off={
        **off, "max_position_embeddings": {"max_position_embeddings": 256}})
    add("phi3_longrope_short", tokens=SHORT, **long_phi, num_key_value_heads=2, off=off)
    partial = {"partial_rotary_factor": 0.75, "tie_word_embeddings": True, "num_key_value_heads": 2,
               "original_max_position_embeddings": 32,
               "rope_scaling": {"type": "longrope", "short_factor": SHORT_FACTORS[1:],
                                "long_factor": LONG_FACTORS[1:]}}
    add("phi3_partial_longrope", "bf16", **partial, off={"longrope": NO_ROPE_SCALING})
    add("phi3_partial_longrope_short", tokens=SHORT, **partial, off={"longrope": NO_ROPE_SCALING})
    add("phi3_partial", new=True, partial_rotary_factor=0.75, num_key_value_heads=1, off={
        "partial_rotary_factor": {"partial_rotary_factor": 1.0}})

    add("gemma2_plain", intermediate_size=44, off={
        "attn_logit_softcapping": {"attn_logit_softcapping": None},
        "final_logit_softcapping": {"final_logit_softcapping": None},
        "query_pre_attn_scalar": {"query_pre_attn_scalar": 12},
        "windows": {"sliding_window": 4096},
        "alternating windows": {"layer_types": [SLIDING, SLIDING]},
        "gelu by hidden_activation": {"hidden_activation": "silu"}},
        same={"gelu by hidden_act": {"hidden_act": "silu"}})
    add("gemma2_no_caps", "bf16", attn_logit_softcapping=None, final_logit_softcapping=None,
        attention_bias=True, query_pre_attn_scalar=12, num_hidden_layers=3, num_key_value_heads=1,
        off={"attention_bias": {"attention_bias": False}})
    add("gemma2_layer_types", new=True, head_dim=8, query_pre_attn_scalar=8,
        layer_types=[FULL, SLIDING], off={"layer_types": {"layer_types": ABSENT}})

    add("gemma3_pattern", "bf16", num_hidden_layers=6, off={
        "sliding_window_pattern": {"sliding_window_pattern": 3},
        "windows": {"sliding_window": 4096},
        "rope_theta": {"rope_theta": 10000},
        "rope_local_base_freq": {"rope_local_base_freq": 10000}},
        same={"pattern 6 by default": {"sliding_window_pattern": ABSENT}})
    add("gemma3_linear", sliding_window_pattern=2, num_key_value_heads=2,
        query_pre_attn_scalar=7, rope_theta=5000, rope_scaling={"rope_type": "linear", "factor": 8.0},
        off={"linear": NO_ROPE_SCALING, "query_pre_attn_scalar": {"query_pre_attn_scalar": 12},
             "sliding_window_pattern": {"sliding_window_pattern": 6}})
    add("gemma3_layer_types", new=True, attention_bias=True, head_dim=8,
        query_pre_attn_scalar=8, num_key_value_heads=4, rope_theta=5000, sliding_window_pattern=ABSENT,
        rope_scaling={"rope_type": "linear", "factor": 2.0}, layer_types=[FULL, SLIDING], off={
            "layer_types": {"layer_types": ABSENT}, "attention_bias": {"attention_bias": False},
            "linear": NO_ROPE_SCALING})
    add("gemma3_final_cap", final_logit_softcapping=15.0, sliding_window_pattern=2, off={
        "final_logit_softcapping": {"final_logit_softcapping": None}},
        same={"attn_logit_softcapping": {"attn_logit_softcapping": 4.0}})

    query_scale = FAMILIES["ministral3"]["rope_parameters"]
    add("ministral3_plain", "bf16", intermediate_size=44, new=True, off={
        "llama_4_scaling_beta": {"rope_parameters": {**query_scale, "llama_4_scaling_beta": 0.0}},
        "yarn": {"rope_parameters": {
            "rope_type": "default", "rope_theta": 1000.0, "llama_4_scaling_beta": 0.3,
            "original_max_position_embeddings": 16}}})
    within = {**query_scale, "original_max_position_embeddings": 32}
    add("ministral3_short", tokens=SHORT, rope_parameters=within, same={"llama_4_scaling_beta": {
        "rope_parameters": {**within, "llama_4_scaling_beta": 0.0}}}, off={"factor": {
            "rope_parameters": {**within, "factor": 2.0}}})
    unequal = {**query_scale, "mscale": 1.3, "mscale_all_dim": 0.6}
    add("ministral3_window", tie_word_embeddings=False, sliding_window=9, head_dim=8,
        rope_parameters=unequal, off={
            "sliding_window": {"sliding_window": None}, "untied": {"tie_word_embeddings": True},
            "mscale": {"rope_parameters": query_scale}})

    add("granite_plain", "bf16", intermediate_size=44, off={
        "attention_multiplier": {"attention_multiplier": 8**-0.5},
        "embedding_multiplier": {"embedding_multiplier": 1.0},
        "logits_scaling": {"logits_scaling": 1.0},
        "residual_multiplier": {"residual_multiplier": 1.0}})
    add("granite_biases", attention_bias=True, mlp_bias=True, tie_word_embeddings=False, off={
        "attention_bias": {"attention_bias": False}, "mlp_bias": {"mlp_bias": False},
        "untied": {"tie_word_embeddings": True}})
    add("granite_no_multipliers", new=True, attention_multiplier=ABSENT, embedding_multiplier=ABSENT,
        logits_scaling=ABSENT, residual_multiplier=ABSENT,
        same={"all of them 1": {"attention_multiplier": 1.0, "embedding_multiplier": 1.0,
                                "logits_scaling": 1.0, "residual_multiplier": 1.0}})

    add("olmo2_plain", intermediate_size=44, off={"rope_theta": {"rope_theta": 1000}})
    add("olmo2_attention_bias", "bf16", new=True, attention_bias=True, tie_word_embeddings=True, off={
        "attention_bias": {"attention_bias": False}, "tied": {"tie_word_embeddings": False}})
    add("olmo3_windows", off={
        "windows": {"sliding_window": 4096}, "every fourth layer is full": {"layer_types": [SLIDING] * 4}})
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32,
            "beta_fast": 32, "beta_slow": 1, "attention_factor": 1.2079441541679836}
    mixed = {"num_hidden_layers": 2, "layer_types": [SLIDING, FULL]}
    add("olmo3_yarn", "bf16", **mixed, rope_scaling=yarn, off={
        "yarn": NO_ROPE_SCALING, "layer_types": {"layer_types": [SLIDING] * 2}})
    add("olmo3_nested", new=True, **mixed, attention_bias=True, num_key_value_heads=4,
        rope_scaling={**yarn, "attention_factor": 1.5}, off={
            "yarn": NO_ROPE_SCALING, "attention_bias": {"attention_bias": False}})
    # The theta of layers that slide is not rope_theta, which only those that see everything have.
    add("olmo3_own_theta", **mixed, rope_theta=1000.0, off={"rope_theta": {"rope_theta": 500000.0}})

    add("smollm3_no_rope_layers", "bf16", off={
        "no_rope_layers": {"no_rope_layers": [1, 1, 1]},
        "no_rope_layers, not the interval": {"no_rope_layers": ABSENT}},
        same={"interval beside no_rope_layers": {"no_rope_layer_interval": 2}})
    add("smollm3_interval", num_hidden_layers=4, no_rope_layer_interval=2, no_rope_layers=ABSENT,
        use_sliding_window=True, sliding_window=9, num_key_value_heads=1, off={
            "no_rope_layer_interval": {"no_rope_layer_interval": 4},
            "use_sliding_window": {"use_sliding_window": False}})
    # Without a rope, a key's bias changes nothing.
    add("smollm3_layer_types", new=True, attention_bias=True, mlp_bias=True, use_sliding_window=True,
        sliding_window=9, layer_types=[SLIDING, FULL, SLIDING], tie_word_embeddings=False,
        rope_theta=1000.0, rope_scaling=YARN, unused={f"layers.1.self_attn.{k}": v for k, v in KEY_BIAS.items()},
        off={"yarn": NO_ROPE_SCALING, "attention_bias": {"attention_bias": False},
             "mlp_bias": {"mlp_bias": False}, "layer_types": {"layer_types": [FULL] * 3},
             "layer_types, not no_rope_layers": {"layer_types": ABSENT}})

    add("lfm2_plain", "bf16", off={
        "full_attn_idxs": {"full_attn_idxs": [2]},
        "block_auto_adjust_ff_dim": {"block_auto_adjust_ff_dim": False},
        "rope_theta": {"rope_theta": 1000000.0}})
    add("lfm2_conv_bias", conv_bias=True, conv_L_cache=4, block_auto_adjust_ff_dim=False,
        block_ff_dim=44, full_attn_idxs=ABSENT, layer_types=["conv", FULL, "conv"],
        tie_embedding=False, off={
            "conv_bias": {"conv_bias": False}, "conv_L_cache": {"conv_L_cache": 3},
            "untied": {"tie_embedding": True}})
    add("lfm2_multiplier", new=True, block_ffn_dim_multiplier=0.8, block_multiple_of=8, num_hidden_layers=2,
        off={"block_ffn_dim_multiplier": {"block_ffn_dim_multiplier": 1.0}})
    add("lfm2_intermediate_size", block_ff_dim=ABSENT, intermediate_size=60, block_multiple_of=4,
        num_hidden_layers=2, full_attn_idxs=[0], rope_parameters={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64, "rope_theta": 500.0}, off={
                "llama3": {"rope_parameters": ABSENT, "rope_theta": 500.0}})
    return found

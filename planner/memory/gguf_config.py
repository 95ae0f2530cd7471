"""The metadata of a GGUF file, or of Ollama's `model_info`, as the configuration that its architecture would have.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and gguf-py 0.17 (constants.py); windows that llama.cpp
builds in rather than reads are those of the family (src/llama-model.cpp).
"""

from collections.abc import Mapping
from typing import Any

from planner.memory.errors import UnreadableModel

ARCHITECTURES: Mapping[str, str] = {
    "qwen2moe": "qwen2_moe",
    "qwen2vl": "qwen2",
    "qwen25vl": "qwen2",
    "qwen3moe": "qwen3_moe",
    "qwen3vl": "qwen3",
    "qwen3vlmoe": "qwen3_moe",
    "qwen3next": "qwen3_next",
    "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text",
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "gemma-embedding": "gemma3_text",
    "phi2": "phi",
    "gptneox": "gpt_neox",
    "starcoder": "gpt_bigcode",
    "command-r": "cohere",
    "deepseek": "deepseek_v2",
    "deepseek2": "deepseek_v2",
    "glm4moe": "glm4_moe",
    "glm-dsa": "glm_moe_dsa",
    "gpt-oss": "gpt_oss",
    "nemotron_h_moe": "nemotron_h",
    "falcon-h1": "falcon_h1",
    "granitehybrid": "granitemoehybrid",
    "ernie4_5-moe": "ernie4_5_moe",
    "hunyuan-dense": "hunyuan_v1_dense",
    "hunyuan-moe": "hunyuan_v1_moe",
    "minimax-m2": "minimax_m2",
    "kimi-linear": "kimi_linear",
    "lfm2moe": "lfm2_moe",
    "llama4": "llama4_text",
    "mistral3": "mistral",
    "mllama": "mllama_text_model",
    "nomic-bert": "nomic_bert",
    "jina-bert-v2": "bert",
    "mimo2": "mimo_v2_flash",
    "deci": "llama",
}
"""GGUF architecture -> `model_type`, where the names differ."""

FIELDS: Mapping[str, str] = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "v_head_dim",
    "attention.sliding_window": "sliding_window",
    "attention.shared_kv_layers": "num_kv_shared_layers",
    "attention.chunk_size": "attention_chunk_size",
    "attention.indexer.head_count": "index_n_heads",
    "attention.indexer.key_length": "index_head_dim",
    "embedding_length_per_layer_input": "hidden_size_per_layer_input",
    "vocab_size": "vocab_size",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "leading_dense_block_count": "first_k_dense_replace",
    "interleave_moe_layer_step": "interleave_moe_layer_step",
    "nextn_predict_layers": "num_nextn_predict_layers",
    "full_attention_interval": "full_attention_interval",
    "shortconv.l_cache": "conv_L_cache",
}


def config_from_metadata(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration for `facts_from_config`; raises UnreadableModel where the architecture is not stated."""
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise UnreadableModel(f"{name} does not state general.architecture; it holds no language model.")
    if architecture in ("clip", "whisper", "diffusion", "sd", "flux", "wavtokenizer-dec"):
        raise UnreadableModel(
            f"{name} holds a {architecture} model, not a language model; give the file of the language model."
        )
    if str(metadata.get("general.type", "model")) not in ("model", ""):
        raise UnreadableModel(
            f"{name} holds a {metadata['general.type']}, not a model; give the file of the language model."
        )
    own = {key[len(architecture) + 1 :]: value for key, value in metadata.items() if key.startswith(f"{architecture}.")}
    config: dict[str, Any] = {"model_type": ARCHITECTURES.get(architecture, architecture.replace("-", "_"))}
    for key, field in FIELDS.items():
        if own.get(key) is not None:
            config[field] = list(own[key]) if isinstance(own[key], tuple) else own[key]
    if "vocab_size" not in config and (tokens := metadata.get("tokenizer.ggml.tokens.length")):
        config["vocab_size"] = tokens
    if config.get("v_head_dim") == config.get("head_dim"):
        config.pop("v_head_dim", None)
    config.setdefault("attention_bias", architecture in ("gpt-oss", "glm4", "glm4moe"))
    _latent(own, config)
    _state(own, config)
    _per_layer(own, config, architecture)
    if architecture == "gemma4":
        config |= {"global_head_dim": own.get("attention.key_length", 512)}
        config["head_dim"] = own.get("attention.key_length_swa", 256)
        config["hidden_size_per_layer_input"] = own.get("embedding_length_per_layer_input", 0)
        config["enable_moe_block"] = bool(own.get("expert_count"))
    prediction = config.get("num_nextn_predict_layers")
    if isinstance(prediction, int) and isinstance(config.get("num_hidden_layers"), int):
        config["num_hidden_layers"] -= prediction  # GGUF counts prediction layers as blocks
    return config


def _latent(own: Mapping[str, Any], config: dict[str, Any]) -> None:
    """MLA: `key_length` is that of the compressed cache, `key_length_mla` that of a head."""
    latent = own.get("attention.kv_lora_rank")
    if not isinstance(latent, int) or latent <= 0:
        return
    rope = own.get("rope.dimension_count", 64)
    key, value = (
        own.get(f"attention.{part}_length_mla") or own.get(f"attention.{part}_length") for part in ("key", "value")
    )
    if isinstance(key, int) and isinstance(rope, int) and key > rope:
        config |= {
            "kv_lora_rank": latent,
            "qk_rope_head_dim": rope,
            "qk_nope_head_dim": key - rope,
            "v_head_dim": value,
        }
    config["q_lora_rank"] = own.get("attention.q_lora_rank")
    config.pop("head_dim", None)
    config["num_key_value_heads"] = config.get("num_attention_heads")


def _state(own: Mapping[str, Any], config: dict[str, Any]) -> None:
    """`ssm.*`: for gated delta nets inner_size counts the value heads, time_step_rank their number."""
    inner, state = own.get("ssm.inner_size"), own.get("ssm.state_size")
    heads, groups = own.get("ssm.time_step_rank"), own.get("ssm.group_count")
    if not isinstance(inner, int) or not isinstance(state, int):
        return
    config |= {"conv_kernel": own.get("ssm.conv_kernel", 4), "state_size": state, "use_conv_bias": True}
    if config["model_type"].startswith("qwen3") and isinstance(heads, int) and heads > 0 and isinstance(groups, int):
        config |= {
            "linear_num_value_heads": heads,
            "linear_value_head_dim": inner // heads,
            "linear_num_key_heads": groups,
            "linear_key_head_dim": state,
        }
    elif config["model_type"] in ("mamba", "falcon_mamba", "jamba"):
        config |= {"mamba_inner_size": inner, "time_step_rank": heads}
    elif isinstance(heads, int) and heads > 0:
        names = (
            ("num_attention_heads", "head_dim")
            if config["model_type"] == "mamba2"
            else ("mamba_num_heads", "mamba_head_dim")
        )
        config |= {names[0]: heads, names[1]: inner // heads, "n_groups": groups or 1}


def _per_layer(own: Mapping[str, Any], config: dict[str, Any], architecture: str) -> None:
    """Numbers that differ by layer: no KV heads and no feed-forward size tell what a layer is."""
    pattern = own.get("attention.sliding_window_pattern")
    if isinstance(pattern, tuple | list):
        config["layer_types"] = ["sliding_attention" if slides else "full_attention" for slides in pattern]
    elif isinstance(pattern, int) and not isinstance(pattern, bool) and pattern > 0:
        config["sliding_window_pattern"] = pattern
    groups = config.get("num_key_value_heads")
    if not isinstance(groups, list):
        return
    sizes = config.get("intermediate_size")
    kinds = []
    for layer, count in enumerate(groups):
        wide = isinstance(sizes, list) and layer < len(sizes) and bool(sizes[layer])
        only = architecture.startswith("nemotron_h")
        if count:
            kinds.append("full_attention")
        elif only and wide:
            kinds.append("moe" if config.get("num_experts") else "mlp")
        else:
            kinds.append("mamba")
    if 0 in groups:
        config.setdefault("layer_types", kinds)
    config["kv_heads_by_layer"] = groups
    config["num_key_value_heads"] = max((count for count in groups if isinstance(count, int)), default=0)
    if isinstance(heads := config.get("num_attention_heads"), list):
        config["num_attention_heads"] = max((count for count in heads if isinstance(count, int)), default=0)
    if isinstance(sizes, list):
        config["intermediate_size"] = max((size for size in sizes if isinstance(size, int)), default=0)

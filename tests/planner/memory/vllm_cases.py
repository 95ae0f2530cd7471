"""Models, devices and runs that the vLLM tests share; sizes from the models' public configurations."""

from typing import Any

from planner.memory.estimate import Basis, Device, Run
from planner.memory.facts import ModelFacts
from planner.memory.hf_config import facts_from_config
from planner.units import GIB

LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 131072,
}
GPT_OSS_120B: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 2880,
    "vocab_size": 201088,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "attention_bias": True,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
    },
}
DEEPSEEK_V2_LITE: dict[str, Any] = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "vocab_size": 102400,
    "tie_word_embeddings": False,
    "max_position_embeddings": 163840,
}


def gemma3(layers: int, full: int, **sizes: Any) -> dict[str, Any]:
    """A Gemma 3 text model: every sixth layer sees everything, `full` of them in all."""
    kinds = ["full_attention" if (layer + 1) % 6 == 0 else "sliding_attention" for layer in range(layers)]
    assert kinds.count("full_attention") == full
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": layers,
        "layer_types": kinds,
        "vocab_size": 262144,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131072,
        **sizes,
    }


GEMMA_27B = gemma3(
    62,
    10,
    hidden_size=5376,
    intermediate_size=21504,
    num_attention_heads=32,
    num_key_value_heads=16,
    head_dim=128,
    sliding_window=1024,
)
GEMMA_1B = gemma3(
    26,
    4,
    hidden_size=1152,
    intermediate_size=6912,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=256,
    sliding_window=512,
)
QWEN36_27B: dict[str, Any] = {
    "architectures": ["Qwen3_5ForCausalLM"],
    "model_type": "qwen3_5_text",
    "hidden_size": 5120,
    "num_hidden_layers": 64,
    "num_attention_heads": 24,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "intermediate_size": 17408,
    "vocab_size": 248320,
    "tie_word_embeddings": False,
    "max_position_embeddings": 262144,
    "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 16,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 48,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "mamba_ssm_dtype": "float32",
}


def facts(config: dict[str, Any], **changes: Any) -> ModelFacts:
    """Facts of a configuration with some fields changed."""
    return facts_from_config({**config, **changes}, name=str(config["model_type"]))


def device(gib: float = 79.19, *, mig: bool = False, name: str = "H100-80GB", architecture: str = "Hopper") -> Device:
    """A device of that much memory as CUDA sees it."""
    return Device(
        name=name,
        memory_bytes=round(gib * GIB),
        basis=Basis.MEASURED,
        source="test",
        is_mig=mig,
        architecture=architecture,
    )


def run(config: dict[str, Any] | None = None, *, gib: float = 79.19, **settings: Any) -> Run:
    """A run of a model (Llama 3.1 8B where none is given) on one device."""
    where = settings.pop("device", None) or device(gib)
    return Run(model=facts(config or LLAMA_8B), device=where, **settings)

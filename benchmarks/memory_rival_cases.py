"""A recorded run in the terms that other estimators take: configuration, parameter count, memory seen and labelled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.memory_rows import device_of
from planner.units import GIB

# Memory on the label in "GB", taken for GiB by those who use it; a word of the device's name, first match wins
_LABELS = (
    ("a100-sxm4-40gb", 40), ("a100 40gb", 40), ("a100", 80), ("a800", 80), ("h100 nvl", 94), ("h100", 80),
    ("h200", 141), ("h20", 96), ("b200", 192), ("l40s", 48), ("l40", 48), ("l20", 48), ("a40", 48), ("a6000", 48),
    ("a10", 24), ("l4", 24), ("t4", 16), ("v100", 32), ("4090", 24), ("3090", 24), ("5090", 32), ("pro 6000", 96),
    ("gb10", 128),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalCase:
    """A row in the terms of the estimators."""

    facts: Mapping[str, Any]
    text: Mapping[str, Any]  # of the language model in a multimodal one
    params: int
    format: str  # "bf16", "fp8", "int8", "int4", "mxfp4"
    tp: int
    seen_gib: float
    label_gib: float
    utilization: float
    context: int
    chunk: int
    kv_bytes: float

    @property
    def kv_per_token(self) -> float | None:
        """Bytes of one token per rank when every layer keeps it; None when the architecture file lacks sizes."""
        layers, heads = self.text.get("num_hidden_layers"), self.text.get("num_attention_heads")
        hidden = self.text.get("hidden_size")
        if not layers or not hidden or not heads:
            return None
        if latent := self.text.get("kv_lora_rank"):
            return float(layers * (latent + self.text.get("qk_rope_head_dim", 64)) * self.kv_bytes)
        kv_heads = self.text.get("num_key_value_heads") or heads
        size = self.text.get("head_dim") or hidden // heads
        return float(2 * layers * max(1, kv_heads / self.tp) * size * self.kv_bytes)


def case_of(row: Mapping[str, Any], configs: Path) -> RivalCase | None:
    """The row as a case; None without architecture file, with pipeline stages, or with more GPUs than it states."""
    name = row.get("config_ref")
    if not name or not (configs / name).is_file():
        return None
    stored = json.loads((configs / name).read_text(encoding="utf-8"))
    facts, params = stored.get("facts") or {}, (stored.get("derived") or {}).get("total_params_text")
    text = facts.get("text_config") or facts
    stages = row.get("pipeline_parallel_size") or 1
    if not params or not text.get("hidden_size") or stages > 1:
        return None
    seen = device_of(row).memory_bytes / GIB
    gpus = row.get("tensor_parallel_size") or row.get("gpu_count")
    if gpus is None and params * 0.5 / GIB > seen:
        return None
    device = str(row.get("gpu") or "").lower()
    label = next((size for word, size in _LABELS if word in device), None)
    context = (
        row.get("max_model_len")
        or row.get("concurrency_ctx")
        or min(text.get("max_position_embeddings") or 8192, 131072)
    )
    return RivalCase(
        facts=facts,
        text=text,
        params=int(params),
        format=_format(row, facts),
        tp=gpus or 1,
        seen_gib=seen,
        label_gib=float(label) if label and not row.get("mig_profile") else seen,
        utilization=row.get("gpu_memory_utilization") or 0.9,
        context=int(context),
        chunk=row.get("max_num_batched_tokens") or 8192,
        kv_bytes=1.0 if "fp8" in str(row.get("kv_cache_dtype") or "") else 2.0,
    )


def _format(row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    asked = f"{row.get('quantization') or ''} {row.get('model') or ''}".lower()
    if row.get("config_match") == "exact":
        asked += " " + str((facts.get("quantization_config") or {}).get("quant_method") or "").lower()
    if row.get("dtype") == "float32":
        return "fp32"
    words = {"mxfp4": "mxfp4", "fp8": "fp8", "w8a8": "int8", "int8": "int8"}
    words |= dict.fromkeys(
        ("nvfp4", "awq", "gptq", "int4", "bitsandbytes", "nf4", "auto_round", "4bit", "4-bit", "gguf", "quantised"),
        "int4",
    )
    return next((kind for word, kind in words.items() if word in asked), "bf16")

"""Recorded runs of vLLM as runs of the memory model: devices by name, models by configuration file."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planner.memory.errors import UnreadableModel
from planner.memory.estimate import Basis, Device, Run
from planner.memory.facts import ModelFacts
from planner.memory.hf_config import facts_from_config
from planner.memory.quantisation import read_quantisation
from planner.units import GIB

# What CUDA sees where a row does not say (MEMORY.md, section 2), by a word of the device's name; longest match first.
_SEEN_GIB = (
    ("a100-sxm4-40gb", 39.5, "Ampere"),
    ("a100 40gb", 39.5, "Ampere"),
    ("a100 80gb", 79.25, "Ampere"),
    ("a100", 79.25, "Ampere"),
    ("a800", 79.25, "Ampere"),
    ("h100 nvl", 93.0, "Hopper"),
    ("h100", 79.19, "Hopper"),
    ("gh200", 94.5, "Hopper"),
    ("h200", 139.8, "Hopper"),
    ("h20", 95.0, "Hopper"),
    ("l40s", 44.42, "Ada"),
    ("l20", 44.5, "Ada"),
    ("a40", 44.99, "Ampere"),
    ("a6000", 47.4, "Ampere"),
    ("l4", 22.16, "Ada"),
    ("t4", 14.74, "Turing"),
    ("v100", 31.7, "Volta"),
    ("4090", 23.55, "Ada"),
    ("4060", 8.0, "Ada"),
    ("3090", 23.58, "Ampere"),
    ("5090", 31.36, "Blackwell"),
    ("pro 6000", 95.6, "Blackwell"),
    ("gb10", 121.6, "Blackwell"),
    ("5070 ti", 15.47, "Blackwell"),
)
# Rows whose own file lacks fields: a file of the same architecture that has them, its quantisation dropped.
_SIBLINGS = {
    "Qwen--Qwen3.6-27B.json": "nvidia--Qwen3.6-27B-NVFP4.json",
    "Qwen--Qwen3.8-27B.json": "nvidia--Qwen3.6-27B-NVFP4.json",
    "Qwen--Qwen3.6-35B-A3B.json": "nvidia--Qwen3.6-35B-A3B-NVFP4.json",
    "Qwen-AgentWorld-35B-A3B.json": "nvidia--Qwen3.6-35B-A3B-NVFP4.json",
    "google--gemma-4-31B-it.json": "nvidia--Gemma-4-31B-IT-NVFP4.json",
    "deepseek-ai--DeepSeek-V4-Flash-0731.json": "deepseek-ai--DeepSeek-V4-Flash.json",
}
# What the checkpoint's own configuration states and the file leaves out: the experts of DeepSeek-V4 are MXFP4.
_LEFT_OUT: Mapping[str, Mapping[str, Any]] = {"deepseek-ai--DeepSeek-V4-Flash.json": {"expert_dtype": "fp4"}}
# `lora_rank` of the notebook that each log stands in; vLLM's default of 16 holds elsewhere.
_LORA_RANKS = {"vllm-013": 64, "vllm-016": 32, "vllm-017": 32, "vllm-021": 64, "vllm-024": 32}
# Two engines share the GPUs of this run: no estimate of one engine speaks about it.
_SHARED = frozenset({"vllm-118"})
_QUANTISATIONS: Mapping[str, Mapping[str, Any]] = {
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic"},
    "w8a8": {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}}},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "auto_round": {"quant_method": "gptq", "bits": 4, "group_size": 128},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """One recorded run; `run` is None where the row lacks what an estimate needs, and `lacking` says what."""

    row: Mapping[str, Any]
    run: Run | None
    lacking: str = ""

    @property
    def key(self) -> str:
        """The row's identifier."""
        return str(self.row["id"])

    @property
    def weight(self) -> float:
        """The runs of one MIG series count as one together."""
        return float(self.row.get("series_weight", 1.0))

    @property
    def device_known(self) -> bool:
        """Whether the row names a device or its memory, so that the pool can be estimated."""
        return self.run is not None and "any device" not in self.run.device.name


def recorded_runs(reference: Path) -> tuple[RecordedRun, ...]:
    """Every row of `vllm_runs.jsonl` but those whose notes say CHECK first or where the source contradicts itself."""
    rows = [
        json.loads(line) for line in (reference / "memory" / "vllm_runs.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rows = [row for row in rows if "CHECK" not in (row.get("notes") or "")]
    series = sum(1 for row in rows if row.get("mig_profile"))
    for row in rows:
        row["series_weight"] = 1 / series if row.get("mig_profile") else 1.0
    return tuple(_recorded(row, reference / "memory" / "model_configs") for row in rows)


def _recorded(row: Mapping[str, Any], configs: Path) -> RecordedRun:
    if not row.get("config_ref"):
        return RecordedRun(row=row, run=None, lacking="no model configuration")
    if row["id"] in _SHARED:
        return RecordedRun(row=row, run=None, lacking="two engines on the same GPUs")
    try:
        model = facts_of(row, configs)
    except UnreadableModel as error:
        return RecordedRun(row=row, run=None, lacking=str(error))
    return RecordedRun(row=row, run=run_of(row, model))


def facts_of(row: Mapping[str, Any], configs: Path) -> ModelFacts:
    """Facts of a row's model: its configuration, and its quantisation where the row names one the file does not."""
    name = str(row["config_ref"])
    sibling = _SIBLINGS.get(name)
    config = json.loads((configs / (sibling or name)).read_text(encoding="utf-8"))["facts"]
    config = {**config, **_LEFT_OUT.get(sibling or name, {})}
    asked = (row.get("quantization") or "").lower()
    if sibling and "DeepSeek" not in sibling and not ("nvfp4" in asked and "NVFP4" in sibling):
        config = {key: value for key, value in config.items() if key not in ("quantization_config", "hf_quant_config")}
    model = facts_from_config(config, name=str(row["model"]), source="config.json")
    exact = row.get("config_match") == "exact" or sibling is not None
    if "online" in asked or "runtime" in asked or (model.quantisation and exact):
        return model
    for word, quantisation in _QUANTISATIONS.items():
        if word in asked:
            fields = {**config, "quantization_config": quantisation}
            return replace(model, quantisation=read_quantisation(fields, model.layer_count, []))
    return model


def run_of(row: Mapping[str, Any], model: ModelFacts) -> Run:
    """The run that a row describes; what it leaves open stays open."""
    device = device_of(row)
    tp = row.get("tensor_parallel_size") or 1
    count = row.get("gpu_count") or tp
    notes = f"{row.get('notes') or ''} {row.get('model')}"
    expert_parallel = "expert-parallel" in notes or "expert parallel" in notes
    drafted = re.search(r"(?:n=|\bK)(\d+)", notes) if "MTP" in notes or "EAGLE" in notes else None
    version = row.get("vllm_version")
    if version is None and (named := re.search(r"v(0\.\d+\.\d+)", notes)):
        version = named.group(1)
    if row.get("engine"):
        version = f"{version or ''} {row['engine']}".strip()
    return Run(
        model=model,
        device=device,
        engine_version=version if version and re.search(r"\d", version) else None,
        tensor_parallel=tp,
        pipeline_parallel=row.get("pipeline_parallel_size") or 1,
        data_parallel=max(1, count // tp) if expert_parallel and count > tp else 1,
        expert_parallel=expert_parallel,
        dtype=row.get("dtype"),
        quantization=_asked(row, model),
        kv_cache_dtype=row.get("kv_cache_dtype"),
        max_model_len=row.get("max_model_len") or row.get("concurrency_ctx"),
        max_num_seqs=row.get("max_num_seqs"),
        max_num_batched_tokens=row.get("max_num_batched_tokens"),
        gpu_memory_utilization=row.get("gpu_memory_utilization"),
        block_size=row.get("block_size"),
        enforce_eager=bool(row.get("enforce_eager")),
        max_loras=1 if row.get("lora") and "no LoRA" not in notes else 0,
        max_lora_rank=_LORA_RANKS.get(str(row["id"])),
        speculative_layers=1 if "EAGLE" in notes or "MTP" in notes else 0,
        speculative_tokens=int(drafted.group(1)) if drafted else 0,
    )


def _asked(row: Mapping[str, Any], model: ModelFacts) -> str | None:
    asked = (row.get("quantization") or "").lower()
    if model.quantisation is not None or not asked:
        return None
    known = ("nvfp4", "mxfp4", "fp8", "w8a8", "bitsandbytes", "awq", "gptq", "auto_round", "int4", "gguf")
    return next((word for word in known if word in asked), "awq" if "quantis" in asked else None)


def device_of(row: Mapping[str, Any]) -> Device:
    """The row's device with the memory it states, else what CUDA sees on such a device."""
    name = str(row.get("gpu") or "any device")
    lowered = name.lower()
    named = [(size, arch) for word, size, arch in _SEEN_GIB if word in lowered]
    seen = (min(named) if "+" in lowered else named[0]) if named else None
    stated = row.get("gpu_mem_gib")
    if stated is None and (written := re.search(r"~([\d.]+) GiB", name)):
        stated = float(written.group(1))
    nominal = stated in (24, 80, 48, 40)
    size = seen[0] if (stated is None or nominal) and seen else stated or 79.19
    architecture = seen[1] if seen else ""
    if "intel" in lowered or "ascend" in lowered or "amd" in lowered:
        architecture = "other"
    return Device(
        name=name if (seen or stated) else "any device",
        memory_bytes=round(float(size) * GIB),
        basis=Basis.MEASURED if stated and not nominal else Basis.ASSUMED,
        source=str(row["source"]),
        is_mig=row.get("mig_profile") is not None,
        architecture=architecture,
        board=name,
    )


def with_run(runs: Sequence[RecordedRun]) -> Iterator[tuple[RecordedRun, Run]]:
    """The recorded runs that can be estimated."""
    for recorded in runs:
        if recorded.run is not None:
            yield recorded, recorded.run

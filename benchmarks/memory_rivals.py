"""Other estimators of a model's memory, asked about the same runs: their packages where installed, else their formulas.

None of them is a dependency. `pip install vramscout modelinfo-cli vramcalc` beside the project makes the packages
themselves answer; without them the same formula answers, read off the release that is named, and is called "our
reading of" it. Both give the same numbers (`tests/benchmarks/test_memory_rivals.py` compares them where they are
installed). Where a package asks the Hugging Face hub for a parameter count or a file size, it is given the count of
the reference's architecture file: what the hub would have answered, or a little better.

What each leaves out is left out here too: vramscout knows no sampler or batch settings, modelinfo-cli no activation,
vramcalc no engine, and both of the latter take the memory on the label for what CUDA sees.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.memory_rival_cases import RivalCase, case_of
from planner.units import GIB

Rival = Callable[[Mapping[str, Any], Path], "RivalAnswer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalAnswer:
    """What an estimator says of one run, per rank; None where it gives no such number, with the reason in `note`."""

    weights_bytes: float | None = None
    kv_pool_bytes: float | None = None
    kv_tokens: int | None = None
    fits: bool | None = None
    note: str = ""


_NOT_KNOWN = RivalAnswer(
    note="no architecture file with the sizes that it asks for, or pipeline stages, of which it knows nothing"
)
_STORED_BYTES = {"bf16": 2.0, "fp32": 4.0, "fp8": 1.03, "int8": 1.05, "int4": 0.6, "mxfp4": 0.6}


def rivals() -> Mapping[str, Rival]:
    """The estimators by name, packages first where they are installed. Each takes a row and the folder of configs."""
    named: dict[str, Rival] = {}
    for package, module, installed, reading, release in (
        ("vramscout", "vramscout.modern_v07", vramscout_package, vramscout_reading, "0.7.0"),
        ("modelinfo-cli", "modelinfo.calculator", modelinfo_package, modelinfo_reading, "1.4.4"),
        ("vramcalc", "vramcalc.estimate", vramcalc_package, vramcalc_reading, "0.1.2"),
    ):
        if is_installed(package, module):
            named[f"{package} {version(package)}"] = installed
        else:
            named[f"our reading of {package} {release}'s formula"] = reading
    named["our reading of llm-d-planner's formula"] = llm_d_planner_reading
    return named


def is_installed(package: str, module: str) -> bool:
    """Whether that package can be imported here."""
    try:
        version(package)
        import_module(module)
    except (PackageNotFoundError, ImportError):
        return False
    return True


def vramscout_reading(row: Mapping[str, Any], configs: Path) -> RivalAnswer:
    """weights + max(0.75 GiB, 3 %) + five hidden states of a prefill chunk, against utilisation x memory."""
    case = case_of(row, configs)
    if case is None or case.kv_per_token is None:
        return _NOT_KNOWN
    weights = case.params * _vramscout_bytes(case) / case.tp
    runtime = max(0.75 * GIB, 0.03 * weights)
    scratch = min(case.context, case.chunk) * case.text["hidden_size"] * 2 * 5
    pool = case.seen_gib * GIB * case.utilization - weights - runtime - scratch
    return _answer(case, weights, pool)


def vramscout_package(row: Mapping[str, Any], configs: Path) -> RivalAnswer:
    """`plan_modern` on a folder with the configuration; the parameter count stands in for the hub's metadata."""
    case = case_of(row, configs)
    if case is None or case.kv_per_token is None:
        return _NOT_KNOWN
    inspect: Any = import_module("vramscout.modern_v06")
    plan: Any = import_module("vramscout.modern_v07")
    original = inspect._selected_hub_metadata
    inspect._selected_hub_metadata = lambda *_: (case.params, None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(case.facts), encoding="utf-8")
            planned = plan.plan_modern(
                folder,
                context=case.context,
                weight_dtype={"int4": "int4", "mxfp4": "int4"}.get(case.format, case.format),
                kv_dtype="fp8" if case.kv_bytes == 1 else "bf16",
                tp=case.tp,
                vram_gib=case.seen_gib,
                prefill_chunk=case.chunk,
                engine="vllm",
                gpu_memory_utilization=case.utilization,
            )
    except (ValueError, RuntimeError, TypeError, KeyError, ZeroDivisionError) as error:
        return RivalAnswer(note=f"it refuses: {error}")
    finally:
        inspect._selected_hub_metadata = original
    parts = planned.parts_gib
    weights = parts["Model weights / rank"] * GIB
    other = parts["CUDA / runtime"] + parts["Prefill scratch"] + parts["Safety reserve"]
    pool = planned.memory_budget_gib * GIB - weights - other * GIB
    tokens = int(pool / case.kv_per_token) if pool > 0 else 0
    return RivalAnswer(weights_bytes=weights, kv_pool_bytes=pool, kv_tokens=tokens, fits=bool(planned.fits))


def modelinfo_reading(row: Mapping[str, Any], configs: Path) -> RivalAnswer:
    """utilisation x label - file size, 12 % of which is added when several GPUs share it."""
    case = case_of(row, configs)
    if case is None or case.kv_per_token is None:
        return _NOT_KNOWN
    size = case.params * _STORED_BYTES[case.format]
    penalty = 0.12 if case.tp > 1 else 0.0
    pool = case.label_gib * case.tp * GIB * case.utilization - size * (1 + penalty)
    hidden, heads = case.text["hidden_size"], case.text["num_attention_heads"]
    per_token = (
        2 * case.text["num_hidden_layers"] * (case.text.get("num_key_value_heads") or heads) * (hidden // heads) * 2
    )
    tokens = max(0, int(pool // per_token))
    return RivalAnswer(
        weights_bytes=size / case.tp,
        kv_pool_bytes=max(0.0, pool) / case.tp,
        kv_tokens=tokens,
        fits=pool > 0 and tokens >= case.context,
    )


def modelinfo_package(row: Mapping[str, Any], configs: Path) -> RivalAnswer:
    """`calculate_footprint` in its vLLM mode, on the size that the hub's index would state."""
    case = case_of(row, configs)
    if case is None or case.kv_per_token is None:
        return _NOT_KNOWN
    size = case.params * _STORED_BYTES[case.format]
    answer = import_module("modelinfo.calculator").calculate_footprint(
        {"__metadata__": {"lazy_fetch": True, "total_size": size}},
        context_length=case.context,
        config=dict(case.text),
        gpu_count=case.tp,
        is_vllm=True,
        gpu_vram_bytes=case.label_gib * case.tp * GIB,
        gpu_util=case.utilization,
    )["vllm_metrics"]
    tokens = int(answer["max_serving_capacity"])
    return RivalAnswer(
        weights_bytes=answer["static_weights"] / case.tp,
        kv_pool_bytes=answer["paged_kv_pool"] / case.tp,
        kv_tokens=tokens,
        fits=answer["paged_kv_pool"] > 0 and tokens >= case.context,
    )


def vramcalc_reading(row: Mapping[str, Any], configs: Path) -> RivalAnswer:
    """Weights + KV of one request + logits of its whole length + 0.75 GB against 97 % of the label; dense only."""
    case = case_of(row, configs)
    if case is None or (refusal := _vramcalc_refusal(case)):
        return _NOT_KNOWN if case is None else RivalAnswer(note=refusal)
    text, tokens = case.text, case.context
    hidden, heads, layers = text["hidden_size"], text["num_attention_heads"], text["num_hidden_layers"]
    size = text.get("head_dim") or hidden // heads
    query, kv = heads * size, (text.get("num_key_value_heads") or heads) * size
    is_gemma = text["model_type"] in ("gemma", "gemma2")
    bias = query + 2 * kv if text["model_type"] == "qwen2" or text.get("attention_bias") else 0
    per_layer = 2 * hidden * query + 2 * hidden * kv + bias + 3 * hidden * text["intermediate_size"]
    per_layer += (4 if text["model_type"] == "gemma2" else 2) * hidden
    tables = 1 if text.get("tie_word_embeddings", is_gemma) else 2
    weights = (tables * text["vocab_size"] * hidden + layers * per_layer + hidden) * 2
    need = weights + 2 * layers * tokens * kv * 2 + tokens * text["vocab_size"] * 2 + 2 * tokens * hidden * 2
    fits = need + int(0.75 * 10**9) <= int(case.label_gib * GIB * 0.97)
    return RivalAnswer(weights_bytes=weights / case.tp, fits=fits if case.tp == 1 else None)


def vramcalc_package(row: Mapping[str, Any], configs: Path) -> RivalAnswer:
    """`estimate(...).fits` for one request of the longest length; it knows no engine, hence no pool."""
    case = case_of(row, configs)
    if case is None or (refusal := _vramcalc_refusal(case)):
        return _NOT_KNOWN if case is None else RivalAnswer(note=refusal)
    try:
        estimate = import_module("vramcalc.estimate").estimate(dict(case.text), seq_len=case.context)
        usable = int(case.label_gib * GIB * import_module("vramcalc.gpus").USABLE_RATIO)
    except ValueError as error:
        return RivalAnswer(note=f"it refuses: {error}")
    fits = estimate.total + estimate.overhead <= usable
    return RivalAnswer(weights_bytes=estimate.weights / case.tp, fits=fits if case.tp == 1 else None)


_PLANNER_ACTIVATION_GIB = {  # its calibration on vLLM 0.19, H100
    "LlamaForCausalLM": 1.89,
    "Qwen2ForCausalLM": 2.25,
    "Qwen3ForCausalLM": 2.21,
    "Mistral3ForConditionalGeneration": 2.10,
    "DeepseekV2ForCausalLM": 1.93,
    "DeepseekV3ForCausalLM": 1.93,
    "MixtralForCausalLM": 1.21,
    "Phi3ForCausalLM": 1.52,
    "Qwen2MoeForCausalLM": 2.47,
    "Qwen3MoeForCausalLM": 2.68,
    "Gemma2ForCausalLM": 3.65,
    "Gemma3ForCausalLM": 3.94,
    "GemmaForCausalLM": 3.63,
}


def llm_d_planner_reading(row: Mapping[str, Any], configs: Path) -> RivalAnswer:
    """label x utilisation - weights - a constant by architecture - 0.27 GiB (2.10 from two GPUs on), graphs 0."""
    case = case_of(row, configs)
    if case is None or case.kv_per_token is None:
        return _NOT_KNOWN
    weights = case.params * _STORED_BYTES[case.format] / case.tp
    names = case.facts.get("architectures") or [""]
    is_mixture = any(case.text.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts"))
    activation = _PLANNER_ACTIVATION_GIB.get(names[0], 2.5 if is_mixture else 2.0)
    non_torch = 0.27 if case.tp == 1 else 2.10
    pool = case.label_gib * GIB * case.utilization - weights - (activation + non_torch) * GIB
    return _answer(case, weights, pool)


def _answer(case: RivalCase, weights: float, pool: float) -> RivalAnswer:
    tokens = int(pool / case.kv_per_token) if case.kv_per_token and pool > 0 else 0
    return RivalAnswer(weights_bytes=weights, kv_pool_bytes=pool, kv_tokens=tokens, fits=tokens >= case.context)


def _vramscout_bytes(case: RivalCase) -> float:
    return {"fp32": 4.0, "fp8": 1.0, "int8": 1.05, "int4": 0.55, "mxfp4": 0.55}.get(case.format, 2.0)


def _vramcalc_refusal(case: RivalCase) -> str:
    if case.format != "bf16":
        return f"it knows no {case.format} weights"
    kind = case.text.get("model_type")
    if kind not in ("llama", "mistral", "qwen2", "gemma", "gemma2"):
        return f"model_type {kind!r} is not supported by it"
    return "" if case.text.get("intermediate_size") else "the configuration lacks intermediate_size"

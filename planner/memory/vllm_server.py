"""What a running vLLM says of its cache: the labels of the metric `vllm:cache_config_info`.

The labels are the attributes of vLLM's CacheConfig (vllm/config/cache.py), each as Python prints it, so that the set
differs by release. `block_size`, `num_gpu_blocks`, `num_gpu_blocks_override`, `gpu_memory_utilization` and
`cache_dtype` are there in 0.11 to 0.33, `kv_cache_size_tokens` in 0.32 and 0.33. There is one series for each
data-parallel engine. `num_gpu_blocks` is what vLLM found room for when it started: a measurement.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Final

from planner.memory.estimate import Engine, Estimate, Run
from planner.memory.facts import LayerKind
from planner.memory.measured import Measured
from planner.memory.vllm_kv_cache import kv_plan
from planner.memory.vllm_settings import settings_of

CACHE_CONFIG_NAMES: Final = frozenset(
    {"vllm:cache_config_info", "ray_vllm:cache_config_info", "ray_vllm_cache_config_info"}
)
"""The metric as vLLM names it, and as Ray Serve does for it."""

_LARGEST: Final = 1 << 50
_FIXED: Final = ("num_gpu_blocks_override", "kv_cache_memory_bytes", "cpu_kvcache_space_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """The labels of all engines of one server: the smallest pool of them, as they share the requests.

    `fixed_by` is the label that says that the pool was set, or weights moved out of its way: then it measures nothing.
    """

    engines: int
    block_size: int | None = None
    gpu_blocks: int | None = None
    kv_cache_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_dtype: str | None = None
    fixed_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPool:
    """The cache that a server has: blocks as it says, tokens as it says or as they follow, and their bytes.

    `bytes` is the blocks times the bytes of a block that the cache's layout gives; None where the layouts differ.
    """

    blocks: int
    tokens: int | None
    bytes: int | None


def cache_config_of(label_sets: Iterable[Mapping[str, str]]) -> CacheConfig | None:
    """The configuration that the series of one server state; None without a series."""
    engines = list(label_sets)
    if not engines:
        return None
    first = engines[0]
    utilization = _ratio(first.get("gpu_memory_utilization"))
    dtype = first.get("cache_dtype")
    return CacheConfig(
        engines=len({labels.get("engine", "0") for labels in engines}),
        block_size=_count(first.get("block_size")),
        gpu_blocks=_smallest(labels.get("num_gpu_blocks") for labels in engines),
        kv_cache_tokens=_smallest(labels.get("kv_cache_size_tokens") for labels in engines),
        gpu_memory_utilization=utilization if utilization is not None and 0 < utilization <= 1 else None,
        kv_cache_dtype=dtype if dtype not in (None, "", "None") else None,
        fixed_by=_fixed_by(first),
    )


def measured_by_server(
    *, model: str | None, version: str | None, max_model_len: int | None, cache: CacheConfig | None
) -> Measured:
    """Everything that the server states, as a start-up log would; a pool that was fixed is left out."""
    measured = Measured(engine=Engine.VLLM, engine_version=version, model=model, max_model_len=max_model_len)
    if cache is None:
        return measured
    is_measured = cache.fixed_by is None
    return replace(
        measured,
        block_size=cache.block_size,
        gpu_memory_utilization=cache.gpu_memory_utilization,
        kv_cache_dtype=cache.kv_cache_dtype,
        gpu_blocks=cache.gpu_blocks if is_measured else None,
        kv_cache_tokens=cache.kv_cache_tokens if is_measured else None,
    )


def measured_pool(run: Run, estimate: Estimate, measured: Measured) -> MeasuredPool | None:
    """The pool of a server that runs as `run` says; None where it states none.

    Tokens are the server's own count where it has one, else blocks times block size, else (several groups of layers
    share the blocks) what as many blocks hold by the layout.
    """
    if measured.gpu_blocks is None:
        return None
    plan = kv_plan(run, settings_of(run))
    block_bytes = plan.block_bytes
    has_states = any(layers.kind is LayerKind.STATE for layers in run.model.layers)
    if has_states and plan.groups and measured.block_size not in (None, plan.groups[0].block_size):
        block_bytes = 0  # the state decides how long a block is, and the server's is another
    size = measured.gpu_blocks * block_bytes or None
    tokens = measured.kv_cache_tokens
    if tokens is None and len(plan.groups) == 1 and measured.block_size is not None:
        tokens = measured.gpu_blocks * measured.block_size
    elif tokens is None and size is not None and len(plan.groups) > 1:
        tokens = plan.tokens(size, int(estimate.settings["max_model_len"]))
    return MeasuredPool(blocks=measured.gpu_blocks, tokens=tokens, bytes=size)


def with_pool(measured: Measured, pool: MeasuredPool | None) -> Measured:
    """The measurement with the bytes of its pool, which the server states as blocks only."""
    return measured if pool is None else replace(measured, kv_cache_bytes=pool.bytes, kv_cache_tokens=pool.tokens)


def _fixed_by(labels: Mapping[str, str]) -> str | None:
    for label in _FIXED:
        if labels.get(label, "None") not in ("None", ""):
            return label
    return "cpu_offload_gb" if _ratio(labels.get("cpu_offload_gb")) else None


def _smallest(values: Iterable[str | None]) -> int | None:
    counts = [_count(value) for value in values]
    known = [count for count in counts if count is not None]
    return min(known) if known and len(known) == len(counts) else None


def _count(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 16:
        return None
    return value if 0 < (value := int(text)) <= _LARGEST else None


def _ratio(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) else None

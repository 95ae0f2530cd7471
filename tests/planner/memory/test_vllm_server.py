"""The labels of vllm:cache_config_info as a measurement."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collectors.exposition import parse_exposition
from planner.memory.devices import unlisted_device
from planner.memory.engines import estimate_run
from planner.memory.estimate import Run
from planner.memory.model_catalogue import find_model
from planner.memory.vllm_server import (
    CACHE_CONFIG_NAMES,
    cache_config_of,
    measured_by_server,
    measured_pool,
    with_pool,
)
from planner.units import GIB, MIB

LABELS = {
    "block_size": "16",
    "cache_dtype": "auto",
    "cpu_offload_gb": "0",
    "engine": "0",
    "gpu_memory_utilization": "0.9",
    "kv_cache_memory_bytes": "None",
    "num_gpu_blocks": "1000",
    "num_gpu_blocks_override": "None",
}


def labels_in(path: Path) -> list[Any]:
    groups = parse_exposition(path.read_text(encoding="utf-8")).groups
    return [group.labels for group in groups if {one.name for one in group.samples} & CACHE_CONFIG_NAMES]


def test_every_label_counts() -> None:
    cache = cache_config_of([LABELS | {"cache_dtype": "fp8", "kv_cache_size_tokens": "16000"}])
    assert cache is not None
    assert (cache.block_size, cache.gpu_blocks, cache.kv_cache_tokens) == (16, 1000, 16000)
    assert (cache.gpu_memory_utilization, cache.kv_cache_dtype, cache.fixed_by) == (0.9, "fp8", None)
    assert cache_config_of([]) is None


def test_engines_share_the_requests_so_the_smallest_pool_counts() -> None:
    cache = cache_config_of([LABELS, LABELS | {"engine": "1", "num_gpu_blocks": "990"}])
    assert cache is not None
    assert (cache.engines, cache.gpu_blocks) == (2, 990)
    unknown = cache_config_of([LABELS, LABELS | {"engine": "1", "num_gpu_blocks": "None"}])
    assert unknown is not None
    assert unknown.gpu_blocks is None


@pytest.mark.parametrize("text", ["None", "", "-5", "0", "1e9", "9" * 30, "١٢", "16.0"])
def test_labels_that_are_no_counts_are_absent(text: str) -> None:
    cache = cache_config_of([LABELS | {"num_gpu_blocks": text, "gpu_memory_utilization": text or "nan"}])
    assert cache is not None
    assert cache.gpu_blocks is None
    assert cache.gpu_memory_utilization is None


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("num_gpu_blocks_override", "14"),
        ("kv_cache_memory_bytes", "1073741824"),
        ("cpu_kvcache_space_bytes", "1073741824"),
        ("cpu_offload_gb", "4.0"),
    ],
)
def test_a_pool_that_was_set_is_no_measurement(label: str, value: str) -> None:
    cache = cache_config_of([LABELS | {label: value}])
    assert cache is not None
    assert cache.fixed_by == label
    measured = measured_by_server(model="m", version="0.19.0", max_model_len=8192, cache=cache)
    assert measured.gpu_blocks is None
    assert measured.block_size == 16


def llama(**changes: Any) -> Run:
    device = unlisted_device(80 * GIB)
    run = Run(model=find_model("Llama-3.1-8B"), device=device, engine_version="0.11.0", max_model_len=8192)
    return replace(run, **changes)


def test_blocks_become_tokens_and_bytes() -> None:
    # 16 tokens x 32 layers x (key and value) x 8 heads x 128 x 2 bytes = 2 MiB a block
    run = llama(block_size=16)
    measured = measured_by_server(model="m", version="0.11.0", max_model_len=8192, cache=cache_config_of([LABELS]))
    pool = measured_pool(run, estimate_run(run), measured)
    assert pool is not None
    assert (pool.blocks, pool.tokens, pool.bytes) == (1000, 16000, 2000 * MIB)
    assert with_pool(measured, pool).kv_cache_bytes == 2000 * MIB
    assert measured_pool(run, estimate_run(run), replace(measured, gpu_blocks=None)) is None


def test_the_servers_own_count_of_tokens_goes_before_blocks() -> None:
    run = llama(model=find_model("google/gemma-3-27b-it"))
    cache = cache_config_of([LABELS | {"kv_cache_size_tokens": "12345"}])
    measured = measured_by_server(model="m", version="0.33.0", max_model_len=8192, cache=cache)
    pool = measured_pool(run, estimate_run(run), measured)
    assert pool is not None
    assert pool.tokens == 12345
    # 10 of 62 layers are global: 7 groups of 10 share the blocks, and 0.11 prints blocks // groups * block size
    shared = measured_pool(run, estimate_run(run), replace(measured, kv_cache_tokens=None))
    assert shared is not None
    assert shared.tokens == 1000 // 7 * 16


def test_blocks_whose_length_a_state_decides_are_not_turned_into_bytes_by_another_length() -> None:
    run = llama(model=find_model("Qwen/Qwen3-Next-80B-A3B-Instruct"), device=unlisted_device(200 * GIB))
    measured = measured_by_server(model="m", version="0.33.0", max_model_len=8192, cache=cache_config_of([LABELS]))
    estimate = estimate_run(run)
    assert estimate.settings["block_size"] != 16
    pool = measured_pool(run, estimate, measured)
    assert pool is not None
    assert (pool.blocks, pool.tokens, pool.bytes) == (1000, None, None)


@pytest.mark.parametrize(
    ("name", "blocks", "tokens", "share"),
    [
        ("payloads/vllm/real_vllm_v1_kops-2026-03_qwen2.5-0.5b.prom", 101625, None, 0.9),
        ("payloads/vllm/generated_from_wheel_vllm-0.11.0.prom", 27130, None, 0.9),
        ("payloads/vllm/generated_from_wheel_vllm-0.33.0_dp2.prom", 27130, None, 0.9),
        ("captured/vllm-cpu/metrics_idle_before.txt", 8192, 1048576, 0.92),
    ],
)
def test_recorded_servers_are_read(reference: Path, name: str, blocks: int, tokens: int | None, share: float) -> None:
    cache = cache_config_of(labels_in(reference / name))
    assert cache is not None
    assert (cache.gpu_blocks, cache.kv_cache_tokens, cache.gpu_memory_utilization) == (blocks, tokens, share)
    assert cache.engines == (2 if "dp2" in name else 1)
    assert cache.fixed_by == ("kv_cache_memory_bytes" if "cpu" in name else None)

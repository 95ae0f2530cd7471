"""The key-value cache: worked cases to the last printed digit, and the laws of its layout."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.vllm_kv_cache import KvPlan, kv_plan
from planner.memory.vllm_settings import settings_of
from planner.memory.vllm_versions import ContradictoryRun
from planner.units import GIB
from tests.planner.memory.vllm_cases import (
    DEEPSEEK_V2_LITE,
    GEMMA_1B,
    GEMMA_27B,
    GPT_OSS_120B,
    LLAMA_8B,
    QWEN36_27B,
    run,
)


def plan_of(config: dict[str, object], **settings: object) -> KvPlan:
    one = run(config, **settings)  # type: ignore[arg-type]
    return kv_plan(one, settings_of(one))


def test_gemma_27b_as_logged() -> None:
    plan = plan_of(GEMMA_27B, engine_version="0.11.0", max_model_len=4096, max_num_batched_tokens=8192)
    assert (len(plan.groups), plan.block_bytes) == (7, 1_310_720)
    assert plan.blocks_per_request(4096) == 256 + 6 * 257
    pool = 89_994 * plan.block_bytes
    assert f"{pool / GIB:.2f}" == "109.86"
    assert f"{plan.concurrency(pool, 4096):.2f}" == "50.05"
    assert plan.tokens(pool, 4096) == 205_696


def test_gemma_1b_as_logged() -> None:
    plan = plan_of(GEMMA_1B, engine_version="0.11.0", max_model_len=2048, max_num_batched_tokens=8192)
    assert (len(plan.groups), plan.block_bytes) == (7, 65_536)
    assert plan.blocks_per_request(2048) == 128 + 6 * 129
    pool = 416_008 * plan.block_bytes
    assert f"{pool / GIB:.2f}" == "25.39"
    assert f"{plan.concurrency(pool, 2048):.2f}" == "461.21"
    assert plan.tokens(pool, 2048) == 950_864


def test_gpt_oss_on_four_ranks_as_logged() -> None:
    plan = plan_of(
        GPT_OSS_120B,
        engine_version="0.10.1.1",
        max_model_len=16384,
        max_num_batched_tokens=2048,
        tensor_parallel=4,
    )
    assert (len(plan.groups), plan.block_bytes) == (2, 147_456)
    assert plan.blocks_per_request(16384) == 1024 + 137
    pool = 330_018 * plan.block_bytes
    assert f"{pool / GIB:.2f}" == "45.32"
    assert f"{plan.concurrency(pool, 16384):.2f}" == "284.25"


@pytest.mark.parametrize(
    ("settings", "pool_gib", "block", "tokens"),
    [
        ({"engine_version": "0.24.0", "kv_cache_dtype": "fp8", "max_model_len": 131072}, 4.99, 1568, 302_921),
        (
            {
                "engine_version": "0.24.0",
                "kv_cache_dtype": "fp8_e5m2",
                "max_model_len": 262144,
                "speculative_tokens": 3,
                "speculative_layers": 1,
            },
            424 * 17 * 1_638_400 / GIB,
            1600,
            620_944,
        ),
    ],
)
def test_states_share_pages_with_attention_as_logged(
    settings: dict[str, object], pool_gib: float, block: int, tokens: int
) -> None:
    plan = plan_of(QWEN36_27B, tensor_parallel=2, **settings)
    assert {group.block_size for group in plan.groups} == {block}
    assert len(plan.groups) == 4
    assert plan.tokens(int(pool_gib * GIB), int(str(settings["max_model_len"]))) == tokens


def test_older_versions_keep_one_state_and_print_blocks_by_group() -> None:
    plan = plan_of(QWEN36_27B, engine_version="0.19.0", max_model_len=32768, max_num_batched_tokens=16384)
    pool = 1487 * plan.block_bytes
    assert plan.groups[0].block_size == 784
    assert plan.tokens(pool, 32768) == 290_864
    assert f"{plan.concurrency(pool, 32768):.2f}" == "33.04"


@pytest.mark.parametrize(
    ("config", "settings", "row"),
    [
        (LLAMA_8B, {}, 131_072),
        (LLAMA_8B, {"dtype": "float32"}, 262_144),
        (LLAMA_8B, {"kv_cache_dtype": "fp8"}, 65_536),
        (LLAMA_8B, {"tensor_parallel": 8}, 16_384),
        (LLAMA_8B, {"tensor_parallel": 16}, 16_384),  # heads are copied, not halved
        (LLAMA_8B, {"speculative_layers": 1}, 135_168),
        (DEEPSEEK_V2_LITE, {}, 27 * 576 * 2),
        (DEEPSEEK_V2_LITE, {"tensor_parallel": 4}, 27 * 576 * 2),  # the latent is the same on every rank
    ],
)
def test_bytes_per_token(config: dict[str, object], settings: dict[str, object], row: int) -> None:
    assert plan_of(config, engine_version="0.19.0", **settings).bytes_per_token == row


def test_before_latent_caches_heads_were_spelled_out() -> None:
    old, new = (plan_of(DEEPSEEK_V2_LITE, engine_version=text) for text in ("0.7.0", "0.7.1"))
    assert old.bytes_per_token > 10 * new.bytes_per_token


def test_without_groups_sliding_layers_keep_everything() -> None:
    old = plan_of(GEMMA_27B, engine_version="0.8.5")
    assert len(old.groups) == 1
    assert old.bytes_per_token == 62 * 8192


def test_chunked_attention_is_charged_in_full() -> None:
    one = run(GEMMA_27B, engine_version="0.19.0")
    chunked = replace(one, model=replace(one.model, model_type="llama4_text"))
    assert kv_plan(chunked, settings_of(chunked)).bytes_per_token == 62 * 8192


@given(st.integers(1, 131_072), st.integers(1, 131_072), st.sampled_from([LLAMA_8B, GEMMA_27B, QWEN36_27B]))
def test_a_longer_request_never_takes_less(one: int, other: int, config: dict[str, object]) -> None:
    plan = plan_of(config, engine_version="0.24.0")
    short, long = sorted((one, other))
    assert plan.blocks_per_request(short) <= plan.blocks_per_request(long)


@given(st.integers(0, 200 * GIB), st.integers(1, 131_072))
def test_half_the_bytes_hold_twice_the_tokens(pool: int, length: int) -> None:
    whole = plan_of(LLAMA_8B, engine_version="0.19.0").tokens(pool, length)
    half = plan_of(LLAMA_8B, engine_version="0.19.0", kv_cache_dtype="fp8").tokens(pool, length)
    assert whole is not None
    assert half is not None
    assert 0 <= half - 2 * whole <= 16


@given(st.integers(0, 60 * GIB), st.sampled_from([LLAMA_8B, GEMMA_27B, QWEN36_27B, DEEPSEEK_V2_LITE]))
def test_the_longest_context_fits_and_one_more_token_does_not(pool: int, config: dict[str, object]) -> None:
    plan = plan_of(config, engine_version="0.24.0")
    longest = plan.longest(pool, 10**7)
    if longest:
        assert plan.bytes_per_request(longest) <= pool
    if longest < 10**7:
        assert plan.bytes_per_request(longest + 1) > plan.blocks(pool) * plan.block_bytes


def test_refuses_an_unknown_cache_type() -> None:
    for name in ("int3", "fp8_rubbish", "int8xyz", "bf16", "fp16", "float32"):
        with pytest.raises(ContradictoryRun, match=name):
            plan_of(LLAMA_8B, kv_cache_dtype=name)

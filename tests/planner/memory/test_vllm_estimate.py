"""The whole estimate: the pool against logs, the verdict, and the laws that hold for any run."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.estimate import Estimate, Run, Verdict
from planner.memory.model_catalogue import find_model
from planner.memory.vllm import estimate_vllm
from planner.memory.vllm_versions import ContradictoryRun
from planner.units import GIB
from tests.planner.memory.vllm_cases import (
    DEEPSEEK_V2_LITE,
    GEMMA_27B,
    GPT_OSS_120B,
    LLAMA_8B,
    QWEN36_27B,
    device,
    run,
)

ORDER = (Verdict.FITS, Verdict.TIGHT, Verdict.DOES_NOT_FIT)
CONFIGS = (LLAMA_8B, GEMMA_27B, DEEPSEEK_V2_LITE, GPT_OSS_120B, QWEN36_27B)
VERSIONS = ("0.7.3", "0.10.2", "0.17.1", "0.19.0", "0.21.0", "0.31.0")


def needed(estimate: Estimate) -> float:
    """What the smallest sufficient budget is, in bytes."""
    taken = sum(term.bytes for term in estimate.terms if term.name != "kv_cache")
    return taken + float(estimate.settings["max_model_len"]) * (estimate.kv_bytes_per_token or 0)


@pytest.mark.parametrize(
    ("settings", "pool", "concurrency"),
    [
        ({"engine_version": "0.11.0", "max_model_len": 16000}, 51.38, None),
        ({"engine_version": "0.31.0", "max_model_len": 131072, "device": device(79.25, name="A100-80GB")}, 56.21, 3.51),
    ],
)
def test_pool_as_logged(settings: dict[str, object], pool: float, concurrency: float | None) -> None:
    estimate = estimate_vllm(run(**settings))  # type: ignore[arg-type]
    assert estimate.kv_cache_bytes / GIB == pytest.approx(pool, rel=0.01)
    assert estimate.kv_cache_low_bytes < estimate.kv_cache_bytes < estimate.kv_cache_high_bytes
    if concurrency is not None:
        assert estimate.max_concurrency == pytest.approx(concurrency, rel=0.02)


def test_a_slice_as_logged() -> None:
    one = run(
        device=device(69.75, mig=True, name="H200 NVL 3g.71gb"),
        engine_version="0.17.1",
        max_model_len=2668,
        max_num_batched_tokens=2668,
        gpu_memory_utilization=0.9,
    )
    estimate = estimate_vllm(one)
    assert estimate.kv_cache_bytes / GIB == pytest.approx(47.14, rel=0.002)
    assert estimate.max_concurrency == pytest.approx(144.51, rel=0.002)


def test_the_reason_gives_numbers() -> None:
    estimate = estimate_vllm(run(gib=16.0, engine_version="0.19.0", max_model_len=8192))
    assert estimate.verdict is Verdict.DOES_NOT_FIT
    assert "weights 15.0" in estimate.reasons[0]
    assert "gives 14.4 GiB (0.90 of 16.0)" in estimate.reasons[0]


def test_weights_beyond_the_device_are_said_first() -> None:
    estimate = estimate_vllm(run(gib=10.0, max_model_len=2048))
    assert estimate.reasons[0].startswith("The weights alone need 15.0 GiB")


def test_a_context_too_long_names_the_longest() -> None:
    estimate = estimate_vllm(run(gib=22.16, engine_version="0.19.0", max_model_len=131072))
    assert estimate.verdict is Verdict.DOES_NOT_FIT
    assert "the longest that fits is" in estimate.reasons[1]


def test_a_limit_inside_the_range_is_tight() -> None:
    verdicts = {
        estimate_vllm(run(gib=gib / 10, engine_version="0.19.0", max_model_len=8192)).verdict for gib in range(170, 220)
    }
    assert verdicts == set(ORDER)


def test_late_allocations_make_a_mixture_tight() -> None:
    twenty = {**GPT_OSS_120B, "num_hidden_layers": 24, "num_local_experts": 32, "layer_types": ["full_attention"] * 24}
    settings = {"engine_version": "0.19.0", "max_model_len": 8192}
    assert estimate_vllm(run(twenty, gpu_memory_utilization=0.95, **settings)).verdict is Verdict.TIGHT  # type: ignore[arg-type]
    assert estimate_vllm(run(twenty, gpu_memory_utilization=0.9, **settings)).verdict is Verdict.FITS  # type: ignore[arg-type]


def test_flags_spell_out_every_default() -> None:
    flags = " ".join(estimate_vllm(run(engine_version="0.19.0", max_model_len=4096)).flags)
    for flag in (
        "--max-model-len 4096",
        "--max-num-seqs 1024",
        "--max-num-batched-tokens 8192",
        "--gpu-memory-utilization 0.9",
        "--tensor-parallel-size 1",
        "--kv-cache-dtype auto",
    ):
        assert flag in flags


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (run(tensor_parallel=3), "attention heads"),
        (run(device=device(69.75, mig=True), tensor_parallel=2), "MIG"),
        (run(pipeline_parallel=64), "pipeline stages"),
        (run(GPT_OSS_120B, quantization="awq"), "stored as mxfp4"),
        (run(device=device(14.74, name="T4", architecture="Turing"), dtype="bfloat16"), "float16"),
        (
            run(
                {**LLAMA_8B, "num_attention_heads": 40, "num_key_value_heads": 5, "hidden_size": 5120},
                tensor_parallel=2,
            ),
            "key-value heads",
        ),
        (
            run(
                {**LLAMA_8B, "num_attention_heads": 40, "num_key_value_heads": 40, "hidden_size": 5120},
                tensor_parallel=5,
            ),
            "vocabulary",
        ),
    ],
)
def test_refuses_what_cannot_run(one: Run, word: str) -> None:
    with pytest.raises(ContradictoryRun, match=word):
        estimate_vllm(one)


def test_a_model_that_is_not_text_is_refused() -> None:
    one = run()
    with pytest.raises(ContradictoryRun, match="does not generate text"):
        estimate_vllm(replace(one, model=replace(one.model, is_text=False)))


def test_says_what_was_assumed() -> None:
    sentences = " ".join(estimate_vllm(run()).assumed)
    assert "No version of vLLM was given" in sentences
    assert "max_num_seqs" in sentences


@given(
    st.sampled_from(CONFIGS),
    st.sampled_from(VERSIONS),
    st.integers(256, 131_072),
    st.integers(256, 131_072),
)
def test_more_context_never_needs_less(config: dict[str, object], version: str, one: int, other: int) -> None:
    estimates = [
        estimate_vllm(run(config, engine_version=version, max_model_len=length)) for length in sorted((one, other))
    ]
    assert needed(estimates[0]) <= needed(estimates[1])
    assert ORDER.index(estimates[0].verdict) <= ORDER.index(estimates[1].verdict)


@given(st.sampled_from(CONFIGS), st.sampled_from(VERSIONS), st.integers(1, 2048), st.integers(1, 2048))
def test_more_sequences_never_leave_more(config: dict[str, object], version: str, one: int, other: int) -> None:
    few, many = (
        estimate_vllm(run(config, engine_version=version, max_model_len=4096, max_num_seqs=count))
        for count in sorted((one, other))
    )
    assert many.kv_cache_bytes <= few.kv_cache_bytes


@given(st.sampled_from(VERSIONS), st.integers(4, 64), st.integers(4, 64))
def test_more_layers_never_need_less(version: str, one: int, other: int) -> None:
    few, many = (
        estimate_vllm(run({**LLAMA_8B, "num_hidden_layers": count}, engine_version=version, max_model_len=4096))
        for count in sorted((one, other))
    )
    assert needed(few) <= needed(many)
    assert ORDER.index(few.verdict) <= ORDER.index(many.verdict)


@given(st.sampled_from(CONFIGS), st.sampled_from(VERSIONS), st.floats(0.3, 0.99), st.floats(0.3, 0.99))
def test_a_larger_share_never_leaves_less(config: dict[str, object], version: str, one: float, other: float) -> None:
    small, large = (
        estimate_vllm(run(config, engine_version=version, max_model_len=4096, gpu_memory_utilization=share))
        for share in sorted((one, other))
    )
    assert small.kv_cache_bytes <= large.kv_cache_bytes


@given(st.sampled_from(CONFIGS), st.sampled_from(VERSIONS), st.floats(8, 200))
def test_the_smallest_share_fits_when_it_is_asked_for_and_a_hundredth_less_does_not(
    config: dict[str, object], version: str, gib: float
) -> None:
    one = run(config, gib=gib, engine_version=version, max_model_len=4096)
    estimate = estimate_vllm(one)
    share = estimate.settings.get("smallest_gpu_memory_utilization")
    if share is None:
        assert estimate.verdict is not Verdict.FITS
        return
    assert estimate_vllm(replace(one, gpu_memory_utilization=float(share))).verdict is Verdict.FITS
    if float(share) > 0.01:
        less = estimate_vllm(replace(one, gpu_memory_utilization=round(float(share) - 0.01, 2)))
        assert less.verdict is not Verdict.FITS


def test_the_smallest_share_of_the_reported_run_fits() -> None:
    one = Run(
        model=find_model("Qwen/Qwen2.5-7B-Instruct"),
        device=device(22.16, name="L4", architecture="Ada"),
        max_model_len=8192,
        max_num_seqs=8,
    )
    share = float(estimate_vllm(one).settings["smallest_gpu_memory_utilization"])
    assert estimate_vllm(replace(one, gpu_memory_utilization=share)).verdict is Verdict.FITS


def test_says_when_not_all_sequences_find_room_at_their_longest() -> None:
    few = estimate_vllm(run(max_model_len=8192, max_num_seqs=300, engine_version="0.31.0"))
    assert few.max_concurrency is not None
    assert few.max_concurrency < 300
    assert f"room for {few.max_concurrency:.1f} requests of the longest length at once" in few.reasons[1]
    all_of_them = estimate_vllm(run(max_model_len=8192, max_num_seqs=8, engine_version="0.31.0"))
    assert "at once" not in all_of_them.reasons[1]


@given(st.sampled_from(CONFIGS), st.sampled_from(VERSIONS), st.floats(1, 300))
def test_terms_hold_their_ranges_and_add_up(config: dict[str, object], version: str, gib: float) -> None:
    estimate = estimate_vllm(run(config, gib=gib, engine_version=version, max_model_len=4096))
    taken = [term for term in estimate.terms if term.name != "kv_cache"]
    assert all(term.low <= term.bytes <= term.high for term in taken)
    assert estimate.kv_cache_bytes == estimate.budget_bytes - sum(term.bytes for term in taken)
    assert estimate.kv_cache_low_bytes <= estimate.kv_cache_bytes <= estimate.kv_cache_high_bytes
    if estimate.verdict is Verdict.FITS:
        assert estimate.max_concurrency is not None
        assert estimate.max_concurrency >= 1

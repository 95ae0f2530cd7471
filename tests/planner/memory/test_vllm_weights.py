"""Weights per rank: the logged numbers, and the laws that hold for every model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.facts import WeightFormat
from planner.memory.vllm_padding import allocated
from planner.memory.vllm_settings import settings_of
from planner.memory.vllm_versions import ContradictoryRun
from planner.memory.vllm_weights import MIB, bytes_per_parameter, weights_of
from planner.units import GIB
from tests.planner.memory.vllm_cases import DEEPSEEK_V2_LITE, GPT_OSS_120B, LLAMA_8B, device, run


@pytest.mark.parametrize(
    ("settings", "logged"),
    [
        ({"engine_version": "0.10.0"}, 14.9889),
        ({"engine_version": "0.19.0", "tensor_parallel": 2}, 7.51),
        ({"engine_version": "0.19.0", "dtype": "float32"}, 29.98),
        ({"engine_version": "0.10.0", "quantization": "fp8"}, 8.4889),
    ],
)
def test_llama_8b_as_logged(settings: dict[str, object], logged: float) -> None:
    one = run(**settings)  # type: ignore[arg-type]
    assert weights_of(one, settings_of(one)).total / GIB == pytest.approx(logged, rel=0.001)


@pytest.mark.parametrize(
    ("architecture", "tensor_parallel", "logged"), [("Hopper", 1, 64.38), ("Ampere", 1, 65.97), ("Ampere", 4, 17.22)]
)
def test_gpt_oss_grows_with_the_kernel_that_the_device_takes(
    architecture: str, tensor_parallel: int, logged: float
) -> None:
    one = run(GPT_OSS_120B, device=device(architecture=architecture), tensor_parallel=tensor_parallel)
    assert weights_of(one, settings_of(one)).total / GIB == pytest.approx(logged, rel=0.005)


def test_allocator_keeps_a_rest_of_up_to_one_mebibyte() -> None:
    assert allocated(512) == 512
    assert allocated(513) == 1024
    assert allocated(12 * MIB) == 12 * MIB
    assert allocated(13 * MIB) == 14 * MIB
    assert allocated(12 * MIB + 512) == 12 * MIB + 512


@given(st.integers(1, 2**34))
def test_allocator_never_gives_less_nor_much_more(size: int) -> None:
    assert size <= allocated(size) <= size + MIB


@given(st.sampled_from([LLAMA_8B, DEEPSEEK_V2_LITE, GPT_OSS_120B]), st.sampled_from([1, 2, 4, 8]))
def test_more_ranks_never_hold_more_each(config: dict[str, object], ranks: int) -> None:
    fewer, more = run(config, tensor_parallel=ranks), run(config, tensor_parallel=2 * ranks)
    if GPT_OSS_120B is config:  # padding of its experts may eat part of the gain, never all of it
        assert weights_of(more, settings_of(more)).total < weights_of(fewer, settings_of(fewer)).total
        return
    assert weights_of(more, settings_of(more)).total <= weights_of(fewer, settings_of(fewer)).total


@given(st.sampled_from(["fp8", "fp8 (online)", "int8", "awq", "gptq", "bitsandbytes", "nvfp4", "mxfp4"]))
def test_quantised_never_needs_more_than_sixteen_bit(quantization: str) -> None:
    plain, small = run(), run(quantization=quantization)
    assert weights_of(small, settings_of(small)).total <= weights_of(plain, settings_of(plain)).total


def test_bytes_per_parameter_count_their_scales() -> None:
    assert bytes_per_parameter(WeightFormat.AWQ, 128, 4) == pytest.approx(0.5195, abs=1e-4)
    assert bytes_per_parameter(WeightFormat.AWQ, 32, 4) > bytes_per_parameter(WeightFormat.AWQ, 128, 4)
    assert bytes_per_parameter(WeightFormat.NF4) == 0.5625


def test_unknown_quantisation_is_named() -> None:
    with pytest.raises(ContradictoryRun, match="exl9"):
        weights_of(run(quantization="exl9"), settings_of(run()))


@given(st.floats(0.001, 0.5))
def test_the_range_holds_the_estimate(share: float) -> None:
    one = run(gpu_memory_utilization=share)
    weights = weights_of(one, settings_of(one))
    assert weights.low <= weights.total <= weights.high

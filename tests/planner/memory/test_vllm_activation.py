"""Peak of the profiling step against logged peaks of dense, mixture and multimodal models."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.vllm_activation import activation_of, multiprocessors
from planner.memory.vllm_overheads import captured_sizes, graphs_of, lora_of, non_torch_of, smallest_share
from planner.memory.vllm_versions import settings_of
from planner.units import GIB
from tests.planner.memory.vllm_cases import DEEPSEEK_V2_LITE, GEMMA_27B, LLAMA_8B, device, run


@pytest.mark.parametrize(
    ("config", "settings", "logged"),
    [
        (LLAMA_8B, {"engine_version": "0.11.0"}, 4.76),
        (LLAMA_8B, {"engine_version": "0.19.0"}, 1.89),
        (LLAMA_8B, {"engine_version": "0.19.0", "tensor_parallel": 2}, 1.89),
        (DEEPSEEK_V2_LITE, {"engine_version": "0.19.0"}, 1.93),
        (LLAMA_8B, {"engine_version": "0.10.0 V0", "max_model_len": 131072}, 13.53),
    ],
)
def test_peak_as_logged(config: dict[str, object], settings: dict[str, object], logged: float) -> None:
    one = run(config, **settings)  # type: ignore[arg-type]
    assert activation_of(one, settings_of(one)).total / GIB == pytest.approx(logged, rel=0.01)


@pytest.mark.parametrize(("hidden", "logged"), [(5376, 3.99), (3840, 3.94)])
def test_a_vision_tower_keeps_its_pixels_and_embeddings(hidden: int, logged: float) -> None:
    one = run({**GEMMA_27B, "hidden_size": hidden}, engine_version="0.19.0")
    model = replace(one.model, parameters=replace(one.model.parameters, tower=420_000_000))
    with_tower = replace(one, model=model)
    assert activation_of(with_tower, settings_of(with_tower)).total / GIB == pytest.approx(logged, rel=0.01)


@given(
    st.integers(1, 2048), st.integers(1, 2048), st.integers(1, 2**17), st.sampled_from(["0.16.0", "0.19.0", "0.31.0"])
)
def test_more_sequences_or_tokens_never_need_less(one: int, other: int, tokens: int, version: str) -> None:
    few, many = (
        run(engine_version=version, max_num_seqs=count, max_num_batched_tokens=tokens) for count in sorted((one, other))
    )
    less, more = (activation_of(each, settings_of(each)).total for each in (few, many))
    assert less <= more
    wide = replace(many, max_num_batched_tokens=2 * tokens)
    assert more <= activation_of(wide, settings_of(wide)).total


@given(st.integers(1, 2048), st.integers(1, 2**17), st.sampled_from(["0.5.4", "0.10.0", "0.12.0", "0.19.0", "0.31.0"]))
def test_the_range_holds_the_estimate(sequences: int, tokens: int, version: str) -> None:
    one = run(engine_version=version, max_num_seqs=sequences, max_num_batched_tokens=tokens)
    activation = activation_of(one, settings_of(one))
    assert activation.low <= activation.total <= activation.high


def test_only_the_last_stage_samples() -> None:
    one = run(engine_version="0.19.0", pipeline_parallel=2)
    settings = settings_of(one)
    assert activation_of(one, settings, last_stage=False).total < activation_of(one, settings).total


def test_a_slice_has_its_share_of_multiprocessors() -> None:
    assert multiprocessors(device(name="H200-141GB")) == 132
    assert multiprocessors(device(name="H200-141GB 3g.71gb", mig=True)) == 57


def test_non_torch_grows_with_ranks_and_version() -> None:
    def amount(**settings: object) -> float:
        one = run(**settings)  # type: ignore[arg-type]
        return non_torch_of(one, settings_of(one)).total / GIB

    assert amount(engine_version="0.16.0") == pytest.approx(0.13)
    assert amount(engine_version="0.19.0") == pytest.approx(0.25)
    assert amount(engine_version="0.19.0", tensor_parallel=4) == pytest.approx(2.09)
    pcie = device(23.58, name="RTX 3090", architecture="Ampere")
    assert amount(engine_version="0.19.0", tensor_parallel=4, device=pcie) == pytest.approx(0.55)


def test_graphs_are_captured_by_batch_size() -> None:
    one = run(engine_version="0.19.0")
    assert captured_sizes(settings_of(one)) == 51
    few = run(engine_version="0.19.0", max_num_seqs=8)
    assert captured_sizes(settings_of(few)) < 10
    eager = run(engine_version="0.31.0", enforce_eager=True)
    assert graphs_of(eager, settings_of(eager)).total == 0


def test_adapters_take_their_slots() -> None:
    without, with_adapters = run(), run(max_loras=1, max_lora_rank=64)
    assert lora_of(without, settings_of(without)).total == 0
    one = lora_of(with_adapters, settings_of(with_adapters)).total
    two = run(max_loras=2, max_lora_rank=64)
    assert lora_of(two, settings_of(two)).total == 2 * one


def test_smallest_share_is_rounded_up() -> None:
    assert smallest_share(51, 100) == 0.51
    assert smallest_share(511, 1000) == 0.52
    assert smallest_share(101, 100) is None

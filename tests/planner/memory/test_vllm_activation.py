"""Peak of the profiling step against logged peaks of dense, mixture and multimodal models."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.model_catalogue import find_model
from planner.memory.vllm_activation import activation_of, multiprocessors, old_encoder_peak
from planner.memory.vllm_overheads import captured_sizes, graphs_of, lora_of, non_torch_of
from planner.memory.vllm_settings import settings_of
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
    tokens = max(tokens, one, other)
    few, many = (
        run(engine_version=version, max_num_seqs=count, max_num_batched_tokens=tokens) for count in sorted((one, other))
    )
    less, more = (activation_of(each, settings_of(each)).total for each in (few, many))
    assert less <= more
    wide = replace(many, max_num_batched_tokens=2 * tokens)
    assert more <= activation_of(wide, settings_of(wide)).total


@given(st.integers(1, 2048), st.integers(1, 2**17), st.sampled_from(["0.5.4", "0.10.0", "0.12.0", "0.19.0", "0.31.0"]))
def test_the_range_holds_the_estimate(sequences: int, tokens: int, version: str) -> None:
    one = run(engine_version=version, max_num_seqs=sequences, max_num_batched_tokens=max(tokens, sequences))
    activation = activation_of(one, settings_of(one))
    assert activation.low <= activation.total <= activation.high


FALCON_40B: dict[str, object] = {
    "architectures": ["FalconForCausalLM"],
    "model_type": "falcon",
    "hidden_size": 8192,
    "num_hidden_layers": 60,
    "num_attention_heads": 128,
    "num_kv_heads": 8,
    "new_decoder_architecture": True,
    "vocab_size": 65024,
    "max_position_embeddings": 2048,
}
NEMOTRON_49B: dict[str, object] = {
    "architectures": ["DeciLMForCausalLM"],
    "model_type": "nemotron-nas",
    "hidden_size": 8192,
    "num_hidden_layers": 4,
    "num_attention_heads": 64,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "block_configs": [
        {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": ratio, "no_op": False}}
        for ratio in (5.25, 1.3125, 0.5, 2.625)
    ],
}


@pytest.mark.parametrize(
    ("config", "widths"),
    [
        (FALCON_40B, 2 * 4 * 8192),  # two matrices, four hidden sizes wide
        (NEMOTRON_49B, 3 * 28672),  # of 28,672, 7,168, 2,816 and 14,336 the widest
    ],
)
def test_an_inner_size_that_no_field_states_is_that_of_the_widest_layer(config: dict[str, object], widths: int) -> None:
    one = run(config, engine_version="0.19.0", max_num_batched_tokens=65536, max_num_seqs=8, max_model_len=2048)
    by_hand = 65536 * 2 * (widths + 4 * 8192)
    assert activation_of(one, settings_of(one)).total == pytest.approx(by_hand, rel=0.01)


def test_without_any_inner_size_the_parameters_tell_the_mean_and_the_range_allows_twice_that() -> None:
    one = run(engine_version="0.19.0", max_num_batched_tokens=65536, max_num_seqs=8)
    stated = activation_of(one, settings_of(one))
    unstated = replace(one, model=replace(one.model, intermediate_size=None))
    found = activation_of(unstated, settings_of(unstated))
    assert found.total == pytest.approx(stated.total, rel=0.001)
    assert found.high - found.total >= 65536 * 2 * 3 * 14336


def test_v0_profiles_an_image_for_every_sequence_of_a_model_that_looks_across() -> None:
    model = find_model("meta-llama/Llama-3.2-11B-Vision-Instruct")
    many, few = (replace(run(engine_version="0.6.3", max_num_seqs=count), model=model) for count in (256, 16))
    pixels = 256 * 4 * 3 * 560 * 560 * 2  # vllm#10569: pixel_values [256, 1, 1, 4, 3, 560, 560] in 16 bit
    assert old_encoder_peak(many, settings_of(many)) > pixels
    assert old_encoder_peak(few, settings_of(few)) * 16 == old_encoder_peak(many, settings_of(many))
    assert activation_of(many, settings_of(many)).high >= old_encoder_peak(many, settings_of(many))
    assert (
        old_encoder_peak(replace(many, engine_version="0.10.2"), settings_of(replace(many, engine_version="0.10.2")))
        == 0
    )


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

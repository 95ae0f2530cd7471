"""The built-in models: that every row holds together, and that a user's spelling finds it."""

import pytest

from planner.memory.errors import UnreadableModel
from planner.memory.facts import WeightFormat
from planner.memory.families import families
from planner.memory.model_catalogue import find_model, known_models, model_rows

PUBLISHED = {
    "deepseek-ai/DeepSeek-R1": 671.03,
    "openai/gpt-oss-120b": 116.83,
    "openai/gpt-oss-20b": 20.914,
    "meta-llama/Meta-Llama-3.1-405B": 405.85,
    "mistralai/Mixtral-8x7B-v0.1": 46.70,
    "deepseek-ai/DeepSeek-V2-Lite": 15.706,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8.292,
    "meta-llama/Llama-3.2-11B-Vision-Instruct": 10.670,
    "google/gemma-3-27b-it": 27.432,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 108.642,
    "tiiuae/falcon-7b": 6.922,
    "CohereLabs/c4ai-command-r-plus": 103.811,
    "microsoft/phi-4": 14.660,
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1": 49.867,
}
"""Thousands of millions of parameters as the model cards and safetensors indices state them."""


def test_at_least_a_hundred_models_are_known_and_read_without_doubt() -> None:
    models = known_models()
    assert len(models) >= 100
    unknown = [
        name for name, facts in models.items() if any("not known here" in sentence for sentence in facts.assumed)
    ]
    assert unknown == []


@pytest.mark.parametrize("name", sorted(model_rows()))
def test_a_row_counts_what_it_states(name: str) -> None:
    assert known_models()[name].parameters.total == model_rows()[name].parameters


def test_most_rows_were_checked_against_transformers() -> None:
    assert sum(row.checked for row in model_rows().values()) >= 180


@pytest.mark.parametrize(("name", "billions"), PUBLISHED.items())
def test_counts_are_those_that_were_published(name: str, billions: float) -> None:
    assert known_models()[name].parameters.total / 1e9 == pytest.approx(billions, rel=2e-4)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("LLAMA-3.1-8B-INSTRUCT", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Meta-Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B"),
        (" meta-llama/Meta-Llama-3.1-8B ", "meta-llama/Meta-Llama-3.1-8B"),
    ],
)
def test_names_aliases_and_short_names_find_the_model_that_was_named(text: str, name: str) -> None:
    """An engine is started with the name: another checkpoint of the same sizes would be another model."""
    assert find_model(text).name == name


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        # max_position_embeddings of the published config.json
        ("Qwen/Qwen2.5-7B", 131_072),
        ("Qwen/Qwen2.5-7B-Instruct", 32_768),
        ("Qwen/Qwen3-4B", 40_960),
        ("Qwen/Qwen3-4B-Instruct-2507", 262_144),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", 262_144),
        ("microsoft/Phi-3.5-mini-instruct", 131_072),
        ("google/gemma-3-1b-it", 32_768),
        ("CohereLabs/c4ai-command-r-v01", 131_072),  # model_max_length, which vLLM takes
    ],
)
def test_aliases_have_their_own_context(text: str, positions: int) -> None:
    assert find_model(text).max_positions == positions


def test_an_alias_may_be_quantised_otherwise() -> None:
    thinking = find_model("moonshotai/Kimi-K2-Thinking").quantisation
    assert thinking is not None
    assert (thinking.format, thinking.group_size) == (WeightFormat.GPTQ, 32)
    assert thinking.kept_shares["attention"] == 1
    assert "experts" not in thinking.kept_shares
    instruct = find_model("moonshotai/Kimi-K2-Instruct").quantisation
    assert instruct is not None
    assert instruct.format is WeightFormat.FP8_BLOCK


@pytest.mark.parametrize(
    ("text", "base", "format"),
    [
        ("Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B", WeightFormat.FP8_BLOCK),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "meta-llama/Llama-3.3-70B-Instruct", WeightFormat.FP8),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "meta-llama/Meta-Llama-3.1-8B", WeightFormat.INT8),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B", WeightFormat.AWQ),
        ("unsloth/meta-llama-3.1-8b-instruct-unsloth-bnb-4bit", "meta-llama/Meta-Llama-3.1-8B", WeightFormat.NF4),
        ("unsloth/Llama-3.2-3B-Instruct", "meta-llama/Llama-3.2-3B", None),
    ],
)
def test_copies_are_told_by_their_names_and_said_to_be(text: str, base: str, format: WeightFormat | None) -> None:
    facts = find_model(text)
    assert facts.parameters == known_models()[base].parameters
    assert (facts.quantisation.format if facts.quantisation else None) is format
    assert f"taken for a copy of {base}" in facts.assumed[-1]


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UnreadableModel, match=r"near names are .*Qwen/Qwen3-32B"):
        find_model("Qwen3-33B")
    with pytest.raises(UnreadableModel, match="no name is near"):
        find_model("zzzzzzzzzzzz")


def test_every_family_can_be_read() -> None:
    assert len(families()) > 100

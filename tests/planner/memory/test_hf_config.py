"""Configurations as facts: what must be exact, what is refused, and what is said to be assumed."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.errors import UnreadableModel
from planner.memory.facts import LayerKind, ModelFacts, WeightFormat
from planner.memory.hf_config import facts_from_config

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
COUNTS = [
    json.loads(line)
    for line in (Path(__file__).parent / "transformers_counts.jsonl").read_text(encoding="utf-8").splitlines()
]


def without(field: str) -> dict[str, Any]:
    return {key: value for key, value in LLAMA.items() if key != field}


def test_llama_is_counted_as_published() -> None:
    facts = facts_from_config(LLAMA, name="Llama-3.1-8B")
    assert facts.parameters.total == 8_030_261_248
    assert facts.parameters.embedding == facts.parameters.head == 128256 * 4096
    assert facts.layers[0].kv_heads == 8
    assert (facts.layers[0].kind, facts.layers[0].count, facts.layers[0].key_size) == (LayerKind.FULL, 32, 128)
    assert (facts.dtype, facts.assumed, facts.experts) == (WeightFormat.BF16, (), None)


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: row["config"]["model_type"])
def test_every_family_is_counted_like_transformers(row: dict[str, Any]) -> None:
    facts = facts_from_config(row["config"], name="a small one")
    assert facts.parameters.total == row["parameters"]


@pytest.mark.parametrize(
    "row", [row for row in COUNTS if row["sliding"] is not None], ids=lambda row: row["config"]["model_type"]
)
def test_as_many_layers_slide_as_in_transformers(row: dict[str, Any]) -> None:
    facts = facts_from_config(row["config"], name="a small one")
    if any(one.kind is LayerKind.NONE for one in facts.layers) or row["config"]["model_type"] == "deepseek_v4":
        return  # encoders keep nothing, layers that share a cache have none, and DeepSeek-V4 has a window everywhere
    assert sum(one.count for one in facts.layers if one.window) == row["sliding"]


@pytest.mark.parametrize(
    "field", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"]
)
def test_a_missing_size_is_named(field: str) -> None:
    with pytest.raises(UnreadableModel, match=f"{field} is missing"):
        facts_from_config(without(field), name="cut short")


def test_missing_kv_heads_are_refused_where_groups_are_common() -> None:
    with pytest.raises(UnreadableModel, match=r"num_key_value_heads is missing.*add it \(as 32"):
        facts_from_config(without("num_key_value_heads"), name="cut short")


def test_vocabulary_zero_is_refused() -> None:
    with pytest.raises(UnreadableModel, match="vocab_size is 0"):
        facts_from_config({**LLAMA, "vocab_size": 0}, name="no words")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", "4096"),
        ("hidden_size", -1),
        ("num_hidden_layers", 10**9),
        ("num_key_value_heads", 7),
        ("num_key_value_heads", True),
        ("tie_word_embeddings", None),
        ("attention_bias", "yes"),
        ("layer_types", ["full_attention"]),
        ("layer_types", ["telepathy"] * 32),
        ("intermediate_size", [1, 2]),
    ],
)
def test_what_cannot_be_true_is_refused_or_defaulted(field: str, value: object) -> None:
    if value is None:
        assert not facts_from_config({**LLAMA, field: value}, name="null").tied_embeddings
        return
    with pytest.raises(UnreadableModel, match=field):
        facts_from_config({**LLAMA, field: value}, name="wrong")


def test_heads_that_do_not_divide_need_a_head_size() -> None:
    with pytest.raises(UnreadableModel, match="head_dim is missing"):
        facts_from_config({**LLAMA, "num_attention_heads": 24}, name="uneven")


@pytest.mark.parametrize(
    "config",
    [
        {
            "model_type": "vit",
            "architectures": ["ViTForImageClassification"],
            "hidden_size": 768,
            "num_hidden_layers": 12,
        },
        {"_class_name": "StableDiffusionPipeline"},
        {"model_type": "whisper", "is_encoder_decoder": True, "d_model": 512},
        {"model_type": "clip", "text_config": {"hidden_size": 512}, "vision_config": {}},
        {},
    ],
)
def test_what_makes_no_text_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UnreadableModel):
        facts_from_config(config, name="a picture")


def test_an_unknown_architecture_is_named_and_counted_from_its_sizes() -> None:
    facts = facts_from_config({**LLAMA, "model_type": "zorgon", "architectures": ["ZorgonForCausalLM"]}, name="Zorgon")
    assert facts.parameters.total == 8_030_261_248
    assert "'zorgon' is not known here" in facts.assumed[0]


def test_an_embedding_model_has_no_head() -> None:
    facts = facts_from_config({**LLAMA, "architectures": ["LlamaModel"]}, name="embedder")
    assert facts.parameters.head == 0


def test_a_wrapper_gives_its_quantisation_and_type_to_the_text_part() -> None:
    text = without("torch_dtype")
    wrapped = {
        "model_type": "zorgon_vl",
        "dtype": "float16",
        "quantization_config": {"quant_method": "fp8"},
        "text_config": text,
    }
    facts = facts_from_config(wrapped, name="wrapped")
    assert facts.dtype is WeightFormat.FP16
    assert facts.quantisation is not None
    assert facts.parameters.tower == 0


def test_deepseek_keeps_one_latent() -> None:
    config = next(row["config"] for row in COUNTS if row["config"]["model_type"] == "deepseek_v32")
    facts = facts_from_config(config, name="small DeepSeek")
    (layers,) = facts.layers
    assert (layers.kind, layers.latent_size, layers.rope_size, layers.index_size) == (LayerKind.MLA, 32, 8, 16)
    assert 0 < facts.replicated_attention < facts.parameters.attention


def test_state_layers_state_their_sizes() -> None:
    config = next(row["config"] for row in COUNTS if row["config"]["model_type"] == "qwen3_next")
    facts = facts_from_config({**config, "mamba_ssm_dtype": "float32"}, name="small Qwen3-Next")
    state = next(one for one in facts.layers if one.kind is LayerKind.STATE)
    assert (state.count, state.state_elements, state.conv_elements) == (6, 8 * 16 * 16, 3 * (2 * 4 * 16 + 8 * 16))
    assert state.state_bits == 32


def test_every_reference_configuration_parses_or_names_the_missing_field(reference: Path) -> None:
    files = sorted((reference / "memory" / "model_configs").glob("*.json"))
    parsed, exact, worst = 0, 0, 0.0
    refused: list[str] = []
    for file in files:
        row = json.loads(file.read_text(encoding="utf-8"))
        try:
            facts = facts_from_config(row["facts"], name=file.stem)
        except UnreadableModel as error:
            refused.append(str(error))
            continue
        parsed += 1
        stated = row["derived"]["total_params_text"]
        if stated:
            difference = abs(facts.parameters.total - facts.parameters.tower - stated) / stated
            exact += difference == 0
            worst = max(worst, difference)
    assert [message for message in refused if "is missing" not in message] == []
    assert parsed >= 240
    assert worst < 2e-4  # the reference leaves out some norms and biases
    assert exact >= 190


sizes = st.integers(min_value=1, max_value=64)


@st.composite
def decoders(draw: st.DrawFn) -> dict[str, Any]:
    groups, repeats, head = draw(sizes), draw(st.integers(1, 8)), draw(st.integers(1, 256))
    config: dict[str, Any] = {
        "model_type": draw(st.sampled_from(["llama", "qwen3", "mixtral", "gemma2", "qwen2_moe", "cohere", "olmo2"])),
        "hidden_size": draw(st.integers(1, 512)),
        "intermediate_size": draw(st.integers(1, 2048)),
        "num_hidden_layers": draw(sizes),
        "num_attention_heads": groups * repeats,
        "num_key_value_heads": groups,
        "head_dim": head,
        "vocab_size": draw(st.integers(1, 10000)),
        "tie_word_embeddings": draw(st.booleans()),
        "num_experts": draw(st.sampled_from([0, 2, 8])),
        "num_experts_per_tok": 2,
    }
    return config


@given(decoders(), st.sampled_from(["hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers", "head_dim"]))
def test_a_larger_size_never_makes_a_smaller_model(config: dict[str, Any], field: str) -> None:
    small = facts_from_config(config, name="small")
    large = facts_from_config({**config, field: config[field] + 1}, name="large")
    assert large.parameters.total > small.parameters.total
    assert small.layer_count == config["num_hidden_layers"]


@given(decoders())
def test_tying_saves_exactly_the_head(config: dict[str, Any]) -> None:
    def facts(tied: bool) -> ModelFacts:
        return facts_from_config({**config, "tie_word_embeddings": tied}, name="any")

    saved = facts(False).parameters.total - facts(True).parameters.total
    assert saved == config["hidden_size"] * config["vocab_size"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(COUNTS), st.data())
def test_no_value_breaks_the_parser(row: dict[str, Any], data: st.DataObject) -> None:
    field = data.draw(st.sampled_from([*sorted(row["config"]), "quantization_config", "vision_config", "text_config"]))
    config = {**row["config"], field: data.draw(json_values)}
    with contextlib.suppress(UnreadableModel):
        facts_from_config(config, name="hostile")


def test_a_configuration_kept_under_facts_is_the_same_model() -> None:
    kept = {"model_id": "somebody/llama", "facts": dict(LLAMA), "derived": {"total_params_text": 1}}
    assert facts_from_config(kept, name="llama") == facts_from_config(LLAMA, name="llama")


@pytest.mark.parametrize(
    ("fields", "positions"),
    [
        ({}, 131_072),
        ({"max_position_embeddings": 0}, None),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}}, 131_072),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 524_288),
        (
            {
                "max_position_embeddings": 32_768,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768},
            },
            131_072,
        ),
        (  # the positions of DeepSeek-V3 hold the factor already
            {
                "max_position_embeddings": 163_840,
                "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
            },
            163_840,
        ),
        ({"rope_scaling": {"type": "longrope", "long_factor": [1.0]}}, 131_072),
        ({"max_position_embeddings": 8192, "model_max_length": 131_072}, 131_072),
        ({"rope_scaling": {"type": "linear", "factor": "huge"}}, 131_072),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, 262_144),
    ],
)
def test_the_context_is_derived_as_vllm_does(fields: dict[str, Any], positions: int | None) -> None:
    assert facts_from_config({**LLAMA, **fields}, name="model").max_positions == positions


def test_a_layer_with_attention_and_a_state_is_one_layer() -> None:
    config = {**LLAMA, "model_type": "falcon_h1", "mamba_d_ssm": 4096, "mamba_n_heads": 64, "mamba_d_head": 64,
              "mamba_d_state": 128, "mamba_d_conv": 4, "mamba_n_groups": 1}  # fmt: skip
    facts = facts_from_config(config, name="hybrid")
    assert facts.layer_count == 32
    assert sum(one.count for one in facts.layers) == 64


def test_the_largest_dense_part_counts() -> None:
    """Falcon states no inner size: it is four hidden sizes; Llama 4 has dense layers wider than its experts."""
    falcon = {
        "model_type": "falcon",
        "hidden_size": 8192,
        "num_hidden_layers": 60,
        "num_attention_heads": 128,
        "num_kv_heads": 8,
        "vocab_size": 65024,
        "new_decoder_architecture": True,
        "torch_dtype": "bfloat16",
    }
    assert facts_from_config(falcon, name="falcon-40b").intermediate_size == 4 * 8192


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "brand_new", "architectures": ["BrandNewForCausalLM"]},
        {"audio_config": {"hidden_size": 1280}},
        {"quantization_config": {"quant_method": "something-new"}},
    ],
)
def test_weights_that_may_come_on_top_are_doubts(fields: dict[str, Any]) -> None:
    facts = facts_from_config({**LLAMA, **fields}, name="model")
    assert facts.doubts
    assert set(facts.doubts) <= set(facts.assumed)
    assert facts_from_config(LLAMA, name="model").doubts == ()

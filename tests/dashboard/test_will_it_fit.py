"""The question and its address, uploads, and the answer of "Will it fit?", without Streamlit."""

import base64
import json
import re
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.model_upload import CONFIG_LIMIT_BYTES, UPLOAD_LIMIT_MIB, facts_from_upload
from dashboard.will_it_fit_answer import answer, curve
from dashboard.will_it_fit_figures import USABLE_AT, curve_alt, curve_figure, legend, rows, term_rows, usd_per_hour
from dashboard.will_it_fit_question import (
    PACKED_LIMIT,
    Question,
    QuestionInvalid,
    from_parameters,
    model_names,
    model_of,
    pack_facts,
    to_parameters,
    unpack_facts,
)
from dashboard.will_it_fit_words import cards, launch_command, launch_notes, layers_text, order_text
from planner.catalog import load_catalog
from planner.errors import PlannerError
from planner.memory.estimate import Engine, Verdict
from planner.memory.model_catalogue import find_model, known_models
from planner.memory.options import RANKS

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
KINDS = {
    "dense": "Qwen/Qwen3-32B",
    "MoE": "Qwen/Qwen3-30B-A3B",
    "MLA": "deepseek-ai/DeepSeek-V2-Lite",
    "sliding window": "google/gemma-3-27b-it",
    "state space": "nvidia/Nemotron-H-56B-Base-8K",
}

words = st.text("abcdefghijklmnop0123456789._-", min_size=1, max_size=20)


def with_prices(question: Question, prices: list[float]) -> Question:
    """The first of the boards have a price."""
    return replace(question, prices=tuple(zip(question.boards, prices, strict=False)))


any_questions = st.builds(
    Question,
    model=st.sampled_from(model_names()),
    packed=st.none() | st.just(pack_facts(find_model("Qwen/Qwen3-8B"))),
    engine=st.sampled_from(Engine),
    engine_version=st.none() | words,
    quantization=st.none() | words,
    kv_cache_dtype=st.none() | words,
    context=st.integers(1, 100_000_000),
    concurrency=st.integers(1, 65_536),
    boards=st.lists(st.sampled_from([board.name for board in load_catalog().boards]), max_size=12, unique=True).map(
        tuple
    ),
    with_profiles=st.booleans(),
    gpus=st.sets(st.sampled_from(RANKS)).map(lambda chosen: tuple(sorted(chosen))),
    gpu_memory_utilization=st.none() | st.integers(1, 100).map(lambda percent: percent / 100),
    max_num_batched_tokens=st.none() | st.integers(1, 100_000),
    enforce_eager=st.booleans(),
    option=st.none() | words,
)
questions = st.builds(with_prices, any_questions, st.lists(st.floats(0, 1e6), max_size=4))


@given(questions)
def test_an_address_holds_the_whole_question(question: Question) -> None:
    told = from_parameters(to_parameters(question))
    if question.packed is not None:
        question = replace(question, model=told.model)  # an uploaded model goes before the name
    assert told == question


def test_an_address_without_parameters_asks_the_default_question() -> None:
    assert from_parameters({}) == Question()
    assert from_parameters({"scenario": "of another page"}) == Question()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("context", "0", "context"),
        ("context", "-5", "context"),
        ("context", "9" * 400, "context"),
        ("context", "٣", "context"),
        ("concurrency", "1e9", "concurrency"),
        ("engine", "<script>", "engine"),
        ("utilization", "nan", "utilization"),
        ("utilization", "1.5", "utilization"),
        ("boards", "H100-80GB-SXM,nothing", "nothing"),
        ("boards", ",".join(["A100-40GB"] * 13), "boards"),
        ("gpus", "3", "gpus"),
        ("mig", "perhaps", "mig"),
        ("model", "x" * 201, "model"),
        ("version", "a\x00b", "version"),
        ("prices", "L4", "prices"),
        ("prices", "L4:-1", "prices"),
        ("prices", "L4:nan", "prices"),
        ("prices", "L4:1e9", "prices"),
        ("prices", "L4:٣", "prices"),
        ("prices", "nothing:1", "nothing"),
        ("facts", "1.zzzz", "damaged"),
        ("facts", "A" * (PACKED_LIMIT + 1), "characters"),
    ],
)
def test_a_broken_address_is_refused_with_its_parameter(name: str, value: str, said: str) -> None:
    with pytest.raises(PlannerError, match=re.escape(said)):
        from_parameters({name: value})


def packed(body: object) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(body).encode())).decode()


def test_facts_of_every_model_survive_the_address() -> None:
    for facts in known_models().values():
        text = pack_facts(facts)
        assert unpack_facts(text) == facts
        assert len(text) < 1000


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"name": "x"},
        "a" * 600_000,
        {"name": "x", "hidden_size": -1},
        {"name": "x", "hidden_size": 10**40},
        {"name": "x", "hidden_size": float("nan")},
        [[[[]]]],
    ],
)
def test_facts_that_are_none_are_refused(body: object) -> None:
    with pytest.raises(QuestionInvalid):
        unpack_facts(packed(body))


def test_a_bomb_in_the_address_is_not_unpacked() -> None:
    bomb = base64.urlsafe_b64encode(zlib.compress(b"0" * 10_000_000)).decode()
    assert len(bomb) < PACKED_LIMIT
    with pytest.raises(QuestionInvalid, match="damaged"):
        unpack_facts(bomb)


def test_an_uploaded_configuration_becomes_facts_and_fits_into_an_address() -> None:
    facts = facts_from_upload("config.json", json.dumps(CONFIG).encode())
    assert facts.layer_count == 16
    assert unpack_facts(pack_facts(facts)) == facts


def test_a_configuration_that_names_itself_keeps_its_name() -> None:
    named = {**CONFIG, "_name_or_path": "acme/tiny"}
    assert facts_from_upload("config.json", json.dumps(named).encode()).name == "acme/tiny"
    secret = {**CONFIG, "_name_or_path": "/home/somebody/model"}
    assert facts_from_upload("config.json", json.dumps(secret).encode()).name == "config"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", b"", "not JSON"),
        ("config.json", json.dumps(CONFIG).encode()[:60], "not JSON"),
        ("config.json", b"[" * 100_000, "not JSON"),
        ("config.json", b"\xff\xfe", "not JSON"),
        ("config.json", b"[1]", "JSON object"),
        ("config.json", b"{}", "configuration"),
        ("config.json", b'{"a":"' + b"x" * CONFIG_LIMIT_BYTES + b'"}', "larger than any configuration"),
        ("config.json", json.dumps({**CONFIG, "num_hidden_layers": 10**30}).encode(), "num_hidden_layers"),
        ("config.json", json.dumps({**CONFIG, "vocab_size": 0}).encode(), "vocab_size"),
        ("model.gguf", b"PK\x03\x04", "does not begin with GGUF"),
        ("model.gguf", b"GGUF", "ends within its header"),
        ("model.gguf", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "tensors"),
        ("x" * 500 + ".gguf", b"", "does not begin with GGUF"),
        ("model.gguf", b"GGUF" + bytes(UPLOAD_LIMIT_MIB * 2**20), "head -c"),
    ],
)
def test_a_hostile_upload_is_refused_with_a_sentence(name: str, content: bytes, said: str) -> None:
    with pytest.raises(PlannerError, match=re.escape(said)) as caught:
        facts_from_upload(name, content)
    assert len(str(caught.value)) < 400


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [*CONFIG, "quantization_config", "layer_types", "sliding_window", "num_experts", "text_config"]
        ),
        st.none()
        | st.booleans()
        | st.integers(-3, 2**70)
        | st.floats()
        | st.text(max_size=5)
        | st.lists(st.integers(-2, 9), max_size=3)
        | st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
        max_size=4,
    )
)
def test_any_configuration_is_read_or_refused(changes: dict[str, object]) -> None:
    try:
        facts = facts_from_upload("config.json", json.dumps({**CONFIG, **changes}).encode())
        question = Question(packed=pack_facts(facts), boards=("L4",))
        answer(question)
    except PlannerError:
        pass


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_gets_bars_and_a_command(kind: str, engine: Engine) -> None:
    question = Question(model=KINDS[kind], engine=engine, context=4096, concurrency=4, boards=("H200-141GB", "L4"))
    found = answer(question)
    assert found.bars
    for bar in found.bars:
        assert bar.parts[-1].name == "kv_cache"
        assert bar.need_bytes == sum(part.bytes for part in bar.parts)
        assert bar.low_bytes <= bar.need_bytes <= bar.high_bytes
        if bar.option.verdict is Verdict.FITS:
            assert bar.need_bytes <= bar.usable_bytes
        assert bar.option.reason
    bar = found.bar(None)
    assert bar is not None
    assert bar.option.verdict is Verdict.FITS
    command = launch_command(bar)
    start = {Engine.VLLM: f"vllm serve {KINDS[kind]}", Engine.LLAMA_CPP: "llama-server", Engine.OLLAMA: "ollama serve"}
    assert start[engine] in command
    points = curve(question, bar.option)
    assert len(points) > 3
    assert all(point.low <= point.middle <= point.high for point in points)
    counts = [point.middle for point in points]
    assert counts == sorted(counts, reverse=True)
    figure = curve_figure(points, context=4096, concurrency=4, engine=engine)
    assert len(figure.data) == 4
    assert "4,096 tokens" in curve_alt(points, bar.option.device)
    assert layers_text(found.model)


def test_vllm_flags_are_spelled_out_and_a_mig_device_is_named() -> None:
    found = answer(Question(model="Qwen/Qwen3-8B", context=4096, concurrency=2, boards=("H100-80GB-SXM",), gpus=(1,)))
    cut = next(bar for bar in found.bars if bar.option.profile == "3g.40gb")
    command = launch_command(cut)
    for flag in ("max-model-len 4096", "max-num-seqs 2", "max-num-batched-tokens", "gpu-memory-utilization"):
        assert f"--{flag}" in command
    assert command.startswith('CUDA_VISIBLE_DEVICES="$MIG_UUID" ')
    assert any("nvidia-smi -L" in note for note in launch_notes(cut))


def test_a_name_from_an_upload_cannot_add_to_the_command() -> None:
    facts = replace(find_model("Qwen/Qwen3-0.6B"), name="a; rm -rf $HOME")
    bar = answer(Question(packed=pack_facts(facts), boards=("L4",))).bar(None)
    assert bar is not None
    assert "vllm serve 'a; rm -rf $HOME'" in launch_command(bar)


def test_a_precision_that_is_not_made_at_start_is_said_to_be_so() -> None:
    for quantization, expected in (("awq", True), ("fp8", False), (None, False)):
        bar = answer(Question(model="Qwen/Qwen3-8B", quantization=quantization, boards=("L4",))).bar(None)
        assert bar is not None
        assert any("does not make" in note for note in launch_notes(bar)) == expected


def test_bars_compare_at_one_line_and_overflow_is_told() -> None:
    found = answer(Question(model="Qwen/Qwen3-32B", concurrency=4))
    drawn = rows(found.bars)
    assert {row.usable for row in drawn} == {100 * USABLE_AT}
    for bar, row in zip(found.bars, drawn, strict=True):
        assert sum(segment.width for segment in row.segments) <= 100.1
        assert 0 <= row.low <= row.high <= 100
        fits_on_track = bar.need_bytes * USABLE_AT <= bar.usable_bytes
        assert (row.overflow is None) == fits_on_track
        if row.verdict == "fits":
            assert row.segments
            assert sum(segment.width for segment in row.segments) <= row.usable + 0.1
    assert legend(found.bars)[0][0] == "Weights"
    assert {row.basis.value for row in term_rows(found.bars[0])} == {"FORMULA", "ASSUMED"}


def test_a_device_of_unknown_memory_gets_no_bar_and_a_reason() -> None:
    found = answer(Question(boards=("B300-269GB",), gpus=(1,)))
    assert {option.profile for option in found.unanswered} >= {"1g.34gb", "3g.135gb"}
    assert all("No source states" in option.reason for option in found.unanswered)
    assert [bar.option.device for bar in found.bars] == ["B300-269GB"]


def test_an_alias_is_served_under_its_own_name() -> None:
    assert model_of(Question(model="meta-llama/Llama-3.1-8B-Instruct")).name == "meta-llama/Llama-3.1-8B-Instruct"
    assert model_of(Question(model="qwen3-8b")).name == "Qwen/Qwen3-8B"


def test_the_same_question_is_answered_once() -> None:
    question = Question(model="Qwen/Qwen3-8B", boards=("L4",))
    first, again = answer(question), answer(replace(question, option="L4"))
    assert first.bars is again.bars


def test_with_prices_the_cheapest_comes_first_and_a_mig_device_costs_its_share() -> None:
    """3g.40gb takes 4 of 8 memory slices, so half of the 3.20; two L4 cost twice 0.70."""
    question = Question(
        model="Qwen/Qwen3-8B", boards=("H100-80GB-SXM", "L4"), prices=(("H100-80GB-SXM", 3.2), ("L4", 0.7))
    )
    bars = [bar for bar in answer(question).bars if bar.option.is_accepted]
    costs = {bar.option.device: bar.option.price_usd_per_hour for bar in bars}
    assert costs["H100-80GB-SXM 3g.40gb"] == pytest.approx(1.6)
    assert costs["2 x L4"] == pytest.approx(1.4)
    assert list(costs.values()) == sorted(costs.values())
    assert {row.device: row.price for row in rows(bars)}["2 x L4"] == "1.40 USD/h"
    assert order_text(question) == "lowest price first"
    assert "Price" in dict(cards(bars[0]))
    half = replace(question, prices=(("L4", 0.7),))
    assert "boards without a price after them" in order_text(half)
    found = [bar.option for bar in answer(half).bars if bar.option.is_accepted]
    assert found[0].board == "L4"
    assert found[-1].price_usd_per_hour is None
    assert all(row.price is None for row in rows(answer(replace(question, prices=())).bars))


@pytest.mark.parametrize(("price", "text"), [(3.2, "3.20 USD/h"), (0.0875, "0.087 USD/h"), (0.0, "0.00 USD/h")])
def test_a_share_of_a_gpu_is_not_shown_as_free(price: float, text: str) -> None:
    assert usd_per_hour(price) == text


def test_a_price_of_a_board_that_is_not_looked_at_is_left_out() -> None:
    asked = from_parameters({"boards": "L4", "prices": "H100-80GB-SXM:3.2,L4:0.7"})
    assert asked.prices == (("L4", 0.7),)


def test_a_context_beyond_the_model_is_refused_with_the_reason() -> None:
    with pytest.raises(PlannerError, match="1,024"):
        answer(Question(model="openai-community/gpt2", context=8192))

"""The page "Will it fit?" run by Streamlit's own test driver: every kind of model, the address, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.will_it_fit_question import pack_facts
from planner.memory.model_catalogue import find_model
from tests.dashboard.test_views import html, words
from tests.dashboard.test_will_it_fit import KINDS

SCRIPT = "from dashboard.views import will_it_fit\nwill_it_fit.show()\n"


@pytest.fixture(autouse=True)
def _store(use_store: Callable[[str], str]) -> None:
    use_store("demo")


def shown(**query: str) -> AppTest:
    test = AppTest.from_string(SCRIPT, default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    return well(test.run())


def well(test: AppTest) -> AppTest:
    assert not test.exception, test.exception
    return test


def said(test: AppTest) -> str:
    """Everything but the banner, which tells an age."""
    return words(html(test)).partition("targets up to date")[2]


def box(test: AppTest, label: str) -> Any:
    return next(one for one in (*test.selectbox, *test.number_input, *test.multiselect) if one.label == label)


def address(test: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[0] for name, value in dict(test.query_params).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_answered(kind: str) -> None:
    test = shown(model=KINDS[kind], boards="H200-141GB,L4", context="4096")
    text = words(html(test))
    assert KINDS[kind] in text
    assert "cheapest that fits" in text
    assert "Needed" in text
    assert "What was assumed" in text
    assert test.code[0].value.startswith(("vllm serve", "CUDA_VISIBLE_DEVICES"))
    assert len(test.get("plotly_chart")) == 1


def test_the_address_reproduces_the_page() -> None:
    test = shown(
        model="Qwen/Qwen3-8B",
        engine="llama.cpp",
        weights="Q4_K_M",
        kv="q8_0",
        boards="L4,T4",
        context="16384",
        gpus="1,4",
    )
    assert box(test, "Weights").value == "Q4_K_M"
    assert box(test, "KV cache").value == "q8_0"
    again = shown(**address(test))
    assert said(again) == said(test)
    assert address(again) == address(test)


def test_what_is_chosen_goes_into_the_address() -> None:
    test = shown(model="Qwen/Qwen3-8B")
    box(test, "Requests at once").set_value(32)
    well(test.run())
    assert address(test)["concurrency"] == "32"
    closer = box(test, "Look closer at")
    closer.select(closer.options[-1])
    well(test.run())
    assert address(test)["option"] == closer.options[-1]
    assert said(shown(**address(test))) == said(test)


def test_version_and_precision_come_from_the_address() -> None:
    test = shown(model="Qwen/Qwen3-8B", weights="fp8", kv="fp8", version="0.21.0")
    assert box(test, "Version").value == "0.21.0"
    assert "--quantization fp8" in test.code[0].value


def test_the_boards_of_the_live_fleet_can_be_taken() -> None:
    test = shown(boards="T4")
    next(button for button in test.button if button.label == "Look at these boards").click()
    well(test.run())
    assert set(box(test, "Boards to look at").value) == {"A100-40GB", "H100-80GB-SXM", "H200-141GB", "L40S"}


def test_an_uploaded_model_comes_back_with_the_address() -> None:
    test = shown(facts=pack_facts(find_model("Qwen/Qwen3-8B")), boards="L4")
    text = words(html(test))
    assert "Qwen/Qwen3-8B" in text
    assert test.text_input[0].value == "Qwen/Qwen3-8B"
    next(button for button in test.button if button.label == "Back to the catalogue").click()
    well(test.run())
    assert "facts" not in address(test)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"context": "-1"}, "This link asks nothing that can be answered"),
        ({"facts": "garbage"}, "The model in the link is damaged"),
        ({"boards": "nothing"}, "The catalogue has no board"),
        ({"boards": ""}, "No board chosen"),
        ({"model": "nobody/knows-this"}, "neither in the catalogue of models"),
        ({"model": "<script>window.pwned=1</script>"}, "neither in the catalogue of models"),
        ({"model": "openai-community/gpt2", "context": "8192"}, "is made for 1,024 tokens"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_sentence(query: dict[str, str], sentence: str) -> None:
    test = shown(**query)
    assert sentence in said(test)
    assert "<script" not in html(test)


@pytest.mark.parametrize("version", ["9" * 30, "zero", "0.0.0"])
def test_any_version_can_be_typed(version: str) -> None:
    for engine in ("vllm", "llama.cpp", "ollama"):
        shown(engine=engine, version=version, boards="L4")


def test_options_without_a_source_of_their_memory_are_listed_with_the_reason() -> None:
    text = words(html(shown(boards="B300-269GB")))
    assert "No answer for 6 options" in text
    assert "No source states how much memory" in text


def test_what_does_not_fit_gets_no_command_and_the_version_that_was_assumed_is_named() -> None:
    test = shown(model="Qwen/Qwen3-235B-A22B", engine="llama.cpp", boards="T4")
    assert "No command" in said(test)
    assert "No version was given: llama.cpp" in said(test)
    assert all("llama-server" not in code.value for code in test.code)


def test_prices_come_from_the_address_and_go_back_into_it() -> None:
    test = shown(model="Qwen/Qwen3-8B", boards="H100-80GB-SXM,L4", prices="L4:0.7,H100-80GB-SXM:3.2")
    assert box(test, "L4").value == 0.7
    assert "lowest price first" in said(test)
    assert "2 x L4 , 1.40 USD/h" in said(test)
    box(test, "L4").set_value(9.5)
    well(test.run())
    assert address(test)["prices"] == "H100-80GB-SXM:3.2,L4:9.5"
    assert "H100-80GB-SXM 3g.40gb , 1.60 USD/h" in said(test)
    again = shown(**address(test))
    assert said(again) == said(test)
    box(again, "L4").set_value(None)
    box(again, "H100-80GB-SXM").set_value(None)
    well(again.run())
    assert "prices" not in address(again)
    assert "least GPU memory first" in said(again)


def test_measured_runs_are_shown_beside_their_predictions(use_store: Callable[[str], str]) -> None:
    use_store("measured")
    test = shown(boards="H100-80GB-SXM", gpus="1", option="H100-80GB-SXM")
    text = said(test)
    assert "2 runs of meta-llama/Meta-Llama-3.1-8B with vLLM 0.31 on H100-80GB-SXM" in text
    assert "applied" in text
    assert "79.05 GiB as vllm 0.31.0 saw it on H100-80GB-SXM" in text
    assert "3 runs in the store" in text
    assert "Worst prediction first" in text
    sliced = shown(boards="H100-80GB-SXM", gpus="1", option="H100-80GB-SXM 3g.40gb")
    assert "cut at its bound" in said(sliced)
    assert said(shown(**address(sliced))) == said(sliced)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "There is no store, so no measured run is known"),
        ("newer", "Nothing is corrected by measured runs, as the store cannot be read"),
        ("damaged", "not an SQLite database"),
        ("empty", "No such run is known"),
    ],
)
def test_a_store_in_trouble_corrects_nothing_and_the_page_says_why(
    use_store: Callable[[str], str], kind: str, sentence: str
) -> None:
    use_store(kind)
    test = shown(boards="L4")
    text = words(html(test))
    assert sentence in text
    assert "Look closer at" in [one.label for one in test.selectbox]

"""Settings of llama.cpp and Ollama: words that name nothing, what is assumed, and the longest context."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.estimate import Engine, Run, Verdict
from planner.memory.facts import ModelFacts, Quantisation, WeightFormat
from planner.memory.llama_cpp import estimate_llama_cpp
from planner.memory.llama_settings import ContradictorySettings
from tests.planner.memory.test_llama_cpp import LLAMA, device, models, term


@pytest.mark.parametrize(
    ("engine", "settings", "words"),
    [
        (Engine.LLAMA_CPP, {"quantization": "zork"}, "no file type of llama.cpp"),
        (Engine.LLAMA_CPP, {"quantization": "fp8"}, "no file type of llama.cpp"),
        (Engine.LLAMA_CPP, {"quantization": "awq"}, "no file type of llama.cpp"),
        (Engine.LLAMA_CPP, {"quantization": "Q3_K_XL"}, "How many bits"),
        (Engine.LLAMA_CPP, {"dtype": "zork"}, "no type of weights"),
        (Engine.LLAMA_CPP, {"engine_version": "zork"}, "no version of llama.cpp"),
        (Engine.LLAMA_CPP, {"engine_version": "ikzork"}, "no version of llama.cpp"),
        (Engine.OLLAMA, {"engine_version": "newest"}, "no version of Ollama"),
        (Engine.OLLAMA, {"quantization": "gptq"}, "no file type of Ollama"),
    ],
)
def test_words_that_name_nothing_are_refused(engine: Engine, settings: dict[str, str], words: str) -> None:
    with pytest.raises(ContradictorySettings, match=words):
        estimate_llama_cpp(Run(model=LLAMA, device=device(), engine=engine, n_ctx=4096, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "version", ["b6133", "6133", "b6133-1a2b3c4d", "v0.5.0", "ik -mla 3", "ik_llama.cpp -mla 1", "ik"]
)
def test_versions_are_taken_as_people_write_them(version: str) -> None:
    run = Run(model=LLAMA, device=device(), engine=Engine.LLAMA_CPP, engine_version=version, n_ctx=4096)
    assert not any("No version" in sentence for sentence in estimate_llama_cpp(run).assumed)


def test_a_log_that_does_not_know_its_file_type_says_nothing_of_it() -> None:
    run = Run(model=LLAMA, device=device(), engine=Engine.LLAMA_CPP, n_ctx=4096)
    unknown = replace(run, quantization="unknown, may not work")
    assert estimate_llama_cpp(unknown).terms == estimate_llama_cpp(run).terms


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Engine.LLAMA_CPP, "No version of llama.cpp was given: v0.5.0 assumed."),
        (Engine.OLLAMA, "No version of Ollama was given: 0.30.0 assumed."),
    ],
)
def test_the_version_that_is_assumed_is_named(engine: Engine, words: str) -> None:
    estimate = estimate_llama_cpp(Run(model=LLAMA, device=device(), engine=engine, n_ctx=4096))
    assert words in " ".join(estimate.assumed)


@given(
    models,
    st.sampled_from(["b5640", "b6133", "b7836", "v0.5.0"]),
    st.integers(1, 64),
    st.integers(1, 4096),
    st.floats(1, 40),
)
def test_the_longest_context_does_not_exceed_the_device_when_it_is_asked_for(
    model: ModelFacts, version: str, context: int, micro_batch: int, gib: float
) -> None:
    run = Run(
        model=model,
        device=device(gib),
        engine=Engine.LLAMA_CPP,
        engine_version=version,
        n_ctx=256 * context,
        n_ubatch=micro_batch,
        n_parallel=1,
        flash_attention=True,
    )
    longest = estimate_llama_cpp(run).max_context
    if longest is not None:
        again = estimate_llama_cpp(replace(run, n_ctx=longest))
        assert sum(term.bytes for term in again.terms) <= run.device.memory_bytes
        assert again.verdict is not Verdict.DOES_NOT_FIT


def test_weights_in_a_format_that_llama_cpp_does_not_read_are_counted_as_they_are_converted() -> None:
    counts = LLAMA.parameters
    stored = {"mlp": counts.mlp, "attention": counts.attention}  # 8 bits each
    quantisation = Quantisation(format=WeightFormat.FP8, bits=8)
    model = replace(LLAMA, quantisation=quantisation, stored_bytes=stored)
    run = Run(model=model, device=device(), engine=Engine.LLAMA_CPP, n_ctx=2048)
    estimate = estimate_llama_cpp(run)
    assert term(estimate, "weights").bytes == pytest.approx(2 * (counts.total - counts.embedding), rel=0.001)
    assert "llama.cpp reads no fp8" in " ".join(estimate.assumed)


def test_an_inner_size_that_is_not_stated_follows_from_the_parameters() -> None:
    counts = replace(LLAMA.parameters, mlp=LLAMA.layer_count * 2 * LLAMA.hidden_size * 200_000)
    wide = replace(LLAMA, intermediate_size=None, parameters=counts)
    run = Run(model=wide, device=device(), engine=Engine.LLAMA_CPP, engine_version="v0.5.0", n_ctx=4096)
    assert term(estimate_llama_cpp(run), "compute").bytes >= 512 * 200_000 * 3 * 4  # three copies of 4 bytes


def test_a_short_context_does_not_hide_the_micro_batch_of_a_long_one() -> None:
    """Logits of 2,048 tokens and 128,256 words in 32 bits are 1,002 MiB, of 256 tokens 125 MiB."""
    settings = {"engine_version": "b6133", "n_ubatch": 2048, "n_parallel": 1, "flash_attention": True}
    run = Run(model=LLAMA, device=device(), engine=Engine.LLAMA_CPP, n_ctx=256, **settings)  # type: ignore[arg-type]
    whole = replace(run, n_ctx=131_072)
    needed = sum(one.bytes for one in estimate_llama_cpp(whole).terms)
    just_too_small = replace(run.device, memory_bytes=needed - 1)
    longest = estimate_llama_cpp(replace(run, device=just_too_small)).max_context
    assert longest is not None
    assert longest < 131_072

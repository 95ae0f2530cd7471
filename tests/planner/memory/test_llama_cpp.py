"""The llama.cpp model against engines that were started for it, the recorded runs, and laws that hold for any model."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.memory_llama import kv_scores, plain, read_rows, state, summary
from planner.memory.estimate import Basis, Device, Engine, Estimate, Run, Term, Verdict
from planner.memory.facts import Experts, LayerKind, Layers, ModelFacts, Parameters, WeightFormat
from planner.memory.ggml_types import file_type_bits, stored_bytes
from planner.memory.llama_cpp import estimate_llama_cpp
from planner.memory.llama_settings import ContradictorySettings
from planner.units import GIB, MIB


def facts(*layers: Layers, hidden: int = 4096, vocab: int = 128256, ffn: int = 14336, **more: object) -> ModelFacts:
    base = ModelFacts(
        name="a model",
        architecture="llama",
        model_type="llama",
        hidden_size=hidden,
        intermediate_size=ffn,
        vocab_size=vocab,
        max_positions=131072,
        tied_embeddings=False,
        dtype=WeightFormat.BF16,
        layers=layers,
        parameters=Parameters(
            embedding=vocab * hidden,
            head=vocab * hidden,
            attention=1_342_177_280,
            mlp=5_637_144_576,
            experts=0,
            shared_experts=0,
            router=0,
            norms=266_240,
        ),
    )
    return replace(base, **more)


def device(gib: float = 80.0, *, is_mig: bool = False) -> Device:
    return Device(name="H100-80GB", memory_bytes=round(gib * GIB), basis=Basis.MEASURED, source="a test", is_mig=is_mig)


def term(estimate: Estimate, name: str) -> Term:
    return next(one for one in estimate.terms if one.name == name)


LLAMA = facts(plain(2, 8, 128))
GEMMA = facts(
    plain(2, 16, 128), plain(10, 16, 128, window=1024), hidden=5376, vocab=262144, ffn=21504, tied_embeddings=True
)
QWEN = facts(plain(2, 8, 128, heads=64), hidden=5120, vocab=151936, ffn=25600)
LATENT = Layers(kind=LayerKind.MLA, count=2, heads=128, latent_size=512, rope_size=64, key_size=192, value_size=128)
DEEPSEEK = facts(LATENT, hidden=7168, vocab=129280, ffn=18432)
SMALL = facts(plain(2, 4, 128, heads=8), hidden=1024, vocab=32000, ffn=2048)
BROAD = facts(plain(2, 4, 128, heads=8), hidden=1024, vocab=8000, ffn=16384)
MIXTURE = facts(
    plain(2, 4, 128, heads=8),
    hidden=1024,
    vocab=8000,
    ffn=2048,
    experts=Experts(layers=2, total=16, active=8, shared=0, intermediate_size=2048),
)
MAMBA = facts(state(4, 4096, 128, 1), hidden=2048, vocab=50304, ffn=0)

# Printed by these releases, started on header-only models of these sizes:
# model, release, context, sequences, flash attention, options -> KV cache MiB, compute buffer MiB (None: not compared)
STARTED = [
    (LLAMA, "b3889", 8192, 1, True, {}, 64.0, 266.5),
    (LLAMA, "b3889", 10000, 4, False, {}, 78.25, 677.57),
    (LLAMA, "b4753", 10000, 4, False, {}, 78.25, 677.57),
    (LLAMA, "b5590", 10000, 4, True, {}, 80.0, 266.5),
    (LLAMA, "b5640", 10000, 4, False, {}, 78.25, 677.57),
    (LLAMA, "b6133", 10000, 4, True, {}, 80.0, 258.5),
    (LLAMA, "b6845", 10000, 4, False, {}, 79.0, 258.5),
    (LLAMA, "b7347", 10000, 4, True, {}, 80.0, 258.5),
    (LLAMA, "b8179", 10000, 4, False, {}, 80.0, 266.5),
    (LLAMA, "v0.5.0", 10000, 4, True, {}, 80.0, 266.5),
    (LLAMA, "v0.5.0", 8192, 1, False, {}, 64.0, 572.01),
    (LLAMA, "v0.5.0", 131072, 1, True, {}, 1024.0, 266.5),
    (LLAMA, "v0.5.0", 8192, 1, True, {"kv_cache_dtype": "q8_0/q4_0"}, 26.0, 274.5),
    (QWEN, "v0.5.0", 40960, 1, False, {}, 320.0, 5266.01),
    (GEMMA, "b5590", 32768, 4, True, {}, 872.0, 522.5),
    (GEMMA, "b6133", 32768, 4, True, {}, 992.0, 522.5),
    (GEMMA, "v0.5.0", 32768, 1, True, {}, 632.0, 533.0),
    (GEMMA, "v0.5.0", 32768, 4, True, {}, 992.0, 533.0),
    (GEMMA, "v0.5.0", 32768, 1, True, {"swa_full": True}, 3072.0, 543.5),
    (GEMMA, "v0.5.0", 32768, 1, False, {}, 632.0, 2178.51),
    (DEEPSEEK, "b6133", 8192, 1, True, {}, 34.0, 383.01),
    (DEEPSEEK, "b7698", 8192, 1, True, {}, 34.0, 383.01),
    (DEEPSEEK, "b7836", 8192, 1, True, {}, 18.0, 397.01),
    (DEEPSEEK, "v0.5.0", 8192, 1, True, {}, 18.0, 416.01),
    (DEEPSEEK, "v0.5.0", 8192, 1, False, {}, 18.0, 2472.01),
    (SMALL, "b3889", 32768, 1, True, {}, 128.0, 104.01),
    (SMALL, "b5640", 32768, 1, False, {}, 128.0, 584.01),
    (SMALL, "b8179", 32768, 1, True, {}, 128.0, 106.01),
    (SMALL, "b10361", 32768, 1, True, {}, 128.0, 66.5),
    (SMALL, "v0.5.0", 32768, 1, False, {}, 128.0, 588.01),
    (BROAD, "b5640", 512, 1, True, {}, 2.0, 71.51),
    (BROAD, "b7347", 32768, 1, True, {}, 128.0, 136.01),
    (BROAD, "v0.5.0", 32768, 1, True, {}, 128.0, 136.01),
    (BROAD, "v0.5.0", 512, 1, True, {}, 2.0, 104.51),
    (MIXTURE, "v0.5.0", 32768, 1, True, {}, 128.0, 136.01),
    (MIXTURE, "b7347", 512, 1, True, {}, 2.0, 103.51),
    (MAMBA, "b6845", 8192, 1, True, {}, 8.2, 106.3),
    (MAMBA, "v0.5.0", 8192, 3, True, {}, 24.6, 110.27),
]


@pytest.mark.parametrize(("model", "version", "context", "sequences", "flash", "more", "cache", "compute"), STARTED)
def test_started_engines_are_reproduced(
    model: ModelFacts,
    version: str,
    context: int,
    sequences: int,
    flash: bool,
    more: dict[str, object],
    cache: float,
    compute: float,
) -> None:
    run = Run(
        model=model,
        device=device(),
        engine=Engine.LLAMA_CPP,
        engine_version=version,
        n_ctx=context,
        n_parallel=sequences,
        flash_attention=flash,
        **more,
    )
    estimate = estimate_llama_cpp(run)
    assert estimate.kv_cache_bytes / MIB == pytest.approx(cache, abs=0.01)
    assert term(estimate, "compute").bytes / MIB == pytest.approx(compute, rel=0.09)
    assert term(estimate, "compute").low <= compute * MIB <= term(estimate, "compute").high


def test_recorded_runs_are_within_two_percent(reference: Path) -> None:
    scores = kv_scores(read_rows(reference))
    found = summary(scores, within=0.02)
    assert found["rows"] >= 70
    assert found["within"] >= 0.95
    assert found["median"] < 0.0005
    assert found["in_range"] >= 0.95


def qwen_with_experts() -> ModelFacts:
    """Qwen3.6-35B-A3B: 10 layers of attention, 30 gated delta nets, 256 experts."""
    return facts(
        plain(10, 2, 256, heads=16),
        Layers(kind=LayerKind.STATE, count=30, state_elements=128 * 4096, conv_elements=3 * 8192),
        hidden=2048,
        vocab=248320,
        ffn=None,
        max_positions=262144,
        parameters=Parameters(
            embedding=508_559_360,
            head=508_559_360,
            attention=1_270_000_000,
            mlp=0,
            experts=32_212_254_720,
            shared_experts=126_000_000,
            router=21_000_000,
            norms=200_000,
        ),
        experts=Experts(layers=40, total=256, active=8, shared=1, intermediate_size=512),
    )


@pytest.mark.parametrize(("on_host", "verdicts"), [(0, {Verdict.TIGHT, Verdict.DOES_NOT_FIT}), (5, {Verdict.FITS})])
def test_a_real_mig_device_that_failed_is_not_said_to_fit(on_host: int, verdicts: set[Verdict]) -> None:
    """B200 1g.23gb, Q4_K_M: out of memory fully resident, ran with the experts of 5 layers on the host."""
    run = Run(
        model=qwen_with_experts(),
        device=replace(device(20.5, is_mig=True), name="B200 1g.23gb"),
        engine=Engine.LLAMA_CPP,
        quantization="Q4_K_M",
        n_ctx=20992,
        n_parallel=1,
        flash_attention=True,
        cpu_expert_layers=on_host,
    )
    assert estimate_llama_cpp(run).verdict in verdicts


@pytest.mark.parametrize(
    ("version", "gib", "context", "slots"),
    [
        ("0.5.7", 80, 2048, 4),
        ("0.6.8", 80, 4096, 4),
        ("0.12.0", 80, 4096, 1),
        ("0.16.0", 12, 4096, 1),
        ("0.16.0", 32, 32768, 1),
        ("0.16.0", 80, 131072, 1),  # 262144, but the model knows 131072
    ],
)
def test_ollama_fills_in_its_defaults(version: str, gib: float, context: int, slots: int) -> None:
    run = Run(model=LLAMA, device=device(gib), engine=Engine.OLLAMA, engine_version=version)
    estimate = estimate_llama_cpp(run)
    assert estimate.settings["n_ctx"] == context * slots
    assert estimate.settings["n_parallel"] == slots
    assert any("default" in sentence for sentence in estimate.assumed)


def test_parallel_requests_multiply_the_context_of_ollama() -> None:
    one = Run(model=LLAMA, device=device(), engine=Engine.OLLAMA, engine_version="0.12.0", n_ctx=8192, n_parallel=1)
    four = replace(one, n_parallel=4)
    assert estimate_llama_cpp(four).kv_cache_bytes == 4 * estimate_llama_cpp(one).kv_cache_bytes


def test_ollama_ignores_a_quantised_cache_without_flash_attention() -> None:
    run = Run(model=LLAMA, device=device(), engine=Engine.OLLAMA, engine_version="0.5.7", kv_cache_dtype="q8_0")
    estimate = estimate_llama_cpp(run)
    assert estimate.settings["cache_type_k"] == "f16"
    assert any("ignores" in sentence for sentence in estimate.assumed)


def test_a_default_context_is_lowered_to_what_fits() -> None:
    big = facts(plain(32, 32, 128))
    estimate = estimate_llama_cpp(Run(model=big, device=device(24), engine=Engine.LLAMA_CPP, quantization="Q4_K_M"))
    context = estimate.settings["n_ctx"]
    assert isinstance(context, int)
    assert 4096 <= context < 131072
    assert any("lowered" in sentence for sentence in estimate.assumed)


def test_what_does_not_fit_says_how_many_layers_do() -> None:
    run = Run(model=facts(plain(32, 8, 128)), device=device(8), engine=Engine.LLAMA_CPP, n_ctx=8192, n_parallel=1)
    estimate = estimate_llama_cpp(run)
    assert estimate.verdict is Verdict.DOES_NOT_FIT
    assert "layers fit" in estimate.reasons[1]
    assert not estimate.reasons[1].startswith("0 of")


def test_the_longest_context_fits_and_more_does_not() -> None:
    model = facts(plain(32, 32, 128), max_positions=None)
    run = Run(model=model, device=device(24), engine=Engine.LLAMA_CPP, quantization="Q4_K_M", n_parallel=1, n_ctx=4096)
    longest = estimate_llama_cpp(run).max_context
    assert longest is not None
    for context, fits in ((longest, True), (longest + 512, False)):
        estimate = estimate_llama_cpp(replace(run, n_ctx=context))
        assert (sum(one.bytes for one in estimate.terms) <= run.device.memory_bytes) is fits


def test_weights_come_from_the_file_where_it_was_read() -> None:
    stored = {"embedding": 500 * MIB, "head": 700 * MIB, "attention": 1000 * MIB, "mlp": 3000 * MIB}
    run = Run(model=facts(plain(32, 8, 128), stored_bytes=stored), device=device(), engine=Engine.LLAMA_CPP, n_ctx=4096)
    weights = term(estimate_llama_cpp(run), "weights")
    assert weights.bytes == 4700 * MIB  # the embedding stays on the host
    assert weights.basis is Basis.MEASURED
    tied = replace(run, model=replace(run.model, tied_embeddings=True, stored_bytes={**stored, "head": 0}))
    assert term(estimate_llama_cpp(tied), "weights").bytes == 4500 * MIB  # loaded again as the output matrix


def test_file_types_give_the_size_of_llama_8b() -> None:
    for name, gib in (("Q4_K_M", 4.58), ("Q8_0", 7.95), ("Q6_K", 6.14), ("F16", 14.96), ("IQ2_XXS", 2.23)):
        bits = file_type_bits(name)
        assert bits is not None
        assert 8_030_261_248 * bits / 8 / GIB == pytest.approx(gib, rel=0.005)
    assert file_type_bits("Q4_K - Medium") == file_type_bits("Q4_K_M")
    assert file_type_bits("IQ3_K - 3.4325 bpw") == 3.4325
    assert file_type_bits("a name") is None
    for printed, name in (
        ("all F32", "F32"),
        ("mostly Q8_0", "Q8_0"),
        ("Q2_K - Medium", "Q2_K"),
        ("Q4_K_R4", "Q4_K_M"),
        ("MXFP4 MoE", "MXFP4"),
        ("Q4_0 (guessed)", "Q4_0"),
    ):
        assert file_type_bits(printed) == file_type_bits(name), printed
    assert stored_bytes(1024, "q8_0") == 1088


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"kv_cache_dtype": "q8_0", "flash_attention": False}, "flash attention"),
        ({"kv_cache_dtype": "fp8"}, "no KV cache type"),
        ({"n_ctx": 0}, "at least 1"),
        ({"n_parallel": -2}, "at least 1"),
        ({"tensor_parallel": 2, "device": device(16, is_mig=True)}, "one MIG device"),
    ],
)
def test_what_the_engine_refuses_is_refused(more: dict[str, object], word: str) -> None:
    run = Run(**{"model": LLAMA, "device": device(), "engine": Engine.LLAMA_CPP, **more})
    with pytest.raises(ContradictorySettings, match=word):
        estimate_llama_cpp(run)


contexts = st.integers(min_value=1, max_value=200_000)
models = st.sampled_from([LLAMA, GEMMA, QWEN, DEEPSEEK, MAMBA])
versions = st.sampled_from([None, "b3889", "b5640", "b6133", "b7836", "v0.5.0", "ik -mla 3"])


def needs(run: Run) -> list[int]:
    estimate = estimate_llama_cpp(run)
    for one in estimate.terms:
        assert 0 <= one.low <= one.bytes <= one.high, one
    return [one.bytes for one in estimate.terms]


@given(models, versions, contexts, contexts, st.booleans())
def test_more_context_never_needs_less(
    model: ModelFacts, version: str | None, first: int, second: int, flash: bool
) -> None:
    run = Run(model=model, device=device(), engine=Engine.LLAMA_CPP, engine_version=version, flash_attention=flash)
    small, large = (needs(replace(run, n_ctx=one)) for one in sorted((first, second)))
    assert all(before <= after for before, after in zip(small, large, strict=True))


@given(models, versions, st.integers(1, 16), st.integers(1, 16))
def test_more_requests_of_one_length_never_need_less(
    model: ModelFacts, version: str | None, first: int, second: int
) -> None:
    run = Run(model=model, device=device(), engine=Engine.LLAMA_CPP, engine_version=version, flash_attention=True)
    few, many = (needs(replace(run, n_parallel=one, n_ctx=one * 4096)) for one in sorted((first, second)))
    assert few[1] <= many[1]


@given(models, contexts, st.integers(0, 14), st.integers(0, 14))
def test_fewer_layers_on_the_device_never_need_more(model: ModelFacts, context: int, first: int, second: int) -> None:
    run = Run(model=model, device=device(), engine=Engine.LLAMA_CPP, n_ctx=context, n_parallel=1)
    few, many = (needs(replace(run, gpu_layers=one)) for one in sorted((first, second)))
    assert sum(few) <= sum(many)


@given(st.sampled_from([LLAMA, GEMMA, QWEN]), contexts)
def test_a_smaller_cache_type_is_smaller_by_its_blocks(model: ModelFacts, context: int) -> None:
    run = Run(model=model, device=device(), engine=Engine.LLAMA_CPP, n_ctx=context, flash_attention=True, n_parallel=1)
    full = estimate_llama_cpp(run).kv_cache_bytes
    assert estimate_llama_cpp(replace(run, kv_cache_dtype="q8_0")).kv_cache_bytes == full * 34 / 64
    assert estimate_llama_cpp(replace(run, kv_cache_dtype="q4_0")).kv_cache_bytes == full * 18 / 64


@given(models, st.floats(1, 200))
def test_a_verdict_agrees_with_its_range(model: ModelFacts, gib: float) -> None:
    run = Run(model=model, device=device(gib), engine=Engine.LLAMA_CPP, n_ctx=32768, n_parallel=2)
    estimate = estimate_llama_cpp(run)
    low, high = sum(one.low for one in estimate.terms), sum(one.high for one in estimate.terms)
    expected = Verdict.FITS if high <= estimate.device_bytes else Verdict.TIGHT
    assert estimate.verdict is (Verdict.DOES_NOT_FIT if low > estimate.device_bytes else expected)

"""Predictions beside measurements: what is compared, how far a correction goes, and what it does to an estimate."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.calibration import (
    BOUNDS,
    Calibration,
    CalibrationKey,
    TermComparison,
    compare,
    corrected,
    corrections_for,
    key_of,
    measured_terms,
)
from planner.memory.estimate import Basis, Device, Engine, Estimate, Run, Term, Verdict
from planner.memory.facts import LayerKind, Layers, ModelFacts, Parameters, WeightFormat
from planner.memory.llama_cpp import estimate_llama_cpp
from planner.memory.measured import Measured
from planner.memory.measured_run import run_as_measured
from planner.units import GIB, MIB

KEY = CalibrationKey(model="a model", engine=Engine.VLLM, version="0.19", device="H100-80GB")


def term(name: str, gib: float, spread: float = 0.1) -> Term:
    low, high = round(gib * (1 - spread) * GIB), round(gib * (1 + spread) * GIB)
    return Term(name=name, bytes=round(gib * GIB), low=low, high=high, basis=Basis.FORMULA, source="a law")


def estimate(*, graphs_charged: bool = True, request_gib: float = 4.0) -> Estimate:
    """72 GiB of budget: 15 weights, 2 activation, 0.25 non-torch, 1 graphs, and what is left."""
    pool = 72 - 15 - 2 - 0.25 - (1 if graphs_charged else 0)
    terms = (
        term("weights", 15),
        term("activation", 2),
        term("non_torch", 0.25),
        term("graphs", 1),
        term("kv_cache", pool),
    )
    return Estimate(
        verdict=Verdict.FITS,
        reasons=("It fits.",),
        device_bytes=80 * GIB,
        budget_bytes=72 * GIB,
        terms=terms,
        kv_cache_bytes=round(pool * GIB),
        kv_cache_low_bytes=round((pool - 1) * GIB),
        kv_cache_high_bytes=round((pool + 1) * GIB),
        kv_bytes_per_token=131072.0,
        kv_cache_tokens=round(pool * GIB / 131072),
        max_concurrency=pool / request_gib,
        max_context=131072,
    )


def history(name: str, *factors: float, predicted: int = 2 * GIB) -> list[Calibration]:
    return [
        Calibration(
            key=KEY,
            terms=(
                TermComparison(
                    name=name,
                    predicted=predicted,
                    low=round(predicted * 0.9),
                    high=round(predicted * 1.1),
                    measured=round(predicted * factor),
                ),
            ),
        )
        for factor in factors
    ]


def run() -> Run:
    layers = Layers(kind=LayerKind.FULL, count=32, heads=32, kv_heads=8, key_size=128, value_size=128)
    model = ModelFacts(
        name="a model",
        architecture="LlamaForCausalLM",
        model_type="llama",
        hidden_size=4096,
        intermediate_size=14336,
        vocab_size=128256,
        max_positions=131072,
        tied_embeddings=False,
        dtype=WeightFormat.BF16,
        layers=(layers,),
        parameters=Parameters(
            embedding=525_336_576,
            head=525_336_576,
            attention=1_342_177_280,
            mlp=5_637_144_576,
            experts=0,
            shared_experts=0,
            router=0,
            norms=266_240,
        ),
    )
    device = Device(name="H100-80GB", memory_bytes=80 * GIB, basis=Basis.MEASURED, source="a test")
    return Run(model=model, device=device, engine_version="0.19.1")


def test_a_key_leaves_out_the_patch_release() -> None:
    assert key_of(run()) == KEY
    assert key_of(replace(run(), engine_version="b6845")).version == "b6845"
    assert key_of(replace(run(), engine_version=None)).version is None


def test_every_measured_term_stands_beside_its_prediction() -> None:
    measured = Measured(
        engine=Engine.VLLM,
        weights_bytes=15 * GIB,
        consumed_bytes=round(15.3 * GIB),
        activation_bytes=3 * GIB,
        graph_estimate_bytes=round(1.2 * GIB),
        kv_cache_bytes=52 * GIB,
    )
    compared = {one.name: one for one in compare(run(), estimate(), measured).terms}
    assert set(compared) == {"weights", "activation", "non_torch", "graphs", "kv_cache"}
    assert compared["weights"].factor == 1.0
    assert compared["weights"].is_inside
    assert compared["non_torch"].measured == pytest.approx(0.3 * GIB, rel=1e-6)  # told apart by subtraction
    assert not compared["activation"].is_inside


def test_absent_measurements_are_not_compared() -> None:
    assert compare(run(), estimate(), Measured(engine=Engine.VLLM)).terms == ()
    guess = Measured(engine=Engine.OLLAMA, weights_bytes=GIB, is_scheduler_estimate=True)
    assert compare(run(), estimate(), guess).terms == ()
    assert "non_torch" not in measured_terms(Measured(non_torch_bytes=-3 * GIB))  # vLLM prints that at times


def test_the_host_is_not_the_device() -> None:
    found = measured_terms(
        Measured(
            engine=Engine.LLAMA_CPP,
            weights_bytes=9 * GIB,
            weights_by_device={"CUDA0": 5 * GIB, "CPU_Mapped": 4 * GIB},
            compute_by_device={"CUDA0": 300 * MIB, "CUDA_Host": 900 * MIB},
        )
    )
    assert (found["weights"], found["compute"]) == (5 * GIB, 300 * MIB)


def test_a_correction_is_the_median_and_says_so() -> None:
    (correction,) = corrections_for(KEY, history("activation", 1.2, 1.3, 1.9))
    assert correction.factor == pytest.approx(1.3)
    assert (correction.low, correction.high) == (pytest.approx(1.2), pytest.approx(1.9))
    assert not correction.is_cut
    assert "3 measured runs" in correction.sentence


def test_a_correction_stops_at_its_bound_and_says_why() -> None:
    (correction,) = corrections_for(KEY, history("weights", 2.0))
    assert correction.factor == BOUNDS["weights"].high
    assert correction.is_cut
    assert BOUNDS["weights"].reason in correction.sentence
    (weights, *_) = corrected(estimate(), [correction]).terms
    assert weights.basis is Basis.FORMULA  # the measurement contradicts the law: neither is taken for true
    assert weights.low <= 15 * GIB * 0.9


def test_other_models_versions_and_devices_correct_nothing() -> None:
    for other in (
        replace(KEY, model="another"),
        replace(KEY, version="0.20"),
        replace(KEY, device="H200"),
        replace(KEY, engine=Engine.OLLAMA),
    ):
        assert corrections_for(other, history("activation", 1.5)) == ()


def test_the_pool_of_vllm_and_tiny_terms_are_not_corrected() -> None:
    assert corrections_for(KEY, history("kv_cache", 1.2)) == ()
    assert corrections_for(KEY, history("non_torch", 1.9, predicted=20 * MIB)) == ()


@pytest.mark.parametrize(
    ("charged", "name", "moved"), [(True, "graphs", -1.0), (False, "graphs", 0.0), (True, "activation", -2.0)]
)
def test_the_pool_moves_by_what_the_charged_terms_moved(charged: bool, name: str, moved: float) -> None:
    before = estimate(graphs_charged=charged)
    after = corrected(before, corrections_for(KEY, history(name, 2.0)))
    assert (after.kv_cache_bytes - before.kv_cache_bytes) / GIB == pytest.approx(moved, abs=1e-6)
    pool = next(one for one in after.terms if one.name == "kv_cache")
    assert pool.bytes == after.kv_cache_bytes
    assert after.max_concurrency == pytest.approx(after.kv_cache_bytes / (4 * GIB))
    assert any("measured run" in sentence for sentence in after.assumed)


def test_a_pool_that_no_longer_holds_a_request_is_not_said_to_fit() -> None:
    before = estimate(request_gib=53.0)
    assert corrected(before, corrections_for(KEY, history("activation", 2.4))).verdict is Verdict.DOES_NOT_FIT
    assert corrected(before, corrections_for(KEY, history("activation", 1.0))).verdict is not Verdict.DOES_NOT_FIT


def test_llama_cpp_is_judged_by_its_sum() -> None:
    base = replace(run(), engine=Engine.LLAMA_CPP, engine_version="v0.5.0", n_ctx=8192, n_parallel=1)
    predicted = estimate_llama_cpp(base)
    weights = next(one for one in predicted.terms if one.name == "weights")
    measured = Measured(engine=Engine.LLAMA_CPP, weights_by_device={"CUDA0": round(weights.bytes * 1.02)})
    found = corrections_for(key_of(base), [compare(base, predicted, measured)])
    after = corrected(predicted, found)
    assert sum(one.bytes for one in after.terms) - sum(one.bytes for one in predicted.terms) == pytest.approx(
        weights.bytes * 0.02, rel=1e-3
    )
    assert after.verdict is Verdict.FITS
    small = corrected(replace(predicted, budget_bytes=8 * GIB), found)
    assert small.verdict is Verdict.DOES_NOT_FIT


@given(st.sampled_from(sorted(BOUNDS)), st.lists(st.floats(0.01, 50), min_size=1, max_size=5))
def test_factors_stay_within_their_bounds(name: str, factors: list[float]) -> None:
    key = replace(KEY, engine=Engine.LLAMA_CPP)
    runs = [replace(one, key=key) for one in history(name, *factors)]
    for correction in corrections_for(key, runs):
        assert BOUNDS[name].low <= correction.factor <= BOUNDS[name].high
        assert correction.is_cut == (correction.factor != correction.asked)


@given(st.dictionaries(st.sampled_from(["weights", "activation", "non_torch", "graphs"]), st.floats(0.3, 3)))
def test_corrected_terms_keep_their_order(factors: dict[str, float]) -> None:
    runs = [one for name, factor in factors.items() for one in history(name, factor)]
    after = corrected(estimate(), corrections_for(KEY, runs))
    for one in after.terms:
        assert one.low <= one.bytes <= one.high
    assert after.kv_cache_low_bytes <= after.kv_cache_bytes <= after.kv_cache_high_bytes


def test_nothing_measured_changes_nothing() -> None:
    assert corrected(estimate(), ()) == estimate()


def test_a_log_is_predicted_with_its_own_settings() -> None:
    found = run_as_measured(
        run(),
        Measured(
            engine=Engine.VLLM,
            engine_version="0.21.0",
            device_bytes=round(79.19 * GIB),
            max_num_seqs=16,
            gpu_memory_utilization=0.8,
            enforce_eager=True,
        ),
    )
    assert (found.engine_version, found.max_num_seqs, found.gpu_memory_utilization) == ("0.21.0", 16, 0.8)
    assert found.device.memory_bytes == round(79.19 * GIB)
    assert found.device.basis is Basis.MEASURED
    assert found.enforce_eager
    assert found.max_model_len is None


def test_the_context_of_an_ollama_log_is_shared_out() -> None:
    measured = Measured(engine=Engine.OLLAMA, n_ctx=16384, n_parallel=4, layers_offloaded=20, layers_total=33)
    found = run_as_measured(run(), measured)
    assert (found.engine, found.n_ctx, found.n_parallel, found.gpu_layers) == (Engine.OLLAMA, 4096, 4, 20)
    assert estimate_llama_cpp(found).settings["n_ctx"] == 16384
    full = run_as_measured(run(), replace(measured, layers_offloaded=33))
    assert full.gpu_layers is None

"""Predictions beside measurements: what is compared, how far a correction goes, and what it does to an estimate."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.calibration import (
    Calibration,
    CalibrationKey,
    TermComparison,
    compare,
    corrections_for,
    key_of,
    measured_terms,
    review,
)
from planner.memory.corrections import BOUNDS, corrected_terms
from planner.memory.engines import estimate_run
from planner.memory.estimate import Basis, Correction, Device, Engine, Estimate, Run, Term, Verdict
from planner.memory.experience import Experience, corrected_run
from planner.memory.facts import LayerKind, Layers, ModelFacts, Parameters, WeightFormat
from planner.memory.llama_cpp import estimate_llama_cpp
from planner.memory.measured import Measured
from planner.memory.measured_run import run_as_measured
from planner.units import GIB, MIB

KEY = CalibrationKey(model="a model", engine=Engine.VLLM, version="0.19", device="H100-80GB")


def term(name: str, gib: float, spread: float = 0.1) -> Term:
    low, high = round(gib * (1 - spread) * GIB), round(gib * (1 + spread) * GIB)
    return Term(name=name, bytes=round(gib * GIB), low=low, high=high, basis=Basis.FORMULA, source="a law")


def estimate() -> Estimate:
    """72 GiB of budget: 15 weights, 2 activation, 0.25 non-torch, 1 graphs, and what is left."""
    pool = 72 - 15 - 2 - 0.25 - 1
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
        max_concurrency=pool / 4,
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
    (weights, *_) = corrected_terms(estimate().terms, [correction])
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


def factor(name: str, value: float) -> Correction:
    (correction,) = corrections_for(KEY, history(name, value))
    return correction


def sizes(given: Estimate) -> dict[str, int]:
    return {term.name: term.bytes for term in given.terms}


@pytest.mark.parametrize(("version", "is_charged"), [("0.19.1", False), ("0.21.0", True)])
def test_the_pool_moves_by_what_the_charged_terms_moved(version: str, is_charged: bool) -> None:
    asked = replace(run(), engine_version=version, max_model_len=8192)
    before = estimate_run(asked)
    for name in ("activation", "graphs"):
        after = estimate_run(replace(asked, corrections=(factor(name, 1.5),)))
        moved = round(sizes(before).get(name, 0) * 1.5) - sizes(before).get(name, 0)
        assert before.kv_cache_bytes - after.kv_cache_bytes == moved
        assert (moved > 0) == (name == "activation" or is_charged)
        assert sizes(after)["kv_cache"] == after.kv_cache_bytes


def test_the_longest_request_is_not_scaled_where_the_model_s_own_limit_decides() -> None:
    """131,072 tokens of 32 layers x 2 x 8 heads x 128 x 2 bytes take 16 GiB, and more than 50 GiB are left."""
    asked = replace(run(), max_model_len=8192)
    before = estimate_run(asked)
    after = estimate_run(replace(asked, corrections=(factor("activation", 2.4),)))
    assert after.kv_cache_bytes < before.kv_cache_bytes
    assert before.max_context == after.max_context == 131072


def test_the_longest_request_is_what_the_corrected_pool_holds_where_the_pool_decides() -> None:
    """128 KiB a token, in blocks of 16."""
    device = replace(run().device, memory_bytes=24 * GIB)
    after = estimate_run(replace(run(), device=device, max_model_len=8192, corrections=(factor("activation", 1.5),)))
    assert after.max_context == after.kv_cache_bytes // (16 * 131072) * 16


def test_ranges_of_corrected_terms_add_as_the_engine_s_do() -> None:
    """vLLM's terms err independently, so their ranges add as squares; of llama.cpp the ends are added."""
    corrections = (factor("activation", 1.5), factor("weights", 1.01))
    after = estimate_run(replace(run(), max_model_len=8192, corrections=corrections))
    above = sum((term.high - term.bytes) ** 2 for term in after.terms if term.name != "kv_cache") ** 0.5
    assert after.kv_cache_bytes - after.kv_cache_low_bytes == pytest.approx(above, abs=2)
    llama = replace(run(), engine=Engine.LLAMA_CPP, engine_version="v0.5.0", n_ctx=8192, n_parallel=1)
    need = estimate_run(replace(llama, corrections=(factor("weights", 1.01),)))
    edge = sum(term.high for term in need.terms)
    for room, verdict in ((edge, Verdict.FITS), (edge - 1, Verdict.TIGHT)):
        device = replace(run().device, memory_bytes=room)
        changed = replace(llama, device=device, corrections=(factor("weights", 1.01),))
        assert estimate_run(changed).verdict is verdict


def test_a_pool_that_no_longer_holds_a_request_is_not_said_to_fit() -> None:
    """One request of 8,192 tokens takes 1 GiB."""
    asked = replace(run(), max_model_len=8192, max_num_batched_tokens=8192, max_num_seqs=256)
    before = estimate_run(asked)
    taken = before.budget_bytes - before.kv_cache_bytes
    small = replace(asked, device=replace(run().device, memory_bytes=round((taken + 1.8 * GIB) / 0.9)))
    assert estimate_run(small).verdict is not Verdict.DOES_NOT_FIT
    assert estimate_run(replace(small, corrections=(factor("activation", 2.4),))).verdict is Verdict.DOES_NOT_FIT


def test_llama_cpp_is_judged_by_its_sum() -> None:
    base = replace(run(), engine=Engine.LLAMA_CPP, engine_version="v0.5.0", n_ctx=8192, n_parallel=1)
    predicted = estimate_llama_cpp(base)
    weights = sizes(predicted)["weights"]
    measured = Measured(engine=Engine.LLAMA_CPP, weights_by_device={"CUDA0": round(weights * 1.02)})
    found = corrected_run(base, Experience(calibrations=(compare(base, predicted, measured),)))
    after = estimate_run(found)
    assert sum(sizes(after).values()) - sum(sizes(predicted).values()) == pytest.approx(weights * 0.02, rel=1e-3)
    assert after.verdict is Verdict.FITS
    small = replace(found, device=replace(base.device, memory_bytes=8 * GIB))
    assert estimate_run(small).verdict is Verdict.DOES_NOT_FIT


def test_an_alias_and_a_build_are_spelled_in_several_ways() -> None:
    named = replace(run(), model=replace(run().model, name="meta-llama/Llama-3.1-8B-Instruct"))
    assert key_of(named).model == "meta-llama/Meta-Llama-3.1-8B"
    llama = replace(run(), engine=Engine.LLAMA_CPP)
    for text in ("6845", "b6845", "b6845-1a2b3c4d"):
        assert key_of(replace(llama, engine_version=text)).version == "b6845"


def test_a_question_without_a_version_falls_under_the_newest_and_a_log_without_one_does_not() -> None:
    known = Experience(calibrations=tuple(replace(one, key=replace(KEY, version="0.31")) for one in activation()))
    assert corrected_run(replace(run(), engine_version=None), known).corrections
    assert not corrected_run(run(), known).corrections
    unknown = Experience(calibrations=tuple(replace(one, key=replace(KEY, version=None)) for one in activation()))
    assert not corrected_run(replace(run(), engine_version=None), unknown).corrections


def activation() -> list[Calibration]:
    return history("activation", 1.5)


def test_a_review_says_for_every_term_what_follows_from_it() -> None:
    runs = [*history("activation", 1.2, 1.4), *history("kv_cache", 1.1), *history("non_torch", 1.5, predicted=MIB)]
    found = {one.name: one for one in review(KEY, runs)}
    assert found["activation"].correction == factor_of(runs)
    assert (found["activation"].runs, found["activation"].last) == (2, runs[1].terms[0])
    assert found["kv_cache"].correction is None
    assert "what the other terms leave" in found["kv_cache"].reason
    assert "below 64 MiB" in found["non_torch"].reason
    assert review(replace(KEY, device="L4"), runs) == ()


def factor_of(runs: list[Calibration]) -> Correction:
    return next(one for one in corrections_for(KEY, runs) if one.term == "activation")


def test_the_worst_term_is_the_one_furthest_outside_of_its_range() -> None:
    inside = TermComparison(name="weights", predicted=10 * GIB, low=0, high=20 * GIB, measured=15 * GIB)
    outside = TermComparison(name="graphs", predicted=GIB, low=GIB, high=GIB, measured=2 * GIB)
    assert (inside.outside_bytes, outside.outside_bytes) == (0, GIB)
    assert Calibration(key=KEY, terms=(inside, outside)).worst is outside
    assert Calibration(key=KEY, terms=(inside,)).worst is inside


@given(st.sampled_from(sorted(BOUNDS)), st.lists(st.floats(0.01, 50), min_size=1, max_size=5))
def test_factors_stay_within_their_bounds(name: str, factors: list[float]) -> None:
    key = replace(KEY, engine=Engine.LLAMA_CPP)
    runs = [replace(one, key=key) for one in history(name, *factors)]
    for correction in corrections_for(key, runs):
        assert BOUNDS[name].low <= correction.factor <= BOUNDS[name].high
        assert correction.is_cut == (correction.factor != correction.asked)


@given(st.dictionaries(st.sampled_from(["weights", "activation", "non_torch", "graphs"]), st.floats(0.3, 3)))
def test_corrected_terms_keep_their_order(factors: dict[str, float]) -> None:
    runs = [one for name, value in factors.items() for one in history(name, value)]
    for one in corrected_terms(estimate().terms, corrections_for(KEY, runs)):
        assert one.low <= one.bytes <= one.high


def test_a_measured_factor_narrows_the_range_of_weights_fully_and_of_what_settings_change_by_half() -> None:
    """15 GiB x 1.02 and 2 GiB x 1.5, each 10 % wide before."""
    weights, activation, *_ = corrected_terms(estimate().terms, (factor("weights", 1.02), factor("activation", 1.5)))
    assert (weights.low, weights.high) == (pytest.approx(15.3 * 0.99 * GIB), pytest.approx(15.3 * 1.01 * GIB))
    assert (activation.low, activation.high) == (pytest.approx(2.85 * GIB), pytest.approx(3.15 * GIB))
    assert activation.basis is Basis.MEASURED


def test_a_correction_speaks_for_as_many_devices_as_were_measured() -> None:
    known = Experience(calibrations=tuple(history("non_torch", 1.5)))
    assert corrected_run(run(), known).corrections
    assert not corrected_run(replace(run(), tensor_parallel=2), known).corrections


def test_nothing_measured_changes_nothing() -> None:
    assert corrected_terms(estimate().terms, ()) == estimate().terms
    assert corrected_run(run(), Experience()) == run()


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

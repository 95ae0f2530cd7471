"""The search lists every device option, cheapest first, and accepts none that does not hold the need."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalog import load_catalog
from planner.memory.estimate import Engine, Verdict
from planner.memory.model_catalogue import find_model
from planner.memory.options import ImpossibleNeed, Need, Option, Precision, Search, Terms, search

CATALOG = load_catalog()
LLAMA = find_model("Llama-3.1-8B")
H100, L4, T4 = CATALOG.board("H100-80GB-SXM"), CATALOG.board("L4"), CATALOG.board("T4")
NEED = Need(context=8192, concurrency=8)


def everything(found: Search) -> list[Option]:
    return [*found.options, *found.rejected]


def test_every_profile_and_every_number_of_gpus_is_an_option_once() -> None:
    found = search(LLAMA, NEED, [H100, L4])
    names = [option.device for option in everything(found)]
    whole = [name for board in ("H100-80GB-SXM", "L4") for name in (board, *(f"{n} x {board}" for n in (2, 4, 8)))]
    profiles = [f"H100-80GB-SXM {profile.name}" for profile in H100.profiles if not profile.variant]
    assert sorted(names) == sorted([*whole, *profiles])


def test_the_cheapest_comes_first_by_memory_taken_and_by_price_where_given() -> None:
    found = search(LLAMA, NEED, [H100, L4])
    sizes = [option.memory_taken_bytes for option in found.options]
    assert sizes == sorted(sizes, key=lambda size: size or 0)
    assert found.options[0].device == "H100-80GB-SXM 3g.40gb"
    priced = search(LLAMA, NEED, [H100, L4], Terms(prices={"H100-80GB-SXM": 3.0, "L4": 0.5}))
    assert priced.options[0].device == "2 x L4"
    assert priced.options[0].price_usd_per_hour == 1.0
    half = next(option for option in priced.options if option.profile == "3g.40gb")
    assert half.price_usd_per_hour == 1.5


def test_boards_without_a_price_come_after_those_with_one() -> None:
    found = search(LLAMA, NEED, [H100, L4], Terms(prices={"H100-80GB-SXM": 30.0}))
    boards = [option.board for option in found.options]
    assert boards == sorted(boards)  # all of the H100 first


def test_what_is_accepted_holds_all_requests_at_once() -> None:
    found = search(LLAMA, NEED, CATALOG.boards)
    assert found.options
    for option in found.options:
        assert option.estimate is not None
        assert option.estimate.max_concurrency is not None
        assert option.estimate.kv_cache_high_bytes > 0
        if option.verdict is Verdict.FITS:
            assert option.estimate.max_concurrency >= NEED.concurrency
    for option in found.rejected:
        assert option.reason
        assert option.verdict in (None, Verdict.DOES_NOT_FIT)
    small = next(option for option in found.rejected if option.device == "L4")
    assert "8 are needed" in small.reason


def test_the_flags_are_always_explicit() -> None:
    for option in search(LLAMA, NEED, [H100]).options:
        assert option.estimate is not None
        named = {flag.split()[0] for flag in option.estimate.flags}
        assert named >= {
            "--max-model-len",
            "--max-num-seqs",
            "--max-num-batched-tokens",
            "--gpu-memory-utilization",
            "--tensor-parallel-size",
            "--kv-cache-dtype",
        }
        assert "--max-num-seqs 8" in option.estimate.flags


def test_more_sequences_than_batched_tokens_raise_the_batch() -> None:
    found = search(LLAMA, Need(context=16, concurrency=3000), [H100])
    assert [option.device for option in found.options][:1] != []
    for option in everything(found):
        if option.estimate is not None:
            batched = int(option.estimate.settings["max_num_batched_tokens"])
            assert int(option.estimate.settings["max_num_seqs"]) == 3000 <= batched


def test_precisions_multiply_the_options_and_old_boards_refuse_fp8() -> None:
    precisions = (Precision(), Precision(quantization="fp8"), Precision(kv_cache_dtype="fp8"))
    found = search(LLAMA, NEED, [L4, T4], Terms(precisions=precisions))
    assert len(everything(found)) == 2 * 4 * 3
    old = [option for option in everything(found) if option.board == "T4"]
    cached = [option for option in old if option.precision.kv_cache_dtype]
    assert [option.verdict for option in cached] == [Verdict.DOES_NOT_FIT] * 4
    assert all("no FP8 on Turing" in option.reason for option in cached)
    weights = [option for option in old if option.precision.quantization]
    assert Verdict.FITS not in {option.verdict for option in weights}  # from 0.14 on, by a kernel no run recorded
    before = search(LLAMA, NEED, [T4], Terms(precisions=precisions[1:], engine_version="0.13.0"))
    assert len(before.rejected) == 4 * 2
    plain = next(option for option in old if option.device == "4 x T4" and option.estimate)
    assert plain.estimate is not None
    assert "--dtype float16" in plain.estimate.flags


def test_a_family_without_float16_is_started_in_float32_on_boards_without_bfloat16() -> None:
    found = search(find_model("google/gemma-3-4b-it"), Need(context=2048, concurrency=4), [T4])
    assert "T4" in [option.device for option in found.rejected]  # 4.3 billion parameters of 4 bytes
    for option in everything(found):
        assert option.estimate is not None
        assert "--dtype float32" in option.estimate.flags


def test_heads_that_do_not_divide_are_a_reason() -> None:
    found = search(LLAMA, NEED, [H100], Terms(ranks=(1, 3)))
    (three,) = [option for option in found.rejected if option.gpus == 3]
    assert three.verdict is None
    assert "do not divide" in three.reason


def test_unknown_memory_is_a_reason() -> None:
    found = search(LLAMA, NEED, [CATALOG.board("RTX-A6000")])
    assert not found.options
    assert all("No source states" in option.reason for option in found.rejected)


def test_llama_cpp_is_searched_too() -> None:
    found = search(LLAMA, NEED, [H100, L4], Terms(engine=Engine.LLAMA_CPP))
    assert found.options[0].estimate is not None
    assert "--parallel 8" in found.options[0].estimate.flags


@pytest.mark.parametrize(
    ("need", "words"),
    [(Need(context=0, concurrency=1), "at least one"), (Need(context=10**7, concurrency=1), "is made for 131,072")],
)
def test_impossible_needs_are_refused(need: Need, words: str) -> None:
    with pytest.raises(ImpossibleNeed, match=words):
        search(LLAMA, need, [H100])
    with pytest.raises(ImpossibleNeed, match="does not generate text"):
        search(replace(LLAMA, is_text=False), NEED, [H100])


@given(
    context=st.integers(1, 65536), concurrency=st.integers(1, 64), more=st.integers(0, 65536), users=st.integers(0, 64)
)
def test_a_larger_need_accepts_no_further_device(context: int, concurrency: int, more: int, users: int) -> None:
    def surely(need: Need) -> set[str]:
        return {option.device for option in search(LLAMA, need, [H100, L4]).options}

    less = surely(Need(context=context, concurrency=concurrency))
    assert surely(Need(context=context + more, concurrency=concurrency + users)) <= less

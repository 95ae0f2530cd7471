"""Sums whose parts go, come back, cannot be read or begin anew: what the store counts is what the engine counted."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collectors.serving import parts as parts_of_sums
from planner.serving_readings import ServingEngine
from tests.collectors.serving.pages import AT, histogram
from tests.collectors.serving.stored import Stored

VLLM, SGLANG = ServingEngine.VLLM, ServingEngine.SGLANG
TTFT = "vllm:time_to_first_token_seconds"
E = 'engine="0",model_name="m"'
Make = Callable[[ServingEngine], Stored]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Make]:
    made: list[Stored] = []

    def make(engine: ServingEngine) -> Stored:
        made.append(Stored(tmp_path, engine))
        return made[-1]

    yield make
    for one in made:
        one.close()


def streamed(true: object, false: object) -> str:
    name = 'sglang:generation_tokens_total{model_name="m",is_streaming='
    return "".join(f'{name}"{how}"}} {value}\n' for how, value in (("true", true), ("false", false)) if value != "")


def sharded(**values: float) -> str:
    """A counter split by a label that vLLM's table does not know."""
    return "".join(f'vllm:generation_tokens_total{{{E},shard="{shard}"}} {value}\n' for shard, value in values.items())


def ttft(count: int, total: float, *, created: bool = True) -> str:
    page = histogram(TTFT, {"0.1": count // 2, "1.0": count, "+Inf": count}, total, E)
    return page + (f"{TTFT}_created{{{E}}} {AT.timestamp() - 60}\n" if created else "")


@pytest.mark.parametrize("unread", ["NaN", "+Inf", "x", "-5", "1e308"])
def test_a_part_that_is_no_number_leaves_its_sum_out_and_nothing_is_counted_twice(stored: Make, unread: str) -> None:
    store = stored(SGLANG)
    store.scrape(streamed(50000, 100000))
    store.scrape(streamed(50010, 100010))
    torn = store.scrape(streamed(50020, unread))
    assert torn.counters == {}
    assert "a part of it cannot be read; the sum was left out" in torn.reasons("generation_tokens")
    store.scrape(streamed(50030, 100030))
    assert (store.counted("generation_tokens"), store.resets()) == (60, 0)


def test_a_page_that_is_cut_is_not_read_as_whole(stored: Make) -> None:
    store = stored(ServingEngine.LLAMA_CPP)
    both = "llamacpp:prompt_tokens_total {}\nllamacpp:prompt_tokens_cached_total 50000\n"
    first = store.scrape("llamacpp:prompt_tokens_total 99990\nllamacpp:prompt_tok")  # nothing to compare it with
    assert first.counters == {}
    store.scrape(both.format(100000))
    store.scrape(both.format(100010))
    cut = store.scrape("llamacpp:prompt_tokens_total 100020\nllamacpp:prompt_tok")
    assert cut.counters == {}
    assert "a line was lost that may be a part of it; it was left out" in cut.reasons("prompt_tokens")
    store.scrape(both.format(100030))
    assert (store.counted("prompt_tokens"), store.resets()) == (30, 0)


def test_a_cut_page_still_tells_what_is_the_same_as_before(stored: Make) -> None:
    store = stored(SGLANG)
    store.scrape(streamed(100, 200) + "sglang:num_running_reqs{} 1\n")
    cut = store.scrape(streamed(110, 210) + "sglang:num_running_reqs{} 2\nsglang:num_que")
    assert cut.counters == {("generation_tokens", "", ""): 320}
    assert cut.gauges == {("requests_running", "", ""): 2}


def test_a_page_whose_last_line_ends_it_is_whole(stored: Make) -> None:
    assert stored(SGLANG).scrape(streamed(1, 2) + "# EOF").counters == {("generation_tokens", "", ""): 3}


def test_a_gauge_that_lacks_a_part_is_left_out(stored: Make) -> None:
    store = stored(SGLANG)
    lines = [f'sglang:num_running_reqs{{model_name="m",engine_type="{one}"}} 4\n' for one in ("prefill", "decode")]
    assert store.scrape("".join(lines)).gauges == {("requests_running", "", ""): 8}
    assert store.scrape(lines[0] + "sglang:num_ru").gauges == {}
    assert store.scrape(lines[0] + lines[1].replace(" 4", " NaN")).gauges == {}
    assert store.scrape(lines[0]).gauges == {("requests_running", "", ""): 4}  # nothing was lost: it is gone


def test_a_version_that_triton_unloads_takes_nothing_with_it(stored: Make) -> None:
    def page(requests: dict[int, int]) -> str:
        return "".join(
            f'nv_inference_request_success{{model="m",version="{version}"}} {count}\n'
            f'nv_inference_request_duration_us{{model="m",version="{version}"}} {count * 1000}\n'
            for version, count in requests.items()
        )

    store = stored(ServingEngine.TRITON)
    store.scrape(page({1: 100, 2: 100_000}))
    store.scrape(page({1: 110, 2: 100_100}))
    store.scrape(page({2: 100_200}))
    store.restart_collector()  # what is remembered is not needed for it
    store.scrape(page({2: 100_300}))
    assert store.by_rank("requests_finished") == {"1": 10, "2": 300}
    assert store.values("e2e_latency_s") == (310, pytest.approx(0.31))
    assert store.resets() == 0
    store.scrape(page({1: 5, 2: 100_300}))  # loaded again: it counts from 0
    assert store.by_rank("requests_finished") == {"1": 15, "2": 300}


def test_a_part_that_goes_keeps_what_it_had_counted(stored: Make) -> None:
    store = stored(VLLM)
    store.scrape(sharded(a=1000, b=5000))
    store.scrape(sharded(a=1010, b=5020))
    assert store.scrape(sharded(a=1030)).counters == {("generation_tokens", "", ""): 1030 + 5020}
    store.scrape(sharded(a=1040, b=5050))  # back again
    store.scrape(sharded(a=1050, b=3))  # began anew: its 3 are new
    store.scrape(sharded(a=1050, b=4, c=7))  # another one
    assert store.counted("generation_tokens") == 50 + 50 + 4 + 7
    assert store.resets() == 0


def test_a_part_with_a_start_of_its_own_began_anew_although_it_did_not_fall(stored: Make) -> None:
    def page(a: int, b: int, b_started_s: float) -> str:
        name, start = "vllm:generation_tokens", AT.timestamp() - 7200
        lines = [f'{name}_total{{{E},shard="a"}} {a}\n{name}_created{{{E},shard="a"}} {start}\n']
        lines.append(f'{name}_total{{{E},shard="b"}} {b}\n{name}_created{{{E},shard="b"}} {b_started_s}\n')
        return "".join(lines)

    store = stored(VLLM)
    store.scrape(page(100, 10, AT.timestamp() - 9000))  # the older part gives the sum its start
    store.scrape(page(110, 20, AT.timestamp() + 30))
    store.scrape(page(120, 21, AT.timestamp() + 30))
    assert (store.counted("generation_tokens"), store.resets()) == (20 + 20 + 1, 0)


def test_an_engine_that_starts_again_takes_its_sums_with_it(stored: Make) -> None:
    store = stored(SGLANG)
    store.scrape(streamed(1000, 2000))
    restarted = store.scrape(streamed(10, 20))
    assert restarted.counters == {("generation_tokens", "", ""): 30}
    assert (store.counted("generation_tokens"), store.resets()) == (30, 1)


def test_a_label_that_is_renamed_is_no_second_part(stored: Make) -> None:
    store = stored(VLLM)
    store.scrape(sharded(old=1000))
    assert store.scrape(sharded(new=1010)).counters == {("generation_tokens", "", ""): 1010}
    assert store.counted("generation_tokens") == 10


def test_more_parts_than_are_followed_are_no_sum(stored: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_of_sums, "MAX_PARTS", 10)
    store = stored(VLLM)
    for number in range(20):
        found = store.scrape(sharded(a=number, **{f"request_{number}": 1}))
    assert found.counters == {}
    assert any("more than 10 parts" in reason for reason in found.reasons("generation_tokens"))


def test_the_sums_that_are_remembered_are_bounded(stored: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_of_sums, "MAX_SUMS", 10)
    store = stored(VLLM)
    for number in range(50):
        store.scrape(f'vllm:request_success_total{{{E},finished_reason="r{number}"}} 1\n')
        assert len(store.remembered_sums()) <= 10


def test_parts_whose_sum_would_overflow_are_left_out(stored: Make) -> None:
    store = stored(SGLANG)
    for value in ("1e308", "1.1e308"):
        assert store.scrape(streamed(value, value)).counters == {}
    text = histogram("sglang:time_to_first_token_seconds", {"+Inf": 1e308}, 1.0, 'model_name="m",is_streaming="true"')
    huge = store.scrape(text + text.replace('"true"', '"false"'))
    assert huge.histograms == {}
    assert any("larger than anything" in reason for reason in huge.reasons("ttft_s"))


def test_one_value_beyond_belief_adds_nothing(stored: Make) -> None:
    store = stored(VLLM)
    for value in (100, "1e308", "9.3e18", 200):  # 2**63 is 9.22e18
        store.scrape(f"vllm:generation_tokens_total{{{E}}} {value}\n")
    assert (store.counted("generation_tokens"), store.resets()) == (100, 0)
    assert store.scrape(f"vllm:generation_tokens_total{{{E}}} 9.2e18\n").counters


@pytest.mark.parametrize("bad", [0, 1, 2])  # both finite buckets, and the last
@pytest.mark.parametrize("created", [True, False])
def test_a_bucket_line_that_cannot_be_read_makes_no_other_histogram(stored: Make, bad: int, created: bool) -> None:
    store = stored(VLLM)
    for minute in range(1, 11):
        lines = ttft(100 * minute, 10.0 * minute, created=created).splitlines()
        if minute in (1, 5, 6, 9):  # the first page, too
            lines[bad] = lines[bad].replace("{", "{{")
        store.scrape("\n".join(lines) + "\n")
    # a series that began a minute before is counted from its beginning, any other from its second sight on
    assert store.values("ttft_s") == ((1000, pytest.approx(100)) if created else (800, pytest.approx(80)))
    assert store.resets() == 0


def test_an_unreadable_line_of_something_else_costs_no_histogram(stored: Make) -> None:
    store = stored(VLLM)
    for bad in ("node_cpu{{ 5", "vllm:num_requests_running{{ 5"):
        assert store.scrape(ttft(10, 1.0) + f"{bad}\n").histograms


def test_a_line_that_nobody_knows_costs_a_histogram_once_and_not_for_ever(stored: Make) -> None:
    store = stored(VLLM)
    assert [bool(store.scrape(f"<<<\n{ttft(10 * n, n)}").histograms) for n in (1, 2, 3)] == [False, True, True]


def test_a_sum_of_values_that_falls_or_is_negative_is_left_out(stored: Make) -> None:
    store = stored(VLLM)
    store.scrape(ttft(10, 100.0, created=False))
    fallen = store.scrape(ttft(20, 5.0, created=False))
    negative = store.scrape(ttft(30, -50.0, created=False))
    assert fallen.histograms == negative.histograms == {}
    assert "fell, and their number did not" in fallen.reasons("ttft_s")[0]
    assert "is negative" in negative.reasons("ttft_s")[0]
    store.scrape(ttft(40, 400.0, created=False))
    assert store.values("ttft_s") == (30, 300.0)


def test_an_engine_whose_counts_and_sums_fall_together_started_again(stored: Make) -> None:
    store = stored(VLLM)
    store.scrape(ttft(10, 100.0, created=False))
    store.scrape(ttft(2, 5.0, created=False))
    assert (store.values("ttft_s"), store.resets()) == ((2, 5.0), 1)


def ray(**workers: float) -> str:
    names = {worker: f'ReplicaId="{worker}",{E}' for worker in workers}
    lines = [f"ray_vllm_generation_tokens_total{{{names[worker]}}} {count}" for worker, count in workers.items()]
    lines += [f'ray_vllm_e2e_request_latency_seconds_bucket{{{names[worker]},le="+Inf"}} 4' for worker in workers]
    lines += [f"ray_vllm_e2e_request_latency_seconds_sum{{{names[worker]}}} 2.0" for worker in workers]
    lines += [f"ray_vllm_e2e_request_latency_seconds_count{{{names[worker]}}} 4" for worker in workers]
    return "".join(f"{line}\n" for line in lines)


def test_a_worker_that_comes_counts_from_the_look_before_it(stored: Make) -> None:
    store = stored(VLLM)
    store.scrape(ray(r1=100, r2=900))
    store.scrape(ray(r1=130))
    assert store.counted("generation_tokens") == 30
    store.scrape(ray(r3=50))  # r1 was ended, and this is its successor
    store.scrape(ray(r3=60, r2=900))  # r2 was away, and is no new one
    assert store.by_rank("generation_tokens") == {"r1": 30, "r2": 0, "r3": 60}
    assert store.values("e2e_latency_s") == (4, 2.0)
    store.restart_collector()
    store.scrape(ray(r3=70, r4=500))  # nobody knows since when r4 is there
    store.scrape(ray(r3=80, r4=500, r5=7))
    assert store.by_rank("generation_tokens") == {"r1": 30, "r2": 0, "r3": 80, "r4": 0, "r5": 7}
    assert store.resets() == 0


def test_a_page_that_was_cut_does_not_make_a_worker_new(stored: Make) -> None:
    store = stored(VLLM)
    store.scrape(ray(r1=100)[:-3])
    store.scrape(ray(r1=100, r2=900))
    store.scrape(ray(r1=101, r2=901))
    assert store.by_rank("generation_tokens") == {"r1": 1, "r2": 1}

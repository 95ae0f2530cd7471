"""Pages that are broken, and pages that nobody would think of."""

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.exposition import MAX_BAD_LINES, MAX_LINE
from collectors.serving.histograms import Buckets, Contradiction, buckets_of, merged
from collectors.serving.metrics import TABLES
from collectors.serving.series import SeriesBook
from collectors.serving.wire import Values, read_page
from planner.serving_readings import ServingEngine
from tests.collectors.serving.pages import histogram, told

E = 'engine="0",model_name="m"'
GOOD = f"vllm:generation_tokens_total{{{E}}} 5\n"


@pytest.mark.parametrize(
    "bad",
    [
        "vllm:num_requests_running{",
        'vllm:num_requests_running{a="1" 5',
        'vllm:num_requests_running{a="1",a="2"} 5',
        "vllm:num_requests_running 1 2 3",
        "<html>",
        "vllm:num_requests_running " + "1" * (MAX_LINE + 1),
        "\x00\x01",
        'vllm:time_to_first_token_seconds_bucket{model_name="m"} 5',
        'vllm:time_to_first_token_seconds_bucket{le="many",model_name="m"} 5',
    ],
)
def test_one_bad_line_costs_that_line_only(bad: str) -> None:
    found = told(f"{bad}\n{GOOD}")
    assert found.counters == {("generation_tokens", "", ""): 5}
    (reason,) = found.reasons(None)
    assert reason.startswith("line not read")
    assert len(reason) < 250


def test_bad_lines_are_counted_and_few_are_kept() -> None:
    page = read_page("{{{\n" * 1000 + GOOD, SeriesBook(TABLES[ServingEngine.VLLM]))
    assert (page.bad_line_count, len(page.bad_lines)) == (1000, MAX_BAD_LINES)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        f"\n\n  \n# HELP x y\n# EOF\n{GOOD}",
        f"   {GOOD}",
        GOOD.replace(" 5", "   5  "),
        GOOD.replace(" 5", "\t5"),
        GOOD.replace(" 5", " 5 1795312835000"),
        GOOD.replace("{", "{ ").replace(",", " , "),
        GOOD.replace('model_name="m"', 'model_name="m",'),
    ],
)
def test_blanks_comments_times_and_line_ends_change_nothing(text: str) -> None:
    book = SeriesBook(TABLES[ServingEngine.VLLM])
    for _ in range(2):
        assert told(text, ServingEngine.VLLM, book=book).counters == {("generation_tokens", "", ""): 5}


def test_a_value_is_never_taken_for_a_part_of_the_series() -> None:
    book = SeriesBook(TABLES[ServingEngine.VLLM])
    for value in (5, 6, 7):
        line = f"vllm:generation_tokens_total{{{E}}} {value} 1795312835000\n"
        assert told(line, book=book).counters == {("generation_tokens", "", ""): value}


def test_a_page_that_ends_in_the_middle_of_a_line_loses_that_line() -> None:
    page = read_page(GOOD + 'vllm:num_requests_running{engine="0"} 12', SeriesBook(TABLES[ServingEngine.VLLM]))
    assert page.is_cut
    assert len(page.values) == 1


def test_samples_may_come_in_any_order() -> None:
    lines = histogram("vllm:time_to_first_token_seconds", {"0.1": 1, "0.5": 2, "+Inf": 3}, 0.9, E).splitlines()
    text = "\n".join([*reversed(lines), GOOD])
    ttft = told(text).histograms["ttft_s", ""]
    assert (ttft.bounds, ttft.counts, ttft.count) == ((0.1, 0.5), (1, 2), 3)


def test_escaped_and_unescaped_label_values() -> None:
    found = told(
        'vllm:num_requests_running{model_name="C:\\\\m \\"q\\""} 1\nvllm:num_requests_running{model_name="a"b"} 2\n'
    )
    assert {one.subject.model for one in found.understood.gauges} == {'C:\\m "q"', 'a"b'}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (Values(buckets=[(0.1, 2), (0.5, 1), (math.inf, 3)], total=1, count=3), "do not rise"),
        (Values(buckets=[(0.1, 2), (math.inf, 1)], total=1, count=1), "do not rise"),
        (Values(buckets=[(0.1, 2), (math.inf, 3)], total=1, count=4), "last bucket"),
        (Values(buckets=[(0.1, 2), (0.1, 3), (math.inf, 3)], total=1, count=3), "given twice"),
        (Values(buckets=[(0.1, math.nan)], total=1, count=3), "not finite"),
        (Values(buckets=[(0.1, 1)], total=math.nan, count=3), "not finite"),
        (Values(buckets=[(0.1, -1), (math.inf, 3)], total=1, count=3), "do not rise"),
        (Values(buckets=[(0.1, 1), (math.inf, 3)]), "sum is missing"),
        (Values(buckets=[(0.1, 1)], total=1), "count or its sum"),
        (Values(total=1), "count or its sum"),
        (Values(buckets=[(0.1, 1)], total=1, count=1, is_no_number=True), "not a number"),
        (Values(buckets=[(float(n), 0) for n in range(1000)], total=1, count=1), "more than 512"),
    ],
)
def test_a_histogram_that_contradicts_itself_is_refused_with_the_reason(values: Values, why: str) -> None:
    with pytest.raises(Contradiction, match=why):
        buckets_of(values)


def test_a_histogram_without_its_last_bucket_or_without_its_count_is_whole() -> None:
    assert buckets_of(Values(buckets=[(0.1, 1)], total=1, count=3)) == Buckets(
        bounds=(0.1,), counts=(1,), count=3, total=1
    )
    assert buckets_of(Values(buckets=[(0.1, 1), (math.inf, 3)], total=1)) == Buckets(
        bounds=(0.1,), counts=(1,), count=3, total=1
    )
    assert buckets_of(Values()) is None


def test_a_contradiction_costs_that_histogram_and_is_told() -> None:
    found = told(histogram("vllm:time_to_first_token_seconds", {"0.1": 5, "+Inf": 3}, 0.9, E) + GOOD)
    assert found.histograms == {}
    assert found.counters
    assert "do not rise" in found.reasons("ttft_s")[0]


def test_histograms_with_other_buckets_are_not_added_up() -> None:
    one = Buckets(bounds=(0.1,), counts=(1,), count=1, total=1)
    assert merged([one, Buckets(bounds=(0.2,), counts=(1,), count=1, total=1)]) is None
    assert merged([one, one]) == Buckets(bounds=(0.1,), counts=(2,), count=2, total=2)


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_breaks_the_reader(noise: str, more: str) -> None:
    found = told(f"{noise}\n{GOOD}{more}\n", ServingEngine.VLLM)
    assert [one.value for one in found.understood.counters if one.metric == "generation_tokens"] == [5]


label = st.text(string.ascii_letters + ' "\\{}=,\n', max_size=12)


@given(
    st.dictionaries(
        st.sampled_from(["engine", "model_name", "finished_reason", "le", "ReplicaId", "x"]), label, max_size=5
    ),
    st.sampled_from(["num_requests_running", "request_success_total", "time_to_first_token_seconds_bucket"]),
    st.one_of(st.floats().map(repr), st.text(max_size=10)),
)
def test_no_labels_and_no_value_break_the_reader(labels: dict[str, str], name: str, value: str) -> None:
    escaped = {key: text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for key, text in labels.items()}
    block = ",".join(f'{key}="{text}"' for key, text in escaped.items())
    found = told(f"vllm:{name}{{{block}}} {value}\n{GOOD}", ServingEngine.VLLM)
    assert [one.value for one in found.understood.counters if one.metric == "generation_tokens"] == [5]


@given(
    st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=20, unique=True).map(sorted),
    st.data(),
)
def test_histograms_round_trip(bounds: list[float], data: st.DataObject) -> None:
    fresh = data.draw(st.lists(st.integers(0, 1000), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    counts = [float(sum(fresh[: place + 1])) for place in range(len(fresh))]
    total = data.draw(st.floats(0, 1e9, allow_nan=False))
    text = histogram(
        "vllm:time_to_first_token_seconds",
        {**{repr(bound): count for bound, count in zip(bounds, counts, strict=False)}, "+Inf": counts[-1]},
        total,
        E,
    )
    lines = data.draw(st.permutations(text.splitlines()))
    ttft = told("\n".join(lines) + "\n").histograms["ttft_s", ""]
    assert (ttft.bounds, ttft.counts, ttft.count, ttft.total) == (tuple(bounds), tuple(counts[:-1]), counts[-1], total)

"""Langfuse's words: numbers that are strings, times without a zone, details with any key."""

import contextlib
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.langfuse.wire import (
    DailyMetrics,
    DailyUsage,
    Malformed,
    Observation,
    Page,
    count,
    moment,
    names,
    number,
    read,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
OBSERVATION = {"id": "o1", "startTime": "2026-11-16T10:15:00.000Z"}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("18446744073709551", Decimal(18446744073709551)),  # ClickHouse's UInt64
        ("0.000000000123", Decimal("0.000000000123")),  # its decimals
        ("1e-7", Decimal("1e-7")),
        (" 12 ", Decimal(12)),
        (12, Decimal(12)),
        (0.1, Decimal("0.1")),  # what JSON said, not its nearest binary fraction
        (-0.5, None),  # nobody uses less than nothing
        (None, None),
        (True, None),
        ("", None),
        ("many", None),
        ("NaN", None),
        ("Infinity", None),
        (float("nan"), None),
        (float("inf"), None),
        ("1e400", None),
        ([1], None),
        ({"a": 1}, None),
    ],
)
def test_numbers_are_numbers_however_they_are_written(told: object, expected: Decimal | None) -> None:
    assert number(told) == expected


@pytest.mark.parametrize(
    ("told", "expected"), [("7", 7), ("7.0", 7), (7.0, 7), (-1, None), ("1.5", None), (None, None)]
)
def test_counts_are_whole_and_not_negative(told: object, expected: int | None) -> None:
    assert count(told) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("2026-11-16T10:00:00Z", datetime(2026, 11, 16, 10, tzinfo=UTC)),
        ("2026-11-16T10:00:00.000Z", datetime(2026, 11, 16, 10, tzinfo=UTC)),
        ("2026-11-16T12:00:00+02:00", datetime(2026, 11, 16, 10, tzinfo=UTC)),
        ("2026-11-16 10:00:00", datetime(2026, 11, 16, 10, tzinfo=UTC)),  # ClickHouse without the ISO setting
        ("2026-11-16", datetime(2026, 11, 16, tzinfo=UTC)),  # its Date, of granularity day
        ("soon", None),
        ("", None),
        (None, None),
        (1763287200, None),
        ("0001-01-01T00:00:00+14:00", None),  # before any time in UTC
    ],
)
def test_times_are_utc_whether_they_say_so_or_not(told: object, expected: datetime | None) -> None:
    assert moment(told) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [(["a", "b", "a", "", 7], ("a", "b")), ("a", ("a",)), ("", ()), ([], ()), (None, ()), ({"a": 1}, ())],
)
def test_tags_come_as_a_list_or_taken_apart(told: object, expected: tuple[str, ...]) -> None:
    assert names(told) == expected


class TestObservations:
    def test_the_model_is_found_under_the_name_of_either_api(self) -> None:
        assert read(Observation, {**OBSERVATION, "providedModelName": "m"}).model == "m"
        assert read(Observation, {**OBSERVATION, "model": "m"}).model == "m"
        assert read(Observation, {**OBSERVATION, "model": "m", "providedModelName": None}).model == "m"
        assert read(Observation, OBSERVATION).model == ""

    def test_tokens_are_what_langfuses_own_measures_count(self) -> None:
        # dataModel.ts: inputTokens is the sum of the keys that hold "input", in any case
        told = {
            "input": 10,
            "input_cached_tokens": "5",
            "cache_read_Input_tokens": 3,
            "output": 7,
            "total": 100,
            "images": 2,
        }
        observation = read(Observation, {**OBSERVATION, "usageDetails": told})
        assert observation.input_tokens == 18
        assert observation.output_tokens == 7
        assert observation.usage_details["total"] == 100  # never input + output
        assert observation.usage_details["images"] == 2

    def test_without_details_tokens_are_unknown_and_not_zero(self) -> None:
        observation = read(Observation, OBSERVATION)
        assert (observation.input_tokens, observation.output_tokens, observation.cost_usd) == (None, None, None)

    def test_the_stated_total_cost_counts_before_the_one_among_the_details(self) -> None:
        details = {"input": 0.1, "total": 0.3}
        assert read(Observation, {**OBSERVATION, "costDetails": details, "totalCost": "0.25"}).cost_usd == Decimal(
            "0.25"
        )
        assert read(Observation, {**OBSERVATION, "costDetails": details}).cost_usd == Decimal("0.3")
        assert read(Observation, {**OBSERVATION, "calculatedTotalCost": 0.2}).cost_usd == Decimal("0.2")

    def test_one_amount_that_is_none_costs_itself(self) -> None:
        observation = read(
            Observation, {**OBSERVATION, "usageDetails": {"input": "x", "output": 1.5, "": 3, "total": None}}
        )
        assert observation.usage_details == {"output": Decimal("1.5")}

    @pytest.mark.parametrize("told", [None, [], {}, {"id": ""}, {"id": 7}, "o1"])
    def test_without_an_id_it_cannot_be_counted_once(self, told: object) -> None:
        with pytest.raises(Malformed):
            read(Observation, told)


def test_a_page_keeps_its_notice_of_deprecation() -> None:
    page = read(
        Page, {"data": [], "meta": {"totalPages": "3"}, "_deprecation": {"message": "old", "sunsetAt": "2026-11-16"}}
    )
    assert page.deprecation is not None
    assert page.deprecation.sunset_at == "2026-11-16"
    assert page.meta.total_pages == 3
    assert read(Page, {"data": [], "meta": None, "_deprecation": "yes"}).deprecation is None


@pytest.mark.parametrize("told", [None, [], {}, {"data": None}, {"data": {}}, {"data": [], "meta": {"cursor": 7}}])
def test_what_has_no_data_is_no_page(told: object) -> None:
    with pytest.raises(Malformed):
        read(Page, told)


@given(JSON)
def test_no_answer_brings_it_down(told: object) -> None:
    number(told), count(told), moment(told), names(told)
    for kind in (Page, Observation, DailyMetrics, DailyUsage):
        with contextlib.suppress(Malformed):
            read(kind, told)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**17))
def test_a_number_survives_being_written_as_a_string(value: Decimal) -> None:
    assert number(str(value)) == value

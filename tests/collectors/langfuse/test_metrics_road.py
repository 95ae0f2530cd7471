"""Use per hour from the metrics endpoints: strings, filled-in hours, cut answers, users and tags."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors.errors import BadPayload, Unauthorized, Unreachable
from collectors.langfuse import metrics_road, question
from collectors.langfuse.api import Refused, RoadClosed, TooMuch
from collectors.langfuse.config import RoadName
from collectors.langfuse.metrics_road import MetricsRoad, TooManyGroups
from collectors.langfuse.question import ROW_LIMIT
from collectors.langfuse.road import Found
from planner.token_usage import TokenUsage
from tests.collectors.json_web import Query, Reply, Told, json_web
from tests.collectors.langfuse.langfuses import (
    ABSENT,
    V1,
    V2,
    api,
    asked_query,
    asked_span,
    at,
    requests_by_hour,
    row,
    window,
)

BAD = Reply({"message": "Invalid dimension", "error": "InvalidRequestError"}, 400)


def _read(told: Told, *dimensions: str, road: RoadName = RoadName.METRICS_V2, details: bool = False) -> Found:
    with json_web({V2 if road is RoadName.METRICS_V2 else V1: told}) as web:
        return MetricsRoad(api(web), road, details=details).read(window(), dimensions)


def _data(*rows: Any) -> dict[str, Any]:
    return {"data": list(rows)}


@pytest.mark.parametrize("road", [RoadName.METRICS_V2, RoadName.METRICS_V1])
def test_an_hour_of_a_model(road: RoadName) -> None:
    found = _read(_data(row(8)), road=road)
    assert found.usage == (
        TokenUsage(
            start=at(8),
            end=at(9),
            model="m",
            requests=2,
            input_tokens=30,
            output_tokens=12,
            total_tokens=42,
            cost_usd=0.25,
        ),
    )
    assert [(span.start, span.end, span.dimension) for span in found.spans] == [(at(8), at(10), "")]
    assert found.gaps == ()


@pytest.mark.parametrize(
    "hour", ["2026-11-16T08:00:00Z", "2026-11-16T08:00:00.000Z", "2026-11-16 08:00:00", "2026-11-16T09:00:00+01:00"]
)
def test_hours_are_utc_however_they_are_written(hour: str) -> None:
    assert [one.start for one in _read(_data(row(hour))).usage] == [at(8)]


@pytest.mark.parametrize("cost", ["0.250000000000", 0.25, "25e-2"])
def test_money_may_be_a_number_or_a_decimal_string(cost: object) -> None:
    assert _read(_data(row(8, sum_totalCost=cost))).usage[0].cost_usd == 0.25


def test_money_of_many_rows_is_added_up_exactly() -> None:
    rows = [row(8, environment=f"e{number}", sum_totalCost="0.1") for number in range(10)]
    assert _read(_data(*rows), "environment").usage[0].cost_usd == 1.0  # as binary fractions 0.9999999999999999


def test_what_the_server_does_not_say_is_unknown_and_not_zero() -> None:
    (one,) = _read(_data(row(8, sum_totalCost=None, sum_inputTokens=None))).usage
    assert (one.cost_usd, one.input_tokens, one.output_tokens) == (None, None, 12)


def test_what_cannot_be_read_is_left_out_and_said() -> None:
    found = _read(_data(row(8, sum_totalCost="dear"), "no row", None, row("soon"), row(9)))
    assert [(one.start.hour, one.cost_usd) for one in found.usage] == [(8, None), (9, 0.25)]
    assert any("sum_totalCost" in gap for gap in found.gaps)
    assert any("without a readable hour" in gap for gap in found.gaps)


def test_hours_that_the_server_fills_in_and_spans_without_a_model_are_no_use() -> None:
    zeros = {f"{how}": "0" for how in ("count_count", "sum_inputTokens", "sum_outputTokens", "sum_totalTokens")}
    filler = row(9, None, **{**zeros, "sum_totalCost": "0"})
    plain_spans = row(8, None, **{**zeros, "count_count": "17", "sum_totalCost": 0})
    assert _read(_data(filler, plain_spans, row(8, ""), row(8))).usage[-1].model == "m"
    found = _read(_data(filler, plain_spans))
    assert found.usage == ()


def test_use_without_a_model_is_still_use() -> None:
    assert [(one.model, one.cost_usd) for one in _read(_data(row(8, None))).usage] == [("", 0.25)]


class TestWhatIsAsked:
    def test_models_by_hour_ordered_so_that_no_hour_is_filled_in(self) -> None:
        with json_web({V2: _data()}) as web:
            MetricsRoad(api(web), RoadName.METRICS_V2, details=False).read(window(), ("environment",))
        asked = asked_query(web.asked[0].query)
        assert asked["view"] == "observations"
        assert [one["field"] for one in asked["dimensions"]] == ["providedModelName", "environment"]
        assert asked["timeDimension"] == {"granularity": "hour"}
        assert (asked["fromTimestamp"], asked["toTimestamp"]) == (
            "2026-11-16T08:00:00.000Z",
            "2026-11-16T10:00:00.000Z",
        )
        assert asked["orderBy"] == [{"field": "time_dimension", "direction": "asc"}]
        assert asked["config"] == {"row_limit": ROW_LIMIT}
        assert {"measure": "totalCost", "aggregation": "sum"} in asked["metrics"]
        assert web.asked[0].headers["Authorization"].startswith("Basic ")

    def test_what_lies_on_the_end_of_the_span_comes_back_and_is_not_counted_twice(self) -> None:
        # both ends belong to the span (queryBuilder.ts): the hour that begins at its end has a row too
        found = _read(_data(row(8), row(9), row(10, count_count="1")))
        assert requests_by_hour(found.usage) == {(8, "m", ""): 2, (9, "m", ""): 2}


class TestEnvironments:
    def test_totals_and_environments_come_from_one_answer_and_agree(self) -> None:
        with json_web(
            {V2: _data(row(8, environment="production"), row(8, environment="staging", count_count="3"))}
        ) as web:
            found = MetricsRoad(api(web), RoadName.METRICS_V2, details=False).read(window(), ("environment",))
        assert requests_by_hour(found.usage) == {(8, "m", ""): 5}
        assert requests_by_hour(found.usage, "environment") == {(8, "m", "production"): 2, (8, "m", "staging"): 3}
        assert {span.dimension for span in found.spans} == {"", "environment"}
        assert len(web.asked) == 1

    def test_a_server_without_them_gives_the_totals_and_is_not_asked_again(self) -> None:
        def told(query: Query) -> Any:
            return BAD if len(asked_query(query)["dimensions"]) > 1 else _data(row(8))

        with json_web({V2: told}) as web:
            road = MetricsRoad(api(web), RoadName.METRICS_V2, details=False)
            first, second = (road.read(window(), ("environment",)) for _ in range(2))
        for found in (first, second):
            assert requests_by_hour(found.usage) == {(8, "m", ""): 2}
            assert [span.dimension for span in found.spans] == [""]
            assert "no dimension environment" in found.gaps[0]
        assert len(web.asked) == 3

    def test_a_server_that_refuses_the_totals_too_has_an_error(self) -> None:
        with pytest.raises(Refused, match="Invalid dimension"):
            _read(BAD, "environment")


class TestDetails:
    def test_every_key_is_kept_as_the_application_wrote_it(self) -> None:
        def told(query: Query) -> Any:
            told = {"time_dimension": "2026-11-16T08:00:00Z", "providedModelName": "m"}
            measure = asked_query(query)["metrics"][0]["measure"]
            if measure == "usageByType":
                keys = {"input": "20", "input_cached_tokens": "10", "output": "12", "total": "42", "images": "1"}
                return _data(*({**told, "usageType": key, "sum_usageByType": keys[key]} for key in keys))
            if measure == "costByType":
                return _data({**told, "costType": "input", "sum_costByType": "0.1"})
            return _data(row(8))

        (one,) = _read(told, details=True).usage
        assert one.usage_details == {"images": 1, "input": 20, "input_cached_tokens": 10, "output": 12, "total": 42}
        assert one.cost_details == {"input": 0.1}
        assert one.input_tokens == 30  # Langfuse's own sum, not ours of the details

    def test_a_server_without_them_is_asked_once_and_it_is_said(self) -> None:
        def told(query: Query) -> Any:
            return _data(row(8)) if asked_query(query)["metrics"][0]["measure"] == "count" else BAD

        with json_web({V1: told}) as web:
            road = MetricsRoad(api(web), RoadName.METRICS_V1, details=True)
            first, second = (road.read(window(), ()) for _ in range(2))
        assert sum("are not known" in gap for gap in first.gaps) == 2
        assert second.gaps == ()
        assert len(web.asked) == 4
        assert road.calls((), 3) == 1


class TestUsers:
    """The second API groups by user only without time, with a limit and an order (validateQuery.ts)."""

    def _strict(self, query: Query) -> Any:
        asked = asked_query(query)
        if {"field": "userId"} not in asked["dimensions"]:
            return _data(row(8, count_count="5"), row(9, count_count="1"))
        if asked["timeDimension"] is not None or not asked["config"].get("row_limit"):
            return BAD
        if not any(one["direction"] == "desc" and one["field"] == "count_count" for one in asked["orderBy"]):
            return BAD
        start, _ = asked_span(query)
        if start == at(8):
            return _data(row(None, userId="u1", count_count="3"), row(None, userId=None, count_count="2"))
        return _data(row(None, userId="u1", count_count="1"))

    def test_each_hour_is_asked_for_by_itself(self) -> None:
        with json_web({V2: self._strict}) as web:
            found = MetricsRoad(api(web), RoadName.METRICS_V2, details=False).read(window(), ("user",))
        assert requests_by_hour(found.usage, "user") == {(8, "m", "u1"): 3, (8, "m", ""): 2, (9, "m", "u1"): 1}
        assert {span.dimension for span in found.spans} == {"", "user"}
        assert found.gaps == ()
        spans = [asked_span(each.query) for each in web.asked[1:]]
        last_ms = timedelta(milliseconds=1)  # the end belongs to the span, and without time cannot be told apart
        assert spans == [(at(8), at(9) - last_ms), (at(9), at(10) - last_ms)]

    def test_the_first_api_finds_users_by_the_trace_which_may_have_begun_before(self) -> None:
        def told(query: Query) -> Any:
            if {"field": "userId"} not in asked_query(query)["dimensions"]:
                return _data(row(8, count_count="5"))
            start, end = asked_span(query)
            assert (start, end) == (at(6), at(10))
            return _data(row(7, userId="before"), row(8, userId="u1", count_count="5"), row(10, userId="after"))

        found = _read(told, "user", road=RoadName.METRICS_V1)
        assert requests_by_hour(found.usage, "user") == {(8, "m", "u1"): 5}
        assert found.gaps == ()

    def test_what_no_user_was_found_for_is_said(self) -> None:
        def told(query: Query) -> Any:
            has_users = {"field": "userId"} in asked_query(query)["dimensions"]
            return _data(row(8, userId="u1", count_count="3" if has_users else "5"))

        found = _read(told, "user", road=RoadName.METRICS_V1)
        assert any("of 5 requests, 2 are given to no user" in gap for gap in found.gaps)

    def test_a_server_that_refuses_it_costs_the_users_only(self) -> None:
        def told(query: Query) -> Any:
            return BAD if {"field": "userId"} in asked_query(query)["dimensions"] else _data(row(8))

        found = _read(told, "user")
        assert [span.dimension for span in found.spans] == [""]
        assert any("use by user is not known" in gap for gap in found.gaps)


class TestTags:
    @pytest.mark.parametrize(
        "rows",
        [
            [row(8, tags=["a", "b"]), row(8, tags=["a"], count_count="1"), row(8, tags=[])],
            [row(8, tags="a", count_count="3"), row(8, tags="b")],  # a server that takes the lists apart itself
        ],
    )
    def test_every_tag_has_what_bears_it_and_untagged_use_has_none(self, rows: list[Any]) -> None:
        def told(query: Query) -> Any:
            return (
                _data(*rows)
                if {"field": "tags"} in asked_query(query)["dimensions"]
                else _data(row(8, count_count="5"))
            )

        found = _read(told, "tag")
        assert requests_by_hour(found.usage, "tag") == {(8, "m", "a"): 3, (8, "m", "b"): 2}
        assert requests_by_hour(found.usage) == {(8, "m", ""): 5}
        assert {span.dimension for span in found.spans} == {"", "tag"}


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> int:
    """A server that gives a hundred rows, so that tests need not make thousands."""
    for module in (question, metrics_road):
        monkeypatch.setattr(module, "ROW_LIMIT", 100)
    return 100


@pytest.mark.usefixtures("few_rows")
class TestAnswersThatMayBeCut:
    """Exactly as many rows as the limit: nobody says whether there are more."""

    def _groups(self, per_minute: int, *, users: bool = False) -> Told:
        """A server on which every minute has groups of its own, and which cuts at the limit."""

        def told(query: Query) -> Any:
            asked = asked_query(query)
            start, end = asked_span(query)
            rows = []
            by_user = {"field": "userId"} in asked["dimensions"]
            minute = start
            while minute < end:
                hour = None if asked["timeDimension"] is None else minute.hour
                group = (minute - at(0)) // timedelta(minutes=1)
                rows += [
                    row(
                        hour, f"m{group}-{number}" if not by_user else "m", userId=f"u{group}-{number}", count_count="1"
                    )
                    for number in range(per_minute if by_user or not users else 1)
                ]
                minute += timedelta(minutes=1)
            return _data(*rows[: asked["config"]["row_limit"]])

        return told

    def test_a_span_is_halved_until_nothing_can_be_cut(self) -> None:
        found = _read(self._groups(1))  # 120 groups in the window, 60 in each hour
        assert sum(one.requests or 0 for one in found.usage) == 120
        assert len(found.usage) == 120

    def test_an_hour_is_halved_too_and_its_parts_are_added_up(self) -> None:
        found = _read(self._groups(7))  # 420 in each hour
        assert sum(one.requests or 0 for one in found.usage) == 840
        assert {one.start for one in found.usage} == {at(8), at(9)}

    def test_users_of_an_hour_are_halved_and_added_up(self) -> None:
        found = _read(self._groups(4, users=True), "user")
        assert sum(one.requests or 0 for one in found.usage if one.dimension == "user") == 480
        assert {span.dimension for span in found.spans} == {"", "user"}

    def test_a_minute_that_is_still_full_costs_its_dimension_and_is_said(self) -> None:
        found = _read(self._groups(150, users=True), "user")
        assert [one for one in found.usage if one.dimension == "user"] == []
        assert [span.dimension for span in found.spans] == [""]
        assert any("use by user is not known" in gap for gap in found.gaps)

    def test_totals_that_cannot_be_told_whole_are_an_error(self) -> None:
        with pytest.raises(TooManyGroups):
            _read(self._groups(150))

    def test_one_row_less_than_the_limit_is_the_whole(self, few_rows: int) -> None:
        rows = [row(8, f"m{number}") for number in range(few_rows - 1)]
        with json_web({V2: _data(*rows)}) as web:
            MetricsRoad(api(web), RoadName.METRICS_V2, details=False).read(window(), ())
        assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (ABSENT, RoadClosed),
        (Reply({"message": "not available ... events_only mode"}, 404), RoadClosed),
        (Reply("<!DOCTYPE html><title>404</title>", 404), RoadClosed),
        (Reply("", 405), RoadClosed),
        (Reply({"message": "too long", "error": "Request timed out"}, 422), TooMuch),
        (Reply("", 524), TooMuch),
        (Reply({"message": "Invalid credentials"}, 401), Unauthorized),
        (Reply({"message": "no"}, 403), Unauthorized),
        (Reply("busy", 503), Unreachable),
        (Reply({"message": "slow down"}, 429), Unreachable),
        (Reply("<!DOCTYPE html><title>Sign in</title>"), BadPayload),
        (Reply({"rows": []}), BadPayload),
        (Reply("[]"), BadPayload),
        (Reply("null"), BadPayload),
        (Reply('{"data": [{"time_'), BadPayload),
    ],
)
@pytest.mark.parametrize("road", [RoadName.METRICS_V2, RoadName.METRICS_V1])
def test_every_refusal_is_told_apart(road: RoadName, reply: Reply, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        _read(reply, road=road)
    assert "hush" not in str(caught.value)


def test_reading_a_window_again_gives_the_same() -> None:
    with json_web({V2: _data(row(8, environment="a"), row(9, environment="b"))}) as web:
        road = MetricsRoad(api(web), RoadName.METRICS_V2, details=False)
        assert road.read(window(), ("environment",)) == road.read(window(), ("environment",))


def test_windows_that_touch_never_count_anything_twice() -> None:
    def told(query: Query) -> Any:
        start, end = asked_span(query)
        return _data(*(row(hour) for hour in range(24) if start <= datetime(2026, 11, 16, hour, tzinfo=UTC) <= end))

    with json_web({V2: told}) as web:
        road = MetricsRoad(api(web), RoadName.METRICS_V2, details=False)
        parts = [one for first in range(0, 12, 3) for one in road.read(window(first, first + 3), ()).usage]
        assert parts == list(road.read(window(0, 12), ()).usage)

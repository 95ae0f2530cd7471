"""Use per day from metrics/daily, for servers that have nothing better."""

from typing import Any

import pytest

from collectors.errors import BadPayload
from collectors.langfuse.api import RoadClosed, TooMuch
from collectors.langfuse.daily_road import PAGE_SIZE, DailyRoad
from collectors.langfuse.road import Found
from collectors.langfuse.windows import Window
from planner.token_usage import TokenUsage, UsageSpan
from tests.collectors.json_web import JsonWeb, Query, Reply, Told, json_web
from tests.collectors.langfuse.langfuses import ABSENT, DAILY, api, at, window


def _day(day: int, *usage: Any) -> dict[str, Any]:
    return {"date": f"2026-11-{day:02d}", "countTraces": 1, "totalCost": 1.5, "usage": list(usage)}


def _model(model: str | None = "m", **given: Any) -> dict[str, Any]:
    told = {"inputUsage": 30, "outputUsage": "12", "totalUsage": 42, "countObservations": "2", "totalCost": "0.25"}
    return {"model": model, **told, **given}


def _page(*days: Any, page: int = 1, pages: int = 1) -> dict[str, Any]:
    return {"data": list(days), "meta": {"page": page, "limit": PAGE_SIZE, "totalItems": 1, "totalPages": pages}}


def _road(web: JsonWeb, **keys: Any) -> DailyRoad:
    return DailyRoad(api(web), max_pages=keys.get("max_pages", 10), source="it")


def _read(told: Told, *dimensions: str, **keys: Any) -> Found:
    with json_web({DAILY: told}) as web:
        return _road(web, **keys).read(window(), dimensions)


def test_a_day_of_a_model() -> None:
    found = _read(_page(_day(16, _model())))
    assert found.usage == (
        TokenUsage(
            start=at(0),
            end=at(0, day=17),
            model="m",
            requests=2,
            input_tokens=30,
            output_tokens=12,
            total_tokens=42,
            cost_usd=0.25,
        ),
    )
    assert found.spans == (UsageSpan(start=at(0), end=at(0, day=17)),)


def test_whole_days_are_asked_for_and_the_next_one_is_left_out() -> None:
    with json_web({DAILY: _page(_day(17, _model()), _day(16, _model()))}) as web:
        found = _road(web).read(Window(at(8, day=15), at(11)), ())
    assert web.asked[0].query == {
        "page": "1",
        "limit": str(PAGE_SIZE),
        "fromTimestamp": "2026-11-15T00:00:00.000Z",
        "toTimestamp": "2026-11-17T00:00:00.000Z",
    }
    assert [one.start.day for one in found.usage] == [16]
    assert found.spans == (UsageSpan(start=at(0, day=15), end=at(0, day=17)),)


def test_dimensions_are_gaps() -> None:
    found = _read(_page(_day(16, _model())), "environment", "user")
    assert [span.dimension for span in found.spans] == [""]
    assert len(found.gaps) == 2


def test_use_without_a_model_and_what_the_server_does_not_say() -> None:
    found = _read(_page(_day(16, _model(None, totalCost=None))))
    assert [(one.model, one.cost_usd) for one in found.usage] == [("", None)]


def test_one_bad_day_or_model_costs_itself() -> None:
    found = _read(_page({"date": "soon"}, 7, _day(16, "odd", _model())))
    assert [one.model for one in found.usage] == ["m"]
    assert len(found.gaps) == 3


class TestPages:
    def test_all_are_read(self) -> None:
        pages = {"1": _page(_day(16, _model()), page=1, pages=2), "2": _page(_day(15, _model()), page=2, pages=2)}
        with json_web({DAILY: lambda query: pages[query["page"]]}) as web:
            found = _road(web).read(Window(at(0, day=15), at(0, day=17)), ())
        assert [one.start.day for one in found.usage] == [15, 16]

    def test_a_server_that_gives_another_page_is_not_believed(self) -> None:
        with pytest.raises(BadPayload, match="page 1 when asked for 2"):
            _read(_page(_day(16, _model()), pages=3))

    def test_a_server_that_gives_one_page_for_ever_is_left(self) -> None:
        endless = {"data": [_day(16, _model())] * PAGE_SIZE, "meta": {}}
        with pytest.raises(BadPayload, match="same page twice"):
            _read(endless)

    def test_more_pages_than_allowed_are_too_much(self) -> None:
        def told(query: Query) -> Any:
            return _page(_day(int(query["page"]), _model()), page=int(query["page"]), pages=99)

        with pytest.raises(TooMuch):
            _read(told, max_pages=3)

    def test_a_server_without_data_and_pages_is_read_once(self) -> None:
        with json_web({DAILY: {"data": [], "meta": {"page": 1, "totalPages": 0}}}) as web:
            assert _road(web).read(window(), ()).usage == ()
        assert len(web.asked) == 1


def test_a_server_without_it_says_so() -> None:
    with pytest.raises(RoadClosed):
        _read(ABSENT)
    with pytest.raises(BadPayload):
        _read(Reply({"days": []}))


def test_an_amount_below_nothing_is_a_gap() -> None:
    model = {"model": "m", "countObservations": 2, "inputUsage": -5, "outputUsage": 3, "totalCost": -0.5}
    found = _read(_page(_day(16, model)))
    (one,) = found.usage
    assert (one.requests, one.input_tokens, one.output_tokens, one.cost_usd) == (2, None, 3, None)
    assert found.gaps == (
        "totalCost of a model of 2026-11-16 is no number",
        "inputUsage of a model of 2026-11-16 is no number",
    )

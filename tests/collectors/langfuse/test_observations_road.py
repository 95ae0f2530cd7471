"""Use added up from single observations: cursors, pages that shift, and every observation once."""

from typing import Any

import pytest

from collectors.errors import BadPayload
from collectors.langfuse.api import TooMuch
from collectors.langfuse.config import RoadName
from collectors.langfuse.observations_road import FIELDS, ObservationsRoad
from collectors.langfuse.road import Found
from planner.token_usage import TokenUsage
from tests.collectors.json_web import JsonWeb, Query, Told, json_web
from tests.collectors.langfuse.langfuses import (
    OBSERVATIONS_V1,
    OBSERVATIONS_V2,
    api,
    at,
    requests_by_hour,
    window,
)

V2, V1 = RoadName.OBSERVATIONS_V2, RoadName.OBSERVATIONS_V1


def _observation(number: int, hour: int = 8, **given: Any) -> dict[str, Any]:
    return {
        "id": f"o{number}",
        "startTime": f"2026-11-16T{hour:02d}:15:00.000Z",
        "providedModelName": "m",
        "environment": "production",
        "userId": "u1",
        "tags": ["a", "b"],
        "usageDetails": {"input": 10, "input_cached_tokens": "5", "output": 7, "total": 30},
        "costDetails": {"input": "0.1", "output": 0.2},
        "totalCost": 0.3,
        **given,
    }


def _road(web: JsonWeb, road: RoadName = V2, *, max_pages: int = 10) -> ObservationsRoad:
    return ObservationsRoad(api(web), road, max_pages=max_pages, source="it")


def _read(told: Told, *dimensions: str, road: RoadName = V2, max_pages: int = 10) -> Found:
    with json_web({OBSERVATIONS_V2 if road is V2 else OBSERVATIONS_V1: told}) as web:
        return _road(web, road, max_pages=max_pages).read(window(), dimensions)


def _page(*observations: Any, **meta: Any) -> dict[str, Any]:
    return {"data": list(observations), "meta": meta}


def test_observations_are_added_up_by_hour_with_their_details() -> None:
    found = _read(_page(_observation(1), _observation(2), _observation(3, 9)))
    assert found.usage[0] == TokenUsage(
        start=at(8),
        end=at(9),
        model="m",
        requests=2,
        input_tokens=30,  # 2 x (10 + 5): what holds "input", as Langfuse's own measure
        output_tokens=14,
        total_tokens=60,
        cost_usd=0.6,
        usage_details={"input": 20.0, "input_cached_tokens": 10.0, "output": 14.0, "total": 60.0},
        cost_details={"input": 0.2, "output": 0.4},
    )
    assert requests_by_hour(found.usage) == {(8, "m", ""): 2, (9, "m", ""): 1}
    assert found.gaps == ()


def test_dimensions_come_along() -> None:
    found = _read(_page(_observation(1), _observation(2, userId=None, tags=[])), "environment", "user", "tag")
    assert requests_by_hour(found.usage, "environment") == {(8, "m", "production"): 2}
    assert requests_by_hour(found.usage, "user") == {(8, "m", "u1"): 1, (8, "m", ""): 1}
    assert requests_by_hour(found.usage, "tag") == {(8, "m", "a"): 1, (8, "m", "b"): 1}
    assert {span.dimension for span in found.spans} == {"", "environment", "user", "tag"}


def test_the_first_api_names_neither_user_nor_tags() -> None:
    told = _page(_observation(1, model="m"), page=1, totalPages=1)
    found = _read(told, "environment", "user", "tag", road=V1)
    assert {span.dimension for span in found.spans} == {"", "environment"}
    assert len(found.gaps) == 2


def test_only_what_is_added_up_is_asked_for() -> None:
    with json_web({OBSERVATIONS_V2: _page()}) as web:
        _road(web).read(window(), ())
    assert web.asked[0].query == {
        "fromStartTime": "2026-11-16T08:00:00.000Z",
        "toStartTime": "2026-11-16T10:00:00.000Z",
        "fields": FIELDS,
        "limit": "1000",
    }


def test_plain_spans_are_no_requests_of_models() -> None:
    spans = _observation(2, providedModelName=None, usageDetails={}, costDetails={}, totalCost=None)
    assert requests_by_hour(_read(_page(_observation(1), spans)).usage) == {(8, "m", ""): 1}


def test_one_bad_observation_costs_itself() -> None:
    found = _read(_page(_observation(1), None, {"id": ""}, _observation(2, startTime="soon"), _observation(3, 23)))
    assert requests_by_hour(found.usage) == {(8, "m", ""): 1}
    assert len(found.gaps) == 3  # and what lies outside of the window belongs to another one


class TestCursors:
    def test_they_are_followed_to_the_end(self) -> None:
        pages = {
            None: _page(_observation(1), cursor="c1"),
            "c1": _page(cursor="c2"),  # an empty page in the middle ends nothing
            "c2": _page(_observation(2)),
        }
        found = _read(lambda query: pages[query.get("cursor")])
        assert requests_by_hour(found.usage) == {(8, "m", ""): 2}

    def test_one_that_comes_again_ends_the_reading(self) -> None:
        with pytest.raises(BadPayload, match="cursor twice"):
            _read(_page(_observation(1), cursor="c1"))

    def test_there_is_a_bound_to_them(self) -> None:
        def told(query: Query) -> Any:
            number = int(query.get("cursor", "0"))
            return _page(_observation(number), cursor=str(number + 1))

        with pytest.raises(TooMuch, match="more than 4 pages"):
            _read(told, max_pages=4)


class TestPages:
    def test_an_observation_that_shifts_to_the_next_page_is_counted_once(self) -> None:
        pages = {
            "1": _page(_observation(1), _observation(2), page=1, totalPages=2),
            "2": _page(_observation(2), _observation(3), page=2, totalPages=3),  # one more came late
            "3": _page(_observation(4), page=3, totalPages=3),
        }
        found = _read(lambda query: pages[query["page"]], road=V1)
        assert requests_by_hour(found.usage) == {(8, "m", ""): 4}

    def test_pages_without_a_number_of_pages_are_read_until_one_is_not_full(self) -> None:
        pages = {
            "1": _page(*(_observation(number) for number in range(100))),
            "2": _page(_observation(100)),
        }
        found = _read(lambda query: pages[query["page"]], road=V1)
        assert requests_by_hour(found.usage) == {(8, "m", ""): 101}

    def test_the_same_page_again_ends_the_reading(self) -> None:
        with pytest.raises(BadPayload, match="same page twice"):
            _read(_page(_observation(1), totalPages=9), road=V1)

    def test_another_page_than_asked_for_ends_the_reading(self) -> None:
        with pytest.raises(BadPayload, match="page 1 when asked for 2"):
            _read(_page(_observation(1), page=1, totalPages=9), road=V1)

    def test_there_is_a_bound_to_them(self) -> None:
        def told(query: Query) -> Any:
            return _page(_observation(int(query["page"])), page=int(query["page"]), totalPages=99)

        with pytest.raises(TooMuch):
            _read(told, road=V1, max_pages=4)


@pytest.mark.parametrize("road", [V2, V1])
def test_reading_a_window_again_gives_the_same(road: RoadName) -> None:
    path = OBSERVATIONS_V2 if road is V2 else OBSERVATIONS_V1
    with json_web({path: _page(_observation(1), _observation(2), totalPages=1)}) as web:
        assert _road(web, road).read(window(), ("environment",)) == _road(web, road).read(window(), ("environment",))


def test_amounts_that_are_no_numbers_are_left_out_with_a_gap() -> None:
    odd = _observation(1, usageDetails={"input": -3, "output": 7}, costDetails={"input": "-0.1"}, totalCost="-3.5")
    with json_web({OBSERVATIONS_V1: {"data": [odd], "meta": {"page": 1, "totalPages": 1}}}) as web:
        road = ObservationsRoad(api(web), V1, max_pages=9, source="it")
        found = road.read(window(), ())
    (one,) = found.usage
    assert (one.input_tokens, one.output_tokens, one.cost_usd, dict(one.cost_details)) == (None, 7, None, {})
    assert found.gaps == tuple(f"{name} of an observation is no number" for name in ("totalCost", *_DETAILS))


_DETAILS = ("usageDetails", "costDetails")


def test_an_empty_page_before_the_last_is_not_the_end() -> None:
    def told(query: Query) -> Any:
        number = int(query["page"])
        data = [] if number == 1 else [_observation(number)]
        return {"data": data, "meta": {"page": number, "totalPages": 3}}

    with json_web({OBSERVATIONS_V1: told}) as web:
        found = ObservationsRoad(api(web), V1, max_pages=9, source="it").read(window(), ())
    assert [one.requests for one in found.usage] == [2]


def test_pages_of_which_none_holds_anything_are_no_answer() -> None:
    with (
        json_web({OBSERVATIONS_V1: lambda query: {"data": [], "meta": {"totalPages": 3}}}) as web,
        pytest.raises(BadPayload, match="3 pages and nothing on any"),
    ):
        ObservationsRoad(api(web), V1, max_pages=9, source="it").read(window(), ())

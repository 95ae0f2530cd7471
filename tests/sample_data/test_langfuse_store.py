"""The simulated Langfuse: one account behind all its endpoints, and the rules that the real one has."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from sample_data.cluster import simulated_cluster
from sample_data.faults import Faults
from sample_data.langfuse_query import BadQuery, parse, rows
from sample_data.langfuse_routes import PATH, PUBLIC_KEY, SECRET_KEY, routes
from sample_data.langfuse_store import newest_first, observed
from sample_data.model_use import NANO, callers
from sample_data.serving_state import serving_pods, work_between
from tests.sample_data.asked import app_of, ask

CLUSTER = simulated_cluster(1)
PLACES = serving_pods(CLUSTER)
NINE = datetime(2026, 11, 16, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
LATER = NINE + timedelta(days=1)
LOGIN = {"Authorization": "Basic " + base64.b64encode(f"{PUBLIC_KEY}:{SECRET_KEY}".encode()).decode()}


def _query(**changed: Any) -> dict[str, Any]:
    asked = {
        "view": "observations",
        "dimensions": [{"field": "providedModelName"}],
        "metrics": [{"measure": "count", "aggregation": "count"}, {"measure": "totalCost", "aggregation": "sum"}],
        "timeDimension": {"granularity": "hour"},
        "fromTimestamp": "2026-11-16T09:00:00.000Z",
        "toTimestamp": "2026-11-16T12:00:00.000Z",
        "orderBy": [{"field": "time_dimension", "direction": "asc"}],
        "config": {"row_limit": 1000},
    }
    return {**asked, **changed}


def _rows(now: datetime = LATER, *, is_v2: bool = True, **changed: Any) -> list[dict[str, Any]]:
    return rows(CLUSTER, parse(json.dumps(_query(**changed)), is_v2=is_v2), now, is_v2=is_v2)


class TestStore:
    def test_what_has_arrived_in_full_is_what_the_engines_counted(self) -> None:
        for place in PLACES:
            seen = [one.use for one in observed(CLUSTER, NINE, NINE + HOUR, LATER) if one.place is place]
            work = work_between(place, NINE, NINE + HOUR)
            assert sum(use.requests for use in seen) == work.requests
            assert sum(use.prompt_tokens + use.generation_tokens for use in seen) == (
                work.prompt_tokens + work.generation_tokens
            )

    def test_single_observations_are_what_the_sums_are_made_of(self) -> None:
        start, end = NINE, NINE + timedelta(seconds=25)
        for now in (end, end + timedelta(minutes=30), LATER):
            single: dict[tuple[str, str], list[float]] = {}
            for at, told in newest_first(CLUSTER, start, end, now):
                assert start < at <= end
                sums = single.setdefault((told["model"], told["environment"]), [0, 0, 0.0])
                sums[0] += 1
                sums[1] += told["usageDetails"]["total"]
                sums[2] += told["totalCost"]
            whole: dict[tuple[str, str], list[float]] = {}
            for one in observed(CLUSTER, start, end, now):
                sums = whole.setdefault((one.deployment.model or "", one.caller.environment), [0, 0, 0.0])
                sums[0] += one.use.requests
                sums[1] += one.use.prompt_tokens + one.use.generation_tokens
                sums[2] += one.use.cost_nano(one.deployment) / NANO
            assert single.keys() == whole.keys()
            for key, sums in whole.items():
                assert single[key] == pytest.approx(sums)

    def test_they_come_newest_first_and_each_once(self) -> None:
        told = list(newest_first(CLUSTER, NINE, NINE + timedelta(seconds=31), LATER))
        keys = [(at, one["id"]) for at, one in told]
        assert keys == sorted(set(keys), reverse=True)

    def test_the_traces_of_one_caller_in_eight_come_late(self) -> None:
        end = NINE + timedelta(seconds=20)
        early, late = ({one["id"] for _, one in newest_first(CLUSTER, NINE, end, now)} for now in (end, LATER))
        assert early < late
        delays = {caller.trace_delay for place in PLACES for caller in callers(place.deployment)}
        assert delays == {timedelta(0), timedelta(minutes=40)}


class TestQueries:
    def test_counts_are_strings_and_money_is_as_each_api_writes_it(self) -> None:
        for is_v2, kind in ((True, float), (False, str)):
            for row in _rows(is_v2=is_v2):
                assert isinstance(row["count_count"], str)
                assert isinstance(row["sum_totalCost"], kind)
                assert datetime.fromisoformat(row["time_dimension"]).minute == 0

    def test_without_an_order_hours_without_data_are_filled_in(self) -> None:
        before = {"fromTimestamp": "2020-01-01T00:00:00Z", "toTimestamp": "2020-01-01T02:30:00Z"}
        assert _rows(**before) == []
        filled = _rows(**before, orderBy=None)
        assert [row["time_dimension"] for row in filled] == [f"2020-01-01T0{hour}:00:00.000Z" for hour in range(3)]
        assert {(row["providedModelName"], row["count_count"]) for row in filled} == {(None, "0")}

    def test_what_is_beyond_the_limit_is_cut_without_a_word(self) -> None:
        assert len(_rows(config={"row_limit": 3})) == 3
        assert len(_rows(config=None)) == min(len(_rows()), 100)

    def test_users_without_time(self) -> None:
        users = _rows(
            dimensions=[{"field": "userId"}],
            timeDimension=None,
            orderBy=[{"field": "count_count", "direction": "desc"}],
        )
        counts = [int(row["count_count"]) for row in users]
        assert counts == sorted(counts, reverse=True)
        assert sum(counts) == sum(int(row["count_count"]) for row in _rows())

    @pytest.mark.parametrize(
        ("changed", "is_v2"),
        [
            ({"view": "traces"}, True),
            ({"dimensions": [{"field": "nonsense"}]}, True),
            ({"metrics": [{"measure": "nonsense", "aggregation": "sum"}]}, True),
            ({"metrics": [{"measure": "usageByType", "aggregation": "sum"}]}, False),
            ({"dimensions": [{"field": "userId"}]}, True),  # with time
            ({"dimensions": [{"field": "userId"}], "timeDimension": None}, True),  # without the highest first
            ({"config": {"row_limit": 1001}}, True),
            ({"config": {"row_limit": 0}}, False),
            ({"fromTimestamp": "yesterday"}, True),
            ({"fromTimestamp": "2026-11-16T09:00:00"}, True),
        ],
    )
    def test_what_is_refused(self, changed: dict[str, Any], is_v2: bool) -> None:
        with pytest.raises(BadQuery):
            _rows(is_v2=is_v2, **changed)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '"a"'])
    def test_what_is_no_query(self, text: str) -> None:
        with pytest.raises(BadQuery):
            parse(text, is_v2=True)


class TestRoutes:
    APP = app_of(routes(CLUSTER, lambda: LATER, Faults(CLUSTER)))

    def _get(self, edition: str, road: str, **params: str) -> httpx.Response:
        return ask(self.APP, "GET", f"{PATH}/{edition}/api/public/{road}", params=params, headers=LOGIN)

    @pytest.mark.parametrize(
        ("edition", "version", "has"),
        [
            ("v4", "4.16.0", {"v2/metrics", "v2/observations"}),
            ("v3", "3.143.0", {"metrics", "metrics/daily", "observations"}),
            ("v2", "2.95.11", {"metrics/daily", "observations"}),
        ],
    )
    def test_editions_differ_in_what_they_have(self, edition: str, version: str, has: set[str]) -> None:
        assert self._get(edition, "health").json() == {"version": version, "status": "OK"}
        for road in ("v2/metrics", "v2/observations", "metrics", "metrics/daily", "observations"):
            assert (self._get(edition, road).status_code == 400) == (road in has)  # there, but nothing was asked
        assert self._get("v9", "health").status_code == 404

    def test_keys_are_wanted(self) -> None:
        answer = ask(self.APP, "GET", f"{PATH}/v4/api/public/v2/metrics", params={"query": json.dumps(_query())})
        assert answer.status_code == 401

    def test_the_mode_without_the_first_api_says_so(self) -> None:
        answer = self._get("v4", "metrics", query=json.dumps(_query()))
        assert answer.status_code == 404
        assert "events_only" in answer.json()["message"]

    def test_the_smallest_plan_of_the_cloud_ends(self) -> None:
        app = app_of(routes(CLUSTER, lambda: LATER, Faults(CLUSTER)))
        path = f"{PATH}/cloud/api/public/metrics/daily"
        span = {"fromTimestamp": "2026-11-16T09:00:00Z", "toTimestamp": "2026-11-16T09:01:00Z"}
        answers = [ask(app, "GET", path, params=span, headers=LOGIN) for _ in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 9 + [429]
        assert answers[0].json()["_deprecation"]["sunsetAt"] == "2026-11-16"
        assert answers[-1].headers["retry-after"] == "86400"
        assert ask(app, "GET", f"{PATH}/v3/api/public/metrics/daily", params=span, headers=LOGIN).status_code == 200

    @pytest.mark.parametrize(("edition", "road"), [("v4", "v2/observations"), ("v3", "observations")])
    def test_pages_hold_every_observation_once(self, edition: str, road: str) -> None:
        end = NINE + timedelta(seconds=5)
        span = {"fromStartTime": NINE.isoformat(), "toStartTime": end.isoformat(), "limit": "50"}
        seen: list[str] = []
        asked, page = dict(span), 1
        while True:
            told = self._get(edition, road, **asked).json()
            seen += [one["id"] for one in told["data"]]
            page += 1
            if "cursor" in told["meta"]:
                asked = {**span, "cursor": told["meta"]["cursor"]}
            elif page <= told["meta"].get("totalPages", 0):
                asked = {**span, "page": str(page)}
            else:
                break
        assert page > 3
        assert seen == [one["id"] for _, one in newest_first(CLUSTER, NINE, end, LATER)]

    def test_a_cursor_of_somebody_else_is_refused(self) -> None:
        span = {"fromStartTime": NINE.isoformat(), "toStartTime": LATER.isoformat()}
        for cursor in ("nonsense", base64.b64encode(b"{}").decode(), base64.b64encode(b"7").decode()):
            assert self._get("v4", "v2/observations", **span, cursor=cursor).status_code == 400

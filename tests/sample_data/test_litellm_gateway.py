"""The simulated LiteLLM: what it counts, how it pages, and what it does to those who come without a key."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sample_data.cluster import simulated_cluster
from sample_data.faults import FaultKind, Faults
from sample_data.litellm_gateway import SCOPES, STARTED_AT, activity, daily_rows, metrics_page
from sample_data.litellm_routes import FAULT_NAME, KEY, PATH, routes
from sample_data.serving_state import serving_pods, work_between
from tests.sample_data.asked import app_of, ask

CLUSTER = simulated_cluster(2)
MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
NOW = MONDAY + timedelta(hours=10)
TODAY = date(2026, 11, 16)
ALLOWED = {"Authorization": f"Bearer {KEY}"}


def _values(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _worked(model: str, since: datetime, until: datetime) -> int:
    return sum(
        work_between(place, max(since, place.started_at), until).requests
        for place in serving_pods(CLUSTER)
        if place.model == model
    )


def test_the_page_counts_what_the_engines_did() -> None:
    page = _values(metrics_page(CLUSTER, NOW, address="a:1"))
    tokens: dict[str, float] = {}
    for labels, value in page["litellm_total_tokens_metric_total"]:
        tokens[labels["model"]] = tokens.get(labels["model"], 0) + value
    for model in {place.model for place in serving_pods(CLUSTER)}:
        works = [
            work_between(place, max(STARTED_AT, place.started_at), NOW)
            for place in serving_pods(CLUSTER)
            if place.model == model
        ]
        assert tokens.get(model, 0) == sum(work.prompt_tokens + work.generation_tokens for work in works)


def test_every_series_is_there_once() -> None:
    for told in _values(metrics_page(CLUSTER, NOW, address="a:1", refused_scrapes=2)).values():
        assert len({frozenset(labels.items()) for labels, _ in told}) == len(told)


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_days_are_the_engines_days_whoever_asks_for_them(scope: str) -> None:
    rows = daily_rows(CLUSTER, TODAY - timedelta(days=1), TODAY, NOW)
    today, yesterday = activity(rows, SCOPES[scope])
    assert (today["date"], yesterday["date"]) == ("2026-11-16", "2026-11-15")
    for day, start, until in ((today, MONDAY, NOW), (yesterday, MONDAY - timedelta(days=1), MONDAY)):
        for model, part in day["breakdown"]["models"].items():
            assert part["metrics"]["api_requests"] == _worked(model, start, until)
            keys = part["api_key_breakdown"].values()
            assert sum(key["metrics"]["api_requests"] for key in keys) == part["metrics"]["api_requests"]
        total = day["metrics"]["api_requests"]
        parts = sum(part["metrics"]["api_requests"] for part in day["breakdown"]["entities"].values())
        assert parts > total if scope == "tag" else parts == total  # a request may have several tags


class TestRoutes:
    @pytest.fixture
    def faults(self) -> Faults:
        return Faults(CLUSTER)

    def _get(self, faults: Faults, path: str, **how: Any) -> httpx.Response:
        return ask(app_of(routes(CLUSTER, lambda: NOW, faults)), "GET", f"{PATH}{path}", **how)

    def test_the_path_without_a_slash_leads_to_the_one_with_it(self, faults: Faults) -> None:
        answer = self._get(faults, "/metrics")
        assert (answer.status_code, answer.headers["location"]) == (307, f"{PATH}/metrics/")

    def test_a_scrape_without_a_key_is_refused_and_counted_as_a_failed_request(self, faults: Faults) -> None:
        app = app_of(routes(CLUSTER, lambda: NOW, faults))
        for _ in range(3):
            assert ask(app, "GET", f"{PATH}/metrics/").status_code == 401
        page = _values(ask(app, "GET", f"{PATH}/metrics/", headers=ALLOWED).text)
        refused = [
            value
            for labels, value in page["litellm_proxy_failed_requests_metric_total"]
            if "/metrics" in labels["route"]
        ]
        assert refused == [3]

    def test_pages_hold_every_row_once(self, faults: Faults) -> None:
        span = {"start_date": "2026-11-15", "end_date": "2026-11-16", "page_size": "17"}
        requests, number, more = 0.0, 1, True
        while more:
            told = self._get(
                faults, "/team/daily/activity", headers=ALLOWED, params={**span, "page": str(number)}
            ).json()
            requests += sum(day["metrics"]["api_requests"] for day in told["results"])
            more, number = told["metadata"]["has_more"], number + 1
        whole = self._get(faults, "/team/daily/activity/aggregated", headers=ALLOWED, params=span).json()
        assert requests == sum(day["metrics"]["api_requests"] for day in whole["results"]) > 0
        assert number - 1 == told["metadata"]["total_pages"] > 3

    def test_keys_beyond_the_limit_are_missing_from_their_list_only(self, faults: Faults) -> None:
        span = {"start_date": "2026-11-16", "end_date": "2026-11-16", "api_key_limit": "1"}
        whole = self._get(faults, "/user/daily/activity/aggregated", headers=ALLOWED, params=span).json()
        assert whole["metadata"]["total_api_keys"] > whole["metadata"]["api_key_limit"] == 1
        (day,) = whole["results"]
        parts = day["breakdown"]["models"].values()
        assert len({key for part in parts for key in part["api_key_breakdown"]}) == 1
        assert sum(part["metrics"]["api_requests"] for part in parts) == day["metrics"]["api_requests"]

    def test_only_some_owners(self, faults: Faults) -> None:
        span = {"start_date": "2026-11-16", "end_date": "2026-11-16", "team_ids": "team-platform"}
        (day,) = self._get(faults, "/team/daily/activity", headers=ALLOWED, params=span).json()["results"]
        assert set(day["breakdown"]["entities"]) == {"team-platform"}

    def test_what_is_refused(self, faults: Faults) -> None:
        assert self._get(faults, "/team/daily/activity").status_code == 401
        assert self._get(faults, "/pets/daily/activity", headers=ALLOWED).status_code == 404
        assert self._get(faults, "/team/daily/activity", headers=ALLOWED).status_code == 400

    def test_a_restart_begins_to_count_anew(self, faults: Faults) -> None:
        faults.also([FAULT_NAME])
        app = app_of(routes(CLUSTER, lambda: NOW, faults))
        faults.set(FAULT_NAME, FaultKind.COUNTER_RESET, NOW - timedelta(minutes=5))
        page = _values(ask(app, "GET", f"{PATH}/metrics/", headers=ALLOWED).text)
        assert page["process_start_time_seconds"] == [({}, (NOW - timedelta(minutes=5)).timestamp())]
        counted = sum(value for _, value in page["litellm_proxy_total_requests_metric_total"])
        assert counted == sum(
            work_between(place, NOW - timedelta(minutes=5), NOW).requests for place in serving_pods(CLUSTER)
        )

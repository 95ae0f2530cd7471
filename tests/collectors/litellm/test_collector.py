"""The gateway as a target: redirects, keys, pauses after refusals, and when the daily figures are due."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from collectors.errors import BadPayload, Unauthorized, Unreachable
from collectors.litellm.collector import LONGEST_PAUSE_S, LiteLlmCollector
from collectors.litellm.config import LiteLlmConfig
from collectors.source import Attempt
from tests.collectors.json_web import JsonWeb, Reply, json_web
from tests.collectors.litellm.lines import process, used

NOW = datetime(2026, 11, 16, 12, 0, tzinfo=UTC)
EMPTY = {"results": [], "metadata": {}}


def _collector(web: JsonWeb, **keys: Any) -> LiteLlmCollector:
    return LiteLlmCollector(LiteLlmConfig(name="it", url=web.url, **{"dimensions": (), **keys}))


def _scrape(collector: LiteLlmCollector, now: datetime = NOW) -> list[Attempt]:
    return list(collector.collect(now, {}))


@pytest.mark.parametrize("path", ["", "/", "/metrics", "/metrics/", "/v1"])
def test_the_address_may_be_written_as_people_have_it(path: str) -> None:
    assert LiteLlmConfig(name="it", url=f"http://gateway:4000{path}").url == "http://gateway:4000"


@pytest.mark.parametrize(
    "keys",
    [
        {"read_metrics": False, "read_daily_activity": False},
        {"dimensions": ("team", "team")},
        {"dimensions": ("planet",)},
        {"surprise": 1},
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LiteLlmConfig(name="it", url="http://gateway:4000", **keys)


def test_the_key_goes_along_and_the_page_is_read() -> None:
    with json_web({"/metrics/": process() + used(3)}) as web:
        (attempt,) = _scrape(_collector(web, bearer_token="sk-secret", read_daily_activity=False))
    assert attempt.error is None
    assert attempt.batch is not None
    assert len(attempt.batch.spend) == 5
    assert attempt.target == f"127.0.0.1:{web.port}"
    assert web.asked[0].headers["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in repr(attempt)
    assert attempt.clock_skew_s is not None


def test_a_redirect_on_the_same_host_is_followed_and_remembered() -> None:
    with json_web({"/m": used(3)}) as web:
        web.paths["/metrics/"] = Reply("", 307, {"Location": "/m"})
        collector = _collector(web, read_daily_activity=False)
        assert [attempt.error for attempt in _scrape(collector)] == [None]
        assert [attempt.error for attempt in _scrape(collector, NOW + timedelta(minutes=1))] == [None]
    assert [each.path for each in web.asked] == ["/metrics/", "/m", "/m"]


def test_a_redirect_elsewhere_gets_no_key() -> None:
    with json_web({"/metrics/": used(3)}) as other, json_web() as web:
        web.paths["/metrics/"] = Reply("", 307, {"Location": f"{other.url}/metrics/"})
        (attempt,) = _scrape(_collector(web, bearer_token="sk-secret", read_daily_activity=False))
    assert isinstance(attempt.error, BadPayload)
    assert other.asked == []


def test_a_redirect_in_a_circle_ends() -> None:
    with json_web(
        {"/metrics/": Reply("", 307, {"Location": "/m"}), "/m": Reply("", 307, {"Location": "/metrics/"})}
    ) as web:
        (attempt,) = _scrape(_collector(web, read_daily_activity=False))
    assert isinstance(attempt.error, BadPayload)
    assert len(web.asked) == 2


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply({"error": {"message": "Authentication Error"}}, 401), Unauthorized),
        (Reply("Internal Server Error", 500), Unauthorized),  # what 1.106.2 answers to a request without a key
        (Reply("busy", 503), Unreachable),
        (Reply("<html><title>Sign in</title></html>"), BadPayload),
        (Reply("go_goroutines 7\n"), BadPayload),
    ],
)
def test_refusals_are_attempts_with_their_error(reply: Reply, error: type[Exception]) -> None:
    with json_web({"/metrics/": reply}) as web:
        (attempt,) = _scrape(_collector(web, read_daily_activity=False))
    assert isinstance(attempt.error, error)
    assert attempt.batch is None


def test_a_refused_scrape_is_not_hammered_because_the_gateway_counts_each() -> None:
    with json_web({"/metrics/": Reply({}, 401)}) as web:
        collector = _collector(web, read_daily_activity=False)
        for minute in range(24 * 60):
            _scrape(collector, NOW + timedelta(minutes=minute))
        asked = len(web.asked)
        assert asked < 24 * 60 / 4  # on average, half of the longest pause lies between two
        web.paths["/metrics/"] = used(3)
        later = NOW + timedelta(days=1, seconds=LONGEST_PAUSE_S)
        assert [attempt.error for attempt in _scrape(collector, later)] == [None]  # and comes back by itself
        assert [attempt.error for attempt in _scrape(collector, later + timedelta(minutes=1))] == [None]


def test_the_daily_figures_are_a_target_of_their_own_and_read_once_an_hour() -> None:
    with json_web({"/metrics/": used(3), "/user/daily/activity": EMPTY}) as web:
        collector = _collector(web)
        first = _scrape(collector)
        assert [attempt.target for attempt in first] == [
            f"127.0.0.1:{web.port}",
            f"127.0.0.1:{web.port} daily activity",
        ]
        assert [attempt.interval_s for attempt in first] == [None, 3600.0]
        assert len(_scrape(collector, NOW + timedelta(minutes=59))) == 1
        assert len(_scrape(collector, NOW + timedelta(minutes=60))) == 2


def test_days_are_read_from_the_watermark_with_its_overlap_and_at_first_from_further_back() -> None:
    with json_web({"/user/daily/activity": EMPTY}) as web:
        keys = {"read_metrics": False, "activity_backfill_days": 30, "activity_overlap_days": 2}
        (attempt,) = _scrape(_collector(web, **keys))
        assert attempt.batch is not None
        assert attempt.batch.watermark == attempt.started_at
        target = attempt.target
        list(_collector(web, **keys).collect(NOW, {target: NOW - timedelta(days=1)}))
        list(_collector(web, **keys).collect(NOW, {target: NOW + timedelta(days=9)}))  # our clock was ahead once
    assert [(each.query["start_date"], each.query["end_date"]) for each in web.asked] == [
        ("2026-10-18", "2026-11-16"),
        ("2026-11-13", "2026-11-16"),
        ("2026-11-16", "2026-11-16"),
    ]


def test_one_half_that_fails_leaves_the_other_alone() -> None:
    with json_web({"/metrics/": used(3)}) as web:
        scraped, daily = _scrape(_collector(web))
    assert scraped.error is None
    assert daily.error is not None


def test_nothing_of_it_names_a_path_that_is_not_configured() -> None:
    with json_web({"/proxy/metrics/": used(3), "/proxy/user/daily/activity": EMPTY}) as web:
        collector = LiteLlmCollector(LiteLlmConfig(name="it", url=f"{web.url}/proxy/", dimensions=()))
        attempts = _scrape(collector)
    assert [attempt.error for attempt in attempts] == [None, None]
    assert {one.gateway for one in attempts[0].batch.spend} == {f"127.0.0.1:{web.port}/proxy"}  # type: ignore[union-attr]


KEY = "my-very-secret-token"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
def test_a_key_that_the_gateway_repeats_is_in_no_attempt(status: int) -> None:
    """LiteLLM quotes a key that it does not know."""
    said = Reply({"error": {"message": f"LiteLLM Virtual Key expected. Received={KEY}, expected 'sk-'."}}, status)
    with json_web({"/metrics/": said, "/user/daily/activity": said}) as web:
        attempts = _scrape(_collector(web, bearer_token=KEY))
    assert [attempt.batch for attempt in attempts] == [None, None]
    assert KEY not in repr(attempts) + " ".join(str(attempt.error) for attempt in attempts)


def test_a_key_in_what_is_read_is_in_no_name_and_numbers_stay() -> None:
    password = "12345678"
    day = {
        "date": "2026-11-16",
        "breakdown": {
            "models": {f"m-{password}": {"metrics": {"spend": 1.5, "prompt_tokens": 512345678}}},
        },
    }
    page = process() + used(512345678, model=f"m-{password}", team=f"of {password}")
    with json_web({"/metrics/": page, "/user/daily/activity": {"results": [day], "metadata": {}}}) as web:
        attempts = _scrape(_collector(web, username="it", password=password, dimensions=("team",)))
    scraped, daily = (attempt.batch for attempt in attempts)
    assert scraped is not None
    assert daily is not None
    assert {one.owner for one in scraped.spend} == {"", "of ********"}
    assert {one.value for one in scraped.spend if one.quantity == "requests"} == {512345678}
    assert [(one.model, one.input_tokens) for one in daily.usage] == [("m-********", 512345678)]
    assert password not in repr([(one.model, one.owner) for one in (*scraped.spend, *daily.usage)])


def test_what_a_refusal_says_of_persons_is_not_kept() -> None:
    said = Reply({"detail": "user alice@example.com not found from 10.1.2.3"}, 503)
    with json_web({"/metrics/": said}) as web:
        collector = _collector(web, read_daily_activity=False)
        (attempt,) = _scrape(collector)
        (kept,) = _scrape(_collector(web, read_daily_activity=False, keep_personal=True))
    assert str(attempt.error).startswith(f"127.0.0.1:{web.port}/metrics is up")
    assert str(attempt.error).endswith("user (an e-mail address) not found from (an IP address)")
    assert "alice@example.com" in str(kept.error)

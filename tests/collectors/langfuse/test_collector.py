"""Rounds: which endpoint, which windows, how many calls, and what becomes of it when something is wrong."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from collectors.errors import Unauthorized, Unreachable, Unsupported
from collectors.langfuse.collector import LangfuseCollector
from collectors.langfuse.config import CLOUD_CALLS_PER_DAY, LangfuseConfig, RoadName
from collectors.source import Attempt
from planner.readings import Batch
from tests.collectors.json_web import JsonWeb, Query, Reply, Told, json_web
from tests.collectors.langfuse.langfuses import (
    ABSENT,
    DAILY,
    HEALTH,
    NOW,
    OBSERVATIONS_V1,
    OBSERVATIONS_V2,
    V1,
    V2,
    VERSION,
    asked_query,
    asked_span,
    at,
    collector,
    row,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
EMPTY: Told = {"data": []}
PAGES: Told = {"data": [], "meta": {"page": 1, "totalPages": 0}}
NO_METRICS = {HEALTH: VERSION, V2: ABSENT, V1: ABSENT, DAILY: ABSENT, OBSERVATIONS_V2: ABSENT, OBSERVATIONS_V1: ABSENT}


def _round(
    one: LangfuseCollector, web: JsonWeb, now: datetime = NOW, watermark: datetime | None = None
) -> list[Attempt]:
    target = f"127.0.0.1:{web.port}"
    return list(one.collect(now, {} if watermark is None else {target: watermark}))


def _batches(attempts: list[Attempt]) -> list[Batch]:
    assert [attempt.error for attempt in attempts] == [None] * len(attempts)
    return [attempt.batch for attempt in attempts if attempt.batch is not None]


def _spans(web: JsonWeb, path: str = V2) -> list[tuple[datetime, datetime]]:
    return [asked_span(each.query) for each in web.asked if each.path == path]


class TestConfiguration:
    @pytest.mark.parametrize("path", ["", "/", "/api/public", "/api/public/"])
    def test_the_address_may_be_written_as_people_have_it(self, path: str) -> None:
        config = LangfuseConfig(name="it", url=f"https://langfuse.test{path}", public_key="pk", secret_key="sk")
        assert config.url == "https://langfuse.test"

    @pytest.mark.parametrize(
        ("url", "calls"),
        [
            ("https://cloud.langfuse.com", CLOUD_CALLS_PER_DAY),
            ("https://us.cloud.langfuse.com", CLOUD_CALLS_PER_DAY),
            ("https://langfuse.com.evil.test", None),
            ("https://notlangfuse.com", None),
            ("http://langfuse.internal:3000", None),
        ],
    )
    def test_calls_are_bounded_where_plans_bound_them(self, url: str, calls: int | None) -> None:
        keys: dict[str, Any] = {"name": "it", "url": url, "public_key": "pk", "secret_key": "sk"}
        assert LangfuseConfig(**keys).calls_per_day == calls
        assert LangfuseConfig(**keys, max_calls_per_day=500).calls_per_day == 500

    @pytest.mark.parametrize(
        "keys",
        [
            {"secret_key": " "},
            {"public_key": ""},
            {"public_key": "with:colon"},
            {"bearer_token": "x"},
            {"username": "a", "password": "b"},
            {"roads": ()},
            {"roads": ("metrics", "metrics")},
            {"roads": ("v9/metrics",)},
            {"dimensions": ("user", "user")},
            {"dimensions": ("planet",)},
            {"max_calls_per_day": 1},
            {"surprise": 1},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, keys: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            LangfuseConfig(**{"name": "it", "url": "http://l:1", "public_key": "pk", "secret_key": "sk", **keys})

    def test_the_secret_is_nowhere_to_be_read(self) -> None:
        config = LangfuseConfig(name="it", url="http://l:1", public_key="pk", secret_key="sk-hush")
        assert "hush" not in repr(config) + str(config) + config.model_dump_json()


class TestWhichEndpoint:
    @pytest.mark.parametrize(
        ("has", "endpoint"),
        [
            ({V2: EMPTY, V1: EMPTY}, "v2/metrics"),
            ({V1: EMPTY, DAILY: PAGES}, "metrics"),
            ({DAILY: PAGES, OBSERVATIONS_V1: PAGES}, "metrics/daily"),
            ({OBSERVATIONS_V2: EMPTY, OBSERVATIONS_V1: PAGES}, "v2/observations"),
            ({OBSERVATIONS_V1: PAGES}, "observations"),
        ],
    )
    def test_the_first_that_the_server_has(self, has: dict[str, Told], endpoint: str) -> None:
        with json_web({**NO_METRICS, **has}) as web:
            batches = _batches(_round(collector(web), web))
        assert {dict(batch.found)["endpoint"] for batch in batches} == {endpoint}
        assert {dict(batch.found)["version"] for batch in batches} == {"4.16.0"}

    def test_only_those_that_are_allowed_in_the_order_that_is_wanted(self) -> None:
        with json_web({**NO_METRICS, V2: EMPTY, V1: EMPTY, DAILY: PAGES}) as web:
            one = collector(web, roads=(RoadName.DAILY, RoadName.METRICS_V1))
            batches = _batches(_round(one, web))
        assert {dict(batch.found)["endpoint"] for batch in batches} == {"metrics/daily"}
        assert web.times(V2) == 0

    def test_none_at_all_is_an_error_that_names_what_was_said(self) -> None:
        with json_web(NO_METRICS) as web:
            (attempt,) = _round(collector(web), web)
        assert isinstance(attempt.error, Unsupported)
        assert not attempt.error.permanent
        assert "not available" in str(attempt.error)

    def test_what_was_found_is_remembered_for_a_day(self) -> None:
        with json_web({**NO_METRICS, V1: EMPTY}) as web:
            one = collector(web)
            _round(one, web)
            probed = web.times(V2)
            for hour in range(1, 24):
                _round(one, web, NOW + hour * HOUR, NOW + hour * HOUR)
            assert web.times(V2) == probed == 1
            _round(one, web, NOW + DAY, NOW + DAY)
            assert web.times(V2) == 2

    def test_a_new_version_lets_everything_be_tried_again(self) -> None:
        with json_web({**NO_METRICS, V1: EMPTY}) as web:
            one = collector(web)
            _round(one, web)
            web.paths |= {HEALTH: {"version": "4.17.0", "status": "OK"}, V2: EMPTY}
            (early,) = _batches(_round(one, web, NOW + HOUR / 2, NOW))
            assert dict(early.found)["endpoint"] == "metrics"  # the version is asked for once an hour
            batches = _batches(_round(one, web, NOW + HOUR, NOW))
        assert {dict(batch.found)["endpoint"] for batch in batches} == {"v2/metrics"}

    def test_one_that_goes_away_is_replaced_at_once(self) -> None:
        with json_web({**NO_METRICS, V1: EMPTY}) as web:
            one = collector(web)
            _round(one, web)
            web.paths |= {V1: Reply({"message": "not available in events_only mode"}, 404), OBSERVATIONS_V2: EMPTY}
            batches = _batches(_round(one, web, NOW + HOUR / 2, NOW))
        assert {dict(batch.found)["endpoint"] for batch in batches} == {"v2/observations"}

    def test_a_server_that_does_not_tell_its_version_is_read_nevertheless(self) -> None:
        with json_web({**NO_METRICS, HEALTH: Reply("gone", 404), V2: EMPTY}) as web:
            batches = _batches(_round(collector(web), web))
        assert "version" not in dict(batches[0].found)

    def test_a_notice_of_deprecation_is_shown(self) -> None:
        notice = {"message": "use v2", "replacement": "v2", "docsUrl": "https://x", "sunsetAt": "2026-11-16"}
        with json_web({**NO_METRICS, V1: {"data": [row(8)], "_deprecation": notice}}) as web:
            (batch, *_) = _batches(_round(collector(web, backfill_days=0), web))
        assert any("deprecated and may go after 2026-11-16" in gap.reason for gap in batch.gaps)
        assert batch.usage


class TestWindows:
    def test_at_first_the_days_before_then_only_the_overlap(self) -> None:
        with json_web({**NO_METRICS, V2: EMPTY}) as web:
            one = collector(web, backfill_days=2)
            batches = _batches(_round(one, web))
            assert _spans(web) == [
                (at(0, day=14), at(0, day=15)),
                (at(0, day=15), at(0)),
                (at(0), at(11)),
            ]
            assert [batch.watermark for batch in batches] == [at(0, day=15), at(0), NOW]
            web.asked.clear()
            (batch,) = _batches(_round(one, web, NOW + HOUR / 4, NOW))
            assert _spans(web) == [(at(8), at(11))]
            assert {(span.start, span.end) for span in batch.usage_spans} == {(at(8), at(11))}
            assert batch.watermark == NOW + HOUR / 4

    def test_the_first_round_of_a_day_reads_the_days_before_again_and_keeps_the_watermark(self) -> None:
        with json_web({**NO_METRICS, V2: EMPTY}) as web:
            batches = _batches(_round(collector(web, reread_days=2), web, NOW, NOW - HOUR * 11))  # yesterday, 23:30
        assert _spans(web) == [
            (at(21, day=15), at(11)),
            (at(0, day=15), at(21, day=15)),
            (at(0, day=14), at(0, day=15)),
        ]
        assert {batch.watermark for batch in batches} == {NOW}

    def test_a_day_that_was_told_as_one_is_replaced_by_its_hours(self) -> None:
        day = {"date": "2026-11-16", "usage": [{"model": "m", "countObservations": 9}]}
        with json_web({**NO_METRICS, DAILY: {"data": [day], "meta": {"page": 1, "totalPages": 1}}}) as web:
            one = collector(web, backfill_days=0)
            (told,) = _batches(_round(one, web))
            assert [(usage.start, usage.end, usage.requests) for usage in told.usage] == [(at(0), at(0, day=17), 9)]
            assert told.watermark == at(0)  # today is not over
            web.paths |= {HEALTH: {"version": "5.0.0"}, V2: {"data": [row(9)]}}
            (hours, *_) = _batches(_round(one, web, NOW + HOUR, told.watermark))
        assert [(usage.start, usage.end) for usage in hours.usage] == [(at(9), at(10))]
        assert {(span.start, span.end) for span in hours.usage_spans} == {(at(0), at(0, day=17))}

    def test_late_data_replaces_what_was_told_before(self) -> None:
        late = {"count": "2"}
        with json_web({**NO_METRICS, V2: lambda query: {"data": [row(9, count_count=late["count"])]}}) as web:
            one = collector(web)
            (first, *_) = _batches(_round(one, web, NOW, NOW))
            late["count"] = "7"
            (second,) = _batches(_round(one, web, NOW + HOUR / 4, NOW))
        assert [(usage.start, usage.requests) for usage in first.usage] == [(at(9), 2)]
        assert [(usage.start, usage.requests) for usage in second.usage] == [(at(9), 7)]
        assert any(span.start <= at(9) and span.end >= at(10) for span in second.usage_spans)

    def test_a_window_that_fails_ends_the_round_with_the_watermark_before_it(self) -> None:
        def told(query: Query) -> Any:
            return Reply("busy", 503) if asked_span(query)[0] == at(0, day=15) else {"data": []}

        with json_web({**NO_METRICS, V2: told}) as web:
            good, bad = _round(collector(web, backfill_days=2), web)
        assert good.batch is not None
        assert good.batch.watermark == at(0, day=15)
        assert isinstance(bad.error, Unreachable)

    def test_a_window_that_is_too_much_is_halved_and_the_size_remembered(self) -> None:
        def told(query: Query) -> Any:
            start, end = asked_span(query)
            return Reply({"message": "timed out"}, 422) if end - start > 6 * HOUR else {"data": []}

        with json_web({**NO_METRICS, V2: told}) as web:
            one = collector(web, backfill_days=1)
            batches = _batches(_round(one, web))
            asked = len(_spans(web))
            assert batches[-1].watermark == NOW
            assert sum(span[1] - span[0] <= 6 * HOUR for span in _spans(web)) == len(batches) == 6
            assert asked - len(batches) <= 4  # refusals
            web.asked.clear()
            _batches(_round(one, web, NOW + HOUR / 4, NOW))
            assert len(_spans(web)) == 1

    def test_an_hour_that_is_too_much_is_an_error(self) -> None:
        with json_web({**NO_METRICS, V2: Reply({"message": "timed out"}, 422)}) as web:
            (attempt,) = _round(collector(web), web)
        assert attempt.error is not None
        assert "timed out" in str(attempt.error)

    def test_now_may_be_told_in_any_zone(self) -> None:
        with json_web({**NO_METRICS, V2: EMPTY}) as web:
            _round(collector(web, backfill_days=0), web, NOW.astimezone(timezone(timedelta(hours=-8))))
        assert _spans(web) == [(at(0), at(11))]


class TestCalls:
    def test_the_days_calls_are_kept_over_days_whatever_is_asked(self) -> None:
        with json_web({**NO_METRICS, V2: EMPTY}) as web:
            one = collector(web, max_calls_per_day=40, dimensions=("tag",), details=True)
            watermark, made = None, []
            for quarter in range(4 * 24 * 3):
                now = NOW + quarter * HOUR / 4
                before = web.times(V2)
                for attempt in _round(one, web, now, watermark):
                    if attempt.batch is not None:
                        watermark = attempt.batch.watermark or watermark
                made += [now] * (web.times(V2) - before)
        for first in made:
            assert sum(first <= other < first + DAY for other in made) <= 40
        assert watermark is not None
        assert watermark > NOW + 3 * DAY - 4 * HOUR  # and the figures are not far behind

    def test_a_backfill_beyond_the_budget_goes_on_later_from_where_it_got(self) -> None:
        with json_web({**NO_METRICS, V2: EMPTY}) as web:
            one = collector(web, max_calls_per_day=16, backfill_days=9)  # four at once
            attempts = _round(one, web)
            assert [attempt.error for attempt in attempts] == [None] * 5
            *read, stopped = [attempt.batch for attempt in attempts if attempt.batch is not None]
            assert read[-1].watermark == at(0, day=11)
            assert stopped.watermark is None
            assert "used up until" in stopped.gaps[0].reason
            assert _round(one, web, NOW + HOUR / 4, at(0, day=11)) == []  # not due: nothing to tell
            web.asked.clear()
            _round(one, web, NOW + 3 * HOUR, at(0, day=11))
            assert _spans(web)[0][0] == at(0, day=11)

    def test_an_endpoint_looked_for_anew_is_waited_for_like_before(self) -> None:
        with json_web({**NO_METRICS, V2: EMPTY}) as web:
            one = collector(web, max_calls_per_day=60, dimensions=("environment", "user"), backfill_days=0)
            now, watermark, behind = NOW, NOW, []
            for _ in range(3 * 24 * 4):
                told = [batch.watermark for batch in _batches(_round(one, web, now, watermark)) if batch.watermark]
                watermark = max([watermark, *told])
                behind.append(now - watermark)
                now += HOUR / 4
        assert max(behind) < 12 * HOUR  # the search after a day did not use the calls up for nothing

    def test_calls_that_end_within_a_window_are_saved_up_for_a_shorter_one(self) -> None:
        def answer(query: Query) -> Any:
            start, end = asked_span(query)
            full = end - start > 2 * HOUR  # more than two hours have more rows than Langfuse gives
            return {"data": [row(start.hour, f"m{n}") for n in range(1_000 if full else 0)]}

        with json_web({**NO_METRICS, V2: answer}) as web:
            one = collector(web, max_calls_per_day=40, backfill_days=1)  # ten at once, and 1.25 an hour
            now, watermark = NOW, None
            for _ in range(4 * 4 * 24):
                for batch in _batches(_round(one, web, now, watermark)):
                    watermark = batch.watermark or watermark
                now += HOUR / 4
        assert watermark is not None
        assert watermark - at(0, day=15) > 3 * DAY  # of four: seven calls tell of six hours, and there are 7.5 for them

    def test_health_costs_nothing(self) -> None:
        with json_web({**NO_METRICS, V2: EMPTY}) as web:
            one = collector(web, max_calls_per_day=4, backfill_days=0)
            _round(one, web)
        assert (web.times(HEALTH), web.times(V2)) == (1, 1)


class TestTooManyCalls:
    def test_429_is_obeyed_to_the_second_and_never_waited_for(self) -> None:
        limited = Reply({"message": "Rate limit exceeded"}, 429, {"Retry-After": "7200", "X-RateLimit-Remaining": "0"})
        with json_web({**NO_METRICS, V2: limited}) as web:
            one = collector(web)
            (attempt,) = _round(one, web)
            assert isinstance(attempt.error, Unreachable)
            assert "2026-11-16 12:30" in str(attempt.error)
            assert attempt.seconds < 30  # the SDK would sleep and try again by itself
            assert web.times(V2) == 1
            web.paths[V2] = EMPTY
            assert _round(one, web, NOW + timedelta(seconds=7_190)) == []
            assert web.times(V2) == 1
            assert all(attempt.error is None for attempt in _round(one, web, NOW + timedelta(seconds=7_230)))

    def test_a_busy_server_is_asked_once_a_round_and_not_again_by_the_sdk(self) -> None:
        with json_web({**NO_METRICS, V2: Reply("busy", 503)}) as web:
            _round(collector(web), web)
        assert web.times(V2) == 1


class TestErrors:
    @pytest.mark.parametrize("path", [V2, HEALTH])
    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            (Reply({"message": "Invalid credentials"}, 401), Unauthorized),
            (Reply({"message": "no"}, 403), Unauthorized),
            (Reply("busy", 503), Unreachable),
            (Reply("oops", 500), Unreachable),
        ],
    )
    def test_they_are_attempts_and_pass(self, path: str, reply: Reply, error: type[Exception]) -> None:
        good = {**NO_METRICS, V2: EMPTY}
        with json_web({**good, path: reply}) as web:
            one = collector(web)
            (attempt,) = _round(one, web)
            assert isinstance(attempt.error, error)
            assert "hush" not in str(attempt.error)
            web.paths |= good
            assert all(attempt.error is None for attempt in _round(one, web, NOW + HOUR / 4))

    def test_nobody_there_is_unreachable(self, closed_port: int) -> None:
        config = LangfuseConfig(name="it", url=f"http://127.0.0.1:{closed_port}", public_key="pk", secret_key="sk")
        (attempt,) = LangfuseCollector(config).collect(NOW, {})
        assert isinstance(attempt.error, Unreachable)

    def test_the_keys_go_along_with_every_question_and_to_this_server_only(self) -> None:
        with json_web() as other, json_web({**NO_METRICS, V2: EMPTY}) as web:
            web.paths[V1] = Reply("", 302, {"Location": f"{other.url}/"})
            _round(collector(web, roads=("metrics",)), web)
            _round(collector(web), web)
        assert other.asked == []
        assert {each.headers["Authorization"] for each in web.asked} == {"Basic cGstbGYtMTpzay1sZi1odXNo"}


def test_every_question_is_json_built_from_values() -> None:
    with json_web({**NO_METRICS, V2: EMPTY}) as web:
        _round(collector(web, details=True, dimensions=("environment", "user", "tag")), web, NOW, NOW)
    for each in web.asked:
        if each.path == V2:
            assert set(asked_query(each.query)) == {
                "view",
                "dimensions",
                "metrics",
                "filters",
                "timeDimension",
                "fromTimestamp",
                "toTimestamp",
                "orderBy",
                "config",
            }


def test_midnight_is_that_of_utc() -> None:
    with json_web({**NO_METRICS, V2: EMPTY}) as web:
        _round(collector(web, backfill_days=1), web, datetime(2026, 11, 16, 0, 5, tzinfo=UTC))
    assert _spans(web) == [(at(0, day=15), at(0)), (at(0), at(1))]


class TestHostileAnswers:
    @pytest.mark.parametrize("after", ["Fri, 31 Dec 9999 23:59:59 -1200", "99999999999999", "inf"])
    def test_a_wish_that_no_clock_can_show_is_an_attempt_and_a_short_pause(self, after: str) -> None:
        full = Reply({"message": "slow down"}, 429, {"Retry-After": after})
        with json_web({**NO_METRICS, V2: full}) as web:
            (attempt,) = _round(collector(web), web)
        assert isinstance(attempt.error, Unreachable)
        assert "10:31" in str(attempt.error)  # a minute after NOW

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
    @pytest.mark.parametrize("secret", ["sk-lf-hush", "cGstbGYtMTpzay1sZi1odXNo"])  # and pk-lf-1:sk-lf-hush in base64
    def test_a_key_that_the_server_repeats_is_in_no_attempt(self, status: int, secret: str) -> None:
        said = Reply({"message": f"no good: {secret} of pk-lf-1"}, status)
        with json_web({**NO_METRICS, V2: said, V1: said, DAILY: said}) as web:
            attempts = _round(collector(web, dimensions=("environment", "tag"), roads=("v2/metrics", "metrics")), web)
        assert attempts
        assert secret not in repr(attempts) + " ".join(str(each.error) for each in attempts)

    def test_a_key_in_what_is_read_is_in_no_name(self) -> None:
        echo = row(9, model="of sk-lf-hush", environment="sk-lf-hush")
        with json_web({**NO_METRICS, HEALTH: {"version": "4 sk-lf-hush"}, V2: {"data": [echo]}}) as web:
            attempts = _round(collector(web, dimensions=("environment",), backfill_days=0), web)
        assert "of ********" in repr(attempts)
        assert "sk-lf-hush" not in repr(attempts)

    def test_an_error_names_the_whole_endpoint(self) -> None:
        with json_web({**NO_METRICS, V2: Reply({}, 500)}) as web:
            (attempt,) = _round(collector(web), web)
        assert str(attempt.error).startswith(f"127.0.0.1:{web.port}/api/public/v2/metrics is up and cannot answer")

    @pytest.mark.parametrize("amount", ["-3.5", -1, "NaN", "1e300"])
    def test_what_is_no_cost_is_a_gap(self, amount: object) -> None:
        with json_web({**NO_METRICS, V2: {"data": [row(9, sum_totalCost=amount, sum_inputTokens=amount)]}}) as web:
            (batch,) = _batches(_round(collector(web, backfill_days=0), web))
        ((one,), reasons) = batch.usage, [gap.reason for gap in batch.gaps]
        assert (one.cost_usd, one.input_tokens, one.output_tokens) == (None, None, 12)
        assert [reason.partition(":")[0] for reason in reasons] == [
            "sum_inputTokens of a row is no number",
            "sum_totalCost of a row is no number",
        ]

    def test_a_sum_that_the_store_cannot_keep_is_left_out_with_a_gap(self) -> None:
        rows = [row(9, environment=f"e{number}", sum_inputTokens="9e17") for number in range(20)]  # 1.8e19 > 2**63
        with json_web({**NO_METRICS, V2: {"data": rows}}) as web:
            (batch,) = _batches(_round(collector(web, dimensions=("environment",), backfill_days=0), web))
        assert {one.dimension for one in batch.usage} == {"environment"}
        assert "a sum was left out: it is larger than anything that is counted" in [gap.reason for gap in batch.gaps]

"""The simulated Langfuse in its four editions over a real socket: what is read is the simulator's own account."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import pytest

from collectors.errors import Unauthorized
from collectors.langfuse.collector import LangfuseCollector
from collectors.langfuse.config import LangfuseConfig
from collectors.source import Attempt
from planner.readings import Batch
from planner.token_usage import TokenUsage
from sample_data.cluster import simulated_cluster
from sample_data.faults import FaultKind
from sample_data.langfuse_routes import PATH, PUBLIC_KEY, SECRET_KEY
from sample_data.model_use import NANO, Caller, Use, added, callers, use_between
from sample_data.serving_state import serving_pods, work_between
from tests.collectors.simulated_web import Simulated, simulated_web

CLUSTER = simulated_cluster(1)
NOW = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)
TEN = datetime(2026, 11, 16, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURLY = ("v4", "v3", "cloud")
PLACES = serving_pods(CLUSTER)
DEPLOYMENTS = {place.model: place.deployment for place in PLACES}
Fits = Callable[[Caller], bool]


@pytest.fixture(scope="module")
def web() -> Iterator[Simulated]:
    with simulated_web(CLUSTER, NOW, hang_s=1.0) as served:
        yield served


@dataclass
class Reader:
    """One edition, and the collector that reads it."""

    web: Simulated
    edition: str
    keys: dict[str, Any]

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.web.port}{PATH}/{self.edition}"

    @cached_property
    def collector(self) -> LangfuseCollector:
        return LangfuseCollector(
            LangfuseConfig(
                name="it",
                **{
                    "url": f"http://{self.target}",
                    "public_key": PUBLIC_KEY,
                    "secret_key": SECRET_KEY,
                    "backfill_days": 0,
                    "reread_days": 0,
                    **self.keys,
                },
            )
        )

    def round(self, now: datetime, watermark: datetime | None = None) -> list[Attempt]:
        self.web.now = now
        return list(self.collector.collect(now, {self.target: watermark} if watermark else {}))

    def batch(self, now: datetime = NOW, watermark: datetime | None = None) -> Batch:
        (attempt,) = self.round(now, watermark)
        assert attempt.error is None, attempt.error
        assert attempt.batch is not None
        return attempt.batch


def _reader(web: Simulated, edition: str, **keys: Any) -> Reader:
    return Reader(web, edition, keys)


def _everyone(caller: Caller) -> bool:
    return True


def _account(model: str, start: datetime, end: datetime, now: datetime, fits: Fits = _everyone) -> Use:
    """What the callers asked of a model, as far as its traces have arrived."""
    return added(
        use_between(place, start, min(end, now - caller.trace_delay), caller.index)
        for place in PLACES
        if place.model == model
        for caller in callers(place.deployment)
        if fits(caller)
    )


def _agrees(one: TokenUsage, use: Use) -> None:
    assert (one.requests, one.input_tokens, one.output_tokens, one.total_tokens) == (
        use.requests,
        use.prompt_tokens,
        use.generation_tokens,
        use.prompt_tokens + use.generation_tokens,
    )
    assert one.cost_usd == pytest.approx(use.cost_nano(DEPLOYMENTS[one.model]) / NANO, rel=1e-9)


@pytest.mark.parametrize("edition", HOURLY)
def test_every_hour_is_the_account_of_that_hour(web: Simulated, edition: str) -> None:
    batch = _reader(web, edition).batch()
    rows = {(one.start, one.model): one for one in batch.usage if not one.dimension}
    midnight = TEN.replace(hour=0)
    for hours in range(11):
        start = midnight + hours * HOUR
        for model in DEPLOYMENTS:
            use = _account(model, start, start + HOUR, NOW)
            assert ((start, model) in rows) == (use.requests > 0)
            if use.requests:
                _agrees(rows[start, model], use)
    assert {(span.start, span.end) for span in batch.usage_spans} == {(midnight, midnight + 11 * HOUR)}


@pytest.mark.parametrize("edition", HOURLY)
def test_full_hours_without_late_traces_are_what_the_engines_counted(web: Simulated, edition: str) -> None:
    batch = _reader(web, edition, details=False).batch()
    start = TEN - 3 * HOUR
    for model in DEPLOYMENTS:
        works = [work_between(place, start, start + HOUR) for place in PLACES if place.model == model]
        told = sum(
            one.total_tokens or 0 for one in batch.usage if (one.start, one.model, one.dimension) == (start, model, "")
        )
        assert told == sum(work.prompt_tokens + work.generation_tokens for work in works)


@pytest.mark.parametrize("edition", HOURLY)
def test_each_environment_user_and_tag_is_its_part_of_the_account(web: Simulated, edition: str) -> None:
    reader = _reader(web, edition, details=False, dimensions=("environment", "user", "tag"))
    batch = reader.batch(NOW, TEN)
    fits: dict[str, Callable[[str], Fits]] = {
        "environment": lambda owner: lambda caller: caller.environment == owner,
        "user": lambda owner: lambda caller: caller.user == owner,
        "tag": lambda owner: lambda caller: owner in caller.tags,
    }
    seen = set()
    for one in batch.usage:
        if one.dimension:
            seen.add(one.dimension)
            _agrees(one, _account(one.model, one.start, one.end, NOW, fits[one.dimension](one.owner)))
    assert seen == {"environment", "user", "tag"}
    whole = {dimension: _requests(batch, dimension) for dimension in ("", "environment", "user")}
    assert whole[""] == whole["environment"] == whole["user"] > 0  # nobody is left out, and nobody counted twice
    assert {span.dimension for span in batch.usage_spans} == {"", *seen}


def _requests(batch: Batch, dimension: str) -> int:
    return sum(one.requests or 0 for one in batch.usage if one.dimension == dimension)


def test_the_second_api_tells_tokens_and_money_by_every_key_that_applications_report(web: Simulated) -> None:
    batch = _reader(web, "v4").batch(NOW, TEN)
    for one in batch.usage:
        if one.dimension:
            assert one.usage_details == one.cost_details == {}
            continue
        use = _account(one.model, one.start, one.end, NOW)
        assert one.usage_details == {
            "input": use.prompt_tokens - use.cached_tokens,
            "input_cached_tokens": use.cached_tokens,
            "output": use.generation_tokens,
            "total": use.prompt_tokens + use.generation_tokens,
        }
        assert one.cost_details["total"] == pytest.approx(one.cost_usd)
        assert sum(amount for key, amount in one.cost_details.items() if key != "total") == pytest.approx(one.cost_usd)


def test_the_first_api_has_no_details_and_says_so_once(web: Simulated) -> None:
    reader = _reader(web, "v3")
    batch = reader.batch(NOW, TEN)
    assert not any(one.usage_details for one in batch.usage)
    assert any("usage_details are not known" in gap.reason for gap in batch.gaps)
    assert not any("not known" in gap.reason for gap in reader.batch(NOW + timedelta(minutes=15), NOW).gaps)


@pytest.mark.parametrize("edition", HOURLY)
def test_what_came_late_is_there_at_the_next_reading(web: Simulated, edition: str) -> None:
    reader = _reader(web, edition, details=False)
    first = reader.batch(NOW, TEN)
    later = NOW + HOUR
    second = reader.batch(later, NOW)
    for model in DEPLOYMENTS:
        early, late = (_account(model, TEN, TEN + HOUR, now) for now in (NOW, later))
        assert _at(first, TEN, model) == early.requests
        assert _at(second, TEN, model) == late.requests
    assert min(span.start for span in second.usage_spans) <= TEN - HOUR


def _at(batch: Batch, start: datetime, model: str) -> int:
    return sum(one.requests or 0 for one in batch.usage if (one.start, one.model, one.dimension) == (start, model, ""))


@pytest.mark.parametrize("edition", ["v4", "v3", "v2", "cloud"])
def test_reading_again_gives_the_same(web: Simulated, edition: str) -> None:
    reader = _reader(web, edition)
    first = reader.batch(NOW, TEN)
    second = reader.batch(NOW, TEN)
    third = _reader(web, edition).batch(NOW, TEN)
    assert first.usage == second.usage == third.usage
    assert first.usage_spans == second.usage_spans == third.usage_spans
    assert len(first.usage) == len({(one.start, one.model, one.dimension, one.owner) for one in first.usage})


def test_an_old_server_tells_its_days(web: Simulated) -> None:
    for attempt in _reader(web, "v2", backfill_days=1).round(NOW):
        assert attempt.batch is not None
        assert ("endpoint", "metrics/daily") in attempt.batch.found
        assert {one.end - one.start for one in attempt.batch.usage} == {timedelta(days=1)}
        for one in attempt.batch.usage:
            _agrees(one, _account(one.model, one.start, one.end, NOW))
        assert any("use by environment is not known" in gap.reason for gap in attempt.batch.gaps)


@pytest.mark.parametrize(
    ("edition", "road"), [("v4", "v2/observations"), ("v3", "observations"), ("v2", "observations")]
)
def test_single_observations_add_up_to_the_same(web: Simulated, edition: str, road: str) -> None:
    reader = _reader(web, edition, roads=(road,), max_pages=1_000)
    midnight = datetime(2026, 11, 17, tzinfo=UTC)
    now = midnight + timedelta(minutes=1)
    batch = reader.batch(now, midnight)
    totals = [one for one in batch.usage if not one.dimension]
    assert {one.start for one in totals} == {midnight}
    for one in totals:
        use = _account(one.model, midnight, now, now)
        _agrees(one, use)
        assert one.usage_details["input_cached_tokens"] == use.cached_tokens
    assert sum(one.requests or 0 for one in totals) == sum(
        _account(model, midnight, now, now).requests for model in DEPLOYMENTS
    )
    assert _requests(batch, "environment") == _requests(batch, "")


def test_the_endpoints_and_the_version_are_told(web: Simulated) -> None:
    expected = {
        "v4": ("4.16.0", "v2/metrics"),
        "v3": ("3.143.0", "metrics"),
        "v2": ("2.95.11", "metrics/daily"),
        "cloud": ("4.16.1", "v2/metrics"),
    }
    for edition, (version, endpoint) in expected.items():
        assert dict(_reader(web, edition, details=False).batch(NOW, TEN).found) == {
            "version": version,
            "endpoint": endpoint,
        }


def test_an_endpoint_that_will_go_is_a_gap(web: Simulated) -> None:
    batch = _reader(web, "cloud", roads=("metrics",), details=False).batch(NOW, TEN)
    assert "the server says that metrics is deprecated and may go after 2026-11-16" in [
        gap.reason for gap in batch.gaps
    ]


def test_the_smallest_plan_of_the_cloud_is_never_used_up_by_our_budget(web: Simulated) -> None:
    reader = _reader(web, "cloud", max_calls_per_day=90, details=False, dimensions=("environment", "user"))
    watermark, now, answered, refused = None, NOW + timedelta(days=2), 0, []
    for _ in range(4 * 40):
        for attempt in reader.round(now, watermark):
            refused += [attempt.error] if attempt.error is not None else []
            if attempt.batch is not None and attempt.batch.watermark is not None:
                watermark, answered = attempt.batch.watermark, answered + 1
        now += timedelta(minutes=15)
    assert refused == []
    assert answered > 10
    assert watermark is not None
    assert now - watermark < timedelta(hours=4)  # late it may be, but it keeps up


def test_a_plan_that_is_used_up_is_left_alone_until_it_may_be_asked_again(web: Simulated) -> None:
    start = NOW + timedelta(days=10)
    reader = _reader(web, "cloud", roads=("metrics/daily",), max_calls_per_day=1_000)
    now, errors = start, []
    while not errors:
        errors = [attempt.error for attempt in reader.round(now, start) if attempt.error is not None]
        now += timedelta(minutes=15)
    assert "429" in str(errors[0])
    asked = len(web.asked)
    for _ in range(20):
        assert reader.round(now, start) == []
        now += timedelta(minutes=15)
    assert len(web.asked) == asked
    assert [attempt.error for attempt in reader.round(start + timedelta(days=1, minutes=20), start)] == [None, None]


def test_wrong_keys_are_named(web: Simulated) -> None:
    (attempt,) = _reader(web, "v4", secret_key="sk-lf-wrong").round(NOW)
    assert isinstance(attempt.error, Unauthorized)
    assert "wrong" not in str(attempt.error)


@pytest.mark.parametrize(
    "kind", [kind for kind in FaultKind if kind not in (FaultKind.COUNTER_RESET, FaultKind.GENERATION_CHANGE)]
)
def test_every_fault_is_an_error_that_keeps_the_watermark_and_passes(web: Simulated, kind: FaultKind) -> None:
    reader = _reader(web, "v4", details=False, timeout_s=0.5)
    web.faults.set("langfuse/v4", kind, NOW)
    try:
        (attempt,) = reader.round(NOW, TEN)
    finally:
        web.faults.clear("langfuse/v4")
    assert attempt.error is not None
    assert attempt.batch is None
    assert reader.batch(NOW + timedelta(minutes=15), TEN).watermark is not None

"""Round after round into a store: late traces, changes of endpoint and any number of readings leave the one account."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from collectors.langfuse.collector import LangfuseCollector
from collectors.langfuse.config import LangfuseConfig
from collectors.runner import run_once
from planner.token_usage import TokenUsage
from sample_data.cluster import simulated_cluster
from sample_data.langfuse_routes import PATH, PUBLIC_KEY, SECRET_KEY
from sample_data.model_use import NANO, added, callers, use_between
from sample_data.serving_state import serving_pods
from store.database import open_engine
from store.schema import migrate
from store.usage_queries import token_usage
from tests.collectors.json_web import Told, json_web
from tests.collectors.langfuse.langfuses import ABSENT, DAILY, HEALTH, V1, V2, VERSION, row
from tests.collectors.simulated_web import Simulated, simulated_web

CLUSTER = simulated_cluster(1)
PLACES = serving_pods(CLUSTER)
DEPLOYMENTS = {place.model: place.deployment for place in PLACES}
MIDNIGHT = datetime(2026, 11, 16, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def web() -> Iterator[Simulated]:
    with simulated_web(CLUSTER, MIDNIGHT) as served:
        yield served


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = _empty_store(tmp_path)
    yield opened
    opened.dispose()


def _empty_store(folder: Path) -> Engine:
    opened = open_engine(f"sqlite:///{folder / 'store.db'}")
    migrate(opened)
    return opened


def _collector(url: str, **keys: Any) -> LangfuseCollector:
    settings = {"public_key": PUBLIC_KEY, "secret_key": SECRET_KEY, "backfill_days": 0, "details": False, **keys}
    return LangfuseCollector(LangfuseConfig(name="langfuse", url=url, **settings))


def _stored(engine: Engine, dimension: str = "") -> list[TokenUsage]:
    told = token_usage(engine, MIDNIGHT - 10 * DAY, MIDNIGHT + 10 * DAY)
    return [one.usage for one in told if one.usage.dimension == dimension]


def _sums(rows: list[TokenUsage], model: str) -> tuple[int, int, int, float]:
    own = [one for one in rows if one.model == model and one.start >= MIDNIGHT]  # the overlap reads hours before it
    return (
        sum(one.requests or 0 for one in own),
        sum(one.input_tokens or 0 for one in own),
        sum(one.output_tokens or 0 for one in own),
        pytest.approx(sum(one.cost_usd or 0 for one in own)),
    )


def _account(model: str, until: datetime, now: datetime) -> tuple[int, int, int, float]:
    use = added(
        use_between(place, MIDNIGHT, min(until, now - caller.trace_delay), caller.index)
        for place in PLACES
        if place.model == model
        for caller in callers(place.deployment)
    )
    return use.requests, use.prompt_tokens, use.generation_tokens, use.cost_nano(DEPLOYMENTS[model]) / NANO


ROUNDS = st.lists(st.integers(min_value=1, max_value=600), min_size=1, max_size=6).map(sorted)
"""Minutes after midnight: close together, the same again, and further apart than the overlap."""


@pytest.mark.parametrize("edition", ["v4", "v3"])
@given(minutes=ROUNDS)
@settings(max_examples=5)
@example(minutes=[7, 8, 8, 95, 130, 131, 290, 300])
def test_after_any_number_of_rounds_the_store_holds_the_account(
    web: Simulated, tmp_path_factory: pytest.TempPathFactory, edition: str, minutes: list[int]
) -> None:
    engine = _empty_store(tmp_path_factory.mktemp("store"))
    collector = _collector(f"{web.url}{PATH}/{edition}")
    with closing(collector):
        for minute in minutes:
            web.now = MIDNIGHT + timedelta(minutes=minute)
            for told in run_once(engine, collector, web.now):
                assert told.ok, told
    rows, environments = _stored(engine), _stored(engine, "environment")
    engine.dispose()
    assert len({(one.start, one.model) for one in rows}) == len(rows)
    for model in DEPLOYMENTS:  # all of it, the traces that came late with it
        assert _sums(rows, model) == _sums(environments, model) == _account(model, web.now, web.now)


def test_hours_that_came_late_by_more_than_the_overlap_are_found_on_the_next_day(
    web: Simulated, engine: Engine
) -> None:
    web.now = MIDNIGHT + timedelta(minutes=30)
    collector = _collector(f"{web.url}{PATH}/v4", overlap_h=1, reread_days=1)
    with closing(collector):
        run_once(engine, collector, web.now)
        run_once(engine, collector, MIDNIGHT + 5 * HOUR)  # Langfuse got no further: its clock is that of its worker
        early = _stored(engine)
        web.now = MIDNIGHT + DAY + timedelta(minutes=5)
        for told in run_once(engine, collector, web.now):
            assert told.ok
    rows = _stored(engine)
    assert sum(one.requests or 0 for one in early) < sum(one.requests or 0 for one in rows)
    for model in DEPLOYMENTS:
        assert _sums(rows, model) == _account(model, web.now, web.now)


def _day(day: int, requests: int) -> Told:
    return {"date": f"2026-11-{day}", "usage": [{"model": "m", "countObservations": requests, "inputUsage": 5}]}


def _pages(*days: Told) -> Told:
    return {"data": list(days), "meta": {"page": 1, "limit": 50, "totalPages": 1}}


def test_a_server_that_learns_to_tell_hours_leaves_nothing_twice(engine: Engine) -> None:
    old = {HEALTH: {"version": "2.95.11"}, V2: ABSENT, V1: ABSENT, DAILY: _pages(_day(16, 50), _day(15, 40))}
    with json_web(old) as web:
        collector = _collector(web.url, backfill_days=1, dimensions=())
        with closing(collector):
            run_once(engine, collector, MIDNIGHT + 10 * HOUR)
            assert _spans(engine) == {(15, 24, 40), (16, 24, 50)}
            web.paths[HEALTH] = VERSION
            yesterday = row("2026-11-15T23:00:00Z", count_count="41")
            web.paths[V2] = {"data": [yesterday, row(3, count_count="30"), row(9, count_count="33")]}
            for hours in (12, 14, 30, 54):
                run_once(engine, collector, MIDNIGHT + hours * HOUR)
                assert _spans(engine) == {(15, 1, 41), (16, 1, 30), (16, 1, 33)}


def test_a_server_that_can_tell_days_only_again_leaves_nothing_twice(engine: Engine) -> None:
    with json_web({HEALTH: VERSION, V2: {"data": [row(3, count_count="30")]}}) as web:
        collector = _collector(web.url, dimensions=())
        with closing(collector):
            run_once(engine, collector, MIDNIGHT + 10 * HOUR)
            assert _spans(engine) == {(16, 1, 30)}
            web.paths |= {V2: ABSENT, DAILY: _pages(_day(16, 50))}
            for hours in (11, 12, 26):
                run_once(engine, collector, MIDNIGHT + hours * HOUR)
                assert _spans(engine) == {(16, 24, 50)}


def _hours(until: int, *, day: int = 16) -> list[dict[str, Any]]:
    return [row(f"2026-11-{day}T{hour:02d}:00:00Z", count_count="100") for hour in range(until)]


@pytest.mark.parametrize("starts_anew", [False, True], ids=["in one run", "over a start"])
def test_hours_then_a_day_then_hours_of_one_day_are_told_once(engine: Engine, starts_anew: bool) -> None:
    """A hundred requests an hour; from 18 to 19 o'clock the server tells days only."""
    hours, days = {V2: {"data": _hours(17)}, HEALTH: VERSION}, {V2: ABSENT, DAILY: _pages(_day(16, 1_800))}

    def round_at(hour: int, until: int, *, day: int = 16) -> None:
        web.paths[V2] = {"data": _hours(min(until, 24)) + (_hours(until - 24, day=17) if until > 24 else [])}
        run_once(engine, collector, MIDNIGHT + hour * HOUR + HOUR / 6)

    with json_web(hours | {V1: ABSENT}) as web:
        collector = _collector(web.url, dimensions=())
        run_once(engine, collector, MIDNIGHT + 17 * HOUR + HOUR / 6)
        web.paths |= days
        run_once(engine, collector, MIDNIGHT + 18 * HOUR + HOUR / 6)
        assert _spans(engine) == {(16, 24, 1_800)}
        if starts_anew:
            collector = _collector(web.url, dimensions=())
        web.paths[HEALTH] = {"version": "4.17.0"}
        round_at(19, 19)
        told = sum(one.requests or 0 for one in _stored(engine))
        if starts_anew:  # what was told of the day is shared out by time, until the day is read again
            assert told == pytest.approx(1_900, rel=0.02)
        else:
            assert _spans(engine) == {(16, 1, 100)}
            assert told == 1_900
        round_at(25, 25)
        assert {(one.end - one.start) for one in _stored(engine)} == {HOUR}
        assert sum(one.requests or 0 for one in _stored(engine)) == 2_500
        collector.close()


def _spans(engine: Engine) -> set[tuple[int, int, int | None]]:
    """Day of the month, length in hours, and requests of every total."""
    return {(one.start.day, (one.end - one.start) // HOUR, one.requests) for one in _stored(engine)}

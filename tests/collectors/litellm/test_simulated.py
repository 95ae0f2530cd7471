"""The simulated gateway over a real socket: what is read is the simulator's own account, to the last token."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors.errors import Unauthorized, Unreachable
from collectors.litellm.collector import LiteLlmCollector
from collectors.litellm.config import LiteLlmConfig
from planner.readings import Batch
from sample_data.cluster import simulated_cluster
from sample_data.deployments import DEPLOYMENTS, Engine
from sample_data.faults import FaultKind
from sample_data.litellm_gateway import STARTED_AT
from sample_data.litellm_routes import KEY, PATH
from sample_data.model_use import NANO, Use, added, callers, use_between
from sample_data.serving_state import serving_pods, work_between
from tests.collectors.simulated_web import Simulated, simulated_web

CLUSTER = simulated_cluster(2)
NOW = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def web() -> Iterator[Simulated]:
    with simulated_web(CLUSTER, NOW, hang_s=3600.0) as served:
        yield served


def _collector(web: Simulated, **keys: Any) -> LiteLlmCollector:
    settings = {"url": f"{web.url}{PATH}", "bearer_token": KEY, "activity_backfill_days": 2, **keys}
    return LiteLlmCollector(LiteLlmConfig(name="gateway", **settings))


def _batch(web: Simulated, now: datetime, **keys: Any) -> Batch:
    web.now = now
    (attempt,) = _collector(web, **keys).collect(now, {})
    assert attempt.error is None, attempt.error
    assert attempt.batch is not None
    return attempt.batch


def _account(model: str, since: datetime, until: datetime, team: str | None = None) -> Use:
    return added(
        use_between(place, since, until, caller.index)
        for place in serving_pods(CLUSTER)
        if place.model == model
        for caller in callers(place.deployment)
        if team in (None, caller.team)
    )


MODELS = sorted({place.model for place in serving_pods(CLUSTER)})


def test_counters_are_the_account_since_the_gateway_started(web: Simulated) -> None:
    batch = _batch(web, NOW, read_daily_activity=False)
    told = {(one.model, one.quantity): one.value for one in batch.spend if not one.dimension}
    for model in MODELS:
        use = _account(model, STARTED_AT, NOW)
        deployment = next(each for each in DEPLOYMENTS.values() if each.model == model)
        assert told.get((model, "requests"), 0) == use.requests
        assert told.get((model, "input_tokens"), 0) == use.prompt_tokens
        assert told.get((model, "output_tokens"), 0) == use.generation_tokens
        assert told.get((model, "cost_usd"), 0) == pytest.approx(use.cost_nano(deployment) / NANO, rel=1e-9)
    assert batch.gaps == () or all("Ollama servers share" in gap.reason for gap in batch.gaps)


def test_what_is_added_in_an_hour_is_what_the_engines_counted_in_it(web: Simulated) -> None:
    before = _batch(web, NOW, read_daily_activity=False)
    after = _batch(web, NOW + timedelta(hours=1), read_daily_activity=False)
    first = {(one.model, one.quantity): one.value for one in before.spend if not one.dimension}
    for model in MODELS:
        works = [
            work_between(place, NOW, NOW + timedelta(hours=1))
            for place in serving_pods(CLUSTER)
            if place.model == model
        ]
        added_tokens = sum(
            one.value - first.get((model, "total_tokens"), 0)
            for one in after.spend
            if (one.model, one.quantity, one.dimension) == (model, "total_tokens", "")
        )
        assert added_tokens == sum(work.prompt_tokens + work.generation_tokens for work in works)


def test_teams_and_keys_add_up_to_the_totals(web: Simulated) -> None:
    batch = _batch(web, NOW, read_daily_activity=False, dimensions=("team", "key"))
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for one in batch.spend:
        of = sums.setdefault((one.model, one.quantity), {})
        of[one.dimension] = of.get(one.dimension, 0) + one.value
    for of in sums.values():
        assert of["team"] == pytest.approx(of[""])
        assert of["key"] == pytest.approx(of[""])
    assert "@" not in repr(batch)


def test_the_days_are_the_account_of_their_days(web: Simulated) -> None:
    batch = _batch(web, NOW, read_metrics=False, dimensions=("team",), page_size=37)
    for day in (15, 16):
        start = datetime(2026, 11, day, tzinfo=UTC)
        until = min(start + timedelta(days=1), NOW)
        for model in MODELS:
            use = _account(model, start, until)
            rows = [one for one in batch.usage if (one.start, one.model, one.dimension) == (start, model, "")]
            assert [(one.requests, one.input_tokens, one.output_tokens) for one in rows] == (
                [(use.requests, use.prompt_tokens, use.generation_tokens)] if use.requests else []
            )
            for one in batch.usage:
                if (one.start, one.model, one.dimension) == (start, model, "team"):
                    assert one.requests == _account(model, start, until, one.owner).requests
    assert len(web.asked_for("page=2")) > 0  # it was read in pages


def test_daily_parts_add_up_by_team_and_key(web: Simulated) -> None:
    batch = _batch(web, NOW, read_metrics=False, dimensions=("team", "key"))
    sums: dict[str, int] = {}
    for one in batch.usage:
        sums[one.dimension] = sums.get(one.dimension, 0) + (one.requests or 0)
    assert sums["team"] == sums["key"] == sums[""] > 0


def test_reading_again_gives_the_same(web: Simulated) -> None:
    first = _batch(web, NOW, read_metrics=False)
    again = _batch(web, NOW, read_metrics=False)
    assert (first.usage, first.usage_spans) == (again.usage, again.usage_spans)


def test_requests_to_ollama_are_kept_under_the_servers_own_addresses(web: Simulated) -> None:
    batch = _batch(web, NOW, read_daily_activity=False)
    told = {one.subject.endpoint: one.value for one in batch.counters if one.metric == "requests_finished"}
    for place in serving_pods(CLUSTER):
        endpoint = f"127.0.0.1:{web.port}/pods/{place.pod.namespace}/{place.pod.name}"
        if place.deployment.engine is Engine.OLLAMA:
            use = added(use_between(place, STARTED_AT, NOW, caller.index) for caller in callers(place.deployment))
            assert told[endpoint] == use.requests - use.failed
        else:
            assert endpoint not in told


def test_without_the_key_it_says_so_and_its_refusals_are_no_requests_of_models(web: Simulated) -> None:
    web.now = NOW
    (attempt,) = _collector(web, bearer_token="wrong", read_daily_activity=False).collect(NOW, {})
    assert isinstance(attempt.error, Unauthorized)
    batch = _batch(web, NOW, read_daily_activity=False)
    total = sum(one.value for one in batch.spend if (one.quantity, one.dimension) == ("requests", ""))
    assert total == sum(_account(model, STARTED_AT, NOW).requests for model in MODELS)


NO_FAILING_ANSWER = (FaultKind.COUNTER_RESET, FaultKind.GENERATION_CHANGE, FaultKind.HANG)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in NO_FAILING_ANSWER])
def test_every_fault_is_an_error_and_passes(web: Simulated, kind: FaultKind) -> None:
    collector = _collector(web, read_daily_activity=False, timeout_s=60)
    web.faults.set("litellm", kind, NOW)
    try:
        (attempt,) = collector.collect(NOW, {})
    finally:
        web.faults.clear("litellm")
    assert attempt.error is not None
    assert attempt.batch is None
    (attempt,) = collector.collect(NOW + timedelta(minutes=1), {})
    assert attempt.error is None


def test_a_gateway_that_hangs_is_an_error_and_passes(web: Simulated) -> None:
    collector = _collector(web, read_daily_activity=False, timeout_s=1)
    web.faults.set("litellm", FaultKind.HANG, NOW)
    try:
        (attempt,) = collector.collect(NOW, {})
    finally:
        web.faults.clear("litellm")
    assert isinstance(attempt.error, Unreachable)
    assert "did not answer within 1 s" in str(attempt.error)
    assert attempt.batch is None
    # A machine under load may need more than that second; then the next try has to do.
    tries = itertools.count(1)
    while attempt.error is not None:
        assert "did not answer within 1 s" in str(attempt.error)
        (attempt,) = collector.collect(NOW + timedelta(days=next(tries)), {})


def test_a_restart_of_the_gateway_shows_as_a_new_beginning(web: Simulated) -> None:
    collector = _collector(web, read_daily_activity=False)
    list(collector.collect(NOW, {}))
    restarted = NOW - timedelta(minutes=10)
    web.faults.set("litellm", FaultKind.COUNTER_RESET, restarted)
    try:
        (attempt,) = collector.collect(NOW, {})
    finally:
        web.faults.clear("litellm")
    assert attempt.batch is not None
    assert {one.started_at for one in attempt.batch.spend} == {restarted}
    told = sum(one.value for one in attempt.batch.spend if (one.quantity, one.dimension) == ("requests", ""))
    assert told == sum(_account(model, restarted, NOW).requests for model in MODELS)

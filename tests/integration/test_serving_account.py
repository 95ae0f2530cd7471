"""Simulated servers of every engine, the collector and the store: at the end the store's account is the simulator's."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from collectors.runner import run_once
from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig
from planner.serving_readings import ServingEngine
from sample_data.cluster import simulated_cluster
from sample_data.faults import FaultKind
from sample_data.request_shapes import Quantity
from sample_data.serving_endpoints import has_endpoint, pod_path
from sample_data.serving_routes import fault_name
from sample_data.serving_state import ServingPod, Work, serving_pods, work_between
from store.database import open_engine
from store.latency_queries import counted_histograms
from store.schema import migrate
from store.serving_queries import count_resets, counted
from tests.collectors.simulated_web import simulated_web

BEGIN = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
STEP = timedelta(seconds=60)
STEPS = 12
RESTARTED_AT = BEGIN + 4.5 * STEP
CLUSTER = simulated_cluster(6)
PLACES = [place for place in serving_pods(CLUSTER) if has_endpoint(place)]
RESTARTED = {"llama-70b", "mistral-small-24b"}  # one says when it started, the other does not
SICK = {"qwen-7b": FaultKind.SERVER_ERROR, "llama-8b": FaultKind.HALF_BODY}  # for two steps


@dataclass(frozen=True)
class Account:
    """A store that was written for some minutes, and the names of the servers in it."""

    engine: Engine
    endpoints: dict[str, ServingPod]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('store') / 'account.db'}")
    migrate(engine)
    with simulated_web(CLUSTER, BEGIN) as simulated:
        urls = [f"{simulated.url}{pod_path(place.pod)}/metrics" for place in PLACES]
        collector = ServingScraper(ServingConfig(name="servers", targets=tuple(urls), interval_s=60))
        for step in range(STEPS + 1):
            simulated.now = BEGIN + step * STEP
            for place in PLACES:
                name = fault_name(place.pod.namespace, place.pod.name)
                simulated.faults.clear(name)
                if place.deployment.name in RESTARTED and simulated.now >= RESTARTED_AT:
                    simulated.faults.set(name, FaultKind.COUNTER_RESET, RESTARTED_AT)
                if place.deployment.name in SICK and step in (6, 7):
                    simulated.faults.set(name, SICK[place.deployment.name], simulated.now)
            run_once(engine, collector, simulated.now)
        endpoints = {f"127.0.0.1:{simulated.port}{pod_path(place.pod)}": place for place in PLACES}
    yield Account(engine, endpoints)
    engine.dispose()


def expected(place: ServingPod) -> list[Work]:
    """What the store must have counted: between the first and the last scrape, without what a restart took along."""
    end = BEGIN + STEPS * STEP
    if place.deployment.name not in RESTARTED:
        return [work_between(place, BEGIN, end)]
    return [work_between(place, BEGIN, BEGIN + 4 * STEP), work_between(place, RESTARTED_AT, end)]


def test_every_token_and_every_request_is_in_the_store_once(account: Account) -> None:
    told: dict[tuple[str, str], float] = defaultdict(float)
    for one in counted(account.engine, BEGIN - STEP, BEGIN + 20 * STEP):
        told[one.subject.endpoint, one.metric] += one.increment
    seen = 0
    for endpoint, place in account.endpoints.items():
        works = expected(place)
        software = place.deployment.software
        assert software is not None
        if not sum(work.requests for work in works):
            continue
        seen += 1
        assert told[endpoint, "prompt_tokens"] == sum(work.prompt_tokens for work in works), endpoint
        assert told[endpoint, "generation_tokens"] == sum(work.generation_tokens for work in works), endpoint
        if software.engine is ServingEngine.VLLM:
            assert told[endpoint, "requests_finished"] == sum(work.requests for work in works), endpoint
            assert told[endpoint, "preemptions"] == sum(work.preemptions for work in works), endpoint
    assert seen >= 8


def test_histograms_hold_the_same_requests(account: Account) -> None:
    found = counted_histograms(account.engine, ["e2e_latency_s", "ttft_s"], BEGIN - STEP, BEGIN + 20 * STEP)
    told: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one in found:
        told[one.subject.endpoint, one.metric][0] += one.histogram.count
        told[one.subject.endpoint, one.metric][1] += one.histogram.total
    seen = 0
    for endpoint, place in account.endpoints.items():
        for metric, quantity in (("e2e_latency_s", Quantity.E2E), ("ttft_s", Quantity.TTFT)):
            if (endpoint, metric) not in told:
                continue
            parts = [work.histogram(quantity, ()) for work in expected(place)]
            assert told[endpoint, metric][0] == sum(part.count for part in parts), (endpoint, metric)
            assert told[endpoint, metric][1] == pytest.approx(sum(part.total for part in parts)), (endpoint, metric)
            seen += 1
    assert seen >= 12


def test_a_restart_is_seen_once_per_count_and_nowhere_else(account: Account) -> None:
    resets = count_resets(account.engine, BEGIN - STEP, BEGIN + 20 * STEP)
    names = {account.endpoints[one.subject.endpoint].deployment.name for one in resets}
    assert names == RESTARTED
    per_count = [(one.subject, one.metric, one.label) for one in resets]
    assert len(per_count) == len(set(per_count))

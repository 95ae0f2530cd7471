"""The simulated servers of models, a real Prometheus that scrapes them, and the collector that reads Prometheus.

What every server answered is kept, and read once more as on the direct road: both roads must say the same.
"""

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collectors.serving.config import ServingConfig
from collectors.serving.gaps import GapBook
from collectors.serving.metrics import TABLES, engine_of
from collectors.serving.scrape import Server, Understood, understand
from collectors.serving.series import SeriesBook
from collectors.serving.through_prometheus import ServingThroughPrometheus
from collectors.serving.wire import read_page
from planner.readings import Batch
from sample_data.cluster import simulated_cluster
from sample_data.server import make_app, running_clock
from sample_data.serving_state import serving_pods
from tests.integration.conftest import PATIENCE_S, PrometheusServer

SPEED = 30.0  # every scrape sees new values
SCRAPES = 5
CLUSTER = simulated_cluster(6)

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 900ms}}
scrape_configs:
- job_name: serving
  http_sd_configs: [{{url: "{url}/sd/serving", refresh_interval: 1s}}]
"""

Said = tuple[str, str, str, str, object]


@dataclass(frozen=True)
class Road:
    """What came through Prometheus, and what the servers had answered: (moment, body) by endpoint."""

    through: Batch
    again: Batch
    answers: Mapping[str, list[tuple[float, str]]]


@pytest.fixture(scope="module")
def road(prometheus_server: Callable[[str], PrometheusServer]) -> Iterator[Road]:
    answers: dict[str, list[tuple[float, str]]] = defaultdict(list)
    app: ASGIApp = make_app(CLUSTER, running_clock(SPEED))
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"

    async def remember(scope: Scope, receive: Receive, send: Send) -> None:
        asked_at = time.time()

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.body" and scope["path"].endswith("/metrics"):
                endpoint = address + scope["path"].removesuffix("/metrics")
                answers[endpoint].append((asked_at, message["body"].decode()))
            await send(message)

        await app(scope, receive, keep)

    server = uvicorn.Server(uvicorn.Config(remember, log_level="error", lifespan="off", ws="none", interface="asgi3"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    prometheus = prometheus_server(CONFIGURATION.format(url=f"http://{address}"))
    prometheus.start()
    deadline = time.monotonic() + PATIENCE_S
    while min((len(answers[endpoint]) for endpoint in list(answers)), default=0) < SCRAPES or len(answers) < 12:
        assert time.monotonic() < deadline, {endpoint: len(told) for endpoint, told in answers.items()}
        time.sleep(0.1)
    time.sleep(0.5)  # Prometheus stores an answer some time after it was given
    server.should_exit = True
    thread.join(PATIENCE_S)
    yield Road(read(prometheus, None), read(prometheus, datetime.now(UTC)), dict(answers))
    prometheus.stop()


def read(prometheus: PrometheusServer, mark: datetime | None) -> Batch:
    collector = ServingThroughPrometheus(
        ServingConfig(name="main", prometheus=prometheus.url, backfill_s=600, resolution_s=0, overlap_s=1)
    )
    try:
        (attempt,) = collector.collect(datetime.now(UTC), {} if mark is None else {prometheus.url[7:]: mark})
    finally:
        collector.close()
    assert attempt.error is None, attempt.error
    assert attempt.batch is not None
    return attempt.batch


def said(told: Batch | Understood, endpoint: str, at: datetime | None = None) -> set[Said]:
    """Everything said about an endpoint (at a moment), in one shape."""

    def is_wanted(one: object) -> bool:
        return one.subject.endpoint == endpoint and at in (None, one.observed_at)  # type: ignore[attr-defined]

    singles = {
        (one.metric, one.subject.model, one.subject.rank, one.label, one.value)
        for one in (*told.gauges, *told.counters)
        if is_wanted(one)
    }
    return singles | {
        (one.metric, one.subject.model, one.subject.rank, "", (one.bounds, one.counts, one.count, one.total))
        for one in told.histograms
        if is_wanted(one)
    }


def test_every_server_came_through_under_the_name_of_the_direct_road(road: Road) -> None:
    endpoints = {one.subject.endpoint for one in road.through.gauges}
    assert endpoints == set(road.answers)
    assert len(endpoints) == len([place for place in serving_pods(CLUSTER) if place.deployment.software])


def test_both_roads_say_the_same_of_every_scrape(road: Road) -> None:
    compared = 0
    for endpoint, answers in road.answers.items():
        moments = sorted({one.observed_at for one in road.through.gauges if one.subject.endpoint == endpoint})
        for at in moments:
            # Prometheus dates a scrape when it begins, and moves that by a few milliseconds
            near = [body for asked_at, body in answers if -0.02 < asked_at - at.timestamp() < 0.5]
            if len(near) != 1:
                continue
            (body,) = near
            engine = engine_of(body)
            assert engine is not None
            table = TABLES[engine]
            direct = understand(
                read_page(body, SeriesBook(table)), table, Server(endpoint=endpoint), observed_at=at, gaps=GapBook("x")
            )
            assert said(road.through, endpoint, at) == said(direct, endpoint)
            compared += 1
    assert compared >= 12 * (SCRAPES - 2)


def test_starts_of_counters_come_through(road: Road) -> None:
    by_pod = {f"/pods/{place.pod.namespace}/{place.pod.name}": place for place in serving_pods(CLUSTER)}
    told = {one.subject.endpoint: one.started_at for one in road.through.counters if one.metric == "generation_tokens"}
    known = {endpoint: start for endpoint, start in told.items() if start is not None}
    assert known  # vLLM's V1 engines say it
    for endpoint, start in known.items():
        assert start == by_pod[endpoint[endpoint.index("/") :]].started_at


def test_pods_and_nodes_come_out_of_the_target_labels(road: Road) -> None:
    by_name = {place.pod.name: place for place in serving_pods(CLUSTER)}
    for fact in road.through.servers:
        assert fact.pod_name is not None
        place = by_name[fact.pod_name]
        assert (fact.pod_namespace, fact.node) == (place.pod.namespace, place.node.name)
        assert fact.endpoint.endswith(f"/{place.pod.name}")


def test_reading_on_from_the_watermark_reads_nothing_again(road: Road) -> None:
    assert road.through.watermark is not None
    last = max(one.observed_at for one in road.through.gauges)
    assert all(one.observed_at > last - timedelta(seconds=2) for one in road.again.gauges)

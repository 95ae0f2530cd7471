"""The simulated cluster, a real Prometheus that scrapes it, and the collector that reads Prometheus.

What every exporter answered is kept, so that the same answers can go down the direct road into a second store.
"""

import json
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from sqlalchemy import Engine, text
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collectors import build, config_model
from collectors.dcgm.collector import read_exposition
from collectors.errors import Unreachable
from collectors.runner import Outcome, run_once
from collectors.source import Attempt
from sample_data.cluster import SimulatedCluster, simulated_cluster
from sample_data.server import make_app, running_clock
from store.database import open_engine
from store.queries import watermarks
from store.samples import stored_readings
from store.schema import migrate
from tests.integration.conftest import PATIENCE_S, PrometheusServer

SPEED = 30.0  # one second of the test is one collection interval of the exporters: every scrape sees new values

ALIGNMENT_S = 0.01  # Prometheus moves times of scrapes by some milliseconds, to compress them better

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 900ms}}
scrape_configs:
- job_name: dcgm
  http_sd_configs: [{{url: "{url}/sd/dcgm", refresh_interval: 1s}}]
"""


@dataclass(frozen=True)
class Answer:
    """What an exporter said, and when it was asked."""

    asked_at: float
    body: str


class Simulator:
    """The simulated cluster on a free port, in a thread, remembering every answer."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        self._app: ASGIApp = make_app(cluster, running_clock(SPEED))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(
            uvicorn.Config(self._remember, log_level="error", lifespan="off", ws="none", interface="asgi3")
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._socket.close()

    async def _remember(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked_at = time.time()

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.body" and scope["path"].endswith("/metrics"):
                node = scope["path"].split("/")[2]
                self.answers[node].append(Answer(asked_at, message["body"].decode()))
            await send(message)

        await self._app(scope, receive, keep)


class Replayed:
    """The direct road over answers that were given before, each dated as Prometheus dated it."""

    source = "direct"
    kind = "dcgm"
    cluster = "default"
    interval_s = 30.0

    def __init__(self, scrapes: Mapping[str, Mapping[datetime, str]]) -> None:
        self._scrapes = scrapes

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        moments = sorted((at, node) for node, bodies in self._scrapes.items() for at in bodies)
        for at, node in moments:
            batch = read_exposition(
                self._scrapes[node][at], observed_at=at, source=self.source, target=f"10.0.0.1:9400/nodes/{node}"
            )
            yield Attempt(target=node, started_at=at, seconds=0.0, batch=batch)

    def close(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Road:
    """What was found at the end of the road, and on the way."""

    cluster: SimulatedCluster
    through_prometheus: Engine
    direct: Engine
    scraped: Mapping[str, Mapping[datetime, str]]  # by node and time, as Prometheus tells it
    styles: frozenset[str]
    outage: tuple[datetime, datetime]
    during_outage: tuple[Outcome, ...]
    marks: tuple[datetime, ...]
    attempts: tuple[bool, ...]
    before_second_reading: Mapping[str, list[tuple[object, ...]]]
    after_second_reading: Mapping[str, list[tuple[object, ...]]]


def read_once(engine: Engine, server: PrometheusServer) -> tuple[Outcome, ...]:
    """One run of a collector that was just started and knows nothing but the store."""
    collector = build(
        "prometheus", config_model("prometheus").model_validate({"name": "main", "url": server.url, "backfill_s": 600})
    )
    try:
        return run_once(engine, collector, datetime.now(UTC))
    finally:
        collector.close()


def ask(server: PrometheusServer, query: str) -> list[dict]:
    """What the server answers, asked without any of the code under test."""
    with urllib.request.urlopen(
        f"{server.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=10
    ) as answer:
        return json.load(answer)["data"]["result"]


def scrapes_of(server: PrometheusServer) -> dict[str, list[datetime]]:
    """When Prometheus has an answer of each node."""
    return {
        series["metric"]["instance"].removesuffix(":9400"): [
            datetime.fromtimestamp(at, UTC) for at, is_up in series["values"] if is_up == "1"
        ]
        for series in ask(server, 'up{job="dcgm-exporter"}[10m]')
    }


def wait_for_scrapes(server: PrometheusServer, nodes: int, count: int) -> None:
    """Return when every node was scraped that often since the server was started last."""
    began = datetime.now(UTC)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        fresh = [sum(at > began for at in times) for times in scrapes_of(server).values()]
        if len(fresh) == nodes and min(fresh) >= count:
            return
        assert time.monotonic() < deadline, f"scrapes per node: {fresh}"
        time.sleep(0.2)


def dated(answers: Mapping[str, list[Answer]], scrapes: Mapping[str, list[datetime]]) -> dict[str, dict[datetime, str]]:
    """The answer that belongs to each scrape: the first one asked for after the time of the scrape."""
    found: dict[str, dict[datetime, str]] = {}
    for node, times in scrapes.items():
        found[node] = {}
        for at in times:
            later = [answer for answer in answers[node] if answer.asked_at >= at.timestamp() - ALIGNMENT_S]
            assert later, f"Prometheus has a scrape of {node} at {at} that was never asked for"
            found[node][at] = min(later, key=lambda answer: answer.asked_at).body
    return found


@pytest.fixture(scope="module")
def road(
    prometheus_server: Callable[[str], PrometheusServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Road]:
    cluster = simulated_cluster(6, 1)
    simulator = Simulator(cluster)
    server = prometheus_server(CONFIGURATION.format(url=simulator.url))
    folder: Path = tmp_path_factory.mktemp("stores")
    stores = [open_engine(f"sqlite:///{folder / name}.db") for name in ("prometheus", "direct")]
    for store in stores:
        migrate(store)
    through, direct = stores
    try:
        server.start()
        wait_for_scrapes(server, len(cluster.nodes), 3)
        marks = [mark_after(through, read_once(through, server))]
        server.stop()
        stopped_at = datetime.now(UTC)
        during_outage = read_once(through, server)
        marks.append(mark_of(through))
        time.sleep(2)  # long enough for scrapes to be missing
        started_at = datetime.now(UTC)
        server.start()
        wait_for_scrapes(server, len(cluster.nodes), 3)
        marks.append(mark_after(through, read_once(through, server)))
        wait_for_scrapes(server, len(cluster.nodes), 2)
        simulator.stop()
        scraped = dated(simulator.answers, scrapes_of(server))
        styles = {
            "exported" if "exported_pod" in series["metric"] else "plain"
            for series in ask(server, 'last_over_time({__name__=~"DCGM_FI_DEV_FB_USED.*",pod!=""}[10m])')
            if series["metric"].get("exported_pod") or not series["metric"]["pod"].startswith("nvidia-dcgm-exporter")
        }
        marks.append(mark_after(through, read_once(through, server)))
        run_once(direct, Replayed(scraped), datetime.now(UTC))
        before = contents(through)
        with through.begin() as connection:
            connection.execute(text("DELETE FROM watermark"))
        attempts_before = attempts_of(through)
        assert all(outcome.ok and outcome.readings for outcome in read_once(through, server))
        after = contents(through)
        yield Road(
            cluster=cluster,
            through_prometheus=through,
            direct=direct,
            scraped=scraped,
            styles=frozenset(styles),
            outage=(stopped_at, started_at),
            during_outage=during_outage,
            marks=tuple(marks),
            attempts=attempts_before,
            before_second_reading=before,
            after_second_reading=after,
        )
    finally:
        simulator.stop()
        for store in stores:
            store.dispose()


def mark_of(engine: Engine) -> datetime:
    (mark,) = watermarks(engine, 1).values()
    return mark


def mark_after(engine: Engine, outcomes: tuple[Outcome, ...]) -> datetime:
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    return mark_of(engine)


def attempts_of(engine: Engine) -> tuple[bool, ...]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT ok FROM collection_attempt ORDER BY started_at")).scalars().all()
    return tuple(bool(ok) for ok in rows)


def contents(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """Every row of everything that was measured or seen."""
    with engine.connect() as connection:
        return {
            table: sorted(map(tuple, connection.execute(text(f"SELECT * FROM {table}"))), key=repr)
            for table in ("sample", "device_key", "gpu_record", "instance_record", "pod_record")
        }


def values(engine: Engine) -> dict[tuple[str, str, datetime], float]:
    return {
        (str(reading.subject), reading.metric, reading.observed_at): reading.value
        for reading in stored_readings(engine)
    }


def inventory(engine: Engine, table: str, *columns: str) -> set[tuple[object, ...]]:
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(text(f"SELECT {', '.join(columns)} FROM {table}"))}


def test_both_roads_fill_the_same_store_value_by_value(road: Road) -> None:
    through, direct = values(road.through_prometheus), values(road.direct)
    assert len(direct) > 5000
    assert through.keys() == direct.keys()
    assert {key for key in through if through[key] != direct[key]} == set()


def test_both_roads_find_the_same_gpus_instances_and_pods(road: Road) -> None:
    for table, *columns in (
        ("gpu_record", "gpu_uuid", "node", "gpu_index", "model_name", "pci_bus_id", "driver_version", "mig_mode"),
        ("instance_record", "gpu_uuid", "gi_id", "profile", "start"),
        ("pod_record", "gpu_uuid", "gi_id", "namespace", "name", "container", "uid", "shared"),
    ):
        through, direct = (inventory(store, table, *columns) for store in (road.through_prometheus, road.direct))
        assert through == direct, table


def test_the_inventory_is_that_of_the_cluster(road: Road) -> None:
    gpus = {(gpu.uuid, node.name, gpu.index) for node in road.cluster.nodes for gpu in node.gpus}
    assert inventory(road.through_prometheus, "gpu_record", "gpu_uuid", "node", "gpu_index") == gpus
    instances = {
        (gpu.uuid, instance.gi_id, instance.profile)
        for node in road.cluster.nodes
        for gpu in node.gpus
        for instance in gpu.instances or ()
    }
    assert inventory(road.through_prometheus, "instance_record", "gpu_uuid", "gi_id", "profile") == instances


def test_both_label_styles_give_the_pods_of_the_cluster(road: Road) -> None:
    assert road.styles == {"exported", "plain"}
    pods = {
        (gpu.uuid, -1 if instance is None else instance.gi_id, pod.namespace, pod.name, pod.container)
        for node in road.cluster.nodes
        for gpu in node.gpus
        for instance, pod in [(None, gpu.pod), *((instance, instance.pod) for instance in gpu.instances or ())]
        if pod is not None
    }
    columns = ("gpu_uuid", "gi_id", "namespace", "name", "container")
    assert inventory(road.through_prometheus, "pod_record", *columns) == pods


def test_every_scrape_that_prometheus_has_is_in_the_store_also_around_its_outage(road: Road) -> None:
    before, after = road.outage
    nodes = {gpu.uuid: node.name for node in road.cluster.nodes for gpu in node.gpus}
    stored: dict[str, set[datetime]] = defaultdict(set)
    for subject, _, at in values(road.through_prometheus):
        stored[nodes[subject.split("/")[0]]].add(at)
    assert stored == {node: set(bodies) for node, bodies in road.scraped.items()}
    for times in stored.values():
        assert min(times) < before
        assert max(times) > after
        assert not any(before + timedelta(seconds=1) < at < after for at in times)


def test_a_run_during_the_outage_fails_and_passes_nothing(road: Road) -> None:
    (outcome,) = road.during_outage
    assert isinstance(outcome.error, Unreachable)
    assert road.marks[0] == road.marks[1]


def test_a_restarted_collector_reads_on_where_the_store_ends(road: Road) -> None:
    assert road.marks[1] < road.marks[2] < road.marks[3]
    assert road.attempts == (True, False, True, True)


def test_reading_the_same_range_again_changes_nothing(road: Road) -> None:
    assert all(road.before_second_reading.values())
    assert road.after_second_reading == road.before_second_reading

"""Discovery through the real Kubernetes client, from a simulated API server to the simulated servers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors.errors import CollectorError
from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig
from collectors.serving.targets import Discovery
from sample_data.cluster import simulated_cluster
from sample_data.deployments import UTC_OFFSETS_H
from sample_data.serving_endpoints import has_endpoint, pod_path
from sample_data.serving_state import serving_pods, serving_state
from tests.collectors.simulated_web import Simulated, simulated_web

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
CLUSTER = simulated_cluster(6)
PLACES = [place for place in serving_pods(CLUSTER) if has_endpoint(place)]


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with simulated_web(CLUSTER, NOW) as served:
        yield served


def config(simulated: Simulated, **kubernetes: Any) -> ServingConfig:
    table = {
        "url": f"{simulated.url}/kubernetes",
        "namespaces": sorted(UTC_OFFSETS_H),
        "ports": [simulated.port],
        **kubernetes,
    }
    return ServingConfig.model_validate({"name": "pods", "kubernetes": table})


def test_every_annotated_server_is_found_and_read_with_its_pod(simulated: Simulated) -> None:
    collector = ServingScraper(config(simulated))
    asking, *reading = collector.collect(NOW, {})
    collector.close()
    assert asking.error is None
    assert {attempt.target for attempt in reading} == {
        f"127.0.0.1:{simulated.port}{pod_path(place.pod)}" for place in PLACES
    }
    by_name = {place.pod.name: place for place in PLACES}
    for attempt in reading:
        assert attempt.error is None
        assert attempt.batch is not None
        (fact,) = attempt.batch.servers
        assert fact.pod_name is not None
        place = by_name[fact.pod_name]
        assert (fact.pod_namespace, fact.node) == (place.pod.namespace, place.node.name)
        generated = sum(one.value for one in attempt.batch.counters if one.metric == "generation_tokens")
        assert generated == serving_state(place, NOW).work.generation_tokens


def test_only_the_stated_namespaces_are_asked_for_and_read(simulated: Simulated) -> None:
    simulated.asked.clear()
    collector = ServingScraper(config(simulated, namespaces=["coding"]))
    _, *reading = collector.collect(NOW, {})
    collector.close()
    assert {attempt.target.split("/")[2] for attempt in reading} == {"coding"}
    listed = simulated.asked_for("/kubernetes/api/v1/")
    assert listed
    assert all("/namespaces/coding/pods" in path for path in listed)


def test_a_port_that_is_not_stated_is_never_connected_to(simulated: Simulated) -> None:
    simulated.asked.clear()
    collector = ServingScraper(config(simulated, ports=[8000]))
    (asking,) = collector.collect(NOW, {})
    collector.close()
    assert asking.batch is not None
    assert f"asks for port {simulated.port}" in asking.batch.gaps[0].reason
    assert not simulated.asked_for("/pods/coding/")


def test_pods_behind_a_service_are_found_by_its_labels(simulated: Simulated) -> None:
    table = config(
        simulated, by="services", labels={"app.kubernetes.io/name": "llama-8b"}, port_name="http", ports=[8000]
    )
    assert table.kubernetes is not None
    discovery = Discovery(table.kubernetes, source="pods", engine=None)
    (attempt,) = discovery.refresh(NOW, 0.0)
    discovery.close()
    assert attempt.error is None
    replicas = {place.pod.name for place in PLACES if place.deployment.name == "llama-8b"}
    # in the simulator all pods have one address, so they are one target here
    assert {target.pod for target in discovery.targets} <= replicas
    assert {target.url for target in discovery.targets} == {"http://127.0.0.1:8000/metrics"}


def test_an_api_server_that_is_not_there_costs_nothing_that_was_known(simulated: Simulated, closed_port: int) -> None:
    collector = ServingScraper(config(simulated, url=f"http://127.0.0.1:{closed_port}"))
    (asking,) = collector.collect(NOW, {})
    assert isinstance(asking.error, CollectorError)
    (again,) = collector.collect(NOW + timedelta(seconds=60), {})
    assert again.error is not None
    collector.close()

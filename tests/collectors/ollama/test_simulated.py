"""The simulated Ollama servers over a real socket."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from collectors.ollama.collector import OllamaCollector
from collectors.ollama.config import OllamaConfig
from planner.serving_readings import ServingFact
from sample_data import ollama_server
from sample_data.cluster import simulated_cluster
from sample_data.deployments import Engine
from sample_data.faults import FaultKind
from sample_data.ollama_routes import ollama_paths
from sample_data.serving_endpoints import pod_path
from sample_data.serving_state import ServingPod, serving_pods, serving_state
from sample_data.workload import node_state
from tests.collectors.simulated_web import Simulated, simulated_web

CLUSTER = simulated_cluster(6)
NOW = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)
PLACES = {pod_path(place.pod): place for place in serving_pods(CLUSTER) if place.deployment.engine is Engine.OLLAMA}


@pytest.fixture(scope="module")
def web() -> Iterator[Simulated]:
    with simulated_web(CLUSTER, NOW, hang_s=1.0) as served:
        yield served


def _facts(web: Simulated, now: datetime) -> dict[str, ServingFact]:
    web.now = now
    config = OllamaConfig(name="it", targets=tuple(web.url + path for path in ollama_paths(CLUSTER)))
    attempts = list(OllamaCollector(config).collect(now, {}))
    assert [attempt.error for attempt in attempts] == [None] * len(PLACES)
    return {
        fact.endpoint.removeprefix(f"127.0.0.1:{web.port}"): fact
        for attempt in attempts
        if attempt.batch is not None
        for fact in attempt.batch.servers
    }


@pytest.mark.parametrize("hours", [0, 9, 60])
def test_what_is_loaded_is_what_holds_memory_of_the_device(web: Simulated, hours: int) -> None:
    now = NOW + timedelta(hours=hours)
    facts = _facts(web, now)
    assert set(facts) == set(PLACES)
    loaded = {path: [model for model in fact.models if model.is_loaded] for path, fact in facts.items()}
    for path, place in PLACES.items():
        state = serving_state(place, now)
        assert [model.name for model in loaded[path]] == ([place.model] if state.is_loaded else [])
        for model in loaded[path]:
            assert model.device_bytes == ollama_server.device_bytes(place)
            assert model.device_bytes <= _used_bytes(place, now)
            assert model.expires_at is not None
            assert now < model.expires_at <= now + ollama_server.KEEP_ALIVE + timedelta(seconds=1)  # its decimals


def _used_bytes(place: ServingPod, now: datetime) -> int:
    return sum(
        device.memory_used_bytes
        for gpu in node_state(place.node, now)
        for device in gpu.devices
        if device.pod is place.pod
    )


def test_one_lies_partly_on_the_host_and_one_is_too_old_to_tell_its_context(web: Simulated) -> None:
    models = [model for fact in _facts(web, NOW).values() for model in fact.models if model.is_loaded]
    partly = {model.name for model in models if (model.device_bytes or 0) < (model.size_bytes or 0)}
    assert partly == {"qwen2.5:32b"}
    assert {model.name for model in models if model.context_tokens is None} == {"llama3.2:3b"}
    assert not any("cloud" in model.name for model in models)


@pytest.mark.parametrize("kind", sorted(set(FaultKind) - {FaultKind.COUNTER_RESET, FaultKind.GENERATION_CHANGE}))
def test_every_fault_is_an_error_of_that_server_alone_and_passes(web: Simulated, kind: FaultKind) -> None:
    web.now = NOW
    first, second = list(PLACES)[:2]
    config = OllamaConfig(name="it", targets=(web.url + first, web.url + second), timeout_s=0.5)
    collector = OllamaCollector(config)
    name = f"{PLACES[first].pod.namespace}/{PLACES[first].pod.name}"
    web.faults.set(name, kind, NOW)
    try:
        attempts = {attempt.target: attempt for attempt in collector.collect(NOW, {})}
    finally:
        web.faults.clear(name)
    assert attempts[f"127.0.0.1:{web.port}{first}"].error is not None
    assert attempts[f"127.0.0.1:{web.port}{second}"].error is None
    again = list(collector.collect(NOW + timedelta(seconds=30), {}))
    assert [attempt.error for attempt in again] == [None, None]

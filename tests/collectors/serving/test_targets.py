"""Which pods are scraped: only what the configuration allows, whatever stands in annotations."""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors.errors import BadPayload, Unreachable
from collectors.kubernetes_discovery import DiscoveredPod, DiscoveredService
from collectors.serving import targets as module
from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig, ServingDiscoveryConfig
from collectors.serving.targets import Discovery
from planner.serving_readings import ServingEngine
from tests.collectors.webs import Web, reply, serving

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"}


def pod(
    name: str = "p", ip: str | None = "10.0.0.7", annotations: Mapping[str, str] = SCRAPED, **told: Any
) -> DiscoveredPod:
    known: dict[str, Any] = {
        "namespace": "team-a", "name": name, "uid": "u", "node": "gpu-a", "phase": "Running", "pod_ip": ip,
        "labels": {}, "annotations": annotations, "ports": {"http": 8000},
    }  # fmt: skip
    return DiscoveredPod(**(known | told))


class Api:
    """Stands in for the API server; what it holds is set by a test."""

    target = "kubernetes:6443"

    def __init__(self) -> None:
        self.pods: list[DiscoveredPod] = []
        self.services: list[DiscoveredService] = []
        self.error: Exception | None = None
        self.asked = 0
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    held = Api()

    def listed(items: list[Any]) -> tuple[Any, ...]:
        held.asked += 1
        if held.error is not None:
            raise held.error
        return tuple(items)

    monkeypatch.setattr(module, "pods_with_annotation", lambda api, name, value, namespaces: listed(held.pods))
    monkeypatch.setattr(module, "services_with_label", lambda api, labels, namespaces: listed(held.services))
    return held


def discovery(api: Api, engine: ServingEngine | None = None, **table: Any) -> Discovery:
    config = ServingDiscoveryConfig.model_validate({"namespaces": ["team-a"], "ports": [8000], **table})
    return Discovery(config, source="s", engine=engine, api=lambda config, source: api)  # type: ignore[arg-type, return-value]


def found(api: Api, engine: ServingEngine | None = None, **table: Any) -> tuple[list[str], list[str]]:
    """Addresses, and the reasons for what was left out."""
    asked = discovery(api, engine, **table)
    (attempt,) = asked.refresh(NOW, 0.0)
    assert attempt.batch is not None
    return [target.url for target in asked.targets], [gap.reason for gap in attempt.batch.gaps]


def test_an_annotated_pod_is_scraped_at_its_port_and_path(api: Api) -> None:
    api.pods = [
        pod(),
        pod("q", "10.0.0.8", {**SCRAPED, "prometheus.io/path": "/v1/metrics", "prometheus.io/scheme": "https"}),
    ]
    assert found(api)[0] == ["http://10.0.0.7:8000/metrics", "https://10.0.0.8:8000/v1/metrics"]


def test_a_target_knows_its_pod(api: Api) -> None:
    api.pods = [pod()]
    asked = discovery(api)
    list(asked.refresh(NOW, 0.0))
    (target,) = asked.targets
    assert (target.namespace, target.pod, target.pod_ip, target.node) == ("team-a", "p", "10.0.0.7", "gpu-a")
    assert target.endpoint == "10.0.0.7:8000"


def test_ipv6_addresses_stand_in_brackets(api: Api) -> None:
    api.pods = [pod(ip="fd00::7")]
    assert found(api)[0] == ["http://[fd00::7]:8000/metrics"]


@pytest.mark.parametrize(
    ("annotations", "why"),
    [
        ({"prometheus.io/port": "9000"}, "asks for port 9000"),
        ({"prometheus.io/port": "8000; rm"}, "missing or no number"),
        ({"prometheus.io/port": "٨٠٠٠"}, "missing or no number"),
        ({"prometheus.io/port": ""}, "missing or no number"),
        ({"prometheus.io/path": "metrics"}, "no plain path"),
        ({"prometheus.io/path": "//evil.example/metrics"}, "no plain path"),
        ({"prometheus.io/path": "/a/../../b"}, "no plain path"),
        ({"prometheus.io/path": "/metrics?x=1"}, "no plain path"),
        ({"prometheus.io/path": "/@evil.example"}, "no plain path"),
        ({"prometheus.io/path": "/%2e%2e"}, "no plain path"),
        ({"prometheus.io/path": "/" + "a" * 300}, "no plain path"),
        ({"prometheus.io/path": "/a\r\nHost: b"}, "no plain path"),
        ({"prometheus.io/scheme": "file"}, "neither http nor https"),
    ],
)
def test_what_an_annotation_may_not_ask_for_is_refused_and_told(
    api: Api, annotations: dict[str, str], why: str
) -> None:
    api.pods = [pod("bad", annotations={**SCRAPED, **annotations}), pod("good", "10.0.0.8")]
    urls, reasons = found(api)
    assert urls == ["http://10.0.0.8:8000/metrics"]
    assert len(reasons) == 1
    assert why in reasons[0]
    assert "team-a/bad" in reasons[0]


def test_a_pod_on_which_discovery_fails_leaves_the_pods_known_before(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **keys: object) -> None:
        raise OverflowError("what the pod said")

    api.pods = [pod()]
    asked = discovery(api)
    list(asked.refresh(NOW, 0.0))
    with monkeypatch.context() as patched:
        patched.setattr(module, "pods_with_annotation", fail)
        (attempt,) = asked.refresh(NOW + timedelta(hours=1), 0.0)
    assert isinstance(attempt.error, BadPayload)
    assert "what the pod said" not in str(attempt.error)
    assert len(asked.targets) == 1
    (attempt,) = asked.refresh(NOW + timedelta(hours=2), 0.0)
    assert attempt.error is None


ZONES = ("fe80::1%eth0", "::1%]@evil.example:80#", "::1%25eth0", "fd00::7%")
"""Whatever stands behind the percent sign is kept by the parser of addresses as a zone, and would be part of a URL."""


@pytest.mark.parametrize("ip", [None, "", "evil.example", "10.0.0.7@evil", "10.0.0", *ZONES])
def test_a_pod_without_an_address_is_not_there_yet(api: Api, ip: str | None) -> None:
    api.pods = [pod(ip=ip)]
    assert found(api) == ([], ["no pod to scrape was found"])


def test_a_pod_that_does_not_run_is_left_out(api: Api) -> None:
    api.pods = [pod(phase="Pending")]
    assert found(api)[0] == []


def test_many_refused_pods_are_told_once(api: Api) -> None:
    api.pods = [pod(f"p{n}", annotations={**SCRAPED, "prometheus.io/port": "1"}) for n in range(50)]
    reasons = found(api)[1]
    assert len(reasons) == 2
    assert "and 45 more" in reasons[0]


def test_no_more_targets_than_allowed(api: Api) -> None:
    api.pods = [pod(f"p{n}", f"10.0.0.{n}") for n in range(1, 6)]
    urls, reasons = found(api, max_targets=3)
    assert len(urls) == 3
    assert "more than max_targets" in reasons[0]


def test_pods_behind_a_service_are_scraped_and_not_the_service(api: Api) -> None:
    pods = (pod("p", ports={"web": 8000}, annotations={}), pod("q", "10.0.0.8", {}))
    api.services = [
        DiscoveredService(
            namespace="team-a", name="s", labels={}, annotations={}, ports={"http": "web"}, pods=pods[:1]
        ),
        DiscoveredService(
            namespace="team-a", name="t", labels={}, annotations={}, ports={"http": 8000, "other": 9}, pods=pods
        ),
    ]
    urls, reasons = found(api, by="services", labels={"app": "vllm"})
    assert urls == ["http://10.0.0.7:8000/metrics", "http://10.0.0.8:8000/metrics"]  # each pod once
    assert reasons == []  # port 9 is another port of the service, and not meant


def test_a_service_without_the_named_port_is_told(api: Api) -> None:
    api.services = [
        DiscoveredService(namespace="team-a", name="s", labels={}, annotations={}, ports={"http": 8000}, pods=(pod(),))
    ]
    urls, reasons = found(api, by="services", labels={"app": "vllm"}, port_name="metrics")
    assert urls == []
    assert "service team-a/s: it has no port named metrics" in reasons[0]


def test_a_configured_engine_has_its_own_path(api: Api) -> None:
    api.pods = [pod()]
    assert found(api, ServingEngine.NIM)[0] == ["http://10.0.0.7:8000/v1/metrics"]


def test_the_api_server_is_asked_now_and_then(api: Api) -> None:
    asked = discovery(api, refresh_s=60)
    for second in (0, 30, 59, 60, 90):
        list(asked.refresh(NOW + timedelta(seconds=second), 0.0))
    assert api.asked == 2
    list(asked.refresh(NOW - timedelta(hours=1), 0.0))  # a clock that was set back waits for nothing
    assert api.asked == 3


def test_when_the_api_server_fails_the_pods_known_before_stay(api: Api) -> None:
    api.pods = [pod()]
    asked = discovery(api)
    list(asked.refresh(NOW, 0.0))
    api.error = Unreachable("kubernetes:6443 cannot be connected to.", source="s")
    (attempt,) = asked.refresh(NOW + timedelta(seconds=60), 0.0)
    assert attempt.error is api.error
    assert len(asked.targets) == 1


def test_an_api_server_that_hangs_does_not_keep_the_known_pods_waiting(
    api: Api, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.serving.collector.DISCOVERY_PATIENCE_S", 0.05)
    web.answer = reply(200, b'vllm:num_requests_running{model_name="m"} 1\n')
    api.pods = [pod(ip="127.0.0.1", annotations={"prometheus.io/port": str(web.port)})]
    collector = scraper_of(api, web)
    assert len(list(collector.collect(NOW, {}))) == 2
    released = threading.Event()
    monkeypatch.setattr(module, "pods_with_annotation", lambda api, name, value, namespaces: released.wait(30) and ())
    for minute in (1, 2):
        (reading,) = collector.collect(NOW + timedelta(minutes=minute), {})
        assert reading.batch is not None
    released.set()
    told = [
        attempt.target for minute in range(3, 60) for attempt in collector.collect(NOW + timedelta(minutes=minute), {})
    ]
    assert "kubernetes:6443" in told
    collector.close()


def scraper_of(api: Api, web: Web, **table: Any) -> ServingScraper:
    config = ServingConfig.model_validate(
        {"name": "s", "kubernetes": {"namespaces": ["team-a"], "ports": [web.port]}, **table}
    )
    assert config.kubernetes is not None
    asked = Discovery(config.kubernetes, source="s", engine=None, api=lambda config, source: api)  # type: ignore[arg-type, return-value]
    return ServingScraper(config, discovery=asked)


def test_a_discovered_server_is_read_with_its_pod(api: Api, web: Web) -> None:
    web.answer = reply(200, b'vllm:num_requests_running{model_name="m"} 1\n')
    api.pods = [pod(ip="127.0.0.1", annotations={"prometheus.io/port": str(web.port)})]
    collector = scraper_of(api, web)
    asking, reading = collector.collect(NOW, {})
    assert asking.target == "kubernetes:6443"
    assert reading.batch is not None
    (fact,) = reading.batch.servers
    assert (fact.pod_namespace, fact.pod_name, fact.pod_ip, fact.node) == ("team-a", "p", "127.0.0.1", "gpu-a")
    collector.close()
    assert api.closed.is_set()


def test_a_pod_whose_metrics_are_no_engine_s_is_left_alone_for_a_while(api: Api, web: Web) -> None:
    web.answer = reply(200, b"node_load1 1\n")
    api.pods = [pod(ip="127.0.0.1", annotations={"prometheus.io/port": str(web.port)})]
    collector = scraper_of(api, web)
    _, first = collector.collect(NOW, {})
    assert first.error is None
    assert first.batch is not None
    assert "not a server of models" in first.batch.gaps[0].reason
    assert list(collector.collect(NOW + timedelta(seconds=30), {})) == []
    assert len(list(collector.collect(NOW + timedelta(seconds=660), {}))) == 2


def test_a_pod_that_is_gone_is_forgotten(api: Api, web: Web) -> None:
    web.answer = reply(200, b'vllm:num_requests_running{model_name="m"} 1\n')
    with serving() as other:
        other.answer = web.answer
        pods = [pod(str(n), "127.0.0.1", {"prometheus.io/port": str(one.port)}) for n, one in enumerate((web, other))]
        config = {"kubernetes": {"namespaces": ["team-a"], "ports": [web.port, other.port], "refresh_s": 5}}
        api.pods = pods
        collector = scraper_of(api, web, **config)
        assert len(list(collector.collect(NOW, {}))) == 3
        api.pods = pods[:1]
        assert len(list(collector.collect(NOW + timedelta(seconds=30), {}))) == 2

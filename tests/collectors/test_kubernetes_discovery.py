"""Finding servers by annotation and by label, at the simulated API server and at one that lies."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_access_config import KubernetesAccessConfig
from collectors.kubernetes_discovery import (
    label_selector,
    pods_with_annotation,
    pods_with_label,
    services_with_label,
)
from collectors.kubernetes_errors import MissingRight
from sample_data.kubernetes_api import KubernetesSimulator
from sample_data.kubernetes_rights import Rights
from sample_data.serving_state import serving_pods
from tests.collectors.api_servers import CLUSTER, ServedApi, serving_api
from tests.collectors.webs import Web, reply


@pytest.fixture(scope="module")
def served() -> Iterator[ServedApi]:
    with serving_api() as one:
        yield one


def api_of(url: str) -> KubernetesApi:
    return KubernetesApi(KubernetesAccessConfig(url=url, timeout_s=5), source="main")


def with_metrics() -> set[tuple[str, str]]:
    return {
        (place.pod.namespace, place.pod.name)
        for place in serving_pods(CLUSTER)
        if place.deployment.software is not None
    }


def test_pods_with_an_annotation_are_found_with_all_that_a_scrape_needs(served: ServedApi) -> None:
    found = pods_with_annotation(api_of(served.url), "prometheus.io/scrape", "true")
    assert {(pod.namespace, pod.name) for pod in found} == with_metrics()
    for pod in found:
        assert pod.pod_ip == "127.0.0.1"
        assert pod.annotations["prometheus.io/port"] == str(served.port)
        assert pod.annotations["prometheus.io/path"] == f"/pods/{pod.namespace}/{pod.name}/metrics"
        assert pod.node in CLUSTER.by_name
        assert pod.phase == "Running"
        assert set(pod.ports) == {"http"}


def test_an_annotation_of_another_value_or_namespace_is_not_found(served: ServedApi) -> None:
    api = api_of(served.url)
    assert pods_with_annotation(api, "prometheus.io/scrape", "false") == ()
    assert pods_with_annotation(api, "prometheus.io/scrape", namespaces=("nowhere",)) == ()
    some = pods_with_annotation(api, "prometheus.io/scrape", namespaces=("support", "batch"))
    assert {pod.namespace for pod in some} == {"support", "batch"}


def test_pods_with_labels_are_found(served: ServedApi) -> None:
    found = pods_with_label(api_of(served.url), {"app.kubernetes.io/component": "vllm", "team": "support"})
    assert {pod.labels["app.kubernetes.io/name"] for pod in found} == {"llama-8b", "phi-4-mini"}


def test_services_bring_the_pods_behind_them(served: ServedApi) -> None:
    found = services_with_label(api_of(served.url), {"app.kubernetes.io/name": "llama-8b"})
    (service,) = found
    assert (service.namespace, service.name, service.ports) == ("support", "llama-8b", {"http": "http"})
    expected = {name for namespace, name in with_metrics() if name.startswith("llama-8b-")}
    assert {pod.name for pod in service.pods} == expected
    assert len(expected) == 3


def test_finished_pods_are_not_found(served: ServedApi) -> None:
    namespace, name = sorted(with_metrics())[0]
    before = served.state.get("pods", name, namespace)
    served.state.put("pods", {**before, "status": {**before["status"], "phase": "Succeeded"}})
    found = pods_with_annotation(api_of(served.url), "prometheus.io/scrape")
    served.state.put("pods", before)
    assert (namespace, name) not in {(pod.namespace, pod.name) for pod in found}


def test_a_missing_right_is_named(served: ServedApi) -> None:
    pods_only = Rights([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}])
    with serving_api(KubernetesSimulator(cluster=CLUSTER, rights=pods_only)) as strict:
        assert pods_with_annotation(api_of(strict.url), "prometheus.io/scrape")
        with pytest.raises(MissingRight) as raised:
            services_with_label(api_of(strict.url), {"a": "b"})
    assert raised.value.right.rule == '{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}'


def test_odd_objects_are_left_out_and_odd_selectors_choose_nothing(web: Web) -> None:
    services = [
        {"metadata": {"name": "a", "namespace": "n"}, "spec": {"selector": {"app": "x,tier!=y"}, "ports": None}},
        {"metadata": {"name": "b", "namespace": "n"}, "spec": {"selector": None}},
        {"metadata": {"name": "c", "namespace": "n"}, "spec": {"ports": [{"port": "http"}]}},
        {"metadata": {"name": "d", "namespace": "n"}, "spec": {"ports": [{"port": 80}, {"name": "m", "port": 8080,
         "targetPort": 8000}]}},
    ]  # fmt: skip
    web.answer = reply(body=json.dumps({"metadata": {}, "items": services}).encode())
    found = services_with_label(api_of(web.url), {"team": "x"})
    assert [(service.name, service.pods) for service in found] == [("a", ()), ("b", ()), ("d", ())]
    assert found[2].ports == {"80": 80, "m": 8000}
    assert len(web.paths) == 1  # no selector went out


def test_pods_without_address_ports_or_labels_are_still_pods(web: Web) -> None:
    pods = [
        {"metadata": {"name": "a", "namespace": "n", "labels": None, "annotations": {"x": ""}},
         "spec": {"containers": [{"name": "m", "ports": None}]}, "status": {"podIP": ""}},
        {"metadata": {"name": "b", "namespace": "n", "annotations": {"x": "1"}}, "spec": {"containers": 7}},
    ]  # fmt: skip
    web.answer = reply(body=json.dumps({"metadata": {}, "items": pods}).encode())
    (found,) = pods_with_annotation(api_of(web.url), "x")
    assert (found.name, found.pod_ip, found.node, found.ports, found.labels) == ("a", None, None, {}, {})


@pytest.mark.parametrize(
    "labels",
    [{"a": "b,c=d"}, {"a": "b)"}, {"a=b": "c"}, {"": "x"}, {"a": "x" * 64}, {"-a": "b"}, {"a/b/c": "d"}, {"a": "b\n"}],
)
def test_what_can_be_no_label_goes_into_no_selector(labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no label of Kubernetes"):
        label_selector(labels)


def test_a_selector_is_written_in_order() -> None:
    assert (
        label_selector({"b": "2", "app.kubernetes.io/name": "x_y.z-1", "a": ""})
        == "a=,app.kubernetes.io/name=x_y.z-1,b=2"
    )


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
def test_no_label_adds_a_term(labels: dict[str, str]) -> None:
    try:
        selector = label_selector(labels)
    except ValueError:
        return
    assert selector.count(",") == max(len(labels) - 1, 0)
    assert selector.count("=") == len(labels)

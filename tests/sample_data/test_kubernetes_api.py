"""The simulated API server as the real client library sees it, over a real socket."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from starlette.applications import Starlette

from sample_data.cluster import simulated_cluster
from sample_data.kubernetes_api import KubernetesSimulator
from sample_data.kubernetes_faults import KubernetesFault, KubernetesFaults
from sample_data.kubernetes_rights import Asked, Rights
from sample_data.kubernetes_selectors import BadSelector, matcher
from sample_data.server import make_app
from sample_data.serving_state import pod_started_at
from tests.collectors.api_servers import CLUSTER, ServedApi, serving_api, serving_app

NOW = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[ServedApi]:
    with serving_api() as one:
        yield one


@pytest.fixture
def served(server: ServedApi) -> ServedApi:
    server.simulator.reset()
    return server


@contextlib.contextmanager
def connected(url: str, token: str | None = None) -> Iterator[client.ApiClient]:
    configuration = client.Configuration(host=url)
    configuration.proxy = None
    configuration.retries = False
    if token is not None:
        configuration.api_key["BearerToken"] = f"Bearer {token}"
    with client.ApiClient(configuration) as one:
        yield one


@pytest.fixture
def api(served: ServedApi) -> Iterator[client.ApiClient]:
    with connected(served.url) as one:
        yield one


def test_the_client_library_reads_every_kind_into_its_own_models(api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    nodes = core.list_node().items
    assert [node.metadata.name for node in nodes] == sorted([*CLUSTER.by_name, "control-plane-1"])
    assert nodes[1].status.capacity["nvidia.com/mig-1g.5gb"] == "10"
    pods = core.list_pod_for_all_namespaces().items
    assert {pod.status.phase for pod in pods} == {"Running", "Pending"}
    assert len(core.list_service_for_all_namespaces().items) == 9
    assert [quota.metadata.name for quota in core.list_resource_quota_for_all_namespaces().items] == ["gpus", "objects"]
    sets = client.AppsV1Api(api).list_replica_set_for_all_namespaces().items
    assert {one.metadata.owner_references[0].kind for one in sets} == {"Deployment"}
    resources = client.ResourceV1Api(api)
    slices = resources.list_resource_slice().items
    assert {one.spec.driver for one in slices} == {"gpu.nvidia.com", "compute-domain.nvidia.com"}
    gpus = next(one for one in slices if one.spec.driver == "gpu.nvidia.com").spec.devices
    assert [device.name for device in gpus] == [f"gpu-{index}" for index in range(8)]
    assert gpus[0].attributes["uuid"].string == CLUSTER.node("gpu-h200-01").gpus[0].uuid
    assert gpus[0].attributes["driverVersion"].version == "580.105.8"  # 580.105.08 without its zero
    claims = resources.list_resource_claim_for_all_namespaces().items
    assert sorted(len(one.status.allocation.devices.results) for one in claims) == [1, 1, 1, 4]
    assert client.VersionApi(api).get_code().git_version == "v1.34.2"


@pytest.mark.parametrize(("version", "reader"), [("v1beta1", "ResourceV1beta1Api"), ("v1beta2", "ResourceV1beta2Api")])
def test_older_versions_of_claims_have_their_own_form(version: str, reader: str) -> None:
    with serving_api(KubernetesSimulator(cluster=CLUSTER, dra_version=version)) as served, connected(served.url) as api:
        resources = getattr(client, reader)(api)
        device = resources.list_resource_slice().items[1].spec.devices[0]
        if version == "v1beta1":
            assert device.basic.attributes["type"].string == "gpu"
        else:
            assert device.attributes["type"].string == "gpu"
        assert len(resources.list_resource_claim_for_all_namespaces().items) == 4
        with pytest.raises(ApiException) as raised:
            client.ResourceV1Api(api).list_resource_slice()
        assert raised.value.status == 404


def test_pages_join_to_the_whole_list_of_one_moment(served: ServedApi, api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    first = core.list_pod_for_all_namespaces(limit=10)
    total = first.metadata.remaining_item_count + 10
    served.state.delete("pods", first.items[0].metadata.name, first.items[0].metadata.namespace)
    served.state.put("pods", {"metadata": {"name": "zz", "namespace": "zz"}, "spec": {"containers": []}, "status": {}})
    names = [pod.metadata.name for pod in first.items]
    token = first.metadata._continue
    while token:
        page = core.list_pod_for_all_namespaces(limit=10, _continue=token)
        names += [pod.metadata.name for pod in page.items]
        token = page.metadata._continue
        assert page.metadata.resource_version == first.metadata.resource_version
    assert len(names) == len(set(names)) == total
    assert "zz" not in names  # it came after the first page


def test_a_continuation_of_a_version_that_is_gone_expires(served: ServedApi, api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    token = core.list_pod_for_all_namespaces(limit=10).metadata._continue
    served.state.forget()
    with pytest.raises(ApiException) as raised:
        core.list_pod_for_all_namespaces(limit=10, _continue=token)
    assert (raised.value.status, "continue parameter is too old" in raised.value.body) == (410, True)
    with pytest.raises(ApiException) as raised:
        core.list_pod_for_all_namespaces(limit=10, _continue="nonsense!")
    assert raised.value.status == 400


def test_selectors_choose(api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    of_node = core.list_pod_for_all_namespaces(field_selector="spec.nodeName=gpu-l40s-01,status.phase=Running").items
    assert {pod.spec.node_name for pod in of_node} == {"gpu-l40s-01"}
    labelled = core.list_namespaced_pod("support", label_selector="app.kubernetes.io/name=llama-8b,!nothing").items
    assert {pod.metadata.labels["app.kubernetes.io/name"] for pod in labelled} == {"llama-8b"}
    assert core.list_node(label_selector="nvidia.com/mig.strategy!=mixed,nvidia.com/gpu.present").items[0].metadata.name
    with pytest.raises(ApiException) as raised:
        core.list_pod_for_all_namespaces(field_selector="spec.x=1")
    assert (raised.value.status, "field label not supported: spec.x" in raised.value.body) == (400, True)


@pytest.mark.parametrize(
    ("labels", "fields", "chosen"),
    [
        ("a=1", "", True),
        ("a==1", "", True),
        ("a!=1", "", False),
        ("b!=1", "", True),
        ("a", "", True),
        ("!a", "", False),
        ("a=1,b=2", "", False),
        ("", "status.phase!=Failed,status.phase!=Succeeded", True),
        ("", "status.phase=Running,metadata.namespace=other", False),
        ("", "spec.nodeName=", True),
    ],
)
def test_every_sign_of_a_selector_is_known(labels: str, fields: str, *, chosen: bool) -> None:
    pod = {"metadata": {"name": "p", "namespace": "n", "labels": {"a": "1"}}, "status": {"phase": "Running"}}
    assert matcher(labels, fields)(pod) is chosen


@pytest.mark.parametrize(("labels", "fields"), [("a in (b)", ""), ("a=b=c", ""), ("", "a"), ("", "metadata.labels=x")])
def test_what_is_no_selector_is_refused(labels: str, fields: str) -> None:
    with pytest.raises(BadSelector):
        matcher(labels, fields)


def test_the_client_library_watches_with_bookmarks(served: ServedApi, api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    version = core.list_node().metadata.resource_version
    served.state.edit("nodes", "gpu-h100-01", lambda node: {**node, "spec": {"unschedulable": True}})
    served.state.delete("nodes", "gpu-h100-02")
    stream = watch.Watch()
    events = []
    for event in stream.stream(
        core.list_node, resource_version=version, allow_watch_bookmarks=True, timeout_seconds=30
    ):
        events.append((event["type"], event["raw_object"]["metadata"].get("name")))
        if event["type"] == "BOOKMARK":
            stream.stop()
    assert events == [("MODIFIED", "gpu-h100-01"), ("DELETED", "gpu-h100-02"), ("BOOKMARK", None)]
    assert stream.resource_version == str(int(version) + 2)


def test_a_watch_ends_when_it_was_asked_to(served: ServedApi, api: client.ApiClient) -> None:
    served.simulator.max_watch_s = 0.1
    stream = watch.Watch()
    assert list(stream.stream(client.CoreV1Api(api).list_node, resource_version="1000", timeout_seconds=30)) == []
    served.simulator.max_watch_s = 3600.0


def test_a_watch_from_a_version_that_is_gone_expires(served: ServedApi, api: client.ApiClient) -> None:
    served.state.forget()
    with pytest.raises(ApiException) as raised:
        list(watch.Watch().stream(client.CoreV1Api(api).list_node, resource_version="1000", timeout_seconds=5))
    assert raised.value.status == 410
    assert "too old resource version: 1000 (1001)" in raised.value.reason


def test_the_dynamic_client_discovers_what_there_is(api: client.ApiClient, tmp_path: Any) -> None:
    found = DynamicClient(api, cache_file=str(tmp_path / "discovery"))
    slices = found.resources.get(api_version="resource.k8s.io/v1", kind="ResourceSlice")
    assert len(slices.get().items) == 2
    groups = client.ApisApi(api).get_api_versions().groups
    assert [group.name for group in groups] == ["apps", "resource.k8s.io"]


def test_one_object_is_read_by_name(api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    assert core.read_node("gpu-h100-01").metadata.resource_version == "1000"
    with pytest.raises(ApiException) as raised:
        core.read_namespaced_pod("nothing", "support")
    assert (raised.value.status, '"nothing\\" not found' in raised.value.body) == (404, True)


def test_unknown_paths_are_404_and_nothing_can_be_written(served: ServedApi, api: client.ApiClient) -> None:
    with pytest.raises(ApiException) as raised:
        client.CoreV1Api(api).list_secret_for_all_namespaces()
    assert raised.value.status == 404
    for path in ("/nope", "/api/v2/nodes", "/api/v1/namespaces/x/nodes", "/apis/apps/v1/replicasets/a/b/c"):
        assert httpx.get(served.url + path).status_code == 404
    assert httpx.post(served.url + "/api/v1/nodes", json={}).status_code == 405
    assert httpx.delete(served.url + "/api/v1/nodes/gpu-h100-01").status_code == 405


def test_a_token_is_wanted_where_one_is_set() -> None:
    with serving_api(KubernetesSimulator(cluster=CLUSTER, token="right")) as served:
        for token, status in ((None, 401), ("wrong", 401)):
            with connected(served.url, token) as api, pytest.raises(ApiException) as raised:
                client.CoreV1Api(api).list_node()
            assert raised.value.status == status
        with connected(served.url, "right") as api:
            assert client.CoreV1Api(api).list_node().items


def test_rights_are_evaluated_for_every_request() -> None:
    rights = Rights(
        [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}],
        {"support": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]},
    )
    simulator = KubernetesSimulator(cluster=CLUSTER, rights=rights, user="viewer")
    with serving_api(simulator) as served, connected(served.url) as api:
        core = client.CoreV1Api(api)
        assert core.list_node().items
        assert core.list_namespaced_pod("support").items
        with pytest.raises(ApiException) as raised:
            core.list_pod_for_all_namespaces()
        body = raised.value.body
        assert raised.value.status == 403
        wanted = 'pods is forbidden: User "viewer" cannot list resource "pods" in API group "" at the cluster scope'
        assert wanted.replace('"', '\\"') in body
        with pytest.raises(ApiException):
            list(watch.Watch().stream(core.list_node, resource_version="1000", timeout_seconds=1))
        with pytest.raises(ApiException):
            client.VersionApi(api).get_code()
    assert simulator.asked[0] == Asked(verb="list", resource="nodes")
    assert simulator.asked[1] == Asked(verb="list", resource="pods", namespace="support")
    assert simulator.asked[-1] == Asked(verb="get", path="/version/")


def test_rules_are_bound_to_accounts_by_manifests() -> None:
    rule = {"apiGroups": ["*"], "resources": ["pods"], "verbs": ["*"]}
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": "tools"}
    manifests: list[dict[str, Any]] = [
        {"kind": "ClusterRole", "metadata": {"name": "r"}, "rules": [rule]},
        {"kind": "Role", "metadata": {"name": "r", "namespace": "a"}, "rules": [{**rule, "resources": ["nodes"]}]},
        {"kind": "RoleBinding", "metadata": {"name": "b", "namespace": "a"},
         "roleRef": {"kind": "Role", "name": "r"}, "subjects": [subject]},
        {"kind": "RoleBinding", "metadata": {"name": "c", "namespace": "b"},
         "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [subject]},
        {"kind": "ClusterRoleBinding", "metadata": {"name": "d"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
         "subjects": [{**subject, "name": "somebody-else"}]},
    ]  # fmt: skip
    rights = Rights.of_manifests(manifests, account="reader", namespace="tools")
    assert rights.everywhere == ()
    assert rights.allow(Asked(verb="list", resource="pods", namespace="b"))
    assert not rights.allow(Asked(verb="list", resource="pods", namespace="a"))
    assert not rights.allow(Asked(verb="list", resource="pods"))
    assert not rights.allow(Asked(verb="get", path="/version"))
    everywhere = Rights([{"nonResourceURLs": ["/apis/*"], "verbs": ["get"]}])
    assert everywhere.allow(Asked(verb="get", path="/apis/apps"))
    assert not everywhere.allow(Asked(verb="get", path="/version"))


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (KubernetesFault.UNAUTHORIZED, 401),
        (KubernetesFault.FORBIDDEN, 403),
        (KubernetesFault.NOT_FOUND, 404),
        (KubernetesFault.THROTTLED, 429),
        (KubernetesFault.SERVER_ERROR, 500),
        (KubernetesFault.TIMEOUT, 504),
    ],
)
def test_a_fault_hits_what_it_is_set_for_as_often_as_it_is_set(
    served: ServedApi, api: client.ApiClient, fault: KubernetesFault, status: int
) -> None:
    served.simulator.faults.set(fault, "nodes", times=2)
    core = client.CoreV1Api(api)
    for _ in range(2):
        with pytest.raises(ApiException) as raised:
            core.list_node()
        assert raised.value.status == status
        assert '"kind":"Status"' in raised.value.body
    assert core.list_node().items
    assert core.list_resource_quota_for_all_namespaces().items
    if status == 429:
        assert raised.value.headers["Retry-After"] == "1"


def test_faults_of_everything_and_of_one_resource_are_separate() -> None:
    faults = KubernetesFaults()
    faults.set(KubernetesFault.TIMEOUT)
    faults.set(KubernetesFault.HANG, "nodes")
    every = frozenset(KubernetesFault)
    assert faults.strike("pods", every) is KubernetesFault.TIMEOUT
    assert faults.strike("nodes", every) is KubernetesFault.HANG
    assert faults.strike("nodes", frozenset({KubernetesFault.TIMEOUT})) is KubernetesFault.TIMEOUT
    faults.clear("nodes")
    assert faults.strike("nodes", every) is KubernetesFault.TIMEOUT
    faults.clear()
    assert faults.strike("nodes", every) is None
    assert faults.hits[KubernetesFault.TIMEOUT] == 3


@contextlib.contextmanager
def asking(app: Starlette) -> Iterator[httpx.Client]:
    """A client of the whole simulator."""
    with serving_app(app) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as one:
        yield one


# what it says of the cluster


def test_the_pods_that_serve_are_reached_at_the_simulator(served: ServedApi, api: client.ApiClient) -> None:
    pods = client.CoreV1Api(api).list_pod_for_all_namespaces().items
    annotated = [pod for pod in pods if (pod.metadata.annotations or {}).get("prometheus.io/scrape") == "true"]
    assert len(annotated) == 12
    for pod in annotated:
        assert pod.status.pod_ip == "127.0.0.1"
        assert pod.metadata.annotations["prometheus.io/port"] == str(served.port)


def test_annotations_lead_to_metrics_of_the_whole_simulator() -> None:
    with asking(make_app(CLUSTER, lambda: NOW)) as simulator:
        pods = simulator.get("/kubernetes/api/v1/pods").json()["items"]
        paths = [pod["metadata"].get("annotations", {}).get("prometheus.io/path") for pod in pods]
        answers = [simulator.get(path) for path in paths if path is not None]
        assert len(answers) == 12
        assert {answer.status_code for answer in answers} <= {200, 501}  # llama.cpp without --metrics says 501
        assert simulator.get("/kubernetes/version").json()["gitVersion"] == "v1.34.2"


def test_faults_are_set_over_http_only_where_that_is_allowed() -> None:
    with asking(make_app(CLUSTER, lambda: NOW)) as closed:
        assert closed.post("/faults/kubernetes/timeout").status_code == 404
    with asking(make_app(CLUSTER, lambda: NOW, allow_faults=True)) as open_one:
        assert open_one.post("/faults/kubernetes/timeout?resource=nodes&times=1").text == "kubernetes: timeout\n"
        assert open_one.get("/kubernetes/api/v1/pods").status_code == 200
        assert open_one.get("/kubernetes/api/v1/nodes").status_code == 504
        assert open_one.get("/kubernetes/api/v1/nodes").status_code == 200
        open_one.post("/faults/kubernetes/unauthorized")
        assert open_one.get("/kubernetes/version").status_code == 401
        assert open_one.delete("/faults/kubernetes").status_code == 200
        assert open_one.get("/kubernetes/version").status_code == 200
        assert open_one.post("/faults/kubernetes/nonsense").status_code == 404
        assert open_one.post("/faults/kubernetes/timeout?times=soon").status_code == 404
        assert open_one.post("/faults/gpu-h100-01/html").status_code == 200  # those of nodes are still there


@pytest.mark.parametrize("nodes", [1, 6, 13])
def test_every_pod_of_the_cluster_is_there_whatever_its_size(nodes: int) -> None:
    cluster = simulated_cluster(nodes)
    state = KubernetesSimulator(cluster=cluster).state("127.0.0.1", 9400)
    pods = state.by_place["", "pods"].snapshot(0)
    held = {
        pod.uid: (node, pod)
        for node in cluster.nodes
        for gpu in node.gpus
        for pod in (gpu.pod, *(instance.pod for instance in gpu.instances or ()))
        if pod is not None
    }
    assert len(pods) == len(held) + nodes + 1  # an exporter per node, and the pod that waits
    for node, pod in held.values():
        told = pods[pod.namespace, pod.name]
        assert told["spec"]["nodeName"] == node.name
        assert told["status"]["startTime"] == pod_started_at(node, pod).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert len(state.by_place["", "nodes"].snapshot(0)) == nodes + 1
    names = [name for _, name in pods]
    assert all(len(name) <= 253 and name == name.lower() for name in names)


def test_the_same_seed_gives_the_same_objects() -> None:
    first, second = (KubernetesSimulator(cluster=simulated_cluster(6, 7)).state("127.0.0.1", 1) for _ in range(2))
    other = KubernetesSimulator(cluster=simulated_cluster(6, 8)).state("127.0.0.1", 1)
    for place, resource in first.by_place.items():
        assert resource.snapshot(0) == second.by_place[place].snapshot(0)
    assert first.by_place["", "pods"].snapshot(0) != other.by_place["", "pods"].snapshot(0)

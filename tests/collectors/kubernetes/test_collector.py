"""The collector at the simulated cluster: its state, kept up, with every fault a gap or an error and never less."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from collectors import build, config_model
from collectors.errors import BadPayload, Unauthorized, Unreachable, Unsupported
from collectors.kubernetes.collector import KubernetesCollector
from collectors.kubernetes.config import KubernetesConfig
from collectors.source import Attempt, Collector
from planner.cluster_facts import ClusterState
from planner.readings import Batch
from sample_data.kubernetes_api import KubernetesSimulator
from sample_data.kubernetes_faults import KubernetesFault
from sample_data.kubernetes_nodes import gpu_resources, uses_claims
from sample_data.kubernetes_pods import PENDING_DEPLOYMENT, PENDING_GPUS
from sample_data.kubernetes_rights import Rights
from tests.collectors.api_servers import CLUSTER, ServedApi, serving_api
from tests.collectors.kubernetes.objects import asks, container, device, node_json, pod_json, slice_json
from tests.collectors.kubernetes.waiting import Pauses, eventually
from tests.collectors.webs import Web, reply

NOW = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)
GPU = "nvidia.com/gpu"
YEAR_1 = "0001-01-01T00:00:00+01:00"

Collecting = Callable[..., KubernetesCollector]


@pytest.fixture
def collecting() -> Iterator[Collecting]:
    """Builds collectors and closes them after the test."""
    made: list[KubernetesCollector] = []

    def make(url: str, **keys: Any) -> KubernetesCollector:
        given = {"name": "main", "url": url, "timeout_s": 5, "page_size": 20, **keys}
        made.append(KubernetesCollector(KubernetesConfig(**given), pause=Pauses()))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def server() -> Iterator[ServedApi]:
    with serving_api() as one:
        yield one


@pytest.fixture
def served(server: ServedApi) -> ServedApi:
    """The server as it was at the start."""
    server.simulator.reset()
    server.simulator.max_watch_s = 3600.0
    return server


def once(collector: Collector, now: datetime = NOW) -> Attempt:
    (attempt,) = collector.collect(now, {})
    return attempt


def batch_of(collector: Collector, now: datetime = NOW) -> Batch:
    attempt = once(collector, now)
    assert attempt.error is None, attempt.error
    assert attempt.batch is not None
    return attempt.batch


def state_of(collector: Collector, now: datetime = NOW) -> ClusterState:
    state = batch_of(collector, now).cluster_state
    assert state is not None
    return state


def gaps_of(collector: Collector) -> list[str]:
    return [gap.reason for gap in batch_of(collector).gaps]


# what the simulated cluster is


def test_the_state_is_that_of_the_simulated_cluster(served: ServedApi, collecting: Collecting) -> None:
    collector = collecting(served.url)
    attempt = once(collector)
    assert attempt.target == f"127.0.0.1:{served.port}"
    assert attempt.clock_skew_s is not None
    batch = attempt.batch
    assert batch is not None
    assert batch.gaps == ()
    assert batch.found == (("resource.k8s.io", "v1"), ("version", "v1.34.2"))
    state = batch.cluster_state
    assert state is not None
    assert (state.observed_at, state.version) == (NOW, "v1.34.2")
    assert state.details == {"api_server": f"127.0.0.1:{served.port}", "resource.k8s.io": "v1"}


def test_nodes_agree_with_the_cluster(served: ServedApi, collecting: Collecting) -> None:
    nodes = {node.name: node for node in state_of(collecting(served.url)).nodes or ()}
    assert set(nodes) == set(CLUSTER.by_name)  # the control plane has no GPUs
    for simulated in CLUSTER.nodes:
        node = nodes[simulated.name]  # type: ignore[index]
        assert node.capacity == ({} if uses_claims(simulated) else gpu_resources(simulated))
        assert node.allocatable == node.capacity
        assert node.product == simulated.kind.board.product.replace(" ", "-")
        assert node.gpu_count == (None if simulated.kind.mig_strategy == "single" else 8)
        assert node.mig_strategy == (None if simulated.kind.mig_strategy == "none" else simulated.kind.mig_strategy)
        assert node.driver_version == simulated.kind.driver_version
        assert (node.ready, node.unschedulable, node.replicas) == (True, False, 1)
        assert node.taints == ("nvidia.com/gpu=present:NoSchedule",)


def test_pods_agree_with_the_cluster(served: ServedApi, collecting: Collecting) -> None:
    pods = {pod.uid: pod for pod in state_of(collecting(served.url, pod_labels=("team",))).pods or ()}
    for simulated in CLUSTER.nodes:
        held = [gpu.pod for gpu in simulated.gpus]
        held += [instance.pod for gpu in simulated.gpus for instance in gpu.instances or ()]
        for of_cluster in {pod.uid: pod for pod in held if pod is not None}.values():
            pod = pods.pop(of_cluster.uid)
            assert (pod.namespace, pod.name, pod.node) == (of_cluster.namespace, of_cluster.name, simulated.name)
            assert pod.containers == (of_cluster.container,)
            owner = "StatefulSet" if of_cluster.deployment.is_stateful_set else "Deployment"
            assert (pod.owner_kind, pod.owner_name) == (owner, of_cluster.deployment.name)
            assert pod.labels["team"] == of_cluster.namespace
            if uses_claims(simulated):
                assert (pod.requests, len(pod.claims)) == ({}, 1)
            else:
                assert sum(pod.requests.values()) == of_cluster.deployment.gpus
                assert pod.claims == ()
    (pending,) = pods.values()
    assert (pending.owner_name, pending.requests) == (PENDING_DEPLOYMENT, {GPU: PENDING_GPUS})
    assert (pending.phase, pending.node) == ("Pending", None)
    assert pending.pending_reason is not None
    assert pending.pending_reason.startswith("Unschedulable: 0/7 nodes are available: 1 node(s) had untolerated taint")


def test_requests_of_a_node_are_no_more_than_it_has(served: ServedApi, collecting: Collecting) -> None:
    state = state_of(collecting(served.url))
    for node in state.nodes or ():
        for name, capacity in node.allocatable.items():
            asked = sum(pod.requests.get(name, 0) for pod in state.pods or () if pod.node == node.name)
            assert asked <= capacity, (node.name, name)


def test_claims_tell_the_gpus_of_their_pods(served: ServedApi, collecting: Collecting) -> None:
    devices = state_of(collecting(served.url)).claimed_devices or ()
    told = {(device.gpu_uuid, device.pci_bus_id): device.pods for device in devices}
    expected = {
        (gpu.uuid, gpu.pci_bus_id): (gpu.pod.name,)
        for node in CLUSTER.nodes
        if uses_claims(node)
        for gpu in node.gpus
        if gpu.pod is not None
    }
    assert told == expected
    assert len(told) == 7
    assert {device.node for device in devices} == {"gpu-h200-01"}


def test_quotas_are_those_of_the_cluster(served: ServedApi, collecting: Collecting) -> None:
    state = state_of(collecting(served.url))
    (quota,) = state.quotas or ()
    used: dict[str, int] = {}
    for pod in state.pods or ():
        if pod.namespace == quota.namespace:
            for name, count in pod.requests.items():
                used[name] = used.get(name, 0) + count
    assert quota.used == used
    assert quota.hard == {name: count + 2 for name, count in used.items()}


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
def test_every_version_of_claims_is_read(collecting: Collecting, version: str) -> None:
    with serving_api(KubernetesSimulator(cluster=CLUSTER, dra_version=version)) as served:
        batch = batch_of(collecting(served.url))
        state = batch.cluster_state
        assert state is not None
        assert len(state.claimed_devices or ()) == 7
        assert ("resource.k8s.io", version) in batch.found
        assert batch.gaps == ()


def test_a_server_without_claims_has_none_and_lacks_nothing(collecting: Collecting) -> None:
    with serving_api(KubernetesSimulator(cluster=CLUSTER, dra_version=None)) as served:
        batch = batch_of(collecting(served.url))
        state = batch.cluster_state
        assert state is not None
        assert state.claimed_devices == ()
        assert state.details["resource.k8s.io"] == "not served"
        assert batch.gaps == ()


def test_claims_of_an_older_version_are_unknown_where_versions_may_not_be_read(collecting: Collecting) -> None:
    rights = Rights([*READ_ALL[:2], {"nonResourceURLs": ["/version"], "verbs": ["get"]}])
    with serving_api(KubernetesSimulator(cluster=CLUSTER, dra_version="v1beta1", rights=rights)) as served:
        batch = batch_of(collecting(served.url))
    state = batch.cluster_state
    assert state is not None
    assert state.claimed_devices is None
    assert [gap.reason.split(" ")[0] for gap in batch.gaps] == ["resourceclaims", "resourceslices"]
    assert all("not served there" in gap.reason for gap in batch.gaps)


def test_what_is_not_wanted_is_not_asked_for(served: ServedApi, collecting: Collecting) -> None:
    state = state_of(collecting(served.url, quotas=False, claims=False))
    assert (state.quotas, state.claimed_devices) == (None, None)
    assert {one.resource for one in served.simulator.asked} == {"", "nodes", "pods"}
    assert {one.path for one in served.simulator.asked} == {None, "/version"}


def test_replica_sets_name_deployments_that_names_do_not_tell(served: ServedApi, collecting: Collecting) -> None:
    def renamed(replica_set: dict[str, Any]) -> dict[str, Any]:
        owner = {**replica_set["metadata"]["ownerReferences"][0], "name": "really-llama"}
        return {**replica_set, "metadata": {**replica_set["metadata"], "ownerReferences": [owner]}}

    name = next(
        name for _, name in served.state.by_place["apps", "replicasets"].snapshot(0) if name.startswith("llama-8b-")
    )
    served.state.edit("replicasets", name, renamed, "support")
    owners = {pod.owner_name for pod in state_of(collecting(served.url, replica_sets=True)).pods or ()}
    assert "really-llama" in owners
    assert "llama-8b" not in owners
    assert "llama-8b" in {pod.owner_name for pod in state_of(collecting(served.url)).pods or ()}


# how it is kept up


def test_later_collections_ask_nothing_and_see_what_changed(served: ServedApi, collecting: Collecting) -> None:
    collector = collecting(served.url)
    before = state_of(collector)
    eventually(lambda: sum(one.verb == "watch" for one in served.simulator.asked) == 5)
    asked = len(served.simulator.asked)
    pod = (before.pods or ())[5]
    served.state.delete("pods", pod.name, pod.namespace)
    served.state.edit("nodes", "gpu-h100-01", lambda node: {**node, "spec": {"unschedulable": True}})
    served.state.put("pods", pod_json(container("m", asks(gpu=3)), name="new", namespace="team-z"))

    def seen() -> bool:
        state = state_of(collector, NOW + timedelta(seconds=30))
        uids = {one.uid for one in state.pods or ()}
        cordoned = {node.name for node in state.nodes or () if node.unschedulable}
        return pod.uid not in uids and "uid-new" in uids and cordoned == {"gpu-h100-01"}

    eventually(seen)
    assert state_of(collector, NOW + timedelta(seconds=60)).observed_at == NOW + timedelta(seconds=60)
    assert len(served.simulator.asked) == asked


def test_a_finished_pod_leaves_as_if_it_were_deleted(served: ServedApi, collecting: Collecting) -> None:
    collector = collecting(served.url)
    pod = (state_of(collector).pods or ())[7]
    served.state.edit("pods", pod.name, lambda one: {**one, "status": {"phase": "Succeeded"}}, pod.namespace)
    eventually(lambda: pod.uid not in {one.uid for one in state_of(collector).pods or ()})


def test_a_dead_server_never_delays_a_later_collection(collecting: Collecting) -> None:
    with serving_api() as served:
        collector = collecting(served.url, stale_after_s=3600.0)
        first = state_of(collector)
    later = state_of(collector, NOW + timedelta(seconds=30))
    assert (later.nodes, later.pods) == (first.nodes, first.pods)
    eventually(lambda: state_of(collector, NOW).observed_at < NOW)  # dated when it was last known to be true


def test_what_is_stale_is_an_error_and_not_a_state(collecting: Collecting) -> None:
    simulator = KubernetesSimulator(cluster=CLUSTER, bookmark_s=0.05)
    with serving_api(simulator) as served:
        collector = collecting(served.url, stale_after_s=1.0)
        state_of(collector)
        port = served.port
    eventually(lambda: isinstance(once(collector).error, Unreachable))
    failed = once(collector)
    assert failed.batch is None
    assert failed.target == f"127.0.0.1:{port}"
    with serving_api(simulator, port=port):
        eventually(lambda: once(collector).error is None)
        eventually(lambda: not batch_of(collector).gaps)
        assert len(state_of(collector).nodes or ()) == 6


# what goes wrong


def test_nobody_there_is_an_error_at_once_and_no_thread_begins(closed_port: int, collecting: Collecting) -> None:
    collector = collecting(f"http://127.0.0.1:{closed_port}")
    for _ in range(2):
        attempt = once(collector)
        assert isinstance(attempt.error, Unreachable)
        assert attempt.target == f"127.0.0.1:{closed_port}"
    with serving_api(port=closed_port):
        assert len(state_of(collector).nodes or ()) == 6


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (KubernetesFault.UNAUTHORIZED, Unauthorized),
        (KubernetesFault.SERVER_ERROR, Unreachable),
        (KubernetesFault.TIMEOUT, Unreachable),
        (KubernetesFault.THROTTLED, Unreachable),
        (KubernetesFault.NOT_FOUND, Unsupported),
        (KubernetesFault.HTML, BadPayload),
    ],
)
def test_a_server_that_answers_nothing_is_an_error_until_it_does(
    served: ServedApi, collecting: Collecting, fault: KubernetesFault, error: type[Exception]
) -> None:
    served.simulator.faults.set(fault)
    collector = collecting(served.url)
    assert type(once(collector).error) is error  # one of those that all sources share
    served.simulator.faults.clear()
    assert len(state_of(collector).nodes or ()) == 6


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (KubernetesFault.TIMEOUT, "did not complete within the allotted timeout"),
        (KubernetesFault.THROTTLED, "asks for patience"),
        (KubernetesFault.HTML, "Sign in"),
        (KubernetesFault.GARBAGE, "no JSON object"),
        (KubernetesFault.HALF_BODY, "broke off"),
    ],
)
def test_one_list_that_fails_leaves_the_others(
    served: ServedApi, collecting: Collecting, fault: KubernetesFault, words: str
) -> None:
    served.simulator.faults.set(fault, "nodes")
    collector = collecting(served.url)
    batch = batch_of(collector)
    state = batch.cluster_state
    assert state is not None
    assert state.nodes is None
    assert len(state.pods or ()) == 56
    (gap,) = batch.gaps
    assert gap.subject == f"127.0.0.1:{served.port}"
    assert gap.reason.startswith("nodes cannot be read: ")
    assert words in gap.reason
    assert gap.reason.endswith("and with them how much is unallocated.")
    served.simulator.faults.clear()
    eventually(lambda: state_of(collector).nodes is not None)
    assert gaps_of(collector) == []


def test_a_bad_object_is_left_out_and_named(served: ServedApi, collecting: Collecting) -> None:
    served.state.put("pods", pod_json(container("m", {"requests": {GPU: "half"}}), name="bad"))
    served.state.put(
        "pods", pod_json(container("m", asks(gpu=1)), name="undated", metadata={"creationTimestamp": None})
    )
    served.state.put("nodes", {**node_json("worse", capacity={GPU: "8"}), "spec": {"taints": 7}})
    batch = batch_of(collecting(served.url))
    state = batch.cluster_state
    assert state is not None
    assert len(state.pods or ()) == 56
    assert len(state.nodes or ()) == 6
    told = {gap.subject: gap.reason for gap in batch.gaps}
    assert set(told) == {"pods team-a/bad", "pod team-a/undated", "nodes worse"}
    assert "no quantity: 'half'" in told["pods team-a/bad"]
    assert told["pod team-a/undated"] == "left out: the API does not say when it was created"


def test_many_bad_objects_are_counted(served: ServedApi, collecting: Collecting) -> None:
    for index in range(5):
        served.state.put("pods", pod_json(container("m", {"requests": {GPU: "half"}}), name=f"bad-{index}"))
    (gap,) = batch_of(collecting(served.url)).gaps
    assert gap.subject == "pods"
    assert gap.reason.endswith("(5 pods)")


def test_gpus_without_labels_are_said_with_what_brings_them(served: ServedApi, collecting: Collecting) -> None:
    served.state.put("nodes", node_json("bare", capacity={GPU: "4"}, allocatable={GPU: "4"}))
    served.state.put("nodes", node_json("empty", {"nvidia.com/gpu.present": "true"}))
    batch = batch_of(collecting(served.url))
    (gap,) = batch.gaps
    assert gap.subject == "node bare"
    assert "gfd.enabled=true" in gap.reason


def test_a_node_that_only_claims_describe_is_a_node_with_gpus(served: ServedApi, collecting: Collecting) -> None:
    served.state.put("nodes", node_json("dra-only", capacity={"cpu": "64"}))
    gpus = [device(f"gpu-{index}", type="gpu", uuid=f"GPU-{index}", productName="NVIDIA B200") for index in range(4)]
    served.state.put("resourceslices", slice_json(*gpus, node_name="dra-only", pool="dra-only", name="dra-only"))
    collector = collecting(served.url)
    (node,) = [one for one in state_of(collector).nodes or () if one.name == "dra-only"]
    assert (node.gpu_count, node.product, node.capacity) == (4, "NVIDIA B200", {})


def test_parts_of_gpus_by_annotation_are_said(served: ServedApi, collecting: Collecting) -> None:
    fraction = pod_json(container("m"), name="half", metadata={"annotations": {"gpu-fraction": "0.5"}})
    served.state.put("pods", fraction)
    batch = batch_of(collecting(served.url))
    (gap,) = batch.gaps
    assert gap.subject == "pod team-a/half"
    assert "run:ai" in gap.reason
    state = batch.cluster_state
    assert state is not None
    assert [pod.requests for pod in state.pods or () if pod.name == "half"] == [{}]


def test_pods_that_claim_something_else_than_gpus_are_left_out(served: ServedApi, collecting: Collecting) -> None:
    claims = {"resourceClaims": [{"name": "nic", "resourceClaimName": "nic-claim"}]}
    served.state.put("pods", pod_json(container("m"), name="with-nic", spec=claims))
    nic = {"request": "nic", "driver": "dra.net", "pool": "n", "device": "nic-0"}
    served.state.put(
        "resourceclaims",
        {
            "metadata": {"name": "nic-claim", "namespace": "team-a"},
            "status": {"allocation": {"devices": {"results": [nic]}}},
        },
    )
    collector = collecting(served.url)
    assert "with-nic" not in {pod.name for pod in state_of(collector).pods or ()}
    # as long as nobody knows what it claims, it may be a GPU
    assert "with-nic" in {pod.name for pod in state_of(collecting(served.url, claims=False)).pods or ()}


def test_names_from_the_cluster_are_made_plain(served: ServedApi, collecting: Collecting) -> None:
    hostile = "<script>\u202e'; DROP TABLE pods; --\n"
    served.state.put(
        "pods", pod_json(container(hostile, asks(gpu=1)), name=hostile, metadata={"labels": {"team": hostile}})
    )
    state = state_of(collecting(served.url, pod_labels=("team",)))
    (pod,) = [one for one in state.pods or () if "script" in one.name]
    for text in (pod.name, *pod.containers, *pod.labels.values()):
        assert text.isprintable()
        assert len(text) <= 253


# rights


READ_ALL = [
    {"apiGroups": [""], "resources": ["nodes", "pods", "resourcequotas"], "verbs": ["list", "watch"]},
    {"apiGroups": ["resource.k8s.io"], "resources": ["resourceslices", "resourceclaims"], "verbs": ["list", "watch"]},
    {"nonResourceURLs": ["/version", "/apis/*"], "verbs": ["get"]},
]


def without(resource: str) -> Rights:
    return Rights(
        [{**rule, "resources": [one for one in rule.get("resources", []) if one != resource]} for rule in READ_ALL]
    )


@pytest.mark.parametrize(
    ("resource", "group", "lost"),
    [
        ("nodes", "", "nodes"),
        ("pods", "", "pods"),
        ("resourcequotas", "", "quotas"),
        ("resourceclaims", "resource.k8s.io", "claimed_devices"),
    ],
)
def test_what_may_not_be_read_is_none_and_the_right_is_named(
    collecting: Collecting, resource: str, group: str, lost: str
) -> None:
    with serving_api(KubernetesSimulator(cluster=CLUSTER, rights=without(resource))) as served:
        batch = batch_of(collecting(served.url))
    state = batch.cluster_state
    assert state is not None
    assert {name for name in ("nodes", "pods", "quotas", "claimed_devices") if getattr(state, name) is None} == {lost}
    (gap,) = batch.gaps
    assert f"may not list {resource}" in gap.reason
    assert f'{{"apiGroups": ["{group}"], "resources": ["{resource}"], "verbs": ["list", "watch"]}}' in gap.reason


def test_claims_without_slices_are_known_by_name(collecting: Collecting) -> None:
    with serving_api(KubernetesSimulator(cluster=CLUSTER, rights=without("resourceslices"))) as served:
        batch = batch_of(collecting(served.url))
    state = batch.cluster_state
    assert state is not None
    assert {device.gpu_uuid for device in state.claimed_devices or ()} == {None}
    assert len(batch.gaps) == 1


def test_without_any_right_the_attempt_fails_and_names_them_all(collecting: Collecting) -> None:
    with serving_api(KubernetesSimulator(cluster=CLUSTER, rights=Rights([]))) as served:
        attempt = once(collecting(served.url))
    assert isinstance(attempt.error, Unauthorized)
    for resource in ("nodes", "pods", "resourcequotas", "resourceslices", "resourceclaims"):
        assert f'"resources": ["{resource}"]' in str(attempt.error)


def test_without_the_version_only_the_version_is_missing(collecting: Collecting) -> None:
    with serving_api(KubernetesSimulator(cluster=CLUSTER, rights=Rights(READ_ALL[:2]))) as served:
        batch = batch_of(collecting(served.url))
    state = batch.cluster_state
    assert state is not None
    assert state.version is None
    assert len(state.claimed_devices or ()) == 7  # without discovery the newest version is tried
    (gap,) = batch.gaps
    assert "may not get /version" in gap.reason


def test_single_namespaces_need_no_right_on_the_others(collecting: Collecting) -> None:
    rights = Rights([READ_ALL[2]], dict.fromkeys(("support", "search"), READ_ALL[:2]))
    with serving_api(KubernetesSimulator(cluster=CLUSTER, rights=rights)) as served:
        collector = collecting(served.url, namespaces=("support", "search"), claims=False)
        batch = batch_of(collector)
        assert {one.namespace for one in served.simulator.asked if one.resource == "pods"} == {"support", "search"}
    state = batch.cluster_state
    assert state is not None
    assert {pod.namespace for pod in state.pods or ()} == {"support", "search"}
    assert state.nodes is None
    (gap,) = batch.gaps
    assert "may not list nodes in the whole cluster" in gap.reason


def test_one_namespace_that_may_not_be_read_makes_all_unknown(collecting: Collecting) -> None:
    """Its pods would seem to be gone otherwise: who starts anew cannot know that they were readable once."""
    rights = Rights([READ_ALL[2], {**READ_ALL[0], "resources": ["nodes"]}], {"support": READ_ALL[:2]})
    with serving_api(KubernetesSimulator(cluster=CLUSTER, rights=rights)) as served:
        keys: dict[str, Any] = {"namespaces": ("support", "search"), "claims": False, "quotas": False}
        batch = batch_of(collecting(served.url, **keys))
        state = batch.cluster_state
        assert state is not None
        assert state.pods is None
        (gap,) = batch.gaps
        assert "may not list pods in namespace search" in gap.reason
        assert "Role in search" in gap.reason
        assert "those of this one would seem to be gone" in gap.reason


def test_pods_of_a_namespace_whose_right_is_revoked_are_never_missing_from_a_list(collecting: Collecting) -> None:
    both = Rights([READ_ALL[0], READ_ALL[2]])
    one = Rights([{**READ_ALL[0], "resources": ["nodes"]}, READ_ALL[2]], {"support": READ_ALL[:1]})
    simulator = KubernetesSimulator(cluster=CLUSTER, rights=both, bookmark_s=0.02, max_watch_s=0.1)
    with serving_api(simulator) as served:
        collector = collecting(
            served.url, namespaces=("support", "search"), claims=False, quotas=False, stale_after_s=1.0
        )
        assert {pod.namespace for pod in state_of(collector).pods or ()} == {"support", "search"}
        simulator.rights = one
        told: list[str] = []

        def is_unknown() -> bool:
            batch = batch_of(collector)
            assert batch.cluster_state is not None
            told[:] = [gap.reason for gap in batch.gaps]
            pods = batch.cluster_state.pods
            assert pods is None or {pod.namespace for pod in pods} == {"support", "search"}
            return pods is None

        eventually(is_unknown)
        assert len(told) == 1
        assert "may not list pods in namespace search" in told[0] or "may not watch pods in namespace search" in told[0]
        assert "those of this one would seem to be gone" in told[0]
        simulator.rights = both
        eventually(lambda: not is_unknown())


def test_what_a_silent_watch_no_longer_confirms_is_not_given(web: Web, collecting: Collecting) -> None:
    """The API server accepts watches and hangs: nothing ends and nothing fails for minutes."""
    is_over = threading.Event()
    lists = {"/api/v1/nodes": [node_json(capacity={GPU: "1"})], "/api/v1/pods": []}

    def answer(request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if "watch=true" in request.path:
            request.send_response(200)
            request.end_headers()
            is_over.wait(20.0)
        elif path in lists:
            listed = {"metadata": {"resourceVersion": "10"}, "items": lists[path]}
            reply(body=json.dumps(listed).encode())(request)
        else:
            reply(body=b"{}")(request)

    web.answer = answer
    try:
        collector = collecting(web.url, quotas=False, claims=False, stale_after_s=1.0)
        assert len(state_of(collector).nodes or ()) == 1
        eventually(lambda: once(collector).error is not None)
        assert "has not been heard of" in str(once(collector).error)
    finally:
        is_over.set()


@pytest.mark.parametrize("trap", [{"metadata": {"creationTimestamp": YEAR_1}}, {"status": {"startTime": YEAR_1}}])
def test_a_time_that_no_calendar_has_costs_one_pod(
    served: ServedApi, collecting: Collecting, trap: dict[str, Any]
) -> None:
    collector = collecting(served.url)
    state_of(collector)
    served.state.put("pods", pod_json(container("m", asks(gpu=1)), name="trap", namespace="team-z", **trap))
    eventually(lambda: any("out of range" in gap for gap in gaps_of(collector)))
    served.state.put("pods", pod_json(container("m", asks(gpu=1)), name="after", namespace="team-z"))
    eventually(lambda: "after" in {pod.name for pod in state_of(collector).pods or ()})
    assert "trap" not in {pod.name for pod in state_of(collector).pods or ()}


def test_a_state_on_which_the_program_fails_is_an_error_of_the_attempt(
    served: ServedApi, collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keys: object) -> None:
        raise OverflowError("what a label said")

    collector = collecting(served.url)
    state_of(collector)
    with monkeypatch.context() as patched:
        patched.setattr("collectors.kubernetes.collector.cluster_state", fail)
        failed = once(collector)
    assert isinstance(failed.error, BadPayload)
    assert "what a label said" not in str(failed.error)
    assert len(state_of(collector).nodes or ()) == 6


def test_a_revoked_token_is_an_error_and_a_restored_one_needs_no_restart(
    collecting: Collecting, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("good")
    simulator = KubernetesSimulator(cluster=CLUSTER, token="good", bookmark_s=0.02, max_watch_s=0.1)
    with serving_api(simulator) as served:
        collector = collecting(served.url, bearer_token_file=tmp_path / "token", stale_after_s=1.0)
        state_of(collector)
        simulator.token = "other"
        eventually(lambda: isinstance(once(collector).error, Unauthorized))
        assert "good" not in str(once(collector).error)
        (tmp_path / "token").write_text("other")
        eventually(lambda: once(collector).error is None and not batch_of(collector).gaps)


# how it is built


def test_the_registry_builds_it() -> None:
    config = config_model("kubernetes").model_validate({"name": "main", "url": "http://127.0.0.1:1", "interval_s": 45})
    collector = build("kubernetes", config)
    assert (collector.source, collector.kind, collector.cluster, collector.interval_s) == (
        "main",
        "kubernetes",
        "default",
        45,
    )
    collector.close()


def test_it_can_be_closed_at_any_time(served: ServedApi, collecting: Collecting) -> None:
    never = collecting(served.url)
    never.close()
    collector = collecting(served.url)
    state_of(collector)
    collector.close()
    collector.close()
    assert len(state_of(collector).nodes or ()) == 6

"""Recorded objects of real clusters: what each must yield was read off the files by hand.

`captured/kube-apiserver` is what a kube-apiserver of 1.36 answered; the collector reads it from a socket. The nodes and
pods of `payloads/kubernetes` are single objects, and labels of two H100 nodes.
"""

import json
import re
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from collectors.errors import BadPayload, CollectorError, Unauthorized
from collectors.kubernetes.collector import KubernetesCollector
from collectors.kubernetes.config import KubernetesConfig
from collectors.kubernetes.nodes import kubernetes_node, may_have_gpus
from collectors.kubernetes.pods import asks_by_annotation, is_of_interest, kubernetes_pod
from collectors.kubernetes.wire import NodeObject, PodObject, reader
from collectors.kubernetes_errors import MissingRight, Right, error_of_answer
from planner.cluster_facts import ClusterState, KubernetesNode, KubernetesPod, Sharing
from sample_data.kubernetes_nodes import gfd_labels
from tests.collectors.api_servers import CLUSTER, NOW
from tests.collectors.kubernetes.objects import node
from tests.collectors.webs import Web, reply

GPU = "nvidia.com/gpu"
MIG_3G = "nvidia.com/mig-3g.40gb"


# a real kube-apiserver


@pytest.fixture
def captured(reference: Path) -> Path:
    return reference / "captured" / "kube-apiserver"


def state_of(web: Web, answers: dict[str, bytes]) -> ClusterState:
    """What the collector reads from a server that gives these answers to lists, and ends every watch at once."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        body = b"" if "watch=true" in query else answers.get(path)
        reply(status=404 if body is None else 200, body=body or b"")(request)

    web.answer = answer
    collector = KubernetesCollector(KubernetesConfig(name="main", url=web.url, quotas=False, timeout_s=5))
    (attempt,) = collector.collect(NOW, {})
    collector.close()
    assert attempt.batch is not None, attempt.error
    assert attempt.batch.gaps == ()
    assert attempt.batch.cluster_state is not None
    return attempt.batch.cluster_state


def captured_state(web: Web, captured: Path, pods: str) -> ClusterState:
    return state_of(
        web,
        {
            "/version": (captured / "version.json").read_bytes(),
            "/api/v1/nodes": (captured / "nodes_list.json").read_bytes(),
            "/api/v1/pods": (captured / pods).read_bytes(),
        },
    )


def test_a_captured_version_is_told_as_it_stands(web: Web, captured: Path) -> None:
    state = captured_state(web, captured, "pods_list.json")
    assert state.version == "v0.0.0-master+8e16b12fda5b1dccc41a6de48b3e356cc7d5048b"
    assert state.claimed_devices == ()


def test_captured_nodes_are_read(web: Web, captured: Path) -> None:
    nodes = {one.name: one for one in captured_state(web, captured, "pods_list.json").nodes or ()}
    assert sorted(nodes) == ["a100-mig-0", "h100-0", "h100-1", "h100-2", "h100-3"]  # cpu-0 has no GPUs
    for name in ("h100-0", "h100-1", "h100-2", "h100-3"):
        h100 = nodes[name]  # type: ignore[index]
        assert (h100.capacity, h100.allocatable) == ({GPU: 8}, {GPU: 8})
        # strategy single and no "-MIG-" in the product: MIG is off, and 8 counts GPUs
        assert (h100.product, h100.gpu_count, h100.mig_strategy) == ("NVIDIA-H100-80GB-HBM3", 8, "single")
        assert (h100.replicas, h100.sharing, h100.ready) == (None, None, True)
        assert h100.taints == ("node.kubernetes.io/not-ready:NoSchedule",)
        assert h100.labels["topology.kubernetes.io/zone"] == "zone-a"
        assert h100.driver_version is None  # only cuda.driver.major is labelled
    a100 = nodes["a100-mig-0"]  # type: ignore[index]
    assert a100.allocatable == {GPU: 0, "nvidia.com/mig-1g.10gb": 14, MIG_3G: 12}
    assert (a100.product, a100.gpu_count, a100.mig_strategy) == ("NVIDIA-A100-SXM4-80GB", 8, "mixed")
    assert a100.uid == "33640cdf-d0fa-4bb5-9c3f-7a44415ebea8"


def test_captured_pods_are_read(web: Web, captured: Path) -> None:
    pods = {one.name: one for one in captured_state(web, captured, "pods_list.json").pods or ()}
    assert {name: (pod.namespace, pod.node, pod.phase, dict(pod.requests)) for name, pod in pods.items()} == {
        "too-much": ("team-a", "h100-3", "Running", {GPU: 8}),
        "vllm-70b-0": ("team-a", "h100-0", "Running", {GPU: 4}),
        "vllm-70b-1": ("team-a", "h100-1", "Running", {GPU: 8}),
        "mig-0": ("team-b", "a100-mig-0", "Running", {MIG_3G: 1}),
        "pending-0": ("team-b", None, "Pending", {GPU: 8}),
        # this server ignores the selector that leaves finished pods out
        "train-done": ("team-b", "h100-2", "Succeeded", {GPU: 8}),
    }
    first = pods["vllm-70b-0"]
    assert (first.uid, first.containers, first.pod_ip) == (
        "d4880fed-f3aa-4845-a769-bce505006472",
        ("main",),
        "10.1.0.5",
    )
    assert (first.owner_kind, first.priority, first.priority_class) == (None, 0, None)
    assert first.created_at == datetime(2026, 11, 22, 1, 51, 33, tzinfo=UTC)
    assert pods["pending-0"].pending_reason is None  # no scheduler ran: nobody said why


def test_captured_pods_that_wait_say_why_and_name_their_deployment(web: Web, captured: Path) -> None:
    pods = captured_state(web, captured, "pods_scheduled_and_unschedulable.json").pods or ()
    assert len(pods) == 11
    waiting = {pod.name: pod for pod in pods if pod.pending_reason is not None}
    assert sorted(waiting) == [
        "llm4-6bc6fbfbcf-d55wk",
        "llm8-747595f58c-5wk7q",
        "llm8-747595f58c-949kv",
        "llm8-747595f58c-k9f2b",
    ]
    reason = (
        "Unschedulable: 0/6 nodes are available: 1 Too many pods, 6 Insufficient nvidia.com/gpu. no new claims to "
        "deallocate, preemption: 0/6 nodes are available: 2 Preemption is not helpful for scheduling, 4 No preemption "
        "victims found for incoming pod."
    )
    assert {pod.pending_reason for pod in waiting.values()} == {reason}
    assert {(pod.owner_kind, pod.owner_name) for pod in waiting.values()} == {
        ("Deployment", "llm4"),
        ("Deployment", "llm8"),
    }
    on_node = {pod.name: pod.node for pod in pods if pod.node is not None and pod.phase == "Pending"}
    assert on_node == {
        "llm4-6bc6fbfbcf-g9zvb": "h100-0",
        "mig3g-c4b559895-2qp6w": "a100-mig-0",
        "mig3g-c4b559895-4h2gb": "a100-mig-0",
        "mig3g-c4b559895-rllbz": "a100-mig-0",
        "pending-0": "h100-2",
    }


@pytest.mark.parametrize(
    ("file", "code", "kind", "words"),
    [
        ("unauthorized_401.json", 401, Unauthorized, "does not accept these credentials (401)"),
        ("forbidden_403.json", 403, MissingRight, "api: viewer may not list nodes in the whole cluster (403)"),
        ("fractional_gpu_422.json", 422, BadPayload, 'Invalid value: "500m": must be an integer'),
    ],
)
def test_captured_refusals_are_understood(
    captured: Path, file: str, code: int, kind: type[CollectorError], words: str
) -> None:
    body = (captured / file).read_bytes()
    assert json.loads(body)["code"] == code
    right = Right(verb="list", verbs=("list", "watch"), resource="nodes")
    error = error_of_answer(code, body, {}, source="main", target="api", right=right)
    assert type(error) is kind
    assert words in str(error)


def test_a_captured_refusal_of_a_quota_is_not_taken_for_one_of_a_right(captured: Path) -> None:
    """It answers a request to create, which is never sent; the words must not be read as a user's name."""
    body = (captured / "quota_exceeded_403.json").read_bytes()
    right = Right(verb="list", verbs=("list",), resource="pods")
    error = error_of_answer(403, body, {}, source="main", target="api", right=right)
    assert str(error).startswith("api: these credentials may not list pods")


# objects and labels of real nodes


@pytest.fixture
def payloads(reference: Path) -> Path:
    return reference / "payloads" / "kubernetes"


def labelled(payloads: Path, file: str) -> KubernetesNode:
    labels = json.loads((payloads / "nvidia-docs" / file).read_text(encoding="utf-8"))
    assert may_have_gpus(node("s4124-0073", labels))
    return kubernetes_node(node("s4124-0073", labels), published=None, labels=())


def test_labels_of_a_cut_h100_under_mixed(payloads: Path) -> None:
    found = labelled(payloads, "mig-mixed-node-labels.json")
    assert (found.product, found.gpu_count, found.mig_strategy) == ("NVIDIA-H100-80GB-HBM3", 1, "mixed")
    assert (found.mig_config, found.mig_config_state) == ("all-balanced", "success")
    # gpu.replicas is "0": the only GPU is cut; each of the three kinds of MIG device has replicas "1"
    assert (found.replicas, found.sharing, found.driver_version) == (1, Sharing.NONE, "550.54.15")
    assert found.labels["nvidia.com/mig-1g.10gb.count"] == "2"
    assert not [key for key in found.labels if "cpuid" in key or key.startswith("kubernetes.io/")]


def test_labels_of_an_h100_under_single_with_mig_off(payloads: Path) -> None:
    found = labelled(payloads, "mig-node-labels.json")
    assert (found.product, found.gpu_count, found.mig_strategy) == ("NVIDIA-H100-80GB-HBM3", 1, "single")
    assert (found.mig_config, found.mig_config_state) == ("all-disabled", "success")
    assert (found.replicas, found.sharing, found.driver_version) == (1, Sharing.NONE, "550.54.15")


def recorded_node(payloads: Path, file: str) -> KubernetesNode:
    item = yaml.safe_load((payloads / "runai-samples" / file).read_text(encoding="utf-8"))
    return kubernetes_node(reader(NodeObject)(item), published=None, labels=())


def test_an_a100_node_with_three_instances(payloads: Path) -> None:
    found = recorded_node(payloads, "2.9_mig_node_3_instances.yaml")
    amounts = {GPU: 0, "nvidia.com/mig-1g.5gb": 2, "nvidia.com/mig-2g.10gb": 1, "nvidia.com/mig-3g.20gb": 0}
    assert (found.capacity, found.allocatable) == (amounts, amounts)
    assert (found.name, found.uid) == ("qa-mig-worker-gpu-a100", "04dc2370-8f7d-43f8-a346-c8b5201fdd5a")
    assert (found.product, found.gpu_count, found.mig_strategy) == ("NVIDIA-A100-SXM4-40GB", 1, "mixed")
    assert (found.mig_config, found.mig_config_state) == (None, "success")
    assert (found.replicas, found.sharing) == (1, Sharing.NONE)  # no sharing-strategy in 2022: replicas tell
    assert (found.driver_version, found.ready, found.taints) == ("520.56.06", True, ())
    assert found.addresses == ("10.51.0.6", "qa-mig-worker-gpu-a100")


def test_an_a100_node_cut_into_one_instance_remembers_profiles_that_are_gone(payloads: Path) -> None:
    found = recorded_node(payloads, "2.9_mig_node_7g-40gb.yaml")
    assert found.allocatable == {
        GPU: 0,
        "nvidia.com/mig-1g.5gb": 0,
        "nvidia.com/mig-2g.10gb": 0,
        "nvidia.com/mig-3g.20gb": 0,
        "nvidia.com/mig-7g.40gb": 1,
    }
    assert (found.gpu_count, found.replicas) == (1, 1)


def test_a_t4_node_that_cannot_be_cut(payloads: Path) -> None:
    found = recorded_node(payloads, "2.9_fraction_node_1_workload.yaml")
    assert (found.capacity, found.allocatable) == ({GPU: 2}, {GPU: 2})
    assert (found.product, found.gpu_count, found.mig_strategy) == ("Tesla-T4", 2, "mixed")
    assert (found.replicas, found.sharing, found.driver_version) == (1, Sharing.NONE, "525.60.13")
    assert found.addresses == ("10.51.0.4", "qa-mig-worker-gpu-1")


def recorded_pod(payloads: Path, file: str) -> tuple[PodObject, KubernetesPod]:
    item: dict[str, Any] = yaml.safe_load((payloads / "runai-samples" / file).read_text(encoding="utf-8"))
    read = reader(PodObject)(item)
    assert is_of_interest(read)
    found = kubernetes_pod(read, replica_sets=None, labels=("project",))
    assert found is not None
    return read, found


@pytest.mark.parametrize(
    ("file", "namespace", "owner", "node_name", "project"),
    [
        ("2.17_fractional_pod.yaml", "runai-pa", "frac-1", "i-0b498db53280b86a6", "pa"),
        ("2.9_mig_pod_1g-5gb.yaml", "runai-team-a", "job-2", "qa-mig-worker-gpu-a100", "team-a"),
        ("2.9_mig_pod_7g-5gb.yaml", "runai-p1", "job-969475a25a51", "qa-mig-worker-gpu-a100", "p1"),
    ],
)
def test_pods_with_a_part_of_a_gpu_ask_kubernetes_for_nothing(
    payloads: Path, file: str, namespace: str, owner: str, node_name: str, project: str
) -> None:
    read, found = recorded_pod(payloads, file)
    assert asks_by_annotation(read)
    assert (found.requests, found.containers, found.claims) == ({}, (), ())
    assert (found.namespace, found.owner_kind, found.owner_name) == (namespace, "RunaiJob", owner)
    assert (found.node, found.phase, found.labels) == (node_name, "Running", {"project": project})


def test_the_pod_that_holds_the_gpu_for_them_asks_for_all_of_it(payloads: Path) -> None:
    read, found = recorded_pod(payloads, "2.17_fractional_pod_reservation.yaml")
    assert not asks_by_annotation(read)
    assert (found.requests, found.containers) == ({GPU: 1}, ("runai-reservation",))
    assert (found.namespace, found.owner_kind, found.pod_ip) == ("runai-reservation", None, "100.122.249.151")
    assert found.started_at == datetime(2024, 3, 31, 9, 3, 25, tzinfo=UTC)


# the contract of GPU Feature Discovery


@pytest.mark.parametrize(
    ("file", "node_name"),
    [
        ("expected-output-mig-none.txt", "gpu-h100-03"),
        ("expected-output-mig-single.txt", "gpu-h100-02"),
        ("expected-output-mig-mixed.txt", "gpu-h100-01"),
        ("expected-output-mig-mixed.txt", "gpu-a100-01"),
    ],
)
def test_the_simulated_labels_keep_to_the_contract_of_gpu_feature_discovery(
    payloads: Path, file: str, node_name: str
) -> None:
    contract = (payloads / "gfd" / file).read_text(encoding="utf-8").split()
    labels = gfd_labels(CLUSTER.node(node_name))
    of_others = ("nvidia.com/gpu.present", "nvidia.com/gpu.deploy.", "nvidia.com/mig.config")  # of the GPU Operator
    for key, value in labels.items():
        if not key.startswith(of_others):
            assert any(re.match(line, f"{key}={value}") for line in contract), key
    keys = {line.partition("=")[0] for line in contract}
    needed = {"gpu\\.count", "gpu\\.product", "gpu\\.replicas", "gpu\\.memory", "gpu\\.sharing-strategy"}
    for key in needed:
        assert f"nvidia\\.com\\/{key}" in keys
        assert f"nvidia.com/{key}".replace("\\", "") in labels

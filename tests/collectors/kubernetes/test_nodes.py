"""Nodes: what labels of GPU Feature Discovery say under each strategy, and what they do not.

Labels after docs/gpu-feature-discovery/README.md of NVIDIA/k8s-device-plugin; values worked out by hand from it.
"""

from typing import Any

import pytest

from collectors.kubernetes.nodes import PublishedGpus, kubernetes_node, may_have_gpus
from collectors.kubernetes.wire import NodeObject, reader
from planner.cluster_facts import KubernetesNode, Sharing
from planner.units import GpuUuid
from tests.collectors.kubernetes.objects import node, node_json

GPU = "nvidia.com/gpu"
H100 = "NVIDIA-H100-80GB-HBM3"


def gfd(**labels: str) -> dict[str, str]:
    """Labels below nvidia.com/; underscores are dots and double ones dashes."""
    return {f"nvidia.com/{key.replace('__', '-').replace('_', '.')}": value for key, value in labels.items()}


def read(labels: dict[str, str], *, published: PublishedGpus | None = None, **status: Any) -> KubernetesNode:
    return kubernetes_node(node("n1", labels, **status), published=published, labels=())


def test_under_strategy_none_labels_describe_gpus() -> None:
    labels = gfd(gpu_count="8", gpu_product=H100, gpu_memory="81559", gpu_replicas="1", mig_capable="true")
    labels["nvidia.com/gpu.sharing-strategy"] = "none"
    found = read(labels, capacity={GPU: "8"}, allocatable={GPU: "7"})
    assert (found.gpu_count, found.product, found.replicas, found.sharing) == (8, H100, 1, Sharing.NONE)
    assert (found.capacity, found.allocatable) == ({GPU: 8}, {GPU: 7})
    assert (found.mig_strategy, found.mig_config, found.mig_config_state) == (None, None, None)


def test_under_strategy_single_gpu_count_counts_mig_devices_and_so_no_gpus() -> None:
    labels = gfd(
        gpu_count="56",
        gpu_product="NVIDIA-H200-MIG-1g.18gb",
        gpu_memory="16384",
        gpu_slices_gi="1",
        gpu_replicas="1",
        mig_strategy="single",
        mig_config="all-1g.18gb",
        mig_config_state="success",
    )
    found = read(labels, capacity={GPU: "56"}, allocatable={GPU: "56"})
    assert found.gpu_count is None
    assert found.product == "NVIDIA-H200"
    assert found.capacity == {GPU: 56}
    assert (found.mig_strategy, found.mig_config, found.mig_config_state) == ("single", "all-1g.18gb", "success")


def test_strategy_single_with_mig_off_is_a_node_like_any_other() -> None:
    labels = gfd(gpu_count="8", gpu_product=H100, gpu_replicas="1", mig_strategy="single", mig_config="all-disabled")
    assert read(labels).gpu_count == 8
    assert read(labels).product == H100


def test_a_layout_that_single_does_not_allow_leaves_no_product_and_no_count() -> None:
    found = read(gfd(gpu_count="0", gpu_product=f"{H100}-MIG-INVALID", gpu_replicas="0", mig_strategy="single"))
    assert (found.product, found.gpu_count, found.replicas) == (H100, None, None)


def test_under_strategy_mixed_gpus_are_counted_and_a_cut_node_has_none_to_give() -> None:
    labels = gfd(gpu_count="1", gpu_product=H100, gpu_replicas="0", mig_strategy="mixed")
    labels |= {
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/mig-1g.10gb.count": "2",
        "nvidia.com/mig-1g.10gb.replicas": "1",
        "nvidia.com/mig-1g.10gb.sharing-strategy": "none",
    }
    amounts = {GPU: "0", "nvidia.com/mig-1g.10gb": "2", "nvidia.com/mig-2g.20gb": "1"}
    found = read(labels, capacity=amounts, allocatable=amounts)
    assert found.gpu_count == 1
    assert found.allocatable == {GPU: 0, "nvidia.com/mig-1g.10gb": 2, "nvidia.com/mig-2g.20gb": 1}
    assert (found.replicas, found.sharing) == (1, Sharing.NONE)  # gpu.replicas "0" speaks of whole GPUs it has not


def test_a_profile_that_is_no_longer_there_keeps_its_capacity_and_has_nothing_to_give() -> None:
    found = read(
        gfd(gpu_count="1", mig_strategy="mixed"),
        capacity={"nvidia.com/mig-1g.5gb": "1", "nvidia.com/mig-7g.40gb": "1"},
        allocatable={"nvidia.com/mig-1g.5gb": "0", "nvidia.com/mig-7g.40gb": "1"},
    )
    assert found.allocatable == {"nvidia.com/mig-1g.5gb": 0, "nvidia.com/mig-7g.40gb": 1}
    assert found.capacity == {"nvidia.com/mig-1g.5gb": 1, "nvidia.com/mig-7g.40gb": 1}


@pytest.mark.parametrize(
    ("labels", "resources", "sharing", "replicas", "product"),
    [
        # time-slicing as GFD labels it now
        (
            {"gpu.product": "Tesla-T4-SHARED", "gpu.replicas": "4", "gpu.sharing-strategy": "time-slicing"},
            {GPU: "4"},
            Sharing.TIME_SLICING,
            4,
            "Tesla-T4",
        ),
        # with renameByDefault the product has no ending and the resource another name
        (
            {"gpu.product": "Tesla-T4", "gpu.replicas": "4", "gpu.sharing-strategy": "time-slicing"},
            {"nvidia.com/gpu.shared": "4"},
            Sharing.TIME_SLICING,
            4,
            "Tesla-T4",
        ),
        # GFD of 2022: no sharing-strategy yet
        ({"gpu.product": "Tesla-T4-SHARED", "gpu.replicas": "4"}, {GPU: "4"}, Sharing.TIME_SLICING, 4, "Tesla-T4"),
        ({"gpu.product": "Tesla-T4", "gpu.replicas": "1"}, {GPU: "2"}, Sharing.NONE, 1, "Tesla-T4"),
        (
            {
                "gpu.product": "Tesla-T4-SHARED",
                "gpu.replicas": "8",
                "gpu.sharing-strategy": "mps",
                "mps.capable": "true",
            },
            {GPU: "8"},
            Sharing.MPS,
            8,
            "Tesla-T4",
        ),
        # MIG devices that are time-sliced on a node that is cut altogether
        (
            {
                "gpu.product": H100,
                "gpu.replicas": "0",
                "gpu.sharing-strategy": "none",
                "mig-1g.10gb.replicas": "2",
                "mig-1g.10gb.sharing-strategy": "time-slicing",
            },
            {GPU: "0", "nvidia.com/mig-1g.10gb": "14"},
            Sharing.TIME_SLICING,
            2,
            H100,
        ),
        # single and shared: both endings
        (
            {
                "gpu.product": f"{H100}-MIG-1g.10gb-SHARED",
                "gpu.replicas": "2",
                "gpu.sharing-strategy": "time-slicing",
                "gpu.count": "7",
            },
            {GPU: "14"},
            Sharing.TIME_SLICING,
            2,
            H100,
        ),
        ({"gpu.product": f"{H100}-MIG-1g.10gb.me"}, {GPU: "1"}, None, None, H100),
        ({}, {"nvidia.com/gpu.shared": "4"}, Sharing.TIME_SLICING, None, None),
        ({}, {GPU: "4"}, None, None, None),
    ],
)
def test_sharing_is_told_by_labels_of_every_age(
    labels: dict[str, str],
    resources: dict[str, str],
    sharing: Sharing | None,
    replicas: int | None,
    product: str | None,
) -> None:
    found = read({f"nvidia.com/{key}": value for key, value in labels.items()}, allocatable=resources)
    assert (found.sharing, found.replicas, found.product) == (sharing, replicas, product)


@pytest.mark.parametrize(("status", "ready"), [("True", True), ("False", False), ("Unknown", None), ("maybe", None)])
def test_ready_is_unknown_when_the_kubelet_is_silent(status: str, *, ready: bool | None) -> None:
    other = {"type": "MemoryPressure", "status": "False"}
    assert read({}, conditions=[other, {"type": "Ready", "status": status}]).ready is ready
    assert read({}, conditions=[other]).ready is None


def test_taints_addresses_and_cordons_are_kept() -> None:
    given = node_json("n1", {}, addresses=[{"type": "InternalIP", "address": "10.0.0.7"}])
    given["spec"] = {
        "unschedulable": True,
        "taints": [
            {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": "2026-11-01T00:00:00Z"},
        ],
    }
    found = kubernetes_node(reader(NodeObject)(given), published=None, labels=())
    assert found.taints == ("nvidia.com/gpu=present:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule")
    assert found.unschedulable
    assert found.addresses == ("10.0.0.7",)


def test_labels_of_nvidia_topology_and_those_asked_for_are_kept() -> None:
    labels = {
        "nvidia.com/gpu.family": "hopper",
        "nvidia.com/gfd.timestamp": "1715709242",  # changes with every start and says nothing
        "topology.kubernetes.io/zone": "a",
        "node.kubernetes.io/instance-type": "p5.48xlarge",
        "example.com/rack": "7",
        "example.com/secret": "x",
        "feature.node.kubernetes.io/cpu-cpuid.ADX": "true",
    }
    found = kubernetes_node(node("n1", labels), published=None, labels=("example.com/rack",))
    assert set(found.labels) == {
        "nvidia.com/gpu.family",
        "topology.kubernetes.io/zone",
        "node.kubernetes.io/instance-type",
        "example.com/rack",
    }


@pytest.mark.parametrize(
    ("labels", "version"),
    [
        ({"cuda.driver-version.full": "580.126.09", "cuda.driver.major": "580"}, "580.126.09"),
        ({"cuda.driver.major": "520", "cuda.driver.minor": "56", "cuda.driver.rev": "06"}, "520.56.06"),
        ({"cuda.driver.major": "525", "cuda.driver.minor": "60", "cuda.driver.rev": ""}, "525.60"),
        ({"cuda.driver.major": "525"}, None),
        ({}, None),
    ],
)
def test_the_driver_is_told_by_new_and_old_labels(labels: dict[str, str], version: str | None) -> None:
    assert read({f"nvidia.com/{key}": value for key, value in labels.items()}).driver_version == version


def test_without_labels_published_devices_tell_what_there_is() -> None:
    published = PublishedGpus(
        uuids={GpuUuid("GPU-1"), GpuUuid("GPU-2")}, products={"NVIDIA H200"}, driver_version="580.126.09"
    )
    found = read({}, published=published)
    assert (found.gpu_count, found.product, found.driver_version) == (2, "NVIDIA H200", "580.126.09")
    labelled = read(gfd(gpu_count="8", gpu_product="NVIDIA-H200"), published=published)
    assert (labelled.gpu_count, labelled.product) == (8, "NVIDIA-H200")


@pytest.mark.parametrize(
    ("labels", "status", "may"),
    [
        ({"nvidia.com/gpu.present": "true"}, {}, True),
        ({"feature.node.kubernetes.io/pci-10de.present": "true"}, {}, True),
        ({}, {"capacity": {GPU: "8"}}, True),
        ({}, {"capacity": {GPU: "0"}}, True),  # it had some
        ({"kubernetes.io/hostname": "cpu-1"}, {"capacity": {"cpu": "4"}}, False),
        ({"nvidia.com/gpu.present": "false", "nvidia.com/gpu.deploy.driver": "true"}, {}, False),
        ({"cloud.google.com/gke-accelerator": "nvidia-l4"}, {}, True),
    ],
)
def test_nodes_that_have_had_or_may_have_gpus(labels: dict[str, str], status: dict[str, Any], *, may: bool) -> None:
    assert may_have_gpus(node("n1", labels, **status)) is may

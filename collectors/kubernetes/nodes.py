"""From a node of the API to a node of the planner."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from collectors.kubernetes.node_labels import (
    driver_version,
    gpu_count,
    has_nvidia_labels,
    kept_labels,
    product,
    replicas,
    sharing,
)
from collectors.kubernetes.wire import NodeObject
from planner.cluster_facts import KubernetesNode
from planner.units import GpuUuid, NodeName


@dataclass(slots=True)
class PublishedGpus:
    """What dynamic resource allocation says of a node's GPUs, for nodes that no label describes."""

    uuids: set[GpuUuid] = field(default_factory=set)
    products: set[str] = field(default_factory=set)
    driver_version: str | None = None


def may_have_gpus(node: NodeObject) -> bool:
    """Whether the node has, had or may have GPUs by its labels or its resources."""
    return has_nvidia_labels(node.metadata.labels) or bool(node.status.capacity or node.status.allocatable)


def kubernetes_node(node: NodeObject, *, published: PublishedGpus | None, labels: Iterable[str]) -> KubernetesNode:
    """The node in the planner's words; `labels` are to be kept beside the usual ones.

    Amounts stay as Kubernetes has them: a resource that the device plugin no longer announces keeps its capacity and
    has 0 allocatable, and only what is allocatable can be asked for.
    """
    own = node.metadata.labels
    named = product(own)
    if named is None and published is not None and len(published.products) == 1:
        named = next(iter(published.products))
    counted = gpu_count(own)
    if counted is None and published is not None and published.uuids:
        counted = len(published.uuids)
    status = node.status
    return KubernetesNode(
        name=NodeName(node.metadata.name),
        uid=node.metadata.uid,
        labels=kept_labels(own, labels),
        capacity=status.capacity,
        allocatable=status.allocatable,
        taints=tuple(str(taint) for taint in node.spec.taints),
        unschedulable=bool(node.spec.unschedulable),
        ready=_ready(node),
        product=named,
        gpu_count=counted,
        replicas=replicas(own),
        sharing=sharing(own, (*status.capacity, *status.allocatable)),
        mig_strategy=own.get("nvidia.com/mig.strategy"),
        mig_config=own.get("nvidia.com/mig.config"),
        mig_config_state=own.get("nvidia.com/mig.config.state"),
        addresses=tuple(address.address for address in status.addresses),
        driver_version=driver_version(own) or (published.driver_version if published is not None else None),
    )


def _ready(node: NodeObject) -> bool | None:
    """None where the kubelet has not been heard of (condition Unknown), or there is no such condition."""
    for condition in node.status.conditions:
        if condition.type == "Ready":
            return {"True": True, "False": False}.get(condition.status)
    return None

"""From the objects of all feeds to one state of the cluster, with a gap for everything that it lacks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from collectors.kubernetes.claims import DeviceIndex, holds_gpus
from collectors.kubernetes.config import KubernetesConfig
from collectors.kubernetes.nodes import kubernetes_node, may_have_gpus
from collectors.kubernetes.pods import ReplicaSetOwners, asks_by_annotation, effective_requests, kubernetes_pod
from collectors.kubernetes.wire import NodeObject, PodObject, ReplicaSetObject
from collectors.kubernetes.wire_claims import ClaimObject, SliceObject
from planner.cluster_facts import ClaimedDevice, ClusterState, KubernetesNode, KubernetesPod, KubernetesQuota
from planner.readings import Gap
from planner.units import NodeName

MAX_LISTED = 3
"""Objects named one by one for one reason; of more only the number is said."""

NO_LABELS = (
    "the node announces GPUs and has no labels of GPU Feature Discovery: product, number of GPUs and MIG strategy are "
    "unknown. Deploy it with the GPU Operator (Helm value gfd.enabled=true) or the device plugin (gfd.enabled=true)"
)
BY_ANNOTATION = (
    "the pod gets a part of a GPU by annotations of its own scheduler (run:ai), which Kubernetes does not count: its "
    "share is not in the requests"
)


@dataclass(slots=True, kw_only=True)
class ClusterObjects:
    """What the feeds hold; a list is None when it could not be read, or is not read at all."""

    nodes: Iterable[NodeObject] | None = None
    pods: Iterable[PodObject] | None = None
    quotas: Iterable[KubernetesQuota] | None = None
    replica_sets: Iterable[ReplicaSetObject] | None = None
    slices: Iterable[SliceObject] | None = None
    claims: Iterable[ClaimObject] | None = None
    gaps: list[Gap] = field(default_factory=list)


def cluster_state(
    objects: ClusterObjects,
    config: KubernetesConfig,
    *,
    observed_at: datetime,
    version: str | None,
    details: Mapping[str, str],
) -> ClusterState:
    """The state in the planner's words; what is missing goes into `objects.gaps`."""
    index = DeviceIndex(objects.slices or ())
    return ClusterState(
        observed_at=observed_at,
        nodes=None if objects.nodes is None else _nodes(objects.nodes, index, config, objects.gaps),
        pods=None if objects.pods is None else _pods(objects, config),
        quotas=None if objects.quotas is None else tuple(objects.quotas),
        claimed_devices=None if objects.claims is None else _claimed(objects.claims, index),
        version=version,
        details=dict(details),
    )


def listed(subjects: Iterable[str], reason: str, *, kind: str) -> list[Gap]:
    """A gap per subject, or one with their number where there are many."""
    named = sorted(subjects)
    if len(named) <= MAX_LISTED:
        return [Gap(subject=subject, metric=None, reason=reason) for subject in named]
    return [Gap(subject=kind, metric=None, reason=f"{reason} ({len(named)} {kind})")]


def _nodes(
    nodes: Iterable[NodeObject], index: DeviceIndex, config: KubernetesConfig, gaps: list[Gap]
) -> tuple[KubernetesNode, ...]:
    published = index.by_node()
    found = [
        kubernetes_node(node, published=published.get(NodeName(node.metadata.name)), labels=config.node_labels)
        for node in nodes
        if may_have_gpus(node) or node.metadata.name in published
    ]
    bare = [node.name for node in found if node.product is None and any(node.capacity.values())]
    gaps += listed((f"node {name}" for name in bare), NO_LABELS, kind="nodes")
    return tuple(found)


def _pods(objects: ClusterObjects, config: KubernetesConfig) -> tuple[KubernetesPod, ...]:
    of_gpus: set[tuple[str, str]] | None = None
    if objects.claims is not None:
        of_gpus = {(claim.metadata.namespace, claim.metadata.name) for claim in objects.claims if holds_gpus(claim)}
    owners: ReplicaSetOwners | None = None
    if objects.replica_sets is not None:
        owners = {(one.metadata.namespace, one.metadata.name): one.metadata.owner for one in objects.replica_sets}
    found, undated, by_annotation = [], [], []
    for pod in objects.pods or ():
        converted = kubernetes_pod(pod, replica_sets=owners, labels=config.pod_labels)
        name = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
        if converted is None:
            undated.append(name)
            continue
        claims = {(converted.namespace, claim) for claim in converted.claims}
        asks_otherwise = asks_by_annotation(pod)
        if (
            claims
            and of_gpus is not None
            and not (claims & of_gpus)
            and not effective_requests(pod)
            and not asks_otherwise
        ):
            continue  # what it claimed is a network device, or something else that is no GPU
        if asks_otherwise:
            by_annotation.append(name)
        found.append(converted)
    objects.gaps += listed(undated, "left out: the API does not say when it was created", kind="pods")
    objects.gaps += listed(by_annotation, BY_ANNOTATION, kind="pods")
    return tuple(found)


def _claimed(claims: Iterable[ClaimObject], index: DeviceIndex) -> tuple[ClaimedDevice, ...]:
    return tuple(device for claim in claims for device in index.claimed(claim))

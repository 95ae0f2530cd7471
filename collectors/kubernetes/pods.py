"""From a pod of the API to a pod of the planner: what it effectively asks for, who owns it, why it waits."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from collectors.kubernetes.wire import Container, OwnerReference, PodObject
from planner.cluster_facts import KubernetesPod
from planner.units import NodeName

ReplicaSetOwners = Mapping[tuple[str, str], OwnerReference | None]
"""Who owns each ReplicaSet, by namespace and name."""

_ALWAYS_KEPT = "app.kubernetes.io/"
_FRACTIONS = ("gpu-fraction", "gpu-memory", "runai-mig-device")


def effective_requests(pod: PodObject) -> dict[str, int]:
    """GPU resources that the pod holds, by Kubernetes' own rule.

    Containers run together with the sidecars (init containers that are restarted always). The other init containers run
    one after the other before them, each beside the sidecars that were started before it: the larger of both counts.
    Source: Kubernetes, "Sidecar Containers" and "Init Containers", resource sharing within containers.
    """
    together: Counter[str] = Counter()
    for container in pod.spec.containers:
        together.update(container.resources.counts)
    sidecars: Counter[str] = Counter()
    at_start: Counter[str] = Counter()
    for container in pod.spec.init_containers:
        if container.restart_policy == "Always":
            sidecars.update(container.resources.counts)
            needed = sidecars
        else:
            needed = sidecars + Counter(container.resources.counts)
        at_start |= needed
    return {name: count for name, count in ((together + sidecars) | at_start).items() if count}


def claim_names(pod: PodObject) -> tuple[str, ...]:
    """Resource claims of the pod by their own names; one that is still to be made for it has none."""
    named = {claim.claim_name for claim in pod.spec.claims}
    named |= {status.claim_name for status in pod.status.claim_statuses}
    if pod.status.extended_claim is not None:
        named.add(pod.status.extended_claim.claim_name)
    return tuple(sorted(name for name in named if name))


def asks_by_annotation(pod: PodObject) -> bool:
    """Whether a scheduler of its own gives it a part of a GPU (run:ai), of which Kubernetes knows nothing."""
    return any(key in _FRACTIONS for key in pod.metadata.annotations)


def is_of_interest(pod: PodObject) -> bool:
    """Whether the pod asks for GPUs, in whichever way."""
    return bool(effective_requests(pod) or pod.spec.claims or claim_names(pod) or asks_by_annotation(pod))


def kubernetes_pod(
    pod: PodObject, *, replica_sets: ReplicaSetOwners | None, labels: Iterable[str]
) -> KubernetesPod | None:
    """The pod in the planner's words; None when the API does not say when it was created.

    `replica_sets` is None where they are not read: then the Deployment is told from the hash in the names. `labels` are
    to be kept beside app.kubernetes.io/*.
    """
    metadata, spec, status = pod.metadata, pod.spec, pod.status
    if metadata.created_at is None:
        return None
    owner_kind, owner_name = outermost_owner(pod, replica_sets)
    named = frozenset(labels)
    return KubernetesPod(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        node=None if not spec.node_name else NodeName(spec.node_name),
        phase=status.phase or "Unknown",
        owner_kind=owner_kind,
        owner_name=owner_name,
        priority=spec.priority,
        priority_class=spec.priority_class or None,
        requests=effective_requests(pod),
        containers=tuple(container.name for container in _all_containers(pod) if _asks(container)),
        pod_ip=status.pod_ip or None,
        host_ip=status.host_ip or None,
        labels={key: value for key, value in metadata.labels.items() if key.startswith(_ALWAYS_KEPT) or key in named},
        claims=claim_names(pod),
        pending_reason=_pending_reason(pod),
        created_at=metadata.created_at,
        started_at=status.started_at,
    )


def outermost_owner(pod: PodObject, replica_sets: ReplicaSetOwners | None) -> tuple[str | None, str | None]:
    """Kind and name of whoever controls the pod: for the pod of a Deployment not the ReplicaSet in between."""
    owner = pod.metadata.owner
    if owner is None:
        return None, None
    if owner.kind != "ReplicaSet":
        return owner.kind, owner.name
    if replica_sets is not None and (pod.metadata.namespace, owner.name) in replica_sets:
        above = replica_sets[pod.metadata.namespace, owner.name]
        return (owner.kind, owner.name) if above is None else (above.kind, above.name)
    for label, kind in (("pod-template-hash", "Deployment"), ("rollouts-pod-template-hash", "Rollout")):
        ending = f"-{pod.metadata.labels.get(label, '')}"
        if re.fullmatch(r"-[a-z0-9]+", ending) and owner.name.endswith(ending) and owner.name != ending:
            return kind, owner.name.removesuffix(ending)
    return owner.kind, owner.name


def _all_containers(pod: PodObject) -> tuple[Container, ...]:
    return (*pod.spec.init_containers, *pod.spec.containers)


def _asks(container: Container) -> bool:
    return bool(container.resources.claims) or any(container.resources.counts.values())


def _pending_reason(pod: PodObject) -> str | None:
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return ": ".join(part for part in (condition.reason, condition.message) if part) or "not scheduled"
    return None

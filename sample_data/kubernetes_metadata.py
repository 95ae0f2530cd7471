"""What the objects of the simulated workloads have in common: metadata, labels, owners, conditions, times."""

from datetime import UTC, datetime
from typing import Any

from sample_data.deployments import Deployment
from sample_data.identity import pod_uid, suffix

JsonObject = dict[str, Any]


def rfc3339(at: datetime) -> str:
    """Whole seconds in UTC, with a Z: `metav1.Time` of k8s.io/apimachinery."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def labels_of(deployment: Deployment) -> dict[str, str]:
    """Labels of everything of a deployment."""
    return {
        "app.kubernetes.io/name": deployment.name,
        "app.kubernetes.io/component": str(deployment.engine),
        "team": deployment.namespace,
    }


def hash_label(seed: int, namespace: str, deployment: Deployment) -> dict[str, str]:
    """The label that ties a pod to its ReplicaSet; StatefulSets have none."""
    if deployment.is_stateful_set:
        return {}
    return {"pod-template-hash": template_hash(seed, namespace, deployment.name)}


def template_hash(seed: int, namespace: str, deployment: str) -> str:
    """What ends the names of a Deployment's ReplicaSet and pods."""
    return suffix(10, seed, namespace, deployment)


def owner_of(seed: int, deployment: Deployment) -> JsonObject:
    """The owner reference of a deployment's pods."""
    key = (seed, deployment.namespace, deployment.name)
    if deployment.is_stateful_set:
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "name": deployment.name,
            "uid": pod_uid(*key, "stateful set"),
        }
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"{deployment.name}-{template_hash(*key)}",
        "uid": pod_uid(*key, "replica set"),
    }


def condition(kind: str, status: str, at: str) -> JsonObject:
    """A condition since a moment."""
    return {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": at}


def metadata_of(
    name: str,
    namespace: str,
    uid: str,
    created_at: str,
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    owner: JsonObject | None = None,
) -> JsonObject:
    """The metadata of an object in a namespace."""
    metadata: JsonObject = {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": created_at}
    if labels:
        metadata["labels"] = labels
    if annotations:
        metadata["annotations"] = annotations
    if owner:
        metadata["ownerReferences"] = [{"blockOwnerDeletion": True, "controller": True} | owner]
    return metadata

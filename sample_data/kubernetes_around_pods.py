"""What belongs to the simulated pods: their ReplicaSets, a quota, and the services in front of those that serve."""

from collections import Counter
from typing import Any

from sample_data.cluster import EPOCH, SimulatedCluster
from sample_data.identity import pod_uid
from sample_data.kubernetes_metadata import labels_of, metadata_of, rfc3339, template_hash
from sample_data.kubernetes_nodes import uses_claims
from sample_data.kubernetes_pods import PENDING_DEPLOYMENT, PENDING_NAMESPACE, held_pods
from sample_data.serving_state import serving_pods

JsonObject = dict[str, Any]

QUOTA_NAMESPACE = "research"


def replica_set_objects(cluster: SimulatedCluster) -> list[JsonObject]:
    """The ReplicaSet of every Deployment that has a pod, the pending one's among them."""
    sets: dict[tuple[str, str], JsonObject] = {}
    for node in cluster.nodes:
        for pod, _ in held_pods(node):
            if not pod.deployment.is_stateful_set:
                key = (pod.namespace, pod.deployment.name)
                sets.setdefault(key, _replica_set(cluster.seed, *key))
    key = (PENDING_NAMESPACE, PENDING_DEPLOYMENT)
    sets[key] = _replica_set(cluster.seed, *key)
    return [sets[key] for key in sorted(sets)]


def quota_objects(cluster: SimulatedCluster) -> list[JsonObject]:
    """One quota on GPUs and one of another kind, which is of no interest here."""
    used: Counter[str] = Counter()
    for node in cluster.nodes:
        for pod, requests in () if uses_claims(node) else held_pods(node):
            if pod.namespace == QUOTA_NAMESPACE:
                used.update(requests)
    hard = {f"requests.{name}": str(count + 2) for name, count in sorted(used.items())}
    spent = {f"requests.{name}": str(count) for name, count in sorted(used.items())}
    return [
        {
            "metadata": metadata_of("gpus", QUOTA_NAMESPACE, pod_uid(cluster.seed, "quota"), rfc3339(EPOCH)),
            "spec": {"hard": hard},
            "status": {"hard": hard, "used": spent},
        },
        {
            "metadata": metadata_of("objects", QUOTA_NAMESPACE, pod_uid(cluster.seed, "objects"), rfc3339(EPOCH)),
            "spec": {"hard": {"count/configmaps": "100"}},
            "status": {"hard": {"count/configmaps": "100"}, "used": {"count/configmaps": "7"}},
        },
    ]


def service_objects(cluster: SimulatedCluster) -> list[JsonObject]:
    """One service in front of every Deployment of vLLM and its like."""
    services: dict[tuple[str, str], JsonObject] = {}
    for place in serving_pods(cluster):
        deployment, software = place.deployment, place.deployment.software
        if software is None:
            continue
        services[deployment.namespace, deployment.name] = {
            "metadata": metadata_of(
                deployment.name,
                deployment.namespace,
                pod_uid(cluster.seed, deployment.namespace, deployment.name, "service"),
                rfc3339(EPOCH),
                labels=labels_of(deployment),
            ),
            "spec": {
                "type": "ClusterIP",
                "clusterIP": f"10.96.{len(services) // 250}.{len(services) % 250 + 1}",
                "selector": {"app.kubernetes.io/name": deployment.name},
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
            },
            "status": {"loadBalancer": {}},
        }
    return [services[key] for key in sorted(services)]


def _replica_set(seed: int, namespace: str, deployment: str) -> JsonObject:
    return {
        "metadata": metadata_of(
            f"{deployment}-{template_hash(seed, namespace, deployment)}",
            namespace,
            pod_uid(seed, namespace, deployment, "replica set"),
            rfc3339(EPOCH),
            owner={
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": deployment,
                "uid": pod_uid(seed, namespace, deployment, "deployment"),
            },
        ),
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": deployment}}},
        "status": {"replicas": 1},
    }

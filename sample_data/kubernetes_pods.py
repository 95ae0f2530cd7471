"""The simulated pods as Kubernetes shows them, one that waits among them.

Pods, nodes and devices are those of `sample_data/cluster.py`; what serves is reachable at the simulator's own address
(`sample_data/serving_endpoints.py`).
"""

from collections import Counter
from datetime import timedelta
from typing import Any

from sample_data.cluster import EPOCH, SimulatedCluster, SimulatedNode, SimulatedPod
from sample_data.deployments import Engine
from sample_data.identity import number, pod_uid, suffix
from sample_data.kubernetes_metadata import (
    condition,
    hash_label,
    labels_of,
    metadata_of,
    owner_of,
    rfc3339,
    template_hash,
)
from sample_data.kubernetes_nodes import mig_resource, node_address, uses_claims
from sample_data.serving_endpoints import pod_annotations
from sample_data.serving_state import ServingPod, pod_started_at, serving_pods

JsonObject = dict[str, Any]

PENDING_DEPLOYMENT = "llama-405b"
PENDING_NAMESPACE = "assistant"
PENDING_GPUS = 16
EXPORTER_NAMESPACE = "gpu-operator"

_PRIORITIES = {Engine.VLLM: ("inference", 1_000_000), Engine.NOTEBOOK: ("interactive", 1_000)}


def pod_objects(cluster: SimulatedCluster, host: str, port: int) -> list[JsonObject]:
    """Every pod; `host` and `port` are the simulator's, which stand in for the addresses of the pods that serve."""
    serving = {place.pod.uid: place for place in serving_pods(cluster)}
    pods = []
    for node in cluster.nodes:
        for pod, requests in held_pods(node):
            pods.append(_pod(node, pod, requests, serving.get(pod.uid), host=host, port=port))
        pods.append(_exporter(node))
    pods.append(_pending(cluster))
    return pods


def claim_name(pod: SimulatedPod) -> str:
    """The resource claim of a pod on a node whose GPUs are claimed, made from the template of its Deployment."""
    return f"{pod.name}-gpus-{suffix(5, pod.uid, 'claim')}"


def held_pods(node: SimulatedNode) -> list[tuple[SimulatedPod, Counter[str]]]:
    """The pods of a node in the order of its devices, with the resources that each asks for."""
    held: dict[str, tuple[SimulatedPod, Counter[str]]] = {}
    for gpu in node.gpus:
        if gpu.pod is not None:
            held.setdefault(gpu.pod.uid, (gpu.pod, Counter()))[1]["nvidia.com/gpu"] += 1
        for instance in gpu.instances or ():
            if instance.pod is not None:
                is_mixed = node.kind.mig_strategy == "mixed"
                name = mig_resource(instance.profile) if is_mixed else "nvidia.com/gpu"
                held.setdefault(instance.pod.uid, (instance.pod, Counter()))[1][name] += 1
    return list(held.values())


def _pod(
    node: SimulatedNode,
    pod: SimulatedPod,
    requests: Counter[str],
    place: ServingPod | None,
    *,
    host: str,
    port: int,
) -> JsonObject:
    deployment = pod.deployment
    started_at = rfc3339(pod_started_at(node, pod))
    annotations = {} if place is None else pod_annotations(place, port)
    counted = {name: str(count) for name, count in requests.items()}
    software = deployment.software
    container: JsonObject = {
        "name": pod.container,
        "image": software.image if software is not None else f"registry.example/{deployment.engine}:simulated",
        "args": ["--model", deployment.model] if deployment.model else [],
        "resources": {"requests": {"cpu": "8", "memory": "64Gi"}, "limits": {"memory": "64Gi"}},
    }
    spec: JsonObject = {"nodeName": node.name, "containers": [container], "schedulerName": "default-scheduler"}
    status: JsonObject = {}
    if uses_claims(node):
        container["resources"]["claims"] = [{"name": "gpus"}]
        spec["resourceClaims"] = [{"name": "gpus", "resourceClaimTemplateName": f"{deployment.name}-gpus"}]
        status["resourceClaimStatuses"] = [{"name": "gpus", "resourceClaimName": claim_name(pod)}]
    else:
        container["resources"]["requests"] |= counted
        container["resources"]["limits"] |= counted
    if software is not None:
        container["ports"] = [{"name": "http", "containerPort": software.port, "protocol": "TCP"}]
    name, priority = _PRIORITIES.get(deployment.engine, (None, 0))
    spec["priority"] = priority
    if name is not None:
        spec["priorityClassName"] = name
    index = number(pod.uid, "address")
    address = host if annotations else f"10.244.{index % 250}.{index // 250 % 250 + 1}"
    return {
        "metadata": metadata_of(
            pod.name,
            pod.namespace,
            pod.uid,
            started_at,
            labels=labels_of(deployment) | hash_label(node.seed, deployment.namespace, deployment),
            annotations=annotations,
            owner=owner_of(node.seed, deployment),
        ),
        "spec": spec,
        "status": status
        | {
            "phase": "Running",
            "conditions": [condition("PodScheduled", "True", started_at), condition("Ready", "True", started_at)],
            "hostIP": node_address(node),
            "podIP": address,
            "podIPs": [{"ip": address}],
            "qosClass": "Burstable",
            "startTime": started_at,
        },
    }


def _exporter(node: SimulatedNode) -> JsonObject:
    created_at = rfc3339(node.driver_loaded_at)
    return {
        "metadata": metadata_of(
            node.exporter_pod,
            EXPORTER_NAMESPACE,
            pod_uid(node.seed, node.exporter_pod),
            created_at,
            labels={"app": "nvidia-dcgm-exporter"},
            owner={
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "name": "nvidia-dcgm-exporter",
                "uid": pod_uid(node.seed, "nvidia-dcgm-exporter"),
            },
        ),
        "spec": {
            "nodeName": node.name,
            "containers": [
                {"name": "nvidia-dcgm-exporter", "image": "nvcr.io/nvidia/k8s/dcgm-exporter", "resources": {}}
            ],
            "priority": 2_000_001_000,
            "priorityClassName": "system-node-critical",
        },
        "status": {"phase": "Running", "hostIP": node_address(node), "podIP": None, "startTime": created_at},
    }


def _pending(cluster: SimulatedCluster) -> JsonObject:
    """A pod for which no node has enough GPUs."""
    deployment_hash = template_hash(cluster.seed, PENDING_NAMESPACE, PENDING_DEPLOYMENT)
    name = f"{PENDING_DEPLOYMENT}-{deployment_hash}-{suffix(5, cluster.seed, 'pending')}"
    created_at = rfc3339(EPOCH + timedelta(days=60))
    nodes = len(cluster.nodes)
    message = (
        f"0/{nodes + 1} nodes are available: 1 node(s) had untolerated taint "
        f"{{node-role.kubernetes.io/control-plane: }}, {nodes} Insufficient nvidia.com/gpu. preemption: "
        f"0/{nodes + 1} nodes are available: 1 Preemption is not helpful for scheduling, "
        f"{nodes} No preemption victims found for incoming pod."
    )
    resources = {"nvidia.com/gpu": str(PENDING_GPUS)}
    return {
        "metadata": metadata_of(
            name,
            PENDING_NAMESPACE,
            pod_uid(cluster.seed, "pending"),
            created_at,
            labels={
                "app.kubernetes.io/name": PENDING_DEPLOYMENT,
                "pod-template-hash": deployment_hash,
                "team": PENDING_NAMESPACE,
            },
            owner={
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": f"{PENDING_DEPLOYMENT}-{deployment_hash}",
                "uid": pod_uid(cluster.seed, PENDING_NAMESPACE, PENDING_DEPLOYMENT, "replica set"),
            },
        ),
        "spec": {
            "containers": [
                {"name": "vllm", "image": "vllm/vllm-openai", "resources": {"requests": resources, "limits": resources}}
            ],
            "priority": 1_000_000,
            "priorityClassName": "inference",
        },
        "status": {
            "phase": "Pending",
            "conditions": [
                condition("PodScheduled", "False", created_at) | {"reason": "Unschedulable", "message": message}
            ],
            "qosClass": "BestEffort",
        },
    }

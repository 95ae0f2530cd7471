"""The simulated nodes as Kubernetes shows them: labels of GPU Feature Discovery, capacity, addresses.

Sources: NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery/README.md (labels under the strategies none, single and
mixed); NVIDIA GPU Operator documentation, "GPU Operator with MIG".
"""

from collections import Counter
from typing import Any

from sample_data.boards import SimulatedBoard
from sample_data.cluster import SimulatedCluster, SimulatedNode
from sample_data.identity import digest, pod_uid
from sample_data.kubernetes_metadata import rfc3339

JsonObject = dict[str, Any]

CONTROL_PLANE = "control-plane-1"
KUBELET_VERSION = "v1.34.2"
_FAMILY = {"A100": ("ampere", "8", "0"), "H100": ("hopper", "9", "0"), "H200": ("hopper", "9", "0")}
_ENGINES = {1: "1", 2: "2", 3: "3", 4: "4", 7: "7"}  # copy engines by compute slices


def uses_claims(node: SimulatedNode) -> bool:
    """Whether the node's GPUs are handed out by dynamic resource allocation, and not by the device plugin."""
    return node.kind.family == "gpu-h200"


def node_address(node: SimulatedNode) -> str:
    """The node's address in the cluster's network."""
    return f"10.20.{node.index // 250}.{node.index % 250 + 1}"


def node_objects(cluster: SimulatedCluster) -> list[JsonObject]:
    """One object per node, and a control plane without GPUs."""
    return [_node(node) for node in cluster.nodes] + [_control_plane(cluster)]


def _node(node: SimulatedNode) -> JsonObject:
    resources = {} if uses_claims(node) else gpu_resources(node)
    counted = {name: str(count) for name, count in resources.items()}
    capacity = {"cpu": "128", "ephemeral-storage": "1863012Mi", "memory": "1056412Mi", "pods": "250"} | counted
    return _object(
        node.name,
        uid=pod_uid(node.seed, node.name, "node"),
        created_at=rfc3339(node.driver_loaded_at),
        labels={
            "beta.kubernetes.io/arch": "amd64",
            "feature.node.kubernetes.io/pci-10de.present": "true",
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": node.name,
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": f"{node.kind.family}-8x",
            "topology.kubernetes.io/region": "on-premises",
            "topology.kubernetes.io/zone": f"rack-{node.index % 3 + 1}",
            **gfd_labels(node),
        },
        spec={"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        capacity=capacity,
        allocatable=capacity | {"cpu": "127500m", "memory": "1048220Mi"},
        address=node_address(node),
    )


def _control_plane(cluster: SimulatedCluster) -> JsonObject:
    capacity = {"cpu": "8", "ephemeral-storage": "101430960Ki", "memory": "32Gi", "pods": "110"}
    return _object(
        CONTROL_PLANE,
        uid=pod_uid(cluster.seed, CONTROL_PLANE),
        created_at="2025-01-06T00:00:00Z",
        labels={
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": CONTROL_PLANE,
            "kubernetes.io/os": "linux",
            "node-role.kubernetes.io/control-plane": "",
        },
        spec={"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]},
        capacity=capacity,
        allocatable=capacity,
        address="10.20.255.1",
    )


def _object(
    name: str,
    *,
    uid: str,
    created_at: str,
    labels: dict[str, str],
    spec: JsonObject,
    capacity: dict[str, str],
    allocatable: dict[str, str],
    address: str,
) -> JsonObject:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastTransitionTime": created_at,
    }
    pressure = {
        "type": "MemoryPressure",
        "status": "False",
        "reason": "KubeletHasSufficientMemory",
        "message": "kubelet has sufficient memory available",
        "lastTransitionTime": created_at,
    }
    return {
        "metadata": {"name": name, "uid": uid, "creationTimestamp": created_at, "labels": labels},
        "spec": spec,
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": capacity,
            "allocatable": allocatable,
            "conditions": [pressure, ready],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": digest(uid, "boot").hex()[:32],
                "containerRuntimeVersion": "containerd://2.1.4",
                "kernelVersion": "6.8.0-87-generic",
                "kubeProxyVersion": "",
                "kubeletVersion": KUBELET_VERSION,
                "machineID": digest(uid, "machine").hex()[:32],
                "operatingSystem": "linux",
                "osImage": "Ubuntu 24.04.3 LTS",
                "systemUUID": uid,
            },
        },
    }


def gpu_resources(node: SimulatedNode) -> dict[str, int]:
    """What the device plugin announces by the node's strategy; a GPU in MIG mode without instances is nothing."""
    whole = sum(not gpu.mig_enabled for gpu in node.gpus)
    instances = Counter(instance.profile for gpu in node.gpus for instance in gpu.instances or ())
    if node.kind.mig_strategy == "mixed":
        cut = {mig_resource(profile): count for profile, count in sorted(instances.items())}
        return {"nvidia.com/gpu": whole} | cut
    return {"nvidia.com/gpu": whole + sum(instances.values())}


def mig_resource(profile: str) -> str:
    """The name of a profile's resource; a plus sign may not stand in it and becomes a dot."""
    return f"nvidia.com/mig-{profile.replace('+', '.')}"


def gfd_labels(node: SimulatedNode) -> dict[str, str]:
    """Labels of GPU Feature Discovery and of the GPU Operator's MIG manager."""
    kind, board = node.kind, node.kind.board
    product = board.product.replace(" ", "-")
    major, minor, revision = kind.driver_version.split(".")
    family, compute_major, compute_minor = _FAMILY.get(board.name.split("-")[0], ("ada-lovelace", "8", "9"))
    labels = {
        "nvidia.com/cuda.driver-version.full": kind.driver_version,
        "nvidia.com/cuda.driver-version.major": major,
        "nvidia.com/cuda.driver-version.minor": minor,
        "nvidia.com/cuda.driver-version.revision": revision,
        "nvidia.com/gfd.timestamp": str(int(node.driver_loaded_at.timestamp())),
        "nvidia.com/gpu.compute.major": compute_major,
        "nvidia.com/gpu.compute.minor": compute_minor,
        "nvidia.com/gpu.count": str(len(node.gpus)),
        "nvidia.com/gpu.deploy.dcgm-exporter": "true",
        "nvidia.com/gpu.deploy.device-plugin": "false" if uses_claims(node) else "true",
        "nvidia.com/gpu.family": family,
        "nvidia.com/gpu.machine": "SIMULATED-8GPU",
        "nvidia.com/gpu.memory": str(board.memory_total_mib),
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/mig.capable": "true" if board.profiles or board.name.startswith("H") else "false",
        "nvidia.com/mps.capable": "false",
    }
    if kind.mig_strategy == "none":
        return labels
    labels |= {
        "nvidia.com/mig.config": f"{node.name}-layout",
        "nvidia.com/mig.config.state": "success",
        "nvidia.com/mig.strategy": kind.mig_strategy,
    }
    profiles = Counter(instance.profile for gpu in node.gpus for instance in gpu.instances or ())
    if kind.mig_strategy == "single":
        (profile,) = profiles
        labels |= _instance_labels("nvidia.com/gpu", board, profile)
        labels["nvidia.com/gpu.count"] = str(profiles[profile])  # of MIG devices, not of GPUs
    else:
        for profile, count in sorted(profiles.items()):
            prefix = mig_resource(profile)
            labels |= _instance_labels(prefix, board, profile)
            labels |= {
                f"{prefix}.count": str(count),
                f"{prefix}.replicas": "1",
                f"{prefix}.sharing-strategy": "none",
            }
        if all(gpu.mig_enabled for gpu in node.gpus):
            labels["nvidia.com/gpu.replicas"] = "0"  # no whole GPU left to announce
    return labels


def _instance_labels(prefix: str, board: SimulatedBoard, profile: str) -> dict[str, str]:
    hardware = board.profiles[profile]
    return {
        f"{prefix}.product": f"{board.product.replace(' ', '-')}-MIG-{profile.replace('+', '.')}",
        f"{prefix}.memory": str(hardware.memory_mib),
        f"{prefix}.multiprocessors": str(hardware.sm_count),
        f"{prefix}.slices.gi": str(hardware.compute_slices),
        f"{prefix}.slices.ci": str(hardware.compute_slices),
        f"{prefix}.engines.copy": _ENGINES[hardware.compute_slices],
    }

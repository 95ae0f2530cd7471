"""Dynamic resource allocation in the simulated cluster: the GPUs of the claimed nodes, and who was given which.

Sources: Kubernetes API resource.k8s.io v1, v1beta2 and v1beta1; NVIDIA/k8s-dra-driver-gpu, deviceinfo.go (names and
attributes of devices).
"""

import re
from typing import Any

from sample_data.cluster import SimulatedCluster, SimulatedGpu, SimulatedNode, SimulatedPod
from sample_data.identity import pod_uid
from sample_data.kubernetes_metadata import rfc3339
from sample_data.kubernetes_nodes import uses_claims
from sample_data.kubernetes_pods import claim_name
from sample_data.serving_state import pod_started_at

JsonObject = dict[str, Any]

GPU_DRIVER = "gpu.nvidia.com"
COMPUTE_DOMAIN_DRIVER = "compute-domain.nvidia.com"
DRA_VERSIONS = ("v1", "v1beta2", "v1beta1")


def slice_objects(cluster: SimulatedCluster, version: str) -> list[JsonObject]:
    """Two ResourceSlices per claimed node: its GPUs, and the channels of compute domains."""
    slices = []
    for node in cluster.nodes:
        if not uses_claims(node):
            continue
        gpus = [_gpu(node, gpu) for gpu in node.gpus]
        channels = [{"name": "channel-0", "attributes": {"type": {"string": "channel"}, "id": {"int": 0}}}]
        for driver, devices in ((GPU_DRIVER, gpus), (COMPUTE_DOMAIN_DRIVER, channels)):
            slices.append(
                {
                    "metadata": {
                        "name": f"{node.name}-{driver}-{driver[:3]}{node.index:02d}",
                        "uid": pod_uid(node.seed, node.name, driver),
                        "creationTimestamp": rfc3339(node.driver_loaded_at),
                    },
                    "spec": {
                        "driver": driver,
                        "nodeName": node.name,
                        "pool": {"name": node.name, "generation": 1, "resourceSliceCount": 1},
                        "devices": [_nested(device) if version == "v1beta1" else device for device in devices],
                    },
                }
            )
    return slices


def claim_objects(cluster: SimulatedCluster, version: str) -> list[JsonObject]:
    """One ResourceClaim per pod on a claimed node, allocated and reserved."""
    claims = []
    for node in cluster.nodes:
        if not uses_claims(node):
            continue
        held: dict[str, tuple[SimulatedPod, list[str]]] = {}
        for gpu in node.gpus:
            if gpu.pod is not None:
                held.setdefault(gpu.pod.uid, (gpu.pod, []))[1].append(f"gpu-{gpu.index}")
        claims += [_claim(node, pod, devices, version) for pod, devices in held.values()]
    return claims


def _claim(node: SimulatedNode, pod: SimulatedPod, devices: list[str], version: str) -> JsonObject:
    exactly = {"deviceClassName": GPU_DRIVER, "allocationMode": "ExactCount", "count": len(devices)}
    request = {"name": "gpus"} | (exactly if version == "v1beta1" else {"exactly": exactly})
    return {
        "metadata": {
            "name": claim_name(pod),
            "namespace": pod.namespace,
            "uid": pod_uid(pod.uid, "claim"),
            "creationTimestamp": rfc3339(pod_started_at(node, pod)),
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid, "controller": True}
            ],
        },
        "spec": {"devices": {"requests": [request]}},
        "status": {
            "allocation": {
                "devices": {
                    "results": [
                        {"request": "gpus", "driver": GPU_DRIVER, "pool": node.name, "device": device}
                        for device in devices
                    ]
                }
            },
            "reservedFor": [{"resource": "pods", "name": pod.name, "uid": pod.uid}],
        },
    }


def _gpu(node: SimulatedNode, gpu: SimulatedGpu) -> JsonObject:
    board = gpu.board
    return {
        "name": f"gpu-{gpu.index}",
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": gpu.uuid},
            "productName": {"string": board.product},
            "brand": {"string": "Nvidia"},
            "architecture": {"string": "Hopper"},
            "cudaComputeCapability": {"version": "9.0.0"},
            "driverVersion": {"version": semantic(node.kind.driver_version)},
            "cudaDriverVersion": {"version": "13.0.0"},
            "resource.kubernetes.io/pciBusID": {"string": short_bus_id(gpu.pci_bus_id)},
            "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{gpu.pci_bus_id[9:11].lower()}"},
        },
        "capacity": {"memory": {"value": f"{board.memory_total_mib}Mi"}},
    }


def semantic(driver_version: str) -> str:
    """A driver's version as semantic versioning writes it: numbers lose their leading zeros."""
    return ".".join(str(int(part)) for part in driver_version.split("."))


def short_bus_id(bus_id: str) -> str:
    """`00000000:1B:00.0` as Linux writes it: `0000:1b:00.0`."""
    return re.sub(r"^0000", "", bus_id).lower()


def _nested(device: JsonObject) -> JsonObject:
    """The form of v1beta1, in which everything but the name lies below `basic`."""
    return {"name": device["name"], "basic": {key: value for key, value in device.items() if key != "name"}}

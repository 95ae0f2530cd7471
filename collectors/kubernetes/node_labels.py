"""What the labels of a node say about its GPUs, and what they do not.

Source: NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery/README.md. Under the strategy `single`, gpu.count counts
MIG devices, and product, memory and slices describe one of them; with MIG off the same strategy labels a node like any
other. `kubectl get node NAME -o json | jq .metadata.labels` shows them.
"""

import re
from collections.abc import Iterable, Mapping

from planner.cluster_facts import Sharing
from planner.kubernetes_resources import is_shared_resource

PREFIX = "nvidia.com/"
_GPU = "nvidia.com/gpu"
_KEPT = (
    "nvidia.com/",
    "feature.node.kubernetes.io/pci-10de",  # NVIDIA's vendor id: there is a board, whatever runs on the node
    "topology.kubernetes.io/",
    "node.kubernetes.io/instance-type",
    "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-gpu-partition-size",
)
_TELLING = ("nvidia.com/gpu", "nvidia.com/mig", "feature.node.kubernetes.io/pci-10de", "cloud.google.com/gke-acc")
_RESTLESS = frozenset({"nvidia.com/gfd.timestamp"})  # new with every start of the labeller, and says nothing else
_PRODUCT_END = re.compile(r"(-SHARED|-MIG-INVALID|-MIG-[0-9][A-Za-z0-9.+-]*?)+$")
_MIG_REPLICAS = re.compile(r"nvidia\.com/mig-.+\.replicas")


def kept_labels(labels: Mapping[str, str], also: Iterable[str]) -> dict[str, str]:
    """Labels of NVIDIA's operators, of topology and instance type, and those that the configuration names."""
    named = frozenset(also)
    return {
        key: value for key, value in labels.items() if (key.startswith(_KEPT) or key in named) and key not in _RESTLESS
    }


def has_nvidia_labels(labels: Mapping[str, str]) -> bool:
    """Whether labels say that the node has, had or may have GPUs."""
    if labels.get("nvidia.com/gpu.present") == "false":
        return False
    return any(key.startswith(_TELLING) for key in labels)


def product(labels: Mapping[str, str]) -> str | None:
    """The board as the label spells it, without the endings for sharing (-SHARED) and MIG (-MIG-1g.12gb)."""
    named = labels.get("nvidia.com/gpu.product")
    return _PRODUCT_END.sub("", named) or None if named else None


def describes_instances(labels: Mapping[str, str]) -> bool:
    """Whether nvidia.com/gpu.* describes MIG devices and not GPUs: strategy `single` with MIG on."""
    named = labels.get("nvidia.com/gpu.product", "")
    return "-MIG-" in named or "nvidia.com/gpu.slices.gi" in labels


def gpu_count(labels: Mapping[str, str]) -> int | None:
    """GPUs of the node; None where the labels count MIG devices, or do not count."""
    return None if describes_instances(labels) else _whole(labels.get("nvidia.com/gpu.count"))


def replicas(labels: Mapping[str, str]) -> int | None:
    """Into how many each device is shared; None where the labels do not say.

    A node whose GPUs are all cut has gpu.replicas "0", which speaks of the whole GPUs that it has not: then the MIG
    devices are asked, if they agree.
    """
    own = _whole(labels.get("nvidia.com/gpu.replicas"))
    if own:
        return own
    of_instances = {_whole(value) for key, value in labels.items() if _MIG_REPLICAS.fullmatch(key)} - {None, 0}
    return of_instances.pop() if len(of_instances) == 1 else None


def sharing(labels: Mapping[str, str], resources: Iterable[str]) -> Sharing | None:
    """How devices are shared; None where neither labels nor names of resources say.

    Labels of 2022 have no sharing-strategy: there the ending -SHARED and replicas tell, and time-slicing was all there
    was.
    """
    keys = [key for key in labels if key.startswith(PREFIX) and key.endswith(".sharing-strategy")]
    told = {labels[key] for key in keys if labels[key] in Sharing.__members__.values()}
    shared = told - {Sharing.NONE}
    if shared:
        return Sharing(sorted(shared)[0])
    if told:
        return Sharing.NONE
    if (
        labels.get("nvidia.com/gpu.product", "").endswith("-SHARED")
        or (replicas(labels) or 0) > 1
        or any(is_shared_resource(name) for name in resources)
    ):
        return Sharing.TIME_SLICING
    return None if replicas(labels) is None else Sharing.NONE


def driver_version(labels: Mapping[str, str]) -> str | None:
    """The driver as NVIDIA writes it, `580.126.09`; from the single numbers where the whole is not labelled."""
    whole = labels.get("nvidia.com/cuda.driver-version.full")
    if whole:
        return whole
    parts = [labels.get(f"nvidia.com/cuda.driver.{part}", "") for part in ("major", "minor", "rev")]
    return ".".join(part for part in parts if part) if parts[0] and parts[1] else None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,6}", text) else None

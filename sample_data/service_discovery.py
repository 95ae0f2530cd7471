"""The simulated exporters as Prometheus' HTTP service discovery wants them told.

Format: https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from typing import TypedDict

from sample_data.cluster import SimulatedCluster, SimulatedNode


class TargetGroup(TypedDict):
    """One entry of the answer."""

    targets: list[str]
    labels: dict[str, str]


def metrics_path(node_name: str) -> str:
    """Where the simulator serves that node's exporter."""
    return f"/nodes/{node_name}/metrics"


def dcgm_targets(cluster: SimulatedCluster, address: str) -> list[TargetGroup]:
    """One group per node, all of them at the simulator's own `host:port`.

    On about half of the nodes the target itself carries pod, namespace and container, those of the exporter, as
    gpu-operator's ServiceMonitor makes them: a Prometheus with `honor_labels: false` then renames the labels of the
    workload to exported_pod and so on.
    """
    return [TargetGroup(targets=[address], labels=_labels(node)) for node in cluster.nodes]


def _labels(node: SimulatedNode) -> dict[str, str]:
    labels = {
        "__metrics_path__": metrics_path(node.name),
        "instance": f"{node.name}:9400",
        "job": "dcgm-exporter",
    }
    if node.kind.prometheus_sets_pod_labels:
        labels |= {
            "container": "nvidia-dcgm-exporter",
            "namespace": "gpu-operator",
            "node": node.name,
            "pod": node.exporter_pod,
        }
    return labels

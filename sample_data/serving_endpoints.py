"""Where the simulator serves each pod's server, and how Kubernetes and Prometheus are told so.

The pods' own addresses cannot be real: every server is reachable at the simulator's one port, under a path of its own.
So the simulated Kubernetes gives these pods the simulator's host as pod IP, its port and `/pods/NAMESPACE/NAME/metrics`
as the annotations that Prometheus' own Kubernetes set-ups read, and the same three as labels of service discovery.
"""

from sample_data.cluster import SimulatedPod
from sample_data.service_discovery import TargetGroup
from sample_data.serving_state import ServingPod

ANNOTATION_SCRAPE = "prometheus.io/scrape"
ANNOTATION_PORT = "prometheus.io/port"
ANNOTATION_PATH = "prometheus.io/path"


def pod_path(pod: SimulatedPod) -> str:
    """Where everything that the pod's server answers lies."""
    return f"/pods/{pod.namespace}/{pod.name}"


def has_endpoint(place: ServingPod) -> bool:
    """Whether the pod's server has metrics of a serving engine here; Ollama and the embedding servers have none."""
    return place.deployment.software is not None


def pod_annotations(place: ServingPod, port: int) -> dict[str, str]:
    """Annotations of the pod; empty for one without metrics. `port` is the simulator's."""
    if not has_endpoint(place):
        return {}
    return {
        ANNOTATION_SCRAPE: "true",
        ANNOTATION_PORT: str(port),
        ANNOTATION_PATH: f"{pod_path(place.pod)}/metrics",
    }


def serving_targets(places: tuple[ServingPod, ...], address: str) -> list[TargetGroup]:
    """One group per server for Prometheus' HTTP service discovery, with the labels that its Kubernetes one would give.

    `instance` has the path too: `host:port` of the simulator alone would be the same for all, and so a server has the
    name that a direct scrape gives it.
    """
    return [
        TargetGroup(
            targets=[address],
            labels={
                "__metrics_path__": f"{pod_path(place.pod)}/metrics",
                "instance": f"{address}{pod_path(place.pod)}",
                "job": f"{place.pod.namespace}/{place.deployment.name}",
                "namespace": place.pod.namespace,
                "pod": place.pod.name,
                "node": place.node.name,
            },
        )
        for place in places
        if has_endpoint(place)
    ]

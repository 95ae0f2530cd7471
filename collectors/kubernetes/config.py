"""`[[sources.kubernetes]]`: API servers that are asked for nodes, pods and quotas."""

from typing import Annotated

from pydantic import Field

from collectors.config import DEFAULT_CLUSTER, Name
from collectors.kubernetes_access_config import KubernetesAccessConfig

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]


class KubernetesConfig(KubernetesAccessConfig):
    """One API server and what is read there; see `KubernetesAccessConfig` for how it is reached.

    `pod_labels` and `node_labels` are kept beside those that always are (`app.kubernetes.io/*`; NVIDIA's, topology and
    instance type). `namespaces` empty means all of them, which needs a ClusterRole.
    """

    name: Name
    cluster: Name = DEFAULT_CLUSTER
    interval_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    pod_labels: tuple[LabelKey, ...] = ()
    node_labels: tuple[LabelKey, ...] = ()
    quotas: bool = True
    claims: bool = True
    replica_sets: bool = False
    relist_s: Annotated[float, Field(ge=60, le=86_400)] = 3600.0
    stale_after_s: Annotated[float, Field(ge=1, le=86_400)] = 120.0

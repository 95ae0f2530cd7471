"""From a ResourceQuota to a quota on GPUs.

Source: Kubernetes, "Resource Quotas": extended resources are limited as `requests.NAME`, claimed devices as
`CLASS.deviceclass.resource.k8s.io/devices`.
"""

from collections.abc import Mapping
from typing import Any

from collectors.kubernetes.quantities import count_of
from collectors.kubernetes.wire import QuotaObject, reader
from collectors.kubernetes_lists import JsonObject
from planner.cluster_facts import KubernetesQuota
from planner.kubernetes_resources import is_gpu_resource

_PREFIX = "requests."
_CLAIMED = ".deviceclass.resource.k8s.io/devices"

_read = reader(QuotaObject)


def gpu_quota(item: JsonObject) -> KubernetesQuota | None:
    """The quota by names of resources, without `requests.`; None when it limits no GPUs. Raises NotUnderstood."""
    quota = _read(item)
    hard = _counts(quota.status.hard if quota.status.hard is not None else quota.spec.hard)
    if not hard:
        return None
    return KubernetesQuota(
        namespace=quota.metadata.namespace, name=quota.metadata.name, hard=hard, used=_counts(quota.status.used)
    )


def _counts(amounts: Mapping[str, Any] | None) -> dict[str, int]:
    counts = {}
    for name, quantity in (amounts or {}).items():
        resource = name.removeprefix(_PREFIX)
        if is_gpu_resource(resource) or name.endswith(_CLAIMED):
            counts[resource] = count_of(quantity, name)
    return counts

"""What is read from the API: one row per kind of object, with what is lost where it may not be read.

Adding a kind is adding a row here, its reader, and its rule in deploy/rbac.yaml; a test holds them together.
"""

from dataclasses import dataclass
from enum import StrEnum

from collectors.kubernetes.wire_claims import GROUP


class Kind(StrEnum):
    """A kind of object, by the plural that the API calls it."""

    NODES = "nodes"
    PODS = "pods"
    QUOTAS = "resourcequotas"
    REPLICA_SETS = "replicasets"
    SLICES = "resourceslices"
    CLAIMS = "resourceclaims"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRow:
    """Where a kind of object lies in the API, and what its absence costs."""

    kind: Kind
    group: str
    namespaced: bool
    loss: str
    field_selector: str | None = None


RESOURCES: tuple[ResourceRow, ...] = (
    ResourceRow(
        kind=Kind.NODES,
        group="",
        namespaced=False,
        loss="Capacity, taints, MIG strategy and sharing of nodes are unknown, and with them how much is unallocated.",
    ),
    ResourceRow(
        kind=Kind.PODS,
        group="",
        namespaced=True,
        # finished pods hold no device; watches tell when one finishes, as if it were deleted
        field_selector="status.phase!=Succeeded,status.phase!=Failed",
        loss="Who asks for GPUs, who owns the pods, and why pods wait for GPUs is unknown.",
    ),
    ResourceRow(
        kind=Kind.QUOTAS,
        group="",
        namespaced=True,
        loss="Limits of namespaces are unknown: advice may suggest what a quota forbids.",
    ),
    ResourceRow(
        kind=Kind.REPLICA_SETS,
        group="apps",
        namespaced=True,
        loss="Deployments are told from the names of their pods.",
    ),
    ResourceRow(
        kind=Kind.SLICES,
        group=GROUP,
        namespaced=False,
        loss="Claimed devices have no UUID: their pods are joined to GPUs by other sources only.",
    ),
    ResourceRow(
        kind=Kind.CLAIMS,
        group=GROUP,
        namespaced=True,
        loss="Which devices were claimed by which pod is unknown.",
    ),
)

VERSION_LOSS = "The version of the API server is not shown."

"""What a look at Kubernetes makes of the inventory: rows of nodes, pods, quotas and claimed devices with their times.

A list is complete for its cluster: what it does not name any more has ended. A list that could not be read changes
nothing, and neither does one that is not newer than what is known.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from planner.cluster_facts import ClaimedDevice, ClusterState, KubernetesNode, KubernetesPod, KubernetesQuota
from store.cluster_tables import ClaimedDeviceRecord, ClusterLook, KubernetesPodRecord, NodeRecord, QuotaRecord
from store.database import upsert
from store.interval_rows import IntervalTable, Key, load_intervals, save_intervals, timeline_of
from store.intervals import FLAP_GRACE, Timeline
from store.tables import table_of

_LOOKS = table_of(ClusterLook)

ClusterObject = KubernetesNode | KubernetesPod | KubernetesQuota | ClaimedDevice

_NODE_IDENTITY = (
    "uid",
    "capacity",
    "allocatable",
    "taints",
    "unschedulable",
    "ready",
    "product",
    "gpu_count",
    "replicas",
    "sharing",
    "mig_strategy",
    "mig_config",
    "mig_config_state",
    "driver_version",
)
_POD_IDENTITY = (
    "namespace",
    "name",
    "node",
    "phase",
    "owner_kind",
    "owner_name",
    "priority",
    "priority_class",
    "requests",
    "containers",
    "pod_ip",
    "host_ip",
    "claims",
    "created_at",
)
_CLAIM_VALUES = ("pods", "node", "gpu_uuid", "mig_uuid", "profile", "pci_bus_id")

NODES = IntervalTable(
    model=NodeRecord,
    scope=None,
    key=("name",),
    values=(*_NODE_IDENTITY, "labels", "addresses"),  # a label tells when labels were written
    identity=frozenset(_NODE_IDENTITY),
    is_complete=True,
)
PODS = IntervalTable(
    model=KubernetesPodRecord,
    scope=None,
    key=("uid",),
    values=(*_POD_IDENTITY, "labels", "pending_reason", "started_at"),  # a reason counts nodes, which come and go
    identity=frozenset(_POD_IDENTITY),
    is_complete=True,
)
QUOTAS = IntervalTable(
    model=QuotaRecord,
    scope=None,
    key=("namespace", "name"),
    values=("hard", "used"),
    identity=frozenset({"hard", "used"}),
    is_complete=True,
)
CLAIMS = IntervalTable(
    model=ClaimedDeviceRecord,
    scope=None,
    key=("claim_namespace", "claim_name", "driver", "pool", "device"),
    values=_CLAIM_VALUES,
    identity=frozenset(_CLAIM_VALUES),
    is_complete=True,
)


def write_cluster_state(connection: Connection, cluster_id: int, state: ClusterState) -> None:
    """Take one look at a cluster into the inventory."""
    look = connection.execute(select(_LOOKS).where(_LOOKS.c.cluster_id == cluster_id)).mappings().first()
    at = state.observed_at
    read: dict[str, datetime] = {}
    lists: tuple[tuple[str, IntervalTable, Sequence[ClusterObject] | None], ...] = (
        ("nodes_at", NODES, state.nodes),
        ("pods_at", PODS, state.pods),
        ("quotas_at", QUOTAS, state.quotas),
        ("claims_at", CLAIMS, state.claimed_devices),
    )
    for column, kind, objects in lists:
        if objects is not None and _is_newer(look, column, at):
            _take_list(connection, cluster_id, kind, objects, at)
            read[column] = at
    if look is not None and at < look["observed_at"] and not read:
        return
    row = {
        "cluster_id": cluster_id,
        "observed_at": at if look is None else max(at, look["observed_at"]),
        "version": state.version or (look["version"] if look else None),
        "details": _text(state.details) if state.details or look is None else look["details"],
    } | read
    statement = upsert(connection, _LOOKS)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["cluster_id"],
            set_={name: statement.excluded[name] for name in row if name != "cluster_id"},
        ),
        row,
    )


def _is_newer(look: RowMapping | None, column: str, at: datetime) -> bool:
    known = None if look is None else look[column]
    return known is None or at > known


def _take_list(
    connection: Connection, cluster_id: int, kind: IntervalTable, objects: Sequence[ClusterObject], at: datetime
) -> None:
    timelines: dict[Key, Timeline] = {}
    for _, key, interval in load_intervals(connection, kind, cluster_id, not_before=at - FLAP_GRACE):
        timeline_of(timelines, key, kind).intervals.append(interval)
    seen: set[Key] = set()
    for one in objects:
        key = tuple(getattr(one, name) for name in kind.key)
        seen.add(key)
        timeline_of(timelines, key, kind).see(at, {name: _plain(getattr(one, name)) for name in kind.values}, None)
    for key, timeline in timelines.items():
        if key not in seen:
            timeline.miss(at)
    save_intervals(connection, kind, cluster_id, (("", key, one) for key, one in timelines.items()))


def _plain(value: Any) -> Any:
    """As it is stored: maps and lists as JSON, enumerations by their value."""
    if isinstance(value, Mapping | tuple):
        return _text(value)
    return getattr(value, "value", value)


def _text(value: Any) -> str:
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, sort_keys=True, separators=(",", ":"))

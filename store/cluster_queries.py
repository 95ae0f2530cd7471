"""What servers and which objects of Kubernetes there were at a moment, as the planner's types."""

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, case, func, or_, select

from planner.cluster_facts import (
    ClaimedDevice,
    ClusterState,
    KubernetesNode,
    KubernetesPod,
    KubernetesQuota,
    Sharing,
)
from planner.device_state import STALE_AFTER
from planner.serving_readings import ServedModel, ServingEngine, ServingFact
from planner.units import GpuUuid, NodeName
from store.cluster_objects import CLAIMS, NODES, PODS, QUOTAS
from store.cluster_tables import ClusterLook, ServedModelRecord, ServerRecord
from store.database import reading
from store.interval_rows import IntervalTable
from store.tables import Cluster, table_of

_CLUSTERS = table_of(Cluster)
_LOOKS = table_of(ClusterLook)
_SERVERS = table_of(ServerRecord)
_MODELS = table_of(ServedModelRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownServer:
    """A server as it was known at a moment, and since when it has been so."""

    cluster: str
    fact: ServingFact  # `observed_at` is when it was last seen
    since: datetime


def servers(
    engine: Engine, at: datetime, *, cluster: str | None = None, seen_within: timedelta = STALE_AFTER
) -> tuple[KnownServer, ...]:
    """Servers that were seen shortly before `at`, by cluster and endpoint."""
    with reading(engine) as connection:
        return servers_at(connection, at, cluster=cluster, seen_within=seen_within)


def servers_at(
    connection: Connection, at: datetime, *, cluster: str | None = None, seen_within: timedelta = STALE_AFTER
) -> tuple[KnownServer, ...]:
    """The same in a view of the store that is open already."""
    models: defaultdict[tuple[int, str], list[ServedModel]] = defaultdict(list)
    offered = (
        select(_MODELS)
        .where(_MODELS.c.valid_from <= at, or_(_MODELS.c.valid_to.is_(None), _MODELS.c.valid_to > at))
        .order_by(_MODELS.c.name)
    )
    for row in connection.execute(offered).mappings():
        models[row["cluster_id"], row["endpoint"]].append(
            ServedModel(
                name=row["name"],
                root=row["root"],
                parent=row["parent"],
                max_model_len=row["max_model_len"],
                is_loaded=row["is_loaded"],
                size_bytes=row["size_bytes"],
                device_bytes=row["device_bytes"],
                context_tokens=row["context_tokens"],
                expires_at=row["expires_at"],
                quantization=row["quantization"],
                digest=row["digest"],
            )
        )
    statement: Select[Any] = (
        select(_CLUSTERS.c.name.label("cluster"), _SERVERS)
        .join(_CLUSTERS, _CLUSTERS.c.id == _SERVERS.c.cluster_id)
        .where(
            _SERVERS.c.valid_from <= at,
            or_(_SERVERS.c.valid_to.is_(None), _SERVERS.c.valid_to > at),
            _SERVERS.c.last_seen >= at - seen_within,
        )
        .order_by(_CLUSTERS.c.name, _SERVERS.c.endpoint)
    )
    if cluster is not None:
        statement = statement.where(_CLUSTERS.c.name == cluster)
    return tuple(
        KnownServer(
            cluster=row["cluster"],
            fact=_server(row, tuple(models[row["cluster_id"], row["endpoint"]]), at),
            since=row["valid_from"],
        )
        for row in connection.execute(statement).mappings()
    )


def cluster_state(
    engine: Engine, at: datetime, cluster: str, *, seen_within: timedelta = STALE_AFTER
) -> ClusterState | None:
    """What Kubernetes said of a cluster shortly before `at`; None where it was not read by then.

    A list that was not read in the time before, by itself, is None.
    """
    with reading(engine) as connection:
        return cluster_state_at(connection, at, cluster, seen_within=seen_within)


def cluster_state_at(
    connection: Connection, at: datetime, cluster: str, *, seen_within: timedelta = STALE_AFTER
) -> ClusterState | None:
    """The same in a view of the store that is open already."""
    look = (
        connection.execute(
            select(_LOOKS).join(_CLUSTERS, _CLUSTERS.c.id == _LOOKS.c.cluster_id).where(_CLUSTERS.c.name == cluster)
        )
        .mappings()
        .first()
    )
    if look is None:
        return None
    cluster_id = look["cluster_id"]
    read_at = {
        kind: _read_at(connection, kind, cluster_id, look[column], at)
        for kind, column in ((NODES, "nodes_at"), (PODS, "pods_at"), (QUOTAS, "quotas_at"), (CLAIMS, "claims_at"))
    }
    if look["observed_at"] > at and not any(read_at.values()):
        return None

    def rows(kind: IntervalTable) -> list[RowMapping] | None:
        seen_at = read_at[kind]
        is_known = seen_at is not None and at - seen_at <= seen_within
        return _valid(connection, kind, cluster_id, at) if is_known else None

    nodes, pods, quotas, claims = rows(NODES), rows(PODS), rows(QUOTAS), rows(CLAIMS)
    return ClusterState(
        observed_at=min(look["observed_at"], at),
        nodes=None if nodes is None else tuple(map(_node, nodes)),
        pods=None if pods is None else tuple(map(_pod, pods)),
        quotas=None if quotas is None else tuple(map(_quota, quotas)),
        claimed_devices=None if claims is None else tuple(map(_claim, claims)),
        version=look["version"],
        details=json.loads(look["details"]),
    )


def _read_at(
    connection: Connection, kind: IntervalTable, cluster_id: int, newest: datetime | None, at: datetime
) -> datetime | None:
    """When a list was last read by `at`, as far as is known; None where it was not.

    `newest` is when it was last read at all. Of an earlier time only its rows tell: a look saw or missed each.
    """
    if newest is None or newest <= at:
        return newest
    columns = kind.table.c
    rows = connection.execute(
        select(func.max(columns.last_seen), func.max(case((columns.valid_to <= at, columns.valid_to)))).where(
            columns.cluster_id == cluster_id, columns.valid_from <= at
        )
    ).one()
    told = [min(one, at) for one in rows if one is not None]
    return max(told, default=None)


def _valid(connection: Connection, kind: IntervalTable, cluster_id: int, at: datetime) -> list[RowMapping]:
    columns = kind.table.c
    statement = (
        select(kind.table)
        .where(
            columns.cluster_id == cluster_id,
            columns.valid_from <= at,
            or_(columns.valid_to.is_(None), columns.valid_to > at),
        )
        .order_by(*(columns[name] for name in kind.key))
    )
    return list(connection.execute(statement).mappings())


def _server(row: RowMapping, models: tuple[ServedModel, ...], at: datetime) -> ServingFact:
    return ServingFact(
        observed_at=min(row["last_seen"], at),
        endpoint=row["endpoint"],
        engine=ServingEngine(row["engine"]),
        version=row["version"],
        models=models,
        settings=tuple((name, value) for name, value in json.loads(row["settings"] or "[]")),
        pod_namespace=row["pod_namespace"],
        pod_name=row["pod_name"],
        pod_ip=row["pod_ip"],
        node=None if row["node"] is None else NodeName(row["node"]),
        gpu_uuids=tuple(map(GpuUuid, json.loads(row["gpu_uuids"] or "[]"))),
    )


def _node(row: RowMapping) -> KubernetesNode:
    return KubernetesNode(
        **_shared(row, ("uid", "unschedulable", "ready", "product", "gpu_count", "replicas")),
        **_shared(row, ("mig_strategy", "mig_config", "mig_config_state", "driver_version")),
        **_parsed(row, ("labels", "capacity", "allocatable"), ("taints", "addresses")),
        name=NodeName(row["name"]),
        sharing=None if row["sharing"] is None else Sharing(row["sharing"]),
    )


def _pod(row: RowMapping) -> KubernetesPod:
    return KubernetesPod(
        **_shared(row, ("namespace", "name", "uid", "phase", "owner_kind", "owner_name", "priority", "priority_class")),
        **_shared(row, ("pod_ip", "host_ip", "pending_reason", "created_at", "started_at")),
        **_parsed(row, ("requests", "labels"), ("containers", "claims")),
        node=None if row["node"] is None else NodeName(row["node"]),
    )


def _quota(row: RowMapping) -> KubernetesQuota:
    return KubernetesQuota(**_shared(row, ("namespace", "name")), **_parsed(row, ("hard", "used"), ()))


def _claim(row: RowMapping) -> ClaimedDevice:
    return ClaimedDevice(
        **_shared(row, ("claim_namespace", "claim_name", "driver", "pool", "device")),
        **_shared(row, ("mig_uuid", "profile", "pci_bus_id")),
        **_parsed(row, (), ("pods",)),
        node=None if row["node"] is None else NodeName(row["node"]),
        gpu_uuid=None if row["gpu_uuid"] is None else GpuUuid(row["gpu_uuid"]),
    )


def _shared(row: RowMapping, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _parsed(row: RowMapping, maps: tuple[str, ...], lists: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {name: json.loads(row[name]) for name in maps}
    return found | {name: tuple(json.loads(row[name])) for name in lists}

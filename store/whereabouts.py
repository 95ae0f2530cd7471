"""Since when a server is where the join finds it at the end of a window: what it counted before is of another place."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, or_, select

from planner.cluster_facts import KubernetesPod
from planner.device_links import PodName, spelled_pod
from planner.readings import Subject
from planner.server_links import ServerDevices, host_of
from planner.serving_readings import ServingFact
from planner.units import GpuUuid
from store.cluster_tables import KubernetesPodRecord, ServerRecord
from store.tables import NO_INSTANCE, Cluster, PodRecord, table_of

_CLUSTERS = table_of(Cluster)
_SERVERS = table_of(ServerRecord)
_ON_DEVICES = table_of(PodRecord)
_PODS = table_of(KubernetesPodRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """When a server came to where it is, and as a clause what was so before."""

    at: datetime
    before: str


class Whereabouts:
    """What changed in a window of the servers' own rows, of the pods on devices, and of the addresses of pods."""

    def __init__(
        self,
        connection: Connection,
        start: datetime,
        end: datetime,
        *,
        cluster: str,
        pods: Iterable[KubernetesPod],
    ) -> None:
        self._start, self._end = start, end
        self._pods = {(pod.namespace, pod.name): pod for pod in pods}
        self._former = _by(_ended(connection, _SERVERS, start, end, cluster), lambda row: row["endpoint"])
        left = _ended(connection, _ON_DEVICES, start, end, cluster)
        self._left = _by(left, lambda row: (row["namespace"], row["name"]))
        self._now = _by(
            _valid(connection, _ON_DEVICES, end, cluster) if left else (), lambda row: (row["namespace"], row["name"])
        )
        had = (row for row in _ended(connection, _PODS, start, end, cluster) if row["pod_ip"])
        self._had_address = _by(had, lambda row: row["pod_ip"].lower())

    @property
    def is_still(self) -> bool:
        """Whether nothing changed at all."""
        started = any(self._in_window(_started_at(pod)) for pod in self._pods.values())
        return not (self._former or self._left or self._had_address or started)

    def move_of(self, fact: ServingFact, found: ServerDevices) -> Move | None:
        """The last move of a server in the window; None where it was all the time where it is."""
        moves = [*self._of_rows(fact)]
        if found.pod is not None:
            moves += [*self._of_pod(found.pod), *self._of_address(fact, found.pod)]
            moves += self._of_devices(found.pod, frozenset(found.chains))
        inside = [move for move in moves if self._in_window(move.at)]
        return max(inside, key=lambda one: one.at, default=None)

    def _of_rows(self, fact: ServingFact) -> Iterator[Move]:
        """The server's own row names another pod, address, machine or GPUs."""
        now = {
            "pod_namespace": fact.pod_namespace,
            "pod_name": fact.pod_name,
            "pod_ip": fact.pod_ip,
            "node": fact.node,
        }
        for row in self._former.get(fact.endpoint, ()):
            if any(row[name] and value and row[name] != value for name, value in now.items()):
                yield Move(at=row["valid_to"], before="discovery named another pod or machine for it")

    def _of_pod(self, name: PodName) -> Iterator[Move]:
        """A pod has done nothing before it started."""
        pod = self._pods.get(name)
        if pod is not None:
            yield Move(at=_started_at(pod), before=f"its pod {spelled_pod(name)} had not started")

    def _of_address(self, fact: ServingFact, name: PodName) -> Iterator[Move]:
        """Another pod had the address at which the server is read."""
        pod = self._pods.get(name)
        for address in {host_of(fact.endpoint), (fact.pod_ip or "").lower()}:
            for row in self._had_address.get(address, ()):
                if pod is None or row["uid"] != pod.uid:
                    other = spelled_pod((row["namespace"], row["name"]))
                    yield Move(at=row["valid_to"], before=f"its address was that of {other}")

    def _of_devices(self, name: PodName, devices: frozenset[Subject]) -> Iterator[Move]:
        """The pod was on another device, or a pod of that name and another uid was there."""
        rows = self._now.get(name, ())
        uids = {row["uid"] for row in rows if row["uid"]}
        for row in self._left.get(name, ()):
            if _subject(row) not in devices or (row["uid"] and uids and row["uid"] not in uids):
                # Between leaving one device and being seen on the next it was on neither.
                came = [one["valid_from"] for one in rows if _subject(one) in devices]
                before = f"its pod {spelled_pod(name)} had other devices"
                yield Move(at=max([row["valid_to"], *came]), before=before)

    def _in_window(self, at: datetime) -> bool:
        return self._start < at <= self._end


def _started_at(pod: KubernetesPod) -> datetime:
    return pod.started_at or pod.created_at


def _subject(row: RowMapping) -> Subject:
    gi_id = None if row["gi_id"] == NO_INSTANCE else row["gi_id"]
    return Subject(gpu_uuid=GpuUuid(row["gpu_uuid"]), gi_id=gi_id)


def _ended(connection: Connection, table: Table, start: datetime, end: datetime, cluster: str) -> list[RowMapping]:
    """Rows that ended in the window."""
    return _rows(connection, table, cluster, table.c.valid_to > start, table.c.valid_to <= end)


def _valid(connection: Connection, table: Table, at: datetime, cluster: str) -> list[RowMapping]:
    columns = table.c
    return _rows(
        connection, table, cluster, columns.valid_from <= at, or_(columns.valid_to.is_(None), columns.valid_to > at)
    )


def _rows(connection: Connection, table: Table, cluster: str, *where: Any) -> list[RowMapping]:
    statement = (
        select(table)
        .join(_CLUSTERS, _CLUSTERS.c.id == table.c.cluster_id)
        .where(_CLUSTERS.c.name == cluster, *where)
        .order_by(table.c.valid_from, table.c.id)
    )
    return list(connection.execute(statement).mappings())


def _by(rows: Iterable[RowMapping], key: Any) -> Mapping[Any, list[RowMapping]]:
    found: defaultdict[Any, list[RowMapping]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return dict(found)

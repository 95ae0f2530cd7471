"""From rows to the join: everything the sources told of one cluster over a window, as `planner.join_facts`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, or_, select

from planner.attribution import Attribution, DeviceWork, link_facts
from planner.cluster_facts import ClusterState
from planner.cost_attribution import CostAttribution
from planner.device_state import STALE_AFTER
from planner.fleet import Pod
from planner.join_facts import DeviceFacts, JoinFacts, ModelUse, ServerFacts
from planner.links import Certainty
from planner.model_uses import adding_up
from planner.readings import Subject
from planner.serving_readings import ServingEngine
from planner.units import GpuUuid, NodeName
from store.cluster_queries import KnownServer, cluster_state_at, servers_at
from store.engine_traffic import (
    ServerTraffic,
    asleep,
    of_one_look,
    running_requests,
    seen_counting,
    traffic_over,
    with_running,
)
from store.gauge_queries import latest_gauges_at
from store.inventory_queries import DeviceName, Inventory
from store.tables import NO_INSTANCE, Cluster, PodRecord, table_of
from store.usage import Measured
from store.usage_queries import Account, accounts
from store.whereabouts import Whereabouts

DEFAULT_DIMENSION = "team"

_CLUSTERS = table_of(Cluster)
_ON_DEVICES = table_of(PodRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedCluster:
    """The join of one cluster: work by device, and the money behind it where it was asked for."""

    cluster: str
    work: Attribution
    costs: CostAttribution | None


def join_facts(
    connection: Connection,
    devices: Sequence[DeviceFacts],
    *,
    cluster: str,
    start: datetime,
    end: datetime,
    dimension: str | None = None,
    aliases: Mapping[str, str] | None = None,
) -> JoinFacts:
    """What is known of one cluster; `devices` are those that its inventory has at `end`.

    With a `dimension` ("team", "user", "tag") also who used the models and for how much, by the source that tells most.
    """
    state = _fresh(cluster_state_at(connection, end, cluster), end)
    account, uses = _uses(connection, cluster, start, end, dimension)
    # A server that was seen in the window counted in it, though it may have gone since.
    known = servers_at(connection, end, cluster=cluster, seen_within=max(end - start, STALE_AFTER))
    told = traffic_over(connection, start, end, cluster=cluster)
    endpoints = {server.fact.endpoint for server in known}
    facts = JoinFacts(
        start=start,
        end=end,
        devices=_named_lately(connection, devices, cluster, end),
        servers=_servers(connection, known, told, cluster=cluster, start=start, end=end),
        strays={endpoint: one.traffic for endpoint, one in told.items() if endpoint not in endpoints},
        nodes=state.nodes if state else None,
        pods=state.pods if state else None,
        claims=state.claimed_devices if state else None,
        uses=uses,
        dimension=account.dimension if account else "",
        told_by=account.told_by if account else None,
        uses_spread=account.spread if account else None,
        aliases=aliases or {},
    )
    return _where_they_were(connection, facts, cluster)


def devices_of(inventory: Inventory, measured: Mapping[DeviceName, Measured]) -> dict[int, list[DeviceFacts]]:
    """The devices of each cluster, by its number: GPU instances where there are any, else the whole GPU."""
    found: defaultdict[int, list[DeviceFacts]] = defaultdict(list)
    for row in inventory.gpus:
        key = (row["cluster_id"], row["gpu_uuid"])
        parts = [(one["gi_id"], one["profile"]) for one in inventory.instances.get(key, ())]
        for gi_id, profile in parts or [(NO_INSTANCE, None)]:
            name = (*key, gi_id)
            usage = measured[name].usage if name in measured else None
            active = usage.metrics.get("sm_active_ratio") if usage else None
            found[key[0]].append(
                DeviceFacts(
                    subject=Subject(gpu_uuid=GpuUuid(key[1]), gi_id=None if gi_id == NO_INSTANCE else gi_id),
                    node=NodeName(row["node"]),
                    pci_bus_id=row["pci_bus_id"],
                    profile=profile,
                    pods=inventory.pods.get(name, ()),
                    shared=name in inventory.shared,
                    mig_uuids=inventory.mig_uuids.get(name, ()),
                    sm_active_ratio=active.mean if active else None,
                )
            )
    return found


def pods_of(seen: tuple[Pod, ...], work: DeviceWork | None) -> tuple[Pod, ...]:
    """The pods that sources of devices saw, by the names that Kubernetes knows them by; else those the join found."""
    if work is None:
        return seen
    if not seen:
        return tuple(
            Pod(namespace=namespace, name=name)
            for (namespace, name), link in sorted(work.pods.items())
            if link.certainty is not Certainty.GUESSED
        )
    named = {
        Pod(namespace=namespace, name=name, container=one.container, uid=one.uid)
        for one, (namespace, name) in zip(seen, work.seen_pods, strict=True)
    }
    # One source names the container, another does not: that is one pod.
    with_container = {(one.namespace, one.name) for one in named if one.container}
    kept = [one for one in named if one.container or (one.namespace, one.name) not in with_container]
    return tuple(sorted(kept, key=lambda one: (one.namespace, one.name, one.container or "", one.uid or "")))


def _fresh(state: ClusterState | None, at: datetime) -> ClusterState | None:
    """A look at Kubernetes that is too old says nothing about where pods are now."""
    return None if state is None or at - state.observed_at > STALE_AFTER else state


def _servers(
    connection: Connection,
    known: Sequence[KnownServer],
    told: Mapping[str, ServerTraffic],
    *,
    cluster: str,
    start: datetime,
    end: datetime,
) -> tuple[ServerFacts, ...]:
    """Every server of the window; one that was not seen lately with what it counted, and why it is nowhere by now."""
    gauges = of_one_look(latest_gauges_at(connection, end, cluster=cluster))
    running, sleeping = running_requests(gauges), asleep(gauges)
    uncounted = [server.fact.endpoint for server in known if server.fact.endpoint not in told]
    once = (
        seen_counting(connection, start, end, cluster=cluster, endpoints=uncounted) if uncounted else frozenset[str]()
    )
    nothing = ServerTraffic(traffic=(), read_s=0.0)
    found: list[ServerFacts] = []
    for server in known:
        endpoint = server.fact.endpoint
        counted = told.get(endpoint, nothing)
        unseen_s = (end - server.fact.observed_at).total_seconds()
        if end - server.fact.observed_at > STALE_AFTER:
            if not counted.traffic and server.fact.engine is not ServingEngine.OLLAMA:
                continue  # seen and not counted: it did nothing worth a share, unlike one that never counts
            ended = f"it was not seen since {server.fact.observed_at:%Y-%m-%d %H:%M} UTC"
            rate_s = counted.read_s + unseen_s
            found.append(
                ServerFacts(
                    fact=server.fact, traffic=counted.traffic, ended=ended, read_s=counted.read_s, rate_s=rate_s
                )
            )
            continue
        found.append(
            ServerFacts(
                fact=server.fact,
                traffic=with_running(counted.traffic, running.get(endpoint, {})),
                is_asleep=endpoint in sleeping,
                read_s=counted.read_s,
                is_read_once=endpoint in once,
            )
        )
    return tuple(found)


def _where_they_were(connection: Connection, facts: JoinFacts, cluster: str) -> JoinFacts:
    """The same with every server that moved in the window told twice: since it is where it is, and before."""
    whereabouts = Whereabouts(connection, facts.start, facts.end, cluster=cluster, pods=facts.pods or ())
    if whereabouts.is_still:
        return facts
    moves = {
        server.fact.endpoint: move
        for server, found in link_facts(facts).servers
        if server.traffic and found.chains and (move := whereabouts.move_of(server.fact, found)) is not None
    }
    by_time: defaultdict[datetime, set[str]] = defaultdict(set)
    for endpoint, move in moves.items():
        by_time[move.at].add(endpoint)
    before: dict[str, ServerTraffic] = {}
    since: dict[str, ServerTraffic] = {}
    for at, endpoints in by_time.items():
        before |= traffic_over(connection, facts.start, at, cluster=cluster, endpoints=endpoints)
        since |= traffic_over(connection, at, facts.end, cluster=cluster, endpoints=endpoints)
    servers: list[ServerFacts] = []
    for server in facts.servers:
        move = moves.get(server.fact.endpoint)
        earlier = before.get(server.fact.endpoint)
        if move is None or earlier is None:
            servers.append(server)
            continue
        later = since.get(server.fact.endpoint, ServerTraffic(traffic=(), read_s=0.0))
        running = {one.model: one.requests_running for one in server.traffic if one.requests_running is not None}
        ended = f"it was counted before {move.at:%H:%M} UTC, when {move.before}"
        rate_s = server.counted_s
        now = replace(server, traffic=with_running(later.traffic, running), read_s=later.read_s, rate_s=rate_s)
        then = ServerFacts(fact=server.fact, traffic=earlier.traffic, ended=ended, read_s=earlier.read_s, rate_s=rate_s)
        servers += [now, then]
    return replace(facts, servers=tuple(servers))


def _named_lately(
    connection: Connection, devices: Sequence[DeviceFacts], cluster: str, end: datetime
) -> tuple[DeviceFacts, ...]:
    """The devices, each knowing which of its pods no source has named for too long."""
    columns = _ON_DEVICES.c
    statement = (
        select(columns.gpu_uuid, columns.gi_id, columns.namespace, columns.name, columns.container, columns.uid)
        .join(_CLUSTERS, _CLUSTERS.c.id == columns.cluster_id)
        .where(
            _CLUSTERS.c.name == cluster,
            columns.valid_from <= end,
            or_(columns.valid_to.is_(None), columns.valid_to > end),
            columns.last_seen < end - STALE_AFTER,
        )
    )
    old: defaultdict[tuple[str, int], set[Pod]] = defaultdict(set)
    for uuid, gi_id, namespace, name, container, uid in connection.execute(statement):
        old[uuid, gi_id].add(Pod(namespace=namespace, name=name, container=container or None, uid=uid))
    if not old:
        return tuple(devices)
    return tuple(
        replace(device, old_pods=frozenset(device.pods) & old.get(_number(device.subject), set())) for device in devices
    )


def _number(subject: Subject) -> tuple[str, int]:
    return subject.gpu_uuid, NO_INSTANCE if subject.gi_id is None else subject.gi_id


def _uses(
    connection: Connection, cluster: str, start: datetime, end: datetime, dimension: str | None
) -> tuple[Account | None, tuple[ModelUse, ...]]:
    """The best account there is, and its uses without totals beside their parts."""
    if dimension is None:
        return None, ()
    told = accounts(connection, start, end, cluster=cluster, dimension=dimension)
    if not told:
        return None, ()
    best = told[0]
    return best, adding_up(best.totals, best.parts, best.dimension).uses

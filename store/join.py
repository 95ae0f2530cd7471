"""From rows to the join: everything the sources told of one cluster over a window, as `planner.join_facts`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from planner.attribution import Attribution, DeviceWork
from planner.cluster_facts import ClusterState
from planner.cost_attribution import CostAttribution
from planner.device_state import STALE_AFTER
from planner.fleet import Pod
from planner.join_facts import DeviceFacts, EngineTraffic, JoinFacts, ModelUse, ServerFacts
from planner.links import Certainty
from planner.model_uses import adding_up
from planner.readings import Subject
from planner.serving_totals import Counted, Total, summed
from planner.units import GpuUuid, NodeName
from store.cluster_queries import cluster_state_at, servers_at
from store.gauge_queries import Gauges, latest_gauges_at
from store.inventory_queries import DeviceName, Inventory
from store.serving_queries import counted_over
from store.tables import NO_INSTANCE
from store.usage import Measured
from store.usage_queries import Account, accounts

DEFAULT_DIMENSION = "team"

_REQUESTS, _PROMPT, _GENERATED = "requests_finished", "prompt_tokens", "generation_tokens"
_AWAKE = "awake"  # the label of `engine_asleep` under which vLLM says that it does not sleep

Key = tuple[str, str]
"""Endpoint and model."""


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
    return JoinFacts(
        start=start,
        end=end,
        devices=tuple(devices),
        servers=_servers(connection, cluster, start, end),
        nodes=state.nodes if state else None,
        pods=state.pods if state else None,
        claims=state.claimed_devices if state else None,
        uses=uses,
        dimension=account.dimension if account else "",
        told_by=account.told_by if account else None,
        uses_spread=account.spread if account else None,
        aliases=aliases or {},
    )


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


def _servers(connection: Connection, cluster: str, start: datetime, end: datetime) -> tuple[ServerFacts, ...]:
    known = servers_at(connection, end, cluster=cluster)
    if not known:
        return ()
    counted = counted_over(connection, start, end, metrics=(_REQUESTS, _PROMPT, _GENERATED), cluster=cluster)
    totals = summed(counted, by=lambda one: (one.subject.endpoint, one.subject.model, one.metric))
    gauges = latest_gauges_at(connection, end, cluster=cluster)
    running = _running(gauges)
    models: defaultdict[str, set[str]] = defaultdict(set)
    for endpoint, model in {_key(one) for one in counted} | running.keys():
        models[endpoint].add(model)
    asleep = _asleep(gauges)
    return tuple(
        ServerFacts(
            fact=server.fact,
            traffic=tuple(
                _traffic(server.fact.endpoint, model, totals, running) for model in sorted(models[server.fact.endpoint])
            ),
            is_asleep=server.fact.endpoint in asleep,
        )
        for server in known
    )


def _key(one: Counted) -> Key:
    return one.subject.endpoint, one.subject.model


def _traffic(
    endpoint: str, model: str, totals: Mapping[tuple[str, str, str], Total], running: Mapping[Key, float]
) -> EngineTraffic:
    found = {name: totals.get((endpoint, model, name)) for name in (_REQUESTS, _PROMPT, _GENERATED)}

    def increment(name: str) -> float | None:
        total = found[name]
        return None if total is None else total.increment

    return EngineTraffic(
        model=model,
        requests=increment(_REQUESTS),
        prompt_tokens=increment(_PROMPT),
        generation_tokens=increment(_GENERATED),
        requests_running=running.get((endpoint, model)),
        covered_s=max((total.covered_s for total in found.values() if total is not None), default=0.0),
    )


def _running(gauges: Sequence[Gauges]) -> dict[Key, float]:
    """Requests that are being worked on, over all ranks."""
    found: defaultdict[Key, float] = defaultdict(float)
    for one in gauges:
        running = one.values.get("requests_running")
        if running is not None:
            found[one.subject.endpoint, one.subject.model] += running.value
    return dict(found)


def _asleep(gauges: Sequence[Gauges]) -> frozenset[str]:
    """Endpoints whose engine sleeps."""
    return frozenset(
        one.subject.endpoint
        for one in gauges
        for (metric, label), seen in one.labelled.items()
        if metric == "engine_asleep" and label != _AWAKE and seen.value >= 1
    )


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

"""Whose work is behind each device: device to pod to serving engine to model, every link with its certainty.

Tokens are put down to a device where it is one engine's alone. An engine on several devices shares its tokens over
them by the SMs that each kept busy, and says so; where that is not known, and on devices that several pods share, they
stay unattributed with the reason. What is put down and what is not adds up to what the engines counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.device_links import DevicePods, PodName, link_devices, spelled_pod
from planner.fleet import DeviceEngine, Pod
from planner.join_facts import DeviceFacts, EngineTraffic, JoinFacts, ServerFacts
from planner.links import Certainty, Conflict, Link
from planner.one_engine import Linked, without_doubles
from planner.pod_places import pods_in_place, with_pods
from planner.readings import Subject
from planner.server_links import ServerDevices, ServerLinker
from planner.serving_readings import ServedModel, ServingEngine

QUANTITIES = ("requests", "prompt_tokens", "generation_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWork:
    """One device with its pods and engines; `not_attributable` says why its work belongs to none of them."""

    subject: Subject
    pods: Mapping[PodName, Link]  # the strongest link to each
    seen_pods: tuple[
        PodName, ...
    ]  # names of `DeviceFacts.pods`, in that order, as Kubernetes knows them; also old ones
    engines: tuple[DeviceEngine, ...]
    not_attributable: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerWork:
    """One server: its devices with the share of its work that is put down to each, or why none is.

    `shares` are empty where `unattributed` says why; else they add up to 1.
    """

    server: ServerFacts
    devices: ServerDevices
    shares: Mapping[Subject, float]
    split: str | None
    unattributed: str | None

    def counted(self, quantity: str) -> float | None:
        """What it counted of requests, prompt_tokens or generation_tokens, all models together."""
        return total(self.server.traffic, quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The join of one cluster over one window."""

    devices: Mapping[Subject, DeviceWork]
    servers: tuple[ServerWork, ...]
    conflicts: tuple[Conflict, ...]
    pod_owners: Mapping[PodName, str]  # what Kubernetes says made a pod, for people: Deployment llama-8b
    strays: Mapping[str, tuple[EngineTraffic, ...]] = field(default_factory=dict)  # by endpoint, of unknown servers

    def attributed(self, quantity: str) -> float:
        """How much of a quantity is put down to devices."""
        return sum((one.counted(quantity) or 0.0) * sum(one.shares.values()) for one in self.servers)

    def unattributed(self, quantity: str) -> float:
        """How much of it is not."""
        of_servers = sum(one.counted(quantity) or 0.0 for one in self.servers if one.unattributed is not None)
        return of_servers + sum(total(traffic, quantity) or 0.0 for traffic in self.strays.values())


def total(traffic: tuple[EngineTraffic, ...], quantity: str) -> float | None:
    """The sum over models of what is counted; None where nothing is."""
    counted = [value for one in traffic if (value := getattr(one, quantity)) is not None]
    return sum(counted) if counted else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The pods of every device and the devices of every server; `in_place` are the pods that can be on a device now."""

    in_place: Mapping[Subject, tuple[Pod, ...]]
    pods: Mapping[Subject, DevicePods]
    servers: tuple[Linked, ...]
    conflicts: tuple[Conflict, ...]


def link_facts(facts: JoinFacts) -> Links:
    """Who belongs to whom, whatever was counted; a server that has ended belongs to nothing."""
    in_place, misplaced = pods_in_place(facts)
    placed = with_pods(facts, in_place)
    pods = link_devices(placed)
    linker = ServerLinker(placed, pods)
    servers = tuple(
        (
            server,
            linker.link(server.fact)
            if server.ended is None
            else ServerDevices(pod=None, chains={}, unlinked=server.ended),
        )
        for server in sorted(facts.servers, key=lambda one: (one.fact.endpoint, one.ended or ""))
    )
    return Links(in_place=in_place, pods=pods, servers=servers, conflicts=misplaced)


def attribute(facts: JoinFacts) -> Attribution:
    """Join everything that is known of one cluster; the order in which it is told does not matter."""
    facts = replace(facts, devices=tuple(sorted(facts.devices, key=lambda one: str(one.subject))))
    links = link_facts(facts)
    pods = links.pods
    linked, doubles = without_doubles(links.servers)
    crowded = _crowded_pods(linked)
    devices = {device.subject: device for device in facts.devices}
    servers = tuple(_server_work(server, found, pods, devices, crowded) for server, found in linked)
    engines: dict[Subject, list[DeviceEngine]] = {subject: [] for subject in devices}
    for one in servers:
        for subject in one.devices.chains:
            engines[subject].append(_device_engine(one, subject, facts, one.devices.pod in crowded))
    return Attribution(
        devices={
            subject: DeviceWork(
                subject=subject,
                pods=found.pods,
                seen_pods=_seen_pods(devices[subject], links.in_place[subject], found.seen),
                engines=tuple(sorted(engines[subject], key=lambda one: one.endpoint)),
                not_attributable=found.not_attributable,
            )
            for subject, found in pods.items()
        },
        servers=servers,
        conflicts=(
            *(conflict for found in pods.values() for conflict in found.conflicts),
            *(conflict for one in servers for conflict in one.devices.conflicts),
            *links.conflicts,
            *doubles,
        ),
        strays=facts.strays,
        pod_owners={
            (pod.namespace, pod.name): f"{pod.owner_kind} {pod.owner_name}"
            for pod in facts.pods or ()
            if pod.owner_kind and pod.owner_name
        },
    )


def _seen_pods(device: DeviceFacts, in_place: tuple[Pod, ...], names: tuple[PodName, ...]) -> tuple[PodName, ...]:
    """The names of all pods of a device: of those that can be there now, as they were linked."""
    linked = dict(zip(in_place, names, strict=True))
    return tuple(linked.get(pod, (pod.namespace, pod.name)) for pod in device.pods)


def _crowded_pods(linked: Sequence[Linked]) -> frozenset[PodName]:
    """Pods with several devices and several servers: which server is on which device, nobody tells."""
    servers: dict[PodName, int] = {}
    devices: dict[PodName, set[Subject]] = {}
    for _, found in linked:
        if found.pod is not None and not _is_named_by_server(found):
            servers[found.pod] = servers.get(found.pod, 0) + 1
            devices.setdefault(found.pod, set()).update(found.chains)
    return frozenset(pod for pod, count in servers.items() if count > 1 and len(devices[pod]) > 1)


def _is_named_by_server(found: ServerDevices) -> bool:
    return any(len(chain) == 1 for chain in found.chains.values())


def _server_work(
    server: ServerFacts,
    found: ServerDevices,
    pods: Mapping[Subject, DevicePods],
    devices: Mapping[Subject, DeviceFacts],
    crowded: frozenset[PodName],
) -> ServerWork:
    shares: dict[Subject, float] = {}
    split: str | None = None
    why = found.unlinked
    if why is None:
        shared = [reason for subject in found.chains if (reason := pods[subject].not_attributable)]
        if shared:
            why = f"a device of it cannot be attributed: {shared[0]}"
        elif found.pod in crowded and not _is_named_by_server(found):
            why = (
                f"its pod {spelled_pod(found.pod)} has several devices and several servers, "
                "and nothing tells which is where"
            )
        else:
            shares, split, why = _shares([devices[subject] for subject in found.chains])
    return ServerWork(server=server, devices=found, shares=shares, split=split, unattributed=why)


def _shares(devices: list[DeviceFacts]) -> tuple[dict[Subject, float], str | None, str | None]:
    """The share of each device, by what they were split, and else why they cannot be."""
    if len(devices) == 1:
        return {devices[0].subject: 1.0}, None, None
    active = [device.sm_active_ratio for device in devices if device.sm_active_ratio is not None]
    if len(active) < len(devices):
        return {}, None, f"it runs on {len(devices)} devices, and not all of them report how busy their SMs were"
    if sum(active) <= 0:
        return {}, None, f"it runs on {len(devices)} devices, and the SMs of none of them were busy"
    split = f"split over {len(devices)} devices by the SM activity of each, since no engine counts tokens by device"
    shares = {device.subject: ratio / sum(active) for device, ratio in zip(devices, active, strict=True)}
    return shares, split, None


def _device_engine(work: ServerWork, subject: Subject, facts: JoinFacts, is_crowded: bool) -> DeviceEngine:
    fact, traffic = work.server.fact, work.server.traffic
    covered_s = work.server.counted_s
    names, is_loaded = _models(fact.engine, fact.models, work.server)
    return DeviceEngine(
        endpoint=fact.endpoint,
        engine=fact.engine,
        version=fact.version,
        models=names,
        is_loaded=is_loaded,
        pod=None if work.devices.pod is None else spelled_pod(work.devices.pod),
        certainty=Certainty.GUESSED if is_crowded and not _is_named_by_server(work.devices) else work.devices.certainty,
        links=tuple(link.sentence for link in work.devices.chains[subject]),
        devices=len(work.devices.chains),
        share_ratio=work.shares.get(subject),
        split=work.split,
        requests=work.counted("requests"),
        prompt_tokens=work.counted("prompt_tokens"),
        generation_tokens=work.counted("generation_tokens"),
        requests_running=total(traffic, "requests_running"),
        covered_s=covered_s,
        covered_ratio=min(covered_s / facts.window_s, 1.0) if facts.window_s > 0 else 0.0,
        is_read_once=work.server.is_read_once,
    )


def _models(
    engine: ServingEngine, offered: tuple[ServedModel, ...], server: ServerFacts
) -> tuple[tuple[str, ...], bool | None]:
    """The models of a server, of Ollama those that are loaded, and whether any is in memory."""
    if server.is_asleep:
        return tuple(sorted(model.name for model in offered)), False
    told = [model.is_loaded for model in offered if model.is_loaded is not None]
    if told or engine is ServingEngine.OLLAMA:
        loaded = tuple(sorted(model.name for model in offered if model.is_loaded))
        return loaded, bool(loaded)
    counted = {one.model for one in server.traffic if one.model}
    # An engine that answers has its model in memory: it loads at its start and never lets go.
    return tuple(sorted({model.name for model in offered} | counted)), True

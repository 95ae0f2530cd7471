"""Who is behind a device: the chain from it to pod, engine, model and team, each link with what it rests on."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from planner.attribution import ServerWork
from planner.cost_attribution import CostAttribution, UsePart
from planner.device_links import PodName, spelled_device, spelled_pod
from planner.fleet import Device, DeviceEngine, Gpu
from planner.join_facts import DeviceFacts
from planner.links import Certainty, Conflict, Link
from planner.readings import Subject
from planner.token_rates import why_no_device_rate, why_no_rate
from store.fleet_snapshot import JoinedFleet
from store.join import JoinedCluster

NO_OWNER = "all together, no owner is told"
REST = "the rest, no owner is told"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One link of a chain: what it leads to and what it rests on; without a certainty it leads nowhere."""

    hop: str
    target: str
    rests_on: str
    certainty: Certainty | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamUse:
    """What an account of use puts down to this device for one owner, over the window; None is not told.

    `share_ratio` is how much of the whole that is, None where several wholes are in it with different shares.
    `unpriced_requests` are those whose cost nobody tells, where it is told of the others: the cost is of a part only.
    """

    owner: str
    model: str  # as the gateway names it
    requests: float | None
    tokens: float | None
    cost_usd: float | None
    certainty: Certainty
    splits: tuple[str, ...]
    share_ratio: float | None
    unpriced_requests: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeUse:
    """What all of `of` did together for one owner, of which no share of this device is known."""

    owner: str
    model: str  # as the gateway names it
    requests: float | None
    tokens: float | None
    cost_usd: float | None
    of: str
    reason: str
    unpriced_requests: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChain:
    """One engine on the device: the steps to its models, and who used them; `wholes` are no shares of this device."""

    engine: DeviceEngine
    steps: tuple[Step, ...]
    tokens_per_s: float | None
    no_rate: str | None
    uses: tuple[TeamUse, ...]
    wholes: tuple[WholeUse, ...]
    no_uses: str | None  # why no team is told, as a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChain:
    """All chains of one device, and what contradicts itself in them.

    `pods` are steps to pods that no engine of `engines` is in.
    """

    title: str
    tokens_per_s: float | None
    no_rate: str | None
    not_attributable: str | None
    pods: tuple[Step, ...]
    engines: tuple[EngineChain, ...]
    conflicts: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known to be on it."""
        return not (self.pods or self.engines or self.conflicts or self.not_attributable)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuChains:
    """The chains of every device of one GPU; `told_by` is the source of use and cost, `owners` what it calls them.

    `spread` says what was assumed where it tells longer spans than the window, as a clause.
    """

    devices: tuple[DeviceChain, ...]
    told_by: str | None
    owners: str
    spread: str | None

    @property
    def shown(self) -> tuple[DeviceChain, ...]:
        """Devices on which something is."""
        return tuple(one for one in self.devices if not one.is_empty)

    @property
    def has_uses(self) -> bool:
        """Whether anything that `told_by` tells is shown, and so whether what was assumed for it matters here."""
        return any(engine.uses or engine.wholes for device in self.devices for engine in device.engines)

    @property
    def empty_titles(self) -> tuple[str, ...]:
        """Devices on which nothing is known to be."""
        return tuple(one.title for one in self.devices if one.is_empty)


def gpu_chains(joined: JoinedFleet, uuid: str) -> GpuChains | None:
    """The chains of one GPU; None where the fleet does not have it."""
    found = next(((node.cluster, gpu) for node in joined.fleet.nodes for gpu in node.gpus if gpu.uuid == uuid), None)
    if found is None:
        return None
    cluster, gpu = found
    known = next((one for one in joined.clusters if one.cluster == cluster), None)
    costs = None if known is None else known.costs
    return GpuChains(
        devices=tuple(_device_chain(device, known) for device in _devices(gpu)),
        told_by=None if costs is None else costs.told_by,
        owners="" if costs is None else costs.dimension,
        spread=None if costs is None else costs.spread,
    )


def _devices(gpu: Gpu) -> Iterable[Device]:
    return [Device(gpu=gpu, instance=one) for one in gpu.instances] or [Device(gpu=gpu, instance=None)]


def _device_chain(device: Device, known: JoinedCluster | None) -> DeviceChain:
    instance = device.instance
    subject = Subject(gpu_uuid=device.gpu.uuid, gi_id=None if instance is None else instance.gi_id)
    title = "Whole GPU" if instance is None else f"{instance.profile}#{instance.gi_id}"
    work = None if known is None else known.work.devices.get(subject)
    pods = {} if work is None else work.pods
    engines = () if known is None else tuple(_engine_chain(one, subject, known) for one in device.engines)
    in_chains = {engine.engine.pod for engine in engines}
    owners = {} if known is None else known.work.pod_owners
    return DeviceChain(
        title=title,
        tokens_per_s=device.tokens_per_s,
        no_rate=why_no_device_rate(device),
        not_attributable=device.not_attributable,
        pods=tuple(
            step
            for name, link in sorted(pods.items())
            if spelled_pod(name) not in in_chains
            for step in (_step("Pod", spelled_pod(name), link), *_owner_step(name, owners))
        ),
        engines=engines,
        conflicts=() if known is None else _conflicts(device, subject, known, {spelled_pod(name) for name in pods}),
    )


def _step(hop: str, target: str, link: Link) -> Step:
    but = "; something else says otherwise" if link.is_contradicted else ""
    return Step(hop=hop, target=target, rests_on=f"{link.reason.value}{but}", certainty=link.certainty)


def _owner_step(pod: PodName | None, owners: Mapping[PodName, str]) -> tuple[Step, ...]:
    """What made a pod, where Kubernetes tells it."""
    if pod is None or pod not in owners:
        return ()
    target = f"{owners[pod]} in namespace {pod[0]}"
    return (
        Step(hop="Workload", target=target, rests_on="Kubernetes names it for this pod", certainty=Certainty.CERTAIN),
    )


def _engine_chain(engine: DeviceEngine, subject: Subject, known: JoinedCluster) -> EngineChain:
    server = next(
        one
        for one in known.work.servers
        if one.server.fact.endpoint == engine.endpoint and subject in one.devices.chains
    )
    uses, no_uses, names = _uses(engine, subject, known.costs)
    owners = known.work.pod_owners
    return EngineChain(
        engine=engine,
        steps=(*_way(engine, server, subject, owners), _model_step(engine), *names),
        tokens_per_s=engine.device_tokens_per_s,
        no_rate=None if engine.device_tokens_per_s is not None else server.unattributed or why_no_rate(engine),
        uses=uses,
        wholes=_wholes(engine, known.costs),
        no_uses=no_uses,
    )


def _way(engine: DeviceEngine, server: ServerWork, subject: Subject, owners: Mapping[PodName, str]) -> tuple[Step, ...]:
    """From the device to the engine, through its pod where the chain goes that way."""
    chain = server.devices.chains[subject]
    spelled = f"{engine.engine.value}{f' {engine.version}' if engine.version else ''} at {engine.endpoint}"
    if len(chain) == 1:
        return (_step("Engine", spelled, chain[0]),)
    pod = _step("Pod", chain[0].target, chain[0])
    return (pod, *_owner_step(server.devices.pod, owners), _step("Engine", spelled, chain[1]))


def _model_step(engine: DeviceEngine) -> Step:
    if not engine.models:
        return Step(hop="Model", target="none", rests_on="the engine says that no model is loaded", certainty=None)
    rests_on = "the engine names it" if engine.is_loaded is not False else "the engine offers it, and sleeps"
    return Step(hop="Model", target=", ".join(engine.models), rests_on=rests_on, certainty=Certainty.CERTAIN)


def _uses(
    engine: DeviceEngine, subject: Subject, costs: CostAttribution | None
) -> tuple[tuple[TeamUse, ...], str | None, tuple[Step, ...]]:
    """Who used its models, else why nobody is told, and the steps to the gateway's names of them."""
    if costs is None or costs.told_by is None:
        return (), "No source tells who used its models.", ()
    links = [link for link in costs.links if link.target in engine.models]
    names = tuple(_step("Gateway", f"{link.source} in {costs.told_by}", link) for link in links)
    parts = [part for part in costs.parts if part.subject == subject and part.endpoint == engine.endpoint]
    if parts:
        return _by_owner(parts), None, names
    gateway_names = {link.source for link in links}
    reasons = dict.fromkeys(rest.reason for rest in costs.unattributed if rest.use.model in gateway_names)
    if reasons:
        return (), f"What {costs.told_by} tells of it is put down to no device: {'; '.join(reasons)}.", names
    return (), f"{costs.told_by} tells no use of its models in this window.", names


def _by_owner(parts: Iterable[UsePart]) -> tuple[TeamUse, ...]:
    grouped: defaultdict[tuple[str, str], list[UsePart]] = defaultdict(list)
    for part in parts:
        grouped[part.use.owner, part.use.model].append(part)
    nobody = REST if any(owner for owner, _ in grouped) else NO_OWNER
    uses = [
        TeamUse(
            owner=owner or nobody,
            model=model,
            requests=_summed(one.quantity("requests") for one in group),
            tokens=_summed(one.quantity(name) for one in group for name in ("input_tokens", "output_tokens")),
            cost_usd=_summed(one.quantity("cost_usd") for one in group),
            certainty=max((one.certainty for one in group), key=lambda one: one.rank),
            splits=tuple(dict.fromkeys(split for one in group for split in one.splits)),
            share_ratio=group[0].share_ratio if len({one.share_ratio for one in group}) == 1 else None,
            unpriced_requests=_summed(one.quantity("unpriced_requests") for one in group),
        )
        for (owner, model), group in grouped.items()
    ]
    return tuple(sorted(uses, key=lambda one: (-(one.tokens or 0.0), one.owner, one.model)))


def _wholes(engine: DeviceEngine, costs: CostAttribution | None) -> tuple[WholeUse, ...]:
    """What this engine did together with others, or on several devices, and nothing tells how much of it here."""
    left = [one for one in costs.unattributed if engine.endpoint in one.endpoints] if costs is not None else []
    nobody = REST if any(one.use.owner for one in left) else NO_OWNER
    found = [
        WholeUse(
            owner=one.use.owner or nobody,
            model=one.use.model,
            requests=one.quantity("requests"),
            tokens=_summed(one.quantity(name) for name in ("input_tokens", "output_tokens")),
            cost_usd=one.quantity("cost_usd"),
            of=f"{len(one.endpoints)} servers" if len(one.endpoints) > 1 else "this server",
            reason=one.reason,
            unpriced_requests=one.quantity("unpriced_requests"),
        )
        for one in left
    ]
    return tuple(sorted(found, key=lambda one: (-(one.tokens or 0.0), one.owner, one.model)))


def _summed(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) if told else None


def _conflicts(device: Device, subject: Subject, known: JoinedCluster, pods: set[str]) -> tuple[str, ...]:
    """Sentences of conflicts that name the device, one of its pods, engines or models."""
    names = {spelled_device(DeviceFacts(subject=subject, node=device.gpu.node)), *pods}
    names |= {engine.endpoint for engine in device.engines}
    of_models = () if known.costs is None else known.costs.conflicts
    found = [one for one in known.work.conflicts if _names(one) & names]
    found += [one for one in of_models if _names(one) & set(device.served_models)]
    return tuple(dict.fromkeys(one.sentence for one in found))


def _names(conflict: Conflict) -> set[str]:
    return {conflict.subject, *(name for link in conflict.links for name in (link.source, link.target))}

"""A scenario as text: JSON for the store, and the same JSON, compressed, for the address of the page.

An address comes from anybody: its size is bounded before and after it is unpacked, every field has a type and a limit,
unknown fields are refused, and boards are looked up in the catalogue. Whether the problem makes sense is checked where
every problem is checked.
"""

import base64
import binascii
import json
import zlib
from collections import Counter
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dashboard.scenario import NodeGroup, Request, Scenario, ScenarioInvalid
from planner.catalog import load_catalog
from planner.errors import PlannerError
from planner.hardware import PlacedInstance, Placement
from planner.mig.fleet_problem import FleetDemand
from planner.mig.measured_fleet import LeftOut, MeasuredFleet, MeasuredGpu, MeasuredInstance, MeasuredWorkload
from planner.mig.plan import Mode
from planner.mig.problem import Reserve, Rules, Spread, Upsize
from planner.mig_exceptions import board_under

VERSION = 1
LINK_LIMIT = 30_000
"""Characters of a scenario in an address. Browsers take more; servers in between often refuse a head above 32 KiB."""

JSON_LIMIT_BYTES = 4 * 1024 * 1024
_TOO_LONG = "The link holds more than a scenario may: open a saved scenario by its name instead."
_BROKEN = "The scenario in the link is damaged, it may have been cut off: ask for the link again."

Name = Annotated[str, StringConstraints(max_length=400)]
Sentence = Annotated[str, StringConstraints(max_length=2_000)]
Count = Annotated[int, Field(ge=0, le=100_000)]
Money = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Gpu(_Body):
    id: Name
    node: Name
    index: Count | None = None
    board: Count  # in `boards`
    mig: bool | None = None
    cut: list[tuple[Name, Annotated[int, Field(ge=0, le=64)] | None, Count | None]] = []  # the last: in `work`
    whole: Count | None = None  # in `work`


class _Work(_Body):
    id: Name
    profile: Name | None = None
    needed: Name | None = None
    service: Name | None = None
    tenant: Name | None = None
    small: bool = False


class _Fleet(_Body):
    at: Name
    cluster: Name | None = None
    boards: list[tuple[Name, Name | None]]  # with the driver version
    gpus: Annotated[list[_Gpu], Field(max_length=20_000)]
    work: Annotated[list[_Work], Field(max_length=50_000)]
    left_out: list[tuple[list[Name], Sentence]] = []
    cautions: list[Sentence] = []


class _Rules(_Body):
    single: list[Name] = []
    spread: dict[Name, Literal["gpu", "node"]] = {}
    isolated: list[Name] = []
    reserves: list[tuple[Name, Count]] = []
    node_loss: bool = False
    upsizes: list[tuple[Name, list[Name], Money]] = []
    untouchable_gpus: list[Name] = []
    untouchable_nodes: list[Name] = []
    stay_on_board: bool = False
    max_moves: Count | None = None


class _Scenario(_Body):
    version: Literal[1]
    title: Annotated[str, StringConstraints(max_length=80)] = ""
    mode: Name = Mode.INITIAL.value
    fleet: _Fleet | None = None
    demand: Name = FleetDemand.AS_IT_RUNS.value
    without_nodes: list[Name] = []
    groups: Annotated[list[tuple[Name, Name, Count, Count]], Field(max_length=200)] = []
    elastic_boards: list[Name] = []
    elastic_gpus_per_node: Annotated[int, Field(ge=1, le=72)] = 8
    requests: Annotated[list[tuple[Name, Count, Name | None, Name | None]], Field(max_length=1_000)] = []
    by_hand: dict[Name, list[tuple[Name, Count, Count]]] = {}
    pinned: list[Name] = []
    rules: _Rules = _Rules()
    prices: dict[Name, Money] = {}
    time_limit_s: Annotated[float, Field(gt=0, le=600)] = 60.0


def to_json(scenario: Scenario) -> str:
    """The scenario as text that `from_json` reads; equal scenarios give equal text."""
    return json.dumps(
        _body(scenario).model_dump(exclude_defaults=True) | {"version": VERSION},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )


def from_json(text: str) -> Scenario:
    """The scenario of a text; raises ScenarioInvalid."""
    if len(text) > JSON_LIMIT_BYTES:
        raise ScenarioInvalid(_TOO_LONG)
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ScenarioInvalid(_BROKEN) from error
    version = told.get("version") if isinstance(told, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise ScenarioInvalid("The scenario was written by a newer gpufleet than this one: update gpufleet.")
    try:
        return _scenario(_Scenario.model_validate_json(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ScenarioInvalid(f"The scenario is not one that gpufleet wrote: {where}: {first['msg']}.") from error
    except PlannerError as error:
        raise ScenarioInvalid(f"The scenario cannot be planned: {error}") from error


def to_link(scenario: Scenario) -> str | None:
    """The scenario for an address; None where it is too long for one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    packed = packer.compress(to_json(scenario).encode("utf-8", "surrogatepass")) + packer.flush()
    link = f"{VERSION}.{base64.urlsafe_b64encode(packed).decode('ascii').rstrip('=')}"
    return link if len(link) <= LINK_LIMIT else None


def from_link(link: str) -> Scenario:
    """The scenario of an address; raises ScenarioInvalid."""
    if len(link) > LINK_LIMIT:
        raise ScenarioInvalid(_TOO_LONG)
    version, dot, packed = link.partition(".")
    if version != str(VERSION):
        if dot and version.isascii() and version.isdigit() and len(version) < 4:
            raise ScenarioInvalid(f"The link is of version {version}; this gpufleet reads version {VERSION}.")
        raise ScenarioInvalid(_BROKEN)
    try:
        compressed = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj(-15)
        text = unpacker.decompress(compressed, JSON_LIMIT_BYTES)
        if unpacker.unconsumed_tail:
            raise ScenarioInvalid(_TOO_LONG)
        if not unpacker.eof or unpacker.unused_data:
            raise ScenarioInvalid(_BROKEN)
        return from_json(text.decode("utf-8"))
    except (binascii.Error, zlib.error, ValueError) as error:
        if isinstance(error, ScenarioInvalid):
            raise
        raise ScenarioInvalid(_BROKEN) from error


def _body(scenario: Scenario) -> _Scenario:
    rules = scenario.rules
    return _Scenario(
        version=1,
        title=scenario.title,
        mode=scenario.mode.value,
        fleet=_fleet_body(scenario.fleet) if scenario.fleet else None,
        demand=scenario.demand.value,
        without_nodes=sorted(scenario.without_nodes),
        groups=[(group.name, group.board, group.nodes, group.gpus_per_node) for group in scenario.groups],
        elastic_boards=list(scenario.elastic_boards),
        elastic_gpus_per_node=scenario.elastic_gpus_per_node,
        requests=[(one.profile, one.count, one.service, one.tenant) for one in scenario.requests],
        by_hand={
            gpu: [(placed.profile, placed.placement.start, placed.placement.size) for placed in layout]
            for gpu, layout in scenario.by_hand.items()
        },
        pinned=sorted(scenario.pinned),
        rules=_Rules(
            single=sorted(rules.single_nodes),
            spread={service: spread.value for service, spread in rules.spread.items()},
            isolated=sorted(rules.isolated_tenants),
            reserves=[(reserve.profile, reserve.count) for reserve in rules.reserves],
            node_loss=rules.survive_node_loss,
            upsizes=[(upsize.profile, list(upsize.to), float(upsize.price)) for upsize in rules.upsizes],
            untouchable_gpus=sorted(rules.untouchable_gpus),
            untouchable_nodes=sorted(rules.untouchable_nodes),
            stay_on_board=rules.stay_on_board,
            max_moves=rules.max_moves,
        ),
        prices={board: float(price) for board, price in scenario.prices.items()},
        time_limit_s=scenario.time_limit_s,
    )


def _fleet_body(fleet: MeasuredFleet) -> _Fleet:
    boards = list(dict.fromkeys((gpu.board.name, gpu.driver_version) for gpu in fleet.gpus))
    number_of = {workload.id: number for number, workload in enumerate(fleet.workloads)}
    return _Fleet(
        at=fleet.taken_at.isoformat(),
        cluster=fleet.cluster,
        boards=boards,
        gpus=[
            _Gpu(
                id=gpu.id,
                node=gpu.node,
                index=gpu.index,
                board=boards.index((gpu.board.name, gpu.driver_version)),
                mig=gpu.mig_enabled,
                cut=[
                    (i.profile, i.start, None if i.workload is None else number_of[i.workload]) for i in gpu.instances
                ],
                whole=None if gpu.whole is None else number_of[gpu.whole],
            )
            for gpu in fleet.gpus
        ],
        work=[
            _Work(id=w.id, profile=w.profile, needed=w.needed, service=w.service, tenant=w.tenant, small=w.is_too_small)
            for w in fleet.workloads
        ],
        left_out=[(list(left.gpus), left.reason) for left in fleet.left_out],
        cautions=list(fleet.cautions),
    )


def _scenario(body: _Scenario) -> Scenario:
    try:
        mode, demand = Mode(body.mode), FleetDemand(body.demand)
        fleet = _fleet(body.fleet) if body.fleet else None
    except (ValueError, IndexError) as error:
        raise ScenarioInvalid(_BROKEN) from error
    for name in (*(group[1] for group in body.groups), *body.elastic_boards, *body.prices):
        load_catalog().board(name)
    rules = body.rules
    return Scenario(
        title=body.title,
        mode=mode,
        fleet=fleet,
        demand=demand,
        without_nodes=frozenset(body.without_nodes),
        groups=tuple(NodeGroup(name=n, board=b, nodes=nodes, gpus_per_node=g) for n, b, nodes, g in body.groups),
        elastic_boards=tuple(body.elastic_boards),
        elastic_gpus_per_node=body.elastic_gpus_per_node,
        requests=tuple(Request(profile=p, count=c, service=s, tenant=t) for p, c, s, t in body.requests),
        by_hand={
            gpu: tuple(PlacedInstance(profile, Placement(start, size)) for profile, start, size in layout)
            for gpu, layout in body.by_hand.items()
        },
        pinned=frozenset(body.pinned),
        rules=Rules(
            single_nodes=frozenset(rules.single),
            spread={service: Spread(spread) for service, spread in rules.spread.items()},
            isolated_tenants=frozenset(rules.isolated),
            reserves=tuple(Reserve(profile=profile, count=count) for profile, count in rules.reserves),
            survive_node_loss=rules.node_loss,
            upsizes=tuple(Upsize(profile=p, to=tuple(to), price=price) for p, to, price in rules.upsizes),
            untouchable_gpus=frozenset(rules.untouchable_gpus),
            untouchable_nodes=frozenset(rules.untouchable_nodes),
            stay_on_board=rules.stay_on_board,
            max_moves=rules.max_moves,
        ),
        prices=dict(body.prices),
        time_limit_s=body.time_limit_s,
    )


def _fleet(body: _Fleet) -> MeasuredFleet:
    boards = [board_under(load_catalog().board(name), driver_version=driver) for name, driver in body.boards]
    ids = [work.id for work in body.work]
    fleet = MeasuredFleet(
        taken_at=datetime.fromisoformat(body.at),
        cluster=body.cluster,
        gpus=tuple(
            MeasuredGpu(
                id=gpu.id,
                node=gpu.node,
                index=gpu.index,
                board=boards[gpu.board],
                driver_version=body.boards[gpu.board][1],
                mig_enabled=gpu.mig,
                instances=tuple(
                    MeasuredInstance(profile=profile, start=start, workload=None if work is None else ids[work])
                    for profile, start, work in gpu.cut
                ),
                whole=None if gpu.whole is None else ids[gpu.whole],
            )
            for gpu in body.gpus
        ),
        workloads=tuple(
            MeasuredWorkload(
                id=w.id, profile=w.profile, needed=w.needed, service=w.service, tenant=w.tenant, is_too_small=w.small
            )
            for w in body.work
        ),
        left_out=tuple(LeftOut(gpus=tuple(gpus), reason=reason) for gpus, reason in body.left_out),
        cautions=tuple(body.cautions),
    )
    held = Counter(name for gpu in fleet.gpus for name in (gpu.whole, *(one.workload for one in gpu.instances)) if name)
    if fleet.taken_at.tzinfo is None or held != Counter(set(ids)) or len(held) != len(ids):
        raise ValueError
    return fleet

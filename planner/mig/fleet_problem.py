"""The measured fleet as a planning problem, with one of two demands: as it runs, or as it was measured to need.

As measured, a workload that needs less than it has asks for the smaller profile and may stay where it is, at no price
(an upsize rule from what it needs to what it has): it moves only where that saves a GPU. What cannot be said like that,
work on a whole GPU that a profile could hold and work that needs more than it has, waits to be placed anew: its present
device is taken as empty, and a caution says that it has to be stopped there. Where a mode places nothing that waits,
such work keeps what it has.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from planner.catalog import find_profile
from planner.fleet import Fleet
from planner.hardware import Board
from planner.mig.measured_fleet import MeasuredFleet, MeasuredGpu, MeasuredWorkload, measured_fleet
from planner.mig.order import natural_key
from planner.mig.problem import Problem, ProblemGpu, Rules, RunningInstance, Upsize, Workload
from planner.need import AdviceSettings
from planner.sentences import spelled_count


class FleetDemand(StrEnum):
    """What is asked for each workload of the measured fleet."""

    AS_IT_RUNS = "as-it-runs"  # the profile it runs on
    AS_MEASURED = "as-measured"  # the smallest profile that provides what was measured, with headroom


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetProblem:
    """The problem, and what it took for granted. `placed_anew` are workloads that run and wait in the problem."""

    problem: Problem
    placed_anew: tuple[str, ...]
    cautions: tuple[str, ...]


def problem_from_fleet(
    fleet: Fleet,
    *,
    cluster: str | None = None,
    demand: FleetDemand = FleetDemand.AS_IT_RUNS,
    places_anew: bool = True,
    settings: AdviceSettings | None = None,
) -> Problem:
    """The fleet, or one of its clusters, as a problem without rules; `measured_fleet` tells what was left out."""
    return fleet_problem(
        measured_fleet(fleet, cluster=cluster, settings=settings), demand, places_anew=places_anew
    ).problem


def fleet_problem(
    measured: MeasuredFleet,
    demand: FleetDemand = FleetDemand.AS_IT_RUNS,
    *,
    without_nodes: Collection[str] = (),
    pinned: Collection[str] = (),
    places_anew: bool = True,
) -> FleetProblem:
    """The measured fleet as a problem. What runs on `without_nodes` waits to be placed on the others.

    Work that holds a whole GPU of such a node, and needs it, is in no problem: a caution names it. `places_anew` is
    whether the mode places what waits.
    """
    by_id = {workload.id: workload for workload in measured.workloads}
    boards = {name: gpu.board for gpu in measured.gpus for name in _holders(gpu)}
    asked = {name: _asked(workload, demand) for name, workload in by_id.items()}
    could_move = {name for name, workload in by_id.items() if not _stays(workload, asked[name], boards[name])}
    if demand is FleetDemand.AS_IT_RUNS or places_anew:
        kept = 0
    else:
        kept = sum(by_id[name].needed is not None for name in could_move)
        asked |= {name: by_id[name].profile for name in could_move}
    stays_sized = {name for name, workload in by_id.items() if _stays(workload, asked[name], boards[name])}
    gpus: list[ProblemGpu] = []
    lost: list[str] = []
    running: set[str] = set()
    for gpu in measured.gpus:
        if gpu.node in without_nodes:
            lost += [gpu.whole] if gpu.whole is not None and asked[gpu.whole] is None else []
            continue
        occupied = gpu.whole is not None and asked[gpu.whole] is None
        instances = tuple(
            RunningInstance(
                profile=one.profile,
                start=one.start,
                workloads=(one.workload,) if one.workload is not None and one.workload in stays_sized else (),
            )
            for one in gpu.instances
        )
        running.update(name for one in instances for name in one.workloads)
        gpus.append(
            ProblemGpu(
                id=gpu.id,
                node=gpu.node,
                board=gpu.board,
                instances=instances,
                mig_enabled=gpu.mig_enabled,
                occupied_whole=occupied,
                driver=gpu.driver_version,
                index=gpu.index,
            )
        )
    workloads = tuple(
        Workload(
            id=workload.id,
            profile=profile,
            service=workload.service,
            tenant=workload.tenant,
            pinned=workload.id in pinned and workload.id in running,
        )
        for workload in measured.workloads
        if (profile := asked[workload.id]) is not None
    )
    upsizes = _upsizes(measured, asked, running) if demand is FleetDemand.AS_MEASURED else ()
    on_removed = {name for gpu in measured.gpus if gpu.node in without_nodes for name in _holders(gpu)}
    placed_anew = tuple(w.id for w in workloads if w.id not in running and w.id not in on_removed)
    return FleetProblem(
        problem=Problem(gpus=tuple(gpus), workloads=workloads, rules=Rules(upsizes=upsizes)),
        placed_anew=placed_anew,
        cautions=(
            *_cautions(demand, by_id, placed_anew, lost),
            *_kept(kept),
        ),
    )


def _asked(workload: MeasuredWorkload, demand: FleetDemand) -> str | None:
    return workload.profile if demand is FleetDemand.AS_IT_RUNS else workload.needed or workload.profile


def _holders(gpu: MeasuredGpu) -> Iterator[str]:
    if gpu.whole is not None:
        yield gpu.whole
    yield from (one.workload for one in gpu.instances if one.workload is not None)


def _stays(workload: MeasuredWorkload, asked: str | None, board: Board) -> bool:
    """Whether the instance that the workload runs on may serve what is asked for it."""
    if workload.profile is None:
        return False
    return asked == workload.profile or _is_larger(board, workload.profile, than=asked)


def _is_larger(board: Board, name: str, *, than: str | None) -> bool:
    one, other = find_profile(board, name), find_profile(board, than) if than is not None else None
    if one is None or other is None or one.memory_slices is None or other.memory_slices is None:
        return False
    return one.memory_slices >= other.memory_slices and one.compute_slices >= other.compute_slices


def _upsizes(measured: MeasuredFleet, asked: Mapping[str, str | None], running: Collection[str]) -> tuple[Upsize, ...]:
    """From every profile that is needed to the larger ones that serve it now."""
    larger: defaultdict[str, set[str]] = defaultdict(set)
    for workload in measured.workloads:
        needed, present = asked[workload.id], workload.profile
        if workload.id in running and needed is not None and present is not None and present != needed:
            larger[needed].add(present)
    return tuple(
        Upsize(profile=profile, to=tuple(sorted(names, key=natural_key)))
        for profile, names in sorted(larger.items(), key=lambda item: natural_key(item[0]))
    )


def _kept(count: int) -> Iterator[str]:
    if count:
        yield (
            "Work that could have another profile than it holds, or one instead of a whole GPU: "
            f"{spelled_count(count, 'workload')}. It keeps what it has: only modes that place what waits place it anew."
        )


def _cautions(
    demand: FleetDemand, by_id: Mapping[str, MeasuredWorkload], placed_anew: Collection[str], lost: Collection[str]
) -> Iterator[str]:
    whole = sum(by_id[name].profile is None for name in placed_anew)
    if whole:
        yield (
            f"Work on whole GPUs that a GPU instance could hold: {spelled_count(whole, 'workload')}. The plan places "
            "it anew; stop it on its whole GPU first, that downtime is not counted."
        )
    small = len(placed_anew) - whole
    if small:
        yield (
            f"Work that needs more than it has: {spelled_count(small, 'workload')}. The plan places it anew on a "
            "larger profile; stop it where it is first, that downtime is not counted."
        )
    if lost:
        yield f"Whole GPUs are needed by {', '.join(lost)} on the nodes taken out: no profile stands for that."
    if demand is FleetDemand.AS_MEASURED:
        yield (
            "The demand is what was measured, with headroom: a workload may stay on a larger profile than it needs, "
            "and moves to the smaller one only where that saves a GPU."
        )

"""What differs between the present state and the target: instances to destroy and to create, and who moves."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from planner.errors import ChangeImpossible
from planner.hardware import PlacedInstance, Placement
from planner.mig.blockers import creation_blockers, kept_apart
from planner.mig.order import natural_key
from planner.mig.places import Place, Unit
from planner.mig.plan import Target, TargetGpu, TargetInstance
from planner.mig.problem import Problem, ProblemGpu
from planner.mig.state import PresentInstance, with_starts
from planner.mig_geometry import why_illegal


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where a unit goes, and the units that must have left first. Slot i is meant for unit i."""

    place: Place
    blockers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuChange:
    """One GPU on which something happens."""

    target: TargetGpu
    enables_mig: bool
    mode_is_known: bool
    expected_before: tuple[tuple[str, int], ...]  # (profile, start) of every instance
    expected_after: tuple[tuple[str, int], ...]
    destroyed: tuple[Place, ...]
    created: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Everything that the change has to do; no order yet."""

    gpus: Mapping[str, GpuChange]  # by id, in the order of node and id
    units: tuple[Unit, ...]
    slots: tuple[Slot, ...]
    creations: Mapping[Place, tuple[int, ...]]  # what must be created -> the units that must have left first
    planned: tuple[Unit, ...]  # by slot, the unit that the target has there: not unit i if that one's place stays taken
    stays: tuple[tuple[Unit, Unit], ...]  # the unit that the target has somewhere, the one that stays there instead
    is_exact: bool  # False: on some GPU more is kept waiting than the board asks for


@dataclass(slots=True)
class _Gpu:
    """One GPU while it is compared; `leaving` and `arriving` list units."""

    target: TargetGpu
    present: ProblemGpu | None
    instances: tuple[PresentInstance, ...]
    destroyed: list[Place] = field(default_factory=list)
    created: list[Place] = field(default_factory=list)
    leaving: dict[Place, list[int]] = field(default_factory=lambda: defaultdict(list))
    arriving: list[int] = field(default_factory=list)


def differences(problem: Problem, target: Target) -> Differences:
    """Compare the two; raises ChangeImpossible when the target loses or doubles a workload or cannot exist."""
    gpus = _gpus(problem, target)
    meant, goals = _units(gpus, problem, target)
    whose = _with_stays(meant, goals)
    stays = tuple((meant[i], unit) for i, unit in enumerate(whose) if unit.old == goals[i])
    going = [i for i, unit in enumerate(whose) if unit.old != goals[i]]
    planned, units, places = [meant[i] for i in going], [whose[i] for i in going], [goals[i] for i in going]
    for number, unit in enumerate(units):
        if unit.old is not None:
            gpus[unit.old.gpu].leaving[unit.old].append(number)
        gpus[places[number].gpu].arriving.append(number)
    workloads = {workload.id: workload for workload in (*problem.workloads, *problem.new)}
    blockers: dict[int, tuple[int, ...]] = {}
    creations: dict[Place, tuple[int, ...]] = {}
    is_exact = True
    for gpu in gpus.values():
        profiles = [place.profile for place in gpu.destroyed] + [one.profile for one in gpu.target.instances]
        of_place, exact = creation_blockers(gpu.target.board, profiles, gpu.created, gpu.destroyed, gpu.leaving)
        is_exact = is_exact and exact
        creations.update(of_place)
        for number in gpu.arriving:
            place = places[number]
            found = set(of_place[place] if place in of_place else gpu.leaving.get(place, ()))
            leaving = (other for those in gpu.leaving.values() for other in those)
            found |= kept_apart(number, leaving, units, workloads, problem.rules)
            blockers[number] = tuple(sorted(found))
    return Differences(
        gpus={
            name: _change(gpu)
            for name, gpu in gpus.items()
            if gpu.destroyed or gpu.created or gpu.leaving or gpu.arriving
        },
        units=tuple(units),
        slots=tuple(Slot(place=place, blockers=blockers[number]) for number, place in enumerate(places)),
        creations=creations,
        planned=tuple(planned),
        stays=stays,
        is_exact=is_exact,
    )


def _gpus(problem: Problem, target: Target) -> dict[str, _Gpu]:
    present = {gpu.id: gpu for gpu in problem.gpus}
    found = {}
    for gpu in sorted(target.gpus, key=lambda gpu: (natural_key(gpu.node), natural_key(gpu.id))):
        now = present.pop(gpu.id, None)
        if gpu.id in found or (now is None) != gpu.is_new:
            raise ChangeImpossible(f"The target names GPU {gpu.id} twice, or is wrong about whether it is new.")
        one = _Gpu(target=gpu, present=now, instances=with_starts(now) if now is not None and now.instances else ())
        before = {_place(gpu.id, instance): instance for instance in one.instances}
        after = {_place(gpu.id, instance): instance for instance in gpu.instances}
        for place in before.keys() - after.keys():
            one.destroyed.append(place)
        for place in after.keys() - before.keys():
            one.created.append(place)
        if one.created:
            _check_layout(gpu)
        one.destroyed.sort(key=lambda place: place.start)
        one.created.sort(key=lambda place: place.start)
        found[gpu.id] = one
    if present:
        raise ChangeImpossible(f"The target says nothing of GPU {next(iter(present))}, which the problem names.")
    return found


def _units(gpus: Mapping[str, _Gpu], problem: Problem, target: Target) -> tuple[list[Unit], list[Place]]:
    """The units that change their place, with the place that the target plans for each."""
    now = {
        workload: _place(gpu_id, instance)
        for gpu_id, gpu in gpus.items()
        for instance in gpu.instances
        for workload in instance.workloads
    }
    kinds: dict[object, int] = {}
    units: list[Unit] = []
    places: list[Place] = []
    seen: set[str] = set()
    for gpu_id, gpu in gpus.items():
        for instance in gpu.target.instances:
            place = _place(gpu_id, instance)
            together: dict[Place | None, list[str]] = defaultdict(list)
            for workload in instance.workloads:
                if workload in seen:
                    raise ChangeImpossible(f"The target runs {workload} twice.")
                seen.add(workload)
                if now.get(workload) != place:
                    together[now.get(workload)].append(workload)
            for old, workloads in together.items():
                groups = tuple(target.groups.get(workload, workload) for workload in workloads)
                kind = kinds.setdefault((instance.compute_instances, groups), len(kinds))
                units.append(Unit(workloads=tuple(workloads), old=old, kind=kind))
                places.append(place)
    lost = sorted(problem.running_ids() - seen, key=natural_key)
    if lost:
        raise ChangeImpossible(f"The target has no place for {', '.join(lost[:5])}, which runs: nothing may be lost.")
    return units, places


def _with_stays(units: Sequence[Unit], places: Sequence[Place]) -> list[Unit]:
    """By place, who goes there when a unit stays whose own instance is planned for another of its kind.

    That other one takes its slot instead. Nothing gets worse by it, and a move is saved.
    """
    planned = {place: number for number, place in enumerate(places)}
    whose = list(units)
    for number in range(len(units)):
        while whose[number].old != places[number]:
            unit = whose[number]
            other = planned.get(unit.old) if unit.old is not None else None
            if other is None or whose[other].old == places[other] or whose[other].kind != unit.kind:
                break
            whose[number], whose[other] = whose[other], unit
    return whose


def _change(gpu: _Gpu) -> GpuChange:
    present = gpu.present
    mode = True if gpu.instances else present.mig_enabled if present is not None else None
    return GpuChange(
        target=gpu.target,
        enables_mig=bool(gpu.target.instances) and mode is not True,
        mode_is_known=mode is not None,
        expected_before=_expected(gpu.instances),
        expected_after=_expected(gpu.target.instances),
        destroyed=tuple(gpu.destroyed),
        created=tuple(gpu.created),
    )


def _expected(instances: Iterable[PresentInstance | TargetInstance]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(((one.profile, one.start) for one in instances), key=lambda one: (one[1], one[0])))


def _place(gpu: str, instance: PresentInstance | TargetInstance) -> Place:
    return Place(gpu, instance.profile, instance.start, instance.compute_instances)


def _check_layout(gpu: TargetGpu) -> None:
    placed = []
    for instance in gpu.instances:
        profile = next((one for one in gpu.board.profiles if one.name == instance.profile), None)
        size = (profile.memory_slices if profile is not None else None) or 0
        placed.append(PlacedInstance(instance.profile, Placement(instance.start, size)))
    wrong = why_illegal(gpu.board, placed)
    if wrong is not None:
        raise ChangeImpossible(f"The target of GPU {gpu.id} cannot exist: {wrong}")

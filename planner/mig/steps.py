"""Writes waves out as the steps of a plan, there and back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.mig.differences import Differences, GpuChange
from planner.mig.places import Place
from planner.mig.plan import Action, Step
from planner.mig.waves import GpuWork, Wave, inverse

_ASSUMED = "The starts of its instances were assumed. If they are others, stop here and plan again with the real ones."
_NO_ROOM = "There is no room to start it elsewhere first."
_NOT_BEFORE = "It did not run before the change."
_RESETS = "Resets the GPU; whatever else holds it, monitoring too, must let go of it first."
_MAY_RESET = "No source says whether this resets the GPU: let nothing hold it, monitoring neither."
_DOES_NOT_LAST = "Resets nothing, and lasts until the node reboots or its driver is loaded anew."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One direction: what is expected at first, and where else each unit has a place."""

    found: Differences
    waves: Sequence[Wave]
    places: dict[int, tuple[Place | None, Place]]  # by unit: before and after the change
    is_back: bool
    assumed_gpus: frozenset[str]


def write_steps(
    found: Differences, waves: Sequence[Wave], slot_of: dict[int, int], assumed_gpus: frozenset[str]
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps of the change, and those of its exact rollback. `slot_of`: the slot that each unit takes."""
    if not waves:
        return (), ()
    places = {unit: (found.units[unit].old, found.slots[slot].place) for unit, slot in slot_of.items()}
    there = _Way(found=found, waves=waves, places=places, is_back=False, assumed_gpus=assumed_gpus)
    back = _Way(found=found, waves=inverse(waves), places=places, is_back=True, assumed_gpus=frozenset())
    return tuple(_steps(there)), tuple(_steps(back))


def _steps(way: _Way) -> Iterator[Step]:
    order = {name: number for number, name in enumerate(way.found.gpus)}
    for name, gpu in way.found.gpus.items():
        yield Step(
            wave=1,
            node=gpu.target.node,
            gpu=name,
            action=Action.CHECK,
            expected=gpu.expected_after if way.is_back else gpu.expected_before,
            note=_ASSUMED if name in way.assumed_gpus else None,
        )
    for number, wave in enumerate(way.waves, start=2):
        switches_now = number == (len(way.waves) + 1 if way.is_back else 2)
        switching = {name for name, gpu in way.found.gpus.items() if gpu.enables_mig} if switches_now else set()
        for name in sorted(wave.keys() | switching, key=order.__getitem__):
            gpu = way.found.gpus[name]
            if name in switching and not way.is_back:
                yield _switch(number, gpu, Action.ENABLE_MIG)
            if name in wave:
                yield from _work(way, number, gpu, wave[name])
            if name in switching and way.is_back:
                yield _switch(number, gpu, Action.DISABLE_MIG)


def _work(way: _Way, wave: int, gpu: GpuChange, work: GpuWork) -> Iterator[Step]:
    sizes = {profile.name: profile.memory_slices or 0 for profile in gpu.target.board.profiles}

    def step(action: Action, place: Place, **more: object) -> Step:
        return Step(
            wave=wave,
            node=gpu.target.node,
            gpu=place.gpu,
            action=action,
            profile=place.profile,
            start=place.start,
            **more,  # type: ignore[arg-type]
        )

    for unit, place, is_down in sorted(work.stopped, key=lambda one: (one[1].start, one[0])):
        for workload in way.found.units[unit].workloads:
            note = _why_stopped(way, unit, is_down)
            yield step(Action.STOP, place, workload=workload, is_downtime=is_down, note=note)
    for place in sorted(work.destroyed, key=lambda place: place.start):
        yield step(Action.DESTROY, place, compute_instances=place.compute_instances)
    for place in sorted(work.created, key=lambda place: (-sizes.get(place.profile, 0), place.start)):
        yield step(Action.CREATE, place, compute_instances=place.compute_instances)
    for unit, place, was_down in sorted(work.started, key=lambda one: (one[1].start, one[0])):
        for workload in way.found.units[unit].workloads:
            yield step(Action.START, place, workload=workload, is_downtime=was_down)


def _why_stopped(way: _Way, unit: int, is_down: bool) -> str:
    if is_down:
        return _NO_ROOM
    before, after = way.places[unit]
    if before is None:
        return _NOT_BEFORE
    now = before if way.is_back else after
    return f"Let it drain: it runs on GPU {now.gpu} at {now.start} by now."


def _switch(wave: int, gpu: GpuChange, action: Action) -> Step:
    resets = gpu.target.board.mig_enable_resets_gpu
    notes = []
    if not gpu.mode_is_known:
        notes.append("Unless it is on already." if action is Action.ENABLE_MIG else "Unless it was on before.")
    if resets is not False:
        notes.append(_RESETS if resets else _MAY_RESET)
    elif action is Action.ENABLE_MIG:
        notes.append(_DOES_NOT_LAST)
    return Step(
        wave=wave,
        node=gpu.target.node,
        gpu=gpu.target.id,
        action=action,
        resets_gpu=resets is not False,
        note=" ".join(notes) or None,
    )

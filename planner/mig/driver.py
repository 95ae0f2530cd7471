"""Runs the steps of a plan on simulated GPUs, and counts what is down on the way.

Apart from the planner on purpose: a plan that passes here was judged by rules that did not make it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from planner.errors import DriverRefusal
from planner.hardware import Board
from planner.mig.plan import Action, Step
from planner.mig.problem import Problem, ProblemGpu
from planner.mig.simulated_gpu import GpuState, SimulatedGpu
from planner.mig.state import with_starts

Place = tuple[str, str, int]
"""Where a workload runs: GPU, profile, start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveState:
    """The fleet after one wave."""

    number: int
    steps: tuple[Step, ...]
    changed: tuple[GpuState, ...]  # the GPUs that the wave names, as it leaves them
    down: tuple[str, ...]  # workloads that run nowhere when it ends and start again later
    most_down: int  # at one moment of it, whichever GPU is ahead of the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What the steps did."""

    waves: tuple[WaveState, ...]
    final: Mapping[str, GpuState]  # by id, every GPU whose board can be simulated
    places: Mapping[str, tuple[Place, ...]]  # where every workload runs in the end
    max_down: int
    interrupted: tuple[str, ...]  # ran at first, then nowhere, then again
    ended: tuple[str, ...]  # ran at first and nowhere in the end


def replay(
    problem: Problem,
    steps: Iterable[Step],
    *,
    real_placements: Mapping[str, Sequence[tuple[str, int]]] | None = None,
    new_boards: Mapping[str, Board] | None = None,
) -> Replay:
    """Run the steps from the problem's present state; raises DriverRefusal at the first one that fails.

    `real_placements` says of GPUs where their instances (profile, start) really are. `new_boards` names the boards of
    elastic GPUs; without it each gets the first elastic board that has the profiles which the steps create on it.
    """
    steps = tuple(steps)
    return Driver(problem, steps, real_placements=real_placements, new_boards=new_boards).run(steps)


class Driver:
    """A fleet under drivers. `run` continues from wherever the steps before left it."""

    def __init__(
        self,
        problem: Problem,
        steps: Iterable[Step] = (),
        *,
        real_placements: Mapping[str, Sequence[tuple[str, int]]] | None = None,
        new_boards: Mapping[str, Board] | None = None,
    ) -> None:
        real = real_placements or {}
        self._gpus = {  # a board of unknown placements cannot be simulated, nor can a plan name its GPUs
            gpu.id: _present(gpu, real.get(gpu.id))
            for gpu in problem.gpus
            if all(profile.placements for profile in gpu.board.profiles)
        }
        self._add_new(problem, tuple(steps), new_boards or {})
        self._places: dict[str, list[Place]] = defaultdict(list)
        for gpu in self._gpus.values():
            for instance in gpu.state().instances:
                for workload in instance.workloads:
                    self._places[workload].append((gpu.id, instance.profile, instance.start))

    def states(self) -> dict[str, GpuState]:
        """Every GPU as it is now."""
        return {gpu.id: gpu.state() for gpu in self._gpus.values()}

    def run(self, steps: Iterable[Step]) -> Replay:
        """Do the steps in their order; raises DriverRefusal at the first that fails, and leaves all as it is then."""
        steps = tuple(steps)
        before = {workload for workload, places in self._places.items() if places}
        starts_left = Counter(step.workload for step in steps if step.action is Action.START)
        down: set[str] = set()
        interrupted: set[str] = set()
        waves: list[WaveState] = []
        for number, group in groupby(steps, key=lambda step: step.wave):
            wave = tuple(group)
            _check_independence(number, wave)
            prefix: Counter[str] = Counter()
            highest: Counter[str] = Counter()  # by GPU: one may be done before another begins
            at_first = len(down)
            for step in wave:
                try:
                    self._do(step)
                except DriverRefusal as refusal:
                    raise DriverRefusal(f"Wave {number}: {refusal}") from refusal
                workload = step.workload
                if workload not in before:
                    continue
                if step.action is Action.START:
                    starts_left[workload] -= 1
                    if workload in down:
                        down.remove(workload)
                        prefix[step.gpu] -= 1
                elif not self._places[workload] and starts_left[workload] > 0:
                    down.add(workload)
                    interrupted.add(workload)
                    prefix[step.gpu] += 1
                    highest[step.gpu] = max(highest[step.gpu], prefix[step.gpu])
            waves.append(
                WaveState(
                    number=number,
                    steps=wave,
                    changed=tuple(self._gpus[name].state() for name in dict.fromkeys(step.gpu for step in wave)),
                    down=tuple(sorted(down)),
                    most_down=at_first + sum(highest.values()),
                )
            )
        return Replay(
            waves=tuple(waves),
            final=self.states(),
            places={workload: tuple(places) for workload, places in self._places.items() if places},
            max_down=max((wave.most_down for wave in waves), default=0),
            interrupted=tuple(sorted(interrupted)),
            ended=tuple(sorted(workload for workload in before if not self._places[workload])),
        )

    def _do(self, step: Step) -> None:
        gpu = self._gpus.get(step.gpu)
        if gpu is None or gpu.node != step.node:
            raise DriverRefusal(f"There is no GPU {step.gpu} in node {step.node}, so nothing can be done on it.")
        if step.action is Action.CHECK:
            gpu.check(step.expected)
        elif step.action is Action.ENABLE_MIG:
            gpu.enable_mig()
        elif step.action is Action.DISABLE_MIG:
            gpu.disable_mig()
        else:
            self._do_on_instance(step, gpu)

    def _do_on_instance(self, step: Step, gpu: SimulatedGpu) -> None:
        if step.profile is None or step.start is None:
            raise DriverRefusal(f"The step to {step.action} on GPU {gpu.id} names no instance.")
        if step.action is Action.CREATE:
            gpu.create_gpu_instance(step.profile, step.start)
            gpu.create_compute_instances(step.start, step.compute_instances)
            return
        if step.action is Action.DESTROY:
            for _ in range(gpu.compute_instance_count(step.profile, step.start)):
                gpu.destroy_compute_instance(step.start)
            gpu.destroy_gpu_instance(step.profile, step.start)
            return
        if step.workload is None:
            raise DriverRefusal(f"The step to {step.action} on GPU {gpu.id} names no workload.")
        places = self._places[step.workload]
        place = (gpu.id, step.profile, step.start)
        if step.action is Action.START:
            if len(places) > 1:
                there = " and ".join(name for name, _, _ in places)
                raise DriverRefusal(
                    f"{step.workload} runs on {there} already; it cannot start on GPU {gpu.id} as well."
                )
            gpu.start_workload(step.workload, step.profile, step.start)
            places.append(place)
        else:
            gpu.stop_workload(step.workload, step.profile, step.start)
            places.remove(place)

    def _add_new(self, problem: Problem, steps: tuple[Step, ...], boards: Mapping[str, Board]) -> None:
        wanted: dict[str, set[str]] = defaultdict(set)
        nodes: dict[str, str] = {}
        for step in steps:
            if step.gpu not in self._gpus:
                nodes[step.gpu] = step.node
                if step.action is Action.CREATE and step.profile is not None:
                    wanted[step.gpu].add(step.profile)
        candidates = problem.elastic.boards if problem.elastic else ()
        for name, node in nodes.items():
            fitting = [b for b in candidates if wanted[name] <= {profile.name for profile in b.profiles}]
            board = boards.get(name) or next(iter(fitting), None)
            if board is not None:
                self._gpus[name] = SimulatedGpu(name, node, board, mig_enabled=False)


def _present(gpu: ProblemGpu, real: Sequence[tuple[str, int]] | None) -> SimulatedGpu:
    """The GPU as the problem says it is; with `real`, its instances lie there instead, those of a profile in order.

    A GPU without instances whose MIG mode is not known counts as one with the mode off: the harder case.
    """
    simulated = SimulatedGpu(
        gpu.id, gpu.node, gpu.board, mig_enabled=bool(gpu.instances or real), is_occupied_whole=gpu.occupied_whole
    )
    told = with_starts(gpu)
    waiting = list(told)
    for profile, start in real if real is not None else [(one.profile, one.start) for one in told]:
        simulated.create_gpu_instance(profile, start)
        found = next((one for one in waiting if one.profile == profile), None)
        if found is None:
            simulated.create_compute_instances(start)
            continue
        waiting.remove(found)
        simulated.create_compute_instances(start, found.compute_instances)
        for workload in found.workloads:
            simulated.start_workload(workload, profile, start)
    simulated.mig_enabled = simulated.mig_enabled or bool(gpu.mig_enabled)
    return simulated


def _check_independence(number: int, wave: Sequence[Step]) -> None:
    """GPUs do a wave side by side; what must come first on another GPU belongs into an earlier wave."""
    where: dict[str, str] = {}
    for step in wave:
        if step.workload is not None and where.setdefault(step.workload, step.gpu) != step.gpu:
            raise DriverRefusal(
                f"Wave {number} names {step.workload} on GPU {where[step.workload]} and on GPU {step.gpu}: which comes "
                f"first is left open. One of the steps belongs into a later wave."
            )

"""The planner and its rivals on all seeded instances: mean GPUs against the optimum, mean moves, and what is proven."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from benchmarks.mig_instances import Instance, ReferenceInstances
from benchmarks.mig_masks import Slots
from benchmarks.mig_rivals import SPREAD_FACTOR, Outcome, add_rivals, initial_rivals, replan_rivals
from benchmarks.mig_runs import Planned, plan, this_process, warm_up
from benchmarks.results import table

REPLAN_MODES = ("compact", "reconfigure")
ADD_MODES = ("add-without-moves", "add")
PUBLISHED = {
    "initial": "EXACT_pattern_ilp",
    "compact": "EXACT_compact",
    "reconfigure": "EXACT_reconfigure",
    "add": "EXACT_new_with_moves",
}

_OURS = "gpufleet"

Group = tuple[int, float | None]
"""Requests, or GPUs and load."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What all methods made of many instances, in the order in which they were asked."""

    outcomes: dict[str, dict[Group, list[tuple[Outcome, int]]]] = field(default_factory=dict)  # with the optimum
    seconds: dict[tuple[str, int], list[tuple[float, float]]] = field(default_factory=dict)  # by mode and size: ours
    proven: dict[str, list[bool]] = field(default_factory=dict)  # by mode
    as_published: dict[str, list[bool]] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)

    def add(self, instance: Instance, method: str, outcome: Outcome, optimum: int) -> None:
        groups = self.outcomes.setdefault(method, {})
        groups.setdefault((instance.size, instance.load), []).append((outcome, optimum))

    def judge(self, instance: Instance, mode: str, planned: Planned, reference: ReferenceInstances | None) -> None:
        seconds = (planned.outcome.seconds, planned.processor_s)
        self.seconds.setdefault((mode, instance.size), []).append(seconds)
        self.proven.setdefault(mode, []).append(planned.is_proven)
        if reference is None or mode not in PUBLISHED:
            return
        gpus, moves = reference.published(instance, PUBLISHED[mode])
        ours = (planned.outcome.gpus, planned.outcome.moves if moves is not None else None)
        is_same = ours == (gpus, moves) and not planned.outcome.unplaced
        self.as_published.setdefault(mode, []).append(is_same)
        if not is_same:
            self.differing.append(f"{instance.name} {mode}: {ours}, published {(gpus, moves)}")


def initial_tally(
    slots: Slots, instances: Iterable[Instance], folder: Path, reference: ReferenceInstances | None
) -> Tally:
    """Requests for empty GPUs, by every method."""
    tally = Tally()
    for instance in instances:
        planned = plan(slots, instance, "initial", folder, this_process)
        optimum = planned.gpus_lower_bound
        if reference is not None:
            optimum, _ = reference.published(instance, PUBLISHED["initial"])
        tally.judge(instance, "initial", planned, reference)
        tally.add(instance, f"{_OURS} initial", planned.outcome, optimum)
        for rival in initial_rivals(slots, instance, fleet=SPREAD_FACTOR * optimum):
            tally.add(instance, rival.method, rival, optimum)
    return tally


def running_tallies(
    slots: Slots, instances: Iterable[Instance], folder: Path, reference: ReferenceInstances | None
) -> tuple[Tally, Tally]:
    """Running fleets by every method: brought onto fewer GPUs, and with further requests."""
    fewer, more = Tally(), Tally()
    for instance in instances:
        for tally, modes, rivals in ((fewer, REPLAN_MODES, replan_rivals), (more, ADD_MODES, add_rivals)):
            for rival in rivals(slots, instance):
                tally.add(instance, rival.method, rival, 0)
            for mode in modes:
                planned = plan(slots, instance, mode, folder, this_process)
                tally.judge(instance, mode, planned, reference)
                tally.add(instance, f"{_OURS} {mode}", planned.outcome, planned.gpus_lower_bound)
    return fewer, more


def initial_table(tally: Tally) -> str:
    """Mean GPUs over the optimum, by method and number of requests."""
    sizes = _groups(tally)
    lines = []
    for method, groups in tally.outcomes.items():
        cells = []
        for group in sizes:
            told = groups[group]
            ratio = fmean(outcome.gpus / optimum for outcome, optimum in told)
            left_out = fmean(len(outcome.unplaced) / group[0] for outcome, _ in told)
            cells.append(f"{ratio:.3f}" + (f", {left_out:.1%} unplaced" if left_out else ""))
        lines.append((method, *cells))
    means = (f"{fmean(optimum for _, optimum in tally.outcomes[f'{_OURS} initial'][group]):,.1f}" for group in sizes)
    lines.append(("mean optimum, GPUs", *means))
    return table(("mean GPUs / optimum", *(f"n = {size:,}" for size, _ in sizes)), lines)


def running_table(tally: Tally, title: str) -> str:
    """Mean GPUs in use and mean moves, by method and fleet."""
    groups = _groups(tally)
    lines = []
    for method, outcomes in tally.outcomes.items():
        cells = []
        for group in groups:
            told = [outcome for outcome, _ in outcomes[group]]
            left_out = fmean(len(outcome.unplaced) for outcome in told)
            cell = f"{fmean(outcome.gpus for outcome in told):,.1f} ({fmean(outcome.moves for outcome in told):,.1f})"
            cells.append(cell + (f", {left_out:.2f} unplaced" if left_out else ""))
        lines.append((method, *cells))
    return table((title, *(f"{size:,} GPUs at {load:.0%}" for size, load in groups)), lines)


def seconds_table(tallies: Sequence[Tally]) -> str:
    """Mean and longest seconds of the planner, by mode and size."""
    lines = []
    for tally in tallies:
        for (mode, size), told in tally.seconds.items():
            wall, processor = zip(*told, strict=True)
            lines.append((mode, f"{size:,}", f"{fmean(wall):.2f}", f"{max(wall):.2f}", f"{max(processor):.2f}"))
    return table(("mode", "requests or GPUs", "mean seconds", "longest", "most of processor"), lines)


def verdicts(tallies: Sequence[Tally]) -> str:
    """How many answers are proven, and equal to the published ones where there are any."""
    proven: dict[str, list[bool]] = {}
    same: dict[str, list[bool]] = {}
    for tally in tallies:
        proven |= tally.proven
        same |= tally.as_published
    text = f"Proven to be the best there is: {_counts(proven)}."
    if same:
        text += f"\nEqual to the published exact answers, GPUs and moves: {_counts(same)}."
    differing = [line for tally in tallies for line in tally.differing]
    return "\n".join([text, *(f"- {line}" for line in differing)])


def _counts(answers: Mapping[str, Sequence[bool]]) -> str:
    return ", ".join(f"{sum(right)} of {len(right)} {mode}" for mode, right in answers.items())


def _groups(tally: Tally) -> list[Group]:
    return sorted({group for groups in tally.outcomes.values() for group in groups}, key=lambda g: (g[0], g[1] or 0))


def section(
    slots: Slots,
    initial: Iterable[Instance],
    running: Iterable[Instance],
    reference: ReferenceInstances | None = None,
) -> str:
    """All tables of these instances."""
    with tempfile.TemporaryDirectory() as folder:
        warm_up(this_process, Path(folder))
        first = initial_tally(slots, initial, Path(folder), reference)
        fewer, more = running_tallies(slots, running, Path(folder), reference)
    return "\n\n".join(
        (
            initial_table(first),
            running_table(fewer, "re-planned: mean GPUs (moves)"),
            running_table(more, "10 % more requests: mean GPUs (moves)"),
            seconds_table((first, fewer, more)),
            verdicts((first, fewer, more)),
        )
    )

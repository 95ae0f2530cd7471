"""What every export needs to know of a plan: per node its GPUs, how they are addressed, and what is on them."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.mig.order import natural_key
from planner.mig.plan import Action, ChangePlan, TargetGpu
from planner.mig.problem import Problem, ProblemGpu

_GPU_UUID = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

MigDevices = tuple[tuple[str, int], ...]
"""How many MIG devices of each profile, the large ones first; parts of a GPU instance as `1c.3g.20gb`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportGpu:
    """One GPU of a plan. `index` is counted where the problem does not tell it."""

    index: int
    index_is_known: bool
    before: ProblemGpu | None  # None: it does not exist yet
    after: TargetGpu
    mig_enabled: bool | None  # after the plan; None: not known, and the plan does not switch it

    @property
    def address(self) -> str:
        """What `nvidia-smi -i` takes: the UUID where the id is one, else the index."""
        return self.after.id if _GPU_UUID.fullmatch(self.after.id) else str(self.index)

    @property
    def is_held_whole(self) -> bool:
        """Whether something holds it without MIG: no export touches it."""
        return self.before is not None and self.before.occupied_whole

    def devices_before(self) -> MigDevices:
        """The MIG devices that exist."""
        instances = self.before.instances if self.before else ()
        return _devices(self.after, ((one.profile, one.compute_instances) for one in instances))

    def devices_after(self) -> MigDevices:
        """The MIG devices that the plan leaves."""
        return _devices(self.after, ((one.profile, one.compute_instances) for one in self.after.instances))

    def workloads_before(self) -> tuple[str, ...]:
        """What runs on it now."""
        return tuple(name for one in (self.before.instances if self.before else ()) for name in one.workloads)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportNode:
    """One node of a plan, its GPUs by index."""

    name: str
    gpus: tuple[ExportGpu, ...]
    is_reset: bool = False  # MIG mode is switched on a GPU that has to be reset for it

    @property
    def cleared_by_mig_parted(self) -> tuple[ExportGpu, ...]:
        """The GPUs on which nothing runs on when mig-parted has been: it resets all where it resets one."""
        if self.is_reset:
            return self.gpus
        return tuple(gpu for gpu in self.gpus if gpu.devices_before() != gpu.devices_after())

    @property
    def kubernetes_name(self) -> str | None:
        """The name, where Kubernetes can have a node of that name."""
        return self.name if len(self.name) <= 253 and _NODE_NAME.fullmatch(self.name) else None

    @property
    def has_counted_indexes(self) -> bool:
        """Whether the index of any GPU is counted."""
        return not all(gpu.index_is_known for gpu in self.gpus)


def export_nodes(problem: Problem, change: ChangePlan) -> tuple[ExportNode, ...]:
    """The nodes of the target in natural order.

    A GPU without an index in the problem gets the lowest number of its node that is free, in the natural order of ids.
    """
    known = {gpu.id: gpu for gpu in problem.gpus}
    modes: dict[str, bool | None] = {gpu.id: gpu.mig_enabled for gpu in problem.gpus}
    reset = {step.node for step in change.steps if step.resets_gpu}
    for step in change.steps:
        if step.action in (Action.ENABLE_MIG, Action.DISABLE_MIG):
            modes[step.gpu] = step.action is Action.ENABLE_MIG
    by_node: dict[str, list[TargetGpu]] = defaultdict(list)
    for gpu in change.target.gpus:
        by_node[gpu.node].append(gpu)
        was_cut = gpu.id in known and bool(known[gpu.id].instances)
        if gpu.instances or (was_cut and modes[gpu.id] is None):
            modes[gpu.id] = True
    nodes = []
    for name in sorted(by_node, key=natural_key):
        indexes = _indexes(by_node[name], known)
        gpus = [
            ExportGpu(
                index=indexes[gpu.id],
                index_is_known=gpu.id in known and known[gpu.id].index is not None,
                before=known.get(gpu.id),
                after=gpu,
                mig_enabled=modes.get(gpu.id),
            )
            for gpu in by_node[name]
        ]
        ordered = tuple(sorted(gpus, key=lambda gpu: gpu.index))
        nodes.append(ExportNode(name=name, gpus=ordered, is_reset=name in reset))
    return tuple(nodes)


def printable(text: str) -> str:
    """The text on one line, without characters that control a terminal, a shell comment or a YAML comment."""
    return "".join(
        letter if unicodedata.category(letter)[0] != "C" and unicodedata.category(letter) not in ("Zl", "Zp") else "�"
        for letter in text
    )


def comment_lines(text: str, *, width: int = 100) -> list[str]:
    """The text as comment lines of shell and YAML; a word that is longer than a line stays whole."""
    lines = []
    line = "#"
    for word in printable(text).split(" "):
        if len(line) + 1 + len(word) > width and line != "#":
            lines.append(line)
            line = "#"
        line += f" {word}"
    return [*lines, line]


def _indexes(gpus: Sequence[TargetGpu], known: dict[str, ProblemGpu]) -> dict[str, int]:
    given = {gpu.id: known[gpu.id].index for gpu in gpus if gpu.id in known}
    indexes = {name: index for name, index in given.items() if index is not None}
    taken = set(indexes.values())
    free = (number for number in range(len(gpus) + len(taken)) if number not in taken)
    for gpu in sorted(gpus, key=lambda gpu: natural_key(gpu.id)):
        if gpu.id not in indexes:
            indexes[gpu.id] = next(free)
    return indexes


def _devices(gpu: TargetGpu, instances: Iterable[tuple[str, tuple[str, ...]]]) -> MigDevices:
    sizes = {profile.name: (profile.memory_slices or 0, profile.compute_slices) for profile in gpu.board.profiles}
    counts: Counter[tuple[str, str]] = Counter()
    for profile, compute_instances in instances:
        for name in compute_instances or (profile,):
            counts[profile, name] += 1
    ordered = sorted(counts.items(), key=lambda item: (tuple(-size for size in sizes[item[0][0]]), item[0]))
    return tuple((name, count) for (_, name), count in ordered)

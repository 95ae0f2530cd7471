"""Random planning problems that brute force can still answer: up to three GPUs, a handful of workloads, every rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from planner.catalog import load_catalog
from planner.hardware import Board
from planner.mig.problem import (
    EVERY,
    Elastic,
    Problem,
    ProblemGpu,
    Reserve,
    Rules,
    RunningInstance,
    Spread,
    Upsize,
    Workload,
)
from planner.mig_exceptions import board_under
from tests.planner.mig.placement_table import arrangements, is_possible, sizes_at

CATALOG = load_catalog()
A30 = CATALOG.board("A30-24GB")
A100 = CATALOG.board("A100-40GB")
A100_80 = CATALOG.board("A100-80GB")
A100_OLD = board_under(A100, driver_version="470.82.01")  # refuses 4g beside 3g
H100 = CATALOG.board("H100-80GB-SXM")
RTX = CATALOG.board("RTX-PRO-6000-96GB")

MIXES = (
    (A30,),
    (A100,),
    (RTX,),
    (A30,),
    (A100,),
    (A100_OLD,),
    (A100_80, H100),
    (A100, A100_80),
    (A30, A100),
    (RTX, A30),
)
"""A100-80GB and H100 have the same names for all profiles; the two A100 mean different ones by `1g.10gb`."""

LARGER = {
    "1g.5gb": ("1g.10gb", "2g.10gb", "3g.20gb"),
    "1g.10gb": ("2g.10gb", "2g.20gb", "1g.20gb"),
    "2g.10gb": ("3g.20gb", "4g.20gb"),
    "3g.20gb": ("4g.20gb", "7g.40gb"),
    "1g.6gb": ("2g.12gb", "4g.24gb", "1g.6gb+me"),
    "2g.12gb": ("4g.24gb",),
    "1g.24gb": ("2g.48gb", "1g.24gb+gfx"),
    "2g.48gb": ("4g.96gb",),
    "2g.20gb": ("3g.40gb",),
}

TENANTS = (None, None, "red", "blue")
SERVICES = (None, None, "chat", "search")


class DrawnProblem(Problem):
    """A problem that prints itself in a few lines when a test fails."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"\n{told(self)}\n"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of everything a drawn problem may have."""

    mixes: tuple[tuple[Board, ...], ...] = MIXES
    most_gpus: int = 3
    most_running: int = 6
    most_waiting: int = 3
    rules: tuple[str, ...] = (
        "single",
        "spread",
        "tenants",
        "reserve",
        "loss",
        "upsize",
        "untouchable",
        "moves",
        "board",
    )
    needed_rules: tuple[str, ...] = ()  # in force in every problem
    unknown_starts: bool = True
    elastic: bool = True
    prices: bool = True
    free_instances: bool = True
    shared_instances: bool = True


@st.composite
def problems(draw: st.DrawFn, shape: Shape = Shape()) -> Problem:
    """A checked problem: legal layouts, unique ids, prices for all boards or none."""
    mix = draw(st.sampled_from(shape.mixes))
    rules_in_force = draw(st.sets(st.sampled_from(shape.rules), max_size=3)) if shape.rules else set()
    rules_in_force |= {*shape.needed_rules}
    fleet = _Drawing(draw, shape, shares_instances=shape.shared_instances and not rules_in_force & {"loss", "upsize"})
    sizes = [size for size in (2, 3, 2, 3, 1) if size <= shape.most_gpus] + ([0] if shape.elastic else [])
    gpus = [fleet.gpu(number, mix) for number in range(draw(st.sampled_from(sizes)))]
    elastic = None
    if shape.elastic and (not gpus or draw(st.integers(0, 3)) == 0):
        boards = draw(st.sampled_from([mix[:1], mix[-1:], mix]))
        elastic = Elastic(boards=boards, gpus_per_node=draw(st.sampled_from([1, 2, 8])))
    counts = [count for count in (1, 2, 0, 3) if count <= shape.most_waiting]
    waiting = [fleet.waiting(mix) for _ in range(draw(st.sampled_from(counts)))]
    waiting_first = draw(st.integers(0, len(waiting)))
    boards_here = {board.name for board in (*mix, *(gpu.board for gpu in gpus))}
    has_prices = shape.prices and draw(st.integers(0, 2)) == 0
    usd = st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0, 3.25])
    return DrawnProblem(
        gpus=tuple(gpus),
        elastic=elastic,
        workloads=(*fleet.running, *waiting[:waiting_first]),
        new=tuple(waiting[waiting_first:]),
        rules=draw(_rules(rules_in_force, gpus, [one.profile for one in (*fleet.running, *waiting)], mix)),
        prices={name: draw(usd) for name in sorted(boards_here)} if has_prices else {},
    )


class _Drawing:
    def __init__(self, draw: st.DrawFn, shape: Shape, *, shares_instances: bool) -> None:
        self.draw, self.shape, self.shares_instances = draw, shape, shares_instances
        self.running: list[Workload] = []
        self.waiting_count = 0

    def gpu(self, number: int, mix: Sequence[Board]) -> ProblemGpu:
        board = self.draw(st.sampled_from(mix))
        node = f"node-{self.draw(st.integers(1, 2))}"
        if self.draw(st.integers(0, 9)) == 0:
            return ProblemGpu(id=f"gpu-{number}", node=node, board=board, occupied_whole=True)
        instances: list[RunningInstance] = []
        for name in self.names_to_try(board):
            start = self.draw(st.sampled_from(sorted(sizes_at(board, name))))
            placed = [*((one.profile, one.start) for one in instances), (name, start)]
            if is_possible(board, placed):
                workloads, parts = self.workloads_on(name)
                if workloads or self.shape.free_instances:
                    one = RunningInstance(profile=name, start=start, workloads=workloads, compute_instances=parts)
                    instances.append(one)
        if self.shape.unknown_starts and self.draw(st.integers(0, 4)) == 0:
            instances = [self.without_start(one) for one in instances]
            if len(arrangements(board, tuple((one.profile, one.start) for one in instances))) > 24:
                instances = instances[:2]  # those who lost their place wait from now on
        return ProblemGpu(id=f"gpu-{number}", node=node, board=board, instances=tuple(instances))

    def names_to_try(self, board: Board) -> list[str]:
        """Profiles in the order in which they are put where there is room; small ones more often."""
        names = [one.name for one in board.profiles if one.max_instances > 1] * 3 + [one.name for one in board.profiles]
        size = self.draw(st.sampled_from([2, 3, 4, 7, 1, 0]))
        return self.draw(st.lists(st.sampled_from(names), min_size=size, max_size=size))

    def without_start(self, one: RunningInstance) -> RunningInstance:
        start = one.start if self.draw(st.integers(0, 3)) == 0 else None
        return RunningInstance(
            profile=one.profile, start=start, workloads=one.workloads, compute_instances=one.compute_instances
        )

    def workloads_on(self, profile: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Whoever runs on the instance, and its compute instances where several do."""
        left = self.shape.most_running - len(self.running)
        if left <= 0 or (self.shape.free_instances and self.draw(st.integers(0, 3)) == 0):
            return (), ()
        shared = self.shares_instances and left > 1 and profile[0] in "23" and self.draw(st.integers(0, 7)) == 0
        names = tuple(self.named(profile, "run", len(self.running)) for _ in range(2 if shared else 1))
        return names, (f"1c.{profile}",) * 2 if shared else ()

    def named(self, profile: str, prefix: str, number: int) -> str:
        workload = self.workload(f"{prefix}-{number}", profile, pinned=self.draw(st.integers(0, 5)) == 0)
        self.running.append(workload)
        return workload.id

    def waiting(self, mix: Sequence[Board]) -> Workload:
        self.waiting_count += 1
        board = self.draw(st.sampled_from(mix))
        profile = self.draw(st.sampled_from([one.name for one in board.profiles]))
        return self.workload(f"wait-{self.waiting_count}", profile, pinned=False)

    def workload(self, name: str, profile: str, *, pinned: bool) -> Workload:
        tenant, service = self.draw(st.sampled_from(TENANTS)), self.draw(st.sampled_from(SERVICES))
        return Workload(id=name, profile=profile, service=service, tenant=tenant, pinned=pinned)


@st.composite
def _rules(draw: st.DrawFn, kinds: set[str], gpus: list[ProblemGpu], asked: list[str], mix: Sequence[Board]) -> Rules:
    nodes = sorted({gpu.node for gpu in gpus})
    profiles = sorted({*asked, *(board.profiles[0].name for board in mix)})
    fields: dict[str, object] = {}
    if "single" in kinds:
        fields["single_nodes"] = draw(st.sets(st.sampled_from([*nodes, EVERY]), min_size=1).map(frozenset))
    if "spread" in kinds:
        fields["spread"] = draw(
            st.dictionaries(st.sampled_from(["chat", "search", EVERY]), st.sampled_from(Spread), min_size=1)
        )
    if "tenants" in kinds:
        fields["isolated_tenants"] = draw(st.sets(st.sampled_from(["red", "blue", EVERY]), min_size=1).map(frozenset))
    if "reserve" in kinds:
        names = draw(st.sets(st.sampled_from(profiles), min_size=1, max_size=2))
        fields["reserves"] = tuple(Reserve(profile=name, count=draw(st.integers(1, 2))) for name in sorted(names))
    if "upsize" in kinds:
        fields["upsizes"] = tuple(
            Upsize(
                profile=name,
                to=tuple(draw(st.lists(st.sampled_from(LARGER[name]), min_size=1, unique=True))),
                price=draw(st.sampled_from([0.0, 0.25, 0.5, 2.0])),
            )
            for name in sorted({name for name in asked if name in LARGER})
            if draw(st.booleans())
        )
    if "untouchable" in kinds and gpus:
        fields["untouchable_gpus"] = draw(st.sets(st.sampled_from([gpu.id for gpu in gpus]), max_size=2).map(frozenset))
        if draw(st.integers(0, 3)) == 0:
            fields["untouchable_nodes"] = frozenset({draw(st.sampled_from(nodes))})
    if "moves" in kinds:
        fields["max_moves"] = draw(st.integers(0, 3))
    return Rules(survive_node_loss="loss" in kinds, stay_on_board="board" in kinds, **fields)


def told(problem: Problem) -> str:
    """The problem in a few lines, as the problem file would put it."""
    lines = []
    for gpu in problem.gpus:
        held = ", ".join(
            f"{one.profile}@{one.start}{'=' + '+'.join(one.workloads) if one.workloads else ''}"
            for one in gpu.instances
        )
        lines.append(f"{gpu.node}/{gpu.id} {gpu.board.name}{' WHOLE' if gpu.occupied_whole else ''}: {held}")
    for kind, workloads in (("workload", problem.workloads), ("new", problem.new)):
        for one in workloads:
            more = [one.service and f"service={one.service}", one.tenant and f"tenant={one.tenant}"]
            more.append("pinned" if one.pinned else None)
            lines.append(f"{kind} {one.id} {one.profile} {' '.join(filter(None, more))}")
    if problem.elastic is not None:
        names = "+".join(board.name for board in problem.elastic.boards)
        lines.append(f"elastic {names} by {problem.elastic.gpus_per_node}")
    empty = Rules()
    asked = {name: getattr(problem.rules, name) for name in Rules.__slots__}
    lines += [f"rule {name} = {value}" for name, value in asked.items() if value != getattr(empty, name)]
    if problem.prices:
        lines.append(f"prices {dict(problem.prices)}")
    return "\n".join(lines)

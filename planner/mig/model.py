"""The variables of the planner's programme and what they mean, and the objectives in terms of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from planner.hardware import Board
from planner.mig.columns import Column, Row, UnitKind
from planner.mig.state import PresentGpu, State
from planner.solve import Programme


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClass:
    """GPUs between which no rule and no present layout makes a difference; without `gpus` it is elastic."""

    board: Board
    units: tuple[UnitKind, ...]
    gpus: tuple[PresentGpu, ...]
    node: str | None  # where nodes are told apart
    single: "SingleNodes | None"
    per_node: int  # how many of them one node has, where its strategy is `single`
    limit: int  # how many there are; for elastic ones more than any plan needs
    names: tuple[str, ...]  # profiles in demand that the board has
    columns: tuple[Column, ...]
    first: int  # variable of the first column

    @property
    def is_elastic(self) -> bool:
        """Whether these GPUs do not exist yet."""
        return not self.gpus

    def variables(self) -> Iterable[tuple[int, Column]]:
        """Every column with the number of its variable."""
        return enumerate(self.columns, self.first)


@dataclass(slots=True, kw_only=True)
class SingleNodes:
    """Nodes with MIG strategy `single` that hold the same GPUs; `chosen` has one variable per profile, "" for none."""

    nodes: tuple[str, ...]
    limit: int
    profiles: tuple[str, ...]
    may_be_without_mig: bool
    chosen: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Model:
    """The programme with the meaning of its variables."""

    state: State
    programme: Programme
    classes: list[GpuClass] = field(default_factory=list)
    singles: list[SingleNodes] = field(default_factory=list)
    pooled: dict[tuple[Row, str, str], int] = field(default_factory=dict)  # of a row, served by a profile of a board
    named: dict[tuple[int, Row, str], int] = field(default_factory=dict)  # the same on the GPUs of one class
    unplaced: dict[Row, int] = field(default_factory=dict)
    is_cut_short: bool = False  # fewer elastic nodes than a plan might use: bounds are then not proven
    impossible: str | None = None  # why no plan can respect the rules, known before solving

    def cost(self) -> dict[int, float]:
        """GPUs in use, or their price, and the price of upsizing; without what is frozen."""
        prices = self.state.problem.prices
        found: dict[int, float] = {}
        upsizing = {(u.profile, to): u.price for u in self.state.problem.rules.upsizes for to in u.to}
        for gpu_class in self.classes:
            price = prices.get(gpu_class.board.name, 1.0)
            for variable, column in gpu_class.variables():
                found[variable] = price * column.used + sum(
                    upsizing.get((unit.row.profile, unit.profile), 0.0)
                    for unit in (gpu_class.units[index] for index in column.kept)
                )
        for (row, profile, _), variable in self.pooled.items():
            found[variable] = upsizing.get((row.profile, profile), 0.0)
        for (_, row, profile), variable in self.named.items():
            found[variable] = upsizing.get((row.profile, profile), 0.0)
        return {variable: value for variable, value in found.items() if value}

    def gpus(self) -> dict[int, float]:
        """GPUs in use, without what is frozen."""
        return {v: 1.0 for gpu_class in self.classes for v, column in gpu_class.variables() if column.used}

    def moves(self) -> dict[int, float]:
        """Running workloads that do not stay."""
        return {v: float(c.moves) for gpu_class in self.classes for v, c in gpu_class.variables() if c.moves}

    def upsized(self) -> dict[int, float]:
        """Workloads on a larger profile than they asked for."""
        found: dict[int, float] = {}
        for gpu_class in self.classes:
            for variable, column in gpu_class.variables():
                kept = [gpu_class.units[index] for index in column.kept]
                found[variable] = sum(unit.row.profile != unit.profile for unit in kept)
        for (row, profile, _), variable in self.pooled.items():
            found[variable] = row.profile != profile
        for (_, row, profile), variable in self.named.items():
            found[variable] = row.profile != profile
        return {variable: float(value) for variable, value in found.items() if value}

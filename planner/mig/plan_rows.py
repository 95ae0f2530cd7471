"""The plan file as it is written: every key, its type and its bounds. docs/mig-planning.md explains them."""

from typing import Annotated, Literal

from pydantic import FailFast, Field

from planner.mig.file_shape import Row, Version
from planner.mig.problem_rows import Name, ProblemRow

_Start = Annotated[int, Field(ge=0, le=255)]
_Count = Annotated[int, Field(ge=0)]
_Text = Annotated[str, Field(max_length=10_000)]


class LevelRow(Row):
    """One objective."""

    name: Name
    value: float
    lower_bound: float | None
    proven: bool
    gap_ratio: float | None = None


class PlacementRow(Row):
    """Where one workload runs in the target."""

    workload: Name
    gpu: Name
    node: Name
    profile: Name
    start: _Start


class UnplacedRow(Row):
    """A workload without a place."""

    workload: Name
    reason: _Text
    limit: Name


class ExpectedRow(Row):
    """An instance that a check expects."""

    profile: Name
    start: _Start


class StepRow(Row):
    """One step of the change or of its rollback."""

    wave: Annotated[int, Field(ge=1)]
    node: Name
    gpu: Name
    action: Literal["check", "enable-mig", "disable-mig", "create", "destroy", "start", "stop"]
    workload: Name | None = None
    profile: Name | None = None
    start: _Start | None = None
    compute_instances: list[Name] = Field(default_factory=list, max_length=16)
    downtime: bool = False
    resets_gpu: bool = False
    expected: list[ExpectedRow] = Field(default_factory=list, max_length=64)
    note: _Text | None = None


class LayoutInstanceRow(Row):
    """One GPU instance of the target."""

    profile: Name
    start: _Start
    workloads: list[Name] = Field(default_factory=list, max_length=16)
    compute_instances: list[Name] = Field(default_factory=list, max_length=16)
    reserve: bool = False


class LayoutRow(Row):
    """One GPU of the target."""

    gpu: Name
    node: Name
    board: Name
    new: bool = False
    instances: list[LayoutInstanceRow] = Field(default_factory=list, max_length=64)


class RemedyRow(Row):
    """A change with which everything would fit."""

    drop_rules: list[Name] = Field(default_factory=list)
    add_gpus: dict[Name, _Count] = Field(default_factory=dict)


class PlanRow(Row):
    """The whole file."""

    version: Version
    status: Literal["optimal", "feasible", "infeasible"]
    mode: Literal["initial", "compact", "reconfigure", "add", "add-without-moves"]
    gpus_used: _Count
    gpus_lower_bound: _Count
    moves: _Count
    moves_lower_bound: _Count
    cost_usd_per_hour: float | None = None
    levels: list[LevelRow] = Field(default_factory=list, max_length=20)
    placements: Annotated[list[PlacementRow], FailFast()]
    unplaced: Annotated[list[UnplacedRow], FailFast()]
    steps: Annotated[list[StepRow], FailFast()]
    rollback: Annotated[list[StepRow], FailFast()]
    max_down: _Count
    max_down_proven: bool = False
    down: Annotated[list[Name], FailFast()] = Field(default_factory=list)
    layouts: Annotated[list[LayoutRow], FailFast()]
    assumed_gpus: Annotated[list[Name], FailFast()] = Field(default_factory=list)
    remedies: list[RemedyRow] = Field(default_factory=list)
    notes: list[_Text] = Field(default_factory=list)
    seconds: dict[Name, float] = Field(default_factory=dict)
    problem: ProblemRow

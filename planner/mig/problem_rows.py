"""The problem file as it is written: every key, its type and its bounds. docs/mig-planning.md explains them."""

from typing import Annotated, Literal

from pydantic import FailFast, Field

from planner.mig.file_shape import Row, Version

Name = Annotated[str, Field(min_length=1, max_length=512)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Usd = Annotated[float, Field(gt=0, le=1e9)]
Price = Annotated[float, Field(ge=0, le=1e9)]


class ComputeInstanceRow(Row):
    """One compute instance of a GPU instance that holds several."""

    profile: Name
    workload: Name | None = None


class InstanceRow(Row):
    """One GPU instance that exists."""

    profile: Name
    start: Annotated[int, Field(ge=0, le=255)] | None = None
    workload: Name | None = None
    compute_instances: Annotated[list[ComputeInstanceRow], Field(max_length=16)] | None = None


class GpuRow(Row):
    """One GPU of the fleet."""

    id: Name
    node: Name
    board: Name
    instances: list[InstanceRow] = Field(default_factory=list, max_length=64)
    driver: Name | None = None
    product: Name | None = None
    index: Annotated[int, Field(ge=0, le=1023)] | None = None
    mig_enabled: bool | None = None
    occupied_whole: bool = False


class ElasticRow(Row):
    """As many more GPUs as are needed."""

    board: Name | None = None
    boards: Annotated[list[Name], Field(min_length=1, max_length=100)] | None = None
    gpus_per_node: Annotated[int, Field(ge=1, le=1024)] = 8
    driver: Name | None = None


class WorkloadRow(Row):
    """One workload, running or not."""

    id: Name
    profile: Name
    service: Name | None = None
    tenant: Name | None = None
    pinned: bool = False


class ReserveRow(Row):
    """Free instances to keep."""

    profile: Name
    count: Count


class UpsizeRow(Row):
    """Larger profiles that may serve a request."""

    profile: Name
    to: Annotated[list[Name], Field(min_length=1, max_length=100)]
    price: Price = 0.0


class RulesRow(Row):
    """What a plan must respect."""

    single_nodes: list[Name] | Literal["all"] = Field(default_factory=list)
    spread: dict[Name, Literal["gpu", "node"]] = Field(default_factory=dict)
    isolated_tenants: list[Name] | Literal["all"] = Field(default_factory=list)
    reserve: list[ReserveRow] = Field(default_factory=list, max_length=1000)
    survive_node_loss: bool = False
    upsize: list[UpsizeRow] = Field(default_factory=list, max_length=1000)
    untouchable_gpus: list[Name] = Field(default_factory=list)
    untouchable_nodes: list[Name] = Field(default_factory=list)
    stay_on_board: bool = False
    max_moves: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None


class ProblemRow(Row):
    """The whole file."""

    version: Version
    gpus: Annotated[list[GpuRow], FailFast()] = Field(default_factory=list)
    elastic: ElasticRow | None = None
    workloads: Annotated[list[WorkloadRow], FailFast()] = Field(default_factory=list)
    new: Annotated[list[WorkloadRow], FailFast()] = Field(default_factory=list)
    rules: RulesRow = Field(default_factory=RulesRow)
    prices: dict[Name, Usd] = Field(default_factory=dict)

"""What sources say, in short: readings, facts and batches for the tests of the store."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select

from planner.hardware import MigMode
from planner.readings import Batch, Gap, GpuFact, InstanceFact, PodFact, Reading, Subject
from planner.units import GpuUuid, NodeName
from store.tables import METADATA
from store.writes import register_source, write_batch

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

_CLUSTERS = itertools.count(1)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def gpu_uuid(number: int = 0) -> GpuUuid:
    return GpuUuid(f"GPU-{number:08d}")


def subject(number: int = 0, gi_id: int | None = None) -> Subject:
    return Subject(gpu_uuid=gpu_uuid(number), gi_id=gi_id)


def readings(
    at: datetime, values: Mapping[str, float], number: int = 0, gi_id: int | None = None
) -> tuple[Reading, ...]:
    return tuple(
        Reading(subject=subject(number, gi_id), metric=name, value=value, observed_at=at)
        for name, value in values.items()
    )


def fact(
    at: datetime,
    number: int = 0,
    *,
    node: str = "node-a",
    index: int | None = 0,
    model_name: str | None = "NVIDIA H100 80GB HBM3",
    driver_version: str | None = None,
    mig_mode: MigMode | None = None,
    instances: Iterable[tuple[int, str] | tuple[int, str, int | None]] = (),
    pods: Sequence[PodFact] = (),
) -> GpuFact:
    return GpuFact(
        observed_at=at,
        gpu_uuid=gpu_uuid(number),
        node=NodeName(node),
        index=index,
        model_name=model_name,
        pci_bus_id=None,
        driver_version=driver_version,
        mig_mode=mig_mode,
        instances=tuple(
            InstanceFact(gi_id=one[0], profile=one[1], start=one[2] if len(one) > 2 else None) for one in instances
        ),
        pods=tuple(pods),
    )


def pod(name: str, gi_id: int | None = None, *, uid: str | None = None, shared: bool = False) -> PodFact:
    return PodFact(gi_id=gi_id, namespace="inference", name=name, container="vllm", uid=uid, shared=shared)


def batch(
    *facts: GpuFact,
    readings: Sequence[Reading] = (),
    gaps: Sequence[Gap] = (),
    complete: Iterable[str] = (),
    watermark: datetime | None = None,
) -> Batch:
    return Batch(
        readings=tuple(readings),
        facts=facts,
        gaps=tuple(gaps),
        nodes_complete=frozenset(NodeName(name) for name in complete),
        watermark=watermark,
    )


def write(engine: Engine, source_id: int, one: Batch, at: datetime = NOW, target: str = "node-a") -> None:
    write_batch(engine, source_id=source_id, target=target, started_at=at, seconds=0.1, batch=one)


def source_of_new_cluster(engine: Engine) -> tuple[int, str]:
    """A source in a cluster that nothing else uses, so that examples of a property do not see each other."""
    cluster = f"cluster-{next(_CLUSTERS)}"
    return register_source(engine, cluster=cluster, name="dcgm", kind="dcgm", interval_s=30, now=NOW), cluster


def rows(engine: Engine, table_name: str, /, **where: Any) -> list[dict[str, Any]]:
    """All rows of a table, those of one kind first seen first."""
    table = METADATA.tables[table_name]
    statement = select(table).order_by(*table.primary_key.columns)
    for column, value in where.items():
        statement = statement.where(table.c[column] == value)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def everything(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    return {name: rows(engine, name) for name in METADATA.tables}


def spans(engine: Engine, name: str, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of an inventory table by time: the columns, then from and to in seconds after NOW."""
    return [
        (*(row[column] for column in columns), _seconds(row["valid_from"]), _seconds(row["valid_to"]))
        for row in sorted(rows(engine, name), key=lambda row: (row["valid_from"], row["id"]))
    ]


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else (at - NOW).total_seconds()

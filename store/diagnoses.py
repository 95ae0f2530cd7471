"""What was found wrong with each target last: kept once per target, checked again when it is read back."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Connection, Engine, RowMapping, delete, select

from planner.diagnosis import Check, Diagnosis, Finding, Outcome
from store.database import reading, upsert, writing
from store.diagnosis_tables import SourceDiagnosis
from store.errors import DiagnosisDamaged, SourceUnknown
from store.tables import Cluster, Source, table_of

_TABLE = table_of(SourceDiagnosis)
_SOURCES = table_of(Source)
_CLUSTERS = table_of(Cluster)


class _Finding(BaseModel):
    """One check as it is kept; keys of later versions are left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True)

    check: Check
    outcome: Outcome
    text: str
    cost: str | None = None
    fix: str | None = None
    metric: str | None = None
    reason: str | None = None


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True, allow_inf_nan=False)

    findings: tuple[_Finding, ...]
    present: tuple[str, ...] = ()
    version: str | None = None
    clock_skew_s: float | None = None
    newest_sample_age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDiagnoses:
    """Every diagnosis in the store, by cluster, source and target, and an error for each that cannot be understood."""

    diagnoses: tuple[Diagnosis, ...] = ()
    damaged: tuple[DiagnosisDamaged, ...] = ()


def keep_diagnosis(engine: Engine, diagnosis: Diagnosis) -> None:
    """Keep this as the newest of its target; one that was taken later stays.

    Raises SourceUnknown for a source that was never registered (`store.writes.register_source`).
    """
    with writing(engine) as connection:
        statement = upsert(connection, _TABLE).values(
            source_id=_source_id(connection, diagnosis),
            target=diagnosis.target,
            taken_at=diagnosis.taken_at,
            seconds=diagnosis.seconds,
            body=_Body.model_validate(diagnosis).model_dump_json(exclude_defaults=True),
        )
        new = statement.excluded
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["source_id", "target"],
                set_={name: new[name] for name in ("taken_at", "seconds", "body")},
                where=new.taken_at >= _TABLE.c.taken_at,
            )
        )


def kept_diagnoses(engine: Engine) -> KeptDiagnoses:
    """The newest diagnosis of every target that has one."""
    statement = (
        select(
            _CLUSTERS.c.name.label("cluster"),
            _SOURCES.c.name.label("source"),
            _SOURCES.c.kind,
            *(_TABLE.c[name] for name in ("target", "taken_at", "seconds", "body")),
        )
        .join(_SOURCES, _SOURCES.c.id == _TABLE.c.source_id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _SOURCES.c.cluster_id)
        .order_by(_CLUSTERS.c.name, _SOURCES.c.name, _TABLE.c.target)
    )
    with reading(engine) as connection:
        rows = connection.execute(statement).mappings().all()
    found, damaged = [], []
    for row in rows:
        try:
            found.append(_diagnosis(row))
        except DiagnosisDamaged as error:
            damaged.append(error)
    return KeptDiagnoses(diagnoses=tuple(found), damaged=tuple(damaged))


def forget_diagnoses(engine: Engine, before: datetime) -> int:
    """Remove those of targets that nobody has tried since; returns how many. A target in use is looked at hourly."""
    with writing(engine) as connection:
        return connection.execute(delete(_TABLE).where(_TABLE.c.taken_at < before)).rowcount


def _source_id(connection: Connection, diagnosis: Diagnosis) -> int:
    found = connection.execute(
        select(_SOURCES.c.id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _SOURCES.c.cluster_id)
        .where(_CLUSTERS.c.name == diagnosis.cluster, _SOURCES.c.name == diagnosis.source)
    ).scalar_one_or_none()
    if found is None:
        raise SourceUnknown(
            f"the store knows no source {diagnosis.source!r} of cluster {diagnosis.cluster!r}: collect from it first"
        )
    return int(found)


def _diagnosis(row: RowMapping) -> Diagnosis:
    try:
        body = _Body.model_validate_json(row["body"])
    except ValidationError as error:
        raise DiagnosisDamaged(
            f"the diagnosis of {row['target']} (source {row['source']}) cannot be understood: another program or "
            "version wrote it; the running collector writes it anew within an hour"
        ) from error
    return Diagnosis(
        cluster=row["cluster"],
        source=row["source"],
        kind=row["kind"],
        target=row["target"],
        taken_at=row["taken_at"],
        seconds=row["seconds"],
        findings=tuple(Finding(**dict(one)) for one in body.findings),
        present=body.present,
        version=body.version,
        clock_skew_s=body.clock_skew_s,
        newest_sample_age_s=body.newest_sample_age_s,
    )

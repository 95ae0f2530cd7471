"""Measured starts of engines beside what was predicted for them: kept once, read as what the planner learns from.

The memory of a device is what CUDA saw in these runs, never its label: the lowest counts, as an answer for it holds on
every device of that kind.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import Engine, RowMapping, delete, func, select

from planner.memory.calibration import Calibration, CalibrationKey, TermComparison
from planner.memory.devices import MeasuredMemory, device_name
from planner.memory.estimate import Engine as ServingEngine
from planner.memory.experience import Experience
from planner.memory.learning import Learnt, kept_of, profile_of
from planner.sentences import spelled_count
from planner.units import GIB
from store.database import reading, upsert, writing
from store.errors import MemoryRunDamaged, MemoryRunMissing, MemoryRunRefused
from store.tables import MemoryRunRecord, table_of

BODY_LIMIT_BYTES = 256 * 1024
COUNT_LIMIT = 20_000
"""Measured runs in one store: years of starts, and no way to fill the disk from a page."""

_TABLE = table_of(MemoryRunRecord)


class _Term(BaseModel):
    """One term as predicted and as measured, in bytes; keys of later versions are left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    predicted: int
    low: int
    high: int
    measured: int = Field(ge=0)


_TERMS = TypeAdapter(tuple[_Term, ...])
_MEASURED = TypeAdapter(dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """One measured run. `device_bytes` is what CUDA saw; `measured` everything that was printed, by its own names."""

    id: int
    calibration: Calibration
    kept_at: datetime
    board: str | None
    profile: str | None
    device_bytes: int | None
    measured: Mapping[str, Any]


def keep_run(engine: Engine, learnt: Learnt, *, now: datetime) -> bool:
    """Keep the run; False where the same measurement is there already, so that a log can be read twice.

    Raises MemoryRunRefused, also for a run that must not be kept (`Learnt.refusal`).
    """
    calibration = learnt.calibration
    if calibration is None or learnt.refusal is not None:
        raise MemoryRunRefused(learnt.refusal or "the log and the prediction have no term in common: nothing is kept")
    key, device = calibration.key, learnt.run.device
    terms = _json([_Term.model_validate(one, from_attributes=True).model_dump() for one in calibration.terms])
    measured = _json(kept_of(learnt.measured))
    size = len(terms) + len(measured)
    if size > BODY_LIMIT_BYTES:
        raise MemoryRunRefused(f"the run takes {size:,} characters, more than the {BODY_LIMIT_BYTES:,} that are kept")
    values = {
        "digest": _digest(key, measured),
        "kept_at": now,
        "measured_at": calibration.measured_at,
        "model": key.model,
        "engine": key.engine.value,
        "engine_version": key.version,
        "device": key.device,
        "ranks": key.ranks,
        "board": device.board or None,
        "profile": profile_of(device),
        "device_bytes": learnt.device_bytes,
        "terms": terms,
        "measured": measured,
    }
    with writing(engine) as connection:
        if connection.execute(select(func.count()).select_from(_TABLE)).scalar_one() >= COUNT_LIMIT:
            raise MemoryRunRefused(f"{COUNT_LIMIT:,} measured runs are kept already: forget some first")
        statement = upsert(connection, _TABLE).values(values).on_conflict_do_nothing(index_elements=["digest"])
        return connection.execute(statement).rowcount == 1


def kept_runs(engine: Engine) -> tuple[KeptRun, ...]:
    """Every measured run in the order in which they were kept. Raises MemoryRunDamaged."""
    with reading(engine) as connection:
        rows = connection.execute(select(_TABLE).order_by(_TABLE.c.id)).mappings().all()
    return tuple(_run(row) for row in rows)


def forget_run(engine: Engine, run_id: int) -> None:
    """Remove one run, such as one that was described wrongly; raises MemoryRunMissing."""
    with writing(engine) as connection:
        if connection.execute(delete(_TABLE).where(_TABLE.c.id == run_id)).rowcount == 0:
            raise MemoryRunMissing(f"no measured run {run_id} is in this store: it may have been forgotten already")


def measured_devices(engine: Engine) -> tuple[MeasuredMemory, ...]:
    """What CUDA saw of each device of the catalogue, the lowest of its measured runs, with who printed it when."""
    columns = ("board", "profile", "device_bytes", "engine", "measured", "measured_at", "kept_at")
    with reading(engine) as connection:
        rows = connection.execute(
            select(*(_TABLE.c[name] for name in columns))
            .where(_TABLE.c.board.is_not(None), _TABLE.c.device_bytes.is_not(None))
            .order_by(_TABLE.c.device_bytes, _TABLE.c.id)
        )
        by_device: dict[tuple[str, str | None], list[RowMapping]] = {}
        for row in rows.mappings():
            by_device.setdefault((row["board"], row["profile"]), []).append(row)
    return tuple(_memory(board, profile, found) for (board, profile), found in by_device.items())


def experience(engine: Engine) -> Experience:
    """What the planner learns from the runs of this store."""
    return Experience(
        calibrations=tuple(run.calibration for run in kept_runs(engine)), devices=measured_devices(engine)
    )


def revision(engine: Engine) -> str:
    """Changes whenever a run is kept or forgotten."""
    with reading(engine) as connection:
        count, newest = connection.execute(select(func.count(), func.max(_TABLE.c.id)).select_from(_TABLE)).one()
    return f"{count}-{newest}"


def _run(row: RowMapping) -> KeptRun:
    try:
        terms = _TERMS.validate_json(row["terms"])
        measured = _MEASURED.validate_json(row["measured"])
        serving = ServingEngine(row["engine"])
    except (ValidationError, ValueError) as error:
        raise MemoryRunDamaged(
            f"the measured run {row['id']} ({row['model']} on {row['device']}) cannot be understood: it was written by "
            f"another program or version; remove row {row['id']} of the table memory_run"
        ) from error
    key = CalibrationKey(
        model=row["model"],
        engine=serving,
        version=row["engine_version"],
        device=row["device"],
        ranks=row["ranks"],
    )
    return KeptRun(
        id=row["id"],
        calibration=Calibration(
            key=key,
            terms=tuple(TermComparison(**term.model_dump()) for term in terms),
            measured_at=row["measured_at"],
        ),
        kept_at=row["kept_at"],
        board=row["board"],
        profile=row["profile"],
        device_bytes=row["device_bytes"],
        measured=measured,
    )


def _memory(board: str, profile: str | None, rows: list[RowMapping]) -> MeasuredMemory:
    lowest = rows[0]
    try:
        version = _MEASURED.validate_json(lowest["measured"]).get("engine_version")
    except ValidationError:
        version = None
    printed = f"{lowest['device_bytes'] / GIB:.2f} GiB as {lowest['engine']}{f' {version}' if version else ''} saw it"
    at = lowest["measured_at"] or lowest["kept_at"]
    when = f"{'' if lowest['measured_at'] else 'kept '}{at:%Y-%m-%d}"
    many = f", the lowest of {spelled_count(len(rows), 'measured run')}" if len(rows) > 1 else ""
    source = f"{printed} on {device_name(board, profile)} ({when}){many} (store)"
    return MeasuredMemory(board=board, profile=profile, memory_bytes=lowest["device_bytes"], source=source)


def _digest(key: CalibrationKey, measured: str) -> str:
    identity = (key.model, key.engine.value, key.version, key.device, key.ranks, measured)
    return hashlib.sha256(_json(identity).encode()).hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

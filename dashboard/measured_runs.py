"""Measured runs as the page "Will it fit?" knows them: read with the pages' engine, written through another."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from dashboard.store_writing import writable
from planner.memory.experience import NO_EXPERIENCE, Experience
from planner.memory.learning import Learnt
from store import memory_runs
from store.errors import StoreError, StoreMissing
from store.memory_runs import KeptRun as KeptRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store holds; `problem` says why that is nothing, in a sentence for people."""

    experience: Experience = NO_EXPERIENCE
    runs: tuple[KeptRun, ...] = ()
    problem: str | None = None
    is_missing: bool = False  # there is no store, which is no trouble


def revision(engine: Engine) -> str:
    """Changes whenever a run is kept or forgotten. Raises StoreError."""
    return memory_runs.revision(engine)


def known(engine: Engine) -> Known:
    """Every run and what follows from them. Raises StoreError."""
    return Known(experience=memory_runs.experience(engine), runs=memory_runs.kept_runs(engine))


def unknown(error: StoreError) -> Known:
    """Nothing, as the store cannot be read."""
    if isinstance(error, StoreMissing):
        return Known(
            problem="There is no store, so no measured run is known and nothing is corrected.", is_missing=True
        )
    return Known(problem=f"Nothing is corrected by measured runs, as the store cannot be read: {error}")


def keep(url: str, learnt: Learnt, now: datetime) -> bool:
    """Keep the run; False where it was kept before. Raises StoreError, also where the store may not be written."""
    with writable(url) as engine:
        return memory_runs.keep_run(engine, learnt, now=now)


def forget(url: str, run_id: int) -> None:
    """Remove a run. Raises StoreError."""
    with writable(url) as engine:
        memory_runs.forget_run(engine, run_id)

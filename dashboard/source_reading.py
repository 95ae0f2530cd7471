"""What the Sources page reads of the store: health, gaps and diagnoses of every target, and attempts over a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from dashboard.data import overdue_after_s
from dashboard.source_figures import SourceFigures, source_figures
from dashboard.target_figures import target_figures
from store import queries
from store.attempt_history import AttemptCount, TargetKey, attempt_history
from store.diagnoses import kept_diagnoses

STRIP_SPAN = timedelta(hours=24)
STRIP_PARTS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcesRead:
    """Every source, and what in the store could not be understood, in sentences."""

    sources: tuple[SourceFigures, ...]
    has_diagnoses: bool
    damaged: tuple[str, ...]


def read_sources(engine: Engine, now: datetime) -> SourcesRead:
    """Every target that was ever tried, by source. Raises StoreError."""
    kept = kept_diagnoses(engine)
    diagnoses = {(one.cluster, one.source, one.target): one for one in kept.diagnoses}
    gaps: dict[TargetKey, list[queries.OpenGap]] = {}
    for gap in queries.open_gaps(engine):
        gaps.setdefault((gap.cluster, gap.source, gap.target), []).append(gap)
    targets = []
    for health in queries.source_health(engine, now):
        key = (health.cluster, health.source, health.target)
        allowed_s = overdue_after_s(health.interval_s)
        targets.append(target_figures(health, diagnoses.get(key), gaps.get(key, ()), now, allowed_s=allowed_s))
    return SourcesRead(
        sources=source_figures(targets),
        has_diagnoses=bool(kept.diagnoses),
        damaged=tuple(str(error) for error in kept.damaged),
    )


def read_strips(
    engine: Engine, targets: Sequence[TargetKey], now: datetime
) -> dict[TargetKey, tuple[AttemptCount, ...]]:
    """The attempts of the last 24 hours at these targets, in parts of half an hour."""
    return attempt_history(engine, targets, now - STRIP_SPAN, now, parts=STRIP_PARTS)

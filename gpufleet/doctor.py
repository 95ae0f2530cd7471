"""`gpufleet doctor`: every configured source looked at once, and what each of its gaps costs and wants."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from collectors import error_fix_of, remedy_of
from collectors.diagnosis import diagnose, diagnosis_of
from collectors.source import Attempt, Collector
from planner.diagnosis import LACK_LOSSES, METRIC_LOSSES, SERVING_LOSSES, SPEND_LOSSES, Diagnosis

LOSSES = {**METRIC_LOSSES, **SERVING_LOSSES, **SPEND_LOSSES, **LACK_LOSSES}
MAX_AT_ONCE = 16


def examine(collectors: Sequence[Collector], now: datetime) -> tuple[Diagnosis, ...]:
    """The diagnosis of every target of every source, side by side, in the order of the configuration."""
    if not collectors:
        return ()
    with ThreadPoolExecutor(max_workers=min(len(collectors), MAX_AT_ONCE), thread_name_prefix="doctor") as threads:
        looked = [threads.submit(_examine, collector, now) for collector in collectors]
        return tuple(diagnosis for one in looked for diagnosis in one.result())


def diagnosis_from(collector: Collector, attempt: Attempt) -> Diagnosis:
    """What an attempt that was made anyway says of its target; nothing is asked for it."""
    return diagnosis_of(
        collector,
        attempt,
        losses=LOSSES,
        remedy=remedy_of(collector.kind),
        error_fix=error_fix_of(collector.kind),
    )


def _examine(collector: Collector, now: datetime) -> tuple[Diagnosis, ...]:
    return tuple(
        diagnose(
            collector,
            now,
            losses=LOSSES,
            remedy=remedy_of(collector.kind),
            error_fix=error_fix_of(collector.kind),
        )
    )

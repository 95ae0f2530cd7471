"""What each device measured over a window: its newest values with their age, and quantiles of what advice looks at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from planner.fleet import Observation, Quantiles, Usage
from planner.metrics import METRICS
from store.samples import from_ms, to_ms
from store.tables import Sample, table_of

USAGE_METRICS = (
    "gpu_busy_ratio",
    "memory_busy_ratio",
    "memory_used_bytes",
    "memory_reserved_bytes",
    "gr_engine_active_ratio",
    "sm_active_ratio",
    "sm_occupancy_ratio",
    "tensor_active_ratio",
    "dram_active_ratio",
    "temperature_celsius",
    "power_watts",
)
"""Metrics whose quantiles states and advice need. All of the window is read for these, of the others only what
`RECENT` needs: fetching all columns of all rows took 2.7 times as long (14.3 against 5.2 s for a million rows)."""

RECENT = timedelta(minutes=15)
"""How far before a device's newest sample its newest value of every other metric is looked for."""

COVERAGE_BUCKET = timedelta(minutes=5)

_OTHER_METRICS = tuple(metric.name for metric in METRICS if metric.name not in USAGE_METRICS)
_DEVICES_PER_QUERY = 64  # an hour of 30 s samples of so many devices is some ten thousand rows in memory

_SAMPLES = table_of(Sample)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one device measured; `usage` and `newest` are None when it has no sample in the window."""

    observations: Mapping[str, Observation]
    usage: Usage | None
    newest: datetime | None


NOTHING = Measured(observations={}, usage=None, newest=None)


def measured_devices(
    connection: Connection,
    device_ids: Sequence[int],
    *,
    start: datetime,
    end: datetime,
    not_before_ms: Mapping[int, int],
) -> dict[int, Measured]:
    """What each device measured from `start` to `end`; a device without a sample is not in the answer.

    `not_before_ms` cuts off, per device, what belongs to an earlier GPU instance of the same id.
    """
    measured: dict[int, Measured] = {}
    for offset in range(0, len(device_ids), _DEVICES_PER_QUERY):
        chunk = device_ids[offset : offset + _DEVICES_PER_QUERY]
        start_ms, end_ms = to_ms(start), to_ms(end)
        used = dict(_tables(connection, chunk, USAGE_METRICS, start_ms, end_ms, not_before_ms))
        if not used:
            continue
        recent_ms = min(int(table[-1, 0]) for table in used.values()) - RECENT // timedelta(milliseconds=1)
        others = dict(_tables(connection, list(used), _OTHER_METRICS, max(recent_ms, start_ms), end_ms, not_before_ms))
        for device_id, table in used.items():
            observations = newest_of(table, USAGE_METRICS)
            if device_id in others:
                observations |= newest_of(others[device_id], _OTHER_METRICS)
            measured[device_id] = Measured(
                observations=observations,
                usage=Usage(
                    start=start,
                    end=end,
                    coverage_ratio=_coverage_ratio(table[:, 0], start_ms, end_ms),
                    metrics=quantiles_of(table, USAGE_METRICS),
                ),
                newest=from_ms(int(table[-1, 0])),
            )
    return measured


def _tables(
    connection: Connection,
    device_ids: Sequence[int],
    metrics: Sequence[str],
    start_ms: int,
    end_ms: int,
    not_before_ms: Mapping[int, int],
) -> Iterator[tuple[int, Values]]:
    """Per device with samples, by time: a column of milliseconds, then one per metric, NaN where absent."""
    columns = _SAMPLES.c
    statement = (
        select(columns.device_id, columns.observed_at_ms, *(columns[name] for name in metrics))
        .where(columns.device_id.in_(device_ids), columns.observed_at_ms.between(start_ms, end_ms))
        .order_by(columns.device_id, columns.observed_at_ms)
    )
    result = connection.execute(statement)
    # The driver's own tuples: numbers need no conversion, and numpy takes tuples at twice the speed of rows.
    rows: Sequence[Any] = () if result.cursor is None else result.cursor.fetchall()
    result.close()
    if not rows:
        return
    table = np.array(rows, dtype=np.float64)
    bounds = np.flatnonzero(np.diff(table[:, 0])) + 1
    for part in np.split(table, bounds):
        device_id = int(part[0, 0])
        first = int(np.searchsorted(part[:, 1], not_before_ms.get(device_id, start_ms)))
        if first < len(part):
            yield device_id, part[first:, 1:]


def newest_of(table: Values, metrics: Sequence[str]) -> dict[str, Observation]:
    """The newest value of each metric; rows by time, milliseconds first, then a column per metric, NaN where absent."""
    present = ~np.isnan(table[:, 1:])
    rows = len(table) - 1 - np.argmax(present[::-1], axis=0)
    times: dict[int, datetime] = {}
    found: dict[str, Observation] = {}
    for column in np.flatnonzero(present.any(axis=0)).tolist():
        row = int(rows[column])
        observed_at = times.setdefault(row, from_ms(int(table[row, 0])))
        found[metrics[column]] = Observation(value=float(table[row, column + 1]), observed_at=observed_at)
    return found


def quantiles_of(table: Values, metrics: Sequence[str]) -> dict[str, Quantiles]:
    """Mean, extremes and linearly interpolated quantiles of each metric that has a sample; rows as in `newest_of`."""
    values = np.sort(table[:, 1:], axis=0)  # NaN is sorted to the end
    counts = (~np.isnan(values)).sum(axis=0)
    present = np.flatnonzero(counts)
    values, counts = values[:, present], counts[present]
    last = counts - 1
    means = np.nansum(values, axis=0) / counts
    rows = zip(
        present.tolist(),
        counts.tolist(),
        # The mean of equal numbers can differ from them in the last digit; it never leaves their range.
        np.clip(means, values[0], np.take_along_axis(values, last[None], axis=0)[0]).tolist(),
        _at_quantile(values, last, 0.5),
        _at_quantile(values, last, 0.95),
        _at_quantile(values, last, 1.0),
        values[0].tolist(),
        strict=True,
    )
    return {
        metrics[column]: Quantiles(samples=samples, mean=mean, p50=p50, p95=p95, maximum=maximum, minimum=minimum)
        for column, samples, mean, p50, p95, maximum, minimum in rows
    }


def _at_quantile(ordered: Values, last: npt.NDArray[np.int64], quantile: float) -> list[float]:
    position = quantile * last
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, last)
    columns = np.arange(ordered.shape[1])
    low, high = ordered[below, columns], ordered[above, columns]
    result: list[float] = (low + (high - low) * (position - below)).tolist()
    return result


def _coverage_ratio(times_ms: Values, start_ms: int, end_ms: int) -> float:
    bucket_ms = COVERAGE_BUCKET // timedelta(milliseconds=1)
    buckets = max(-(-(end_ms - start_ms) // bucket_ms), 1)
    covered = np.minimum((end_ms - times_ms) // bucket_ms, buckets - 1)  # counted backwards, the newest ones are whole
    return len(np.unique(covered)) / buckets

"""How counters and histograms of engines are stored: each by its last cumulative value, as what it added since."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from planner.serving_readings import CounterReading, HistogramReading, ServingSubject
from store.count_rows import COUNTERS, HISTOGRAMS, CountTables, json_list
from store.first_sights import FirstSights
from store.increments import Series, Told
from store.late_readings import begin, follow_late, return_from_ahead
from store.samples import to_ms
from store.serving_series import HistogramName, SeriesName, bounds_ids, chunked, histogram_ids, series_ids


def write_counters(
    connection: Connection,
    ids: Mapping[ServingSubject, int],
    readings: Sequence[CounterReading],
    *,
    now: datetime | None = None,
) -> None:
    """Store what counters added since they were last seen; `now` is when they were asked for, by our clock."""
    told: defaultdict[SeriesName, list[Told]] = defaultdict(list)
    for one in readings:
        name = (ids[one.subject], one.metric, one.label)
        told[name].append(Told(to_ms(one.observed_at), (one.value,), 0.0, _started_ms(one.started_at)))
    if not told:
        return
    numbers = series_ids(connection, set(told))
    by_id = {numbers[name]: _in_order(one) for name, one in told.items()}
    known = _known(connection, COUNTERS, by_id)
    sights = FirstSights.of(connection, by_id, numbers) if len(known) < len(by_id) else None
    _write(connection, COUNTERS, by_id, known, now, sights)


def write_histograms(
    connection: Connection,
    ids: Mapping[ServingSubject, int],
    readings: Sequence[HistogramReading],
    *,
    now: datetime | None = None,
) -> None:
    """Store what histograms added since they were last seen; other bounds than before are another series."""
    if not readings:
        return
    texts = {one.bounds: json_list(one.bounds) for one in readings}
    bounds = bounds_ids(connection, set(texts.values()))
    told: defaultdict[HistogramName, list[Told]] = defaultdict(list)
    for one in readings:
        name = (ids[one.subject], one.metric, bounds[texts[one.bounds]])
        counts = (*one.counts, one.count)
        told[name].append(Told(to_ms(one.observed_at), counts, one.total, _started_ms(one.started_at)))
    numbers = histogram_ids(connection, set(told))
    by_id = {numbers[name]: _in_order(one) for name, one in told.items()}
    _write(connection, HISTOGRAMS, by_id, _known(connection, HISTOGRAMS, by_id), now)


def _write(
    connection: Connection,
    tables: CountTables,
    told: Mapping[int, Sequence[Told]],
    known: Mapping[int, Series],
    now: datetime | None,
    sights: FirstSights | None = None,
) -> None:
    if now is not None:
        return_from_ahead(connection, tables, told, known, to_ms(now))
    late: dict[int, list[Told]] = {}
    for series_id, series in known.items():
        last_ms = series.observed_at_ms
        if last_ms is not None and told[series_id][0].at_ms < last_ms:
            late[series_id] = [one for one in told[series_id] if one.at_ms < last_ms]
    if late:
        follow_late(connection, tables, late, known)
    seen = {series_id: _follow(series, told[series_id]) for series_id, series in known.items()}
    first: dict[int, Told] = {}
    # In order of time: a label that comes in later is judged by those that were there before.
    for series_id in sorted(told.keys() - known.keys(), key=lambda one: told[one][0].at_ms):
        series = Series()
        first[series_id] = told[series_id][0]
        zero = None if sights is None else sights.zero(series_id, seen)
        if zero is not None:
            first[series_id] = zero
            series.see(zero.counts, zero.total, zero.at_ms, None)
        seen[series_id] = _follow(series, told[series_id])
    changed = [(series_id, series) for series_id, series in seen.items() if series.is_changed]
    tables.add(connection, changed)
    tables.keep(connection, changed)
    begin(connection, tables, first)


def _known(connection: Connection, tables: CountTables, series_ids: Collection[int]) -> dict[int, Series]:
    return {series_id: series for chunk in chunked(series_ids) for series_id, series in tables.known(connection, chunk)}


def _follow(series: Series, values: Sequence[Told]) -> Series:
    for at_ms, counts, total, started_ms in values:
        series.see(counts, total, at_ms, started_ms)
    return series


def _in_order(values: list[Told]) -> list[Told]:
    if len(values) > 1:
        values.sort(key=lambda one: (one.at_ms, one.counts, one.total, one.started_at_ms or 0))
    return values


def _started_ms(at: datetime | None) -> int | None:
    return None if at is None else to_ms(at)

"""How use and cost get into the store: spans of time as their source told them last, and counters by the hour."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Insert, Select, bindparam, delete, or_, select

from planner.token_usage import CumulativeSpend, TokenUsage, UsageSpan
from store.database import dialect_insert
from store.increments import Series, Stretch
from store.samples import to_ms
from store.serving_series import chunked
from store.tables import table_of
from store.usage_tables import SpendHour, SpendSeries, TokenUsageRecord

HOUR_MS = 3_600_000

_USAGE = table_of(TokenUsageRecord)
_SPEND = table_of(SpendSeries)
_HOURS = table_of(SpendHour)

_USAGE_KEY = ("start_at", "end_at", "model", "provider", "dimension", "owner")
_USAGE_VALUES = (
    "requests",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cost_usd",
    "usage_details",
    "cost_details",
    "told_at",
)
_SPEND_KEY = ("gateway", "model", "provider", "dimension", "owner", "quantity")

SpendName = tuple[str, ...]


def write_usage(
    connection: Connection,
    source_id: int,
    usage: Sequence[TokenUsage],
    spans: Sequence[UsageSpan],
    told_at: datetime,
) -> None:
    """Store what a source totals; within a span that it told completely, what it does not list any more goes.

    Of a former total that reaches beyond that span, the part outside stays, by its share of time: a day of which a
    half is told again by the hour must not count twice.
    """
    rows = {
        (one.start, one.end, one.model, one.provider, one.dimension, one.owner): {
            "source_id": source_id,
            "start_at": one.start,
            "end_at": one.end,
            "model": one.model,
            "provider": one.provider,
            "dimension": one.dimension,
            "owner": one.owner,
            "requests": one.requests,
            "input_tokens": one.input_tokens,
            "output_tokens": one.output_tokens,
            "total_tokens": one.total_tokens,
            "cost_usd": one.cost_usd,
            "usage_details": _text(one.usage_details),
            "cost_details": _text(one.cost_details),
            "told_at": told_at,
        }
        for one in usage
    }
    for span in spans:
        stored = connection.execute(
            _span_statement(),
            {"source_id": source_id, "dimension": span.dimension, "start": span.start, "end": span.end},
        )
        gone = [row_id for row_id, *key in stored if tuple(key) not in rows]
        for chunk in chunked(gone):
            connection.execute(delete(_USAGE).where(_USAGE.c.id.in_(chunk)))
        _cut(connection, source_id, span, rows.keys())
    if rows:
        connection.execute(_usage_statement(connection.dialect.name), list(rows.values()))


def _cut(connection: Connection, source_id: int, span: UsageSpan, told: Collection[tuple[Any, ...]]) -> None:
    """Leave of totals that reach beyond a span what lies outside of it."""
    parameters = {"source_id": source_id, "dimension": span.dimension, "start": span.start, "end": span.end}
    crossing = [dict(row) for row in connection.execute(_crossing_statement(), parameters).mappings()]
    crossing = [row for row in crossing if tuple(row[name] for name in _USAGE_KEY) not in told]
    for chunk in chunked(row["id"] for row in crossing):
        connection.execute(delete(_USAGE).where(_USAGE.c.id.in_(chunk)))
    left = [
        part
        for row in crossing
        for start, end in ((row["start_at"], span.start), (span.end, row["end_at"]))
        if (part := _part(row, start, end)) is not None
    ]
    if left:
        connection.execute(_usage_statement(connection.dialect.name), left)


def _part(row: Mapping[str, Any], start: datetime, end: datetime) -> dict[str, Any] | None:
    """A total's share of a part of its time, None where it counted nothing in it."""
    counted_until = min(row["end_at"], row["told_at"])
    inside = min(end, counted_until) - max(start, row["start_at"])
    if inside <= timedelta(0):
        return None
    share = inside / (counted_until - row["start_at"])
    part = {name: value for name, value in row.items() if name != "id"} | {"start_at": start, "end_at": end}
    for name in ("requests", "input_tokens", "output_tokens", "total_tokens"):
        part[name] = None if row[name] is None else round(row[name] * share)
    part["cost_usd"] = None if row["cost_usd"] is None else row["cost_usd"] * share
    for name in ("usage_details", "cost_details"):
        part[name] = _text({key: value * share for key, value in json.loads(row[name]).items()})
    return part


def write_spend(connection: Connection, cluster_id: int, spend: Sequence[CumulativeSpend]) -> None:
    """Store what counters of gateways added since they were last seen, shared out over the hours by time."""
    told: defaultdict[SpendName, list[tuple[int, float, int | None]]] = defaultdict(list)
    for one in spend:
        started_ms = None if one.started_at is None else to_ms(one.started_at)
        told[tuple(getattr(one, name) for name in _SPEND_KEY)].append((to_ms(one.observed_at), one.value, started_ms))
    if not told:
        return
    known = _known_spend(connection, cluster_id, told)
    counts = {name: (resets, last_reset) for name, (_, resets, last_reset, _) in known.items()}
    seen: dict[SpendName, Series] = {}
    since_ms: dict[SpendName, int] = {}
    for name, values in told.items():
        series = known[name][0] if name in known else Series()
        for at_ms, value, started_ms in sorted(values, key=lambda one: one[0]):
            series.see((value,), 0.0, at_ms, started_ms)
        if series.is_changed:
            seen[name] = series
        if name not in known:
            beginnings = [one.since_ms for one in series.added[:1]]
            beginnings += [] if series.quiet_since_ms is None else [series.quiet_since_ms]
            since_ms[name] = min(beginnings, default=min(at_ms for at_ms, _, _ in values))
    if not seen:
        return
    connection.execute(
        _spend_statement(connection.dialect.name),
        [
            {
                "cluster_id": cluster_id,
                **dict(zip(_SPEND_KEY, name, strict=True)),
                "value": series.counts[0],
                "observed_at_ms": series.observed_at_ms,
                "started_at_ms": series.started_at_ms,
                "resets": counts.get(name, (0, None))[0] + len(series.resets),
                "last_reset_ms": series.resets[-1].observed_at_ms if series.resets else counts.get(name, (0, None))[1],
                "since_ms": known[name][3] if name in known else since_ms[name],
            }
            for name, series in seen.items()
        ],
    )
    added = {name: series for name, series in seen.items() if any(one.counts[0] for one in series.added)}
    if added:
        ids = _spend_ids(connection, cluster_id, {name[0] for name in added})
        by_hour: defaultdict[tuple[int, int], float] = defaultdict(float)
        for name, series in added.items():
            for stretch in series.added:
                for hour_ms, part in shared_by_hour(stretch):
                    by_hour[ids[name], hour_ms] += part
        connection.execute(
            _hour_statement(connection.dialect.name),
            [{"series_id": at, "hour_ms": hour, "increment": part} for (at, hour), part in by_hour.items()],
        )


def shared_by_hour(one: Stretch) -> Iterator[tuple[int, float]]:
    """What a counter added, split over the hours that the stretch touches by its time in each; adds up to the whole."""
    rest = one.counts[0]
    if not rest:
        return
    length_ms = one.observed_at_ms - one.since_ms
    hour_ms = one.since_ms // HOUR_MS * HOUR_MS
    while hour_ms + HOUR_MS < one.observed_at_ms:
        inside_ms = hour_ms + HOUR_MS - max(one.since_ms, hour_ms)
        part = one.counts[0] * inside_ms / length_ms
        rest -= part
        yield hour_ms, part
        hour_ms += HOUR_MS
    yield hour_ms, rest


def _known_spend(
    connection: Connection, cluster_id: int, told: Mapping[SpendName, Any]
) -> dict[SpendName, tuple[Series, int, int | None, int | None]]:
    known: dict[SpendName, tuple[Series, int, int | None, int | None]] = {}
    for chunk in chunked({name[0] for name in told}):
        rows = connection.execute(_series_statement(), {"cluster_id": cluster_id, "gateways": chunk})
        for _, value, observed, started, resets, last_reset, since, *name in rows:
            if tuple(name) in told:
                series = Series(counts=(value,), observed_at_ms=observed, started_at_ms=started)
                known[tuple(name)] = (series, resets, last_reset, since)
    return known


def _spend_ids(connection: Connection, cluster_id: int, gateways: set[str]) -> dict[SpendName, int]:
    found: dict[SpendName, int] = {}
    for chunk in chunked(gateways):
        rows = connection.execute(_series_statement(), {"cluster_id": cluster_id, "gateways": chunk})
        for series_id, _, _, _, _, _, _, *name in rows:
            found[tuple(name)] = series_id
    return found


def _text(details: Mapping[str, float]) -> str:
    return json.dumps(dict(details), sort_keys=True, separators=(",", ":"))


# Statements are made once: building one costs more than SQLite takes to answer it.


@cache
def _span_statement() -> Select[Any]:
    columns = _USAGE.c
    return select(columns.id, *(columns[name] for name in _USAGE_KEY)).where(
        columns.source_id == bindparam("source_id"),
        columns.dimension == bindparam("dimension"),
        columns.start_at >= bindparam("start"),
        columns.end_at <= bindparam("end"),
    )


@cache
def _crossing_statement() -> Select[Any]:
    """Totals that lie partly in a span and partly outside."""
    columns = _USAGE.c
    start: BindParameter[datetime] = bindparam("start")
    end: BindParameter[datetime] = bindparam("end")
    return select(_USAGE).where(
        columns.source_id == bindparam("source_id"),
        columns.dimension == bindparam("dimension"),
        columns.start_at < end,
        columns.end_at > start,
        or_(columns.start_at < start, columns.end_at > end),
    )


@cache
def _usage_statement(dialect: str) -> Insert:
    statement = dialect_insert(dialect, _USAGE)
    return statement.on_conflict_do_update(
        index_elements=["source_id", *_USAGE_KEY],
        set_={name: statement.excluded[name] for name in _USAGE_VALUES},
    )


@cache
def _series_statement() -> Select[Any]:
    """Locks the rows where the database can: two writers must not make increments from the same last value."""
    columns = _SPEND.c
    names = ("id", "value", "observed_at_ms", "started_at_ms", "resets", "last_reset_ms", "since_ms", *_SPEND_KEY)
    return (
        select(*(columns[name] for name in names))
        .where(
            columns.cluster_id == bindparam("cluster_id"),
            columns.gateway.in_(bindparam("gateways", expanding=True)),
        )
        .order_by(columns.id)
        .with_for_update()
    )


@cache
def _spend_statement(dialect: str) -> Insert:
    statement = dialect_insert(dialect, _SPEND)
    kept = ("value", "observed_at_ms", "started_at_ms", "resets", "last_reset_ms", "since_ms")
    return statement.on_conflict_do_update(
        index_elements=["cluster_id", *_SPEND_KEY], set_={name: statement.excluded[name] for name in kept}
    )


@cache
def _hour_statement(dialect: str) -> Insert:
    """Adds to what the hour has already; the last cumulative value sees to it that nothing is added twice."""
    statement = dialect_insert(dialect, _HOURS)
    return statement.on_conflict_do_update(
        index_elements=["series_id", "hour_ms"],
        set_={"increment": _HOURS.c.increment + statement.excluded.increment},
    )

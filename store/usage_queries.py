"""What gateways and trace stores say about use and cost: rows as they were told, sums over a window, and by the hour.

Sources are never added up: two of them may tell of the same requests. Neither are totals of models and their parts.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, select

from planner.device_state import STALE_AFTER
from planner.join_facts import ModelUse
from planner.token_usage import TokenUsage
from store.database import reading
from store.samples import from_ms, to_ms
from store.tables import Cluster, CollectionAttempt, Source, table_of
from store.token_usage import HOUR_MS
from store.usage_tables import SpendHour, SpendSeries, TokenUsageRecord

_CLUSTERS = table_of(Cluster)
_SOURCES = table_of(Source)
_ATTEMPTS = table_of(CollectionAttempt)
_USAGE = table_of(TokenUsageRecord)
_SPEND = table_of(SpendSeries)
_HOURS = table_of(SpendHour)

_SUMMED = ("requests", "input_tokens", "output_tokens", "cost_usd")
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldUsage:
    """A total as a source told it last, at `told_at`: for a span that had not ended, up to then."""

    cluster: str
    source: str
    kind: str
    usage: TokenUsage
    told_at: datetime

    @property
    def counted_until(self) -> datetime:
        """Up to when the figures count."""
        return max(min(self.usage.end, self.told_at), self.usage.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendOfHour:
    """What the counters of a gateway added in one hour for one model and owner; a quantity it does not count is absent.

    What was added between two readings in different hours is shared out over them by time. It counts from `since`, the
    beginning of the hour or of the counter, to `until`, the end of the hour or the last reading.
    """

    cluster: str
    gateway: str
    hour: datetime
    since: datetime
    until: datetime
    model: str
    provider: str
    dimension: str
    owner: str
    quantities: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one source totals over a window: by model (`totals`), and by model and owner of one dimension (`parts`).

    `spread` says what was assumed, as a clause, where the source tells spans of more than an hour and the window cuts
    one of them.
    """

    told_by: str
    dimension: str
    totals: tuple[ModelUse, ...]
    parts: tuple[ModelUse, ...]
    spread: str | None = None


def token_usage(engine: Engine, start: datetime, end: datetime, *, cluster: str | None = None) -> tuple[ToldUsage, ...]:
    """Every total of a span that touches the window, by source, time, model, dimension and owner."""
    with reading(engine) as connection:
        return token_usage_over(connection, start, end, cluster=cluster)


def token_usage_over(
    connection: Connection, start: datetime, end: datetime, *, cluster: str | None = None
) -> tuple[ToldUsage, ...]:
    """The same in a view of the store that is open already."""
    columns = _USAGE.c
    statement: Select[Any] = (
        select(_CLUSTERS.c.name.label("cluster"), _SOURCES.c.name.label("source"), _SOURCES.c.kind, *columns)
        .join(_SOURCES, _SOURCES.c.id == columns.source_id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _SOURCES.c.cluster_id)
        .where(columns.start_at < end, columns.end_at > start)
        .order_by(
            _CLUSTERS.c.name,
            _SOURCES.c.name,
            columns.start_at,
            columns.end_at,
            columns.model,
            columns.provider,
            columns.dimension,
            columns.owner,
        )
    )
    if cluster is not None:
        statement = statement.where(_CLUSTERS.c.name == cluster)
    return tuple(
        ToldUsage(
            cluster=row["cluster"],
            source=row["source"],
            kind=row["kind"],
            usage=TokenUsage(
                start=row["start_at"],
                end=row["end_at"],
                model=row["model"],
                dimension=row["dimension"],
                owner=row["owner"],
                provider=row["provider"],
                requests=row["requests"],
                input_tokens=row["input_tokens"],
                output_tokens=row["output_tokens"],
                total_tokens=row["total_tokens"],
                cost_usd=row["cost_usd"],
                usage_details=json.loads(row["usage_details"]),
                cost_details=json.loads(row["cost_details"]),
            ),
            told_at=row["told_at"],
        )
        for row in connection.execute(statement).mappings()
    )


def spend_by_hour(
    engine: Engine, start: datetime, end: datetime, *, cluster: str | None = None
) -> tuple[SpendOfHour, ...]:
    """What gateways' counters added in every hour that touches the window, by gateway, hour, model and owner."""
    with reading(engine) as connection:
        return spend_over(connection, start, end, cluster=cluster)


def spend_over(
    connection: Connection, start: datetime, end: datetime, *, cluster: str | None = None
) -> tuple[SpendOfHour, ...]:
    """The same in a view of the store that is open already."""
    names = ("gateway", "model", "provider", "dimension", "owner")
    statement: Select[Any] = (
        select(
            _CLUSTERS.c.name,
            _HOURS.c.hour_ms,
            *(_SPEND.c[name] for name in names),
            _SPEND.c.quantity,
            _HOURS.c.increment,
            _SPEND.c.observed_at_ms,
            _SPEND.c.since_ms,
        )
        .join(_SPEND, _SPEND.c.id == _HOURS.c.series_id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _SPEND.c.cluster_id)
        .where(_HOURS.c.hour_ms < to_ms(end), _HOURS.c.hour_ms > to_ms(start) - HOUR_MS)
    )
    if cluster is not None:
        statement = statement.where(_CLUSTERS.c.name == cluster)
    found: defaultdict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)
    seen_ms: dict[tuple[Any, ...], int] = {}
    began_ms: dict[tuple[Any, ...], int] = {}
    for cluster_name, hour_ms, *name, quantity, increment, observed_ms, since_ms in connection.execute(statement):
        key = (cluster_name, name[0], hour_ms, *name[1:])
        found[key][quantity] = increment
        seen_ms[key] = max(observed_ms, seen_ms.get(key, 0))
        began_ms[key] = min(since_ms or 0, began_ms.get(key, hour_ms + HOUR_MS))
    return tuple(
        SpendOfHour(
            cluster=key[0],
            gateway=key[1],
            hour=from_ms(key[2]),
            since=from_ms(max(key[2], began_ms[key])),
            until=from_ms(min(key[2] + HOUR_MS, seen_ms[key])),
            model=key[3],
            provider=key[4],
            dimension=key[5],
            owner=key[6],
            quantities=found[key],
        )
        for key in sorted(found)
    )


def accounts(
    connection: Connection, start: datetime, end: datetime, *, cluster: str, dimension: str
) -> tuple[Account, ...]:
    """What each source of use totals over the window, best first: still heard, by owners, with money, of most requests.

    Owners are those of `dimension`; of a source that has neither these nor totals, those of another. A span that
    reaches beyond the window counts by its share of time in it. A source that fell silent while another was heard tells
    a part only, and comes after it. Counters come last, but before the days of their own
    gateway where the window cuts those and the counters were read all through it.
    """
    told: defaultdict[str, list[tuple[str, ModelUse]]] = defaultdict(list)
    cut: dict[str, timedelta] = {}  # the longest span of each source that the window cuts
    of_litellm: set[str] = set()
    gateways: set[str] = set()
    for row in token_usage_over(connection, start, end, cluster=cluster):
        share = _share(row.usage.start, row.counted_until, start, end)
        told[row.source].append((row.usage.dimension, _use(row.usage, share)))
        length = row.usage.end - row.usage.start
        if 0 < share < 1 and length > _HOUR:
            cut[row.source] = max(length, cut.get(row.source, length))
        if row.kind == "litellm":
            of_litellm.add(row.source)
    for hour in spend_over(connection, start, end, cluster=cluster):
        share = _share(hour.since, hour.until, start, end)
        told[f"counters of {hour.gateway}"].append((hour.dimension, _spend_use(hour, share)))
        gateways.add(hour.gateway)
    # Days and counters name their gateway differently: only where there is one of each, both are of the same.
    is_one = len(of_litellm) == len(gateways) == 1
    is_finer = is_one and of_litellm <= cut.keys() and _read_through(connection, start, end, cluster)
    found = [_account(name, rows, dimension, cut.get(name)) for name, rows in told.items()]
    silent = _silent(connection, end, cluster, frozenset(told))
    last = of_litellm if is_finer else {f"counters of {gateway}" for gateway in gateways}
    found.sort(key=lambda one: _worth(one, is_last=one.told_by in last, is_silent=one.told_by in silent))
    return tuple(found)


def _read_through(connection: Connection, start: datetime, end: datetime, cluster: str) -> bool:
    """Whether counters of a gateway added something in the day before the window, and were read up to its end."""
    found = (
        select(_SPEND.c.id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _SPEND.c.cluster_id)
        .join(_HOURS, _HOURS.c.series_id == _SPEND.c.id)
        .where(
            _CLUSTERS.c.name == cluster,
            _SPEND.c.observed_at_ms >= to_ms(end - STALE_AFTER),
            _HOURS.c.hour_ms.between(to_ms(start - timedelta(days=1)), to_ms(start - _HOUR)),
        )
    )
    return connection.execute(found.limit(1)).first() is not None


def _account(name: str, rows: list[tuple[str, ModelUse]], dimension: str, cut: timedelta | None) -> Account:
    totals = tuple(use for of, use in rows if not of)
    present = sorted({of for of, _ in rows if of})
    if dimension not in present:
        # Another kind of owner is better than leaving out what was used.
        dimension = "" if totals or not present else present[0]
    parts = tuple(use for of, use in rows if of and of == dimension)
    spread = None
    if cut is not None:
        hours = cut / _HOUR
        spread = f"it tells spans of {hours:.0f} h, of which this window has its share of time, as if use were even"
    return Account(told_by=name, dimension=dimension, totals=totals, parts=parts, spread=spread)


def _silent(connection: Connection, end: datetime, cluster: str, names: frozenset[str]) -> frozenset[str]:
    """Sources that were last heard long before another one: by two of their own intervals, and `STALE_AFTER`.

    A source is heard when it is asked with success, also where it has nothing to tell; counters when they are read.
    """
    asked = (
        select(_SOURCES.c.name, _SOURCES.c.interval_s, func.max(_ATTEMPTS.c.started_at))
        .join(_ATTEMPTS, _ATTEMPTS.c.source_id == _SOURCES.c.id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _SOURCES.c.cluster_id)
        .where(_CLUSTERS.c.name == cluster, _ATTEMPTS.c.ok, _ATTEMPTS.c.started_at <= end, _SOURCES.c.name.in_(names))
        .group_by(_SOURCES.c.name, _SOURCES.c.interval_s)
    )
    heard = {name: (at, timedelta(seconds=interval_s)) for name, interval_s, at in connection.execute(asked)}
    read = (
        select(_SPEND.c.gateway, func.max(_SPEND.c.observed_at_ms))
        .join(_CLUSTERS, _CLUSTERS.c.id == _SPEND.c.cluster_id)
        .where(_CLUSTERS.c.name == cluster)
        .group_by(_SPEND.c.gateway)
    )
    for gateway, observed_ms in connection.execute(read):
        name = f"counters of {gateway}"
        if name in names:
            heard[name] = (min(from_ms(observed_ms), end), timedelta(0))
    latest = max((at for at, _ in heard.values()), default=end)
    return frozenset(name for name, (at, interval) in heard.items() if latest - at > max(STALE_AFTER, 2 * interval))


def _worth(account: Account, *, is_last: bool, is_silent: bool) -> tuple[bool, bool, bool, bool, float, str]:
    uses = account.totals or account.parts
    return (
        is_silent,
        not account.parts,
        not any(use.cost_usd for use in uses),
        is_last,
        -sum(use.requests or 0.0 for use in uses),
        account.told_by,
    )


def _share(start: datetime, end: datetime, window_start: datetime, window_end: datetime) -> float:
    length = end - start
    if length <= timedelta(0):
        return 1.0 if window_start <= start < window_end else 0.0
    inside = min(end, window_end) - max(start, window_start)
    return max(inside / length, 0.0)


def _use(usage: TokenUsage, share: float) -> ModelUse:
    return _model_use(usage.model, usage.provider, usage.owner, {name: getattr(usage, name) for name in _SUMMED}, share)


def _spend_use(hour: SpendOfHour, share: float) -> ModelUse:
    return _model_use(hour.model, hour.provider, hour.owner, hour.quantities, share)


def _model_use(model: str, provider: str, owner: str, quantities: Mapping[str, float | None], share: float) -> ModelUse:
    parts = {name: None if (value := quantities.get(name)) is None else value * share for name in _SUMMED}
    return ModelUse(
        model=model,
        provider=provider,
        owner=owner,
        requests=parts["requests"],
        input_tokens=parts["input_tokens"],
        output_tokens=parts["output_tokens"],
        cost_usd=parts["cost_usd"],
    )

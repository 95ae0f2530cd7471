"""What each server counted over a window, as the join takes it: by model, every request once, and over what time."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from planner.join_facts import EngineTraffic
from planner.serving_totals import Counted, summed
from store.counted_stretches import CountedStretch, SeriesName, covered_s, outside, stretches_over, united
from store.gauge_queries import Gauges
from store.samples import to_ms
from store.serving_names import named_series
from store.serving_queries import counted_over
from store.serving_series import chunked
from store.serving_tables import CounterState, ServingSeries
from store.tables import table_of

_FIELDS = {"requests": "requests_finished", "prompt_tokens": "prompt_tokens", "generation_tokens": "generation_tokens"}
_METRICS = tuple(_FIELDS.values())
_AWAKE = "awake"  # the label of `engine_asleep` under which vLLM says that it does not sleep
_UNNAMED = ""

_READ_THROUGH = timedelta(minutes=1)
"""A window but for this much was read through: the last reading is a little older than now, and covers of several
models cannot lie one after the other then."""

_SAME_LOOK = timedelta(minutes=2)
"""Gauges of one server that lie so close together are of one look at it: two roads to it differ by a scrape or two.
One that is older is of a model or a rank that the server does not name any more."""

_SERIES = table_of(ServingSeries)
_STATES = table_of(CounterState)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTraffic:
    """What one server counted, by model, and over how much of the window any of it was read."""

    traffic: tuple[EngineTraffic, ...]
    read_s: float


def traffic_over(
    connection: Connection, start: datetime, end: datetime, *, cluster: str, endpoints: Collection[str] | None = None
) -> dict[str, ServerTraffic]:
    """By endpoint; one of which nothing was read in the window is not in the answer.

    What is counted without the name of a model, where another road to the same server names it, is the same work: it
    stands in for the time over which the named count was not read.
    """
    counted = counted_over(connection, start, end, metrics=_METRICS, cluster=cluster, endpoints=endpoints)
    by_endpoint: defaultdict[str, list[Counted]] = defaultdict(list)
    for one in counted:
        by_endpoint[one.subject.endpoint].append(one)
    apart = {endpoint for endpoint, of_server in by_endpoint.items() if _may_lie_apart(of_server, end - start)}
    stretches: defaultdict[str, dict[SeriesName, list[CountedStretch]]] = defaultdict(dict)
    if apart:
        told = stretches_over(connection, start, end, metrics=_METRICS, cluster=cluster, endpoints=apart)
        for name, of_series in told.items():
            stretches[name[0]][name] = of_series
    return {
        endpoint: _of_stretches(stretches[endpoint]) if endpoint in apart else _of_counts(of_server)
        for endpoint, of_server in by_endpoint.items()
    }


def seen_counting(
    connection: Connection, start: datetime, end: datetime, *, cluster: str, endpoints: Collection[str]
) -> frozenset[str]:
    """Those of the endpoints whose counters were last read in the window: once, if `traffic_over` has nothing of it."""
    series = {one.id: one.subject.endpoint for one in named_series(connection, _SERIES, _METRICS, cluster, endpoints)}
    found: set[str] = set()
    for chunk in chunked(series):
        statement = select(_STATES.c.series_id).where(
            _STATES.c.series_id.in_(chunk),
            _STATES.c.observed_at_ms > to_ms(start),
            _STATES.c.observed_at_ms <= to_ms(end),
        )
        found |= {series[series_id] for (series_id,) in connection.execute(statement)}
    return frozenset(found)


def of_one_look(gauges: Sequence[Gauges]) -> tuple[Gauges, ...]:
    """Gauges without those of models and ranks that their server does not name any more."""
    newest: dict[str, datetime] = {}
    for one in gauges:
        endpoint = one.subject.endpoint
        newest[endpoint] = max(_newest(one), newest.get(endpoint, _newest(one)))
    return tuple(one for one in gauges if newest[one.subject.endpoint] - _newest(one) <= _SAME_LOOK)


def with_running(traffic: tuple[EngineTraffic, ...], running: Mapping[str, float]) -> tuple[EngineTraffic, ...]:
    """The same with how many requests of each model are in work, also of models that counted nothing."""
    counted = {one.model for one in traffic}
    told = [replace(one, requests_running=running.get(one.model)) for one in traffic]
    told += [
        EngineTraffic(model=model, requests_running=count) for model, count in running.items() if model not in counted
    ]
    return tuple(sorted(told, key=lambda one: one.model))


def running_requests(gauges: Iterable[Gauges]) -> dict[str, dict[str, float]]:
    """Requests that are being worked on, over all ranks, by endpoint and model.

    Where one road to a server names a model and another none, both tell of the same requests: the name is taken.
    """
    found: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for one in gauges:
        running = one.values.get("requests_running")
        if running is not None:
            found[one.subject.endpoint][one.subject.model] += running.value
    return {
        endpoint: {model: count for model, count in models.items() if model != _UNNAMED or len(models) == 1}
        for endpoint, models in found.items()
    }


def asleep(gauges: Iterable[Gauges]) -> frozenset[str]:
    """Endpoints whose engine sleeps."""
    return frozenset(
        one.subject.endpoint
        for one in gauges
        for (metric, label), seen in one.labelled.items()
        if metric == "engine_asleep" and label != _AWAKE and seen.value >= 1
    )


def _newest(one: Gauges) -> datetime:
    return max(seen.observed_at for seen in (*one.values.values(), *one.labelled.values()))


def _may_lie_apart(counted: Sequence[Counted], window: timedelta) -> bool:
    """Whether models or ranks of a server may have been counted at different times, or twice."""
    names = {(one.subject.model, one.subject.rank) for one in counted}
    if len(names) == 1:
        return False
    models = {model for model, _ in names}
    if _UNNAMED in models and len(models) > 1:
        return True
    return max(one.covered_s for one in counted) < (window - _READ_THROUGH).total_seconds()


def _of_counts(counted: Sequence[Counted]) -> ServerTraffic:
    totals = summed(counted, by=lambda one: (one.subject.model, one.metric))
    models = sorted({model for model, _ in totals})
    traffic: list[EngineTraffic] = []
    for model in models:
        of_model = {name: totals.get((model, metric)) for name, metric in _FIELDS.items()}
        traffic.append(
            EngineTraffic(
                model=model,
                **{name: None if one is None else one.increment for name, one in of_model.items()},
                covered_s=max(one.covered_s for one in of_model.values() if one is not None),
            )
        )
    return ServerTraffic(traffic=tuple(traffic), read_s=max(one.covered_s for one in traffic))


def _of_stretches(told: Mapping[SeriesName, list[CountedStretch]]) -> ServerTraffic:
    named: defaultdict[str, dict[str, list[CountedStretch]]] = defaultdict(dict)
    for (_, model, metric), found in told.items():
        named[model][metric] = found
    unnamed = named.pop(_UNNAMED, {})
    read = {model: [one for found in metrics.values() for one in found] for model, metrics in named.items()}
    sums = {
        model: {metric: sum(one.increment for one in found) for metric, found in metrics.items()}
        for model, metrics in named.items()
    }
    # With one model everything is of it; with several nobody tells of which the rest is.
    whose = next(iter(named)) if len(named) == 1 else _UNNAMED
    for metric, found in unnamed.items():
        rest = outside(found, united(one for metrics in named.values() for one in metrics.get(metric, ())))
        if rest or len(named) < 2:
            of_rest = sums.setdefault(whose, {})
            of_rest[metric] = of_rest.get(metric, 0.0) + rest
            read.setdefault(whose, []).extend(found)
    traffic = tuple(
        EngineTraffic(
            model=model,
            **{name: sums[model].get(metric) for name, metric in _FIELDS.items()},
            covered_s=covered_s(united(read[model])),
        )
        for model in sorted(sums)
    )
    return ServerTraffic(traffic=traffic, read_s=covered_s(united(one for found in told.values() for one in found)))

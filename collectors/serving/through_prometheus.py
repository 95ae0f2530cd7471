"""Servers of models read through a Prometheus server that scrapes them, also for the time when nobody was reading.

The pages are put together again from the stored samples: all samples of one target with one timestamp are one page,
because Prometheus dates a whole scrape alike. From there on both roads run the same code.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from collectors.plain_text import plain_text
from collectors.prometheus import PrometheusReader, Series, WindowTooLarge, pattern_selector, selector
from collectors.prometheus_windows import PrometheusWindows, Window
from collectors.serving.config import ServingConfig
from collectors.serving.gaps import GapBook
from collectors.serving.metrics import TABLES, engine_of_names, generation_of
from collectors.serving.parts import Parts
from collectors.serving.scrape import Server, Understood, understand
from collectors.serving.series import SeriesBook, Unreadable
from collectors.serving.shared_instances import Origin, SharedInstances, address_of_instance, told_of
from collectors.serving.table import EngineTable
from collectors.serving.wire import ReadPage
from collectors.source import Attempt
from planner.readings import Batch, Gap
from planner.serving_metrics import ServingKind
from planner.serving_readings import ServedModel, ServingEngine, ServingFact
from planner.units import NodeName

_SUFFIXES = "(?:_total|_bucket|_sum|_count|_created)?"


@dataclass(slots=True)
class _Target:
    """One server, as far as a window shows it."""

    own_labels: Mapping[str, frozenset[str]]  # what Prometheus added to every series, by label
    ups: Sequence[Mapping[str, str]]  # the labels of its `up`, several where they changed
    engine: ServingEngine
    pages: dict[float, ReadPage] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    unread: dict[str, None] = field(default_factory=dict)


class ServingThroughPrometheus:
    """Reads the series of every serving engine of one Prometheus server; the server is the one target."""

    kind = "serving"

    def __init__(self, config: ServingConfig) -> None:
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s
        self._config = config
        prometheus = config.for_prometheus()
        self._reader = PrometheusReader(prometheus)
        self._windows = PrometheusWindows(prometheus)
        self._up = selector(("up",), jobs=config.jobs)
        # Without a prefix, NIM's names may be anybody's: they are read on request only.
        engines = [engine for engine in TABLES if engine is not ServingEngine.NIM]
        self._tables = [TABLES[engine] for engine in (engines if config.engine == "auto" else (config.engine,))]
        self._books = {table.engine: SeriesBook(table) for table in self._tables}
        self._is_in_parts = False
        self._instances = SharedInstances()
        self._last_read: dict[Origin, float] = {}
        self._parts: defaultdict[Origin, Parts] = defaultdict(Parts)

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Read from the watermark to the server's present, oldest window first, see `PrometheusWindows`."""
        return self._windows.attempts(self._reader, now, watermarks, self._read)

    def close(self) -> None:
        """Let go of the connection."""
        self._reader.close()

    def _read(self, window: Window) -> Batch:
        series = self._samples(window)
        ups = self._reader.label_sets(self._up, seconds=window.seconds, until=window.until) if series else []
        targets, gaps = self._assemble(series, ups)
        understood = Understood()
        facts: list[ServingFact] = []
        found: dict[str, str] = {}
        for origin, target in targets.items():
            endpoint = origin.endpoint
            book = GapBook(endpoint)
            for reason in target.unread:
                book.note(None, reason)
            facts += self._read_target(origin, target, window, book, understood)
            gaps += book.gaps()
            generation = generation_of(target.engine, "\n".join(target.names))
            found[endpoint] = target.engine.value + (f", {generation}" if generation else "")
        if not series and window.is_last:
            reason = "this server has no series of a serving engine: is one among its scrape targets?"
            gaps.append(Gap(subject=self._reader.target, metric=None, reason=reason))
        return Batch(
            gauges=tuple(understood.gauges),
            counters=tuple(understood.counters),
            histograms=tuple(understood.histograms),
            servers=tuple(facts),
            gaps=tuple(gaps),
            found=tuple(sorted(found.items())),
            watermark=window.until,
        )

    def _samples(self, window: Window) -> list[Series]:
        """All series at once; where that is too much, from then on a histogram at a time."""
        if not self._is_in_parts:
            try:
                return self._reader.raw_samples(
                    self._selector(_pattern(self._tables)), seconds=window.seconds, until=window.until
                )
            except WindowTooLarge:
                self._is_in_parts = True
        found: list[Series] = []
        for pattern in _patterns_in_parts(self._tables):
            found += self._reader.raw_samples(self._selector(pattern), seconds=window.seconds, until=window.until)
        return found

    def _selector(self, pattern: str) -> str:
        return pattern_selector(pattern, jobs=self._config.jobs)

    def _assemble(
        self, series: Sequence[Series], ups: Sequence[Mapping[str, str]]
    ) -> tuple[dict[Origin, _Target], list[Gap]]:
        """Pages by server and time, and what could not be told apart."""
        origins = self._instances.sort_out(series, ups)
        targets: dict[Origin, _Target] = {}
        for origin, told in origins.series.items():
            names = {one.metric.get("__name__", "") for one in told}
            engine = self._engine_of(names)
            if engine is None:
                continue
            there = origins.ups.get(origin, ())
            target = targets[origin] = _Target(own_labels=_values(there), ups=there, engine=engine, names=names)
            for one in told:
                self._take_in(target, one)
        return targets, list(origins.gaps)

    def _engine_of(self, names: set[str]) -> ServingEngine | None:
        if len(self._tables) == 1:
            return self._tables[0].engine
        engine = engine_of_names(names)
        return engine if engine in self._books else None

    def _take_in(self, target: _Target, series: Series) -> None:
        own = target.own_labels
        labels = {
            name: value
            for name, value in series.metric.items()
            if name not in ("__name__", "job", "instance") and value not in own.get(name, ())
        }
        try:
            known = self._books[target.engine].of_series(series.metric.get("__name__", ""), labels)
        except Unreadable as error:
            target.unread[f"a series was left out: {error}"] = None
            return
        if known is None:
            return
        for at, text in series.values:
            page = target.pages.get(at)
            if page is None:
                page = target.pages[at] = ReadPage()
            page.put(known, text)

    def _read_target(
        self,
        origin: Origin,
        target: _Target,
        window: Window,
        book: GapBook,
        understood: Understood,
    ) -> list[ServingFact]:
        """Readings of every page that is far enough from the one before; the facts, where they changed."""
        table = TABLES[target.engine]
        facts: list[ServingFact] = []
        last: tuple[ReadPage, Understood] | None = None
        times = self._spaced(origin, sorted(target.pages), window)
        for at in times:
            page = target.pages[at]
            observed_at = datetime.fromtimestamp(at, UTC)
            told = understand(
                page,
                table,
                Server(endpoint=origin.endpoint),
                observed_at=observed_at,
                gaps=book,
                parts=self._parts[origin],
            )
            last = (page, told)
            understood.gauges += told.gauges
            understood.counters += told.counters
            understood.histograms += told.histograms
            fact = _fact(origin, target, told, observed_at)
            if not facts or at == times[-1] or replace(fact, observed_at=facts[-1].observed_at) != facts[-1]:
                facts.append(fact)
        if last is not None:
            has_workers = any(cell.worker for cell in last[0].values)
            book.note_missing(table, last[1].metrics, only_what_counted=has_workers)
        return facts

    def _spaced(self, origin: Origin, times: Sequence[float], window: Window) -> list[float]:
        """The scrapes that are read: none that was, and none closer to the one before than `resolution_s`."""
        kept: list[float] = []
        last = self._last_read.get(origin, 0.0)
        if last > window.since.timestamp():
            last = 0.0  # what was read beyond the watermark was not kept, and so
            self._parts.pop(origin, None)  # what is remembered of it holds no more
        for at in times:
            if at - last >= max(0.9 * self._config.resolution_s, 0.001):
                kept.append(at)
                last = at
        self._last_read[origin] = last
        return kept


def _fact(origin: Origin, target: _Target, told: Understood, observed_at: datetime) -> ServingFact:
    node = _own(target, "node")
    return ServingFact(
        observed_at=observed_at,
        endpoint=origin.endpoint,
        engine=target.engine,
        version=None,
        models=tuple(ServedModel(name=name, is_loaded=True) for name in told.models),
        lists_models=False,
        settings=told.settings,
        pod_namespace=_own(target, "namespace"),
        pod_name=_own(target, "pod"),
        pod_ip=None if origin.is_shared else address_of_instance(origin.instance),
        node=None if node is None else NodeName(node),
    )


def _own(target: _Target, role: str) -> str | None:
    """What the labels of the target itself say, if they say one thing only."""
    values = {told_of(labels, role) for labels in target.ups} - {""}
    return plain_text(next(iter(values)), 253) if len(values) == 1 else None


def _values(ups: Sequence[Mapping[str, str]]) -> dict[str, frozenset[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for labels in ups:
        for name, value in labels.items():
            found[name].add(value)
    return {name: frozenset(values) for name, values in found.items()}


def _pattern(tables: Sequence[EngineTable], metrics: frozenset[str] | None = None) -> str:
    """A regular expression for the sample names of these metrics (all: None), the settings among the latter."""
    parts = []
    for table in tables:
        names = {row.source_name for row in table.rows if metrics is None or row.metric in metrics}
        names |= table.info_names if metrics is None else frozenset()
        if names:
            parts.append(f"(?:{_either(table.prefixes)})(?:{_either(sorted(names))}){_SUFFIXES}")
    return "|".join(parts)


def _patterns_in_parts(tables: Sequence[EngineTable]) -> list[str]:
    """The same in several expressions: one for all that is no histogram, one for each metric that is."""
    rows = [row for table in tables for row in table.rows]
    histograms = sorted({row.metric for row in rows if row.kind is ServingKind.HISTOGRAM})
    others = frozenset(row.metric for row in rows) - set(histograms)
    settings = [
        f"(?:{_either(table.prefixes)})(?:{_either(sorted(table.info_names))})" for table in tables if table.info_names
    ]
    return [
        "|".join([_pattern(tables, others), *settings]),
        *(_pattern(tables, frozenset({one})) for one in histograms),
    ]


def _either(texts: Sequence[str]) -> str:
    return "|".join(re.escape(text) for text in texts)

"""dcgm-exporters read through a Prometheus server that scrapes them, also for the time when nobody was reading.

The scrapes are put together again from the stored samples: all samples of one target with one timestamp are one scrape,
because Prometheus dates a whole scrape alike. From there on both roads run the same code.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from collectors.dcgm.gaps import GapBook
from collectors.dcgm.metrics import ROWS, metric_of
from collectors.dcgm.mig_mode import MIG_MODE_FAMILY
from collectors.dcgm.node_name import node_of_target
from collectors.dcgm.placements import DEVICES_FAMILY, PODS_FAMILY
from collectors.dcgm.scrape import Scrape, Value, understand
from collectors.dcgm.wire import Line, NoDevice, PodName, read_line
from collectors.plain_text import plain_text
from collectors.prometheus import PrometheusReader, Series, selector
from collectors.prometheus_config import PrometheusConfig
from collectors.prometheus_windows import PrometheusWindows, Window
from collectors.source import Attempt
from planner.readings import Batch, Gap, GpuFact, Reading
from planner.units import GpuUuid, NodeName

FAMILIES = (*(row.source_name for row in ROWS), MIG_MODE_FAMILY, DEVICES_FAMILY, PODS_FAMILY)
"""Everything that is asked for; the last two are those of `gpufleet agent`."""

TargetKey = tuple[str, str]
"""Job and instance: what tells one scrape target from another in Prometheus."""


@dataclass(slots=True)
class _Target:
    """One exporter, as far as a window shows it."""

    own_labels: Mapping[str, str]
    own_pods: frozenset[PodName]
    lines: dict[frozenset[tuple[str, str]], Line] = field(default_factory=dict)
    scrapes: dict[float, dict[int, tuple[Line, list[Value]]]] = field(default_factory=dict)


class PrometheusCollector:
    """Reads every DCGM series of one Prometheus server, window by window; the server is the one target."""

    kind = "prometheus"

    def __init__(self, config: PrometheusConfig) -> None:
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s
        self._config = config
        self._reader = PrometheusReader(config)
        self._windows = PrometheusWindows(config)
        self._metrics = selector(FAMILIES, jobs=config.jobs)
        self._up = selector(("up",), jobs=config.jobs)

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Read from the watermark to the server's present, oldest window first, see `PrometheusWindows`."""
        return self._windows.attempts(self._reader, now, watermarks, self._read)

    def close(self) -> None:
        """Let go of the connection."""
        self._reader.close()

    def _read(self, window: Window) -> Batch:
        series = self._reader.raw_samples(self._metrics, seconds=window.seconds, until=window.until)
        own_labels = self._reader.label_sets(self._up, seconds=window.seconds, until=window.until) if series else []
        targets, gaps = _assemble(series, own_labels)
        readings: list[Reading] = []
        facts: list[GpuFact] = []
        complete: set[NodeName] = set()
        for key, target in targets.items():
            book = GapBook(plain_text(key[1], 120) or self._reader.target)
            history = _History(since=window.since)
            node = _node(target, key)
            for at in sorted(target.scrapes):
                scrape = Scrape(
                    observed_at=datetime.fromtimestamp(at, UTC), node=node, lines=tuple(target.scrapes[at].values())
                )
                understood = understand(scrape, book)
                readings += understood.readings
                history.add(understood.facts)
            told = history.facts()
            facts += told
            if told:
                complete.add(node)
            gaps += book.gaps()
        if not series and window.is_last:
            gaps.append(
                Gap(
                    subject=self._reader.target,
                    metric=None,
                    reason="this server has no DCGM series: is a dcgm-exporter among its scrape targets?",
                )
            )
        return Batch(
            readings=tuple(readings),
            facts=tuple(facts),
            gaps=tuple(gaps),
            nodes_complete=frozenset(complete),
            watermark=window.until,
        )


class _History:
    """The facts of one exporter over a window, thinned: the first and the last, and both sides of every change."""

    def __init__(self, *, since: datetime) -> None:
        self._since = since
        self._kept: list[GpuFact] = []
        self._last_kept: dict[GpuUuid, GpuFact] = {}
        self._previous: dict[GpuUuid, GpuFact] = {}

    def add(self, facts: Sequence[GpuFact]) -> None:
        """Take in one scrape; scrapes come in the order of time. The overlap with the former window was told then."""
        for fact in facts:
            if fact.observed_at <= self._since:
                continue
            kept = self._last_kept.get(fact.gpu_uuid)
            if kept is None or replace(fact, observed_at=kept.observed_at) != kept:
                self._keep(self._previous.get(fact.gpu_uuid))
                self._keep(fact)
            self._previous[fact.gpu_uuid] = fact

    def facts(self) -> list[GpuFact]:
        """What is worth telling, by time."""
        for fact in list(self._previous.values()):
            self._keep(fact)
        return self._kept

    def _keep(self, fact: GpuFact | None) -> None:
        if fact is not None and self._last_kept.get(fact.gpu_uuid) is not fact:
            self._kept.append(fact)
            self._last_kept[fact.gpu_uuid] = fact


def _assemble(
    series: Sequence[Series], up_labels: Sequence[Mapping[str, str]]
) -> tuple[dict[TargetKey, _Target], list[Gap]]:
    """Scrapes by target and time, and what could not be attributed to a GPU."""
    ups: dict[TargetKey, list[Mapping[str, str]]] = defaultdict(list)
    for labels in up_labels:
        ups[_key(labels)].append(labels)
    targets: dict[TargetKey, _Target] = {}
    gaps: dict[Gap, None] = {}
    for one in series:
        key = _key(one.metric)
        target = targets.get(key)
        if target is None:
            target = targets[key] = _Target(
                own_labels=ups[key][0] if ups[key] else {}, own_pods=_own_pods(ups[key], one.metric)
            )
        name = one.metric.get("__name__", "")
        try:
            line = _line(target, one.metric)
        except NoDevice as error:
            reason = f"a series was left out: {error}"
            gaps[Gap(subject=plain_text(key[1], 120), metric=metric_of(name), reason=reason)] = None
            continue
        for at, text in one.values:
            lines = target.scrapes.setdefault(at, {})
            lines.setdefault(id(line), (line, []))[1].append((name, _number(text), text))
    return targets, list(gaps)


def _line(target: _Target, labels: Mapping[str, str]) -> Line:
    identity = frozenset(item for item in labels.items() if item[0] != "__name__")
    line = target.lines.get(identity)
    if line is None:
        line = target.lines[identity] = read_line(labels, own_pods=target.own_pods)
    return line


def _own_pods(up_labels: Sequence[Mapping[str, str]], labels: Mapping[str, str]) -> frozenset[PodName]:
    """Pods of the exporter itself, which Prometheus writes into `pod` where it does not honour the scraped labels.

    They are those of the `up` series of the same target. Where a server keeps no `up`, the exporter is known by name.
    """
    if up_labels:
        return frozenset((each["namespace"], each["pod"]) for each in up_labels if {"namespace", "pod"} <= each.keys())
    pod = labels.get("pod", "")
    return frozenset({(labels.get("namespace", ""), pod)}) if "dcgm-exporter" in pod else frozenset()


def _node(target: _Target, key: TargetKey) -> NodeName:
    hostnames = (line.labels.hostname for line in target.lines.values())
    return node_of_target(target.own_labels, hostnames, key[1])


def _key(labels: Mapping[str, str]) -> TargetKey:
    return labels.get("job", ""), labels.get("instance", "")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

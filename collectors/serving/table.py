"""The shape of an engine's table: what its metrics are called, what they are to us, and where that was read."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from planner.serving_metrics import SERVING_METRICS_BY_NAME, ServingKind
from planner.serving_readings import ServingEngine

CLAMP_TOLERANCE = 0.1
"""How far above 1 a ratio is still taken for 1: blocks that are being freed count twice for a moment."""
MAX_VALUE = 2.0**63
"""Largest value that is believed. A million tokens a second make 2^45 in a year; integers of engines end here."""


class Implausible(ValueError):
    """A number that this metric cannot have; the message says why."""


class Part(StrEnum):
    """What one sample of a family is to the metric."""

    VALUE = "value"
    BUCKET = "bucket"
    TOTAL = "total"
    COUNT = "count"
    CREATED = "created"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One family of an engine and the metric it gives; of several rows of one metric the first that is there counts.

    `source_name` has neither the engine's prefix nor a suffix (`_total`, `_bucket`, `_sum`, `_count`, `_created`).
    `split` names the label whose value becomes ours; `where` are labels that a series has to have. `of` reads one
    sample of a histogram as a counter; `fills` makes one counter a part of a histogram. `beside`: this row stands
    beside other rows of its metric, and values under one label are added. `factor` leads to base units.
    """

    source_name: str
    metric: str
    source: str
    factor: float = 1.0
    split: str | None = None
    label: Callable[[str], str] = str
    where: tuple[tuple[str, str], ...] = ()
    of: Part | None = None
    fills: Part | None = None
    beside: bool = False
    convert: Callable[[float], float] | None = None
    since: tuple[int, ...] | None = None  # versions before use the name for something else

    @property
    def kind(self) -> ServingKind:
        """What our metric is."""
        return SERVING_METRICS_BY_NAME[self.metric].kind


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTable:
    """Everything that tells one engine from another on the wire.

    `rank_labels` name the data-parallel rank, `worker_labels` a process of its own behind one address. Series that
    differ in `lowest_of` alone say the same: the one with the lowest values is read. Series that differ in `sum_over`
    are parts of one thing; `constant` labels say nothing about the series. Of series with a label of `only`, those with
    that value are read. `missing` says why a metric is not there, and what brings it.
    """

    engine: ServingEngine
    prefixes: tuple[str, ...]
    rows: tuple[Row, ...]
    missing: Mapping[str, str]
    metrics_path: str = "/metrics"
    facts_paths: tuple[str, ...] = ()
    model_labels: tuple[str, ...] = ("model_name",)
    rank_labels: tuple[str, ...] = ()
    worker_labels: tuple[str, ...] = ()
    sum_over: frozenset[str] = frozenset()
    lowest_of: frozenset[str] = frozenset()
    constant: frozenset[str] = frozenset()
    only: Mapping[str, str] = field(default_factory=dict)
    info_names: frozenset[str] = frozenset()
    tells_start: bool = False  # process_start_time_seconds is that of the process that counts
    not_read: Mapping[str, str] = field(default_factory=dict)


def ratio(value: float) -> float:
    """0 to 1; a little more is cut to 1, see CLAMP_TOLERANCE."""
    if value > 1 + CLAMP_TOLERANCE:
        raise Implausible("the value is above 1 and no ratio")
    return min(value, 1.0)


def is_zero(value: float) -> float:
    """1 for 0 and 0 for anything else: a state told by its opposite."""
    return float(value == 0)


def plausible(value: float) -> float:
    """The value if it is one at all: finite, not negative and not beyond MAX_VALUE. Raises Implausible."""
    if not math.isfinite(value):
        raise Implausible("the value is not a finite number")
    if value < 0:
        raise Implausible("the value is negative")
    if value > MAX_VALUE:
        raise Implausible("the value is larger than anything that is counted")
    return value


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a sample's name means: the row (by its place in the table), which part of it, and how it is spelled.

    Of two spellings of one thing (Ray writes counters with and without `_total`) the one with the lower `spelling`
    counts.
    """

    row: Row
    place: int
    part: Part
    spelling: int


def meanings(table: EngineTable) -> Mapping[str, tuple[Meaning, ...]]:
    """Every sample name that the table reads, as the engine spells it."""
    found: dict[str, list[Meaning]] = {}
    for place, row in enumerate(table.rows):
        for suffix, part, spelling in _samples(row):
            for prefix in table.prefixes:
                meaning = Meaning(row, place, part, spelling)
                found.setdefault(f"{prefix}{row.source_name}{suffix}", []).append(meaning)
    return {name: tuple(found_there) for name, found_there in found.items()}


def _samples(row: Row) -> tuple[tuple[str, Part, int], ...]:
    if row.of is not None:
        suffix = {Part.TOTAL: "_sum", Part.COUNT: "_count"}[row.of]
        return ((suffix, Part.VALUE, 0), ("_created", Part.CREATED, 0))
    if row.fills is not None:
        return (("_total", row.fills, 0), ("", row.fills, 1), ("_created", Part.CREATED, 0))
    if row.kind is ServingKind.HISTOGRAM:
        return (
            ("_bucket", Part.BUCKET, 0),
            ("_sum", Part.TOTAL, 0),
            ("_count", Part.COUNT, 0),
            ("_created", Part.CREATED, 0),
        )
    if row.kind is ServingKind.COUNTER:
        return (("_total", Part.VALUE, 0), ("", Part.VALUE, 1), ("_created", Part.CREATED, 0))
    return (("", Part.VALUE, 0),)

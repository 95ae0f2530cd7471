"""One metric of one subject out of the series of a page: what is told twice once, what is told in parts added up."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from collectors.plain_text import plain_text
from collectors.serving.gaps import GapBook
from collectors.serving.histograms import Buckets, Contradiction, buckets_of
from collectors.serving.parts import Incomplete, PartKey, Parts, Told, Trouble
from collectors.serving.series import Cell
from collectors.serving.table import EngineTable, Implausible, Part, Row, plausible
from collectors.serving.wire import Values
from planner.serving_metrics import ServingKind
from planner.serving_readings import CounterReading, GaugeReading, HistogramReading, ServingSubject

MAX_AHEAD = timedelta(minutes=5)
"""How far ahead of the page a start may lie before it is not believed."""
EARLIEST_START = datetime(2015, 1, 1, tzinfo=UTC)

_UNREAD_PART = "a part of it cannot be read; the sum was left out"


def moment(seconds: float | None, observed_at: datetime) -> datetime | None:
    """A start as a time; None for what can be none."""
    if seconds is None or not 0 < seconds < 32_503_680_000:  # the year 3000
        return None
    found = datetime.fromtimestamp(seconds, UTC)
    return found if EARLIEST_START <= found <= observed_at + MAX_AHEAD else None


@dataclass(slots=True, kw_only=True)
class MetricReader:
    """Reads one metric of one subject; `trouble` is what the page may have lost of it.

    `born_after` is a moment at which the process that counts was not there yet, where no start is told.
    """

    table: EngineTable
    metric: str
    subject: ServingSubject
    observed_at: datetime
    process_start: datetime | None
    born_after: datetime | None
    gap_book: GapBook
    parts: Parts
    trouble: Trouble
    gauges: list[GaugeReading] = field(default_factory=list)
    counters: list[CounterReading] = field(default_factory=list)
    histograms: list[HistogramReading] = field(default_factory=list)
    starts: list[datetime] = field(default_factory=list)

    def read(self, rows: Mapping[int, Sequence[tuple[Cell, Values]]]) -> None:
        """Take the rows that count: the first that has anything, and all that stand beside each other."""
        beside = {place: cells for place, cells in rows.items() if self._row(place).beside}
        fills = {place: cells for place, cells in rows.items() if self._row(place).fills is not None}
        if fills:
            self._read_filled(fills)
        elif beside:
            self._read_numbers([each for cells in beside.values() for each in self._apart(cells)])
        else:
            for place in sorted(rows):
                kept = list(self._apart(rows[place]))
                if self._row(place).kind is ServingKind.HISTOGRAM:
                    if self._read_histogram(kept):
                        return
                elif self._read_numbers(kept):
                    return

    def _row(self, place: int) -> Row:
        return self.table.rows[place]

    def note(self, reason: str) -> None:
        """The metric is not there, or not all of it, for this reason."""
        self.gap_book.note(self.metric, reason)

    def _apart(self, cells: Sequence[tuple[Cell, Values]]) -> Iterator[tuple[Cell, Values]]:
        """The series that say something of their own: of parallel ranks that repeat a figure, the first."""
        lowest: dict[tuple[str, frozenset[tuple[str, str]]], tuple[Cell, Values]] = {}
        for cell, values in cells:
            key = (cell.label, cell.others)
            known = lowest.get(key)
            if known is None or cell.lowest < known[0].lowest:
                lowest[key] = (cell, values)
        yield from lowest.values()

    def _read_numbers(self, cells: Sequence[tuple[Cell, Values]]) -> bool:
        """Gauges and counters; whether there was any. What counts is not taken from a row that stands in for it."""
        told: defaultdict[str, dict[Cell, tuple[float, datetime | None]]] = defaultdict(dict)
        unread: set[str] = set()
        for cell, values in cells:
            if values.value is None and not values.is_no_number:
                continue
            value = self._number(cell, values)
            if value is None:
                unread.add(cell.label)
            else:
                told[cell.label][cell] = (value, self._start(values))
        is_read = False
        for label, parts in told.items():
            self._say_what_is_added(parts)
            if label in unread:
                self.note(_UNREAD_PART)
            elif all(self._row(cell.row_place).kind is ServingKind.GAUGE for cell in parts):
                is_read = self._take_gauge(label, {_key(cell): value for cell, (value, _) in parts.items()}) or is_read
            else:
                found = {_key(cell): (_counter(value), start) for cell, (value, start) in parts.items()}
                self._take_counter(label, found)
                is_read = True
        counts = any(self._row(cell.row_place).kind is not ServingKind.GAUGE for cell, _ in cells)
        return is_read or (counts and bool(unread))

    def _take_gauge(self, label: str, told: Mapping[PartKey, float]) -> bool:
        try:
            self._check(label, dict.fromkeys(told, ()))
        except Incomplete as error:
            self.note(str(error))
            return False
        value = max(told.values()) if self.metric.endswith("_ratio") else sum(told.values())
        self.gauges.append(
            GaugeReading(
                subject=self.subject, metric=self.metric, value=value, observed_at=self.observed_at, label=label
            )
        )
        return True

    def _take_counter(self, label: str, told: Mapping[PartKey, Told]) -> None:
        try:
            self._check(label, dict.fromkeys(told, ()))
            whole = self.parts.add_up((self.metric, self.subject, label), told)
        except Incomplete as error:
            self.note(str(error))
            return
        if whole is not None:
            self.counters.append(
                CounterReading(
                    subject=self.subject,
                    metric=self.metric,
                    value=whole[0].count,
                    observed_at=self.observed_at,
                    label=label,
                    started_at=whole[1],
                )
            )

    def _check(self, label: str, shape: Mapping[PartKey, tuple[float, ...]]) -> None:
        """Raise Incomplete where the page may lack a part or a bucket."""
        rows = [self._row(place) for place, _ in shape]
        is_alone = len(shape) == 1 and not self.table.sum_over and not any(row.beside for row in rows)
        is_number = all(row.kind is not ServingKind.HISTOGRAM for row in rows)
        of = (self.metric, self.subject, label)
        self.parts.check(of, shape, self.trouble, may_be_first=is_alone and is_number)

    def _number(self, cell: Cell, values: Values) -> float | None:
        row = self._row(cell.row_place)
        name = row.source_name
        if values.is_twice:
            self.note(f"{name} is given twice with different values; the first is kept")
        if values.value is None:
            self.note(f"{name} is not a number")
            return None
        try:
            value = plausible(values.value) * row.factor
            return value if row.convert is None else row.convert(value)
        except Implausible as error:
            self.note(f"{name}: {error}")
            return None

    def _read_histogram(self, cells: Sequence[tuple[Cell, Values]]) -> bool:
        """A histogram, its parts added up; whether there was one, readable or not."""
        found: dict[Cell, Told] = {}
        is_unread = False
        for cell, values in cells:
            row = self._row(cell.row_place)
            try:
                buckets = buckets_of(values, factor=row.factor)
            except Contradiction as error:
                self.note(f"{row.source_name}: {error}; it was left out")
                is_unread = True
                continue
            if buckets is not None:
                found[cell] = (buckets, self._start(values))
        if found and is_unread:
            self.note(_UNREAD_PART)
        elif found:
            self._say_what_is_added(found)
            self._take_histogram({_key(cell): told for cell, told in found.items()})
        return is_unread or bool(found)

    def _read_filled(self, rows: Mapping[int, Sequence[tuple[Cell, Values]]]) -> None:
        """A histogram without buckets, out of a counter of its sum and one of its count."""
        told: dict[Part, dict[PartKey, float]] = {Part.TOTAL: {}, Part.COUNT: {}}
        for place, cells in rows.items():
            row = self._row(place)
            for cell, values in cells if row.fills is not None else ():
                number = values.total if row.fills is Part.TOTAL else values.count
                if values.is_no_number:
                    self.note(f"{row.source_name} is not a number")
                    return
                if row.fills is not None and number is not None:
                    try:
                        told[row.fills][(0, cell.others)] = plausible(number) * row.factor
                    except Implausible as error:
                        self.note(f"{row.source_name}: {error}")
                        return
        totals, counts = told[Part.TOTAL], told[Part.COUNT]
        if totals and counts and totals.keys() != counts.keys():
            self.note(_UNREAD_PART)
        elif totals and counts:
            start = self.process_start or self.born_after
            self._take_histogram(
                {
                    key: (Buckets(bounds=(), counts=(), count=count, total=totals[key]), start)
                    for key, count in counts.items()
                }
            )

    def _take_histogram(self, told: Mapping[PartKey, Told]) -> None:
        try:
            self._check("", {key: buckets.bounds for key, (buckets, _) in told.items()})
            whole = self.parts.add_up((self.metric, self.subject, ""), told)
        except Incomplete as error:
            self.note(str(error))
            return
        except Contradiction as error:
            self.note(f"{error}; it was left out")
            return
        if whole is None:
            self.note("its parts have different buckets and cannot be added up")
            return
        buckets, started_at = whole
        self.histograms.append(
            HistogramReading(
                subject=self.subject,
                metric=self.metric,
                bounds=buckets.bounds,
                counts=buckets.counts,
                count=buckets.count,
                total=buckets.total,
                observed_at=self.observed_at,
                started_at=started_at,
            )
        )

    def _start(self, values: Values) -> datetime | None:
        start = moment(values.created, self.observed_at) or self.process_start
        if start is not None:
            self.starts.append(start)
        return start or self.born_after

    def _say_what_is_added(self, cells: Iterable[Cell]) -> None:
        """Name labels that tell series apart and that the table does not know: adding them up is a guess."""
        others = [cell.others for cell in cells]
        if len(others) < 2:
            return
        differing = {name for name, _ in frozenset.union(*others) - frozenset.intersection(*others)}
        unknown = sorted(plain_text(name, 64) for name in differing - self.table.sum_over)
        if unknown:
            named = ", ".join(self.parts.names_to_tell(unknown))
            self.note(f"it is split by labels nobody knows here ({named}); added up")


def _key(cell: Cell) -> PartKey:
    return cell.row_place, cell.others


def _counter(value: float) -> Buckets:
    return Buckets(bounds=(), counts=(), count=value, total=0.0)

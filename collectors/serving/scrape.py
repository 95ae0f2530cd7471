"""One page of an engine, understood: gauges, counters and histograms of our names, whichever road the page came by.

What an engine says twice is taken once: a deprecated name beside its successor, a counter with and without `_total`,
the same figure from every tensor-parallel rank. Parts of one thing are added up: SGLang's streamed and other requests.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from collectors.serving.gaps import GapBook
from collectors.serving.histograms import Buckets, Contradiction, buckets_of, merged
from collectors.serving.series import Cell
from collectors.serving.settings import cache_tokens
from collectors.serving.table import EngineTable, Implausible, Part, Row, plausible
from collectors.serving.wire import ReadPage, Values
from planner.serving_metrics import ServingKind
from planner.serving_readings import CounterReading, GaugeReading, HistogramReading, ServingSubject

MAX_SUBJECTS = 256
"""Models and ranks of one server that are read; a page that makes up names must not fill the store."""
MAX_AHEAD = timedelta(minutes=5)
"""How far ahead of the page a start may lie before it is not believed."""
EARLIEST_START = datetime(2015, 1, 1, tzinfo=UTC)

_Group = tuple[str, str, str, str]
"""Metric, model, rank and worker: within it, rows of the table stand in for each other."""


@dataclass(slots=True, kw_only=True)
class Understood:
    """A page in the planner's words."""

    gauges: list[GaugeReading] = field(default_factory=list)
    counters: list[CounterReading] = field(default_factory=list)
    histograms: list[HistogramReading] = field(default_factory=list)
    settings: tuple[tuple[str, str], ...] = ()
    models: tuple[str, ...] = ()
    started_at: datetime | None = None  # of the process or of the first family that counts

    @property
    def metrics(self) -> set[str]:
        """Names of all metrics that there are."""
        told: Iterable[GaugeReading | CounterReading | HistogramReading]
        told = (*self.gauges, *self.counters, *self.histograms)
        return {reading.metric for reading in told}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Whose page it is: `model` for engines that do not name it, `version` where it is known."""

    endpoint: str
    model: str = ""
    version: tuple[int, ...] | None = None


def understand(
    page: ReadPage, table: EngineTable, server: Server, *, observed_at: datetime, gaps: GapBook
) -> Understood:
    """Readings of a page; what it lacks goes into `gaps`."""
    understood = Understood()
    groups = _groups(page, table, server, gaps)
    ranks = {rank for _, _, rank, _ in groups}
    process_start = _moment(page.process_started_s, observed_at) if table.tells_start else None
    starts: list[datetime] = [] if process_start is None else [process_start]
    for (metric, model, rank, worker), rows in groups.items():
        subject = ServingSubject(endpoint=server.endpoint, model=model, rank=_rank(rank, worker, ranks))
        reader = _Reader(table, metric, subject, observed_at, None if worker else process_start, gaps, understood)
        reader.read(rows)
        starts += reader.starts
    understood.models = tuple(dict.fromkeys(model for _, model, _, _ in groups if model))
    understood.settings = page.infos[min(page.infos)].settings if page.infos else ()
    understood.started_at = min(starts, default=None)
    understood.gauges += _cache_sizes(page, understood.models, server, observed_at, ranks)
    return understood


def _groups(
    page: ReadPage, table: EngineTable, server: Server, gaps: GapBook
) -> dict[_Group, dict[int, list[tuple[Cell, Values]]]]:
    """Series by what they are about, and there by row of the table."""
    groups: dict[_Group, dict[int, list[tuple[Cell, Values]]]] = {}
    subjects: set[tuple[str, str, str]] = set()
    for cell, values in page.values.items():
        row = table.rows[cell.row_place]
        if row.since is not None and server.version is not None and server.version < row.since:
            continue
        subject = (cell.model or server.model, cell.rank, cell.worker)
        if subject not in subjects:
            if len(subjects) >= MAX_SUBJECTS:
                gaps.note(None, f"it names more than {MAX_SUBJECTS} models or ranks; the others were left out")
                continue
            subjects.add(subject)
        groups.setdefault((row.metric, *subject), {}).setdefault(cell.row_place, []).append((cell, values))
    return groups


def _rank(rank: str, worker: str, ranks: set[str]) -> str:
    """As the engine numbers it; "" for the only one. Ray's workers are told apart by their own ids."""
    if worker:
        return worker[:16] if rank in ("", "0") else f"{worker[:16]}/{rank}"
    return "" if ranks <= {"", "0"} else rank


def _moment(seconds: float | None, observed_at: datetime) -> datetime | None:
    """A start as a time; None for what can be none."""
    if seconds is None or not 0 < seconds < 32_503_680_000:  # the year 3000
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment if EARLIEST_START <= moment <= observed_at + MAX_AHEAD else None


class _Reader:
    """Reads one metric of one subject."""

    def __init__(
        self,
        table: EngineTable,
        metric: str,
        subject: ServingSubject,
        observed_at: datetime,
        process_start: datetime | None,
        gaps: GapBook,
        into: Understood,
    ) -> None:
        self._table = table
        self._metric = metric
        self._subject = subject
        self._observed_at = observed_at
        self._process_start = process_start
        self._gaps = gaps
        self._into = into
        self.starts: list[datetime] = []

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
        return self._table.rows[place]

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
        """Gauges and counters; whether there was any."""
        by_label: dict[str, list[tuple[Cell, float, datetime | None]]] = defaultdict(list)
        for cell, values in cells:
            value = self._number(cell, values)
            if value is not None:
                by_label[cell.label].append((cell, value, self._start(values)))
        for label, told in by_label.items():
            self._say_what_is_added([cell for cell, _, _ in told])
            numbers = [value for _, value, _ in told]
            if self._row(told[0][0].row_place).kind is ServingKind.GAUGE:
                value = max(numbers) if self._metric.endswith("_ratio") else sum(numbers)
                self._into.gauges.append(
                    GaugeReading(
                        subject=self._subject,
                        metric=self._metric,
                        value=value,
                        observed_at=self._observed_at,
                        label=label,
                    )
                )
            else:
                self._into.counters.append(
                    CounterReading(
                        subject=self._subject,
                        metric=self._metric,
                        value=sum(numbers),
                        observed_at=self._observed_at,
                        label=label,
                        started_at=min((start for _, _, start in told if start is not None), default=None),
                    )
                )
        return bool(by_label)

    def _number(self, cell: Cell, values: Values) -> float | None:
        row = self._row(cell.row_place)
        name = row.source_name
        if values.is_twice:
            self._gaps.note(self._metric, f"{name} is given twice with different values; the first is kept")
        if values.value is None:
            if values.no_number is not None:
                self._gaps.note(self._metric, f"{name} is not a number: {values.no_number!r}")
            return None
        try:
            value = plausible(values.value) * row.factor
            return value if row.convert is None else row.convert(value)
        except Implausible as error:
            self._gaps.note(self._metric, f"{name}: {error}")
            return None

    def _read_histogram(self, cells: Sequence[tuple[Cell, Values]]) -> bool:
        """A histogram, its parts added up; whether there was one."""
        found: list[Buckets] = []
        starts: list[datetime] = []
        for cell, values in cells:
            row = self._row(cell.row_place)
            try:
                buckets = buckets_of(values, factor=row.factor)
            except Contradiction as error:
                self._gaps.note(self._metric, f"{row.source_name}: {error}; it was left out")
                continue
            if buckets is not None:
                found.append(buckets)
                start = self._start(values)
                starts += [] if start is None else [start]
        if not found:
            return False
        self._say_what_is_added([cell for cell, _ in cells])
        whole = merged(found)
        if whole is None:
            self._gaps.note(self._metric, "its parts have different buckets and cannot be added up")
            return True
        self._into.histograms.append(self._histogram(whole, min(starts, default=None)))
        return True

    def _read_filled(self, rows: Mapping[int, Sequence[tuple[Cell, Values]]]) -> None:
        """A histogram without buckets, out of a counter of its sum and one of its count."""
        told: dict[Part, float] = {}
        for place, cells in rows.items():
            row = self._row(place)
            for _, values in cells:
                number = values.total if row.fills is Part.TOTAL else values.count
                if row.fills is not None and number is not None:
                    try:
                        told[row.fills] = told.get(row.fills, 0.0) + plausible(number) * row.factor
                    except Implausible as error:
                        self._gaps.note(self._metric, f"{row.source_name}: {error}")
                        return
        if Part.TOTAL in told and Part.COUNT in told:
            self._into.histograms.append(
                self._histogram(
                    Buckets(bounds=(), counts=(), count=told[Part.COUNT], total=told[Part.TOTAL]), self._process_start
                )
            )

    def _histogram(self, buckets: Buckets, started_at: datetime | None) -> HistogramReading:
        return HistogramReading(
            subject=self._subject,
            metric=self._metric,
            bounds=buckets.bounds,
            counts=buckets.counts,
            count=buckets.count,
            total=buckets.total,
            observed_at=self._observed_at,
            started_at=started_at,
        )

    def _start(self, values: Values) -> datetime | None:
        start = _moment(values.created, self._observed_at) or self._process_start
        if start is not None:
            self.starts.append(start)
        return start

    def _say_what_is_added(self, cells: Sequence[Cell]) -> None:
        """Name labels that tell series apart and that the table does not know: adding them up is a guess."""
        if len(cells) < 2:
            return
        differing = {
            name
            for name, _ in frozenset.union(*(cell.others for cell in cells)).difference(
                frozenset.intersection(*(cell.others for cell in cells))
            )
        }
        unknown = sorted(differing - self._table.sum_over)
        if unknown:
            self._gaps.note(self._metric, f"it is split by labels nobody knows here ({', '.join(unknown)}); added up")


def _cache_sizes(
    page: ReadPage, models: Sequence[str], server: Server, observed_at: datetime, ranks: set[str]
) -> Iterator[GaugeReading]:
    """The size of vLLM's KV cache, which stands among its settings; they name no model."""
    served = [*models] or [server.model]
    for rank, info in page.infos.items() if len(served) == 1 else ():
        tokens = cache_tokens(dict(info.settings))
        if tokens is not None:
            subject = ServingSubject(endpoint=server.endpoint, model=served[0], rank=_rank(rank, "", ranks))
            yield GaugeReading(subject=subject, metric="kv_cache_tokens", value=tokens, observed_at=observed_at)

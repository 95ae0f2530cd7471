"""One page of an engine, understood: gauges, counters and histograms of our names, whichever road the page came by.

What an engine says twice is taken once: a deprecated name beside its successor, a counter with and without `_total`,
the same figure from every tensor-parallel rank. Parts of one thing are added up: SGLang's streamed and other requests.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from collectors.serving.gaps import GapBook
from collectors.serving.metric_reader import MetricReader, moment
from collectors.serving.parts import Parts, Trouble
from collectors.serving.series import Cell
from collectors.serving.settings import cache_tokens
from collectors.serving.table import EngineTable
from collectors.serving.wire import ReadPage, Values
from planner.serving_readings import CounterReading, GaugeReading, HistogramReading, ServingSubject

MAX_SUBJECTS = 256
"""Models and ranks of one server that are read; a page that makes up names must not fill the store."""

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
    page: ReadPage,
    table: EngineTable,
    server: Server,
    *,
    observed_at: datetime,
    gaps: GapBook,
    parts: Parts | None = None,
) -> Understood:
    """Readings of a page; what it lacks goes into `gaps`.

    `parts` is what is remembered of the server's earlier pages; without it, a part of a sum that is gone is missed.
    """
    parts = Parts() if parts is None else parts
    understood = Understood()
    groups = _groups(page, table, server, gaps)
    process_start = moment(page.process_started_s, observed_at) if table.tells_start else None
    starts: list[datetime] = [] if process_start is None else [process_start]
    born = _born(page, parts, observed_at)
    for (metric, model, rank, worker), rows in groups.items():
        subject = ServingSubject(endpoint=server.endpoint, model=model, rank=_rank(rank, worker))
        reader = MetricReader(
            table=table,
            metric=metric,
            subject=subject,
            observed_at=observed_at,
            process_start=None if worker else process_start,
            born_after=born.get(worker),
            gap_book=gaps,
            parts=parts,
            trouble=_trouble(page, metric),
        )
        reader.read(rows)
        understood.gauges += reader.gauges
        understood.counters += reader.counters
        understood.histograms += reader.histograms
        starts += reader.starts
    understood.models = tuple(dict.fromkeys(model for _, model, _, _ in groups if model))
    understood.settings = page.infos[min(page.infos)].settings if page.infos else ()
    understood.started_at = min(starts, default=None)
    understood.gauges += _cache_sizes(page, understood.models, server, observed_at)
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
        subject = (cell.model or server.model, "" if cell.rank == "0" else cell.rank, cell.worker)
        if subject not in subjects:
            if len(subjects) >= MAX_SUBJECTS:
                gaps.note(None, f"it names more than {MAX_SUBJECTS} models or ranks; the others were left out")
                continue
            subjects.add(subject)
        groups.setdefault((row.metric, *subject), {}).setdefault(cell.row_place, []).append((cell, values))
    return groups


def _born(page: ReadPage, parts: Parts, observed_at: datetime) -> Mapping[str, datetime]:
    if page.is_torn or page.is_cut:
        return {}  # a worker that is missing here may be there all the same
    return parts.workers.look({cell.worker for cell in page.values if cell.worker}, observed_at)


def _trouble(page: ReadPage, metric: str) -> Trouble:
    if metric in page.lost:
        return Trouble.HERE
    return Trouble.SOMEWHERE if page.is_torn or page.is_cut else Trouble.NONE


def _rank(rank: str, worker: str) -> str:
    """As the engine numbers it, but "" for the first: an only one must not get another name when a second joins it.

    Ray's workers are told apart by their own ids.
    """
    numbered = "" if rank == "0" else rank
    if worker:
        return f"{worker[:16]}/{numbered}" if numbered else worker[:16]
    return numbered


def _cache_sizes(
    page: ReadPage, models: Sequence[str], server: Server, observed_at: datetime
) -> Iterator[GaugeReading]:
    """The size of vLLM's KV cache, which stands among its settings; they name no model."""
    served = [*models] or [server.model]
    for rank, info in page.infos.items() if len(served) == 1 else ():
        tokens = cache_tokens(dict(info.settings))
        if tokens is not None:
            subject = ServingSubject(endpoint=server.endpoint, model=served[0], rank=_rank(rank, ""))
            yield GaugeReading(subject=subject, metric="kv_cache_tokens", value=tokens, observed_at=observed_at)

"""Pages of metrics for tests, and what was understood of them, by name."""

from dataclasses import dataclass
from datetime import UTC, datetime

from collectors.serving.gaps import GapBook
from collectors.serving.metrics import TABLES, engine_of
from collectors.serving.parts import Parts
from collectors.serving.scrape import Server, Understood, understand
from collectors.serving.series import SeriesBook
from collectors.serving.wire import read_page
from planner.readings import Gap
from planner.serving_readings import HistogramReading, ServingEngine

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ENDPOINT = "10.0.0.7:8000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a page said: values by (metric, rank, label), histograms by (metric, rank), gaps as they came."""

    engine: ServingEngine
    understood: Understood
    gaps: tuple[Gap, ...]

    @property
    def gauges(self) -> dict[tuple[str, str, str], float]:
        found = {(one.metric, one.subject.rank, one.label): one.value for one in self.understood.gauges}
        assert len(found) == len(self.understood.gauges)  # nothing is told twice
        return found

    @property
    def counters(self) -> dict[tuple[str, str, str], float]:
        found = {(one.metric, one.subject.rank, one.label): one.value for one in self.understood.counters}
        assert len(found) == len(self.understood.counters)
        return found

    @property
    def histograms(self) -> dict[tuple[str, str], HistogramReading]:
        found = {(one.metric, one.subject.rank): one for one in self.understood.histograms}
        assert len(found) == len(self.understood.histograms)
        return found

    @property
    def missing(self) -> set[str]:
        return {gap.metric for gap in self.gaps if gap.metric is not None}

    def reasons(self, metric: str | None = None) -> list[str]:
        return [gap.reason for gap in self.gaps if gap.metric == metric]


def told(
    text: str,
    engine: ServingEngine | None = None,
    *,
    model: str = "",
    version: tuple[int, ...] | None = None,
    at: datetime = AT,
    book: SeriesBook | None = None,
    parts: Parts | None = None,
) -> Told:
    """A page read as the collector reads it."""
    found = engine or engine_of(text)
    assert found is not None
    table = TABLES[found]
    gaps = GapBook(ENDPOINT)
    page = read_page(text, book or SeriesBook(table))
    for bad in page.bad_lines:
        gaps.note(None, f"line not read ({bad.reason}): {bad.text}")
    server = Server(endpoint=ENDPOINT, model=model, version=version)
    understood = understand(page, table, server, observed_at=at, gaps=gaps, parts=parts)
    gaps.note_missing(table, understood.metrics, only_what_counted=any(cell.worker for cell in page.values))
    return Told(engine=found, understood=understood, gaps=gaps.gaps())


def histogram(name: str, buckets: dict[str, float], total: float, labels: str = "") -> str:
    """The lines of one histogram; `+Inf` among the buckets is the count."""
    comma = "," if labels else ""
    lines = [f'{name}_bucket{{{labels}{comma}le="{bound}"}} {count}\n' for bound, count in buckets.items()]
    own = f"{{{labels}}}" if labels else ""
    return "".join([*lines, f"{name}_count{own} {buckets['+Inf']}\n", f"{name}_sum{own} {total}\n"])

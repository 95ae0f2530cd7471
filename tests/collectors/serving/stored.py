"""Pages of one server written to a store as they were scraped, and what the store then says was counted."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from collectors.serving.metrics import TABLES
from collectors.serving.parts import Parts
from collectors.serving.series import SeriesBook
from planner.readings import Batch
from planner.serving_readings import ServingEngine
from store.database import open_engine
from store.latency_queries import counted_histograms
from store.schema import migrate
from store.serving_queries import count_resets, counted
from store.writes import register_source, write_batch
from tests.collectors.serving.pages import AT, Told, told

LONG_AGO, LATER = AT - timedelta(days=1), AT + timedelta(days=1)


class Stored:
    """A store, and a collector that remembers what the direct road remembers of a server."""

    def __init__(self, folder: Path, engine: ServingEngine, model: str = "m") -> None:
        self._store = open_engine(f"sqlite:///{folder / 'gpufleet.db'}")
        migrate(self._store)
        self._source_id = register_source(
            self._store, cluster="c", name="s", kind="serving", interval_s=30, now=LONG_AGO
        )
        self._engine, self._model = engine, model
        self._minute = 0
        self.restart_collector()

    def restart_collector(self) -> None:
        self._book, self._parts = SeriesBook(TABLES[self._engine]), Parts()

    def scrape(self, page: str) -> Told:
        """Read a page a minute after the one before, and write what it says."""
        at = AT + timedelta(minutes=self._minute)
        self._minute += 1
        found = told(page, self._engine, model=self._model, at=at, book=self._book, parts=self._parts)
        batch = Batch(
            gauges=tuple(found.understood.gauges),
            counters=tuple(found.understood.counters),
            histograms=tuple(found.understood.histograms),
            gaps=found.gaps,
        )
        write_batch(self._store, source_id=self._source_id, target="t", started_at=at, seconds=0.1, batch=batch)
        return found

    def counted(self, metric: str) -> float:
        return sum(one.increment for one in counted(self._store, LONG_AGO, LATER, metrics=[metric]))

    def by_rank(self, metric: str) -> Mapping[str, float]:
        return {one.subject.rank: one.increment for one in counted(self._store, LONG_AGO, LATER, metrics=[metric])}

    def values(self, metric: str) -> tuple[float, float]:
        """How many values of a histogram were counted, and their sum."""
        found = counted_histograms(self._store, [metric], LONG_AGO, LATER)
        return sum(one.histogram.count for one in found), sum(one.histogram.total for one in found)

    def remembered_sums(self) -> list[object]:
        return list(self._parts._sums)

    def resets(self) -> int:
        return len(count_resets(self._store, LONG_AGO, LATER))

    def close(self) -> None:
        self._store.dispose()

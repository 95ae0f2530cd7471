"""What runs in the background: every source on its interval, every report on its schedule, pruning once a day.

This is its own process, never a part of the dashboard: Streamlit runs its script once per visitor.
"""

import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import FrameType

from apscheduler.executors.pool import ThreadPoolExecutor as SchedulerThreads
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import Engine

from collectors import build
from collectors.runner import Outcome, run_once
from collectors.source import Collector
from dashboard.report import build_report, write_report
from gpufleet.config import Config, ReportConfig
from gpufleet.examinations import Examinations
from store.database import open_engine
from store.errors import StoreError
from store.retention import prune
from store.schema import migrate

log = logging.getLogger("gpufleet.service")

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock, aware."""
    return datetime.now(UTC)


def open_store(config: Config) -> Engine:
    """The configured store, created or brought up to date; raises StoreError."""
    engine = open_engine(config.store.url)
    migrate(engine)
    return engine


def build_collectors(config: Config) -> tuple[Collector, ...]:
    """One collector per configured source, in the order of the file."""
    return tuple(build(kind, table) for kind, tables in config.sources.items() for table in tables)


def collect_once(engine: Engine, collectors: tuple[Collector, ...], now: datetime) -> list[Outcome]:
    """Every source once, side by side; what became of each attempt, in the order of the configuration."""
    if not collectors:
        return []
    examinations = Examinations(engine)
    with ThreadPoolExecutor(max_workers=min(len(collectors), 16), thread_name_prefix="collect") as threads:
        runs = [threads.submit(run_once, engine, collector, now, written=examinations.look) for collector in collectors]
        return [outcome for run in runs for outcome in run.result()]


def run_report(engine: Engine, report: ReportConfig, now: datetime) -> tuple[str, ...]:
    """Write one report; returns the names of the files written."""
    paths = write_report(build_report(engine, now, report.name), report.directory)
    return tuple(str(path) for path in paths)


class Service:
    """The scheduler over one store."""

    def __init__(self, config: Config, *, clock: Clock = utc_now) -> None:
        self._config = config
        self._clock = clock
        self._stopping = threading.Event()
        self._engine = open_store(config)
        self._collectors = build_collectors(config)
        self._examinations = Examinations(self._engine)
        threads = max(2, len(self._collectors) + len(config.reports) + 1)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": SchedulerThreads(max_workers=min(threads, 64))},
            # A run that is late is made up for once, and never overlaps itself.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def start(self) -> None:
        """Begin at once with every source, then keep the intervals."""
        for number, collector in enumerate(self._collectors):
            self._scheduler.add_job(
                self._collect,
                IntervalTrigger(seconds=collector.interval_s, timezone=UTC),
                args=[collector],
                id=f"collect/{number}/{collector.kind}/{collector.source}",
                next_run_time=self._clock(),
            )
        for report in self._config.reports:
            self._scheduler.add_job(
                self._report,
                CronTrigger.from_crontab(report.cron, timezone=report.timezone),
                args=[report],
                id=f"report/{report.name}",
            )
        self._scheduler.add_job(self._prune, CronTrigger(hour=3, minute=17, timezone=UTC), id="prune")
        self._scheduler.start()
        log.info("collecting from %d sources, %d reports scheduled", len(self._collectors), len(self._config.reports))

    def next_runs(self) -> dict[str, datetime]:
        """When each job runs next, by its name: `collect/N/KIND/SOURCE`, `report/NAME`, `prune`."""
        return {job.id: job.next_run_time for job in self._scheduler.get_jobs()}

    def stop(self) -> None:
        """Wait for the batches in flight, then let go of everything."""
        self._stopping.set()
        self._scheduler.shutdown(wait=True)
        for collector in self._collectors:
            collector.close()
        self._engine.dispose()

    def _collect(self, collector: Collector) -> None:
        # The next interval tries again, whatever the store said: a full disk must not end the collection for good.
        try:
            run_once(
                self._engine,
                collector,
                self._clock(),
                stopping=self._stopping.is_set,
                written=self._examinations.look,
            )
        except StoreError as error:
            log.error("%s: nothing was written: %s", collector.source, error)

    def _report(self, report: ReportConfig) -> None:
        try:
            for path in run_report(self._engine, report, self._clock()):
                log.info("report %s: wrote %s", report.name, path)
        except (StoreError, OSError) as error:
            log.error("report %s was not written: %s", report.name, error)

    def _prune(self) -> None:
        try:
            removed = prune(self._engine, before=self._clock() - timedelta(days=self._config.store.keep_days))
        except StoreError as error:
            log.error("pruning was not possible: %s", error)
        else:
            log.info("pruned what is older than %d days: %s", self._config.store.keep_days, removed)


def run_until_stopped(config: Config) -> None:
    """Run the service in this process until SIGTERM or Ctrl-C."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    service = Service(config)
    service.start()
    stopping.wait()
    log.info("stopping")
    service.stop()

"""The background service: everything on its schedule, and no failure ends it."""

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpufleet.config import Config, parse_config
from gpufleet.service import Service, run_report
from planner.diagnosis import Outcome as Diagnosed
from sample_data.demo_store import build_demo_store
from store.database import open_engine
from store.diagnoses import kept_diagnoses
from store.queries import SourceHealth, source_health

PATIENCE_S = 30.0


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def config(folder: Path, **more: Any) -> Config:
    raw = {
        "version": 1,
        "sources": {
            "dcgm": [
                {"name": name, "url": f"http://127.0.0.1:{closed_port()}/metrics", "interval_s": 1}
                for name in ("east", "west")
            ]
        },
        "reports": [{"name": "weekly", "cron": "0 7 * * MON", "directory": "reports", "timezone": "Europe/Berlin"}],
        **more,
    }
    return parse_config(raw, origin="test", directory=folder, environ={})


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(config(tmp_path))
    running.start()
    yield running
    running.stop()


def health_when(folder: Path, reached: Callable[[tuple[SourceHealth, ...]], bool]) -> tuple[SourceHealth, ...]:
    deadline = time.monotonic() + PATIENCE_S
    engine = open_engine(f"sqlite:///{folder}/gpufleet.db", read_only=True)
    try:
        while True:
            health = source_health(engine, datetime.now(UTC))
            if reached(health) or time.monotonic() > deadline:
                return health
            time.sleep(0.1)
    finally:
        engine.dispose()


def test_every_source_and_report_has_its_schedule(service: Service) -> None:
    runs = service.next_runs()
    assert set(runs) == {"collect/0/dcgm/east", "collect/1/dcgm/west", "report/weekly", "prune"}
    report = runs["report/weekly"]
    assert (report.strftime("%A %H:%M"), str(report.tzinfo)) == ("Monday 07:00", "Europe/Berlin")


def test_a_source_that_fails_is_tried_again_and_again_beside_the_others(service: Service, tmp_path: Path) -> None:
    health = health_when(tmp_path, lambda seen: len(seen) == 2 and all(one.consecutive_failures >= 2 for one in seen))
    assert sorted(one.source for one in health) == ["east", "west"]
    assert all(one.consecutive_failures >= 2 and not one.is_ok for one in health)


def test_every_target_is_diagnosed_with_its_first_attempt(service: Service, tmp_path: Path) -> None:
    health_when(tmp_path, lambda seen: len(seen) == 2 and all(one.consecutive_failures >= 2 for one in seen))
    engine = open_engine(f"sqlite:///{tmp_path}/gpufleet.db", read_only=True)
    found = kept_diagnoses(engine).diagnoses
    engine.dispose()
    assert [(one.source, one.outcome) for one in found] == [("east", Diagnosed.FAILED), ("west", Diagnosed.FAILED)]
    assert all("curl -sv URL" in (one.findings[-1].fix or "") for one in found)


def test_a_report_is_written_where_the_configuration_says(tmp_path: Path) -> None:
    now = datetime(2026, 11, 19, 12, tzinfo=UTC)
    loaded = config(tmp_path)
    build_demo_store(loaded.store.url, nodes=2, until=now, hours=0.5)
    engine = open_engine(loaded.store.url, read_only=True)
    try:
        written = [Path(name) for name in run_report(engine, loaded.report("weekly"), now)]
    finally:
        engine.dispose()
    assert written
    assert {path.parent for path in written} == {tmp_path / "reports"}
    assert {path.suffix for path in written} == {".html", ".csv"}


@pytest.mark.slow
def test_a_report_is_written_when_its_minute_comes(tmp_path: Path) -> None:
    every_minute = [{"name": "minutely", "cron": "* * * * *", "directory": "reports"}]
    running = Service(config(tmp_path, reports=every_minute))
    running.start()
    try:
        deadline = time.monotonic() + 60 + PATIENCE_S
        while not list((tmp_path / "reports").glob("*.html")) and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        running.stop()
    assert len(list((tmp_path / "reports").glob("*.html"))) == 1

"""Stores of every kind a dashboard can meet, and a real browser in front of a real server."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import streamlit as st
from playwright.sync_api import BrowserContext, sync_playwright

from planner.hardware import MigMode
from planner.readings import Batch, Gap, GpuFact, InstanceFact, PodFact, Reading, Subject
from planner.units import GpuUuid, NodeName
from sample_data.demo_store import build_demo_store
from store.database import open_engine, writing
from store.schema import migrate
from store.writes import register_source, write_batch, write_failure
from tests.conftest import ROOT
from tests.dashboard.fleets import HOSTILE
from tests.dashboard.measured_runs import write_runs

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (  # the browser itself must not talk to anybody either
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """URL of one store of every kind: with readings, with measured runs, without either, and in every trouble."""
    folder = tmp_path_factory.mktemp("stores")
    urls = {
        kind: f"sqlite:///{folder / kind}.db"
        for kind in ("demo", "empty", "stale", "broken", "hostile", "newer", "missing", "measured", "damaged")
    }
    now = datetime.now(UTC)
    # An interval of an hour keeps the store fresh however long the tests take.
    build_demo_store(urls["demo"], until=now, hours=0.5, step_s=300, interval_s=3600)
    build_demo_store(urls["stale"], nodes=2, until=now - timedelta(days=2), hours=0.5, step_s=300)
    shutil.copyfile(folder / "stale.db", folder / "broken.db")
    _fail(urls["broken"], now)
    _write_hostile(urls["hostile"], now)
    shutil.copyfile(folder / "stale.db", folder / "measured.db")
    write_runs(urls["measured"], now)
    (folder / "damaged.db").write_bytes(b"no database, whatever it is called")
    for kind in ("empty", "newer"):
        engine = open_engine(urls[kind])
        migrate(engine)
        if kind == "newer":
            with writing(engine) as connection:
                connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from_tomorrow'")
        engine.dispose()
    return urls


def _fail(url: str, now: datetime) -> None:
    engine = open_engine(url)
    source = register_source(engine, cluster="default", name="simulated", kind="dcgm", interval_s=30, now=now)
    for target in ("127.0.0.1:9400/nodes/gpu-a100-01", "127.0.0.1:9400/nodes/gpu-h100-01"):
        write_failure(
            engine,
            source_id=source,
            target=target,
            started_at=now,
            seconds=10.0,
            error_kind="Unreachable",
            message=f"no answer from {target} within 10 s: <b>is it up?</b>",
            permanent=False,
        )
    engine.dispose()


def _write_hostile(url: str, now: datetime) -> None:
    """Every name that can come from a cluster, hostile: nodes, pods, namespaces, boards, profiles, reasons."""
    engine = open_engine(url)
    migrate(engine)
    source = register_source(engine, cluster="<u>prod</u>", name=HOSTILE[0], kind="dcgm", interval_s=3600, now=now)
    for at in (now - timedelta(minutes=minutes) for minutes in (20, 15, 10, 5, 0)):
        facts, readings = [], []
        for number, name in enumerate(HOSTILE):
            uuid = GpuUuid(f"GPU-{number}-{name}")
            cut = number == 0
            facts.append(
                GpuFact(
                    observed_at=at,
                    gpu_uuid=uuid,
                    node=NodeName(name),
                    index=number,
                    model_name="NVIDIA A100-SXM4-40GB" if number < 2 else f"NVIDIA {name}",
                    pci_bus_id=name,
                    driver_version=name,
                    mig_mode=MigMode.ENABLED if cut else MigMode.DISABLED,
                    instances=(InstanceFact(gi_id=1, profile="3g.20gb"),) if cut else (),
                    pods=(PodFact(gi_id=1 if cut else None, namespace=name, name=name, container=name),),
                )
            )
            subject = Subject(gpu_uuid=uuid, gi_id=1 if cut else None)
            values = {"gr_engine_active_ratio": 0.3, "memory_used_bytes": 9e9, "memory_total_bytes": 4e10}
            readings += [Reading(subject=subject, metric=m, value=v, observed_at=at) for m, v in values.items()]
        batch = Batch(
            readings=tuple(readings),
            facts=tuple(facts),
            gaps=(Gap(subject=facts[0].gpu_uuid, metric="gpu_busy_ratio", reason=f"absent: {HOSTILE[0]}"),),
        )
        write_batch(engine, source_id=source, target=HOSTILE[0], started_at=at, seconds=0.1, batch=batch)
    engine.dispose()


@pytest.fixture
def use_store(stores: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Point this process's dashboard at a kind of store, with nothing cached."""

    def use(kind: str) -> str:
        monkeypatch.setenv("GPUFLEET_STORE_URL", stores[kind])
        st.cache_resource.clear()
        return stores[kind]

    yield use
    st.cache_resource.clear()


@pytest.fixture(scope="session")
def browser() -> Iterator[BrowserContext]:
    """Chromium; tests skip without it, except in CI, where a skipped browser test would be a silent one.

    One context for all pages, so that Streamlit's own scripts are loaded once.
    """
    if not CHROMIUM.exists():
        reason = f"no Chromium at {CHROMIUM}: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(QUIET))
        yield started.new_context(viewport={"width": 1400, "height": 2200})
        started.close()


class Dashboard:
    """A real `streamlit run dashboard/app.py`; which store it reads is told by the gpufleet.toml in its folder."""

    def __init__(self, folder: Path, stores: dict[str, str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._configuration = folder / "gpufleet.toml"
        self._stores = stores

    def show(self, kind: str) -> None:
        """From now on the pages read that kind of store."""
        self._configuration.write_text(f'version = 1\n[store]\nurl = "{self._stores[kind]}"\n', encoding="utf-8")


@pytest.fixture(scope="session")
def dashboard(stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """One server for all browser tests of a session, with the project's own options."""
    folder = tmp_path_factory.mktemp("dashboard")
    (folder / ".streamlit").symlink_to(ROOT / ".streamlit")
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = Dashboard(folder, stores, port)
    served.show("demo")
    environment = {name: value for name, value in os.environ.items() if name != "GPUFLEET_STORE_URL"}
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py"), f"--server.port={port}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_healthy(f"{served.url}/_stcore/health", process, folder / "log")
            yield served
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    pytest.fail(f"the dashboard did not start: {log.read_text()}")

"""The agent over HTTP: new numbers, or 503 with the reason; never old ones as new."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest

from collectors.dcgm.collector import DcgmCollector, read_exposition
from collectors.dcgm.config import DcgmConfig
from collectors.errors import Unreachable
from collectors.source import Attempt
from gpufleet.agent_service import Agent
from planner.hardware import MigMode
from planner.readings import Batch, Gap
from tests.collectors.nvml.fake_nvml import boards
from tests.collectors.nvml.readings import machine, read_once
from tests.collectors.webs import reply, serving

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Scripted:
    """A source that answers what it is told to."""

    source, kind, cluster, interval_s = "agent", "nvml", "default", 10.0

    def __init__(self) -> None:
        self.batch: Batch | None = read_once(boards.t4())
        self.closed = False

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        error = None if self.batch is not None else Unreachable("the driver is not loaded.", source="agent")
        yield Attempt(target="gpu-a", started_at=now, seconds=0.25, batch=self.batch, error=error)

    def close(self) -> None:
        self.closed = True


class Watch:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Web:
    """Asks the agent's application, without a socket."""

    def __init__(self, agent: Agent) -> None:
        self._app = agent.app()

    def get(self, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://agent") as client:
                return await client.get(path)

        with ThreadPoolExecutor(max_workers=1) as thread:  # a browser of another test may have a loop in this one
            return thread.submit(lambda: asyncio.run(ask())).result()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def source() -> Scripted:
    return Scripted()


@pytest.fixture
def agent(source: Scripted, watch: Watch) -> Agent:
    return Agent(source, clock=watch, utc_now=lambda: AT)


@pytest.fixture
def web(agent: Agent) -> Web:
    return Web(agent)


def test_before_the_first_reading(web: Web) -> None:
    assert web.get("/metrics").status_code == 503
    health = web.get("/healthz")
    assert health.status_code == 503
    assert health.json() == {"ok": False, "trouble": "nothing was read yet"}


def test_new_numbers_with_their_age(agent: Agent, web: Web, watch: Watch) -> None:
    agent.read_once()
    watch.now_s += 7
    answer = web.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "gpufleet_agent_sample_age_seconds 7\n" in answer.text
    assert "gpufleet_agent_reading_seconds 0.25\n" in answer.text
    batch = read_exposition(answer.text, observed_at=AT, source="test", target="gpu-a:9400")
    assert [fact.model_name for fact in batch.facts] == ["Tesla T4"]
    assert batch.nodes_complete == {"gpu-a"}
    health = web.get("/healthz")
    assert health.status_code == 200
    assert health.json()["age_s"] == 7
    assert health.json()["gpus"] == 1
    assert {"subject", "metric", "reason"} == set(health.json()["gaps"][0])


def test_our_own_collector_scrapes_it_like_any_other_node(agent: Agent, source: Scripted) -> None:
    source.batch = read_once(boards.h100_mixed(), boards.h200())
    agent.read_once()
    text = Web(agent).get("/metrics").text
    with serving() as served:
        served.answer = reply(200, text.encode())
        collector = DcgmCollector(DcgmConfig.model_validate({"name": "node", "url": served.url}))
        (attempt,) = collector.collect(AT, {})
        collector.close()
    assert attempt.batch is not None
    told = {(one.subject, one.metric): one.value for one in attempt.batch.readings}
    assert told == {(one.subject, one.metric): one.value for one in source.batch.readings}
    assert [fact.mig_mode for fact in attempt.batch.facts] == [MigMode.ENABLED, MigMode.DISABLED]


@pytest.mark.parametrize(("age_s", "status"), [(30.0, 200), (30.1, 503)])
def test_numbers_older_than_three_intervals_are_not_served(
    agent: Agent, web: Web, watch: Watch, age_s: float, status: int
) -> None:
    agent.read_once()
    watch.now_s += age_s
    answer = web.get("/metrics")
    assert answer.status_code == status
    assert web.get("/healthz").status_code == status
    if status == 503:
        assert answer.text.startswith("the newest values are 30 s old, more than 3 intervals of 10 s")
        assert "DCGM" not in answer.text


def test_a_failed_reading_is_answered_at_once(agent: Agent, web: Web, source: Scripted) -> None:
    agent.read_once()
    good, source.batch = source.batch, None
    agent.read_once()
    answer = web.get("/metrics")
    assert (answer.status_code, answer.text) == (503, "the driver is not loaded.\n")
    assert web.get("/healthz").json()["trouble"] == "the driver is not loaded."
    source.batch = good
    agent.read_once()
    assert web.get("/metrics").status_code == 200


def test_a_machine_whose_gpus_say_nothing(agent: Agent, web: Web, source: Scripted) -> None:
    source.batch = Batch(gaps=(Gap(subject="GPU 0", metric=None, reason="nothing of this GPU is read"),))
    agent.read_once()
    assert web.get("/metrics").status_code == 503
    assert "no GPU of this machine gave a value" in web.get("/metrics").text
    assert web.get("/healthz").json()["gaps"][0]["subject"] == "GPU 0"


def test_it_reads_in_the_background_until_it_is_stopped() -> None:
    with machine(boards.h200(), interval_s=1) as running:
        agent = Agent(running.collector)
        agent.start()
        web = Web(agent)
        served = wait_for(lambda: web.get("/metrics").status_code == 200)
        agent.stop()
        assert served
        assert running.fake.opened == 0


def test_a_fault_of_ours_does_not_end_the_readings(source: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    source.interval_s = 0.01
    collect, failed = source.collect, threading.Event()

    def once(now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        return collect(now, watermarks)

    source.collect = once  # type: ignore[method-assign]
    agent = Agent(source, clock=lambda: 0.0)
    agent.start()
    web = Web(agent)
    assert wait_for(lambda: web.get("/metrics").status_code == 200)
    agent.stop()
    assert source.closed
    assert "this reading failed" in caplog.text


def wait_for(is_there) -> bool:  # type: ignore[no-untyped-def]
    for _ in range(500):
        if is_there():
            return True
        threading.Event().wait(0.02)
    return False


@pytest.fixture(scope="module")
def without_a_driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`gpufleet agent` as a process of its own, with a library in front that is none: the address it says."""
    folder = tmp_path_factory.mktemp("lib")
    (folder / "libnvidia-ml.so.1").write_text("this is no library")
    process = subprocess.Popen(
        [sys.executable, "-m", "gpufleet", "agent", "--port", "0", "--interval", "1", "--node", "node-x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
    )
    try:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        assert greeting.startswith("gpufleet agent: http://127.0.0.1:")
        assert greeting.endswith("/metrics of node-x\n")
        yield greeting.split()[2].removesuffix("/metrics")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()


def test_on_a_machine_without_a_driver_it_says_so(without_a_driver: str) -> None:
    with httpx.Client(base_url=without_a_driver, trust_env=False) as client:
        assert wait_for(lambda: "libnvidia-ml.so.1 is not found" in client.get("/metrics").text)
        answer = client.get("/metrics")
        assert answer.status_code == 503
        assert json.loads(client.get("/healthz").text)["ok"] is False
        assert client.get("/").status_code == 200


def test_a_port_that_is_taken(without_a_driver: str) -> None:
    port = without_a_driver.rsplit(":", 1)[1]
    ended = subprocess.run(
        [sys.executable, "-m", "gpufleet", "agent", "--port", port],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr

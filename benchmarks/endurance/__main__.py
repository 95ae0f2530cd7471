"""An hour of every source together against the simulated cluster, with faults, and the two accounts side by side.

`gpufleet run` reads exporters, engines, Ollama, Kubernetes, a gateway and a trace store of one simulated cluster on the
same machine, shows the dashboard and writes reports, while `benchmarks.endurance.faults` breaks one thing after the
other. At the end `benchmarks.endurance.agreement` compares what the store holds with what the simulator did.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import Engine

from benchmarks.endurance.agreement import Agreement, agreements
from benchmarks.endurance.cluster import SEED, RunningCluster, answers
from benchmarks.endurance.conduct import (
    Punctuality,
    Resources,
    SourceConduct,
    children,
    conduct,
    good_looks,
    punctuality,
    resources,
)
from benchmarks.endurance.faults import Site, schedule
from benchmarks.endurance.journal import account
from benchmarks.results import keep, machine, table
from gpufleet.demo import write_demo_config
from sample_data.cluster import SimulatedCluster, simulated_cluster
from sample_data.serving_endpoints import has_endpoint
from sample_data.serving_state import serving_pods
from store.database import open_engine
from store.serving_queries import count_resets

NODES = 12
_REPORTS = """
[[reports]]
name = "often"
cron = "*/10 * * * *"
directory = "reports"
"""


class Fleet:
    """`gpufleet run` over one configuration, as a process that can be killed and started again."""

    def __init__(self, config: Path, port: int, log: Path) -> None:
        self._command = [sys.executable, "-m", "gpufleet", "run", "--config", str(config), "--port", str(port)]
        self._health = f"http://127.0.0.1:{port}/_stcore/health"
        self._log = log.open("ab")
        self._folder = config.parent
        self._process: subprocess.Popen[bytes] | None = None
        self.dashboard_answers = self.dashboard_asked = 0

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, stdout=self._log, stderr=self._log, env=dict(os.environ)
        )

    def kill_collector(self) -> None:
        """The process that collects ends at once; `gpufleet run` then ends the dashboard and itself."""
        os.kill(self.collector(), signal.SIGKILL)
        self._running().wait(timeout=60)

    def stop(self) -> None:
        process = self._running()
        process.terminate()
        process.wait(timeout=120)

    def collector(self) -> int:
        """The number of the process that collects."""
        for pid, command in children(self._running().pid).items():
            if " collect" in command:
                return pid
        raise SystemExit("gpufleet run has no process that collects; see its log")

    def resources(self) -> Resources:
        return resources(self.collector())

    def ask_dashboard(self) -> None:
        """Whether the dashboard answers now."""
        self.dashboard_asked += 1
        with suppress(httpx.HTTPError):  # counted by what is missing
            self.dashboard_answers += httpx.get(self._health, timeout=10, trust_env=False).status_code == 200

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise SystemExit("gpufleet run was not started")
        return self._process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes",
        type=float,
        default=60.0,
        help="below about 30, restarts lie a scrape or two apart, and engines that tell no start hide some",
    )
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--folder", type=Path, help="keep store, journal and logs there")
    parser.add_argument("--dry-run", action="store_true", help="print only, leave RESULTS.md as it is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        told, is_well = _run(folder.resolve(), arguments.minutes, arguments.nodes)
    print(told)
    if not arguments.dry_run:
        keep("endurance", f"{_HEADING}\n\n{told}\n\n{machine()}.")
    if not is_well:
        raise SystemExit("the two accounts differ")


def _run(folder: Path, minutes: float, nodes: int) -> tuple[str, bool]:
    simulated, port = simulated_cluster(nodes, SEED), _free_port()
    cluster = RunningCluster(nodes=nodes, port=port, journal=folder / "journal.jsonl")
    config = write_demo_config(folder, port, nodes=nodes)
    text = config.read_text(encoding="utf-8")
    text = text.replace('name = "traces"\n', 'name = "traces"\ninterval_s = 120\n')
    text = text.replace('name = "gateway"\n', 'name = "gateway"\nactivity_interval_s = 600\n')
    config.write_text(text + _REPORTS, encoding="utf-8")
    fleet = Fleet(config, _free_port(), folder / "gpufleet.log")
    site = Site(
        cluster=cluster,
        nodes=[node.name for node in simulated.nodes],
        pods=[f"{one.pod.namespace}/{one.pod.name}" for one in serving_pods(simulated) if has_endpoint(one)],
        folder=folder,
        kill_collector=fleet.kill_collector,
        start_collector=fleet.start,
    )
    cluster.start()
    begin = datetime.now(UTC)
    try:
        fleet.start()
        happened, early, late = _live_through(site, fleet, minutes * 60)
        fleet.stop()
    finally:
        cluster.kill()
    end = datetime.now(UTC)
    engine = open_engine(f"sqlite:///{folder / 'demo.db'}")
    try:
        journal = account(answers(folder / "journal.jsonl"), good_looks(engine))
        compared = list(agreements(engine, simulated, journal, f"127.0.0.1:{port}", (begin, end)))
        text = _text(
            engine,
            simulated,
            site,
            compared,
            conduct(engine),
            (early, late),
            happened=happened,
            begin=begin,
            end=end,
            fleet=fleet,
            folder=folder,
            untaken=journal.untaken,
        )
    finally:
        engine.dispose()
    return text, all(one.compared and one.compared == one.equal for one in compared)


def _live_through(site: Site, fleet: Fleet, seconds: float) -> tuple[list[str], Resources, Resources]:
    """Let everything happen at its time; what happened, and what the collecting process held early and at the end."""
    started, happened = time.monotonic(), []
    events = list(schedule(site))
    early: Resources | None = None
    next_look_s = 20.0
    while (passed_s := time.monotonic() - started) < seconds:
        while events and events[0].at_ratio * seconds <= passed_s:
            event = events.pop(0)
            event.do()
            happened.append(event.kind)
            print(f"{passed_s:7.0f} s  {event.kind}: {event.what}", file=sys.stderr, flush=True)
        if passed_s >= next_look_s:
            next_look_s += 20.0
            fleet.ask_dashboard()
        # after the collecting process was killed, its successor is the one to watch
        if early is None and passed_s > 0.74 * seconds:
            early = fleet.resources()
        time.sleep(0.5)
    late = fleet.resources()
    return happened, early or late, late


def _text(
    engine: Engine,
    simulated: SimulatedCluster,
    site: Site,
    compared: list[Agreement],
    sources: tuple[SourceConduct, ...],
    held: tuple[Resources, Resources],
    *,
    happened: list[str],
    begin: datetime,
    end: datetime,
    fleet: Fleet,
    folder: Path,
    untaken: int,
) -> str:
    minutes = (end - begin).total_seconds() / 60
    agreed = table(
        ("figure", "told by the simulator", "in the store", "compared", "equal"),
        [
            (one.what, _rounded(one.told), _rounded(one.stored), f"{one.compared:,}", f"{one.equal:,}")
            for one in compared
        ],
    )
    tried = table(
        ("source", "attempts", "good", "failed, by kind", "recovered", "still failing"),
        [
            (
                one.source,
                f"{one.attempts:,}",
                f"{one.succeeded:,}",
                ", ".join(f"{count} {kind}" for kind, count in one.failures.items()) or "-",
                str(one.recovered),
                str(one.still_failing),
            )
            for one in sources
        ],
    )
    differing = "".join(f"\n- {one.what}: {example}" for one in compared for example in one.examples)
    share = timedelta(minutes=minutes)
    hanging = _punctuality(engine, simulated, begin + 0.10 * share, begin + 0.20 * share)
    resets = {(one.subject.endpoint, one.observed_at) for one in count_resets(engine, begin, end)}
    early, late = held
    reports = sum(1 for _ in (folder / "reports").glob("*"))
    gpus = sum(len(node.gpus) for node in simulated.nodes)
    store_bytes = sum(file.stat().st_size for file in folder.glob("demo.db*"))
    run = (
        f"{minutes:.0f} minutes, {len(simulated.nodes)} nodes with {gpus} GPUs, {len(site.pods)} servers of models; "
        f"{len(happened)} events: {', '.join(sorted(set(happened)))}."
    )
    others = (
        f"While 5 of {len(simulated.nodes)} exporters and a third of the servers hung: {hanging}. Restarts of engines "
        f"seen: {len(resets)}. Reports written: {reports} files. The dashboard answered {fleet.dashboard_answers} of "
        f"{fleet.dashboard_asked} times (it is down while `gpufleet run` is started again)."
    )
    process = (
        f"The collecting process, started anew after kill -9: {_held(early)} early, {_held(late)} at the end. "
        f"Store: {store_bytes / 2**20:.0f} MiB."
    )
    differences = f"Not equal:{differing}" if differing else "Every figure is equal."
    differences += f" {untaken} good answers came when nobody waited for them any more and are in neither account."
    return f"{run}\n\n{agreed}\n\n{differences}\n\n{tried}\n\n{others}\n\n{process}"


def _held(one: Resources) -> str:
    return f"{one.memory_bytes / 2**20:.0f} MiB, {one.open_files} files, {one.threads} threads"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.4g}"


def _punctuality(engine: Engine, simulated: SimulatedCluster, start: datetime, end: datetime) -> str:
    healthy = [f"/nodes/{node.name}" for node in simulated.nodes[5:]]
    found: Punctuality | None = punctuality(engine, "simulated", healthy, start, end)
    if found is None:
        return "no other exporter was read twice"
    return (
        f"the other {found.targets} exporters were read every {found.median_s:.1f} s in the median, "
        f"{found.worst_s:.1f} s at worst, of an interval of 30 s"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_HEADING = """## An hour with faults (`python -m benchmarks.endurance`)

`gpufleet run` reads exporters, engines, Ollama, Kubernetes, LiteLLM and Langfuse of the simulated cluster, which runs
beside it on the same cores, while one thing after the other breaks (`benchmarks/endurance/faults.py`). The simulator
writes down when it answered what; what it did between its first and last good answers, without what a restart took
along, is its own account. Every figure of the store is compared with it, one by one, not only the sums."""


if __name__ == "__main__":
    main()

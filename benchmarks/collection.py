"""How fast a fleet is collected, beside the bare cost of fetching and parsing the same bytes.

The simulated cluster runs as a process of its own on the same machine and its work is part of every figure. The bare
side fetches the same addresses with httpx, as many at once, and gives every answer to prometheus_client's parser; it
understands nothing, remembers nothing and writes nothing. Rounds of both sides are interleaved.
"""

import argparse
import asyncio
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

import httpx
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from benchmarks.results import keep, machine, table
from collectors.dcgm.collector import DcgmCollector
from collectors.dcgm.config import DcgmConfig
from collectors.runner import run_once
from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig
from collectors.source import Collector
from sample_data.cluster import simulated_cluster
from sample_data.service_discovery import metrics_path
from sample_data.serving_endpoints import has_endpoint, pod_path
from sample_data.serving_state import serving_pods
from store.database import open_engine
from store.schema import migrate

AT_ONCE = 32
INTERVAL_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Addresses of the simulated exporters and servers."""

    exporters: tuple[str, ...]
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one round took; `size` is bytes for the bare side, values for ours."""

    seconds: float
    cpu_s: float
    size: int


@contextmanager
def simulator(nodes: int, endpoints: int) -> Iterator[Fleet]:
    """The cluster as a process of its own."""
    command = f"from sample_data.server import serve; serve(nodes={nodes})"
    process = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None:
            raise SystemExit("the simulator has no output")
        found = re.search(r"http://\S+", process.stdout.readline())
        if found is None:
            raise SystemExit("the simulator did not start")
        cluster = simulated_cluster(nodes)
        served = [place for place in serving_pods(cluster) if has_endpoint(place)][:endpoints]
        yield Fleet(
            exporters=tuple(f"{found[0]}{metrics_path(node.name)}" for node in cluster.nodes),
            servers=tuple(f"{found[0]}{pod_path(place.pod)}/metrics" for place in served),
        )
    finally:
        process.terminate()
        process.wait()


def ours(collector: Collector) -> int:
    """One run without a store: the number of values that came of it."""
    values = 0
    for attempt in collector.collect(datetime.now(UTC), {}):
        if attempt.batch is None:
            raise SystemExit(f"{attempt.target} failed: {attempt.error}")
        batch = attempt.batch
        values += len(batch.readings) + len(batch.gauges) + len(batch.counters) + len(batch.histograms)
    return values


def stored(engine: Engine, collectors: Sequence[Collector]) -> int:
    """One run of all sources side by side into a store, as the service does it: the number of attempts."""
    now = datetime.now(UTC)
    with ThreadPoolExecutor(max_workers=len(collectors)) as threads:
        runs = [threads.submit(run_once, engine, collector, now) for collector in collectors]
        outcomes = [outcome for run in runs for outcome in run.result()]
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if failed:
        raise SystemExit(f"{failed[0].target} failed: {failed[0].error}")
    return len(outcomes)


def bare(urls: Sequence[str]) -> int:
    """Fetch and parse with the libraries alone: the number of bytes."""
    size = 0
    for text in asyncio.run(_fetched(urls)):
        size += len(text)
        for _ in text_string_to_metric_families(text):
            pass
    return size


async def _fetched(urls: Sequence[str]) -> list[str]:
    places = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

        async def fetch(url: str) -> str:
            async with places:
                return (await client.get(url)).raise_for_status().text

        return list(await asyncio.gather(*(fetch(url) for url in urls)))


def spent(work: Callable[[], int]) -> Spent:
    """What a piece of work takes of the clock and of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    size = work()
    return Spent(seconds=time.perf_counter() - wall, cpu_s=time.process_time() - cpu, size=size)


def collectors(fleet: Fleet) -> tuple[DcgmCollector, ServingScraper]:
    """One source of each kind over the whole fleet."""
    dcgm = DcgmConfig(name="exporters", targets=fleet.exporters, max_concurrent=AT_ONCE, timeout_s=25)
    serving = ServingConfig(name="servers", targets=fleet.servers, max_concurrent=AT_ONCE, timeout_s=25)
    return DcgmCollector(dcgm), ServingScraper(serving)


def measure(fleet: Fleet, rounds: int) -> list[tuple[str, ...]]:
    """Rows of the table: what was collected, first and later rounds, and the bare side."""
    dcgm, serving = collectors(fleet)
    rows: list[tuple[str, ...]] = []
    for label, collector, urls in (
        (f"{len(fleet.exporters):,} nodes of 8 GPUs", dcgm, fleet.exporters),
        (f"{len(fleet.servers):,} serving endpoints", serving, fleet.servers),
    ):
        bare(urls[:AT_ONCE])  # the simulator's own caches
        first = spent(partial(ours, collector))
        later, other = [], []
        for _ in range(rounds):
            other.append(spent(partial(bare, urls)))
            later.append(spent(partial(ours, collector)))
        rows.append(
            (
                label,
                f"{other[0].size / 1e6:,.0f}",
                f"{later[-1].size:,}",
                f"{first.seconds:.1f}",
                f"{median(one.seconds for one in later):.1f}",
                f"{median(one.cpu_s for one in later):.1f}",
                f"{median(one.seconds for one in other):.1f}",
                f"{median(one.cpu_s for one in other):.1f}",
            )
        )
    return rows


def measure_stored(fleet: Fleet, rounds: int) -> tuple[float, float, float]:
    """Seconds of the first and of later rounds of both sources into one store, and MiB of memory at most."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{Path(folder) / 'bench.db'}")
        migrate(engine)
        both = collectors(fleet)
        expected = len(fleet.exporters) + len(fleet.servers)
        times = []
        for _ in range(rounds + 1):
            taken = spent(lambda: stored(engine, both))
            if taken.size != expected:
                raise SystemExit(f"{taken.size} attempts instead of {expected}: the figure would not be the fleet's")
            times.append(taken.seconds)
        engine.dispose()
    return times[0], median(times[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side after the first")
    parser.add_argument("--dry-run", action="store_true", help="print only, leave RESULTS.md as it is")
    arguments = parser.parse_args()
    with simulator(arguments.nodes, arguments.endpoints) as fleet:
        rows = measure(fleet, arguments.rounds)
        first_s, later_s, memory_mib = measure_stored(fleet, arguments.rounds)
    header = ("what", "MB", "values", "first round s", "later s", "later CPU s", "bare s", "bare CPU s")
    told = (
        f"{table(header, rows)}\n\nBoth side by side into an SQLite store: {first_s:.1f} s the first round, "
        f"{later_s:.1f} s later ones, of an interval of {INTERVAL_S:.0f} s; at most {memory_mib:,.0f} MiB of memory."
    )
    print(told)
    if not arguments.dry_run:
        libraries = f"httpx {version('httpx')}, prometheus_client {version('prometheus_client')}"
        keep("collection", f"{_HEADING}\n\n{told}\n\n{machine(libraries)}; median of {arguments.rounds} rounds.")


_HEADING = """## Collection (`python -m benchmarks.collection`)

One process collects from the simulated cluster, which runs beside it on the same cores and whose work is in the wall
time. The bare side fetches the same addresses with httpx, as many at once, and parses every answer with
prometheus_client, and does nothing else. CPU is that of the collecting process alone. In the first round facts are
asked for (`/version`, `/v1/models`) and no label set is known yet."""


if __name__ == "__main__":
    main()

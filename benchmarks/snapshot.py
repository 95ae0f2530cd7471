"""How long the fleet's snapshot takes from a large store: 1,000 nodes of 8 GPUs, an hour of samples every 30 s."""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.fleet_batches import GPUS_PER_NODE, INTERVAL, REPORTED, START, batches
from benchmarks.results import keep, machine, table
from planner.catalog import load_catalog
from store.database import open_engine
from store.fleet_snapshot import take_snapshot
from store.queries import node_activity, source_health
from store.samples import to_ms
from store.schema import migrate
from store.writes import register_source, write_batch

_STEPS = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--dry-run", action="store_true", help="print only, leave RESULTS.md as it is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        _fill(path, arguments.nodes)
        told = _measure(path, arguments.nodes)
    print(told)
    if not arguments.dry_run:
        keep("snapshot", f"## Reading (`python -m benchmarks.snapshot`)\n\n{told}\n\n{machine()}; one run.")


def _fill(path: Path, nodes: int) -> None:
    """The newest batch of every node through the front door, the hour before it by copying: filling is not measured."""
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    source_id = register_source(engine, cluster="default", name="bench", kind="dcgm", interval_s=30, now=START)
    for number, batch in enumerate(batches(nodes=nodes, steps=1, steps_per_batch=1)):
        target = f"target-{number}"
        write_batch(engine, source_id=source_id, target=target, started_at=START, seconds=0.1, batch=batch)
    engine.dispose()
    columns = ", ".join(REPORTED)
    plain = sqlite3.connect(path, isolation_level=None)
    plain.execute("BEGIN")
    plain.execute(
        f"WITH RECURSIVE step(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < {_STEPS - 1}) "
        f"INSERT INTO sample (device_id, observed_at_ms, {columns}) "
        f"SELECT device_id, observed_at_ms - n * {INTERVAL.total_seconds() * 1000:.0f}, {columns} "
        f"FROM sample CROSS JOIN step WHERE observed_at_ms = {to_ms(START)} ORDER BY 1, 2"
    )
    plain.execute("COMMIT")
    plain.close()


def _measure(path: Path, nodes: int) -> str:
    engine = open_engine(f"sqlite:///{path}", read_only=True)
    load_catalog()
    start = START - _STEPS * INTERVAL
    questions: dict[str, Callable[[], object]] = {
        "take_snapshot": lambda: take_snapshot(engine, START),
        "node_activity, all nodes": lambda: node_activity(engine, start, START),
        "node_activity, one node": lambda: node_activity(engine, start, START, nodes=["node-0000"]),
        "source_health": lambda: source_health(engine, START),
    }
    lines: list[tuple[str, str]] = []
    for name, question in questions.items():
        started = time.perf_counter()
        question()
        lines.append((name, f"{time.perf_counter() - started:.2f}"))
    engine.dispose()
    gpus = nodes * GPUS_PER_NODE
    return table((f"{gpus:,} GPUs, {gpus * _STEPS:,} rows of {len(REPORTED)} metrics", "seconds"), lines)


if __name__ == "__main__":
    main()

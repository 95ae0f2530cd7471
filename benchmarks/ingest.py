"""How fast batches are stored, beside plain `sqlite3.executemany` of the same rows.

Both sides write the same rows into the same tables, with the same pragmas, in transactions of the same size. The
plain side gets its rows ready-made; ours also makes rows of readings, keeps the inventory and records the attempt.
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sqlalchemy import Engine

from benchmarks.fleet_batches import REPORTED, START, batches
from benchmarks.results import keep, machine, table
from planner.readings import Batch
from store.database import open_engine
from store.samples import to_ms
from store.schema import migrate
from store.writes import register_source, write_batch

_PRAGMAS = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "journal_size_limit")

PlainRow = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A way in which readings come in."""

    label: str
    nodes: int
    steps: int
    steps_per_batch: int


CASES = (
    Case(label="one scrape of one node (8 rows)", nodes=25, steps=20, steps_per_batch=1),
    Case(label="an hour of one node (960 rows)", nodes=25, steps=120, steps_per_batch=120),
)


def measure(case: Case, rounds: int) -> tuple[float, float, int]:
    """Median seconds of ours and of the plain side, and the number of rows each wrote."""
    told = list(batches(nodes=case.nodes, steps=case.steps, steps_per_batch=case.steps_per_batch))
    plain, count = _plain_rows(told)
    ours_s: list[float] = []
    plain_s: list[float] = []
    for _ in range(rounds):
        ours_s.append(_in_fresh_store(lambda engine, _: _write_ours(engine, told), count))
        plain_s.append(_in_fresh_store(lambda engine, path: _write_plain(engine, path, plain), count))
    return median(ours_s), median(plain_s), count


def _plain_rows(told: Sequence[Batch]) -> tuple[list[list[PlainRow]], int]:
    device_ids: dict[str, int] = {}
    groups: list[list[PlainRow]] = []
    for batch in told:
        rows: dict[tuple[int, int], dict[str, float]] = {}
        for reading in batch.readings:
            device_id = device_ids.setdefault(reading.subject.gpu_uuid, len(device_ids) + 1)
            rows.setdefault((device_id, to_ms(reading.observed_at)), {})[reading.metric] = reading.value
        groups.append([(*key, *(values[name] for name in REPORTED)) for key, values in rows.items()])
    return groups, sum(map(len, groups))


def _in_fresh_store(write: Callable[[Engine, Path], float], expected_rows: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        engine = open_engine(f"sqlite:///{path}")
        migrate(engine)
        seconds = write(engine, path)
        with engine.connect() as connection:
            stored = connection.exec_driver_sql("SELECT count(*) FROM sample").scalar_one()
        engine.dispose()
    if stored != expected_rows:
        raise SystemExit(f"{stored} rows were stored, {expected_rows} were told: the comparison would not be fair")
    return seconds


def _write_ours(engine: Engine, told: Sequence[Batch]) -> float:
    source_id = register_source(engine, cluster="default", name="bench", kind="dcgm", interval_s=30, now=START)
    started = time.perf_counter()
    for number, batch in enumerate(told):
        target = f"target-{number}"
        write_batch(engine, source_id=source_id, target=target, started_at=START, seconds=0.1, batch=batch)
    return time.perf_counter() - started


def _write_plain(engine: Engine, path: Path, groups: Sequence[Sequence[PlainRow]]) -> float:
    with engine.connect() as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in _PRAGMAS}
    devices = sorted({row[0] for group in groups for row in group})
    columns = ("device_id", "observed_at_ms", *REPORTED)
    insert = f"INSERT INTO sample ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    plain = sqlite3.connect(path, isolation_level=None)
    try:
        for name, value in pragmas.items():
            plain.execute(f"PRAGMA {name}={value}")
        plain.execute("INSERT INTO cluster (id, name) VALUES (1, 'default')")
        plain.executemany(
            "INSERT INTO device_key (id, cluster_id, gpu_uuid, gi_id) VALUES (?, 1, ?, -1)",
            [(device, f"GPU-{device}") for device in devices],
        )
        started = time.perf_counter()
        for group in groups:
            plain.execute("BEGIN IMMEDIATE")
            plain.executemany(insert, group)
            plain.execute("COMMIT")
        return time.perf_counter() - started
    finally:
        plain.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side, of which the median is told")
    parser.add_argument("--dry-run", action="store_true", help="print only, leave RESULTS.md as it is")
    arguments = parser.parse_args()
    lines: list[tuple[str, ...]] = []
    for case in CASES:
        ours_s, plain_s, count = measure(case, arguments.rounds)
        lines.append(
            (
                case.label,
                f"{count:,}",
                f"{count / ours_s:,.0f}",
                f"{count * len(REPORTED) / ours_s:,.0f}",
                f"{count / plain_s:,.0f}",
                f"{ours_s / plain_s:.1f}",
            )
        )
    header = ("transaction", "rows", "write_batch rows/s", "readings/s", "executemany rows/s", "times slower")
    told = table(header, lines)
    print(told)
    if not arguments.dry_run:
        keep("ingest", f"{_HEADING}\n\n{told}\n\n{machine()}; median of {arguments.rounds} rounds.")


_HEADING = f"""## Ingest (`python -m benchmarks.ingest`)

Rows of {len(REPORTED)} metrics each. `write_batch` makes rows of readings, keeps the inventory and records the attempt;
`sqlite3.executemany` gets the same rows ready-made and writes nothing else. Same tables, pragmas and transactions."""


if __name__ == "__main__":
    main()

"""How the run was conducted: which attempts failed and why, whether the healthy kept their intervals, what it took."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

from sqlalchemy import Engine, select

from benchmarks.endurance.journal import GATEWAY_METRICS, Span
from store.database import reading
from store.tables import CollectionAttempt, Source, table_of

_ATTEMPTS = table_of(CollectionAttempt)
_SOURCES = table_of(Source)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConduct:
    """The attempts of one source; `failures` counts them by the kind of error."""

    source: str
    attempts: int
    succeeded: int
    failures: Mapping[str, int]
    recovered: int  # targets that failed and were read again afterwards
    still_failing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Punctuality:
    """Seconds between the good reads that follow each other, of targets that nothing was done to, in one stretch."""

    targets: int
    reads: int
    median_s: float
    worst_s: float


def conduct(engine: Engine) -> tuple[SourceConduct, ...]:
    """Each source by name."""
    tried: defaultdict[str, defaultdict[str, list[tuple[bool, str]]]] = defaultdict(lambda: defaultdict(list))
    with reading(engine) as connection:
        rows = connection.execute(
            select(_SOURCES.c.name, _ATTEMPTS.c.target, _ATTEMPTS.c.ok, _ATTEMPTS.c.error_kind)
            .join(_SOURCES, _SOURCES.c.id == _ATTEMPTS.c.source_id)
            .order_by(_ATTEMPTS.c.started_at)
        )
        for source, target, ok, kind in rows:
            tried[source][target].append((bool(ok), kind or ""))
    found = []
    for source, targets in sorted(tried.items()):
        failures = Counter(kind for attempts in targets.values() for ok, kind in attempts if not ok)
        failed = [attempts for attempts in targets.values() if not all(ok for ok, _ in attempts)]
        still = sum(not attempts[-1][0] for attempts in failed)
        found.append(
            SourceConduct(
                source=source,
                attempts=sum(map(len, targets.values())),
                succeeded=sum(ok for attempts in targets.values() for ok, _ in attempts),
                failures=dict(failures.most_common()),
                recovered=len(failed) - still,
                still_failing=still,
            )
        )
    return tuple(found)


def punctuality(
    engine: Engine, source: str, untouched: Collection[str], start: datetime, end: datetime
) -> Punctuality | None:
    """How regularly targets whose names end so were read from `start` to `end`; None where none was read twice."""
    reads: defaultdict[str, list[datetime]] = defaultdict(list)
    with reading(engine) as connection:
        rows = connection.execute(
            select(_ATTEMPTS.c.target, _ATTEMPTS.c.started_at)
            .join(_SOURCES, _SOURCES.c.id == _ATTEMPTS.c.source_id)
            .where(_SOURCES.c.name == source, _ATTEMPTS.c.ok, _ATTEMPTS.c.started_at.between(start, end))
            .order_by(_ATTEMPTS.c.started_at)
        )
        for target, started_at in rows:
            if target.endswith(tuple(untouched)):
                reads[target].append(started_at)
    gaps = [(after - before).total_seconds() for times in reads.values() for before, after in pairwise(times)]
    if not gaps:
        return None
    return Punctuality(
        targets=len(reads), reads=sum(map(len, reads.values())), median_s=median(gaps), worst_s=max(gaps)
    )


def good_looks(engine: Engine) -> dict[str, list[Span]]:
    """When each good look at a page of metrics began and ended, by its path and in order."""
    with reading(engine) as connection:
        rows = connection.execute(
            select(_ATTEMPTS.c.target, _ATTEMPTS.c.started_at, _ATTEMPTS.c.seconds)
            .where(_ATTEMPTS.c.ok)
            .order_by(_ATTEMPTS.c.started_at)
        ).all()
    found: defaultdict[str, list[Span]] = defaultdict(list)
    for target, started_at, seconds in rows:
        path = "/" + target.partition("/")[2]
        page = GATEWAY_METRICS if f"{path}/metrics/" == GATEWAY_METRICS else f"{path}/metrics"
        found[page].append((started_at, started_at + timedelta(seconds=seconds)))
    return dict(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a process holds: memory, files, threads, and the processor time it has used."""

    memory_bytes: int
    open_files: int
    threads: int
    cpu_s: float


def resources(pid: int) -> Resources:
    """As Linux tells it of a process in /proc."""
    folder = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return Resources(
        memory_bytes=int(status["VmRSS"].split()[0]) * 1024,
        open_files=len(list((folder / "fd").iterdir())),
        threads=int(status["Threads"]),
        cpu_s=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
    )


def children(pid: int) -> dict[int, str]:
    """Processes that a process has started, and their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except (OSError, ValueError):
            continue  # ended meanwhile
        if parent == pid:
            found[int(folder.name)] = command
    return found

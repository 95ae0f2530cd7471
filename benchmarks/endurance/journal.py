"""What the simulated cluster's journal says: when each server answered well, and when it began to count anew."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from benchmarks.endurance.cluster import Answer
from sample_data.faults import CHANGES_OF_PROCESS, FaultKind
from sample_data.langfuse_routes import PATH as LANGFUSE
from sample_data.litellm_routes import PATH as LITELLM

GATEWAY_METRICS = f"{LITELLM}/metrics/"
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """`read` has the moments of all good answers by path, `restarts` those at which the counters there began anew."""

    read: Mapping[str, tuple[datetime, ...]]
    restarts: Mapping[str, tuple[datetime, ...]]

    def counted(self, path: str) -> list[Span]:
        """Spans whose work a reader of every good answer has seen: what a restart took along is in none of them."""
        times, restarts = self.read.get(path, ()), self.restarts.get(path, ())
        spans: list[Span] = []
        for before, now in pairwise(times):
            since = before
            last = bisect_right(restarts, now)
            if last and restarts[last - 1] > before:
                since = restarts[last - 1]
            if spans and spans[-1][1] == since:
                spans[-1] = (spans[-1][0], now)
            else:
                spans.append((since, now))
        return spans

    def last_restart(self, path: str, at: datetime) -> datetime | None:
        """When the server that answered at that moment had begun to count, if not at first."""
        restarts = self.restarts.get(path, ())
        last = bisect_right(restarts, at)
        return restarts[last - 1] if last else None


def account(answers: Iterable[Answer], taken_until: Mapping[str, datetime] | None = None) -> Account:
    """Sort the lines of a journal by what they are of.

    `taken_until` is when the reader ended its last look by path: an answer that was under way when the reader was told
    to stop is left to its next start, and is in neither account.
    """
    ends = taken_until or {}
    told = sorted(answers, key=lambda one: one.at)
    states: defaultdict[str, list[tuple[datetime, bool]]] = defaultdict(list)
    restarts: defaultdict[str, list[datetime]] = defaultdict(list)
    for one in told:
        if not one.path.startswith("/faults/") or one.status != 200:
            continue
        if one.method == "DELETE":
            states[_served(one.path)].append((one.at, False))
            continue
        path, _, kind = one.path.rpartition("/")
        if kind not in frozenset(FaultKind):
            continue
        served = _served(path)
        states[served].append((one.at, FaultKind(kind) not in CHANGES_OF_PROCESS))
        is_node = served.startswith("/nodes/")
        if kind == FaultKind.COUNTER_RESET or (kind == FaultKind.GENERATION_CHANGE and not is_node):
            restarts[served].append(one.at)
    read: defaultdict[str, list[datetime]] = defaultdict(list)
    for one in told:
        if one.path in ends and one.at > ends[one.path]:
            continue
        if one.method == "GET" and one.status == 200 and one.whole and not _fails(states.get(one.path, ()), one):
            read[one.path].append(one.at)
    return Account(
        read={path: tuple(times) for path, times in read.items()},
        restarts={path: tuple(times) for path, times in restarts.items()},
    )


def _served(fault_path: str) -> str:
    """The path whose answers a fault changes."""
    name = fault_path.removeprefix("/faults/")
    if name.startswith("pods/"):
        return f"/{name}/metrics"
    if name == "gateways/litellm":
        return GATEWAY_METRICS
    if name.startswith("langfuse/"):
        return f"{LANGFUSE}/{name.removeprefix('langfuse/')}"
    return f"/nodes/{name}/metrics"


def _fails(states: Iterable[tuple[datetime, bool]], answer: Answer) -> bool:
    fails = False
    for at, is_failing in states:
        if at > answer.began_at:
            break
        fails = is_failing
    return fails

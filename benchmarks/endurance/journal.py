"""What the simulated cluster's journal says: when each server answered well, and when it began to count anew."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from benchmarks.endurance.cluster import Answer
from sample_data.faults import CHANGES_OF_PROCESS, FaultKind
from sample_data.langfuse_routes import PATH as LANGFUSE
from sample_data.litellm_routes import PATH as LITELLM

GATEWAY_METRICS = f"{LITELLM}/metrics/"
Span = tuple[datetime, datetime]
_SLACK = timedelta(seconds=1)  # looks are dated before they are waited for, and lie many seconds apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """`read` has the moments of all good answers by path, `restarts` those at which the counters there began anew.

    `untaken` is how many good answers nobody took any more.
    """

    read: Mapping[str, tuple[datetime, ...]]
    restarts: Mapping[str, tuple[datetime, ...]]
    untaken: int = 0

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


def account(answers: Iterable[Answer], looks: Mapping[str, Sequence[Span]] | None = None) -> Account:
    """Sort the lines of a journal by what they are of.

    `looks` are the reader's good looks by path, in order: an answer to one that had stopped waiting or was ended is in
    neither account, since counters tell it again with the next one.
    """
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
    untaken = 0
    for one in told:
        if one.method != "GET" or one.status != 200 or not one.whole or _fails(states.get(one.path, ()), one):
            continue
        if looks is None or one.path not in looks or _is_taken(looks[one.path], one.at):
            read[one.path].append(one.at)
        else:
            untaken += 1
    return Account(
        read={path: tuple(times) for path, times in read.items()},
        restarts={path: tuple(times) for path, times in restarts.items()},
        untaken=untaken,
    )


def _is_taken(looks: Sequence[Span], at: datetime) -> bool:
    place = bisect_right(looks, at + _SLACK, key=lambda look: look[0])
    return place > 0 and at <= looks[place - 1][1] + _SLACK


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

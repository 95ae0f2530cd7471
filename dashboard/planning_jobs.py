"""Plans that are computed beside the pages: one thread per plan, a few at a time, cancelled when nobody waits.

Answers are kept by scenario, so that everybody who opens the same link gets the same plan at once, within a bound.
"""

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from dashboard.scenario import ScenarioInvalid
from planner.errors import PlannerError, PlanningCancelled

LOG = logging.getLogger(__name__)

A = TypeVar("A")
Stopping = Callable[[], bool]

AT_ONCE = 2
"""Plans computed at the same time; the others queue."""

ABANDONED_AFTER_S = 30.0
"""A plan that no page has asked about for so long is stopped: whoever wanted it has left."""


class JobState(StrEnum):
    """How far a plan is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class Job(Generic[A]):
    """One plan under way or done. `problem` says in words why there is none."""

    key: str
    started_at: float = field(default_factory=time.monotonic)
    state: JobState = JobState.QUEUED
    answer: A | None = None
    problem: str = ""
    seconds: float = 0.0
    _asked_at: dict[str, float] = field(default_factory=dict)  # by session
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._ended.is_set()

    def elapsed_s(self) -> float:
        """How long it has taken so far, or took."""
        return self.seconds if self.is_over else time.monotonic() - self.started_at

    def wait(self, session: str, seconds: float) -> bool:
        """Say that the session still wants the plan, and wait so long for it; whether it is over."""
        self._asked_at[session] = time.monotonic()
        return self._ended.wait(seconds)

    def leave(self, session: str) -> None:
        """The session no longer wants it; with the last one it is stopped."""
        self._asked_at.pop(session, None)

    def is_unwanted(self) -> bool:
        """Whether nobody waits for it; the planner asks this while it works."""
        oldest = time.monotonic() - ABANDONED_AFTER_S
        return not any(at >= oldest for at in list(self._asked_at.values()))


class PlanningJobs(Generic[A]):
    """All plans of one process."""

    def __init__(self, *, limit: int = 48, weight_limit: int = 60_000) -> None:
        self._limit = limit
        self._weight_limit = weight_limit  # GPUs, of all answers that are kept
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._jobs: OrderedDict[str, tuple[Job[A], int]] = OrderedDict()
        self._numbers = itertools.count(1)

    def ask(self, key: str, session: str, make: Callable[[Stopping], A], *, weight: int = 1) -> Job[A]:
        """The job of that key, begun now if it is not known; `make` computes the answer in a thread of its own."""
        with self._lock:
            known = self._jobs.get(key)
            if known is not None and known[0].state is not JobState.CANCELLED:
                self._jobs.move_to_end(key)
                known[0].wait(session, 0)
                return known[0]
            job: Job[A] = Job(key=key)
            job.wait(session, 0)
            self._jobs[key] = (job, weight)
            self._jobs.move_to_end(key)
            self._forget()
        name = f"plan-{next(self._numbers)}"
        threading.Thread(target=self._run, args=(job, make), name=name, daemon=True).start()
        return job

    def leave(self, key: str, session: str) -> None:
        """The session no longer wants that plan."""
        with self._lock:
            known = self._jobs.get(key)
        if known is not None:
            known[0].leave(session)

    def _forget(self) -> None:
        """Drop the answers that were not asked for longest; one that is being computed stays."""
        total = sum(weight for _, weight in self._jobs.values())
        for key, (job, weight) in list(self._jobs.items())[:-1]:
            if len(self._jobs) <= self._limit and total <= self._weight_limit:
                return
            if job.is_over:
                del self._jobs[key]
                total -= weight

    def _run(self, job: Job[A], make: Callable[[Stopping], A]) -> None:
        while not self._slots.acquire(timeout=0.2):
            if job.is_unwanted():
                self._end(job, JobState.CANCELLED)
                return
        try:
            job.state = JobState.RUNNING
            job.started_at = time.monotonic()
            job.answer = make(job.is_unwanted)
            self._end(job, JobState.DONE)
        except PlanningCancelled:
            self._end(job, JobState.CANCELLED)
        except (PlannerError, ScenarioInvalid) as error:
            job.problem = str(error)
            self._end(job, JobState.FAILED)
        except Exception:  # a mistake of ours must end the waiting; the log has what the page does not show
            LOG.exception("a what-if plan failed")
            job.problem = "The planner met a mistake of its own; the log of gpufleet has it."
            self._end(job, JobState.FAILED)
        finally:
            self._slots.release()

    @staticmethod
    def _end(job: Job[A], state: JobState) -> None:
        job.seconds = time.monotonic() - job.started_at
        job.state = state
        job._ended.set()

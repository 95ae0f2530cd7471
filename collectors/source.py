"""What a source is to the runner: something that can be read now and yields attempts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from collectors.errors import CollectorError
from planner.readings import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at one target of a source: exactly one of `batch` and `error` is set."""

    target: str
    started_at: datetime
    seconds: float
    batch: Batch | None = None
    error: CollectorError | None = None
    clock_skew_s: float | None = None  # how far the source's clock is ahead of ours, where it tells its time
    interval_s: float | None = None  # how often this target is read, where it is not as often as its source


class Collector(Protocol):
    """What the runner drives: one per configured source."""

    source: str  # the name in the configuration
    kind: str  # the table in the configuration: "dcgm", "prometheus"
    cluster: str
    interval_s: float

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Read every target once and yield an attempt each, as soon as it ends.

        `watermarks` maps target to how far it was read before. Sources with a memory yield one attempt per window,
        oldest first. A failure of one target is an attempt with its error, never an exception.
        """
        ...

    def close(self) -> None:
        """Let go of connections; the collector is not used again."""
        ...

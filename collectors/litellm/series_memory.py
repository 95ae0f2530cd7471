"""Counters summed up over labels that are not kept, so that the sum falls only when the gateway starts anew.

LiteLLM can be told to remove series that nobody used for a while (`prometheus_metrics_ttl_seconds`,
`prometheus_metrics_max_series_per_metric`). A sum over the rest would then fall, and a counter that falls looks like a
restart, after which all of it is counted again. So what a removed series had counted stays in the sum, for as long as
the same process of the gateway answers and this collector runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SeriesKey = tuple[str, tuple[tuple[str, str], ...]]
"""Name of the counter and its labels, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One series: what it has counted in all, and when it began (None where the gateway does not say)."""

    source_name: str
    labels: Mapping[str, str]
    value: float
    began_s: float | None


@dataclass(slots=True)
class _Series:
    before: float = 0.0  # what it had counted when it was last removed
    last: float = 0.0
    began_s: float | None = None  # the first time
    is_present: bool = True


class SeriesMemory:
    """Remembers the last value of every series of one gateway."""

    def __init__(self) -> None:
        self._process: float | None = None
        self._series: dict[SeriesKey, _Series] = {}

    @property
    def removed(self) -> int:
        """How many series were there once and are not now."""
        return sum(not series.is_present for series in self._series.values())

    def begin(self, process_started_s: float | None) -> None:
        """A new scrape begins; series of another process are forgotten, and so are all where the start is not told."""
        if process_started_s is None or process_started_s != self._process:
            self._series.clear()
        self._process = process_started_s
        for series in self._series.values():
            series.is_present = False

    def add(self, source_name: str, labels: Mapping[str, str], value: float, began_s: float | None) -> Counted:
        """What this series has counted since the process started, given its value now and its own beginning."""
        if self._process is None:
            return Counted(source_name=source_name, labels=labels, value=value, began_s=began_s)
        series = self._series.setdefault((source_name, tuple(sorted(labels.items()))), _Series(began_s=began_s))
        if value < series.last:
            series.before += series.last
        series.last = value
        series.is_present = True
        return Counted(source_name=source_name, labels=labels, value=series.before + value, began_s=series.began_s)

    def absent(self) -> list[Counted]:
        """Series that this scrape did not have, and what they had counted."""
        return [
            Counted(source_name=name, labels=dict(items), value=series.before + series.last, began_s=series.began_s)
            for (name, items), series in self._series.items()
            if not series.is_present
        ]

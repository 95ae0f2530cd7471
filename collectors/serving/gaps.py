"""What a server does not give, said once: why, and which version or flag would bring it."""

from collections.abc import Collection

from collectors.serving.table import EngineTable
from planner.readings import Gap
from planner.serving_metrics import SERVING_METRICS_BY_NAME, ServingKind

MAX_REASONS = 64
"""Different reasons kept for one metric of one server; hostile input must not grow without end."""


class GapBook:
    """Collects gaps of one server."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._noted: dict[str | None, dict[str, None]] = {}

    def note(self, metric: str | None, reason: str) -> None:
        """The server lacks this metric (None: something of no one metric), for this reason."""
        reasons = self._noted.setdefault(metric, {})
        if len(reasons) < MAX_REASONS:
            reasons[reason] = None

    def note_missing(self, table: EngineTable, given: Collection[str], *, only_what_counted: bool = False) -> None:
        """Say why what this engine could give is not there.

        `only_what_counted`: the road leaves out counters and histograms that have not counted yet (Ray), so that their
        absence says nothing.
        """
        for metric, reason in table.missing.items():
            if metric in given or metric in self._noted:
                continue
            if only_what_counted and SERVING_METRICS_BY_NAME[metric].kind is not ServingKind.GAUGE:
                continue
            self.note(metric, reason)

    def gaps(self) -> tuple[Gap, ...]:
        """Everything noted, in a stable order."""
        found = [
            Gap(subject=self._endpoint, metric=metric, reason=reason)
            for metric, reasons in self._noted.items()
            for reason in reasons
        ]
        return tuple(sorted(found, key=lambda gap: (gap.metric or "", gap.reason)))

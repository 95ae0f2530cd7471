"""Questions to the metrics endpoints, built from values: never by pasting text."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from collectors.langfuse.metrics import MEASURES, MODEL

ROW_LIMIT = 1_000
"""The most rows that Langfuse gives (metrics.yml); exactly so many may be cut."""
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about [start, end): models and `columns`, by hour or over the whole span.

    Langfuse takes both ends of a span for its own: what lies exactly on `end` comes back too. By hour it can be told
    apart by its hour; over the whole span the question ends a millisecond earlier, the precision of its filter.
    """

    start: datetime
    end: datetime
    by_hour: bool
    columns: tuple[str, ...] = ()
    measures: tuple[tuple[str, str], ...] = tuple((row.measure, row.aggregation) for row in MEASURES)
    asked_from: datetime | None = None  # earlier than `start`: the traces of what lies there may have begun before

    def text(self) -> str:
        """The query as JSON.

        An order is always given: without one Langfuse fills in every hour of the span with rows of zeros, and those
        count against the limit.
        """
        measure, aggregation = self.measures[0]
        order = {"field": "time_dimension", "direction": "asc"} if self.by_hour else None
        asked: dict[str, Any] = {
            "view": "observations",
            "dimensions": [{"field": field} for field in (MODEL, *self.columns)],
            "metrics": [{"measure": measure, "aggregation": how} for measure, how in self.measures],
            "filters": [],
            "timeDimension": {"granularity": "hour"} if self.by_hour else None,
            "fromTimestamp": timestamp(self.asked_from or self.start),
            "toTimestamp": timestamp(self.end if self.by_hour else self.end - MILLISECOND),
            "orderBy": [order or {"field": f"{aggregation}_{measure}", "direction": "desc"}],
            "config": {"row_limit": ROW_LIMIT},
        }
        return json.dumps(asked, separators=(",", ":"))


def timestamp(at: datetime) -> str:
    """As Langfuse reads times: UTC with milliseconds and a Z."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"

"""What Langfuse calls each of our quantities; adding a measure is adding a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from collectors.langfuse.wire import count, number

FERN = "Langfuse 4.16 fern/apis/server/definition/metrics.yml"
DATA_MODEL = "Langfuse packages/shared/src/features/query/dataModel.ts"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRow:
    """One measure of the view `observations`: our quantity, how to read it, and where name and unit were read."""

    measure: str
    aggregation: str
    quantity: str
    convert: Callable[[object], Decimal | int | None]
    source: str

    @property
    def column(self) -> str:
        """What the measure is called in an answer."""
        return f"{self.aggregation}_{self.measure}"


MEASURES: tuple[MeasureRow, ...] = (
    MeasureRow(measure="count", aggregation="count", quantity="requests", convert=count, source=FERN),
    MeasureRow(measure="inputTokens", aggregation="sum", quantity="input_tokens", convert=count, source=FERN),
    MeasureRow(measure="outputTokens", aggregation="sum", quantity="output_tokens", convert=count, source=FERN),
    MeasureRow(measure="totalTokens", aggregation="sum", quantity="total_tokens", convert=count, source=FERN),
    MeasureRow(measure="totalCost", aggregation="sum", quantity="cost_usd", convert=number, source=FERN),  # dollars
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailRow:
    """A measure per key of a map that applications fill as they like: the map it is kept in, and its dimension."""

    measure: str
    dimension: str
    details: str
    source: str

    @property
    def column(self) -> str:
        """What the measure is called in an answer."""
        return f"sum_{self.measure}"


DETAILS: tuple[DetailRow, ...] = (
    DetailRow(measure="usageByType", dimension="usageType", details="usage_details", source=DATA_MODEL),
    DetailRow(measure="costByType", dimension="costType", details="cost_details", source=DATA_MODEL),
)

MODEL = "providedModelName"
COLUMNS: Mapping[str, str] = {"environment": "environment", "user": "userId", "tag": "tags"}
"""Our dimension to Langfuse's."""
HIGH_CARDINALITY = frozenset({"user"})
"""Dimensions that the second API groups by only without time, with a row limit and the highest first.

Source: packages/shared/src/features/query/validateQuery.ts.
"""

"""What every way to Langfuse's figures answers with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from collectors.langfuse.windows import Window
from planner.token_usage import TokenUsage, UsageSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Use in one window: rows, the spans in which they are complete, and what is missing, in sentences."""

    usage: tuple[TokenUsage, ...] = ()
    spans: tuple[UsageSpan, ...] = ()
    gaps: tuple[str, ...] = ()


class Road(Protocol):
    """One way to the figures.

    `read` raises RoadClosed where the server does not have the endpoint, TooMuch or TooLarge where a shorter window
    would do, BudgetSpent where no call is left, and other CollectorErrors.
    """

    whole_days: bool  # whether it tells days and not hours

    def read(self, window: Window, dimensions: Sequence[str]) -> Found:
        """Everything about a window, by model and by each dimension that this way knows."""
        ...

    def calls(self, dimensions: Sequence[str], hours: int) -> int:
        """How many calls a window of so many hours takes at least."""
        ...

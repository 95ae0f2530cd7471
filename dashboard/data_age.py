"""How old the readings behind a figure are."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DataAge:
    """When the oldest and the newest of the readings behind a figure were observed."""

    newest: datetime
    oldest: datetime


def span_of(moments: Iterable[datetime | None]) -> DataAge | None:
    """From the oldest to the newest of the moments that are known; None when none is."""
    known = [moment for moment in moments if moment is not None]
    return DataAge(newest=max(known), oldest=min(known)) if known else None

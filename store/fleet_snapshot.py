"""From rows to the planner's fleet: the one bridge between the store and the domain."""

from datetime import datetime, timedelta

from sqlalchemy import Engine

from planner.fleet import Fleet

DEFAULT_WINDOW = timedelta(hours=1)


def take_snapshot(
    engine: Engine, now: datetime, *, cluster: str | None = None, window: timedelta = DEFAULT_WINDOW
) -> Fleet:
    """The fleet as the store knew it at `now`, with usage and verdicts from the `window` before."""
    raise NotImplementedError

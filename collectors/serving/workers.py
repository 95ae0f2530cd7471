"""When the workers behind one address can have begun: after the last look at it, if they were not there then.

Ray gives every worker process an id that is never used again and no time at which it started, so without this all that
a new worker did before its first scrape would be lost.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

MAX_REMEMBERED = 4_096
"""More ids than this are forgotten with everything else: the workers are then known from the next look on."""


class Workers:
    """The workers that were seen behind one address; looks come in the order of their time."""

    def __init__(self) -> None:
        self._born: dict[str, datetime | None] = {}
        self._looked_at: datetime | None = None

    def look(self, workers: Collection[str], observed_at: datetime) -> Mapping[str, datetime]:
        """The moment after which each of these began, as far as that is known: not of those of the first look."""
        if len(self._born) + len(workers) > MAX_REMEMBERED:
            self._born, self._looked_at = {}, None
        for worker in workers:
            self._born.setdefault(worker, self._looked_at)
        self._looked_at = observed_at
        return {worker: born for worker in workers if (born := self._born[worker]) is not None}

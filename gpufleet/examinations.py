"""The doctor beside the collection: a diagnosis of every target is kept, and nothing is asked for it.

It looks at the attempts that the collection makes anyway. A look of its own would use up the calls that Langfuse
grants, count as a failure where LiteLLM refuses it, ask targets that are given time to recover, list a whole cluster
again, and find what a first reading lacks and every later one has.
"""

import logging
import re
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from collectors.source import Attempt, Collector
from gpufleet.doctor import diagnosis_from
from store.diagnoses import keep_diagnosis
from store.errors import StoreError

log = logging.getLogger("gpufleet.examinations")

EVERY = timedelta(hours=1)
"""How often a target is diagnosed in which nothing changes."""

_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class _Look:
    """When a target was diagnosed last, and what its attempt looked like."""

    at: datetime
    signs: int


class Examinations:
    """Diagnoses each target at its first attempt, when its error or its gaps become others, and every hour."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str, str], _Look] = {}

    def look(self, collector: Collector, attempt: Attempt) -> None:
        """Diagnose the target of this attempt if that is due; whatever fails here is logged and ends here."""
        try:
            self._look(collector, attempt)
        except StoreError as error:
            self._last.pop((collector.cluster, collector.source, attempt.target), None)  # tried again next time
            log.error("%s %s: the diagnosis was not written: %s", collector.source, attempt.target, error)
        except Exception:
            log.exception("%s %s: no diagnosis was possible", collector.source, attempt.target)

    def _look(self, collector: Collector, attempt: Attempt) -> None:
        key = (collector.cluster, collector.source, attempt.target)
        signs = _signs(attempt)
        with self._lock:
            last = self._last.get(key)
            if last is not None and last.signs == signs and last.at <= attempt.started_at < last.at + EVERY:
                return
            self._last[key] = _Look(attempt.started_at, signs)
        keep_diagnosis(self._engine, diagnosis_from(collector, attempt))


def _signs(attempt: Attempt) -> int:
    """The same for attempts of which the same is to be said; numbers in the sentences do not count."""
    if attempt.batch is None:
        return hash((type(attempt.error), _NUMBERS.sub("", str(attempt.error))))
    return hash(frozenset((gap.metric, _NUMBERS.sub("", gap.reason)) for gap in attempt.batch.gaps))

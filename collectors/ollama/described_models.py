"""What the models of one Ollama server are like: asked once for each model file, and again where that failed."""

import time
from collections.abc import Iterable
from datetime import datetime

from collectors.backoff import Backoff
from collectors.bounded_http import BoundedHttp
from collectors.errors import CollectorError
from collectors.ollama.config import endpoint_of
from collectors.ollama.wire import NamedModel, trained_context_tokens
from collectors.plain_text import plain_text
from planner.readings import Gap

SHOWN_PER_ROUND = 4
"""New models described per round: an answer to /api/show is large, and a server may have hundreds."""
MAX_KNOWN = 2_000
"""Models of which the description is kept."""
MAX_NAMED = 3
"""Models named one by one in a gap."""
LATE_REASON = "the answers before it took all of timeout_s"


class DescribedModels:
    """The context that each model was trained for, by its digest, which never changes its meaning."""

    def __init__(self, url: str, http: BoundedHttp, interval_s: float) -> None:
        self._url = url
        self._http = http
        self._backoff = Backoff(interval_s=interval_s)
        self._failed: dict[str, str] = {}  # why, by digest
        self._names: dict[str, str] = {}
        self.context_of_digest: dict[str, int | None] = {}

    def ask(self, models: Iterable[NamedModel], at: datetime, until: float) -> None:
        """Ask about models that are not known yet, the first ones first, a few at a time and none after `until`.

        Where that fails, the others are asked all the same, and it is tried again, ever more seldom. `at` is now;
        `until` is of the monotonic clock.
        """
        known = self.context_of_digest
        self._names = {}
        for model in models:
            if model.digest is not None and model.digest not in known:
                self._names.setdefault(model.digest, model.name)
        for digest in self._backoff.due(list(self._names), at)[:SHOWN_PER_ROUND]:
            if time.monotonic() > until:
                self._failed[digest] = LATE_REASON
                continue  # tried again in the next round
            try:
                known[digest] = self._trained_context_tokens(self._names[digest])
            except CollectorError as failure:  # it was deleted since it was listed, among others
                self._failed[digest] = str(failure)
                self._backoff.failed(digest, at)
        self._failed = {
            digest: reason for digest, reason in self._failed.items() if digest in self._names and digest not in known
        }
        for digest in list(known)[: max(len(known) - MAX_KNOWN, 0)]:
            del known[digest]

    @property
    def gaps(self) -> list[Gap]:
        """One for each reason for which the trained context of models is not known."""
        of_reason: dict[str, list[str]] = {}
        for digest, reason in self._failed.items():
            of_reason.setdefault(reason, []).append(plain_text(self._names[digest], 60))
        gaps = []
        for reason, names in sorted(of_reason.items()):
            shown = ", ".join(sorted(names)[:MAX_NAMED])
            more = f" and {len(names) - MAX_NAMED} more" if names[MAX_NAMED:] else ""
            told = f"the context that models were trained for ({shown}{more}) is not known: {reason}"
            gaps.append(Gap(subject=endpoint_of(self._url), metric=None, reason=told))
        return gaps

    def _trained_context_tokens(self, name: str) -> int | None:
        answer = self._http.post(f"{self._url}/api/show", {"model": name, "name": name})
        if answer.status != 200:
            raise answer.error()
        return trained_context_tokens(answer.json())

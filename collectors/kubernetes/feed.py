"""The objects of one query as they are now: listed once, then kept up to date by a watch in a thread of its own.

    list ──▶ watch ──▶ the server ends it: watch again from the last version
      ▲        │
      └────────┴── 410, a line that is no event, or after `relist_s`: list again
    any other failure, a watch that ends at once, a list that is soon of no use any more: pause (longer each time, at
    random, as the server asks), then go on

Nothing that one object or one answer holds ends it: a mistake of this program is a failure like any other.

Source: Kubernetes, "API Concepts", efficient detection of changes.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from collectors.errors import BadPayload, CollectorError
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_errors import Expired, MissingRight, Throttled
from collectors.kubernetes_lists import Listed, ObjectName, Query, Reader, described, name_of
from collectors.kubernetes_watch import Event, Watch

T = TypeVar("T")

log = logging.getLogger("gpufleet.collectors.kubernetes")

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LIST_LASTS_S = 60.0
"""A list that must be made anew sooner than this was hardly worth it: the next ones come ever later."""
QUIET_S = 60.0
"""How long a watch may be silent unless told otherwise; servers send a bookmark about once a minute."""
JOIN_S = 2.0
_CHANGES = ("ADDED", "MODIFIED")


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Generic[T]):
    """What a feed knows: `objects` is None when nothing was listed yet, `error` the failure it has not got over.

    `age_s` is how long ago the objects were last known to be true: 0 while a watch is open that speaks often enough.
    `silent_s` is how long nothing was heard of the server at all.
    """

    objects: dict[ObjectName, T] | None
    bad: dict[ObjectName, str]
    error: CollectorError | None
    age_s: float
    silent_s: float


def pause_s(failures: int, rng: random.Random, *, retry_after_s: float | None = None) -> float:
    """How long to wait after so many failures in a row: at random below a bound that doubles, and as long as asked.

    Half of the bound is always waited, so that a server that refuses at once is not asked in a circle.
    """
    bound = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_S)
    return max(rng.uniform(bound / 2, bound), retry_after_s or 0.0)


class Feed(Generic[T]):
    """Keeps the objects of one query; `start` it, `view` it at any time, `end` it."""

    def __init__(
        self,
        api: KubernetesApi,
        query: Callable[[], Query],
        read: Reader[T],
        *,
        name: str,
        relist_s: float,
        quiet_s: float = QUIET_S,
        short_s: float = FIRST_PAUSE_S,
        rng: random.Random | None = None,
        pause: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        """`query` is asked before every list, and may raise CollectorError; `pause` waits until stopped or so long.

        A watch that is silent for longer than `quiet_s` no longer confirms what is known, and is asked to end by then;
        one that ends within `short_s` has failed, whatever it brought.
        """
        self._api = api
        self._query = query
        self._read = read
        self._relist_s = relist_s
        self._quiet_s = quiet_s
        self._short_s = short_s
        self._rng = rng or random.Random()
        self._pause = pause
        self._lock = threading.Lock()
        self._listed: Listed[T] | None = None
        self._error: CollectorError | None = None
        self._watch: Watch | None = None
        self._true_at = float("-inf")
        self._heard_at = float("-inf")
        self._listed_at = float("-inf")
        self._asked: Query | None = None
        self._version: str | None = None
        self._has_lasted = False
        self._failures = 0
        self._short_lists = 0
        self._tried = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"kubernetes-{name}", daemon=True)

    def start(self) -> None:
        """Begin to list."""
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Until the first list has come or failed, or so long."""
        self._tried.wait(seconds)

    def view(self) -> View[T]:
        """What is known now, without waiting for anything."""
        with self._lock:
            listed = self._listed
            now = time.monotonic()
            true_at = self._true_at if self._watch is None else self._confirmed_at(now)
            return View(
                objects=None if listed is None else dict(listed.objects),
                bad={} if listed is None else dict(listed.bad),
                error=self._error,
                age_s=now - true_at,
                silent_s=now - self._heard_at,
            )

    def end(self) -> None:
        """Tell the thread to end, and the watch with it."""
        self._stopping.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.stop()

    def join(self) -> None:
        """Wait a moment for the thread to end; one that waits for an answer ends by itself later."""
        if self._thread.ident is not None:
            self._thread.join(timeout=JOIN_S)

    def _confirmed_at(self, now: float) -> float:
        """Until when an open watch vouches for what is known."""
        return min(now, self._heard_at + self._quiet_s)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            seconds = self._pause_after(self._round())
            if seconds:
                self._pause(self._stopping, seconds)

    def _round(self) -> CollectorError | None:
        """List where that is needed, and watch to the end; what went wrong."""
        self._has_lasted = False
        try:
            if self._version is None or time.monotonic() - self._listed_at > self._relist_s:
                self._list()
            self._watch_to_its_end()
        except CollectorError as error:
            return error
        except BaseException as mistake:  # noqa: BLE001 - nobody else would begin this thread again
            log.error("%s fails: %s", self._thread.name, described(mistake))
            return BadPayload(
                f"{self._api.target} sent something that this program fails on ({type(mistake).__name__}); please "
                "report it. Everything is listed again.",
                source=self._api.source,
            )
        return None

    def _pause_after(self, error: CollectorError | None) -> float:
        """How long to wait before the next round; notes the failure, if it is to be shown."""
        if error is None:
            self._failures = 0 if self._has_lasted else self._failures + 1
            return pause_s(self._failures, self._rng) if self._failures else 0.0
        self._failures = 1 if self._has_lasted else self._failures + 1
        if isinstance(error, Expired | BadPayload | MissingRight):
            # a change may have been missed; who may not watch lists again and again
            was_of_use = time.monotonic() - self._listed_at >= LIST_LASTS_S
            self._version = None
            self._short_lists = 1 if was_of_use else self._short_lists + 1
            self._failures = max(self._failures, self._short_lists)
        if isinstance(error, Expired) and self._failures == 1:
            return 0.0  # everybody meets this now and then
        self._failed(error)
        return pause_s(
            self._failures, self._rng, retry_after_s=error.retry_after_s if isinstance(error, Throttled) else None
        )

    def _list(self) -> None:
        query = self._query()
        listed = self._api.list_all(query, self._read)
        with self._lock:
            self._asked, self._listed, self._error = query, listed, None
            self._true_at = self._heard_at = self._listed_at = time.monotonic()
        self._version = listed.version
        self._tried.set()

    def _watch_to_its_end(self) -> None:
        """Follow a watch; notes whether it lasted, however it ends, and until when it vouched for what is known."""
        if self._asked is None or self._version is None:
            raise AssertionError("nothing is watched before it was listed")
        watch = self._api.watch(self._asked, self._version, longest_s=self._quiet_s)
        began = time.monotonic()
        with self._lock:
            self._watch, self._error, self._heard_at = watch, None, began
        if self._stopping.is_set():
            watch.stop()
        try:
            for event in watch:
                self._take(event)
                self._version = event.version or self._version
            with self._lock:
                self._heard_at = time.monotonic()  # it has ended as a watch should
        finally:
            now = time.monotonic()
            with self._lock:
                self._watch = None
                self._true_at = self._confirmed_at(now)
            self._has_lasted = now - began >= self._short_s

    def _take(self, event: Event) -> None:
        with self._lock:
            self._heard_at = time.monotonic()
            if self._listed is None:
                return
            if event.type in _CHANGES:
                self._listed.put(event.object, self._read)
            elif event.type == "DELETED":
                self._listed.forget(name_of(event.object))

    def _failed(self, error: CollectorError) -> None:
        with self._lock:
            self._error = error
        self._tried.set()

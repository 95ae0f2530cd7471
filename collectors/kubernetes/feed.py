"""The objects of one query as they are now: listed once, then kept up to date by a watch in a thread of its own.

    list ──▶ watch ──▶ the server ends it: watch again from the last version
      ▲        │
      └────────┴── 410, a line that is no event, or after `relist_s`: list again
    any other failure: pause (longer each time, at random, as the server asks), then go on

Source: Kubernetes, "API Concepts", efficient detection of changes.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from collectors.errors import BadPayload, CollectorError
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_errors import Expired, MissingRight, Throttled
from collectors.kubernetes_lists import Listed, ObjectName, Query, Reader, name_of
from collectors.kubernetes_watch import Event, Watch

T = TypeVar("T")

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
JOIN_S = 2.0
_CHANGES = ("ADDED", "MODIFIED")


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Generic[T]):
    """What a feed knows: `objects` is None when nothing was listed yet, `error` the failure it has not got over.

    `age_s` is how long ago the objects were last known to be true: 0 while a watch is open.
    """

    objects: dict[ObjectName, T] | None
    bad: dict[ObjectName, str]
    error: CollectorError | None
    age_s: float


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
        rng: random.Random | None = None,
        pause: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        """`query` is asked before every list, and may raise CollectorError; `pause` waits until stopped or so long."""
        self._api = api
        self._query = query
        self._read = read
        self._relist_s = relist_s
        self._rng = rng or random.Random()
        self._pause = pause
        self._lock = threading.Lock()
        self._listed: Listed[T] | None = None
        self._error: CollectorError | None = None
        self._crash: BaseException | None = None
        self._watch: Watch | None = None
        self._true_at = float("-inf")
        self._listed_at = float("-inf")
        self._asked: Query | None = None
        self._version: str | None = None
        self._was_of_use = False
        self._tried = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kubernetes-{name}", daemon=True)

    def start(self) -> None:
        """Begin to list."""
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Until the first list has come or failed, or so long."""
        self._tried.wait(seconds)

    def view(self) -> View[T]:
        """What is known now, without waiting for anything; raises what went wrong in the thread by mistake."""
        if self._crash is not None:
            raise RuntimeError(f"{self._thread.name} has ended by a mistake of this program") from self._crash
        with self._lock:
            listed = self._listed
            return View(
                objects=None if listed is None else dict(listed.objects),
                bad={} if listed is None else dict(listed.bad),
                error=self._error,
                age_s=0.0 if self._watch is not None else time.monotonic() - self._true_at,
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

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as failure:
            self._crash = failure
            self._tried.set()
            raise

    def _follow(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._was_of_use = False
            retry_after_s = None
            try:
                if self._version is None or time.monotonic() - self._listed_at > self._relist_s:
                    self._list()
                self._watch_to_its_end()
                failures = 0 if self._was_of_use else failures + 1
            except CollectorError as error:
                failures = 1 if self._was_of_use else failures + 1
                if isinstance(error, Expired | BadPayload | MissingRight):
                    self._version = None  # a change may have been missed; who may not watch lists again and again
                if isinstance(error, Expired) and failures == 1:
                    continue  # everybody meets this now and then
                retry_after_s = error.retry_after_s if isinstance(error, Throttled) else None
                self._failed(error)
            if failures:
                self._pause(self._stopping, pause_s(failures, self._rng, retry_after_s=retry_after_s))

    def _list(self) -> None:
        query = self._query()
        listed = self._api.list_all(query, self._read)
        with self._lock:
            self._asked, self._listed, self._error = query, listed, None
            self._true_at = self._listed_at = time.monotonic()
        self._version = listed.version
        self._tried.set()

    def _watch_to_its_end(self) -> None:
        """Follow a watch; notes whether it brought anything or lasted, however it ends."""
        if self._asked is None or self._version is None:
            raise AssertionError("nothing is watched before it was listed")
        watch = self._api.watch(self._asked, self._version)
        began = time.monotonic()
        with self._lock:
            self._watch, self._error = watch, None
        if self._stopping.is_set():
            watch.stop()
        try:
            for event in watch:
                self._was_of_use = True
                self._take(event)
                self._version = event.version or self._version
        finally:
            with self._lock:
                self._watch = None
                self._true_at = time.monotonic()
            self._was_of_use |= time.monotonic() - began >= FIRST_PAUSE_S

    def _take(self, event: Event) -> None:
        with self._lock:
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

"""Reading a Prometheus server window by window: from where the last reading ended to the server's present.

Shared by every source that is read through Prometheus; what is asked for, and what it means, is theirs.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from collectors.backoff import Backoff
from collectors.errors import BadPayload, ClockSkew, CollectorError
from collectors.prometheus import WindowTooLarge
from collectors.prometheus_config import PrometheusConfig
from collectors.prometheus_samples import Remarks
from collectors.source import Attempt
from planner.readings import Batch, Gap

MAX_SKEW = timedelta(minutes=2)
"""How far the server's clock may be ahead of ours before its times are not believed."""
MIN_WINDOW_S = 60
"""Shortest stretch that is asked for: a shorter one would hold single scrapes."""
HELD_FOR = timedelta(hours=6)
"""How long the watermark waits for what an answer said to lack; after that it is passed, and the gap remains."""
AGAIN_AFTER = timedelta(minutes=10)
"""After how long what was lacking is asked for again."""


class ClockedServer(Protocol):
    """A server that has a name, tells its time, and says what its answers lack."""

    target: str

    def server_time(self) -> datetime:
        """The server's clock."""
        ...

    def remarks(self) -> Remarks:
        """What the answers since the last call lacked."""
        ...


class Window:
    """A stretch of a server's memory; `seconds` before `until` are to be read, `since` is where the last one ended."""

    def __init__(self, since: datetime, until: datetime, present: datetime, overlap_s: int) -> None:
        self.since = since
        self.until = until
        self.present = present
        # A scrape is stored when it ends and dated when it began: what ends after a window belongs into it.
        self.seconds = int((until - since).total_seconds()) + 1 + overlap_s

    @property
    def is_last(self) -> bool:
        """Whether it reaches the server's present."""
        return self.until == self.present


class PrometheusWindows:
    """The windows of one source; the server is its one target."""

    def __init__(self, config: PrometheusConfig) -> None:
        self._config = config
        self._window_s = config.window_s
        self._backoff = Backoff(interval_s=config.interval_s)
        self._lacking = _Lacking()

    def attempts(
        self,
        server: ClockedServer,
        now: datetime,
        watermarks: Mapping[str, datetime],
        read: Callable[[Window], Batch],
    ) -> Iterator[Attempt]:
        """Read from the watermark (at first: `backfill_s` back) to the server's present, oldest window first.

        A window that fails ends the run, so that the watermark never passes what was not read. One that is too large is
        halved. A server that keeps failing is asked less often, see `Backoff`. Where it says that an answer is not
        whole (a store behind it is away), what it gave is kept and reading goes on, while the watermark waits there for
        HELD_FOR at most: what begins there is asked for again every AGAIN_AFTER, and after a restart.
        """
        if not self._backoff.due([server.target], now):
            return
        began = time.monotonic()
        read_until = self._lacking.begin(watermarks.get(server.target), now)
        until: datetime | None = None
        skew_s: float | None = None
        while until is None or read_until is None or read_until < until:
            started = time.monotonic()
            batch: Batch | None = None
            error: CollectorError | None = None
            try:
                if until is None:
                    asked_at = now + timedelta(seconds=started - began)
                    until = self._present(server, asked_at, read_until)
                    skew_s = (until - asked_at).total_seconds()
                server.remarks()  # what a failed attempt left is not of this one
                window = self._window(read_until, until)
                batch = read(window)
                batch, read_until = self._with_remarks(batch, window, server.target, server.remarks())
            except WindowTooLarge as too_large:
                if self._window_s > MIN_WINDOW_S:
                    self._window_s = max(MIN_WINDOW_S, self._window_s // 2)
                    continue
                error = BadPayload(
                    f"{too_large} Even {MIN_WINDOW_S} s at a time are too much: name the exporters' job in jobs, or "
                    "raise --query.max-samples of the server.",
                    source=self._config.name,
                )
            except CollectorError as failure:
                error = failure
            started_at = now + timedelta(seconds=started - began)
            if error is None:
                self._backoff.succeeded(server.target)
            else:
                self._backoff.failed(server.target, started_at)
            yield Attempt(
                target=server.target,
                started_at=started_at,
                seconds=time.monotonic() - started,
                batch=batch,
                error=error,
                clock_skew_s=skew_s,
            )
            if error is not None:
                return

    def _window(self, read_until: datetime | None, present: datetime) -> Window:
        if read_until is None:
            read_until = present - timedelta(seconds=self._config.backfill_s)
        since = min(read_until, present)
        until = min(since + timedelta(seconds=self._window_s), present)
        return Window(since, until, present, self._config.overlap_s)

    def _with_remarks(self, batch: Batch, window: Window, target: str, told: Remarks) -> tuple[Batch, datetime]:
        gaps = tuple(Gap(subject=target, metric=None, reason=reason) for reason in told.reasons)
        mark, read_until = self._lacking.read(window, is_partial=told.is_partial)
        return replace(batch, gaps=(*batch.gaps, *gaps), watermark=mark), read_until

    def _present(self, server: ClockedServer, now: datetime, read_until: datetime | None) -> datetime:
        present = server.server_time()
        if present - now > MAX_SKEW:
            raise ClockSkew(
                f"The clock of {server.target} is {_span(present - now)} ahead of ours: nothing was read, it would be "
                "dated into the future. Set both clocks by NTP.",
                source=self._config.name,
            )
        if read_until is not None and read_until - present > MAX_SKEW:
            raise ClockSkew(
                f"{server.target} was already read until {read_until:%Y-%m-%d %H:%M:%S} UTC, which its clock reaches "
                f"in {_span(read_until - present)}; nothing can be read until then. A clock was ahead.",
                source=self._config.name,
            )
        return present


class _Lacking:
    """Where a server's answer was not whole, and how far it was read all the same."""

    def __init__(self) -> None:
        self._since: datetime | None = None  # the window that begins here is to be read again
        self._noticed_at = self._again_at = self._read_until = datetime.min.replace(tzinfo=UTC)

    def begin(self, watermark: datetime | None, now: datetime) -> datetime | None:
        """Where to read on: at the watermark, or beyond it where what is lacking is not asked for again yet."""
        if watermark is None or self._since is None:
            return watermark
        if watermark != self._since:  # it was moved by somebody else
            self._since = None
            return watermark
        is_waiting = now < self._again_at < now + AGAIN_AFTER + MAX_SKEW
        return max(self._read_until, watermark) if is_waiting else watermark

    def read(self, window: Window, *, is_partial: bool) -> tuple[datetime, datetime]:
        """How far everything was read, this window included, and where to read on."""
        self._read_until = window.until if self._since is None else max(self._read_until, window.until)
        if self._since is None and is_partial:
            self._since, self._noticed_at = window.since, window.present
            self._again_at = window.present + AGAIN_AFTER
        elif self._since == window.since:
            self._again_at = window.present + AGAIN_AFTER
            if not is_partial:  # what lies behind it may lack something as well: it is read again in its turn
                self._since = None
                return window.until, window.until
        if self._since is not None and window.present - self._noticed_at > HELD_FOR:
            self._since = None
        return self._read_until if self._since is None else self._since, self._read_until


def _span(span: timedelta) -> str:
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"

"""Reading a Prometheus server window by window: from where the last reading ended to the server's present.

Shared by every source that is read through Prometheus; what is asked for, and what it means, is theirs.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from collectors.backoff import Backoff
from collectors.errors import BadPayload, ClockSkew, CollectorError
from collectors.prometheus import WindowTooLarge
from collectors.prometheus_config import PrometheusConfig
from collectors.source import Attempt
from planner.readings import Batch

MAX_SKEW = timedelta(minutes=2)
"""How far the server's clock may be ahead of ours before its times are not believed."""
MIN_WINDOW_S = 60
"""Shortest stretch that is asked for: a shorter one would hold single scrapes."""


class ClockedServer(Protocol):
    """A server that has a name and tells its time."""

    target: str

    def server_time(self) -> datetime:
        """The server's clock."""
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

    def attempts(
        self,
        server: ClockedServer,
        now: datetime,
        watermarks: Mapping[str, datetime],
        read: Callable[[Window], Batch],
    ) -> Iterator[Attempt]:
        """Read from the watermark (at first: `backfill_s` back) to the server's present, oldest window first.

        A window that fails ends the run, so that the watermark never passes what was not read. One that is too large is
        halved. A server that keeps failing is asked less often, see `Backoff`.
        """
        if not self._backoff.due([server.target], now):
            return
        began = time.monotonic()
        read_until = watermarks.get(server.target)
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
                batch = read(self._window(read_until, until))
                read_until = batch.watermark
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


def _span(span: timedelta) -> str:
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"

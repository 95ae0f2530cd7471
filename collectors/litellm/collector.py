"""A LiteLLM gateway, read twice: its counters at every interval, its daily figures more seldom."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from collectors.backoff import Backoff
from collectors.bounded_http import Answer, BoundedHttp
from collectors.config import target_name
from collectors.errors import CollectorError, Unauthorized
from collectors.http_answers import same_host_path
from collectors.http_errors import web_page_error
from collectors.litellm.config import LiteLlmConfig
from collectors.litellm.daily_activity import DailyActivity
from collectors.litellm.personal import without_persons
from collectors.litellm.scrape import read_metrics
from collectors.litellm.series_memory import SeriesMemory
from collectors.source import Attempt
from planner.readings import Batch

LONGEST_PAUSE_S = 900.0
"""A scrape that LiteLLM refuses counts among its failed requests, so a refused one is not repeated every minute."""


class LiteLlmCollector:
    """Reads the gateway of one `[[sources.litellm]]` table."""

    kind = "litellm"

    def __init__(self, config: LiteLlmConfig) -> None:
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s
        self._config = config
        self._target = target_name(config.url)
        self._activity_target = f"{self._target} daily activity"
        self._http = BoundedHttp(config, max_body_bytes=config.max_body_bytes, accept="text/plain, application/json")
        self._activity = DailyActivity(config, self._http)
        self._memory = SeriesMemory()
        self._metrics_url = f"{config.url}/metrics/"  # /metrics redirects here
        self._backoff = Backoff(interval_s=config.interval_s, longest_s=LONGEST_PAUSE_S)
        self._activity_backoff = Backoff(interval_s=config.activity_interval_s, longest_s=config.activity_interval_s)
        self._activity_read_at: datetime | None = None

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Scrape the counters, and read the daily figures when they are due; nothing while a refusal is still fresh."""
        try:
            yield from self._round(now, watermarks)
        finally:
            self._http.close()  # rounds lie a minute and more apart: nothing is held between them

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def _round(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        began = time.monotonic()
        if self._config.read_metrics and self._backoff.due([self._target], now):
            yield self._attempt(self._target, now, began, self._backoff, self._scrape)
        if self._config.read_daily_activity and self._activity_is_due(now):
            watermark = watermarks.get(self._activity_target)
            attempt = self._attempt(
                self._activity_target, now, began, self._activity_backoff, lambda at: self._read_days(at, watermark)
            )
            if attempt.error is None:
                self._activity_read_at = now
            yield attempt

    def _activity_is_due(self, now: datetime) -> bool:
        read_at = self._activity_read_at
        if read_at is not None and read_at <= now < read_at + timedelta(seconds=self._config.activity_interval_s):
            return False
        return bool(self._activity_backoff.due([self._activity_target], now))

    def _attempt(
        self, target: str, now: datetime, began: float, backoff: Backoff, read: Callable[[datetime], Batch]
    ) -> Attempt:
        started = time.monotonic()
        started_at = now + timedelta(seconds=started - began)
        batch: Batch | None = None
        error: CollectorError | None = None
        try:
            batch = read(started_at)
            backoff.succeeded(target)
        except CollectorError as failure:
            error = failure if self._config.keep_personal else self._without_persons(failure)
            backoff.failed(target, now)
        served_at = self._http.last.served_at if self._http.last is not None else None
        ended_at = now + timedelta(seconds=time.monotonic() - began)
        return Attempt(
            target=target,
            started_at=started_at,
            seconds=time.monotonic() - started,
            batch=batch,
            error=error,
            clock_skew_s=None if served_at is None else (served_at - ended_at).total_seconds(),
            interval_s=self._config.activity_interval_s if target == self._activity_target else None,
        )

    def _without_persons(self, error: CollectorError) -> CollectorError:
        """The error, which may hold the server's words, without the e-mail and IP addresses in them."""
        said = without_persons(str(error), but=self._config.server)
        return type(error)(said, source=error.source, permanent=error.permanent)

    def _scrape(self, at: datetime) -> Batch:
        answer = self._http.get(self._metrics_url)
        if 300 <= answer.status < 400:
            answer = self._follow(answer)
        if answer.status in (401, 403):
            raise Unauthorized(
                f"{answer.target} refuses the scrape ({answer.status}): give a key of the gateway by "
                "bearer_token_file (LiteLLM wants one for /metrics by default).",
                source=self.source,
            )
        if answer.status == 500 and self._config.bearer_token is None:
            raise Unauthorized(
                f"{answer.target} answers 500, as LiteLLM does when it wants a key and is given none: set "
                "bearer_token_file.",
                source=self.source,
            )
        if answer.status != 200:
            raise answer.error()
        page = web_page_error(
            answer.headers.get("content-type", ""), answer.text, source=self.source, target=answer.target
        )
        if page is not None:
            raise page
        return read_metrics(
            answer.text,
            observed_at=at,
            source=self.source,
            target=answer.target,
            gateway=self._config.gateway,
            dimensions=self._config.dimensions,
            keep_personal=self._config.keep_personal,
            memory=self._memory,
        )

    def _follow(self, answer: Answer) -> Answer:
        """The answer where a redirect leads, when that is the same host; the address is remembered."""
        to = same_host_path(self._metrics_url, answer.headers.get("location"))
        if to is None or to == self._metrics_url:
            raise answer.error()
        found = self._http.get(to)
        if found.status == 200:
            self._metrics_url = to
        return found

    def _read_days(self, at: datetime, watermark: datetime | None) -> Batch:
        today = at.astimezone(UTC).date()
        days = (
            timedelta(days=self._config.activity_backfill_days - 1)
            if watermark is None
            else today - watermark.astimezone(UTC).date() + timedelta(days=self._config.activity_overlap_days)
        )
        usage, spans, gaps = self._activity.read(today - max(days, timedelta(0)), today)
        return Batch(usage=usage, usage_spans=spans, gaps=gaps, watermark=at)

"""One project of a Langfuse server: its figures window by window, over whichever endpoint the server has."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from collectors.backoff import Backoff
from collectors.config import target_name
from collectors.errors import CollectorError
from collectors.langfuse.api import LangfuseApi, too_much
from collectors.langfuse.call_budget import ALL, BudgetSpent, CallBudget
from collectors.langfuse.config import LangfuseConfig
from collectors.langfuse.pace import Pace
from collectors.langfuse.road import Found
from collectors.langfuse.roads import Roads
from collectors.langfuse.tally import DAY
from collectors.langfuse.windows import Window, ceil_day, floor_day, plan
from collectors.plain_text import plain_text
from collectors.source import Attempt
from planner.readings import Batch, Gap

LONGEST_PAUSE_S = 3_600.0


class LangfuseCollector:
    """Reads the project of one `[[sources.langfuse]]` table; the server is the one target."""

    kind = "langfuse"

    def __init__(self, config: LangfuseConfig) -> None:
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s
        self._config = config
        self._target = target_name(config.url)
        self._now: datetime | None = None
        self._began = 0.0
        self._budget = CallBudget(config.calls_per_day)
        self._api = LangfuseApi(config, self._budget, self._clock)
        self._roads = Roads(config, self._api)
        self._backoff = Backoff(interval_s=config.interval_s, longest_s=LONGEST_PAUSE_S)
        self._pace = Pace()
        self._days_were_told = False  # by an endpoint before this one; the store cuts what an earlier program read

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Read what is new, again what may have changed, and once a day the days before; nothing before it is due.

        A window that fails ends the round, so that the watermark never passes what was not read.
        """
        try:
            yield from self._round(now.astimezone(UTC), watermarks)
        finally:
            self._api.close()  # nothing is held between rounds

    def close(self) -> None:
        """Let go of the connection."""
        self._api.close()

    def _round(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        self._now, self._began = now, time.monotonic()
        self._pace.begin(now)
        usual = self._pace.calls_before_a_round(self._roads.calls(self._config.overlap_h + 2))
        if not self._backoff.due([self._target], now) or not self._budget.affords(usual, now):
            return
        try:
            self._roads.look_around(now)
        except CollectorError as failure:
            yield self._attempt(self._began, error=failure)
            return
        yield from self._windows(now, watermarks.get(self._target))

    def _windows(self, now: datetime, watermark: datetime | None) -> Iterator[Attempt]:
        windows, is_first = self._plan(now, watermark), True
        while windows:
            started = time.monotonic()
            window = windows.pop(0)
            halves = window.halves()
            if halves is not None and not self._budget.can_ever_afford(self._calls(window)):
                windows[:0] = halves
                continue
            try:
                found = self._read(window, now)
            except BudgetSpent as spent:
                yield self._attempt(started, Batch(gaps=(self._gap(_budget_words(spent)),), found=self._said()))
                return
            except CollectorError as failure:
                if halves is None or not too_much(failure):
                    yield self._attempt(started, error=failure)
                    return
                self._pace.was_too_much(halves[1].end - halves[1].start, now)
                windows[:0] = halves
                continue
            until = window.end
            self._days_were_told = self._days_were_told or self._roads.whole_days
            if is_first and (watermark == window.start or self._days_were_told):  # a day told before is no hour
                until = ceil_day(window.end)
            read_until = floor_day(now) if self._roads.whole_days else min(window.end, now)
            watermark = read_until if watermark is None else max(min(watermark, now), read_until)
            is_first = False
            yield self._attempt(started, self._batch(found, until, watermark))
        self._days_were_told = self._roads.whole_days

    def _read(self, window: Window, now: datetime) -> Found:
        """The window, if there are calls enough for it; raises BudgetSpent otherwise."""
        at, before, needed = self._clock(), self._api.calls, self._calls(window)
        was_full = self._budget.affords(ALL, at)
        try:
            if not self._budget.affords(needed, at):
                raise BudgetSpent(self._budget.ready_at(needed, at))
            found = self._roads.read(window, now)
        except BudgetSpent:
            self._pace.ran_out(made=self._api.calls - before, was_full=was_full, at=now)
            raise
        self._pace.was_read(expected=self._roads.calls(window.hours), made=self._api.calls - before)
        return found

    def _calls(self, window: Window) -> int:
        return self._pace.calls(self._roads.calls(window.hours))

    def _clock(self) -> datetime:
        if self._now is None:
            raise AssertionError("asked outside of a round")
        return self._now + timedelta(seconds=time.monotonic() - self._began)

    def _plan(self, now: datetime, watermark: datetime | None) -> list[Window]:
        whole_days = self._roads.whole_days
        return plan(
            now,
            watermark,
            overlap=timedelta(hours=self._config.overlap_h),
            reread_days=self._config.reread_days,
            backfill_days=self._config.backfill_days,
            longest=DAY if whole_days else self._pace.longest,
            whole_days=whole_days,
            from_midnight=self._days_were_told,
        )

    def _batch(self, found: Found, until: datetime, watermark: datetime) -> Batch:
        """What was found; its spans reach at least to `until`."""
        gaps = [self._gap(reason) for reason in found.gaps]
        sunset = None if self._roads.name is None else self._api.deprecations.get(self._roads.name)
        if sunset is not None:
            when = f" after {sunset}" if sunset else ""
            gaps.append(self._gap(f"the server says that {self._roads.name} is deprecated and may go{when}"))
        return Batch(
            usage=found.usage,
            usage_spans=tuple(replace(span, end=max(span.end, until)) for span in found.spans),
            gaps=tuple(dict.fromkeys(gaps)),
            found=self._said(),
            watermark=watermark,
        )

    def _said(self) -> tuple[tuple[str, str], ...]:
        told = (("version", self._roads.version), ("endpoint", self._roads.name))
        return tuple((what, str(value)) for what, value in told if value)

    def _gap(self, reason: str) -> Gap:
        return Gap(subject=self._target, metric=None, reason=plain_text(reason, 500))

    def _attempt(self, started: float, batch: Batch | None = None, error: CollectorError | None = None) -> Attempt:
        now = self._clock()
        if error is None:
            self._backoff.succeeded(self._target)
        else:
            self._backoff.failed(self._target, now)
        seconds = time.monotonic() - started
        served_at = self._api.last.served_at if self._api.last is not None else None
        return Attempt(
            target=self._target,
            started_at=now - timedelta(seconds=seconds),
            seconds=seconds,
            batch=batch,
            error=error,
            clock_skew_s=None if served_at is None else (served_at - now).total_seconds(),
        )


def _budget_words(spent: BudgetSpent) -> str:
    return (
        f"the calls of the day are used up until {spent.until:%H:%M} UTC; what is not read yet comes then. Raise "
        "max_calls_per_day if the plan allows more"
    )

"""Use per day from `/api/public/metrics/daily`, which knows models and nothing else.

Source: web/src/pages/api/public/metrics/daily.ts and its types; `fromTimestamp` and `toTimestamp` are times of traces.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from collectors.langfuse.api import LangfuseApi
from collectors.langfuse.config import RoadName
from collectors.langfuse.numbered_pages import numbered_pages
from collectors.langfuse.question import timestamp
from collectors.langfuse.road import Found
from collectors.langfuse.tally import DAY, Tally, TallyKey
from collectors.langfuse.windows import Window, ceil_day, floor_day
from collectors.langfuse.wire import DailyMetrics, DailyUsage, Malformed, read, unreadable_amounts
from planner.token_usage import UsageSpan

PAGE_SIZE = 50
"""Days per page; the server's default, and a month and a half."""


class DailyRoad:
    """Reads whole days of UTC."""

    whole_days = True

    def __init__(self, api: LangfuseApi, *, max_pages: int, source: str) -> None:
        self._api = api
        self._max_pages = max_pages
        self._source = source

    def calls(self, dimensions: Sequence[str], hours: int) -> int:
        """One page holds more days than a window."""
        return 1

    def read(self, window: Window, dimensions: Sequence[str]) -> Found:
        """Totals of every day that the window touches; the other dimensions are gaps."""
        start, end = floor_day(window.start), ceil_day(window.end)
        tally = Tally()
        gaps = [
            f"use by {dimension} is not known: metrics/daily totals days and models only" for dimension in dimensions
        ]
        span = {"fromTimestamp": timestamp(start), "toTimestamp": timestamp(end)}
        pages = numbered_pages(
            self._api, RoadName.DAILY, span, size=PAGE_SIZE, max_pages=self._max_pages, source=self._source
        )
        for told in (day for page in pages for day in page.data):
            try:
                self._add(tally, read(DailyMetrics, told), start, end, gaps)
            except Malformed as error:
                gaps.append(f"a day was left out: {error}")
        usage = tuple(tally.usage(gaps))
        return Found(usage=usage, spans=(UsageSpan(start=start, end=end),), gaps=tuple(dict.fromkeys(gaps)))

    def _add(self, tally: Tally, day: DailyMetrics, start: datetime, end: datetime, gaps: list[str]) -> None:
        at = datetime(day.date.year, day.date.month, day.date.day, tzinfo=UTC)
        if not start <= at < end:
            return  # both ends of the span belong to it, so the next day may come along
        for told in day.usage:
            try:
                usage = read(DailyUsage, told)
            except Malformed as error:
                gaps.append(f"a model of {day.date} was left out: {error}")
                continue
            gaps += [f"{name} of a model of {day.date} is no number" for name in unreadable_amounts(told)]
            key = TallyKey(at, DAY, usage.model)
            tally.add(key, "requests", usage.count_observations)
            tally.add(key, "input_tokens", usage.input_usage)
            tally.add(key, "output_tokens", usage.output_usage)
            tally.add(key, "total_tokens", usage.total_usage)
            tally.add(key, "cost_usd", usage.total_cost)

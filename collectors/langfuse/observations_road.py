"""Use per hour from single observations, added up here: exact, with every detail, and many calls.

The second API gives a cursor, the first numbered pages that shift when an observation comes late: each observation is
counted once by its id, and a page or cursor that comes again ends the reading.
"""

from collections.abc import Iterator, Mapping, Sequence

from collectors.errors import BadPayload
from collectors.langfuse.api import LangfuseApi, TooMuch
from collectors.langfuse.config import RoadName
from collectors.langfuse.numbered_pages import numbered_pages
from collectors.langfuse.question import timestamp
from collectors.langfuse.road import Found
from collectors.langfuse.tally import HOUR, Tally, TallyKey
from collectors.langfuse.windows import Window, floor_hour
from collectors.langfuse.wire import Malformed, Observation, Page, read, unreadable_amounts
from planner.token_usage import UsageSpan

PAGE_SIZE_V2 = 1_000
PAGE_SIZE_V1 = 100
FIELDS = "core,basic,model,usage,trace_context"
"""Groups of fields of the second API that hold what is added up; inputs and outputs are not asked for."""


class ObservationsRoad:
    """Reads windows through `/api/public/v2/observations`, or through `/api/public/observations`."""

    whole_days = False

    def __init__(self, api: LangfuseApi, name: RoadName, *, max_pages: int, source: str) -> None:
        self._api = api
        self._name = name
        self._max_pages = max_pages
        self._source = source
        self._is_v2 = name is RoadName.OBSERVATIONS_V2

    def calls(self, dimensions: Sequence[str], hours: int) -> int:
        """A page at least."""
        return 1

    def read(self, window: Window, dimensions: Sequence[str]) -> Found:
        """Totals, details and owners of every observation that began in the window."""
        tally, gaps = Tally(), list[str]()
        known = [each for each in dimensions if self._is_v2 or each == "environment"]
        gaps += [
            f"use by {each} is not known: observations of the first API name no {each}"
            for each in dimensions
            if each not in known
        ]
        seen: set[str] = set()
        for told in self._observations(window):
            try:
                observation = read(Observation, told)
            except Malformed as error:
                gaps.append(f"an observation was left out: {error}")
                continue
            at = observation.start_time
            if at is None:
                gaps.append("an observation was left out: its startTime is no time")
                continue
            if observation.id in seen or not window.start <= at < window.end:
                continue
            seen.add(observation.id)
            gaps += [f"{name} of an observation is no number" for name in unreadable_amounts(told)]
            _add(tally, observation, TallyKey(floor_hour(at), HOUR, observation.model), known)
        spans = (UsageSpan(start=window.start, end=window.end, dimension=each) for each in ("", *known))
        usage = tuple(tally.usage(gaps))
        return Found(usage=usage, spans=tuple(spans), gaps=tuple(dict.fromkeys(gaps)))

    def _observations(self, window: Window) -> Iterator[object]:
        span = {"fromStartTime": timestamp(window.start), "toStartTime": timestamp(window.end)}
        pages = self._by_cursor(span) if self._is_v2 else self._by_number(span)
        for page in pages:
            yield from page.data

    def _by_cursor(self, span: Mapping[str, str]) -> Iterator[Page]:
        asked = {**span, "fields": FIELDS, "limit": str(PAGE_SIZE_V2)}
        cursor: str | None = None
        used: set[str] = set()
        for _ in range(self._max_pages):
            page = self._api.get(self._name, asked if cursor is None else {**asked, "cursor": cursor})
            yield page
            cursor = page.meta.cursor
            if cursor is None:
                return
            if cursor in used:
                raise BadPayload(
                    f"{self._name} gave a cursor twice; reading it on would never end.", source=self._source
                )
            used.add(cursor)
        raise TooMuch(f"{self._name} has more than {self._max_pages} pages for one window.", source=self._source)

    def _by_number(self, span: Mapping[str, str]) -> Iterator[Page]:
        return numbered_pages(
            self._api, self._name, span, size=PAGE_SIZE_V1, max_pages=self._max_pages, source=self._source
        )


def _add(tally: Tally, observation: Observation, total: TallyKey, dimensions: Sequence[str]) -> None:
    keys = [total]
    for dimension in dimensions:
        owners = {
            "environment": (observation.environment,),
            "user": (observation.user_id,),
            "tag": observation.tags,
        }[dimension]
        keys += [TallyKey(total.start, total.length, total.model, dimension, owner) for owner in owners]
    for key in keys:
        tally.add(key, "requests", 1)
        tally.add(key, "input_tokens", observation.input_tokens)
        tally.add(key, "output_tokens", observation.output_tokens)
        tally.add(key, "total_tokens", observation.usage_details.get("total"))
        tally.add(key, "cost_usd", observation.cost_usd)
    for name, amount in observation.usage_details.items():
        tally.add_detail(total, "usage_details", name, amount)
    for name, amount in observation.cost_details.items():
        tally.add_detail(total, "cost_details", name, amount)

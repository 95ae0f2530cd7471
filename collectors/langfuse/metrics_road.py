"""Use per hour from the metrics endpoints, the second API's or the first's."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from collectors.langfuse.api import LangfuseApi, Refused, TooMuch
from collectors.langfuse.config import RoadName
from collectors.langfuse.metrics import COLUMNS, DETAILS, HIGH_CARDINALITY, MEASURES, MODEL, DetailRow, MeasureRow
from collectors.langfuse.question import ROW_LIMIT, Question
from collectors.langfuse.road import Found
from collectors.langfuse.tally import HOUR, Tally, TallyKey
from collectors.langfuse.windows import Window, floor_hour
from collectors.langfuse.wire import Page, moment, names, number, text
from collectors.plain_text import plain_text
from planner.token_usage import UsageSpan

Row = Mapping[str, Any]

SHORTEST = timedelta(minutes=1)
"""An hour that holds more groups than Langfuse gives rows is asked about in parts of at least this length."""
TRACE_LOOKBACK = timedelta(hours=2)
"""The first API finds users and tags by the trace, and only of traces that began within the span (queryBuilder.ts)."""


class TooManyGroups(TooMuch):
    """More groups than rows in the shortest span that can be asked about."""


class MetricsRoad:
    """Reads windows through `/api/public/v2/metrics`, or through `/api/public/metrics`."""

    whole_days = False

    def __init__(self, api: LangfuseApi, name: RoadName, *, details: bool) -> None:
        self._api = api
        self._name = name
        self._is_v2 = name is RoadName.METRICS_V2
        self._details = list(DETAILS) if details else []
        self._has_environments = True

    def calls(self, dimensions: Sequence[str], hours: int) -> int:
        """One for models and environments, one for each map of details, one or one per hour for other dimensions."""
        others = [dimension for dimension in dimensions if dimension != "environment"]
        by_hour = [dimension for dimension in others if self._is_v2 and dimension in HIGH_CARDINALITY]
        return 1 + len(self._details) + len(others) - len(by_hour) + hours * len(by_hour)

    def read(self, window: Window, dimensions: Sequence[str]) -> Found:
        """Totals, environments, details and owners; totals and environments come from one answer and always agree."""
        tally, gaps, complete = Tally(), list[str](), [""]
        if self._totals(tally, window, with_environments="environment" in dimensions, gaps=gaps):
            complete.append("environment")
        for row in list(self._details):
            self._add_details(tally, window, row, gaps)
        others = [dimension for dimension in dimensions if dimension != "environment"]
        complete += [dimension for dimension in others if self._owners(tally, window, dimension, gaps)]
        if "user" in complete:
            gaps += _unowned(tally, "user", _CUT_OFF if self._is_v2 else _NO_TRACE)
        spans = tuple(UsageSpan(start=window.start, end=window.end, dimension=dimension) for dimension in complete)
        usage = tuple(tally.usage(gaps))
        return Found(usage=usage, spans=spans, gaps=tuple(dict.fromkeys(gaps)))

    def _totals(self, tally: Tally, window: Window, *, with_environments: bool, gaps: list[str]) -> bool:
        """Add totals and, if wanted and known to the server, environments; returns whether these are complete."""
        column = COLUMNS["environment"]
        question = Question(start=window.start, end=window.end, by_hour=True)
        rows: list[Row] | None = None
        if with_environments and self._has_environments:
            try:
                rows = list(self._rows(replace(question, columns=(column,))))
            except Refused:
                self._has_environments = False
        if with_environments and not self._has_environments:
            gaps.append("use by environment is not known: this server has no dimension environment")
        split = rows is not None
        for start, row in self._readable(self._rows(question) if rows is None else rows, gaps):
            model = text(row.get(MODEL))
            for measure in MEASURES:
                amount = _amount(row, measure, gaps)
                tally.add(TallyKey(start, HOUR, model), measure.quantity, amount)
                if split:
                    key = TallyKey(start, HOUR, model, "environment", text(row.get(column)))
                    tally.add(key, measure.quantity, amount)
        return split

    def _add_details(self, tally: Tally, window: Window, row: DetailRow, gaps: list[str]) -> None:
        question = Question(
            start=window.start,
            end=window.end,
            by_hour=True,
            columns=(row.dimension,),
            measures=((row.measure, "sum"),),
        )
        try:
            rows = list(self._rows(question))
        except Refused:
            self._details.remove(row)  # servers without it refuse it every time; the totals do not need it
            gaps.append(f"{row.details} are not known: this server has no measure {row.measure}")
            return
        except TooManyGroups as failure:
            gaps.append(f"{row.details} are not known for {window.start:%Y-%m-%d %H:%M}: {failure}")
            return
        for start, told in self._readable(rows, gaps):
            model, key = text(told.get(MODEL)), text(told.get(row.dimension))
            amount = _read(told, row.column, number, gaps)
            tally.add_detail(TallyKey(start, HOUR, model), row.details, key, amount)

    def _owners(self, tally: Tally, window: Window, dimension: str, gaps: list[str]) -> bool:
        column = COLUMNS[dimension]
        found = Tally()
        try:
            for question in self._questions_about(window, dimension, column):
                for start, row in self._readable(self._rows(question), gaps):
                    for owner in _owners_in(row.get(column), dimension):
                        for measure in MEASURES:
                            key = TallyKey(start, HOUR, text(row.get(MODEL)), dimension, owner)
                            found.add(key, measure.quantity, _amount(row, measure, gaps))
        except Refused as refusal:
            gaps.append(f"use by {dimension} is not known: {refusal}")
            return False
        except TooManyGroups as failure:
            gaps.append(f"use by {dimension} is not known for {window.start:%Y-%m-%d %H:%M}: {failure}")
            return False
        tally.merge(found)
        return True

    def _questions_about(self, window: Window, dimension: str, column: str) -> Iterator[Question]:
        if self._is_v2 and dimension in HIGH_CARDINALITY:
            for start in _hours(window):
                yield Question(start=start, end=start + HOUR, by_hour=False, columns=(column,))
        else:
            lookback = None if self._is_v2 else window.start - TRACE_LOOKBACK
            yield Question(start=window.start, end=window.end, by_hour=True, columns=(column,), asked_from=lookback)

    def _rows(self, question: Question) -> Iterator[Row]:
        """Every row of a question; one that comes back full is asked again in halves, so that nothing is cut."""
        page = self._ask(question)
        if len(page.data) < ROW_LIMIT:
            yield from self._own(page, question)
            return
        for half in self._halves(question):
            yield from self._rows(half)

    def _own(self, page: Page, question: Question) -> Iterator[Row]:
        for row in page.data:
            if not isinstance(row, dict):
                yield {}  # noted as unreadable by whoever reads it
                continue
            if not question.by_hour:
                yield {**row, "time_dimension": floor_hour(question.start).isoformat()}
                continue
            at = moment(row.get("time_dimension"))
            if at is None or question.start <= at < question.end:
                yield row

    def _halves(self, question: Question) -> tuple[Question, Question]:
        span = question.end - question.start
        if span > HOUR:
            middle = question.start + HOUR * (span // HOUR // 2)
            later = question.asked_from and middle - TRACE_LOOKBACK
            return replace(question, end=middle), replace(question, start=middle, asked_from=later)
        if question.asked_from is not None or span < 2 * SHORTEST:
            raise TooManyGroups(
                f"Langfuse gives {ROW_LIMIT} rows at most, and {question.start:%H:%M} to {question.end:%H:%M} has as "
                "many or more.",
                source=self._name,
            )
        middle = question.start + SHORTEST * (span // SHORTEST // 2)
        return (
            replace(question, end=middle, by_hour=False),
            replace(question, start=middle, by_hour=False),
        )

    def _ask(self, question: Question) -> Page:
        if self._is_v2:
            return self._api.metrics_v2(question)
        return self._api.get(self._name, {"query": question.text()})

    def _readable(self, rows: Iterable[Row], gaps: list[str]) -> Iterator[tuple[datetime, Row]]:
        """Rows with their hour; a row that names none costs itself."""
        for row in rows:
            at = moment(row.get("time_dimension"))
            if at is None:
                gaps.append("a row without a readable hour was left out")
                continue
            yield floor_hour(at), row


def _hours(window: Window) -> Iterator[datetime]:
    start = window.start
    while start < window.end:
        yield start
        start += HOUR


def _owners_in(value: object, dimension: str) -> tuple[str, ...]:
    """One user, also the one without a name; or every tag, of which a row may hold none or several."""
    return names(value) if dimension == "tag" else (text(value),)


_NO_TRACE = "their traces are not in this span"
_CUT_OFF = "an hour of users is asked about without its last millisecond"


def _unowned(tally: Tally, dimension: str, reason: str) -> list[str]:
    """A sentence when the parts are not the whole."""
    whole, parts = tally.amount("", "requests"), tally.amount(dimension, "requests")
    if parts >= whole:
        return []
    return [f"of {whole} requests, {whole - parts} are given to no {dimension}: {reason}"]


def _amount(row: Row, measure: MeasureRow, gaps: list[str]) -> Decimal | int | None:
    return _read(row, measure.column, measure.convert, gaps)


def _read(
    row: Row, column: str, convert: Callable[[object], Decimal | int | None], gaps: list[str]
) -> Decimal | int | None:
    """The amount, or None where the server gives none; what cannot be read is said."""
    told = row.get(column)
    amount = convert(told)
    if amount is None and told is not None:
        gaps.append(f"{column} of a row is no number: {plain_text(str(told), 40)!r}")
    return amount

"""The metrics endpoints of the simulated Langfuse: queries refused and answered as the real ones are.

Rules: Langfuse packages/shared/src/features/query (dataModel.ts, queryBuilder.ts, validateQuery.ts) and
web/src/pages/api/public/(v2/)metrics. Both ends of a span belong to it. Without an order, hours without data are filled
in with rows of zeros, and count against the limit. ClickHouse's UInt64 and decimals become strings.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sample_data.cluster import SimulatedCluster
from sample_data.langfuse_store import Observed, arrived, cost_details_nano, iso, observed, session_lead, usage_details
from sample_data.model_use import NANO

DEFAULT_ROW_LIMIT = 100
MAX_ROW_LIMIT = 1_000
HOUR = timedelta(hours=1)

_DIMENSIONS = ("environment", "providedModelName", "userId", "tags", "usageType", "costType", "type", "name")
_HIGH_CARDINALITY = ("userId",)
_PAIRS = {"usageByType": "usageType", "costByType": "costType"}
_MEASURES = ("count", "inputTokens", "outputTokens", "totalTokens", "totalCost", *_PAIRS)
_JOINED_BY_TRACE = ("userId", "tags")


class BadQuery(ValueError):
    """A query that the server refuses with 400; the text is its message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query, checked."""

    start: datetime
    end: datetime
    dimensions: tuple[str, ...]
    measures: tuple[tuple[str, str], ...]
    by_hour: bool
    is_ordered: bool
    row_limit: int | None


def parse(text: str, *, is_v2: bool) -> Query:
    """The query as the server understands it; raises BadQuery."""
    try:
        told = json.loads(text)
        asked = Query(
            start=_moment(told["fromTimestamp"]),
            end=_moment(told["toTimestamp"]),
            dimensions=tuple(each["field"] for each in told.get("dimensions") or ()),
            measures=tuple((each["measure"], each["aggregation"]) for each in told["metrics"]),
            by_hour=told.get("timeDimension") is not None,
            is_ordered=bool(told.get("orderBy")),
            row_limit=(told.get("config") or {}).get("row_limit", DEFAULT_ROW_LIMIT if is_v2 else None),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadQuery("Invalid request data") from error
    _check(asked, told, is_v2=is_v2)
    return asked


def _check(asked: Query, told: Mapping[str, Any], *, is_v2: bool) -> None:
    if told.get("view") != "observations":
        raise BadQuery(f"View '{told.get('view')}' is not supported here.")
    known = _DIMENSIONS if is_v2 else tuple(each for each in _DIMENSIONS if each not in _PAIRS.values())
    for field in asked.dimensions:
        if field not in known:
            raise BadQuery(f"Invalid dimension {field}. Must be one of {', '.join(known)}")
    for measure, _ in asked.measures:
        if measure not in _MEASURES or (measure in _PAIRS and not is_v2):
            raise BadQuery(f"Invalid metric {measure}. Must be one of {', '.join(_MEASURES)}")
    if asked.row_limit is not None and not 1 <= asked.row_limit <= MAX_ROW_LIMIT:
        raise BadQuery("Invalid request data")
    high = [field for field in asked.dimensions if field in _HIGH_CARDINALITY]
    if is_v2 and high and asked.by_hour:
        raise BadQuery(f"High cardinality dimension(s) '{', '.join(high)}' cannot be used with timeDimension.")
    has_order = any(each.get("direction") == "desc" for each in told.get("orderBy") or ())
    if is_v2 and high and not ("row_limit" in (told.get("config") or {}) and has_order):
        raise BadQuery(
            f"High cardinality dimension(s) '{', '.join(high)}' require both 'config.row_limit' and 'orderBy'."
        )


def rows(cluster: SimulatedCluster, asked: Query, now: datetime, *, is_v2: bool) -> list[dict[str, Any]]:
    """The answer's rows, in order and cut at the limit."""
    groups: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for hour, start, end in _spans(asked):
        for one in observed(cluster, start, end, now):
            if not is_v2 and set(asked.dimensions) & set(_JOINED_BY_TRACE):
                # the first API finds users and tags by the trace, and only of traces that began within the span
                first = max(start, asked.start + session_lead(one.caller))
                one = replace(one, use=arrived(one.place, one.caller, first, end, now))
                if not one.use.requests:
                    continue
            for values, amounts in _expanded(one, asked.dimensions):
                for measure, amount in amounts.items():
                    groups[(hour if asked.by_hour else None, *values)][measure] += amount
    answer = [_row(asked, key, amounts, is_v2=is_v2) for key, amounts in groups.items()]
    if asked.by_hour and not asked.is_ordered:
        answer += [_filler(asked, hour) for hour, _, _ in _spans(asked) if all(key[0] != hour for key in groups)]
    measure, aggregation = asked.measures[0]
    answer.sort(key=lambda row: json.dumps([row.get(field) for field in asked.dimensions]))
    if asked.by_hour:
        answer.sort(key=lambda row: str(row["time_dimension"]))
    else:
        answer.sort(key=lambda row: float(row[f"{aggregation}_{measure}"]), reverse=True)
    return answer[: asked.row_limit]


def _spans(asked: Query) -> list[tuple[datetime, datetime, datetime]]:
    """Hours of the query, each with the part of it that was asked for; the whole query where no time is asked for."""
    if not asked.by_hour:
        return [(asked.start, asked.start, asked.end)]
    spans = []
    hour = asked.start.replace(minute=0, second=0, microsecond=0)
    while hour <= asked.end:
        spans.append((hour, max(hour, asked.start), min(hour + HOUR, asked.end)))
        hour += HOUR
    return spans


def _expanded(one: Observed, dimensions: tuple[str, ...]) -> list[tuple[tuple[Any, ...], dict[str, int]]]:
    """The groups that a sum belongs to, with its amounts: one, or one per key of its details."""
    usage, costs = usage_details(one.use), cost_details_nano(one.deployment, one.use)
    plain = {
        "count": one.use.requests,
        "inputTokens": one.use.prompt_tokens,
        "outputTokens": one.use.generation_tokens,
        "totalTokens": usage["total"],
        "totalCost": costs["total"],
    }
    values = {
        "environment": one.caller.environment,
        "providedModelName": one.deployment.model,
        "userId": one.caller.user,
        "tags": json.dumps(one.caller.tags),
        "type": "GENERATION",
        "name": None,
    }
    for measure, dimension in _PAIRS.items():
        if dimension in dimensions:
            details = usage if measure == "usageByType" else costs
            return [
                (tuple({**values, dimension: key}[field] for field in dimensions), {**plain, measure: amount})
                for key, amount in details.items()
            ]
    return [(tuple(values[field] for field in dimensions), plain)]


def _row(asked: Query, key: tuple[Any, ...], amounts: Mapping[str, int], *, is_v2: bool) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(asked.dimensions, key[1:], strict=True))
    if "tags" in row:
        row["tags"] = json.loads(row["tags"])
    if asked.by_hour:
        row["time_dimension"] = iso(key[0])
    for measure, aggregation in asked.measures:
        row[f"{aggregation}_{measure}"] = _written(measure, amounts.get(measure, 0), is_v2=is_v2)
    return row


def _filler(asked: Query, hour: datetime) -> dict[str, Any]:
    return {
        **dict.fromkeys(asked.dimensions),
        "time_dimension": iso(hour),
        **{f"{aggregation}_{measure}": "0" for measure, aggregation in asked.measures},
    }


def _written(measure: str, amount: int, *, is_v2: bool) -> str | float:
    """Counts and tokens as strings; money as a number from the second API and as a decimal string from the first."""
    if measure not in ("totalCost", "costByType"):
        return str(amount)
    return amount / NANO if is_v2 else f"{amount // NANO}.{amount % NANO:09d}"


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time needs a zone")
    return at.astimezone(UTC)

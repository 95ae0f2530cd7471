"""A Langfuse made by hand for one test: each endpoint answers what the test says."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from collectors.langfuse.api import LangfuseApi
from collectors.langfuse.call_budget import CallBudget
from collectors.langfuse.collector import LangfuseCollector
from collectors.langfuse.config import LangfuseConfig
from collectors.langfuse.windows import Window
from planner.token_usage import TokenUsage
from tests.collectors.json_web import JsonWeb, Query, Reply, Told

NOW = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)

BASE = "/api/public"
HEALTH, V2, V1, DAILY = (f"{BASE}/{road}" for road in ("health", "v2/metrics", "metrics", "metrics/daily"))
OBSERVATIONS_V2, OBSERVATIONS_V1 = f"{BASE}/v2/observations", f"{BASE}/observations"

ABSENT = Reply({"message": "This endpoint is not available", "error": "LangfuseNotFoundError"}, 404)
VERSION: Told = {"version": "4.16.0", "status": "OK"}


def at(hour: int, minute: int = 0, *, day: int = 16) -> datetime:
    """A moment of the day on which the tests play."""
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def window(first: int = 8, last: int = 10) -> Window:
    """[first, last) o'clock."""
    return Window(at(first), at(last))


def config(web: JsonWeb, **keys: Any) -> LangfuseConfig:
    settings = {"public_key": "pk-lf-1", "secret_key": "sk-lf-hush", "details": False, "dimensions": (), **keys}
    return LangfuseConfig(name="it", url=web.url, **settings)


def api(web: JsonWeb, *, clock: Callable[[], datetime] = lambda: NOW, **keys: Any) -> LangfuseApi:
    settings = config(web, **keys)
    return LangfuseApi(settings, CallBudget(settings.calls_per_day), clock)


def collector(web: JsonWeb, **keys: Any) -> LangfuseCollector:
    return LangfuseCollector(config(web, **keys))


def row(hour: int | str | None, model: str | None = "m", **given: Any) -> dict[str, Any]:
    """A row of a metrics endpoint as ClickHouse writes it: counts as strings."""
    amounts = {
        "count_count": "2",
        "sum_inputTokens": "30",
        "sum_outputTokens": "12",
        "sum_totalTokens": "42",
        "sum_totalCost": 0.25,
    }
    told: dict[str, Any] = {"providedModelName": model, **amounts, **given}
    if hour is not None:
        told["time_dimension"] = f"2026-11-16T{hour:02d}:00:00.000Z" if isinstance(hour, int) else hour
    return told


def asked_span(query: Query) -> tuple[datetime, datetime]:
    """Both ends of the span that a metrics query names."""
    told = asked_query(query)
    return datetime.fromisoformat(told["fromTimestamp"]), datetime.fromisoformat(told["toTimestamp"])


def asked_query(query: Query) -> dict[str, Any]:
    """The JSON of a metrics query."""
    told: dict[str, Any] = json.loads(query["query"])
    return told


def requests_by_hour(usage: tuple[TokenUsage, ...], dimension: str = "") -> dict[tuple[int, str, str], int | None]:
    """Hour, model and owner to requests."""
    return {(one.start.hour, one.model, one.owner): one.requests for one in usage if one.dimension == dimension}

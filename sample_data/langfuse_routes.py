"""The simulated Langfuse over HTTP, in the editions that are in the field, each under a path of its own.

What refuses and how: Langfuse web/src/features/public-api/server (createAuthedProjectAPIRoute.ts, RateLimitService.ts,
deprecations.ts).
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sample_data.cluster import SimulatedCluster
from sample_data.fault_responses import HANG_S, fault_response
from sample_data.faults import CHANGES_OF_PROCESS, Faults
from sample_data.langfuse_query import BadQuery, parse, rows
from sample_data.langfuse_store import cost_details_nano, newest_first, observed, usage_details
from sample_data.model_use import NANO
from sample_data.named_faults import fault_routes

PATH = "/langfuse"
"""Where all editions lie."""
PUBLIC_KEY = "pk-lf-simulated"
SECRET_KEY = "sk-lf-simulated"  # noqa: S105  the simulation's, and written here for everyone
DAY = timedelta(days=1)

Clock = Callable[[], datetime]


class Edition(StrEnum):
    """A Langfuse as it is run somewhere."""

    V4 = "v4"  # self-hosted, events_only: the first API's reads are gone
    V3 = "v3"  # self-hosted: the second API is not there
    V2 = "v2"  # before the metrics API: days and observations only
    CLOUD = "cloud"  # both APIs, the first deprecated, with the limits of the smallest plan


_VERSIONS = {Edition.V4: "4.16.0", Edition.V3: "3.143.0", Edition.V2: "2.95.11", Edition.CLOUD: "4.16.1"}
_NOT_IN_EVENTS_ONLY = (
    "This endpoint is not available on deployments running in Langfuse v4 events_only mode. "
    "Learn more about Langfuse v4 at: https://langfuse.com/docs/v4"
)
_NOT_YET = "v2 APIs are currently in beta and only available on Langfuse Cloud"
_ROADS: dict[Edition, tuple[str, ...]] = {
    Edition.V4: ("v2/metrics", "v2/observations"),
    Edition.V3: ("metrics", "metrics/daily", "observations"),
    Edition.V2: ("metrics/daily", "observations"),
    Edition.CLOUD: ("v2/metrics", "v2/observations", "metrics", "metrics/daily", "observations"),
}
_CLOUD_LIMITS = {"metrics": (100, DAY), "v2/metrics": (100, DAY), "metrics/daily": (10, DAY)}
_API_LIMIT = (30, timedelta(minutes=1))


@dataclass(slots=True)
class _Limits:
    """Calls of the smallest plan of Langfuse Cloud so far, by endpoint; the last of a limit is refused too."""

    calls: dict[str, tuple[datetime, int]] = field(default_factory=dict)

    def refusal(self, road: str, now: datetime) -> Response | None:
        """The answer to a call too many, else None."""
        points, span = _CLOUD_LIMITS.get(road, _API_LIMIT)
        begun, used = self.calls.get(road, (now, 0))
        if now >= begun + span:
            begun, used = now, 0
        self.calls[road] = (begun, used + 1)
        if used + 1 < points:
            return None
        wait_s = (begun + span - now).total_seconds()
        return JSONResponse(
            {"message": "Rate limit exceeded", "error": "RateLimitError"},
            429,
            {
                "Retry-After": str(int(-(-wait_s // 1))),
                "X-RateLimit-Limit": str(points),
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": f"{begun + span:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)",
            },
        )


def routes(
    cluster: SimulatedCluster, clock: Clock, faults: Faults, *, allow_faults: bool = False, hang_s: float = HANG_S
) -> list[Route]:
    """The routes of every edition; a fault is set under `langfuse/EDITION`."""
    faults.also([f"langfuse/{edition}" for edition in Edition])
    limits = _Limits()

    def edition_of(request: Request) -> Edition:
        try:
            return Edition(request.path_params["edition"])
        except ValueError:
            raise HTTPException(404, f"There is no such Langfuse; there are: {', '.join(Edition)}.") from None

    async def health(request: Request) -> Response:
        return JSONResponse({"version": _VERSIONS[edition_of(request)], "status": "OK"})

    async def answer(request: Request) -> Response:
        edition, road = edition_of(request), request.path_params["road"]
        fault = faults.of(f"langfuse/{edition}")
        if fault is not None and fault.kind not in CHANGES_OF_PROCESS:
            return await fault_response(fault.kind, lambda: '{"data": [{"time_', hang_s=hang_s)
        if road not in _ROADS[edition]:
            return _absent(edition, road)
        if not _may(request):
            return JSONResponse(
                {"message": "Invalid credentials. Confirm that you've configured the correct host."}, 401
            )
        refusal = limits.refusal(road, clock()) if edition is Edition.CLOUD else None
        if refusal is not None:
            return refusal
        try:
            told = _ANSWERS[road](cluster, request, clock())
        except BadQuery as error:
            return JSONResponse({"message": str(error), "error": "InvalidRequestError"}, 400)
        if edition is Edition.CLOUD and not road.startswith("v2/"):
            told["_deprecation"] = {"message": "Langfuse v3 is deprecated.", "sunsetAt": "2026-11-16"}
        return JSONResponse(told)

    base = f"{PATH}/{{edition}}/api/public"
    found = [Route(f"{base}/health", health), Route(f"{base}/{{road:path}}", answer)]
    if allow_faults:
        found += fault_routes(
            "/faults/langfuse/{edition}", lambda request: f"langfuse/{edition_of(request)}", faults, clock
        )
    return found


def _absent(edition: Edition, road: str) -> Response:
    if edition is Edition.V4 and road in _ROADS[Edition.V3]:
        return JSONResponse({"message": _NOT_IN_EVENTS_ONLY}, 404)
    if road.startswith("v2/") and edition is Edition.V3:
        return JSONResponse({"message": _NOT_YET, "error": "LangfuseNotFoundError"}, 404)
    return Response("<!DOCTYPE html><html><head><title>404</title></head></html>", 404, media_type="text/html")


def _may(request: Request) -> bool:
    expected = base64.b64encode(f"{PUBLIC_KEY}:{SECRET_KEY}".encode()).decode()
    return request.headers.get("authorization") == f"Basic {expected}"


def _metrics(cluster: SimulatedCluster, request: Request, now: datetime, *, is_v2: bool) -> dict[str, Any]:
    asked = parse(request.query_params.get("query", ""), is_v2=is_v2)
    return {"data": rows(cluster, asked, now, is_v2=is_v2)}


def _daily(cluster: SimulatedCluster, request: Request, now: datetime) -> dict[str, Any]:
    start, end = _time(request, "fromTimestamp"), _time(request, "toTimestamp")
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    days = []
    while day <= end:
        models: dict[str, dict[str, Any]] = {}
        for one in observed(cluster, max(day, start), min(day + DAY, end), now):
            model = models.setdefault(one.deployment.model or "", {"model": one.deployment.model})
            usage = usage_details(one.use)
            for name, amount in (
                ("inputUsage", one.use.prompt_tokens),
                ("outputUsage", one.use.generation_tokens),
                ("totalUsage", usage["total"]),
                ("countObservations", one.use.requests),
                ("countTraces", one.use.requests),
                ("totalCost", cost_details_nano(one.deployment, one.use)["total"]),
            ):
                model[name] = model.get(name, 0) + amount
        for model in models.values():
            model["totalCost"] = model["totalCost"] / NANO
        if models:
            days.append({"date": f"{day:%Y-%m-%d}", "usage": list(models.values())})
        day += DAY
    return _numbered(list(reversed(days)), request)


def _observations_v1(cluster: SimulatedCluster, request: Request, now: datetime) -> dict[str, Any]:
    span = _time(request, "fromStartTime"), _time(request, "toStartTime")
    count = sum(one.use.requests for one in observed(cluster, *span, now))
    number, size = _whole(request, "page", 1, 10**9), _whole(request, "limit", 50, 100)
    page = islice(newest_first(cluster, *span, now), (number - 1) * size, number * size)
    hidden = ("userId", "tags", "providedModelName", "totalCost")  # of the trace, or of the second API only
    data = [{key: told[key] for key in told if key not in hidden} for _, told in page]
    return {"data": data, "meta": _page_meta(number, size, count)}


def _observations_v2(cluster: SimulatedCluster, request: Request, now: datetime) -> dict[str, Any]:
    start, end = _time(request, "fromStartTime"), _time(request, "toStartTime")
    size = _whole(request, "limit", 50, 1_000)
    last = _cursor(request)
    if last is not None:
        end = min(end, last[0])
    beyond = (one for one in newest_first(cluster, start, end, now) if last is None or (one[0], one[1]["id"]) < last)
    page = list(islice(beyond, size + 1))
    data = [{key: told[key] for key in told if key != "model"} for _, told in page[:size]]
    if len(page) <= size:
        return {"data": data, "meta": {}}
    at, told = page[size - 1]
    cursor = json.dumps({"v": 1, "lastStartTimeTo": at.isoformat(), "lastId": told["id"]})
    return {"data": data, "meta": {"cursor": base64.b64encode(cursor.encode()).decode()}}


def _cursor(request: Request) -> tuple[datetime, str] | None:
    if "cursor" not in request.query_params:
        return None
    try:
        told = json.loads(base64.b64decode(request.query_params["cursor"]))
        return datetime.fromisoformat(told["lastStartTimeTo"]), str(told["lastId"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadQuery("Invalid cursor format") from error


def _page_meta(number: int, size: int, count: int) -> dict[str, int]:
    return {"page": number, "limit": size, "totalItems": count, "totalPages": -(-count // size)}


def _numbered(items: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    number, size = _whole(request, "page", 1, 10**9), _whole(request, "limit", 50, 100)
    start = (number - 1) * size
    return {"data": items[start : start + size], "meta": _page_meta(number, size, len(items))}


def _whole(request: Request, name: str, default: int, most: int) -> int:
    try:
        value = int(request.query_params.get(name, str(default)))
    except ValueError as error:
        raise BadQuery("Invalid request data") from error
    if not 1 <= value <= most:
        raise BadQuery("Invalid request data")
    return value


def _time(request: Request, name: str) -> datetime:
    try:
        at = datetime.fromisoformat(request.query_params[name])
    except (KeyError, ValueError) as error:
        raise BadQuery("Invalid request data") from error
    if at.tzinfo is None:
        raise BadQuery("Invalid request data")
    return at


_ANSWERS: dict[str, Callable[[SimulatedCluster, Request, datetime], dict[str, Any]]] = {
    "v2/metrics": lambda cluster, request, now: _metrics(cluster, request, now, is_v2=True),
    "metrics": lambda cluster, request, now: _metrics(cluster, request, now, is_v2=False),
    "metrics/daily": _daily,
    "v2/observations": _observations_v2,
    "observations": _observations_v1,
}

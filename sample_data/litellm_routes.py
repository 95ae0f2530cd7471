"""The simulated LiteLLM over HTTP: it wants a key, redirects `/metrics` to `/metrics/`, and pages its daily figures."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sample_data.cluster import SimulatedCluster
from sample_data.fault_responses import HANG_S, fault_response
from sample_data.faults import CHANGES_OF_PROCESS, Faults
from sample_data.litellm_gateway import SCOPES, DailyRow, Scope, activity, daily_rows, metrics_page
from sample_data.named_faults import fault_routes
from sample_data.prometheus_text import CONTENT_TYPE

PATH = "/litellm"
"""Where the gateway lies."""
KEY = "sk-simulated-admin-viewer"
"""The key that the simulated gateway takes."""
FAULT_NAME = "litellm"
TOP_KEYS = 100
"""Keys that the aggregated endpoint lists unless it is told another number."""

Clock = Callable[[], datetime]


@dataclass(slots=True)
class _Scrapes:
    """How many scrapes were refused: LiteLLM counts them among its failed requests."""

    refused: int = 0


def routes(
    cluster: SimulatedCluster, clock: Clock, faults: Faults, *, allow_faults: bool = False, hang_s: float = HANG_S
) -> list[Route]:
    """The routes of the gateway; its fault is set under `litellm`."""
    faults.also([FAULT_NAME])
    scrapes = _Scrapes()

    async def redirect(request: Request) -> Response:
        return RedirectResponse(f"{PATH}/metrics/", 307)

    async def metrics(request: Request) -> Response:
        if not _may(request):
            scrapes.refused += 1
            return _unauthorized()
        fault = faults.of(FAULT_NAME)

        def page() -> str:
            return metrics_page(
                cluster,
                clock(),
                address=request.url.netloc,
                since=_restarted_at(faults),
                refused_scrapes=scrapes.refused,
            )

        if fault is not None:
            return await fault_response(fault.kind, page, hang_s=hang_s)
        return Response(page(), media_type=CONTENT_TYPE)

    async def daily(request: Request) -> Response:
        fault = faults.of(FAULT_NAME)
        if fault is not None and fault.kind not in CHANGES_OF_PROCESS:
            return await fault_response(fault.kind, lambda: "", hang_s=hang_s)
        scope = SCOPES.get(request.path_params["scope"])
        if scope is None:
            return JSONResponse({"detail": "Not Found"}, 404)
        if not _may(request):
            return _unauthorized()
        given = request.query_params
        try:
            first, last = date.fromisoformat(given["start_date"]), date.fromisoformat(given["end_date"])
            number, size = int(given.get("page", "1")), int(given.get("page_size", "10"))
        except (KeyError, ValueError):
            return JSONResponse({"detail": {"error": "Please provide start_date and end_date"}}, 400)
        rows = _asked_for(daily_rows(cluster, first, last, clock()), scope, given.get(scope.parameter))
        if "aggregated" in request.url.path:
            return JSONResponse(_whole(rows, scope, int(given.get("api_key_limit", str(TOP_KEYS)))))
        return JSONResponse(_page(rows, scope, number, size))

    found = [
        Route(f"{PATH}/metrics", redirect),
        Route(f"{PATH}/metrics/", metrics),
        Route(f"{PATH}/{{scope}}/daily/activity", daily),
        Route(f"{PATH}/{{scope}}/daily/activity/aggregated", daily),
    ]
    if allow_faults:
        found += fault_routes("/faults/gateways/litellm", lambda request: FAULT_NAME, faults, clock)
    return found


def _may(request: Request) -> bool:
    return request.headers.get("authorization") == f"Bearer {KEY}"


def _unauthorized() -> Response:
    told = {"error": {"message": "Authentication Error, No api key passed in.", "type": "auth_error", "code": "401"}}
    return JSONResponse(told, 401)


def _restarted_at(faults: Faults) -> datetime | None:
    process = faults.process_of(FAULT_NAME)
    return process.since if process is not None else None


def _asked_for(rows: list[DailyRow], scope: Scope, wanted: str | None) -> list[DailyRow]:
    """The rows of some owners (separated by commas), or all."""
    if wanted is None:
        return rows
    names = set(wanted.split(","))
    return [row for row in rows if names & set(scope.owners(row))]


def _page(rows: list[DailyRow], scope: Scope, number: int, size: int) -> dict[str, object]:
    start = (number - 1) * size
    return {
        "results": activity(rows[start : start + size], scope),
        "metadata": {
            "page": number,
            "total_pages": -(-len(rows) // size),
            "has_more": start + size < len(rows),
        },
    }


def _whole(rows: list[DailyRow], scope: Scope, limit: int) -> dict[str, object]:
    """Everything in one piece; keys beyond the limit are missing from the lists of keys, not from the totals."""
    spend: dict[str, int] = {}
    for row in rows:
        spend[row.caller.key_hash] = spend.get(row.caller.key_hash, 0) + row.use.cost_nano(row.deployment)
    kept = set(sorted(spend, key=lambda key: -spend[key])[:limit])
    days = activity(rows, scope)
    for day in days:
        for model in day["breakdown"]["models"].values():
            keys = model["api_key_breakdown"]
            model["api_key_breakdown"] = {key: part for key, part in keys.items() if key in kept}
    return {
        "results": days,
        "metadata": {
            "page": 1,
            "total_pages": 1,
            "has_more": False,
            "api_key_limit": limit,
            "total_api_keys": len(spend),
        },
    }

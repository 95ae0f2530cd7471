"""What the simulated Langfuse knows: one observation per request, some of which arrive late.

An observation begins, for the trace store, when its request ended; so any span of time holds what the engines counted
in it. One caller in eight sends its traces 40 minutes late (`Caller.trace_delay`), another one works in sessions whose
trace began long before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sample_data.cluster import SimulatedCluster
from sample_data.deployments import Deployment
from sample_data.model_use import NANO, Caller, Use, caller_of, callers, price_nano, use_between
from sample_data.request_shapes import FinishReason
from sample_data.serving_state import ServingPod, requests_between, serving_pods

SESSION = timedelta(minutes=20)
"""How long before its observations the trace of a session began."""
_IN_SESSIONS = 3
"""The caller who works in sessions."""
_STEP = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What one caller's traces say of one model in one span of time."""

    start: datetime
    place: ServingPod
    caller: Caller
    use: Use

    @property
    def deployment(self) -> Deployment:
        """Whose model it is."""
        return self.place.deployment


def observed(cluster: SimulatedCluster, start: datetime, end: datetime, now: datetime) -> Iterator[Observed]:
    """The sums of a span as far as their traces have arrived, per server and caller; nothing that is still to come."""
    for place in serving_pods(cluster):
        for caller in callers(place.deployment):
            use = arrived(place, caller, start, end, now)
            if use.requests:
                yield Observed(start=start, place=place, caller=caller, use=use)


def arrived(place: ServingPod, caller: Caller, start: datetime, end: datetime, now: datetime) -> Use:
    """What one caller's traces say of one server, as far as they have arrived."""
    return use_between(place, start, min(end, now - caller.trace_delay), caller.index)


def session_lead(caller: Caller) -> timedelta:
    """How long before its observations a caller's trace began."""
    return SESSION if caller.index == _IN_SESSIONS else timedelta(0)


def usage_details(use: Use) -> dict[str, int]:
    """Tokens by the keys that the simulated applications report: cached ones are not among `input`."""
    fresh = use.prompt_tokens - use.cached_tokens
    return {
        "input": fresh,
        "input_cached_tokens": use.cached_tokens,
        "output": use.generation_tokens,
        "total": use.prompt_tokens + use.generation_tokens,
    }


def cost_details_nano(deployment: Deployment, use: Use) -> dict[str, int]:
    """Billionths of a dollar by the same keys."""
    price_in, price_out = price_nano(deployment)
    return {
        "input": (use.prompt_tokens - use.cached_tokens) * price_in,
        "input_cached_tokens": use.cached_tokens * price_in // 2,
        "output": use.generation_tokens * price_out,
        "total": use.cost_nano(deployment),
    }


def newest_first(
    cluster: SimulatedCluster, start: datetime, end: datetime, now: datetime
) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """Every observation of a span that has arrived, with all fields of both APIs; made as it is asked for."""
    until = min(end, now)
    while until > start:
        since = max(start, until - _STEP)
        found = [
            (at, told)
            for place in serving_pods(cluster)
            for at, told in _of_server(place, max(since, place.started_at), until, now)
        ]
        yield from sorted(found, key=lambda one: (one[0], one[1]["id"]), reverse=True)
        until = since


def _of_server(
    place: ServingPod, start: datetime, end: datetime, now: datetime
) -> Iterator[tuple[datetime, dict[str, Any]]]:
    if end <= start:
        return
    known = callers(place.deployment)
    for request in requests_between(place, start, end):
        caller = known[caller_of(place.deployment, request.shape)]
        at = request.finished_at
        if at + caller.trace_delay > now:
            continue
        use = Use(
            requests=1,
            failed=int(request.shape.reason is FinishReason.ERROR),
            prompt_tokens=request.shape.prompt_tokens,
            cached_tokens=request.shape.cached_tokens,
            generation_tokens=request.shape.generation_tokens,
        )
        costs = {key: nano / NANO for key, nano in cost_details_nano(place.deployment, use).items()}
        yield (
            at,
            {
                "id": f"{place.pod.uid}-{request.number}",
                "traceId": f"trace-{place.pod.uid}-{request.number}",
                "projectId": "simulated",
                "type": "GENERATION",
                "startTime": iso(at),
                "endTime": iso(at),
                "model": place.model,
                "providedModelName": place.model,
                "environment": caller.environment,
                "userId": caller.user,
                "tags": list(caller.tags),
                "usageDetails": usage_details(use),
                "costDetails": costs,
                "totalCost": costs["total"],
                "level": "ERROR" if use.failed else "DEFAULT",
            },
        )


def iso(at: datetime) -> str:
    """As Langfuse writes times: UTC, milliseconds, Z."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"

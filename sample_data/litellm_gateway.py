"""What the simulated LiteLLM counts: one gateway in front of every model, its `/metrics` and its daily rows.

Names and labels: litellm/types/integrations/prometheus.py and .../common_daily_activity.py of 1.109.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from sample_data.cluster import EPOCH, SimulatedCluster
from sample_data.deployments import DEPLOYMENTS, Deployment, Engine
from sample_data.model_use import NANO, Caller, Use, added, callers, use_between
from sample_data.prometheus_text import Page, labels
from sample_data.serving_endpoints import pod_path
from sample_data.serving_state import ServingPod, serving_pods

STARTED_AT = EPOCH + timedelta(days=30)
"""When the gateway's process started, so long as it was not restarted on purpose."""

_PROVIDERS = {Engine.VLLM: "hosted_vllm", Engine.OLLAMA: "ollama_chat", Engine.TEI: "openai"}
_HELP = "Simulated."
_UNKNOWN = {
    **dict.fromkeys(("api_key_alias", "api_provider", "end_user", "team", "team_alias", "user", "user_email"), "None"),
    "hashed_api_key": "",
    "requested_model": "",
}
"""Labels of a request about no model, by nobody: LiteLLM writes None where it knows nothing."""
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyRow:
    """One row of the gateway's daily tables: what one caller asked of one model on one day of UTC."""

    day: date
    deployment: Deployment
    caller: Caller
    use: Use


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One of the daily endpoints: whose rows they are, and what its entries are called."""

    parameter: str  # that asks for some of them

    def owners(self, row: DailyRow) -> tuple[str, ...]:
        """Whom a row belongs to; a request with several tags is a row of each."""
        match self.parameter:
            case "team_ids":
                return (team_id(row.caller.team),)
            case "user_id":
                return (row.caller.email,)
            case _:
                return (*row.caller.tags, "User-Agent: simulated/1.0")

    def metadata(self, owner: str) -> dict[str, str]:
        """What is told of an owner beside its figures."""
        return {"team_alias": owner.removeprefix("team-")} if self.parameter == "team_ids" else {}


SCOPES = {"user": Scope(parameter="user_id"), "team": Scope(parameter="team_ids"), "tag": Scope(parameter="tags")}


def team_id(team: str) -> str:
    """The id of a team; its name is the alias."""
    return f"team-{team}"


def provider(deployment: Deployment) -> str:
    """What LiteLLM calls the kind of server."""
    return _PROVIDERS[deployment.engine]


def api_base(place: ServingPod, address: str) -> str:
    """Where the gateway sends requests for a pod; `address` is the simulator's."""
    base = f"http://{address}{pod_path(place.pod)}"
    return base if place.deployment.engine is Engine.OLLAMA else f"{base}/v1"


def metrics_page(
    cluster: SimulatedCluster, at: datetime, *, address: str, since: datetime | None = None, refused_scrapes: int = 0
) -> str:
    """The body of a scrape; `since` replaces the start of the process, `refused_scrapes` were asked without a key."""
    started_at = since or STARTED_AT
    page = Page(created_at=started_at)
    plain = Page()
    plain.gauge("process_start_time_seconds", _HELP, [("", started_at.timestamp())])
    sums = list(_sums(cluster, started_at, at))
    asked = [
        ({**_request_labels(deployment, caller), "status_code": "200"}, use.requests)
        for deployment, caller, use in sums
    ]
    failed = [
        ({**_request_labels(deployment, caller), "exception_status": "500"}, use.failed)
        for deployment, caller, use in sums
        if use.failed
    ]
    if refused_scrapes:
        asked.append(({**_UNKNOWN, "route": "/metrics/", "status_code": "None"}, refused_scrapes))
        failed.append(({**_UNKNOWN, "route": "/metrics/", "exception_status": "401"}, refused_scrapes))
    used = [
        (labels({**_request_labels(deployment, caller), "model": deployment.model or ""}), deployment, use)
        for deployment, caller, use in sums
    ]
    counters: tuple[tuple[str, list[tuple[str, float]]], ...] = (
        ("litellm_proxy_total_requests_metric_total", [(labels(named), count) for named, count in asked]),
        ("litellm_proxy_failed_requests_metric_total", [(labels(named), count) for named, count in failed]),
        (
            "litellm_spend_metric_total",
            [(named, use.cost_nano(deployment) / NANO) for named, deployment, use in used],
        ),
        ("litellm_input_tokens_metric_total", [(named, use.prompt_tokens) for named, _, use in used]),
        ("litellm_output_tokens_metric_total", [(named, use.generation_tokens) for named, _, use in used]),
        (
            "litellm_total_tokens_metric_total",
            [(named, use.prompt_tokens + use.generation_tokens) for named, _, use in used],
        ),
    )
    for name, values in counters:
        page.counter(name, _HELP, values)
    page.counter(
        "litellm_deployment_success_responses_total",
        _HELP,
        [
            (labels(_deployment_labels(place, address)), float(use.requests - use.failed))
            for place in gateway_places(cluster)
            if (use := _all_callers(place, started_at, at)).requests
        ],
    )
    return plain.text() + page.text()


def daily_rows(cluster: SimulatedCluster, first: date, last: date, now: datetime) -> list[DailyRow]:
    """Rows of the days from `first` to `last`, the newest day first; a day that is not over has what came so far."""
    rows: list[DailyRow] = []
    day = last
    while day >= first:
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        until = min(start + DAY, now)
        if until > start:
            rows += _rows_of_day(cluster, start, until)
        day -= DAY
    return rows


@lru_cache(maxsize=512)
def _rows_of_day(cluster: SimulatedCluster, start: datetime, until: datetime) -> tuple[DailyRow, ...]:
    return tuple(
        DailyRow(day=start.date(), deployment=deployment, caller=caller, use=use)
        for deployment, caller, use in _sums(cluster, start, until)
    )


def activity(rows: Sequence[DailyRow], scope: Scope) -> list[dict[str, Any]]:
    """Rows summed up by day as the endpoints answer, whatever stretch of them it is."""
    days: dict[date, dict[str, Any]] = {}
    for row in rows:
        day = days.setdefault(
            row.day, {"date": row.day.isoformat(), "metrics": {}, "breakdown": {"models": {}, "entities": {}}}
        )
        amounts = _amounts(row)
        _add(day["metrics"], amounts)
        model = _part(day["breakdown"]["models"], row.deployment.model or "")
        _add(model["metrics"], amounts)
        key = _part(model["api_key_breakdown"], row.caller.key_hash)
        key["metadata"] = {"key_alias": row.caller.key_alias, "team_id": team_id(row.caller.team)}
        _add(key["metrics"], amounts)
        for owner in scope.owners(row):
            entity = _part(day["breakdown"]["entities"], owner)
            entity["metadata"] = scope.metadata(owner)
            _add(entity["metrics"], amounts)
    return [days[day] for day in sorted(days, reverse=True)]


def _part(breakdown: dict[str, Any], name: str) -> dict[str, Any]:
    part: dict[str, Any] = breakdown.setdefault(name, {"metrics": {}, "metadata": {}, "api_key_breakdown": {}})
    return part


def _add(metrics: dict[str, float], amounts: Mapping[str, float]) -> None:
    for name, amount in amounts.items():
        metrics[name] = metrics.get(name, 0) + amount


def _amounts(row: DailyRow) -> dict[str, float]:
    use = row.use
    return {
        "spend": use.cost_nano(row.deployment) / NANO,
        "prompt_tokens": use.prompt_tokens,
        "completion_tokens": use.generation_tokens,
        "total_tokens": use.prompt_tokens + use.generation_tokens,
        "cache_read_input_tokens": use.cached_tokens,
        "cache_creation_input_tokens": 0,
        "api_requests": use.requests,
        "successful_requests": use.requests - use.failed,
        "failed_requests": use.failed,
    }


def gateway_places(cluster: SimulatedCluster) -> tuple[ServingPod, ...]:
    """The servers that the gateway stands in front of."""
    return tuple(place for place in serving_pods(cluster) if place.deployment.engine in _PROVIDERS)


def _sums(cluster: SimulatedCluster, since: datetime, until: datetime) -> Iterator[tuple[Deployment, Caller, Use]]:
    """What every caller asked of every model, over all its servers."""
    by_deployment: dict[str, list[ServingPod]] = {}
    for place in gateway_places(cluster):
        by_deployment.setdefault(place.deployment.name, []).append(place)
    for name, places in by_deployment.items():
        for caller in callers(DEPLOYMENTS[name]):
            use = added(use_between(place, since, until, caller.index) for place in places)
            if use.requests:
                yield DEPLOYMENTS[name], caller, use


def _all_callers(place: ServingPod, since: datetime, until: datetime) -> Use:
    return added(use_between(place, since, until, caller.index) for caller in callers(place.deployment))


def _request_labels(deployment: Deployment, caller: Caller) -> dict[str, str]:
    """The labels that all metrics of a request share."""
    return {
        "api_key_alias": caller.key_alias,
        "api_provider": provider(deployment),
        "client_ip": caller.client_ip,
        "end_user": "None",
        "hashed_api_key": caller.key_hash,
        "requested_model": deployment.name,
        "route": "/v1/chat/completions",
        "team": team_id(caller.team),
        "team_alias": caller.team,
        "user": caller.email,
        "user_agent": "simulated/1.0",
        "user_email": caller.email,
    }


def _deployment_labels(place: ServingPod, address: str) -> dict[str, str]:
    return {
        "api_base": api_base(place, address),
        "api_provider": provider(place.deployment),
        "litellm_model_name": place.model,
        "model_group": place.deployment.name,
        "requested_model": place.deployment.name,
    }

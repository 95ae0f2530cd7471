"""Who uses the simulated models, how much, and what it costs: the one account that gateway and trace store report from.

Requests are those of `sample_data.serving_state`, dealt out to eight callers by their place in the fixed round. So the
callers of a model add up to what its engine counts, over any span of time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sample_data.deployments import Deployment, Engine
from sample_data.identity import digest
from sample_data.request_shapes import Band, FinishReason, RequestShape, request_round
from sample_data.serving_state import ServingPod, work_between

CALLERS = 8
"""Callers of every model; the length of the round is a multiple of it."""

NANO = 1_000_000_000
"""Prices and costs are whole billionths of a dollar, so that sums are exact."""

_PRICES_NANO: dict[str, tuple[int, int]] = {
    "qwen3-235b": (600, 2_400),
    "llama-70b": (400, 1_200),
    "qwen-coder-32b": (200, 600),
    "mistral-small-24b": (100, 300),
    "mixtral-8x7b-legacy": (240, 240),
    "codellama-34b-old": (200, 600),
}
_SMALL_MODEL_NANO = (50, 150)
_EMBEDDING_NANO = (10, 0)
_PLATFORM_TEAM = "platform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One eighth of a model's requests, as its users are known to the gateway and in the traces."""

    index: int
    team: str
    key_alias: str
    user: str
    environment: str
    tags: tuple[str, ...]
    trace_delay: timedelta  # how late its traces reach the trace store

    @property
    def key_hash(self) -> str:
        """What the gateway keeps of the key."""
        return digest("key", self.team, self.key_alias).hex()

    @property
    def email(self) -> str:
        """Address of the person behind it."""
        return f"{self.user}@example.com"

    @property
    def client_ip(self) -> str:
        """Where its requests come from."""
        return f"10.20.{digest('ip', self.team)[0]}.{10 + self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What was asked for and answered; all requests have their tokens, also those that failed."""

    requests: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    generation_tokens: int

    def cost_nano(self, deployment: Deployment) -> int:
        """What it costs at list price; tokens out of a cache cost half."""
        price_in, price_out = price_nano(deployment)
        fresh = self.prompt_tokens - self.cached_tokens
        return fresh * price_in + self.cached_tokens * price_in // 2 + self.generation_tokens * price_out


def callers(deployment: Deployment) -> tuple[Caller, ...]:
    """The eight callers of a deployment's model; the last belongs to a team that tests what others build."""
    found = []
    for index in range(CALLERS):
        team = _PLATFORM_TEAM if index == CALLERS - 1 else deployment.namespace
        found.append(
            Caller(
                index=index,
                team=team,
                key_alias=f"{team}-batch" if index in (5, 6) else f"{team}-app",
                user=f"{team}-{index // 2 + 1}",
                environment="staging" if index == CALLERS - 1 else "production",
                tags=(("chat",), ("chat", "rag"), (), ("agent",))[index % 4],
                trace_delay=timedelta(minutes=40) if index == 5 else timedelta(0),
            )
        )
    return tuple(found)


def price_nano(deployment: Deployment) -> tuple[int, int]:
    """Billionths of a dollar per prompt token and per generated token; even, so that half of it is whole."""
    if deployment.engine is Engine.TEI:
        return _EMBEDDING_NANO
    return _PRICES_NANO.get(deployment.name, _SMALL_MODEL_NANO)


def use_between(place: ServingPod, since: datetime, until: datetime, caller: int) -> Use:
    """What one caller asked of one server after `since` and up to `until`; nothing before the server started."""
    start = max(since, place.started_at)
    work = work_between(place, start, max(start, until), rank=caller, ranks=CALLERS)
    return Use(
        requests=work.requests,
        failed=work.requests_by_reason[FinishReason.ERROR],
        prompt_tokens=work.prompt_tokens,
        cached_tokens=work.prompt_tokens_cached,
        generation_tokens=work.generation_tokens,
    )


def added(uses: Iterator[Use]) -> Use:
    """Several uses as one."""
    total = Use(requests=0, failed=0, prompt_tokens=0, cached_tokens=0, generation_tokens=0)
    for use in uses:
        total = Use(
            requests=total.requests + use.requests,
            failed=total.failed + use.failed,
            prompt_tokens=total.prompt_tokens + use.prompt_tokens,
            cached_tokens=total.cached_tokens + use.cached_tokens,
            generation_tokens=total.generation_tokens + use.generation_tokens,
        )
    return total


def caller_of(deployment: Deployment, shape: RequestShape) -> int:
    """Which caller sent a request, by its place in the round (`shape` as `requests_between` gives it)."""
    for band in Band:
        for position, known in enumerate(request_round(deployment.name, band)):
            if known is shape:
                return position % CALLERS
    raise ValueError(f"{deployment.name} has no such request.")

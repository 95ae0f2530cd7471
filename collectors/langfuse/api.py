"""Langfuse's public API: each endpoint once, its refusals told apart, its calls counted.

The SDK's typed client asks for health and the second metrics API. It has none of the first API's reads, and its model
of an observation fails a whole page for one amount that is no whole number and does not know `providedModelName`: those
are asked for without it. Only that client is used: nothing of the SDK that records or exports traces is started.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import httpx

from collectors.bounded_http import Answer, BoundedHttp, TooLarge
from collectors.config import target_name
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.langfuse.call_budget import CallBudget
from collectors.langfuse.config import LangfuseConfig, RoadName
from collectors.langfuse.question import Question
from collectors.langfuse.rate_limit import silent_until
from collectors.langfuse.wire import Malformed, Page, read, text

if TYPE_CHECKING:
    from langfuse.api.client import LangfuseAPI

Told = TypeVar("Told")

_CLOSED = (404, 405, 410, 501)
_TOO_MUCH = (413, 422, 524)
"""422 and, from the proxy of Langfuse Cloud, 524: ClickHouse ran out of memory or time (withMiddlewares.ts)."""


class RoadClosed(CollectorError):
    """The server does not have this endpoint, or not in its present mode."""


class TooMuch(CollectorError):
    """The server, or our own limit, wants the question in smaller parts."""


class Refused(CollectorError):
    """The server does not take this question (400)."""


class LangfuseApi:
    """Asks one project; `clock` tells the time of each call."""

    def __init__(self, config: LangfuseConfig, budget: CallBudget, clock: Callable[[], datetime]) -> None:
        self._source = config.name
        self._url = config.url
        self._target = target_name(config.url)
        self._budget = budget
        self._clock = clock
        self._http = BoundedHttp(
            config,
            max_body_bytes=config.max_body_bytes,
            basic_auth=(config.public_key, config.secret_key.get_secret_value()),
        )
        self._sdk: LangfuseAPI | None = None
        self._sdk_client: httpx.Client | None = None
        self.calls = 0
        self.deprecations: dict[str, str] = {}

    @property
    def last(self) -> Answer | None:
        """The last whole answer."""
        return self._http.last

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def version(self) -> str | None:
        """The server's version, or None where it does not say; costs nothing of a plan, and needs no keys."""
        url = f"{self._url}/api/public/health"
        told, answer = self._through_sdk(url, lambda sdk: sdk.health.health(request_options={"max_retries": 0}))
        if told is not None:
            return text(told.version) or None
        if answer.status in _CLOSED:
            return None
        if answer.status != 200:
            raise self._error(answer, "health")
        answered = answer.json()
        return (text(answered.get("version")) or None) if isinstance(answered, dict) else None

    def metrics_v2(self, question: Question) -> Page:
        """`GET /api/public/v2/metrics`."""
        url = f"{self._url}/api/public/v2/metrics"
        self._count()
        told, answer = self._through_sdk(
            url, lambda sdk: sdk.metrics.metrics(query=question.text(), request_options={"max_retries": 0})
        )
        return Page(data=list(told.data)) if told is not None else self._page(answer, RoadName.METRICS_V2)

    def get(self, road: RoadName, params: Mapping[str, str]) -> Page:
        """One of the lists that are asked for without the SDK."""
        self._count()
        return self._page(self._http.get(f"{self._url}/api/public/{road}", params), road)

    def _count(self) -> None:
        self._budget.take(self._clock())
        self.calls += 1

    def _through_sdk(self, url: str, ask: "Callable[[LangfuseAPI], Told]") -> tuple[Told | None, Answer]:
        """What the SDK made of the answer (None where it could make nothing of it), and the answer itself."""
        from langfuse.api.core.api_error import ApiError

        try:
            told = ask(self._client())
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as failure:
            raise self._http.error_of(failure, url) from failure
        except (ApiError, ValueError):  # its text holds headers and the body; the answer itself tells what was wrong
            told = None
        answer = self._http.last
        if answer is None:
            raise Unreachable(f"{target_name(url)} gave no answer.", source=self._source)
        return told, answer

    def _client(self) -> "LangfuseAPI":
        """The SDK's client, imported at the first question: the import takes most of a second."""
        client = self._http.client
        if self._sdk is None or self._sdk_client is not client:
            from langfuse.api.client import LangfuseAPI

            self._sdk, self._sdk_client = LangfuseAPI(base_url=self._url, httpx_client=client), client
        return self._sdk

    def _page(self, answer: Answer, road: RoadName) -> Page:
        if answer.status != 200:
            raise self._error(answer, road)
        try:
            page = read(Page, answer.json())
        except Malformed as error:
            raise BadPayload(
                f"{self._named(road)} answered with JSON that is not Langfuse's ({error}).", source=self._source
            ) from error
        if page.deprecation is not None:
            self.deprecations[road] = page.deprecation.sunset_at
        return page

    def _named(self, endpoint: str) -> str:
        """An endpoint in messages: what a target is called leaves out a last /metrics."""
        return f"{self._target}/api/public/{endpoint}"

    def _error(self, answer: Answer, endpoint: str) -> CollectorError:
        answer = replace(answer, target=self._named(endpoint))
        says = f" It says: {answer.reason}" if answer.reason else ""
        if answer.status == 429:
            until = silent_until(answer.headers, self._clock())
            self._budget.be_silent(until)
            return Unreachable(
                f"{self._target} has had enough questions for its plan (429); the next one is asked after "
                f"{until:%Y-%m-%d %H:%M:%S} UTC. Lower max_calls_per_day, or raise the plan.{says}",
                source=self._source,
            )
        if answer.status in (401, 403):
            return Unauthorized(
                f"{self._target} refuses the keys ({answer.status}): public_key and secret_key_file must be those of "
                f"one project of this server.{says}",
                source=self._source,
            )
        if answer.status in _CLOSED:
            return RoadClosed(f"{answer.target} is not there ({answer.status}).{says}", source=self._source)
        if answer.status in _TOO_MUCH:
            return TooMuch(f"{answer.target} was asked for too much ({answer.status}).{says}", source=self._source)
        if answer.status == 400:
            return Refused(f"{answer.target} does not take the question (400).{says}", source=self._source)
        return answer.error()


def too_much(failure: CollectorError) -> bool:
    """Whether a smaller question would do."""
    return isinstance(failure, (TooMuch, TooLarge))

"""Raw samples out of a Prometheus server, with the times at which Prometheus scraped them.

Range-vector selectors (`name{...}[900s]` at a moment) give what is stored; query_range would give values interpolated
to a grid of its own and hide gaps. prometheus-api-client sends the queries, through a session that is bounded in time
and size.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from pydantic import TypeAdapter, ValidationError
from urllib3.util.retry import Retry

from collectors.config import target_name
from collectors.echoed_secrets import error_without_secrets, secrets_of
from collectors.errors import BadPayload, CollectorError
from collectors.prometheus_config import PrometheusConfig
from collectors.prometheus_samples import Instant, One, Remarks, readable, remarks_of, within
from collectors.prometheus_samples import Series as Series  # what the roads through Prometheus are given
from collectors.prometheus_session import BoundedSession, error_of_exception
from collectors.prometheus_session import WindowTooLarge as WindowTooLarge  # what they have to expect

T = TypeVar("T")

_BELIEVED_S = (946_684_800.0, 32_503_680_000.0)
"""A server's clock is between the years 2000 and 3000, or it is none."""
_LIST: TypeAdapter[list[Any]] = TypeAdapter(list[Any])
_SCALAR = TypeAdapter(tuple[float, str])


class PrometheusReader:
    """Asks one server."""

    def __init__(self, config: PrometheusConfig) -> None:
        self.target = target_name(config.url)
        self._source = config.name
        self._session = BoundedSession(config)
        self._secrets = secrets_of(config)
        self._reasons: dict[str, None] = {}
        self._is_partial = False
        self._client = PrometheusConnect(
            url=config.url,
            session=self._session,
            retry=Retry(total=0, redirect=False),  # the next interval is the next try
        )

    def server_time(self) -> datetime:
        """The server's clock; raises BadPayload when it is none."""
        seconds = self._checked(_SCALAR, self._ask("time()"))[0]
        if not _BELIEVED_S[0] <= seconds <= _BELIEVED_S[1]:  # also where it is no number
            raise BadPayload(
                f"{self.target} tells a time that is none ({seconds:g} s since 1970).", source=self._source
            )
        return datetime.fromtimestamp(seconds, UTC)

    def raw_samples(self, selector: str, *, seconds: int, until: datetime) -> list[Series]:
        """Every stored sample of the series of a selector in the `seconds` before `until`.

        What cannot be read is left out, and said in `remarks`. Raises WindowTooLarge when that is more than the server
        or we can take at once.
        """
        series = self._each(Series, self._ask(f"{selector}[{seconds}s]", at=until))
        series, odd = within(series, since_s=until.timestamp() - seconds, until_s=until.timestamp())
        self._reasons |= dict.fromkeys(odd)
        return series

    def label_sets(self, selector: str, *, seconds: int, until: datetime) -> list[dict[str, str]]:
        """The labels of every series of a selector that had a sample in the `seconds` before `until`."""
        found = self._each(Instant, self._ask(f"max_over_time({selector}[{seconds}s])", at=until))
        return [series.metric for series in found]

    def remarks(self) -> Remarks:
        """What the answers since the last call of this lacked, by their own words or because it could not be read."""
        told = Remarks(reasons=tuple(self._reasons), is_partial=self._is_partial)
        self._reasons, self._is_partial = {}, False
        return told

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def _ask(self, query: str, at: datetime | None = None) -> Any:
        parameters = {} if at is None else {"time": f"{at.timestamp():.3f}"}
        try:
            found = self._client.custom_query(query, params=parameters)
        except (requests.exceptions.RequestException, PrometheusApiClientException, OSError) as failure:
            error = error_of_exception(failure, source=self._source, target=self.target)
            raise error_without_secrets(error, self._secrets) from failure
        except CollectorError as error:
            masked = error_without_secrets(error, self._secrets)
            if masked is error:
                raise
            raise masked from None
        except (KeyError, TypeError) as failure:
            raise BadPayload(
                f"{self.target} answered with JSON that is not Prometheus's; is this a Prometheus server?",
                source=self._source,
            ) from failure
        said = remarks_of(self._session.told)
        self._reasons |= dict.fromkeys(said.reasons)
        self._is_partial = self._is_partial or said.is_partial
        return found

    def _each(self, shape: type[One], answer: Any) -> list[One]:
        """Every series that can be read; raises BadPayload when there are some and none can."""
        try:
            read, reasons = readable(shape, self._checked(_LIST, answer))
        except ValidationError as error:
            raise self._odd(error) from error
        self._reasons |= dict.fromkeys(reasons)
        return read

    def _checked(self, shape: TypeAdapter[T], answer: Any) -> T:
        try:
            return shape.validate_python(answer)
        except ValidationError as error:
            raise self._odd(error) from error

    def _odd(self, error: ValidationError) -> BadPayload:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return BadPayload(
            f"{self.target} answered in a shape that is not Prometheus's (at {where}: {first['msg']}).",
            source=self._source,
        )


def selector(names: Iterable[str], *, jobs: Sequence[str] = ()) -> str:
    """A PromQL selector of these metric names, of these jobs only when any are given."""
    return pattern_selector(_alternatives(names), jobs=jobs)


def pattern_selector(names: str, *, jobs: Sequence[str] = ()) -> str:
    """As `selector`, for metric names given as a regular expression of our own making; a full match, as always."""
    matchers = [f"__name__=~{_quoted(names)}"]
    if jobs:
        matchers.append(f"job=~{_quoted(_alternatives(jobs))}")
    return "{" + ",".join(matchers) + "}"


def _alternatives(texts: Iterable[str]) -> str:
    return "|".join(re.escape(text) for text in texts)


def _quoted(pattern: str) -> str:
    return '"' + pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

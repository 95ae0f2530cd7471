"""Raw samples out of a Prometheus server, with the times at which Prometheus scraped them.

Range-vector selectors (`name{...}[900s]` at a moment) give what is stored; query_range would give values interpolated
to a grid of its own and hide gaps. prometheus-api-client sends the queries, through a session that is bounded in time
and size.
"""

import io
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import requests
import urllib3
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from urllib3.util.retry import Retry

from collectors.config import target_name
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.http_errors import error_of_status, web_page_error
from collectors.plain_text import plain_text
from collectors.prometheus_config import PrometheusConfig

T = TypeVar("T")

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""One answer; about a million samples. A window that holds more is asked for in halves."""

CONNECT_TIMEOUT_S = 5.0

_TOO_MUCH = re.compile(
    r"too many (samples|chunks|points|series)|exceeded maximum resolution|query timed out|deadline exceeded"
    r"|exceed\w* the (limit|maximum)|max\w*-(samples|chunks|series|query)|response too large",
    re.IGNORECASE,
)

_RULES: tuple[tuple[type[Exception], type[CollectorError], str], ...] = (
    # from special to general: the first that fits is taken
    (
        requests.exceptions.SSLError,
        Unreachable,
        "shows a certificate that is not trusted; set ca_file",
    ),
    (requests.exceptions.ConnectTimeout, Unreachable, "did not accept a connection in time"),
    (requests.exceptions.Timeout, Unreachable, "did not answer in time"),
    (requests.exceptions.ChunkedEncodingError, Unreachable, "broke off in the middle of its answer"),
    (requests.exceptions.ContentDecodingError, BadPayload, "answered with a body that is not compressed as it says"),
    (requests.exceptions.ConnectionError, Unreachable, "cannot be connected to"),
    (requests.exceptions.JSONDecodeError, BadPayload, "answered with something that is no JSON"),
    (requests.exceptions.InvalidURL, BadPayload, "is no valid address"),
    (requests.exceptions.RequestException, Unreachable, "cannot be reached"),
    (PrometheusApiClientException, BadPayload, "answered with an error"),
    (OSError, Unreachable, "cannot be reached"),
)


class WindowTooLarge(CollectorError):
    """The server, or our own limit on answers, wants the question in smaller parts."""


class Series(BaseModel):
    """One series as the server tells it: labels with `__name__`, and (seconds since the epoch, number as text)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    metric: dict[str, str]
    values: list[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], str]]


class _Instant(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    metric: dict[str, str]


_MATRIX = TypeAdapter(list[Series])
_VECTOR = TypeAdapter(list[_Instant])
_SCALAR = TypeAdapter(tuple[float, str])


class PrometheusReader:
    """Asks one server."""

    def __init__(self, config: PrometheusConfig) -> None:
        self.target = target_name(config.url)
        self._source = config.name
        self._session = _BoundedSession(config)
        self._client = PrometheusConnect(
            url=config.url,
            session=self._session,
            retry=Retry(total=0, redirect=False),  # the next interval is the next try
        )

    def server_time(self) -> datetime:
        """The server's clock."""
        return _moment(self._checked(_SCALAR, self._ask("time()"))[0])

    def raw_samples(self, selector: str, *, seconds: int, until: datetime) -> list[Series]:
        """Every stored sample of the series of a selector in the `seconds` before `until`.

        Raises WindowTooLarge when that is more than the server or we can take at once.
        """
        return self._checked(_MATRIX, self._ask(f"{selector}[{seconds}s]", at=until))

    def label_sets(self, selector: str, *, seconds: int, until: datetime) -> list[dict[str, str]]:
        """The labels of every series of a selector that had a sample in the `seconds` before `until`."""
        found = self._checked(_VECTOR, self._ask(f"max_over_time({selector}[{seconds}s])", at=until))
        return [series.metric for series in found]

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def _ask(self, query: str, at: datetime | None = None) -> Any:
        parameters = {} if at is None else {"time": f"{at.timestamp():.3f}"}
        try:
            return self._client.custom_query(query, params=parameters)
        except (requests.exceptions.RequestException, PrometheusApiClientException, OSError) as failure:
            raise error_of_exception(failure, source=self._source, target=self.target) from failure
        except (KeyError, TypeError) as failure:
            raise BadPayload(
                f"{self.target} answered with JSON that is not Prometheus's; is this a Prometheus server?",
                source=self._source,
            ) from failure

    def _checked(self, shape: TypeAdapter[T], answer: Any) -> T:
        try:
            return shape.validate_python(answer)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadPayload(
                f"{self.target} answered in a shape that is not Prometheus's (at {where}: {first['msg']}).",
                source=self._source,
            ) from error


def selector(names: Iterable[str], *, jobs: Sequence[str] = ()) -> str:
    """A PromQL selector of these metric names, of these jobs only when any are given."""
    return pattern_selector(_alternatives(names), jobs=jobs)


def pattern_selector(names: str, *, jobs: Sequence[str] = ()) -> str:
    """As `selector`, for metric names given as a regular expression of our own making; a full match, as always."""
    matchers = [f"__name__=~{_quoted(names)}"]
    if jobs:
        matchers.append(f"job=~{_quoted(_alternatives(jobs))}")
    return "{" + ",".join(matchers) + "}"


def error_of_exception(failure: BaseException, *, source: str, target: str) -> CollectorError:
    """Our error for an exception of requests or prometheus-api-client; raises the exception itself if it is neither."""
    reason = _innermost(failure)
    if isinstance(reason, urllib3.exceptions.ReadTimeoutError) and not isinstance(failure, requests.exceptions.Timeout):
        failure = requests.exceptions.ReadTimeout(str(reason))  # requests calls one in the middle of a body otherwise
    for kind, error, sentence in _RULES:
        if isinstance(failure, kind):
            permanent = True if kind is requests.exceptions.SSLError else None
            why = plain_text(re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?", "", str(reason)), 160)
            return error(f"{target} {sentence} ({why}).", source=source, permanent=permanent)
    raise failure


def _innermost(failure: BaseException) -> BaseException:
    """What requests and urllib3 wrap in up to three layers, each quoting the next."""
    inner = failure.args[0] if failure.args else None
    reason = getattr(inner, "reason", inner)
    return reason if isinstance(reason, BaseException) else failure


def _alternatives(texts: Iterable[str]) -> str:
    return "|".join(re.escape(text) for text in texts)


def _quoted(pattern: str) -> str:
    return '"' + pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class _BoundedSession(requests.Session):
    """A session that follows no redirect, heeds no environment, and reads no more and no longer than is sound."""

    def __init__(self, config: PrometheusConfig) -> None:
        super().__init__()
        self.trust_env = False  # ~/.netrc would replace the configured token
        self.verify = config.verify_tls if config.ca_file is None else str(config.ca_file)
        if config.client_cert_file is not None:
            key = config.client_key_file or config.client_cert_file
            self.cert = (str(config.client_cert_file), str(key))
        self.headers.update({"User-Agent": "gpufleet", "Accept-Encoding": "gzip"})
        if config.bearer_token is not None:
            self.headers["Authorization"] = f"Bearer {config.bearer_token.get_secret_value()}"
        if config.username is not None and config.password is not None:
            self.auth = (config.username, config.password.get_secret_value())
        self._config = config

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send, read the whole body within the limits, and raise our own errors for what is no answer."""
        source, target = self._config.name, target_name(self._config.url)
        deadline = time.monotonic() + self._config.timeout_s
        kwargs["allow_redirects"] = False
        kwargs["stream"] = True
        kwargs["timeout"] = (min(CONNECT_TIMEOUT_S, self._config.timeout_s), self._config.timeout_s)
        with super().send(request, **kwargs) as response:
            body = self._read(response, deadline)
            if response.status_code != requests.codes.ok:
                raise _error_of_answer(response.status_code, response.headers, body, source=source, target=target)
            page = web_page_error(
                response.headers.get("content-type", ""),
                body[:8192].decode("utf-8", "replace"),
                source=source,
                target=target,
            )
            if page is not None:
                raise page
            complete = requests.Response()
            complete.status_code = response.status_code
            complete.headers = response.headers
            complete.request = request
            complete.url = response.url
            complete.encoding = "utf-8"
            complete.raw = io.BytesIO(body)
            return complete

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(65_536):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise WindowTooLarge(
                    f"{target_name(self._config.url)} answered with more than {MAX_ANSWER_BYTES // 2**20} MiB.",
                    source=self._config.name,
                )
            if time.monotonic() > deadline:
                raise requests.exceptions.ReadTimeout(f"not complete after {self._config.timeout_s:g} s")
        return bytes(body)


def _error_of_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, source: str, target: str
) -> CollectorError:
    """Our error for a status other than 200, with the reason that Prometheus gives in its body."""
    told = body[:8192].decode("utf-8", "replace")
    if status == 413 or _TOO_MUCH.search(told):
        return WindowTooLarge(f"{target} says that it was asked for too much at once.", source=source)
    error = error_of_status(status, location=headers.get("location"), source=source, target=target)
    reason = re.search(r'"error"\s*:\s*"((?:[^"\\]|\\.){1,300})', told)
    if reason is None or isinstance(error, Unauthorized):
        return error
    return type(error)(f"{error} It says: {plain_text(reason.group(1), 200)}", source=source)

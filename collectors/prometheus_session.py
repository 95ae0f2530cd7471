"""How a Prometheus server is asked: a session of requests that is bounded in time and size, its errors in our words."""

import io
import re
from collections.abc import Mapping
from typing import Any

import httpx
import requests
import urllib3
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.adapters import BaseAdapter, HTTPAdapter

from collectors.config import target_name
from collectors.echoed_secrets import bytes_without_secrets, secrets_sent
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.hard_deadline import Deadline, heed_deadlines
from collectors.http_answers import Unpacker
from collectors.http_errors import error_of_status, web_page_error
from collectors.plain_text import plain_text
from collectors.prometheus_config import PrometheusConfig

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""One answer; about a million samples. A window that holds more is asked for in halves."""

CONNECT_TIMEOUT_S = 5.0
_CHUNK_BYTES = 64 * 1024

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


class _Whole(requests.Response):
    """An answer that has been read, and what its JSON says."""

    told: Any = None

    def json(self, **kwargs: Any) -> Any:
        """As requests has it, once; raises JSONDecodeError also for what no reader of JSON takes."""
        try:
            self.told = super().json(**kwargs)
        except requests.exceptions.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as failure:  # numbers of thousands of digits, thousands of brackets
            raise requests.exceptions.JSONDecodeError(type(failure).__name__, "", 0) from failure
        return self.told


class BoundedSession(requests.Session):
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
        self._last: _Whole | None = None

    @property
    def told(self) -> Mapping[str, Any]:
        """The JSON object of the last answer; empty where it was none."""
        told = None if self._last is None else self._last.told
        return told if isinstance(told, dict) else {}

    def mount(self, prefix: str, adapter: BaseAdapter) -> None:
        """As requests has it, with connections that end when a question's time is over."""
        if isinstance(adapter, HTTPAdapter):
            heed_deadlines(adapter.poolmanager)
        super().mount(prefix, adapter)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send, read the whole body within the limits, and raise our own errors for what is no answer."""
        source, target = self._config.name, target_name(self._config.url)
        self._last = None
        kwargs["allow_redirects"] = False
        kwargs["stream"] = True
        kwargs["timeout"] = (min(CONNECT_TIMEOUT_S, self._config.timeout_s), self._config.timeout_s)
        with Deadline(self._config.timeout_s) as deadline:
            try:
                response, body = self._answered(request, **kwargs)
            except (requests.exceptions.RequestException, httpx.HTTPError, OSError) as failure:
                if deadline.is_over:
                    raise self._late() from failure
                raise
            if deadline.is_over:
                raise self._late()
        body = bytes_without_secrets(body, secrets_sent(_text(request.headers.get("Authorization"))))
        if response.status_code != requests.codes.ok:
            raise _error_of_answer(response.status_code, response.headers, body, source=source, target=target)
        head = body[:8192].decode("utf-8", "replace")
        page = web_page_error(response.headers.get("content-type", ""), head, source=source, target=target)
        if page is not None:
            raise page
        self._last = complete = _Whole()
        complete.status_code = response.status_code
        complete.headers = response.headers
        complete.request = request
        complete.url = response.url
        complete.encoding = "utf-8"
        complete.raw = io.BytesIO(body)
        return complete

    def _late(self) -> requests.exceptions.ReadTimeout:
        return requests.exceptions.ReadTimeout(f"not complete after {self._config.timeout_s:g} s")

    def _answered(self, request: requests.PreparedRequest, **kwargs: Any) -> tuple[requests.Response, bytes]:
        """The head and the whole body; of an answer that is no success, what there is of the body."""
        with super().send(request, **kwargs) as response:
            body = bytearray()
            try:
                self._read(response, body)
            except (CollectorError, httpx.HTTPError, urllib3.exceptions.HTTPError, OSError) as failure:
                if response.status_code == requests.codes.ok:
                    raise _as_of_requests(failure) from failure
            return response, bytes(body)

    def _read(self, response: requests.Response, body: bytearray) -> None:
        target = target_name(self._config.url)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", ""):
            raise BadPayload(
                f"{target} answered in an encoding nobody asked for: {encoding!r}", source=self._config.name
            )
        unpacker = Unpacker(encoding, limit=MAX_ANSWER_BYTES)
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
            body += unpacker.take(chunk)
            if len(body) > MAX_ANSWER_BYTES:
                raise WindowTooLarge(
                    f"{target} answered with more than {MAX_ANSWER_BYTES // 2**20} MiB.", source=self._config.name
                )
        unpacker.end()


def _as_of_requests(failure: Exception) -> Exception:
    """What requests would have raised, had it read the body."""
    if isinstance(failure, httpx.DecodingError):
        return requests.exceptions.ContentDecodingError(failure)
    if isinstance(failure, urllib3.exceptions.TimeoutError):
        return requests.exceptions.ReadTimeout(failure)
    if isinstance(failure, httpx.HTTPError | urllib3.exceptions.HTTPError):
        return requests.exceptions.ChunkedEncodingError(failure)
    return failure


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


def _text(header: str | bytes | None) -> str | None:
    return header.decode("latin-1") if isinstance(header, bytes) else header

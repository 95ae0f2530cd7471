"""One question at a time over HTTP, for sources that are asked several things in a row: bounded in time and size.

As `collectors.transport`, this follows no redirect and heeds neither proxies of the environment nor ~/.netrc. The
underlying httpx client can be handed to a client library, which is then held to the same bounds.
"""

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import httpx

from collectors.config import HttpSourceConfig, target_name
from collectors.errors import BadPayload, CollectorError
from collectors.http_answers import Unpacker, server_time
from collectors.http_errors import error_of_exception, error_of_status, web_page_error
from collectors.http_questions import basic_auth_of, headers_of
from collectors.plain_text import plain_text
from collectors.tls import file_times, tls_context
from collectors.transport import CONNECT_TIMEOUT_S

IDLE_CONNECTION_S = 10.0
"""How long a connection is kept for the next question; rounds lie minutes apart and open their own."""
_MAX_REASON = 8_192


class TooLarge(BadPayload):
    """An answer of more bytes than are allowed; some can be asked for in parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One whole answer, unpacked. Header names are in lower case."""

    source: str
    target: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        """The body as text; bytes that are no UTF-8 become replacement characters."""
        return self.body.decode("utf-8", errors="replace")

    @property
    def served_at(self) -> datetime | None:
        """The server's clock to the second, from the header Date; None where it does not say."""
        return server_time(self.headers.get("date"))

    @property
    def reason(self) -> str:
        """What the server says is wrong: `message`, `error` or `detail` of a JSON body, on one line; "" for none."""
        try:
            told = json.loads(self.body[:_MAX_REASON])
        except ValueError:
            return ""
        return plain_text(_reason_in(told), 200)

    def error(self) -> CollectorError:
        """Our error for a status other than 200, with the server's own reason."""
        error = error_of_status(
            self.status, location=self.headers.get("location"), source=self.source, target=self.target
        )
        if not self.reason:
            return error
        return type(error)(f"{error} It says: {self.reason}", source=self.source, permanent=error.permanent)

    def json(self) -> Any:
        """The body as JSON; raises BadPayload when it is a web page or no JSON."""
        page = web_page_error(self.headers.get("content-type", ""), self.text, source=self.source, target=self.target)
        if page is not None:
            raise page
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as failure:
            raise BadPayload(
                f"{self.target} answered with something that is no JSON; it begins: {plain_text(self.text, 60)!r}",
                source=self.source,
            ) from failure


def _reason_in(told: Any) -> str:
    if isinstance(told, str):
        return told
    if isinstance(told, dict):
        for key in ("message", "error", "detail"):
            if told.get(key):
                return _reason_in(told[key])
    return ""


class BoundedHttp:
    """Asks one server, one question after the other; every failure is one of `collectors.errors`."""

    def __init__(
        self,
        config: HttpSourceConfig,
        *,
        max_body_bytes: int,
        basic_auth: tuple[str, str] | None = None,
        accept: str = "application/json",
    ) -> None:
        self._config = config
        self._max_body_bytes = max_body_bytes
        self._auth = basic_auth_of(config) if basic_auth is None else httpx.BasicAuth(*basic_auth)
        self._headers = headers_of(config, accept)
        self._client: httpx.Client | None = None
        self._transport: _BoundedTransport | None = None
        self._file_times: tuple[int, ...] = ()

    @property
    def client(self) -> httpx.Client:
        """The client that asks; another one when certificates were replaced. Raises Unreachable when they are none."""
        times = file_times(self._config)
        if self._client is None or times != self._file_times:
            self.close()
            timeout_s = self._config.timeout_s
            self._transport = _BoundedTransport(self._config, self._max_body_bytes)
            self._client = httpx.Client(
                transport=self._transport,
                timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
                follow_redirects=False,
                trust_env=False,
                headers=self._headers,
                auth=self._auth,
            )
            self._file_times = times
        return self._client

    @property
    def last(self) -> Answer | None:
        """The last whole answer, however it was asked for; None when the last question got none."""
        return None if self._transport is None else self._transport.last

    def get(self, url: str, params: Mapping[str, str] | None = None) -> Answer:
        """The answer to a GET, whatever its status; raises Unreachable or BadPayload when there is none."""
        return self._ask("GET", url, params=params)

    def post(self, url: str, body: Mapping[str, Any]) -> Answer:
        """The answer to a POST with a JSON body, whatever its status; raises as `get` does."""
        return self._ask("POST", url, json=body)

    def error_of(self, failure: BaseException, url: str) -> CollectorError:
        """Our error for an exception that the HTTP library raised, by whoever used `client`."""
        config = self._config
        return error_of_exception(failure, source=config.name, target=target_name(url), timeout_s=config.timeout_s)

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = self._transport = None

    def _ask(self, method: str, url: str, **how: Any) -> Answer:
        try:
            self.client.request(method, url, **how)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as failure:
            raise self.error_of(failure, url) from failure
        answer = self.last
        if answer is None:  # the transport keeps it or raises
            raise AssertionError("an answer without an answer")
        return answer


@lru_cache(maxsize=64)
def _tls(config: HttpSourceConfig, times: tuple[int, ...]) -> ssl.SSLContext:
    """One context for all servers of a table: making one takes tens of milliseconds."""
    return tls_context(config)


class _BoundedTransport(httpx.BaseTransport):
    """Reads every answer whole, within the limits, before anyone sees it."""

    def __init__(self, config: HttpSourceConfig, max_body_bytes: int) -> None:
        self._source = config.name
        self._timeout_s = config.timeout_s
        self._max_body_bytes = max_body_bytes
        self._inner = httpx.HTTPTransport(
            verify=_tls(config, file_times(config)),
            trust_env=False,
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=1, keepalive_expiry=IDLE_CONNECTION_S),
        )
        self.last: Answer | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and read the body to its end; raises BadPayload when it is larger than allowed."""
        self.last = None
        began = time.monotonic()
        target = target_name(str(request.url.copy_with(query=None)))
        response = self._inner.handle_request(request)
        try:
            body = self._read(response, target, began + self._timeout_s)
        finally:
            response.close()
        kept = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        self.last = Answer(
            source=self._source,
            target=target,
            status=response.status_code,
            headers=dict(kept),
            body=body,
            seconds=time.monotonic() - began,
        )
        return httpx.Response(response.status_code, headers=kept, content=body, request=request)

    def close(self) -> None:
        """Let go of the connections."""
        self._inner.close()

    def _read(self, response: httpx.Response, target: str, deadline: float) -> bytes:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", ""):
            raise BadPayload(f"{target} answered in an encoding nobody asked for: {encoding!r}", source=self._source)
        body = bytearray()
        unpacker = Unpacker(encoding, limit=self._max_body_bytes)
        for chunk in response.iter_raw():
            body += unpacker.take(chunk)
            if len(body) > self._max_body_bytes:
                raise TooLarge(
                    f"{target} answered with more than {self._max_body_bytes / 2**20:g} MiB. Check the address, or "
                    "raise max_body_bytes.",
                    source=self._source,
                )
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer came too slowly")
        unpacker.end()
        return bytes(body)

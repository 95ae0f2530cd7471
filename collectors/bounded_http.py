"""One question at a time over HTTP, for sources that are asked several things in a row: bounded in time and size.

As `collectors.transport`, this follows no redirect and heeds neither proxies of the environment nor ~/.netrc. The
underlying httpx client can be handed to a client library, which is then held to the same bounds. The time of a question
is that of all its parts together: the lookup of the name, the connection, the head and the body of the answer.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

import httpx

from collectors.config import HttpSourceConfig, target_name
from collectors.echoed_secrets import (
    SHORTEST_IN_REASON,
    bytes_without_secrets,
    error_without_secrets,
    secrets_of,
    secrets_of_login,
    without_secrets,
)
from collectors.errors import BadPayload, CollectorError
from collectors.http_answers import Unpacker, server_time
from collectors.http_errors import error_of_exception, error_of_status, reason_in, web_page_error
from collectors.http_questions import basic_auth_of, headers_of
from collectors.network_thread import wait_for
from collectors.plain_text import plain_text
from collectors.tls import file_times, tls_context
from collectors.transport import CONNECT_TIMEOUT_S

IDLE_CONNECTION_S = 10.0
"""How long a connection is kept for the next question; rounds lie minutes apart and open their own."""
CONNECT_SHARE = 0.45
"""Of the time of a question, for the connection, and again for TLS: httpx lets go of one that did not come about in its
own time, and not of one that is ended from outside while it is made."""
_MAX_REASON = 8_192


class TooLarge(BadPayload):
    """An answer of more bytes than are allowed; some can be asked for in parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One whole answer, unpacked. Header names are in lower case.

    The body of a status other than 200 is its beginning at least, and empty where nothing of it could be read.
    """

    source: str
    target: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    secrets: tuple[str, ...] = field(default=(), repr=False)

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
        """What the server says is wrong: `message`, `error` or `detail` of a JSON body, on one line; "" for none.

        Never what it says of credentials that it refuses: it may quote them, whole or in part.
        """
        if self.status in (401, 403):
            return ""
        told = reason_in(self.body[:_MAX_REASON].decode("utf-8", errors="replace"))
        return without_secrets(told, self.secrets, shortest=SHORTEST_IN_REASON)

    def error(self) -> CollectorError:
        """Our error for a status other than 200, with the server's own reason."""
        location = self.headers.get("location")
        error = error_of_status(
            self.status, location=location, source=self.source, target=self.target, reason=self.reason
        )
        return error_without_secrets(error, self.secrets)

    def json(self) -> Any:
        """The body as JSON; raises BadPayload when it is a web page or no JSON."""
        page = web_page_error(self.headers.get("content-type", ""), self.text, source=self.source, target=self.target)
        if page is not None:
            raise error_without_secrets(page, self.secrets)
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as failure:
            begins = without_secrets(plain_text(self.text, 60), self.secrets, shortest=SHORTEST_IN_REASON)
            raise BadPayload(
                f"{self.target} answered with something that is no JSON; it begins: {begins!r}", source=self.source
            ) from failure


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
        self._secrets = secrets_of(config) if basic_auth is None else secrets_of_login(*basic_auth)
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
            self._transport = _BoundedTransport(self._config, self._max_body_bytes, self._secrets)
            self._client = httpx.Client(
                transport=self._transport,
                timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, CONNECT_SHARE * timeout_s)),
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
        error = error_of_exception(failure, source=config.name, target=target_name(url), timeout_s=config.timeout_s)
        return error_without_secrets(error, self._secrets)

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
        except ValueError as failure:  # httpx lets through what it cannot read of a host's name or address
            raise BadPayload(f"{target_name(url)} is no valid address.", source=self._config.name) from failure
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

    def __init__(self, config: HttpSourceConfig, max_body_bytes: int, secrets: tuple[str, ...]) -> None:
        self._source = config.name
        self._secrets = secrets
        self._timeout_s = config.timeout_s
        self._max_body_bytes = max_body_bytes
        self._inner = httpx.AsyncHTTPTransport(
            verify=_tls(config, file_times(config)),
            trust_env=False,
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=1, keepalive_expiry=IDLE_CONNECTION_S),
        )
        self.last: Answer | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and read the body to its end; raises BadPayload when it is larger than allowed."""
        self.last = None
        try:
            self.last, kept = wait_for(self._exchange(request))
        except TimeoutError as late:
            raise httpx.ReadTimeout("the answer came too slowly", request=request) from late
        return httpx.Response(self.last.status, headers=kept, content=self.last.body, request=request)

    def close(self) -> None:
        """Let go of the connections."""
        wait_for(self._inner.aclose())

    async def _exchange(self, request: httpx.Request) -> tuple[Answer, list[tuple[str, str]]]:
        began = time.monotonic()
        target = target_name(str(request.url.copy_with(query=None)))
        async with asyncio.timeout(self._timeout_s):
            response = await self._inner.handle_async_request(request)
            try:
                body = await self._body(response, target, began + self._timeout_s)
            finally:
                await response.aclose()
        kept = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        answer = Answer(
            source=self._source,
            target=target,
            status=response.status_code,
            headers=dict(kept),
            body=bytes_without_secrets(body, self._secrets),
            seconds=time.monotonic() - began,
            secrets=self._secrets,
        )
        return answer, kept

    async def _body(self, response: httpx.Response, target: str, deadline: float) -> bytes:
        """The whole body; of an answer that is no success, what there is of it: what it says is known by then."""
        body = bytearray()
        if response.status_code == httpx.codes.OK:
            await self._read(response, target, body)
            return bytes(body)
        with contextlib.suppress(BadPayload, httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(max(0.9 * (deadline - time.monotonic()), 0.001)):
                await self._read(response, target, body)
        return bytes(body[: self._max_body_bytes])

    async def _read(self, response: httpx.Response, target: str, body: bytearray) -> None:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", ""):
            raise BadPayload(f"{target} answered in an encoding nobody asked for: {encoding!r}", source=self._source)
        unpacker = Unpacker(encoding, limit=self._max_body_bytes)
        async for chunk in response.aiter_raw():
            body += unpacker.take(chunk)
            if len(body) > self._max_body_bytes:
                raise TooLarge(
                    f"{target} answered with more than {self._max_body_bytes / 2**20:g} MiB. Check the address, or "
                    "raise max_body_bytes.",
                    source=self._source,
                )
        unpacker.end()

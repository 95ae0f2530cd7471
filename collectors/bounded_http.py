"""One question at a time over HTTP, for sources that are asked several things in a row: bounded in time and size.

As `collectors.transport`, this follows no redirect and heeds neither proxies of the environment nor ~/.netrc. The
underlying httpx client can be handed to a client library, which is then held to the same bounds.
"""

import json
import ssl
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import httpx

from collectors.config import HttpSourceConfig, target_name
from collectors.errors import BadPayload, CollectorError
from collectors.http_errors import error_of_exception, error_of_status, web_page_error
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
        try:
            told = parsedate_to_datetime(self.headers.get("date", ""))
        except ValueError:
            return None
        return None if told.tzinfo is None else told.astimezone(UTC)

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
        self._auth = _auth(config, basic_auth)
        self._headers = _headers(config, accept)
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


def same_host_path(base_url: str, location: str | None) -> str | None:
    """Where a redirect leads, as a URL with the scheme, host and port of `base_url`; None when it leads elsewhere.

    A server behind a proxy that ends TLS redirects to http://: following that would send the key in the clear, so the
    scheme is always that of the configuration.
    """
    try:
        base = httpx.URL(base_url)
        to = base.join(location or "")
    except (httpx.InvalidURL, ValueError):
        return None
    if not location or to.host != base.host or to.userinfo:
        return None
    plain_ports = {base.port, None} if base.port is not None else {None}
    if to.scheme not in ("http", "https") or to.port not in plain_ports:
        return None
    return str(base.copy_with(path=to.path))


@lru_cache(maxsize=64)
def _tls(config: HttpSourceConfig, times: tuple[int, ...]) -> ssl.SSLContext:
    """One context for all servers of a table: making one takes tens of milliseconds."""
    return tls_context(config)


def _headers(config: HttpSourceConfig, accept: str) -> dict[str, str]:
    headers = {"Accept": accept, "Accept-Encoding": "gzip", "User-Agent": "gpufleet"}
    if config.bearer_token is not None:
        headers["Authorization"] = f"Bearer {config.bearer_token.get_secret_value()}"
    return headers


def _auth(config: HttpSourceConfig, basic_auth: tuple[str, str] | None) -> httpx.BasicAuth | None:
    if basic_auth is not None:
        return httpx.BasicAuth(*basic_auth)
    if config.username is None or config.password is None:
        return None
    return httpx.BasicAuth(config.username, config.password.get_secret_value())


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
        for chunk in _unpacked(response.iter_raw(), gzip=encoding == "gzip", limit=self._max_body_bytes):
            body += chunk
            if len(body) > self._max_body_bytes:
                raise TooLarge(
                    f"{target} answered with more than {self._max_body_bytes / 2**20:g} MiB. Check the address, or "
                    "raise max_body_bytes.",
                    source=self._source,
                )
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer came too slowly")
        return bytes(body)


def _unpacked(chunks: Iterator[bytes], *, gzip: bool, limit: int) -> Iterator[bytes]:
    """The body as it was before compression, never more than a little over `limit` bytes of it."""
    if not gzip:
        yield from chunks
        return
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    for chunk in chunks:
        try:
            yield unpacker.decompress(chunk, limit + 1)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error
        if unpacker.unconsumed_tail:
            return  # that chunk alone was over the limit; the caller counts and refuses
    if not unpacker.eof:
        raise httpx.RemoteProtocolError("the compressed answer ends too early")

"""Asking a server about a model: one request at a time, bounded in time and size, its errors in our words.

`collectors/transport.py` is for scrapes, which are many, configured, and never redirected. Here one address that the
user typed is asked, parts of files are read, and the hub sends on to the hosts that keep its files.
"""

import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx
from pydantic import SecretStr, TypeAdapter, ValidationError

from collectors.config import HttpUrl, target_name
from collectors.errors import CollectorError
from collectors.http_errors import error_of_exception
from collectors.plain_text import plain_text
from collectors.transport import CONNECT_TIMEOUT_S
from gpufleet.errors import ModelSourceFailed

READ_TIMEOUT_S = 30.0
LONGEST_ANSWER_S = 120.0
MAX_REDIRECTS = 5
_PORTS = {"http": 80, "https": 443}
_SPAN = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_ADDRESS = TypeAdapter(HttpUrl)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a file: `count` bytes from byte `first` on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whatever its status. `file_bytes` is the size of the whole file where a part was asked for."""

    target: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    file_bytes: int | None = None

    def json(self) -> Any:
        """The parsed body; raises ModelSourceFailed where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            what = "a web page" if self.body.lstrip()[:1] == b"<" else f"no JSON ({plain_text(str(error), 80)})"
            raise ModelSourceFailed(
                f"{self.target} answered with {what}; another service on this port, or a proxy in between?"
            ) from error

    def told(self) -> str:
        """What the server says about its error, in parentheses with a blank before it; empty where it says nothing."""
        try:
            parsed = json.loads(self.body)
        except (ValueError, RecursionError):
            return ""
        told = parsed.get("error") if isinstance(parsed, dict) else None
        told = told.get("message") if isinstance(told, dict) else told
        return f" ({plain_text(told, 200)})" if isinstance(told, str) and told.strip() else ""


def address_of(text: str, what: str) -> str:
    """The address without a slash at its end; raises ModelSourceFailed, which does not repeat a password in it."""
    try:
        address = _ADDRESS.validate_python(text)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ").rstrip(".")
        raise ModelSourceFailed(f"the address after {what} cannot be used: {why}.") from error
    return address.rstrip("/")


@dataclass(slots=True, kw_only=True)
class ModelHttp:
    """One server and what it may be told. Proxies of the environment are used only where `through_proxies`.

    `bearer` goes to the scheme, host and port of `address` alone, also when that redirects elsewhere.
    """

    address: str
    bearer: SecretStr | None = None
    follows: bool = False
    through_proxies: bool = False
    _client: httpx.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._client = httpx.Client(
            verify=ssl.create_default_context(),
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            follow_redirects=False,
            trust_env=self.through_proxies,
            headers={"Accept-Encoding": "identity", "User-Agent": "gpufleet"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, *, limit_bytes: int) -> Answer:
        """GET of a path, which is sent as it is: quote what comes from elsewhere. Raises ModelSourceFailed."""
        return self._ask("GET", path, limit_bytes=limit_bytes)

    def post(self, path: str, body: Mapping[str, Any], *, limit_bytes: int) -> Answer:
        """POST of a JSON object; raises ModelSourceFailed."""
        return self._ask("POST", path, body=body, limit_bytes=limit_bytes)

    def part(self, path: str, span: Span) -> Answer:
        """A part of a file; the body is shorter where the file ends.

        A server that ignores the range and sends everything is read up to the end of the part, if it begins near the
        beginning, and refused otherwise. Raises ModelSourceFailed.
        """
        return self._ask("GET", path, limit_bytes=span.count, span=span)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        limit_bytes: int,
        body: Mapping[str, Any] | None = None,
        span: Span | None = None,
    ) -> Answer:
        url = f"{self.address}{path}"
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with self._client.stream(method, url, json=body, headers=self._headers(url, span)) as response:
                    if not self.follows or not response.is_redirect:
                        return self._answer(response, url, limit_bytes=limit_bytes, span=span)
                    url = _next_address(url, response)
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as failure:
                raise self._failed(failure, url) from failure
        raise ModelSourceFailed(f"{target_name(self.address)} redirects more than {MAX_REDIRECTS} times.")

    def _headers(self, url: str, span: Span | None) -> dict[str, str]:
        headers = {}
        if span is not None:
            headers["Range"] = f"bytes={span.first}-{span.first + span.count - 1}"
        if self.bearer is not None and _origin(url) == _origin(self.address):
            headers["Authorization"] = f"Bearer {self.bearer.get_secret_value()}"
        return headers

    def _answer(self, response: httpx.Response, url: str, *, limit_bytes: int, span: Span | None) -> Answer:
        target = target_name(url)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise ModelSourceFailed(f"{target} answered in an encoding nobody asked for: {plain_text(encoding, 40)}.")
        skipped, file_bytes = 0, None
        if span is not None and response.status_code == httpx.codes.PARTIAL_CONTENT:
            file_bytes = _file_bytes(response, span, target)
        elif span is not None and response.status_code == httpx.codes.OK:
            skipped = span.first
            file_bytes = _stated_length(response)
            if skipped > limit_bytes:
                raise ModelSourceFailed(
                    f"{target} sends whole files where a part is asked for; only a server with range requests will do."
                )
        taken = self._body(response, target, most=skipped + limit_bytes, is_part=span is not None)
        return Answer(
            target=target,
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=bytes(taken[skipped : skipped + limit_bytes]),
            file_bytes=file_bytes,
        )

    def _body(self, response: httpx.Response, target: str, *, most: int, is_part: bool) -> bytearray:
        """At most `most` bytes and one chunk; of a part the rest is left where it is, a longer whole is refused."""
        until = time.monotonic() + LONGEST_ANSWER_S
        taken = bytearray()
        for chunk in response.iter_raw(1 << 16):
            taken += chunk
            if is_part and len(taken) >= most:
                return taken
            if len(taken) > most:
                raise ModelSourceFailed(
                    f"{target} answered with more than {most / 2**20:,.0f} MiB, more than such an answer ever has."
                )
            if time.monotonic() > until:
                raise ModelSourceFailed(f"{target} was still answering after {LONGEST_ANSWER_S:g} s; given up.")
        return taken

    def _failed(self, failure: BaseException, url: str) -> ModelSourceFailed:
        error: CollectorError = error_of_exception(
            failure, source="model", target=target_name(url), timeout_s=READ_TIMEOUT_S
        )
        told = str(error).replace("name its authority as ca_file", "name its authority in SSL_CERT_FILE")
        return ModelSourceFailed(told)


def _next_address(url: str, response: httpx.Response) -> str:
    """Where a redirect leads; never from https to http, and never with somebody's credentials in it."""
    target = target_name(url)
    location = str(response.headers.get("location", ""))
    try:
        found = urljoin(url, location)
        parts = urlsplit(found)
        is_address = parts.scheme in _PORTS and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_address = False
    if not location or not is_address:
        raise ModelSourceFailed(f"{target} redirects to what is no address ({response.status_code}).")
    if urlsplit(url).scheme == "https" and parts.scheme != "https":
        raise ModelSourceFailed(f"{target} redirects from https to http, which is not followed.")
    return found


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _file_bytes(response: httpx.Response, span: Span, target: str) -> int | None:
    """The size of the file by Content-Range; raises ModelSourceFailed where it is another part."""
    found = _SPAN.fullmatch(response.headers.get("content-range", "").strip())
    if found is None or int(found.group(1)) != span.first:
        raise ModelSourceFailed(f"{target} answered with another part of the file than was asked for.")
    return None if found.group(3) == "*" else int(found.group(3))


def _stated_length(response: httpx.Response) -> int | None:
    length = response.headers.get("content-length", "")
    return int(length) if re.fullmatch(r"\d{1,19}", length) else None

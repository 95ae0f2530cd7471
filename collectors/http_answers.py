"""What is heeded of an answer's head and body, and how far: redirects, the server's clock, its wish to be left alone,
compression."""

import re
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

LONGEST_RETRY_AFTER = timedelta(hours=1)
"""Whoever asks to be left alone for longer is asked again all the same: a header must not end a measurement."""

MAX_MEMBERS = 1_000
"""Of one gzip body. Each costs time even where it holds nothing, and no server of metrics writes more than one."""

MAX_PADDING_BYTES = 64 * 1024
"""Zeros after a gzip member, which those write who fill up blocks."""

_EPOCH_FROM_S = 1e9
"""A number of seconds above this is a moment since 1970 (this one in 2001), not a span of 31 years."""


def same_host(url: str, location: str | None) -> str | None:
    """Where a redirect leads, if that is the same host and port and no less safe; None when it leads elsewhere.

    Credentials, client certificates and what the configuration allows belong to one host.
    """
    if not location:
        return None
    try:
        here = httpx.URL(url)
        there = here.join(location)
    except (httpx.InvalidURL, ValueError):
        return None
    if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port) or there.userinfo:
        return None
    return str(there)


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


def server_time(date: str | None) -> datetime | None:
    """The moment in a Date header; None where there is none."""
    try:
        told = parsedate_to_datetime(date or "")
        return told.astimezone(UTC) if told.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def retry_moment(text: str, now: datetime) -> datetime | None:
    """When to ask again by a header such as Retry-After; None where it says nothing that can be read.

    Seconds from `now`, or an HTTP date (RFC 9110, 10.2.3). Proxies also write fractions of seconds, and seconds since
    1970. The moment may be long over, or far away: how far it is heeded is the caller's.
    """
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,20})?", text):
        seconds = float(text)
        return datetime.fromtimestamp(seconds, UTC) if seconds > _EPOCH_FROM_S else now + timedelta(seconds=seconds)
    return server_time(text)


def retry_after(status: int, header: str | None, now: datetime) -> timedelta | None:
    """How long a server that answered 429 or 503 wants to be left alone, LONGEST_RETRY_AFTER at most.

    None with another status, and where the header is missing or garbage. `now` is the server's clock where that is
    known: it is the one by which it wrote a date.
    """
    until = retry_moment(header or "", now) if status in (429, 503) else None
    return None if until is None else min(max(until - now, timedelta(0)), LONGEST_RETRY_AFTER)


class Unpacker:
    """The body as it was before compression, chunk by chunk, never more than a little over `limit` bytes of one.

    A gzip body may have several members, each with a beginning and an end of its own (RFC 1952, 2.2): they are read one
    after the other. Zeros after one are padding; anything else is an error, and nothing is kept of it. httpx unpacks a
    chunk in one go, which lets some kilobytes become gigabytes; hence this.
    """

    def __init__(self, encoding: str, *, limit: int) -> None:
        self._unpacker = None if encoding in ("identity", "") else _gzip_member()
        self._limit = limit
        self._members = 1
        self._padding_bytes = 0

    def take(self, chunk: bytes) -> bytes:
        """What the chunk holds; more than `limit` bytes where it holds more, which the caller counts and refuses."""
        if self._unpacker is None:
            return chunk
        taken = bytearray()
        try:
            while chunk and len(taken) <= self._limit:
                if self._unpacker.eof:
                    chunk = self._after_padding(chunk)
                    if not chunk:
                        break
                    self._unpacker = self._next_member()
                taken += self._unpacker.decompress(chunk, self._limit + 1 - len(taken))
                chunk = self._unpacker.unused_data
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error
        return bytes(taken)

    def _after_padding(self, chunk: bytes) -> bytes:
        rest = chunk.lstrip(b"\0")
        self._padding_bytes += len(chunk) - len(rest)
        if self._padding_bytes > MAX_PADDING_BYTES:
            raise httpx.DecodingError(f"more than {MAX_PADDING_BYTES} zeros after the end of the gzip data")
        return rest

    def _next_member(self) -> "zlib._Decompress":
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise httpx.DecodingError(f"more than {MAX_MEMBERS} gzip members")
        return _gzip_member()

    def end(self) -> None:
        """Raises RemoteProtocolError where the body ended before the compressed data did."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise httpx.RemoteProtocolError("the compressed answer ends too early")


def _gzip_member() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip's head and tail, and nothing else

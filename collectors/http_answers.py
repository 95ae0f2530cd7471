"""What is heeded of an answer's head and body, and how far: redirects, the server's clock, compression."""

import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx


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
    except ValueError:
        return None
    return told.astimezone(UTC) if told.tzinfo is not None else None


class Unpacker:
    """The body as it was before compression, chunk by chunk, never more than a little over `limit` bytes of one.

    httpx unpacks a chunk in one go, which lets some kilobytes become gigabytes; hence this.
    """

    def __init__(self, encoding: str, *, limit: int) -> None:
        self._unpacker = None if encoding in ("identity", "") else zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip
        self._limit = limit

    def take(self, chunk: bytes) -> bytes:
        """What the chunk holds; more than `limit` bytes where it holds more, which the caller counts and refuses."""
        if self._unpacker is None:
            return chunk
        try:
            return self._unpacker.decompress(chunk, self._limit + 1)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error

    def end(self) -> None:
        """Raises RemoteProtocolError where the body ended before the compressed data did."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise httpx.RemoteProtocolError("the compressed answer ends too early")

"""What is heeded of an answer's head and body, and how far: redirects, the server's clock, compression."""

import zlib
from collections.abc import AsyncIterator
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


def server_time(date: str | None) -> datetime | None:
    """The moment in a Date header; None where there is none."""
    try:
        told = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return told.astimezone(UTC) if told.tzinfo is not None else None


async def unpacked(chunks: AsyncIterator[bytes], encoding: str, *, limit: int) -> AsyncIterator[bytes]:
    """The body as it was before compression, never more than a little over `limit` bytes of it.

    httpx unpacks a chunk in one go, which lets some kilobytes become gigabytes; hence this.
    """
    if encoding == "identity":
        async for chunk in chunks:
            yield chunk
        return
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip only
    async for chunk in chunks:
        try:
            yield unpacker.decompress(chunk, limit + 1)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error
        if unpacker.unconsumed_tail:
            return  # over the limit; the caller counts and refuses
    if not unpacker.eof:
        raise httpx.RemoteProtocolError("the compressed answer ends too early")

"""The HTTP seam: every direct scrape goes through here, bounded in time, size and number, its errors in our words.

Redirects are not followed and the environment's proxies and ~/.netrc are not used: what is asked, and with which
credentials, is in the configuration and nowhere else.
"""

import asyncio
import queue
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from collectors.config import HttpSourceConfig, target_name
from collectors.errors import BadPayload, CollectorError
from collectors.http_errors import error_of_exception, error_of_status, web_page_error

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One answer or one error; times are in seconds, the start is counted from the call of `fetch_all`."""

    url: str
    started_after_s: float
    seconds: float
    text: str | None = None
    error: CollectorError | None = None


class HttpTransport:
    """Fetches the targets of one source."""

    def __init__(self, config: HttpSourceConfig, *, max_body_bytes: int) -> None:
        self._config = config
        self._max_body_bytes = max_body_bytes
        self._tls = tls_context(config)

    def fetch_all(self, urls: Sequence[str], *, max_concurrent: int) -> Iterator[Fetched]:
        """Fetch every URL once, at most `max_concurrent` at a time, and yield each as it ends.

        The network runs in a thread of its own, so that timeouts do not run while the caller parses and writes. It
        waits when the caller falls behind: no more than `max_concurrent` answers lie in memory.
        """
        answers: queue.Queue[Fetched | None] = queue.Queue()
        places = threading.Semaphore(max_concurrent)
        stopped = threading.Event()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"scrape-{self._config.name}") as thread:
            network = thread.submit(lambda: asyncio.run(self._fetch_all(urls, answers, places, stopped)))
            try:
                while (answer := answers.get()) is not None:
                    yield answer
                    places.release()
            finally:
                stopped.set()
                places.release()
            network.result()  # a mistake in there ends the run here, and not unseen in a thread

    async def _fetch_all(
        self,
        urls: Sequence[str],
        answers: "queue.Queue[Fetched | None]",
        places: threading.Semaphore,
        stopped: threading.Event,
    ) -> None:
        began = time.monotonic()
        timeout = httpx.Timeout(self._config.timeout_s, connect=min(CONNECT_TIMEOUT_S, self._config.timeout_s))
        try:
            async with httpx.AsyncClient(
                verify=self._tls,
                timeout=timeout,
                follow_redirects=False,
                trust_env=False,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                headers=self._headers(),
                auth=self._basic_auth(),
            ) as client:
                running: set[asyncio.Task[None]] = set()
                for url in urls:
                    await asyncio.to_thread(places.acquire)
                    if stopped.is_set():
                        break
                    task = asyncio.create_task(self._fetch(client, url, began, answers))
                    running.add(task)
                while running and not stopped.is_set():
                    ended, running = await asyncio.wait(running, timeout=0.2, return_when=asyncio.FIRST_EXCEPTION)
                    for task in ended:
                        task.result()
                for task in running:
                    task.cancel()
        finally:
            answers.put(None)

    async def _fetch(
        self, client: httpx.AsyncClient, url: str, began: float, answers: "queue.Queue[Fetched | None]"
    ) -> None:
        start = time.monotonic()
        text: str | None = None
        error: CollectorError | None = None
        try:
            async with asyncio.timeout(self._config.timeout_s):
                text = await self._text(client, url)
        except CollectorError as failure:
            error = failure
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError, OSError) as failure:
            error = error_of_exception(
                failure, source=self._config.name, target=target_name(url), timeout_s=self._config.timeout_s
            )
        answers.put(
            Fetched(
                url=url,
                started_after_s=start - began,
                seconds=time.monotonic() - start,
                text=text,
                error=error,
            )
        )

    async def _text(self, client: httpx.AsyncClient, url: str) -> str:
        source, target = self._config.name, target_name(url)
        async with client.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise error_of_status(
                    response.status_code, location=response.headers.get("location"), source=source, target=target
                )
            encoding = response.headers.get("content-encoding", "identity").strip().lower()
            if encoding not in ("identity", "gzip"):
                raise BadPayload(f"{target} answered in an encoding nobody asked for: {encoding!r}", source=source)
            body = bytearray()
            async for chunk in _unpacked(response.aiter_raw(), encoding, limit=self._max_body_bytes):
                body += chunk
                if len(body) > self._max_body_bytes:
                    raise BadPayload(
                        f"{target} answered with more than {self._max_body_bytes // 2**20} MiB; an exporter of one "
                        "node answers with less than one. Check the address, or raise max_body_bytes.",
                        source=source,
                    )
            text = bytes(body).decode("utf-8", errors="replace")
            page = web_page_error(response.headers.get("content-type", ""), text, source=source, target=target)
            if page is not None:
                raise page
            return text

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "gzip", "User-Agent": "gpufleet"}
        if self._config.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self._config.bearer_token.get_secret_value()}"
        return headers

    def _basic_auth(self) -> httpx.BasicAuth | None:
        if self._config.username is None or self._config.password is None:
            return None
        return httpx.BasicAuth(self._config.username, self._config.password.get_secret_value())


def tls_context(config: HttpSourceConfig) -> ssl.SSLContext:
    """Whom to trust: the system's authorities, or the configured one, or (on request only) anyone."""
    context = ssl.create_default_context(cafile=None if config.ca_file is None else str(config.ca_file))
    if not config.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _unpacked(chunks: AsyncIterator[bytes], encoding: str, *, limit: int) -> AsyncIterator[bytes]:
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

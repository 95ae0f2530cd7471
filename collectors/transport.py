"""The HTTP seam: every direct scrape goes through here, bounded in time, size and number, its errors in our words.

The environment's proxies and ~/.netrc are not used, and redirects are followed on request only and never to another
host: what is asked, and with which credentials, is in the configuration and nowhere else.
"""

import asyncio
import queue
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from collectors.config import HttpSourceConfig, target_name
from collectors.echoed_secrets import SHORTEST_IN_REASON, error_without_secrets, secrets_of, without_secrets
from collectors.errors import BadPayload, CollectorError
from collectors.fetched import Fetched as Fetched  # whoever fetches needs these too
from collectors.fetched import Page as Page
from collectors.fetched import Question as Question
from collectors.http_answers import Unpacker, retry_after, same_host, server_time
from collectors.http_errors import error_of_exception, error_of_status, reason_in, web_page_error
from collectors.http_questions import basic_auth_of, headers_of
from collectors.name_lookup import LookupLoop
from collectors.tls import file_times
from collectors.tls import tls_context as tls_context  # clients of other shapes take it from here

CONNECT_TIMEOUT_S = 5.0
MAX_REDIRECTS = 3
MAX_ERROR_BYTES = 8_192
"""How much of an answer that is no success is read, for the reason in it."""


class HttpTransport:
    """Fetches the targets of one source."""

    def __init__(self, config: HttpSourceConfig, *, max_body_bytes: int, accept: str = "text/plain") -> None:
        self._config = config
        self._max_body_bytes = max_body_bytes
        self._accept = accept
        # A run has to be over before the next begins, or a target that hangs would cost the others their turn.
        self._timeout_s = min(config.timeout_s, 0.9 * config.interval_s)
        self._tls: tuple[tuple[int, ...], ssl.SSLContext] | None = None
        self._secrets = secrets_of(config)

    def fetch_all(self, questions: Sequence[Question | str], *, max_concurrent: int) -> Iterator[Fetched]:
        """Ask every target once, at most `max_concurrent` at a time, and yield each answer as it ends.

        The network runs in a thread of its own, so that timeouts do not run while the caller parses and writes. It
        waits when the caller falls behind: no more than `max_concurrent` answers lie in memory. Failing targets for
        which there is no time left in the interval are left out; they come first the next time.
        """
        asked = [Question(url=each) if isinstance(each, str) else each for each in questions]
        try:
            context = self._context()
        except CollectorError as error:
            for question in asked:
                yield Fetched(url=question.url, started_after_s=0.0, seconds=0.0, error=error)
            return
        run = _Run(self._config, context, asked, max_concurrent)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"scrape-{self._config.name}") as thread:
            network = thread.submit(self._in_a_loop, run)
            try:
                while (answer := run.answers.get()) is not None:
                    yield answer
                    run.places.release()
            finally:
                run.stopped.set()
                run.places.release()
            network.result()  # a mistake in there ends the run here, and not unseen in a thread

    def _in_a_loop(self, run: "_Run") -> None:
        with asyncio.Runner(loop_factory=LookupLoop) as runner:  # asyncio's own loop waits at its end for hanging names
            runner.run(self._fetch_all(run))

    def _context(self) -> ssl.SSLContext:
        times = file_times(self._config)
        if self._tls is None or self._tls[0] != times:
            self._tls = (times, tls_context(self._config))
        return self._tls[1]

    async def _fetch_all(self, run: "_Run") -> None:
        try:
            async with self._client(run) as client:
                running: set[asyncio.Task[None]] = set()
                for question in run.questions:
                    await asyncio.to_thread(run.places.acquire)
                    if run.stopped.is_set():
                        break
                    if question.is_failing and run.elapsed_s() + self._timeout_s > self._config.interval_s:
                        run.places.release()
                        continue
                    running.add(asyncio.create_task(self._fetch(client, question, run)))
                while running and not run.stopped.is_set():
                    ended, running = await asyncio.wait(running, timeout=0.2, return_when=asyncio.FIRST_EXCEPTION)
                    for task in ended:
                        task.result()
                for task in running:
                    task.cancel()
        finally:
            run.answers.put(None)

    def _client(self, run: "_Run") -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=run.context,
            timeout=httpx.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)),
            follow_redirects=False,
            trust_env=False,
            # kept only as long as one target's own questions follow each other
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=run.kept_connections),
            headers=headers_of(self._config, self._accept),
            auth=basic_auth_of(self._config),
        )

    async def _fetch(self, client: httpx.AsyncClient, question: Question, run: "_Run") -> None:
        start = time.monotonic()
        started_after_s = run.elapsed_s()
        first = _Answer()
        error = await self._guarded(client, question.url, first, start)
        further: list[Page] = []
        if question.then is not None and first.status is not None:
            for url in question.then(first.status, first.text or ""):
                page = _Answer()
                failed = await self._guarded(client, url, page, start)
                further.append(Page(url=url, status=page.status, text=page.text, error=failed))
        seconds = time.monotonic() - start
        run.answers.put(
            Fetched(
                url=question.url,
                started_after_s=started_after_s,
                seconds=seconds,
                status=first.status,
                text=first.text,
                error=error,
                served_at=first.served_at,
                retry_after=None if first.retry_after is None else first.retry_after + timedelta(seconds=seconds),
                further=tuple(further),
            )
        )

    async def _guarded(
        self, client: httpx.AsyncClient, url: str, answer: "_Answer", start: float
    ) -> CollectorError | None:
        """Fill in the answer; all questions to one target share its time. Returns the error in our words."""
        error = await self._tried(client, url, answer, start)
        return None if error is None else error_without_secrets(error, self._secrets)

    async def _tried(
        self, client: httpx.AsyncClient, url: str, answer: "_Answer", start: float
    ) -> CollectorError | None:
        try:
            async with asyncio.timeout(max(self._timeout_s - (time.monotonic() - start), 0.001)):
                await self._ask(client, url, answer)
        except CollectorError as failure:
            return answer.refusal or failure
        except ValueError:  # httpx lets through what it cannot read of a host's name or address
            return BadPayload(f"{target_name(url)} is no valid address.", source=self._config.name)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError, OSError) as failure:
            if answer.refusal is not None:  # it said no, and only its reason did not arrive
                return answer.refusal
            error = error_of_exception(
                failure, source=self._config.name, target=target_name(url), timeout_s=self._timeout_s
            )
            return self._with_hint(error, failure, url)
        return None

    def _with_hint(self, error: CollectorError, failure: BaseException, url: str) -> CollectorError:
        """A server that misses a client certificate may say so, or, as TLS 1.3 goes, just hang up."""
        is_bare = isinstance(failure, httpx.NetworkError) and not isinstance(failure, httpx.ConnectError)
        if not is_bare or not url.startswith("https:") or self._config.client_cert_file is not None:
            return error
        return type(error)(
            f"{error} A server that wants a client certificate does that: if this one does, set client_cert_file.",
            source=error.source,
        )

    async def _ask(self, client: httpx.AsyncClient, url: str, answer: "_Answer") -> None:
        source, target = self._config.name, target_name(url)
        for _ in range(MAX_REDIRECTS + 1):
            async with client.stream("GET", url) as response:
                answer.status = response.status_code
                answer.served_at = server_time(response.headers.get("date"))
                answer.retry_after = retry_after(
                    response.status_code, response.headers.get("retry-after"), answer.served_at or datetime.now(UTC)
                )
                location = response.headers.get("location")
                onward = same_host(url, location) if self._config.follow_redirects and response.is_redirect else None
                if onward is not None:
                    url = onward
                    continue
                if response.status_code != httpx.codes.OK:
                    answer.refusal = self._refusal(response, target, answer.retry_after, "")
                    told = await self._text(response, target, limit=MAX_ERROR_BYTES, cut=True)
                    answer.refusal = self._refusal(response, target, answer.retry_after, reason_in(told))
                    raise answer.refusal
                text = await self._text(response, target, limit=self._max_body_bytes)
            page = web_page_error(response.headers.get("content-type", ""), text, source=source, target=target)
            if page is not None:
                raise page
            answer.text = text
            return
        raise BadPayload(f"{target} redirects more than {MAX_REDIRECTS} times.", source=source)

    def _refusal(
        self, response: httpx.Response, target: str, retry_after: timedelta | None, reason: str
    ) -> CollectorError:
        error = error_of_status(
            response.status_code,
            location=response.headers.get("location"),
            source=self._config.name,
            target=target,
            reason=without_secrets(reason, self._secrets, shortest=SHORTEST_IN_REASON),
        )
        return _with_wish(error, retry_after)

    async def _text(self, response: httpx.Response, target: str, *, limit: int, cut: bool = False) -> str:
        """The body as text. Larger than `limit`: an error, or with `cut` its beginning."""
        source = self._config.name
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise BadPayload(f"{target} answered in an encoding nobody asked for: {encoding!r}", source=source)
        body = bytearray()
        unpacker = Unpacker(encoding, limit=limit)
        async for chunk in response.aiter_raw():
            body += unpacker.take(chunk)
            if len(body) > limit and cut:
                break
            if len(body) > limit:
                raise BadPayload(
                    f"{target} answered with more than {limit // 2**20} MiB; an exporter of one node answers with less "
                    "than one. Check the address, or raise max_body_bytes.",
                    source=source,
                )
        else:
            unpacker.end()
        return without_secrets(bytes(body[:limit]).decode("utf-8", errors="replace"), self._secrets)


def _with_wish(error: CollectorError, retry_after: timedelta | None) -> CollectorError:
    """The error with what explains that the target is not asked for a while."""
    if not retry_after:
        return error
    wish = f"It asks to be left alone for {retry_after.total_seconds():.0f} s."
    return type(error)(f"{error} {wish}", source=error.source, permanent=error.permanent)


class _Run:
    """One call of `fetch_all`: what its two threads share."""

    def __init__(
        self, config: HttpSourceConfig, context: ssl.SSLContext, questions: Sequence[Question], max_concurrent: int
    ) -> None:
        self.config = config
        self.context = context
        self.questions = questions
        self.kept_connections = max_concurrent if any(question.then for question in questions) else 0
        self.answers: queue.Queue[Fetched | None] = queue.Queue()
        self.places = threading.Semaphore(max_concurrent)
        self.stopped = threading.Event()
        self._began = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began


@dataclass(slots=True)
class _Answer:
    """What is known of one answer so far."""

    status: int | None = None
    text: str | None = None
    served_at: datetime | None = None
    retry_after: timedelta | None = None
    refusal: CollectorError | None = None  # of an answer that is no success

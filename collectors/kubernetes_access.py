"""Asking a Kubernetes API server: one object, all objects of a kind page by page, and what changes from then on.

Shared by the Kubernetes source and by discovery (`collectors/kubernetes_discovery.py`). The client library connects and
logs in (`collectors/kubernetes_login.py`); the answers are read here, because its own lists and watches fail as a whole
for one bad object and know no limit of size or time. Nothing is ever written: every request is a GET.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlencode

import urllib3
from urllib3.response import BaseHTTPResponse

from collectors.config import target_name
from collectors.errors import BadPayload, CollectorError, Unauthorized
from collectors.kubernetes_access_config import KubernetesAccessConfig
from collectors.kubernetes_errors import (
    Expired,
    MissingRight,
    Right,
    error_of_answer,
    error_of_failure,
    web_page_error,
)
from collectors.kubernetes_lists import JsonObject, Listed, Query, Reader
from collectors.kubernetes_login import Connection, connect
from collectors.kubernetes_watch import Watch, watch_seconds

T = TypeVar("T")

log = logging.getLogger("gpufleet.collectors.kubernetes")

CONNECT_TIMEOUT_S = 5.0
MAX_ERROR_BYTES = 64 * 1024
MAX_PAGES = 20_000
MAX_RESTARTS = 3
"""How often a list that expired between two pages is begun again; the last time it is asked for in one piece."""
_CHUNK_BYTES = 64 * 1024


class KubernetesApi:
    """One API server, for any number of threads."""

    def __init__(
        self, config: KubernetesAccessConfig, *, source: str, login: Callable[[], Connection] | None = None
    ) -> None:
        """Nothing is read or sent yet; `login` replaces the connection that the configuration describes."""
        self._config = config
        self._source = source
        self._login = login or (lambda: connect(config, source=source))
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self.clock_skew_s: float | None = None  # how far the server's clock was ahead at its last answer

    @property
    def target(self) -> str:
        """Host and port of the API server; a word for it as long as no file has told them."""
        if self._connection is not None:
            return self._connection.target
        if self._config.url is not None:
            return target_name(self._config.url)
        return "kubernetes" if self._config.kubeconfig is None else f"context {self._config.context or 'current'}"

    def get(self, path: str) -> JsonObject:
        """The JSON object at a path that is no resource, such as `/version`; raises CollectorError."""
        return self._json(path, (), Right(verb="get", verbs=("get",), path=path))

    def list_all(self, query: Query, read: Reader[T]) -> Listed[T]:
        """All objects of a query, each through `read` as soon as its page is there; raises CollectorError.

        A list that expires between two pages (410) is begun again from the first.
        """
        for restart in range(MAX_RESTARTS):
            try:
                return self._list_once(query, read, in_pages=True)
            except Expired:
                log.info("%s %s expired between two pages, restart %d", self._source, query.path, restart + 1)
        return self._list_once(query, read, in_pages=False)

    def watch(self, query: Query, version: str) -> Watch:
        """What changes from `version` on; raises CollectorError, Expired when that version is gone."""
        right = query.right("watch")
        seconds = watch_seconds()
        parameters = [
            *query.selectors,
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(int(seconds))),
        ]
        return Watch(
            self._ask(query.path, parameters, right),
            right=right,
            source=self._source,
            target=self.target,
            seconds=seconds,
            max_line_bytes=self._config.max_body_bytes,
        )

    def close(self) -> None:
        """Let go of idle connections; the API can be used again after it."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _list_once(self, query: Query, read: Reader[T], *, in_pages: bool) -> Listed[T]:
        right = query.right("list")
        listed: Listed[T] = Listed()
        token = ""
        for _ in range(MAX_PAGES):
            parameters = query.selectors
            if in_pages:
                parameters.append(("limit", str(self._config.page_size)))
            if token:
                parameters.append(("continue", token))
            page = self._json(query.path, parameters, right)
            items, metadata = page.get("items"), page.get("metadata")
            if not isinstance(items, list | None) or not isinstance(metadata, dict):
                raise BadPayload(
                    f"{self.target} answered with something else than a list when asked to {right.sentence}.",
                    source=self._source,
                )
            for item in items or []:
                listed.put(item, read)
            listed.version = str(metadata.get("resourceVersion") or listed.version)
            last, token = token, str(metadata.get("continue") or "")
            if not token:
                return listed
            if token == last:
                break
        raise BadPayload(
            f"{self.target} never comes to the end of what it lists when asked to {right.sentence}.",
            source=self._source,
        )

    def _json(self, path: str, parameters: Sequence[tuple[str, str]], right: Right) -> JsonObject:
        answer = self._ask(path, parameters, right)
        body = self._body(answer, self._config.max_body_bytes)
        try:
            read: object = json.loads(body)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            kind = answer.headers.get("Content-Type", "")
            raise web_page_error(body, kind, source=self._source, target=self.target)
        return read

    def _ask(self, path: str, parameters: Sequence[tuple[str, str]], right: Right) -> BaseHTTPResponse:
        """An answer of status 200 whose body is still to be read; raises CollectorError.

        Refused credentials are fetched anew, once: a token may have been replaced, or a plugin's have ended.
        """
        connection = self._connected()
        try:
            return self._send(connection, path, parameters, right)
        except MissingRight:
            raise
        except Unauthorized:
            return self._send(self._connected(instead_of=connection), path, parameters, right)

    def _send(
        self, connection: Connection, path: str, parameters: Sequence[tuple[str, str]], right: Right
    ) -> BaseHTTPResponse:
        timeout_s = self._config.timeout_s
        address = f"{connection.url}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        headers = connection.headers()
        try:
            answer: BaseHTTPResponse = connection.pool.request(
                "GET",
                address,
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), read=timeout_s),
                preload_content=False,
                redirect=False,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as failure:
            raise self._error(failure) from None
        self.clock_skew_s = clock_skew_s(answer.headers.get("Date"), datetime.now(UTC))
        if answer.status != 200:
            body = self._body(answer, MAX_ERROR_BYTES)
            raise error_of_answer(
                answer.status, body, answer.headers, source=self._source, target=connection.target, right=right
            )
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            answer.close()
            raise BadPayload(f"{self.target} answered in an encoding that nobody asked for.", source=self._source)
        return answer

    def _body(self, answer: BaseHTTPResponse, limit: int) -> bytes:
        """The whole body, bounded in size and time; the connection goes back to the pool, or ends."""
        until = time.monotonic() + self._config.timeout_s
        body = bytearray()
        is_whole = False
        try:
            while chunk := answer.read1(_CHUNK_BYTES, decode_content=False):
                body += chunk
                if len(body) > limit:
                    raise BadPayload(
                        f"{self.target} answered with more than {limit} bytes; lower page_size or raise "
                        "max_body_bytes.",
                        source=self._source,
                    )
                if time.monotonic() > until:
                    raise urllib3.exceptions.TimeoutError("it drips")
            is_whole = True
        except (urllib3.exceptions.HTTPError, OSError) as failure:
            raise self._error(failure) from None
        finally:
            answer.release_conn() if is_whole else answer.close()
        return bytes(body)

    def _error(self, failure: Exception) -> CollectorError:
        return error_of_failure(failure, source=self._source, target=self.target, timeout_s=self._config.timeout_s)

    def _connected(self, *, instead_of: Connection | None = None) -> Connection:
        with self._lock:
            current = self._connection
            if current is None or current is instead_of or current.has_ended:
                if current is not None:
                    current.close()
                self._connection = current = self._login()
            return current


def clock_skew_s(date: str | None, now: datetime) -> float | None:
    """How far a server's clock is ahead by the Date of its answer, which is cut to whole seconds; None without one."""
    try:
        at = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds() + 0.5

"""Asking a Kubernetes API server: one object, all objects of a kind page by page, and what changes from then on.

Shared by the Kubernetes source and by discovery (`collectors/kubernetes_discovery.py`). The client library connects and
logs in (`collectors/kubernetes_login.py`); the answers are read here, because its own lists and watches fail as a whole
for one bad object and know no limit of size or time. Nothing is ever written: every request is a GET.
"""

import contextlib
import json
import logging
import math
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
from collectors.echoed_secrets import error_without_secrets, secrets_sent
from collectors.errors import BadPayload, CollectorError, Unauthorized
from collectors.hard_deadline import Deadline, heed_deadlines
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
MAX_OBJECTS = 500_000
"""Objects in one list; Kubernetes supports up to 150,000 pods ("Considerations for large clusters")."""
MAX_LIST_S = 600.0
"""A list takes no longer: old versions, and with them the next pages, are kept for 5 minutes ("API Concepts")."""
MAX_RESTARTS = 3
"""How often a list that expired between two pages is begun again; the last time it is asked for in one piece."""
_MAX_SECRETS = 8
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
        self._secrets: tuple[str, ...] = ()  # what was sent of late, never to be quoted
        self.clock_skew_s: float | None = None  # how far the server's clock was ahead at its last answer

    @property
    def source(self) -> str:
        """The name of the source that asks, for errors."""
        return self._source

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

    def watch(self, query: Query, version: str, *, longest_s: float = math.inf) -> Watch:
        """What changes from `version` on; raises CollectorError, Expired when that version is gone.

        The server is asked to end it after some minutes, or after `longest_s` where that is sooner.
        """
        right = query.right("watch")
        seconds = watch_seconds(longest_s)
        parameters = [
            *query.selectors,
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(int(seconds))),
        ]
        answer, deadline = self._ask(query.path, parameters, right)
        deadline.end()  # from here on it may be silent for as long as nothing changes
        return Watch(
            answer,
            right=right,
            source=self._source,
            target=self.target,
            seconds=seconds,
            max_line_bytes=self._config.max_body_bytes,
            secrets=self._secrets,
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
        seen = 0
        until = time.monotonic() + MAX_LIST_S
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
            seen += len(items or [])
            if token == last or seen > MAX_OBJECTS or time.monotonic() > until:
                break
        raise BadPayload(
            f"{self.target} never comes to the end of what it lists when asked to {right.sentence}.",
            source=self._source,
        )

    def _json(self, path: str, parameters: Sequence[tuple[str, str]], right: Right) -> JsonObject:
        answer, deadline = self._ask(path, parameters, right)
        with deadline:
            body = self._body(answer, self._config.max_body_bytes, deadline)
        try:
            read: object = json.loads(body)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            kind = answer.headers.get("Content-Type", "")
            raise web_page_error(body, kind, source=self._source, target=self.target, secrets=self._secrets)
        return read

    def _ask(self, path: str, parameters: Sequence[tuple[str, str]], right: Right) -> tuple[BaseHTTPResponse, Deadline]:
        """An answer of status 200 whose body is still to be read, and until when; raises CollectorError.

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
    ) -> tuple[BaseHTTPResponse, Deadline]:
        deadline = Deadline(self._config.timeout_s)
        try:
            return self._head(connection, path, parameters, right, deadline), deadline
        except BaseException:
            deadline.end()
            raise

    def _head(
        self,
        connection: Connection,
        path: str,
        parameters: Sequence[tuple[str, str]],
        right: Right,
        deadline: Deadline,
    ) -> BaseHTTPResponse:
        timeout_s = self._config.timeout_s
        address = f"{connection.url}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        headers = connection.headers()
        sent = next((value for name, value in headers.items() if name.lower() == "authorization"), None)
        self._secrets = tuple(dict.fromkeys((*secrets_sent(sent), *self._secrets)))[:_MAX_SECRETS]
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
            raise self._error(failure, deadline) from None
        self.clock_skew_s = clock_skew_s(answer.headers.get("Date"), datetime.now(UTC))
        if answer.status != 200:
            body = b""
            with contextlib.suppress(CollectorError):  # it said no, and only its reason did not arrive
                body = self._body(answer, MAX_ERROR_BYTES, deadline)
            raise error_of_answer(
                answer.status,
                body,
                answer.headers,
                source=self._source,
                target=connection.target,
                right=right,
                secrets=self._secrets,
            )
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            answer.close()
            raise BadPayload(f"{self.target} answered in an encoding that nobody asked for.", source=self._source)
        return answer

    def _body(self, answer: BaseHTTPResponse, limit: int, deadline: Deadline) -> bytes:
        """The whole body, bounded in size and time; the connection goes back to the pool, or ends."""
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
            if deadline.is_over:  # what has no stated length looks whole when it is hung up
                raise urllib3.exceptions.TimeoutError
            is_whole = True
        except (urllib3.exceptions.HTTPError, OSError) as failure:
            raise self._error(failure, deadline) from None
        finally:
            answer.release_conn() if is_whole else answer.close()
        return bytes(body)

    def _error(self, failure: Exception, deadline: Deadline) -> CollectorError:
        if deadline.is_over:
            failure = urllib3.exceptions.TimeoutError("it drips")
        error = error_of_failure(failure, source=self._source, target=self.target, timeout_s=self._config.timeout_s)
        return error_without_secrets(error, self._secrets)

    def _connected(self, *, instead_of: Connection | None = None) -> Connection:
        with self._lock:
            current = self._connection
            if current is None or current is instead_of or current.has_ended:
                if current is not None:
                    current.close()
                self._connection = current = self._login()
                heed_deadlines(current.pool)
            return current


def clock_skew_s(date: str | None, now: datetime) -> float | None:
    """How far a server's clock is ahead by the Date of its answer, which is cut to whole seconds; None without one."""
    try:
        at = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    return (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds() + 0.5

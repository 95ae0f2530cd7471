"""What changes at a Kubernetes API: one watch, line by line, until the server ends it or somebody stops it."""

import contextlib
import json
import math
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import urllib3
from urllib3.response import BaseHTTPResponse

from collectors.errors import BadPayload, CollectorError
from collectors.kubernetes_errors import Right, error_of_event, error_of_failure
from collectors.kubernetes_lists import JsonObject

_LASTS_S = (240.0, 300.0)
_SILENCE_S = 30.0
_CHUNK_BYTES = 64 * 1024


def watch_seconds(longest_s: float = math.inf) -> float:
    """How long a watch is asked to last: random, so that those of many readers do not begin at once; 1 s or more."""
    return max(min(random.uniform(*_LASTS_S), longest_s * random.uniform(0.8, 1.0)), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a watch: `type` is ADDED, MODIFIED, DELETED or BOOKMARK (only the version has moved on)."""

    type: str
    object: JsonObject

    @property
    def version(self) -> str:
        """The resourceVersion that a later watch can begin from; "" when the server gave none."""
        metadata = self.object.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        return version if isinstance(version, str) else ""


class Watch:
    """An open watch; iterate it in one thread, stop it from any."""

    def __init__(
        self,
        answer: BaseHTTPResponse,
        *,
        right: Right,
        source: str,
        target: str,
        seconds: float,
        max_line_bytes: int,
        secrets: Sequence[str] = (),
    ) -> None:
        """`secrets` are masked wherever the server is quoted."""
        self._answer = answer
        self._right = right
        self._source = source
        self._target = target
        self._secrets = secrets
        self._silence_s = seconds + _SILENCE_S
        self._max_line_bytes = max_line_bytes
        self._stopped = threading.Event()
        connection = answer.connection
        socket = getattr(connection, "sock", None)
        if socket is not None:
            socket.settimeout(self._silence_s)  # until now it had the patience of one answer

    def __iter__(self) -> Iterator[Event]:
        """Events as they come, until the server ends the watch; raises CollectorError (Expired: list again)."""
        try:
            for line in self._lines():
                yield self._event(line)
        except (urllib3.exceptions.HTTPError, OSError) as failure:
            if self._stopped.is_set():
                return
            raise error_of_failure(
                failure, source=self._source, target=self._target, timeout_s=self._silence_s
            ) from None
        finally:
            self._answer.close()

    def stop(self) -> None:
        """Let the iteration end now, whichever thread it runs in."""
        self._stopped.set()
        with contextlib.suppress(ValueError, RuntimeError, OSError):  # it has ended by itself
            self._answer.shutdown()

    def _lines(self) -> Iterator[bytes]:
        rest = bytearray()
        while chunk := self._answer.read1(_CHUNK_BYTES, decode_content=False):
            rest += chunk
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if line.strip():
                    yield bytes(line)
            if len(rest) > self._max_line_bytes:
                raise BadPayload(
                    f"{self._target} sent one event of more than {self._max_line_bytes} bytes; raise max_body_bytes.",
                    source=self._source,
                )

    def _event(self, line: bytes) -> Event:
        try:
            read: object = json.loads(line)
        except (ValueError, RecursionError):
            raise self._bad_line() from None
        kind, changed = (read.get("type"), read.get("object")) if isinstance(read, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(changed, dict):
            raise self._bad_line()
        if kind == "ERROR":
            raise error_of_event(
                changed, source=self._source, target=self._target, right=self._right, secrets=self._secrets
            )
        return Event(type=kind, object=changed)

    def _bad_line(self) -> CollectorError:
        return BadPayload(
            f"{self._target} sent a line that is no event of a watch; everything is listed again.",
            source=self._source,
        )

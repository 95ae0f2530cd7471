"""A small real server that answers JSON by path, and remembers what it was asked."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Query = dict[str, str]
Told = Any | Callable[[Query], Any]
"""What a path answers: a value of JSON, text, `Reply`, or a function of the query that gives one of these."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is not 200, or not JSON, or has headers of its own."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: Query
    headers: dict[str, str]
    body: Any


@dataclass(slots=True)
class JsonWeb:
    """A server on 127.0.0.1; `paths` may be changed while it runs. Unknown paths answer 404."""

    port: int
    paths: dict[str, Told] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def times(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(each.path == path for each in self.asked)


@contextlib.contextmanager
def json_web(paths: dict[str, Told] | None = None) -> Iterator[JsonWeb]:
    """Serve until the test is over."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            web.asked.append(Asked(self.command, parts.path, query, dict(self.headers), body))
            told = web.paths.get(parts.path, Reply({"detail": "Not Found"}, 404))
            while callable(told):
                told = told(query)
            reply = told if isinstance(told, Reply) else Reply(told)
            is_text = isinstance(reply.body, (str, bytes))
            sent = reply.body if isinstance(reply.body, bytes) else None
            if sent is None:
                sent = (reply.body if is_text else json.dumps(reply.body)).encode()
            kind = "text/plain; version=0.0.4" if is_text else "application/json"
            self.send_response(reply.status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(sent)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    web = JsonWeb(port=server.server_address[1], paths=dict(paths or {}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

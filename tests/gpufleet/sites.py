"""Web sites for tests of what is asked of servers and of the hub: fixed pages, files by range, redirects, faults."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Asked:
    """One request as it came in; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Page = Callable[[BaseHTTPRequestHandler, Asked], None]


@dataclass(slots=True)
class Site:
    """A server on 127.0.0.1; `pages` by path, everything else is 404."""

    port: int
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    missing: Page | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    def with_header(self, name: str) -> list[str]:
        """Paths that were asked for with this header."""
        return [one.path for one in self.asked if name in one.headers]


def page(body: bytes | str | Mapping[str, Any], status: int = 200, **headers: str) -> Page:
    """A fixed answer; mappings become JSON, underscores in header names become dashes."""
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()

    def answer(request: BaseHTTPRequestHandler, asked: Asked) -> None:
        request.send_response(status)
        for name, value in {"Content_Length": str(len(raw)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(raw)

    return answer


def file(content: bytes, **headers: str) -> Page:
    """A file that is served whole, or by the range that is asked for."""

    def answer(request: BaseHTTPRequestHandler, asked: Asked) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
        if found is None:
            page(content, **headers)(request, asked)
            return
        first, last = int(found[1]), min(int(found[2]), len(content) - 1)
        if first >= len(content):
            page(b"", 416, Content_Range=f"bytes */{len(content)}")(request, asked)
            return
        span = f"bytes {first}-{last}/{len(content)}"
        page(content[first : last + 1], 206, Content_Range=span, **headers)(request, asked)

    return answer


def redirect(location: str, status: int = 302, **headers: str) -> Page:
    """Somewhere else."""
    return page(b"", status, Location=location, **headers)


def half(content: bytes) -> Page:
    """Says how long it is, and hangs up in the middle."""

    def answer(request: BaseHTTPRequestHandler, asked: Asked) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: len(content) // 2])
        request.wfile.flush()
        request.close_connection = True

    return answer


@contextmanager
def site() -> Iterator[Site]:
    """A running site."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            served.asked.append(asked)
            found = served.pages.get(self.path) or served.missing or page(b"404 page not found", 404)
            try:
                found(self, asked)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that hang up are what these tests are about

    server = Server(("127.0.0.1", 0), Handler)
    served = Site(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

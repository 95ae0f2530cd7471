"""Servers that answer a byte at a time, and whose answer is good in the end: whoever waits for it gets it."""

import time
from http.server import BaseHTTPRequestHandler

from tests.collectors.webs import Answer

DRIPS = 400
PAUSE_S = 0.05
finished: list[str] = []
"""The paths of answers that somebody waited for to the end."""


def drip_head(body: bytes, content_type: str = "application/json") -> Answer:
    """An answer whose head takes twenty seconds."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        _drip(request, b"HTTP/1.0 200 OK\r\nX-Drip: ", b"a")
        request.wfile.write(f"\r\nContent-Type: {content_type}\r\n\r\n".encode() + body)
        finished.append(request.path)

    return answer


def drip_body(body: bytes, *, has_length: bool, content_type: str = "application/json") -> Answer:
    """An answer whose body begins with blanks that take twenty seconds."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        length = f"Content-Length: {DRIPS + len(body)}\r\n" if has_length else ""
        head = f"HTTP/1.0 200 OK\r\nContent-Type: {content_type}\r\n{length}\r\n"
        _drip(request, head.encode(), b" ")
        request.wfile.write(body)
        finished.append(request.path)

    return answer


def _drip(request: BaseHTTPRequestHandler, begin: bytes, drop: bytes) -> None:
    request.wfile.write(begin)
    for _ in range(DRIPS):
        request.wfile.write(drop)
        time.sleep(PAUSE_S)

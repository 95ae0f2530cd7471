"""Small real servers for tests of what goes over the wire."""

import socket
from collections.abc import Iterator

import pytest

from tests.collectors.webs import Web, serving


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server; set `web.answer` before asking it."""
    with serving() as served:
        yield served


@pytest.fixture
def closed_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

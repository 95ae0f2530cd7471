"""A question ends when its time is over, whatever arrives meanwhile: on every road that asks one thing at a time."""

import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import urllib3

from collectors.bounded_http import BoundedHttp
from collectors.config import HttpSourceConfig
from collectors.errors import Unreachable
from collectors.hard_deadline import Deadline, heed_deadlines
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_access_config import KubernetesAccessConfig
from collectors.prometheus import PrometheusReader
from collectors.prometheus_config import PrometheusConfig
from tests.collectors.drips import drip_body, drip_head, finished
from tests.collectors.webs import Answer, Web, reply

TIMEOUT_S = 0.4
SCALAR = b'{"status": "success", "data": {"resultType": "scalar", "result": [1795348800, "1"]}}'

Road = Callable[[str], object]


def by_bounded_http(url: str) -> object:
    return BoundedHttp(HttpSourceConfig(name="it", timeout_s=TIMEOUT_S), max_body_bytes=10_000).get(url).json()


def by_prometheus(url: str) -> object:
    return PrometheusReader(PrometheusConfig(name="it", url=url, timeout_s=TIMEOUT_S)).server_time()


def by_kubernetes(url: str) -> object:
    return KubernetesApi(KubernetesAccessConfig(url=url, timeout_s=TIMEOUT_S), source="it").get("/version")


ROADS = pytest.mark.parametrize("road", [by_bounded_http, by_prometheus, by_kubernetes])


@ROADS
@pytest.mark.parametrize(
    "answer",
    [drip_head(SCALAR), drip_body(SCALAR, has_length=True), drip_body(SCALAR, has_length=False)],
    ids=["head", "body", "body-without-length"],
)
def test_an_answer_that_drips_is_given_up(web: Web, road: Road, answer: Answer) -> None:
    web.answer = answer
    finished.clear()
    with pytest.raises(Unreachable):
        road(web.url)
    assert finished == []


@ROADS
def test_the_same_answer_in_time_is_taken(web: Web, road: Road) -> None:
    web.answer = reply(200, b" " * 400 + SCALAR, Content_Type="application/json")
    assert road(web.url)


@ROADS
def test_a_handshake_that_drips_is_given_up(road: Road) -> None:
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                connection.sendall(b"\x16\x03\x03\x3f\xff")  # a record of the handshake, of 16 KiB
                try:
                    while not gone.wait(0.05):
                        connection.sendall(b"\0")
                except OSError:
                    gone.set()

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(Unreachable):
            road(f"https://127.0.0.1:{server.getsockname()[1]}")
        assert gone.wait(20)  # and the connection is let go of
        thread.join()


def test_a_kept_connection_heeds_the_deadline_of_its_next_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        served = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                connection.recv(65_536)
                served.set()
                connection.recv(65_536)  # until it is hung up

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        pool = urllib3.PoolManager()
        heed_deadlines(pool)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with Deadline(20):
            assert pool.request("GET", url, retries=False).data == b"ok"
        with Deadline(TIMEOUT_S) as deadline, pytest.raises(urllib3.exceptions.HTTPError):
            pool.request("GET", url, retries=False, timeout=60)
        assert deadline.is_over
        assert served.is_set()
        thread.join()
        pool.clear()


def test_a_deadline_that_has_ended_hangs_nothing_up() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        deadline = Deadline(60)
        deadline.watch(ours)
        deadline.end()
        deadline._hang_up()  # as a timer that had begun to run
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"
        assert not deadline.is_over


def test_no_descriptor_is_left_behind(web: Web) -> None:
    web.answer = reply(200, SCALAR, Content_Type="application/json")
    held: list[socket.socket] = []
    with Deadline(60) as deadline:
        with socket.create_connection(("127.0.0.1", web.port)) as connection:
            deadline.watch(connection)
        held += deadline._held or []
    assert [one.fileno() for one in held] == [-1]


def test_the_clock_of_prometheus_is_read_over_a_connection_that_heeds_deadlines(web: Web) -> None:
    web.answer = reply(200, SCALAR, Content_Type="application/json")
    assert by_prometheus(web.url) == datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

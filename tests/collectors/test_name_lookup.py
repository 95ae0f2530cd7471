"""Names that hang in the resolver: who waits for them, and for how long."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from collectors import name_lookup
from collectors.bounded_http import BoundedHttp
from collectors.config import HttpSourceConfig
from collectors.errors import CollectorError, Unreachable
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_access_config import KubernetesAccessConfig
from collectors.name_lookup import LookupLoop, look_up
from collectors.prometheus import PrometheusReader
from collectors.prometheus_config import PrometheusConfig
from collectors.transport import HttpTransport
from tests.collectors.webs import Web, reply

WAIT_S = 20.0


class Resolver:
    """Names that begin with "dead" hang until `released`; all others are this machine."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked: list[str] = []
        self.given_up: list[str] = []
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, *args: Any, **keys: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        self.asked.append(name)
        if name.startswith("dead"):
            self.released.wait(WAIT_S)
            self.given_up.append(name)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self._real("127.0.0.1", *args, **keys)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.released.set()
    for thread in threading.enumerate():
        if thread.name == "name-lookup":
            thread.join(WAIT_S)
    assert name_lookup._running == {}


def test_dead_names_delay_neither_healthy_targets_nor_the_end_of_the_round(web: Web, resolver: Resolver) -> None:
    web.answer = reply(200, b"m")
    transport = HttpTransport(HttpSourceConfig(name="it", timeout_s=0.5, interval_s=5), max_body_bytes=1024)
    dead = [f"http://dead-{number}.test:{web.port}/" for number in range(8)]
    healthy = [f"http://gpu-{number}.test:{web.port}/" for number in range(3)]
    fetched = list(transport.fetch_all([*dead, *healthy], max_concurrent=8))
    assert {one.url for one in fetched if one.text == "m"} == set(healthy)
    assert {one.url for one in fetched if isinstance(one.error, Unreachable)} == set(dead)
    assert resolver.given_up == []  # nobody waited for the resolver


def test_a_name_that_hangs_is_looked_up_once_however_often_it_is_asked_for(web: Web, resolver: Resolver) -> None:
    transport = HttpTransport(HttpSourceConfig(name="it", timeout_s=0.2, interval_s=5), max_body_bytes=1024)
    for _ in range(3):
        [fetched] = transport.fetch_all([f"http://dead.test:{web.port}/"], max_concurrent=1)
        assert isinstance(fetched.error, Unreachable)
    assert resolver.asked == ["dead.test"]


def by_bounded_http(url: str) -> object:
    return BoundedHttp(HttpSourceConfig(name="it", timeout_s=0.3), max_body_bytes=1024).get(url)


# The configuration refuses names that are none; a kubeconfig may still hold one, and names are looked up later.
def by_prometheus(url: str) -> object:
    config = PrometheusConfig(name="it", url="http://host:9", timeout_s=0.3)
    return PrometheusReader(config.model_copy(update={"url": url})).server_time()


def by_kubernetes(url: str) -> object:
    config = KubernetesAccessConfig(url="http://host:9", timeout_s=0.3)
    return KubernetesApi(config.model_copy(update={"url": url}), source="it").get("/version")


@pytest.mark.parametrize("road", [by_bounded_http, by_prometheus, by_kubernetes])
def test_who_asks_one_thing_waits_no_longer_than_its_time(resolver: Resolver, road: Callable[[str], object]) -> None:
    with pytest.raises(Unreachable):
        road("http://dead.test:9")
    assert resolver.given_up == []  # nobody waited for the resolver


@pytest.mark.parametrize("road", [by_bounded_http, by_prometheus, by_kubernetes])
def test_a_name_leads_to_its_server(web: Web, resolver: Resolver, road: Callable[[str], object]) -> None:
    body = b'{"data": {"result": [1795348800, "1"]}}'
    web.answer = reply(200, body, Content_Type="application/json")
    assert road(f"http://gpu.test:{web.port}")
    assert web.headers[0]["Host"] == f"gpu.test:{web.port}"
    assert "gpu.test" in resolver.asked


def test_one_who_goes_away_takes_the_answer_from_nobody(resolver: Resolver) -> None:
    async def two() -> list[Any]:
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(loop.getaddrinfo("dead.test", 80))
        second = asyncio.ensure_future(loop.getaddrinfo("dead.test", 80))
        await asyncio.sleep(0)
        first.cancel()
        resolver.released.set()
        return await asyncio.gather(first, second, return_exceptions=True)

    with asyncio.Runner(loop_factory=LookupLoop) as runner:
        first, second = runner.run(two())
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, socket.gaierror)


def test_only_so_many_names_hang_at_a_time(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_lookup, "MAX_LOOKUPS", 2)
    hanging = [look_up(f"dead-{number}.test", 80) for number in range(2)]
    with pytest.raises(socket.gaierror, match="2 names"):
        look_up("gpu.test", 80).result(WAIT_S)
    assert look_up("127.0.0.1", 80).result(WAIT_S)  # an address needs no lookup
    resolver.released.set()
    for one in hanging:
        with pytest.raises(socket.gaierror, match="Temporary"):
            one.result(WAIT_S)


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".test", "a\0b"])
def test_a_name_that_is_none_is_an_error_of_whoever_asks(name: str) -> None:
    with pytest.raises((socket.gaierror, ValueError)):
        look_up(name, 80).result(WAIT_S)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test", "[v1.a]"])
def test_an_address_with_such_a_name_is_an_error_of_its_target(host: str) -> None:
    transport = HttpTransport(HttpSourceConfig(name="it", timeout_s=5, interval_s=10), max_body_bytes=1024)
    [fetched] = transport.fetch_all([f"http://{host}:9/"], max_concurrent=1)
    assert fetched.error is not None
    with pytest.raises(CollectorError):
        by_bounded_http(f"http://{host}:9/")


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test"])
@pytest.mark.parametrize("road", [by_prometheus, by_kubernetes])
def test_so_it_is_for_the_clients_upon_urllib3(host: str, road: Callable[[str], object]) -> None:
    with pytest.raises(CollectorError):
        road(f"http://{host}:9")

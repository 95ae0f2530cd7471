"""The simulated cluster on a real socket, with a clock that a test sets."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import uvicorn

from sample_data.cluster import SimulatedCluster
from sample_data.faults import Faults
from sample_data.server import make_app
from tests.collectors.ended_servers import forget_connections


@dataclass(slots=True)
class Simulated:
    """A running simulator; `now` is what every server in it takes for the time."""

    cluster: SimulatedCluster
    faults: Faults
    now: datetime
    port: int = 0
    asked: list[str] = field(default_factory=list)  # method, path and query of every request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked_for(self, part: str) -> list[str]:
        """The requests whose path or query holds this."""
        return [each for each in self.asked if part in each]


@contextlib.contextmanager
def simulated_web(cluster: SimulatedCluster, now: datetime, *, hang_s: float = 5.0) -> Iterator[Simulated]:
    """Serve a cluster until the test is over."""
    served = Simulated(cluster=cluster, faults=Faults(cluster), now=now)
    app = make_app(cluster, lambda: served.now, faults=served.faults, hang_s=hang_s)

    async def remembering(scope, receive, send):  # type: ignore[no-untyped-def]
        query = scope.get("query_string", b"").decode()
        served.asked.append(f"{scope['method']} {scope['path']}{'?' if query else ''}{query}")
        await app(scope, receive, send)

    config = uvicorn.Config(
        remembering, host="127.0.0.1", port=0, log_level="error", access_log=False, lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    served.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        forget_connections()

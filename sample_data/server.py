"""The simulated cluster over HTTP: one process that answers for every node's exporter."""

import asyncio
import html
import signal
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sample_data.cluster import SimulatedCluster, simulated_cluster
from sample_data.dcgm_exporter import CONTENT_TYPE, exposition
from sample_data.faults import Fault, FaultKind, Faults, other_generation
from sample_data.service_discovery import dcgm_targets, metrics_path

Clock = Callable[[], datetime]

_HANG_S = 120.0
_GARBAGE = "\x00\x01 this is not an exposition {{{\nneither=is this\n\ufffd\ufffd 12 12 12 12\n"
_LOGIN_PAGE = "<!doctype html><html><head><title>Sign in</title></head><body><form>Sign in</form></body></html>\n"


class PortTaken(OSError):
    """The simulator cannot listen where it was told to."""


def make_app(
    cluster: SimulatedCluster,
    clock: Clock,
    *,
    faults: Faults | None = None,
    allow_faults: bool = False,
    hang_s: float = _HANG_S,
) -> Starlette:
    """The ASGI application; `allow_faults` adds the routes that set and clear `faults` over HTTP."""
    broken = faults if faults is not None else Faults(cluster)

    async def index(request: Request) -> Response:
        return HTMLResponse(_index_page(cluster, clock()))

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def metrics(request: Request) -> Response:
        name = _known_node(cluster, request)
        fault = broken.of(name)
        if fault is None:
            return Response(exposition(cluster, name, clock()), media_type=CONTENT_TYPE)
        return await _faulty_metrics(cluster, name, clock(), fault, hang_s)

    async def targets(request: Request) -> Response:
        return JSONResponse(dcgm_targets(cluster, request.url.netloc))

    async def set_fault(request: Request) -> Response:
        name = _known_node(cluster, request)
        try:
            kind = FaultKind(request.path_params["kind"])
        except ValueError:
            raise HTTPException(404, f"No such fault; there are: {', '.join(FaultKind)}.") from None
        broken.set(name, kind, clock())
        return PlainTextResponse(f"{name}: {kind}\n")

    async def clear_fault(request: Request) -> Response:
        name = _known_node(cluster, request)
        broken.clear(name)
        return PlainTextResponse(f"{name}: works\n")

    routes = [
        Route("/", index),
        Route("/healthz", health),
        Route(metrics_path("{node}"), metrics),
        Route("/sd/dcgm", targets),
    ]
    if allow_faults:
        routes += [
            Route("/faults/{node}/{kind}", set_fault, methods=["POST"]),
            Route("/faults/{node}", clear_fault, methods=["DELETE"]),
        ]
    return Starlette(routes=routes)


def _known_node(cluster: SimulatedCluster, request: Request) -> str:
    name: str = request.path_params["node"]
    if name not in cluster.by_name:
        raise HTTPException(404, "The simulated cluster has no such node; / lists them.")
    return name


async def _faulty_metrics(cluster: SimulatedCluster, name: str, now: datetime, fault: Fault, hang_s: float) -> Response:
    match fault.kind:
        case FaultKind.UNAVAILABLE:
            return PlainTextResponse("no healthy upstream\n", 503)
        case FaultKind.SERVER_ERROR:
            return PlainTextResponse("internal server error\n", 500)
        case FaultKind.UNAUTHORIZED:
            return PlainTextResponse("unauthorized\n", 401, {"WWW-Authenticate": "Bearer"})
        case FaultKind.HTML:
            return HTMLResponse(_LOGIN_PAGE)
        case FaultKind.GARBAGE:
            return Response(_GARBAGE, media_type=CONTENT_TYPE)
        case FaultKind.HALF_BODY:
            return _HalfBody(exposition(cluster, name, now))
        case FaultKind.HANG:
            await asyncio.sleep(hang_s)
            return Response(exposition(cluster, name, now), media_type=CONTENT_TYPE)
        case FaultKind.GENERATION_CHANGE:
            version = other_generation(cluster.node(name).kind.exporter)
            return Response(exposition(cluster, name, now, version=version), media_type=CONTENT_TYPE)
        case FaultKind.COUNTER_RESET:
            return Response(exposition(cluster, name, now, counters_since=fault.since), media_type=CONTENT_TYPE)


class _HalfBody(Response):
    """Promises the whole body and stops in the middle of it."""

    media_type = CONTENT_TYPE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body)[: len(self.body) // 2]})


def _index_page(cluster: SimulatedCluster, now: datetime) -> str:
    rows = "\n".join(
        "<tr>"
        f'<td><a href="{html.escape(metrics_path(node.name), quote=True)}">{html.escape(node.name)}</a></td>'
        f"<td>{len(node.gpus)} × {html.escape(node.kind.board.product)}</td>"
        f"<td>{html.escape(node.kind.mig_strategy)}</td>"
        f"<td>{html.escape(node.kind.exporter)}</td>"
        "</tr>"
        for node in cluster.nodes
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>gpufleet: simulated cluster</title></head>'
        f"<body><h1>Simulated cluster</h1><p>{len(cluster.nodes)} nodes, seed {cluster.seed}, "
        f"simulated time {html.escape(now.isoformat(timespec='seconds'))}. Nothing here is measured.</p>"
        '<p><a href="/sd/dcgm">Prometheus service discovery</a></p>'
        "<table><tr><th>Node</th><th>GPUs</th><th>MIG strategy</th><th>dcgm-exporter</th></tr>"
        f"{rows}</table></body></html>\n"
    )


def running_clock(speed: float = 1.0) -> Clock:
    """Now, for `speed` 1; else a clock that starts now and runs that much faster."""
    if speed == 1.0:
        return lambda: datetime.now(UTC)
    start, started = datetime.now(UTC), time.monotonic()
    return lambda: start + timedelta(seconds=speed * (time.monotonic() - started))


def serve(
    *,
    nodes: int = 6,
    seed: int = 1,
    port: int = 0,
    speed: float = 1.0,
    host: str = "127.0.0.1",
    allow_faults: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM; must be called in the main thread.

    One line on standard output tells the address once it answers; port 0 takes any free one. Raises PortTaken.
    """
    app = make_app(simulated_cluster(nodes, seed), running_clock(speed), allow_faults=allow_faults)
    listener = _listen(host, port)
    address = f"http://{host}:{listener.getsockname()[1]}"
    server = _Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
        ),
        greeting=f"gpufleet simulated cluster: {address} ({nodes} nodes, seed {seed}, speed {speed:g})",
    )

    def stop(signal_number: int, frame: object) -> None:
        server.should_exit = True

    # uvicorn raises a caught signal again once it has stopped; these handlers make that a clean exit
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            error.errno, f"Cannot listen on {host}:{port} ({error.strerror}); give another port, or 0 for any free one."
        ) from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn that says where it is, once it is there."""

    def __init__(self, config: uvicorn.Config, *, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(self._greeting + "\n")
        sys.stdout.flush()

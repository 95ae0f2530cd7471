"""The simulated cluster over HTTP: one process that answers for every node's exporter."""

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
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sample_data.clock_skew import ClockSkews, Dated, skew_routes
from sample_data.cluster import SimulatedCluster, simulated_cluster
from sample_data.dcgm_exporter import CONTENT_TYPE, exposition
from sample_data.fault_responses import HANG_S, fault_response
from sample_data.faults import FaultKind, Faults, other_generation
from sample_data.kubernetes_routes import routes as kubernetes_routes
from sample_data.langfuse_routes import routes as langfuse_routes
from sample_data.litellm_routes import routes as litellm_routes
from sample_data.ollama_routes import routes as ollama_routes
from sample_data.service_discovery import dcgm_targets, metrics_path
from sample_data.serving_routes import routes as serving_routes

Clock = Callable[[], datetime]


class PortTaken(OSError):
    """The simulator cannot listen where it was told to."""


def make_app(
    cluster: SimulatedCluster,
    clock: Clock,
    *,
    faults: Faults | None = None,
    allow_faults: bool = False,
    hang_s: float = HANG_S,
    skews: ClockSkews | None = None,
) -> Starlette:
    """The ASGI application; `allow_faults` adds the routes that set and clear `faults` and `skews` over HTTP.

    With `skews` it dates its answers itself, so the server around it must not.
    """
    broken = faults if faults is not None else Faults(cluster)

    async def index(request: Request) -> Response:
        return HTMLResponse(_index_page(cluster, clock()))

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def metrics(request: Request) -> Response:
        name = _known_node(cluster, request)
        fault = broken.of(name)
        if fault is None:
            return Response(_page(cluster, name, clock(), broken), media_type=CONTENT_TYPE)
        return await fault_response(fault.kind, lambda: _page(cluster, name, clock(), broken), hang_s=hang_s)

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
        *ollama_routes(cluster, clock, broken, allow_faults=allow_faults, hang_s=hang_s),
        *langfuse_routes(cluster, clock, broken, allow_faults=allow_faults, hang_s=hang_s),
        *litellm_routes(cluster, clock, broken, allow_faults=allow_faults, hang_s=hang_s),
        *serving_routes(cluster, clock, broken, allow_faults=allow_faults, hang_s=hang_s),
        *kubernetes_routes(cluster, clock, allow_faults=allow_faults, hang_s=hang_s),
    ]
    if allow_faults:
        routes += [
            *(skew_routes(skews) if skews is not None else ()),
            Route("/faults/{node}/{kind}", set_fault, methods=["POST"]),
            Route("/faults/{node}", clear_fault, methods=["DELETE"]),
        ]
    return Starlette(routes=routes, middleware=[Middleware(Dated, skews=skews)] if skews is not None else [])


def _known_node(cluster: SimulatedCluster, request: Request) -> str:
    name: str = request.path_params["node"]
    if name not in cluster.by_name:
        raise HTTPException(404, "The simulated cluster has no such node; / lists them.")
    return name


def _page(cluster: SimulatedCluster, name: str, now: datetime, faults: Faults) -> str:
    process = faults.process_of(name)
    if process is None:
        return exposition(cluster, name, now)
    if process.kind is FaultKind.GENERATION_CHANGE:
        return exposition(cluster, name, now, version=other_generation(cluster.node(name).kind.exporter))
    return exposition(cluster, name, now, counters_since=process.since)


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
        '<p><a href="/sd/dcgm">Prometheus service discovery</a>, <a href="/sd/serving">of the model servers</a></p>'
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
    app = make_app(simulated_cluster(nodes, seed), running_clock(speed), allow_faults=allow_faults, skews=ClockSkews())
    listener = _listen(host, port)
    address = f"http://{host}:{listener.getsockname()[1]}"
    server = _Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            date_header=False,
            timeout_graceful_shutdown=1,
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

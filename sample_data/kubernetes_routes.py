"""The simulated API server over HTTP: everything below /kubernetes is one, and its faults can be set from outside.

server: http://127.0.0.1:9400/kubernetes        in the cluster entry of a kubeconfig
"""

from collections.abc import Callable
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sample_data.cluster import SimulatedCluster
from sample_data.fault_responses import HANG_S
from sample_data.kubernetes_api import KubernetesSimulator
from sample_data.kubernetes_faults import KubernetesFault

Clock = Callable[[], datetime]

PREFIX = "/kubernetes"


def routes(
    cluster: SimulatedCluster,
    clock: Clock,
    *,
    simulator: KubernetesSimulator | None = None,
    prefix: str = PREFIX,
    allow_faults: bool = False,
    hang_s: float = HANG_S,
) -> list[Route]:
    """The routes of one API server; `allow_faults` adds those that set and clear its faults.

    `POST /faults/kubernetes/KIND?resource=pods&times=2` lets the next two requests for pods fail; without `resource`
    all requests, without `times` until `DELETE /faults/kubernetes`. `clock` is not asked: the objects do not age.
    """
    server = simulator if simulator is not None else KubernetesSimulator(cluster=cluster, hang_s=hang_s)

    async def answer(request: Request) -> Response:
        return await server.answer(request, "/" + request.path_params["path"])

    async def set_fault(request: Request) -> Response:
        try:
            kind = KubernetesFault(request.path_params["kind"])
            times = request.query_params.get("times")
            server.faults.set(kind, request.query_params.get("resource", ""), times=int(times) if times else None)
        except ValueError:
            raise HTTPException(404, f"No such fault; there are: {', '.join(KubernetesFault)}.") from None
        return PlainTextResponse(f"kubernetes: {kind}\n")

    async def clear_fault(request: Request) -> Response:
        server.faults.clear()
        return PlainTextResponse("kubernetes: works\n")

    found = [Route(prefix + "/{path:path}", answer)]
    if allow_faults:
        found += [
            Route("/faults/kubernetes/{kind}", set_fault, methods=["POST"]),
            Route("/faults/kubernetes", clear_fault, methods=["DELETE"]),
        ]
    return found

"""The simulated Ollama servers over HTTP, each under the path of its pod (`sample_data.serving_endpoints.pod_path`)."""

import json
from collections.abc import Callable
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sample_data import ollama_server
from sample_data.cluster import SimulatedCluster
from sample_data.deployments import Engine
from sample_data.fault_responses import HANG_S, fault_response
from sample_data.faults import CHANGES_OF_PROCESS, Faults
from sample_data.named_faults import fault_routes
from sample_data.serving_endpoints import pod_path
from sample_data.serving_state import ServingPod, serving_pods

Clock = Callable[[], datetime]


def ollama_paths(cluster: SimulatedCluster) -> tuple[str, ...]:
    """Where each Ollama lies, in the order of nodes and devices."""
    return tuple(pod_path(place.pod) for place in _places(cluster).values())


def routes(
    cluster: SimulatedCluster, clock: Clock, faults: Faults, *, allow_faults: bool = False, hang_s: float = HANG_S
) -> list[Route]:
    """The routes of every Ollama; a fault of one is set under `NAMESPACE/NAME` of its pod."""
    places = _places(cluster)
    faults.also(places)

    def name_of(request: Request) -> str:
        name = f"{request.path_params['namespace']}/{request.path_params['name']}"
        if name not in places:
            raise HTTPException(404, "The simulated cluster has no such Ollama.")
        return name

    async def answer(request: Request) -> Response:
        name = name_of(request)
        asked: object = None
        if request.method == "POST":
            try:
                asked = await request.json()
            except json.JSONDecodeError:
                return JSONResponse({"error": "invalid JSON"}, 400)
        told = _answer(places[name], request.method, request.path_params["call"], asked, clock())
        fault = faults.of(name)
        if fault is not None and fault.kind not in CHANGES_OF_PROCESS:
            return await fault_response(fault.kind, lambda: bytes(told.body).decode(), hang_s=hang_s)
        return told

    found = [Route("/pods/{namespace}/{name}/api/{call}", answer, methods=["GET", "POST"])]
    if allow_faults:
        found += fault_routes("/faults/ollama/{namespace}/{name}", name_of, faults, clock)
    return found


def _places(cluster: SimulatedCluster) -> dict[str, ServingPod]:
    return {
        f"{place.pod.namespace}/{place.pod.name}": place
        for place in serving_pods(cluster)
        if place.deployment.engine is Engine.OLLAMA
    }


def _answer(place: ServingPod, method: str, call: str, asked: object, at: datetime) -> Response:
    match method, call:
        case "GET", "ps":
            return JSONResponse(ollama_server.running(place, at))
        case "GET", "tags":
            return JSONResponse(ollama_server.listed(place))
        case "GET", "version":
            return JSONResponse(ollama_server.version(place))
        case "POST", "show":
            name = str(asked.get("model") or asked.get("name")) if isinstance(asked, dict) else ""
            shown = ollama_server.shown(name)
            if shown is None:
                return JSONResponse({"error": f"model '{name}' not found"}, 404)
            return JSONResponse(shown)
        case _:
            return Response("404 page not found", 404, media_type="text/plain")

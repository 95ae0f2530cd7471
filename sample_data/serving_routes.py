"""The simulated model servers over HTTP: metrics, models, versions, and their service discovery for Prometheus.

Where they lie, and why there: `sample_data.serving_endpoints`.
"""

from collections.abc import Callable
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from planner.serving_readings import ServingEngine
from sample_data.cluster import SimulatedCluster
from sample_data.fault_responses import CONTENT_TYPE, HANG_S, fault_response
from sample_data.faults import CHANGES_OF_PROCESS, FaultKind, Faults
from sample_data.other_engine_metrics import llama_cpp_page, sglang_page, tgi_page
from sample_data.serving_endpoints import has_endpoint, serving_targets
from sample_data.serving_software import ServingSoftware, other_release
from sample_data.serving_state import ServingPod, serving_pods, serving_state
from sample_data.vllm_metrics import vllm_page

Clock = Callable[[], datetime]


def routes(
    cluster: SimulatedCluster, clock: Clock, faults: Faults, *, allow_faults: bool = False, hang_s: float = HANG_S
) -> list[Route]:
    """The routes of every server; a fault of a pod is set under `NAMESPACE/NAME`, see `fault_name`."""
    places = {fault_name(place.pod.namespace, place.pod.name): place for place in serving_pods(cluster)}
    faults.also(places)

    def known(request: Request) -> ServingPod:
        place = places.get(fault_name(request.path_params["namespace"], request.path_params["name"]))
        if place is None or not has_endpoint(place):
            raise HTTPException(404, "The simulated cluster has no such server; /sd/serving lists them.")
        return place

    async def metrics(request: Request) -> Response:
        place = known(request)
        software, since = _as_it_runs(place, faults)
        fault = faults.of(fault_name(place.pod.namespace, place.pod.name))
        if software.engine is ServingEngine.LLAMA_CPP and not software.has_metrics:
            return _llama_cpp_refusal("metrics", "--metrics")
        if fault is not None:
            return await fault_response(
                fault.kind, lambda: metrics_page(place, clock(), software=software, since=since), hang_s=hang_s
            )
        return Response(metrics_page(place, clock(), software=software, since=since), media_type=CONTENT_TYPE)

    async def said(request: Request) -> Response:
        place = known(request)
        software, since = _as_it_runs(place, faults)
        fault = faults.of(fault_name(place.pod.namespace, place.pod.name))
        if fault is not None and fault.kind not in CHANGES_OF_PROCESS:
            return await fault_response(fault.kind, lambda: "", hang_s=hang_s)
        answer = _answers(place, software, since or place.started_at, clock()).get(request.path_params["path"])
        if answer is None:
            return JSONResponse({"detail": "Not Found"}, 404)
        return answer

    async def targets(request: Request) -> Response:
        return JSONResponse(serving_targets(tuple(places.values()), request.url.netloc))

    async def set_fault(request: Request) -> Response:
        place = known(request)
        name = fault_name(place.pod.namespace, place.pod.name)
        try:
            kind = FaultKind(request.path_params["kind"])
        except ValueError:
            raise HTTPException(404, f"No such fault; there are: {', '.join(FaultKind)}.") from None
        faults.set(name, kind, clock())
        return PlainTextResponse(f"{name}: {kind}\n")

    async def clear_fault(request: Request) -> Response:
        place = known(request)
        name = fault_name(place.pod.namespace, place.pod.name)
        faults.clear(name)
        return PlainTextResponse(f"{name}: works\n")

    found = [
        Route("/sd/serving", targets),
        Route("/pods/{namespace}/{name}/metrics", metrics),
        Route("/pods/{namespace}/{name}/{path:path}", said),
    ]
    if allow_faults:
        found += [
            Route("/faults/pods/{namespace}/{name}/{kind}", set_fault, methods=["POST"]),
            Route("/faults/pods/{namespace}/{name}", clear_fault, methods=["DELETE"]),
        ]
    return found


def fault_name(namespace: str, name: str) -> str:
    """What a pod is called where faults are set."""
    return f"{namespace}/{name}"


def metrics_page(
    place: ServingPod, at: datetime, *, software: ServingSoftware | None = None, since: datetime | None = None
) -> str:
    """The body of a scrape of that pod's server; ValueError for a pod that has none.

    `software` replaces what runs there, `since` the time at which it started.
    """
    runs = software or place.deployment.software
    if runs is None:
        raise ValueError(f"{place.pod.name} has no metrics of a serving engine.")
    match runs.engine:
        case ServingEngine.SGLANG:
            return sglang_page(place, runs, at, since=since)
        case ServingEngine.TGI:
            return tgi_page(place, runs, at, since=since)
        case ServingEngine.LLAMA_CPP:
            return llama_cpp_page(place, at, since=since)
        case _:
            return vllm_page(place, runs, at, since=since)


def _as_it_runs(place: ServingPod, faults: Faults) -> tuple[ServingSoftware, datetime | None]:
    """Software and start of the process, as the pod's fault makes them; an upgrade is a restart too."""
    software = place.deployment.software
    if software is None:
        raise HTTPException(404, "This pod has no metrics of a serving engine.")
    process = faults.process_of(fault_name(place.pod.namespace, place.pod.name))
    if process is None:
        return software, None
    return other_release(software) if process.kind is FaultKind.GENERATION_CHANGE else software, process.since


def _answers(place: ServingPod, software: ServingSoftware, started_at: datetime, at: datetime) -> dict[str, Response]:
    """What the server says beside its metrics, by path; Ray's metrics agent is no model server and says nothing."""
    created = int(started_at.timestamp())
    card: dict[str, object] = {"id": place.model, "object": "model", "created": created}
    match software.engine:
        case ServingEngine.VLLM if not software.under_ray:
            card |= {"owned_by": "vllm", "root": place.model, "parent": None, "max_model_len": software.max_model_len}
            return {
                "v1/models": JSONResponse({"object": "list", "data": [card]}),
                "version": JSONResponse({"version": software.version}),
                "health": Response(),
            }
        case ServingEngine.SGLANG:
            card |= {"owned_by": "sglang", "root": place.model, "max_model_len": software.max_model_len}
            return {
                "v1/models": JSONResponse({"object": "list", "data": [card]}),
                "server_info": JSONResponse(
                    {"version": software.version, "context_length": software.max_model_len, "tp_size": 1, "dp_size": 1}
                ),
                "model_info": JSONResponse({"model_path": place.model, "is_generation": True}),
                "health": Response(),
            }
        case ServingEngine.TGI:
            return {
                "info": JSONResponse(
                    {
                        "model_id": place.model,
                        "version": software.version,
                        "router": "text-generation-router",
                        "max_concurrent_requests": software.max_sequences,
                        "max_input_tokens": software.max_model_len - 1,
                        "max_total_tokens": software.max_model_len,
                    }
                ),
                "v1/models": JSONResponse({"object": "list", "data": [card | {"owned_by": place.model}]}),
                "health": Response(),
            }
        case ServingEngine.LLAMA_CPP:
            return _llama_cpp_answers(place, software, at, card)
        case _:
            return {}


def _llama_cpp_answers(
    place: ServingPod, software: ServingSoftware, at: datetime, card: dict[str, object]
) -> dict[str, Response]:
    slots = software.max_sequences
    context = serving_state(place, at).kv_cache_tokens // slots
    busy = serving_state(place, at).running
    card |= {"owned_by": "llamacpp", "meta": {"n_ctx": context, "n_ctx_train": software.max_model_len}}
    return {
        "v1/models": JSONResponse({"models": [{"name": place.model}], "object": "list", "data": [card]}),
        "props": JSONResponse(
            {
                "default_generation_settings": {"n_ctx": context},
                "total_slots": slots,
                "model_alias": place.model,
                "model_path": f"/models/{place.deployment.name}.gguf",
                "build_info": f"{software.version}-0000000",
            }
        ),
        "slots": JSONResponse([{"id": slot, "n_ctx": context, "is_processing": slot < busy} for slot in range(slots)]),
        "health": JSONResponse({"status": "ok"}),
    }


def _llama_cpp_refusal(endpoint: str, flag: str) -> Response:
    message = f"This server does not support {endpoint} endpoint. Start it with `{flag}`"
    return JSONResponse({"error": {"code": 501, "message": message, "type": "not_supported_error"}}, 501)

"""Routes that make one named server of the simulation fail, and let it work again."""

from collections.abc import Callable
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sample_data.faults import FaultKind, Faults


def fault_routes(
    path: str, name_of: Callable[[Request], str], faults: Faults, clock: Callable[[], datetime]
) -> list[Route]:
    """`POST path/{kind}` and `DELETE path`; `name_of` gives the name under which the request's server may fail."""

    async def set_fault(request: Request) -> Response:
        name = name_of(request)
        try:
            kind = FaultKind(request.path_params["kind"])
        except ValueError:
            raise HTTPException(404, f"No such fault; there are: {', '.join(FaultKind)}.") from None
        faults.set(name, kind, clock())
        return PlainTextResponse(f"{name}: {kind}\n")

    async def clear_fault(request: Request) -> Response:
        name = name_of(request)
        faults.clear(name)
        return PlainTextResponse(f"{name}: works\n")

    return [
        Route(f"{path}/{{kind}}", set_fault, methods=["POST"]),
        Route(path, clear_fault, methods=["DELETE"]),
    ]

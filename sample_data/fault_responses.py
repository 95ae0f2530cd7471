"""What a server answers that is made to fail, whatever it would have said."""

import asyncio
from collections.abc import Callable

from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from sample_data.faults import FaultKind

HANG_S = 120.0
"""How long a hanging server keeps silent."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_GARBAGE = "\x00\x01 this is not an exposition {{{\nneither=is this\n\ufffd\ufffd 12 12 12 12\n"
_LOGIN_PAGE = "<!doctype html><html><head><title>Sign in</title></head><body><form>Sign in</form></body></html>\n"


async def fault_response(kind: FaultKind, page: Callable[[], str], *, hang_s: float = HANG_S) -> Response:
    """The failing answer; `page` writes what a working server of this moment would say.

    A change of generation or a reset of counters is no answer of its own: `page` has to write what such a server says.
    """
    match kind:
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
            return _HalfBody(page())
        case FaultKind.HANG:
            await asyncio.sleep(hang_s)
    return Response(page(), media_type=CONTENT_TYPE)


class _HalfBody(Response):
    """Promises the whole body and stops in the middle of it."""

    media_type = CONTENT_TYPE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body)[: len(self.body) // 2]})

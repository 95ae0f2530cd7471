"""Whose clock is wrong: a server whose clock is off dates its answers wrongly."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ClockSkews:
    """By how many seconds the clocks of simulated servers are ahead, by the beginning of their paths."""

    def __init__(self) -> None:
        self._by_path: dict[str, float] = {}

    def set(self, path: str, seconds: float) -> None:
        """Put the clock of what lies below a path ahead (or back, with a negative number); 0 sets it right."""
        if seconds:
            self._by_path[path] = seconds
        else:
            self._by_path.pop(path, None)

    def of(self, path: str) -> float:
        """How far the clock is ahead there."""
        return next((skew_s for begin, skew_s in self._by_path.items() if path.startswith(begin)), 0.0)


class Dated:
    """An application whose answers carry a `Date` header by the clock of the server that they are of."""

    def __init__(self, app: ASGIApp, *, skews: ClockSkews) -> None:
        self._app = app
        self._skews = skews

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        skew = timedelta(seconds=self._skews.of(scope.get("path", "")))

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Date", format_datetime(datetime.now(UTC) + skew, usegmt=True))
            await send(message)

        await self._app(scope, receive, dated)


def skew_routes(skews: ClockSkews) -> list[Route]:
    """`POST /faults/clock-skew?path=/nodes/NAME&seconds=7200`; 0 seconds set the clock right."""

    async def set_skew(request: Request) -> Response:
        try:
            path, seconds = request.query_params["path"], float(request.query_params["seconds"])
        except (KeyError, ValueError):
            raise HTTPException(400, "Give path, the beginning of a path, and seconds, a number.") from None
        skews.set(path, seconds)
        return PlainTextResponse(f"{path}: {seconds:g} s ahead\n")

    return [Route("/faults/clock-skew", set_skew, methods=["POST"])]

"""Looking up host names in time: a name server that does not answer keeps nobody waiting longer than he wants to wait.

The system's resolver cannot be interrupted, and may take many times as long as a question may. Each lookup therefore
has a daemon thread of its own, which ends when the resolver gives up; whoever asked has gone on by then. A name that is
being looked up is not looked up a second time, so that one that hangs holds one thread, however often it is asked for.
"""

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import Future
from typing import Any

MAX_LOOKUPS = 256
"""How many names may hang at the same time; one more cannot be resolved at once, which is an error of its target."""

Addresses = list[tuple[Any, ...]]
"""As `socket.getaddrinfo` gives them."""

_lock = threading.Lock()
_running: dict[tuple[Any, ...], Future[Addresses]] = {}


def look_up(
    host: str | bytes | None, port: str | int | None, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> Future[Addresses]:
    """What `socket.getaddrinfo` says, when it says it; the future raises what that raises, and cannot be cancelled."""
    name = host.decode("ascii", errors="replace") if isinstance(host, bytes) else host
    asked = (name, port, family, type, proto, flags)
    if _is_address(name):
        return _answered(asked)
    with _lock:
        known = _running.get(asked)
        if known is not None:
            return known
        found: Future[Addresses] = Future()
        found.set_running_or_notify_cancel()  # one of several who wait must not take it from the others
        if len(_running) >= MAX_LOOKUPS:
            found.set_exception(
                socket.gaierror(socket.EAI_AGAIN, f"{MAX_LOOKUPS} names are being looked up and none is found")
            )
            return found
        _running[asked] = found
    threading.Thread(target=_resolve, args=(asked, found), daemon=True, name="name-lookup").start()
    return found


class LookupLoop(asyncio.SelectorEventLoop):
    """An event loop in which a name that hangs delays neither other names nor the end of the loop."""

    async def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Addresses:
        """As the loop's own, each name in a thread of its own."""
        number = port.decode("ascii") if isinstance(port, bytes) else port
        found = look_up(host, number, family=family, type=type, proto=proto, flags=flags)
        return await asyncio.wrap_future(found, loop=self)


def _is_address(name: str | None) -> bool:
    try:
        ipaddress.ip_address((name or "").partition("%")[0])
    except ValueError:
        return False
    return True


def _answered(asked: tuple[Any, ...]) -> Future[Addresses]:
    found: Future[Addresses] = Future()
    found.set_running_or_notify_cancel()
    _set(found, asked)
    return found


def _resolve(asked: tuple[Any, ...], found: Future[Addresses]) -> None:
    try:
        _set(found, asked)
    finally:
        with _lock:
            _running.pop(asked, None)


def _set(found: Future[Addresses], asked: tuple[Any, ...]) -> None:
    try:
        found.set_result(list(socket.getaddrinfo(*asked)))
    except (OSError, ValueError, TypeError, OverflowError) as failure:
        found.set_exception(failure)

"""An end, at a stated moment, of what urllib3 is doing in this thread: for the clients that are built upon it.

Its own timeouts count from one piece of an answer to the next, so that a server that sends one byte now and then holds
its reader for ever. Here whatever connection is used under a deadline is hung up when the time is over, which ends the
read in it; and a name is looked up for that long at most.
"""

import contextlib
import ipaddress
import os
import socket
import threading
import time
from types import TracebackType
from typing import Any, ClassVar

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from collectors.name_lookup import look_up

_here = threading.local()


class Deadline:
    """Begins when it is made, for the thread that makes it; as a context it ends with that."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False  # the connection was hung up: whatever was read since is no whole answer
        self._until = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._held: list[socket.socket] | None = []
        self._timer = threading.Timer(seconds, self._hang_up)
        self._timer.daemon = True
        self._timer.start()
        _here.deadline = self

    def __enter__(self) -> "Deadline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, where: TracebackType | None
    ) -> None:
        self.end()

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least a thousandth."""
        return max(self._until - time.monotonic(), 0.001)

    def watch(self, connection: socket.socket | None) -> None:
        """Hang this connection up too when the time is over; it may have TLS around it then."""
        if connection is None or connection.fileno() < 0:
            return
        held = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            if self._held is not None:
                self._held.append(held)
                if self.is_over:
                    _shut(held)
                return
        held.close()

    def end(self) -> None:
        """In time: nothing is hung up any more. To be called once the answer is read."""
        self._timer.cancel()
        if getattr(_here, "deadline", None) is self:
            _here.deadline = None
        with self._lock:
            held, self._held = self._held or [], None
        for one in held:
            one.close()

    def _hang_up(self) -> None:
        with self._lock:
            if self._held is None:
                return
            self.is_over = True
            for one in self._held:
                _shut(one)


def heed_deadlines(pool: PoolManager) -> None:
    """Let the connections that this pool makes from now on heed the deadline of the thread that uses them."""
    pool.pool_classes_by_scheme = {"http": _HeedingPool, "https": _HeedingTlsPool}


def _current() -> Deadline | None:
    deadline: Deadline | None = getattr(_here, "deadline", None)
    return deadline


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)


class _Heeding(HTTPConnection):
    """A connection that is hung up with the deadline under which it is used."""

    def request(self, *args: Any, **kwargs: Any) -> None:
        """As urllib3's; a connection that was kept is watched from here on."""
        if (deadline := _current()) is not None:
            deadline.watch(self.sock)
        super().request(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        deadline = _current()
        if deadline is None:
            return super()._new_conn()
        made = self._connected(deadline)
        deadline.watch(made)  # before TLS, whose handshake may drip as well
        return made

    def _connected(self, deadline: Deadline) -> socket.socket:
        """To the first of the name's addresses that accepts, all of them within the time."""
        name, timeout_s = self._dns_host, self.timeout
        failure: Exception = NewConnectionError(self, "the name has no address")
        try:
            for address in self._addresses(name, deadline):
                if deadline.is_over:
                    raise ConnectTimeoutError(self, f"{self.host} did not accept a connection in time")
                self._dns_host = address
                told_s = timeout_s if isinstance(timeout_s, int | float) else deadline.left_s
                self.timeout = min(told_s, deadline.left_s)
                try:
                    return super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError) as refused:
                    failure = refused
        finally:
            self._dns_host, self.timeout = name, timeout_s
        raise failure

    def _addresses(self, name: str, deadline: Deadline) -> list[str]:
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name.strip("[]").partition("%")[0])
            return [name]
        try:
            found = look_up(name, self.port, type=socket.SOCK_STREAM).result(deadline.left_s)
        except TimeoutError:
            late = socket.gaierror(socket.EAI_AGAIN, "the name servers did not answer in time")
            raise NameResolutionError(name, self, late) from None
        except socket.gaierror as failure:
            raise NameResolutionError(name, self, failure) from failure
        except ValueError as failure:
            raise NewConnectionError(self, "the name is no valid one") from failure
        return list(dict.fromkeys(str(one[4][0]) for one in found))


class _HeedingTls(_Heeding, HTTPSConnection):
    """The same over TLS."""


class _HeedingPool(HTTPConnectionPool):
    ConnectionCls: ClassVar[type[HTTPConnection]] = _Heeding  # type: ignore[misc]


class _HeedingTlsPool(HTTPSConnectionPool):
    ConnectionCls: ClassVar[type[HTTPSConnection]] = _HeedingTls  # type: ignore[misc]

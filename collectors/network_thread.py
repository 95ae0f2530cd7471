"""The one thread in which those ask over HTTP who wait for the answer.

A blocking read can only be bounded from one piece of an answer to the next, so that a server that sends one byte now
and then holds it for ever. In an event loop everything ends when its time is over: the lookup of the name, the
connection, TLS, the head of an answer and its body.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from collectors.name_lookup import LookupLoop

T = TypeVar("T")

_lock = threading.Lock()
_loop: LookupLoop | None = None


def wait_for(asking: Coroutine[Any, Any, T]) -> T:
    """Run it in the network's thread and wait; returns and raises what it does. Not to be called in that thread."""
    running = asyncio.run_coroutine_threadsafe(asking, _started())
    try:
        return running.result()
    except BaseException:
        running.cancel()  # Ctrl-C here ends it there; one that has ended is left as it is
        raise


def _started() -> LookupLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = LookupLoop()
            threading.Thread(target=_loop.run_forever, daemon=True, name="network").start()
        return _loop

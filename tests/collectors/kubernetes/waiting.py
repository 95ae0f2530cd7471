"""Waiting for what another thread does, and pauses that do not hold a test up."""

import threading
import time
from collections.abc import Callable

PATIENCE_S = 20.0


def eventually(happened: Callable[[], bool]) -> None:
    """Wait until it has happened; fails when it never does."""
    until = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.005)


class Pauses:
    """Remembers the pauses that were asked for, and makes each of them short."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []

    def __call__(self, stopping: threading.Event, seconds: float) -> object:
        self.asked_s.append(seconds)
        return stopping.wait(0.01)

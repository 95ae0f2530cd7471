"""The simulated cluster as a process that writes down what it answered, and when by its own clock."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sample_data.clock_skew import ClockSkews
from sample_data.cluster import simulated_cluster
from sample_data.server import make_app

SEED = 1
_asked: ContextVar[list[datetime]] = ContextVar("asked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of the simulated cluster: `began_at` when it was asked, `at` the moment that the answer is of."""

    method: str
    path: str
    query: str
    status: int
    whole: bool
    began_at: datetime
    at: datetime


class Journal:
    """An application that writes one line of JSON for every answer of another one."""

    def __init__(self, app: ASGIApp, file: Path) -> None:
        self._app = app
        self._file = file.open("a", encoding="utf-8", buffering=1)  # line by line: a killed process loses none

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        times: list[datetime] = []
        token = _asked.set(times)
        began_at = datetime.now(UTC)
        told: dict[str, Any] = {"status": 0, "length": None, "sent": 0}

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                told["length"] = next((int(v) for k, v in message["headers"] if k.lower() == b"content-length"), None)
            elif message["type"] == "http.response.body":
                told["sent"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            _asked.reset(token)
            line = {
                "method": scope.get("method", ""),
                "path": scope.get("path", ""),
                "query": scope.get("query_string", b"").decode("ascii", "replace"),
                "status": told["status"],
                "whole": told["length"] in (None, told["sent"]),
                "began_at": began_at.isoformat(),
                "at": (times[-1] if times else began_at).isoformat(),
            }
            self._file.write(json.dumps(line) + "\n")


def answers(file: Path) -> Iterator[Answer]:
    """What a journal holds, in the order in which it was written."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            told = json.loads(line)
            times = {name: datetime.fromisoformat(told[name]) for name in ("began_at", "at")}
            yield Answer(**{**told, **times})


def _clock() -> datetime:
    now = datetime.now(UTC)
    times = _asked.get(None)
    if times is not None:
        times.append(now)
    return now


def serve(nodes: int, port: int, journal: str) -> None:
    """Serve on 127.0.0.1 until a signal comes."""
    app = make_app(simulated_cluster(nodes, SEED), _clock, allow_faults=True, skews=ClockSkews())
    uvicorn.run(
        Journal(app, Path(journal)),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        date_header=False,
        timeout_graceful_shutdown=1,
    )


class RunningCluster:
    """The cluster as a process that can be killed, halted and started again at the same address."""

    def __init__(self, *, nodes: int, port: int, journal: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = ("from benchmarks.endurance.cluster import serve", f"serve({nodes}, {port}, {str(journal)!r})")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen([sys.executable, "-c", "; ".join(self._command)])
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/healthz", timeout=2, trust_env=False).raise_for_status()
            except httpx.HTTPError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise SystemExit("the simulated cluster did not start") from None
                time.sleep(0.2)
            else:
                return

    def kill(self) -> None:
        """End it at once: from now on nobody listens."""
        process = self._running()
        process.kill()
        process.wait()

    def halt(self) -> None:
        """Stop it in the middle of what it does: connections are taken, nothing is answered."""
        os.kill(self._running().pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self._running().pid, signal.SIGCONT)

    def ask(self, method: str, where: str, **query: str) -> None:
        """Set or clear a fault; SystemExit when the cluster refuses, because then the figures would not be of it."""
        answer = httpx.request(method, f"{self.url}{where}", params=query, timeout=30, trust_env=False)
        if answer.status_code != 200:
            raise SystemExit(f"{method} {where}: {answer.status_code} {answer.text}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise SystemExit("the simulated cluster does not run")
        return self._process

"""How the parts of `gpufleet run` start and stop together: simulator, background service, dashboard.

Each part is a process of its own. Ctrl-C, SIGTERM or the end of any part ends all of them.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import tomlkit

import dashboard
from gpufleet.errors import ProcessFailed

STOP_PATIENCE_S = 20.0
START_PATIENCE_S = 30.0
POLL_S = 0.3
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
APP = Path(dashboard.__file__).resolve().parent / "app.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process of the run."""

    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    ready_url: str | None = None  # the next part is started when this answers


def gpufleet_command(*arguments: str) -> tuple[str, ...]:
    """This installation's own command line, whatever PATH says."""
    return (sys.executable, "-m", "gpufleet", *arguments)


def dashboard_part(*, store_url: str, port: int) -> Part:
    """The dashboard on 127.0.0.1; every other option is read from `streamlit_config.toml`, as a plain
    `streamlit run dashboard/app.py` reads it."""
    return Part(
        name="dashboard",
        command=(sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={port}"),
        environment=(("GPUFLEET_STORE_URL", store_url),),
    )


def write_run_config(folder: Path, table: Mapping[str, Any]) -> Path:
    """Hand a configuration made from flags to the background process; the caller removes the file."""
    descriptor, name = tempfile.mkstemp(prefix=".gpufleet-run-", suffix=".toml", dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(tomlkit.dumps(table))
    return Path(name)


def run_together(parts: Sequence[Part], *, environ: Mapping[str, str] | None = None) -> None:
    """Run all parts until a signal comes; raises ProcessFailed when one ends on its own.

    Children get their own process group, so that Ctrl-C reaches only this process, which then stops them in order:
    the dashboard first, the simulator last.
    """
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)

    inherited = dict(os.environ if environ is None else environ)
    running: list[tuple[Part, subprocess.Popen[bytes]]] = []
    try:
        for part in parts:
            if stopping.is_set():
                break
            process = subprocess.Popen(  # noqa: S603 - the commands are built above, not taken from input
                part.command,
                env={**inherited, **dict(part.environment)},
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
            running.append((part, process))
            if part.ready_url is not None:
                _wait_until_ready(part, part.ready_url, running, stopping)
        while not stopping.wait(POLL_S):
            _check_alive(running)
    finally:
        _stop([process for _, process in reversed(running)])


def _end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent is gone: a killed `gpufleet run` leaves nothing on its ports."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _check_alive(running: Sequence[tuple[Part, subprocess.Popen[bytes]]]) -> None:
    for part, process in running:
        code = process.poll()
        if code is not None:
            raise ProcessFailed(
                f"the {part.name} ended on its own with exit code {code}; what it said stands above. "
                "Everything else was stopped."
            )


def _wait_until_ready(
    part: Part, url: str, running: Sequence[tuple[Part, subprocess.Popen[bytes]]], stopping: threading.Event
) -> None:
    deadline = time.monotonic() + START_PATIENCE_S
    while not stopping.is_set():
        _check_alive(running)
        try:
            httpx.get(url, timeout=1.0, trust_env=False)
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"the {part.name} does not answer at {url} after {START_PATIENCE_S:.0f} s: {error}"
                ) from error
            stopping.wait(0.1)
        else:
            return


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask each to end, then insist: a part that hangs must not keep the terminal."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + STOP_PATIENCE_S
    for process in processes:
        try:
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

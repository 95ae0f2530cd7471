"""Parts of a run start and stop together."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gpufleet.errors import ProcessFailed
from gpufleet.launch import Part, run_together

_SLEEPER = (
    "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(__import__('os').getpid())); time.sleep(60)"
)


def is_running(pid: int) -> bool:
    """A zombie runs no more: it only waits for whoever adopted it."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_when_one_part_ends_the_others_are_stopped_and_it_is_named(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    waiter = Part(name="waiter", command=(sys.executable, "-c", _SLEEPER, str(noted)))
    quitter = Part(
        name="quitter",
        command=(
            sys.executable,
            "-c",
            "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)\nsys.exit(3)",
            str(noted),
        ),
    )
    with pytest.raises(ProcessFailed, match="the quitter ended on its own with exit code 3"):
        run_together((waiter, quitter))
    assert not is_running(int(noted.read_text()))


def start_one_part(noted: Path) -> subprocess.Popen[bytes]:
    """A run of one part in a process of its own, once the part is up."""
    script = textwrap.dedent(f"""
        import sys
        from gpufleet.launch import Part, run_together
        run_together((Part(name="waiter", command=(sys.executable, "-c", {_SLEEPER!r}, {str(noted)!r})),))
    """)
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 30
    while not (noted.exists() and noted.read_text()):
        assert time.monotonic() < deadline, "the part was not started"
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_part(tmp_path: Path, name: signal.Signals) -> None:
    noted = tmp_path / "pid"
    process = start_one_part(noted)
    process.send_signal(name)
    assert process.wait(timeout=30) == 0
    assert not is_running(int(noted.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_killed_run_leaves_no_part_behind(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    process = start_one_part(noted)
    process.kill()
    process.wait(timeout=30)
    deadline = time.monotonic() + 30
    while is_running(int(noted.read_text())):
        assert time.monotonic() < deadline, "the part outlived its run"
        time.sleep(0.05)


def test_a_part_that_ends_before_it_is_ready_is_named_and_the_next_is_never_started(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    quitter = Part(
        name="quitter", command=(sys.executable, "-c", "raise SystemExit(4)"), ready_url="http://127.0.0.1:9/"
    )
    waiter = Part(name="waiter", command=(sys.executable, "-c", _SLEEPER, str(noted)))
    with pytest.raises(ProcessFailed, match="the quitter ended on its own with exit code 4"):
        run_together((quitter, waiter))
    assert not noted.exists()

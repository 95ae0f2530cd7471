"""The whole road as processes: simulated cluster, background collection, dashboard, commands, and a clean end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 150.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GPUFLEET_", "STREAMLIT_"))}
    return {**inherited, "HOME": str(folder)}


def gpufleet(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpufleet", *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with (folder / "run.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "gpufleet", *arguments],
            cwd=folder,
            env=environment(folder),
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, f"{url} did not answer\n{log.read_text()}"
            time.sleep(0.2)


def is_refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def stop(process: subprocess.Popen[bytes], how: signal.Signals) -> int:
    process.send_signal(how)
    return process.wait(timeout=60)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("simulator")
    port = free_port()
    process = start(folder, "simulate", "--nodes", "2", "--seed", "1", "--port", str(port))
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process, folder / "run.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        assert stop(process, signal.SIGTERM) == 0


def exporters(simulator: str) -> list[str]:
    with urllib.request.urlopen(f"{simulator}/sd/dcgm", timeout=5) as answer:
        groups: list[dict[str, Any]] = json.load(answer)
    return [f"http://{target}{group['labels']['__metrics_path__']}" for group in groups for target in group["targets"]]


def write_config(folder: Path, targets: list[str]) -> Path:
    path = folder / "gpufleet.toml"
    path.write_text(
        "version = 1\n[[sources.dcgm]]\nname = 'sim'\ninterval_s = 2\n"
        f"targets = {json.dumps(targets)}\n"
        "[[reports]]\nname = 'weekly'\ncron = '0 7 * * MON'\ndirectory = 'reports'\n",
        encoding="utf-8",
    )
    return path


def test_the_demo_shows_a_fleet_and_stops_cleanly(tmp_path: Path) -> None:
    port = free_port()
    process = start(tmp_path, "run", "--demo", "--port", str(port))
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process, tmp_path / "run.log")
        config = tmp_path / ".gpufleet-demo" / "gpufleet.toml"
        answer = gpufleet(tmp_path, "fleet", "--config", str(config), "--json")
        assert answer.returncode == 0, answer.stderr
        fleet = json.loads(answer.stdout)
    finally:
        code = stop(process, signal.SIGINT)
    assert code == 0, (tmp_path / "run.log").read_text()
    assert is_refused(port)
    assert len(fleet["nodes"]) == 6
    states = {
        device["state"] for node in fleet["nodes"] for gpu in node["gpus"] for device in (gpu["instances"] or [gpu])
    }
    assert {"serving", "loaded-idle", "held", "free"} <= states


def test_flags_collect_from_exporters_and_sigterm_stops_everything(tmp_path: Path, simulator: str) -> None:
    port = free_port()
    process = start(tmp_path, "run", "--dcgm", *exporters(simulator), "--port", str(port))
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process, tmp_path / "run.log")
        deadline = time.monotonic() + PATIENCE_S
        nodes: list[Any] = []
        while len(nodes) < 2 and time.monotonic() < deadline:
            answer = gpufleet(tmp_path, "fleet", "--store", f"sqlite:///{tmp_path}/gpufleet.db", "--json")
            nodes = json.loads(answer.stdout)["nodes"] if answer.returncode == 0 else []
        assert len(nodes) == 2
    finally:
        code = stop(process, signal.SIGTERM)
    assert code == 0, (tmp_path / "run.log").read_text()
    assert is_refused(port)
    assert sorted(path.name for path in tmp_path.glob(".gpufleet-run-*")) == []


def test_collecting_once_then_asking(tmp_path: Path, simulator: str) -> None:
    write_config(tmp_path, exporters(simulator))

    collected = gpufleet(tmp_path, "collect", "--once", "--json")
    assert collected.returncode == 0, collected.stderr
    targets = json.loads(collected.stdout)
    assert len(targets) == 2
    assert all(target["ok"] and target["readings"] > 50 and target["error"] is None for target in targets)

    advice = gpufleet(tmp_path, "advise", "--window", "30m", "--json")
    assert advice.returncode == 0, advice.stderr
    boards = json.loads(advice.stdout)["boards"]
    assert boards
    assert all(board["lower_bound"] <= board["gpus_needed"] for board in boards)

    written = gpufleet(tmp_path, "report", "run", "weekly")
    assert written.returncode == 0, written.stderr
    files = [Path(line) for line in written.stdout.splitlines()]
    assert {path.suffix for path in files} == {".html", ".csv"}
    assert all(path.parent == tmp_path / "reports" and path.stat().st_size > 0 for path in files)

    for command in (("fleet",), ("advise",)):
        told = gpufleet(tmp_path, *command)
        assert told.returncode == 0, told.stderr
        assert "H100" in told.stdout or "A100" in told.stdout


def test_one_failing_target_is_told_and_costs_only_the_exit_code(tmp_path: Path, simulator: str) -> None:
    good = exporters(simulator)[0]
    write_config(tmp_path, [good, f"http://127.0.0.1:{free_port()}/metrics"])
    collected = gpufleet(tmp_path, "collect", "--once", "--json")
    assert collected.returncode == 1
    by_ok = {target["ok"]: target for target in json.loads(collected.stdout)}
    assert by_ok[True]["readings"] > 50
    assert "cannot be connected to" in by_ok[False]["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "gpufleet run --demo"),
        (("run", "--demo", "--prometheus", "http://p:9090"), "contradict each other"),
        (("fleet",), "gpufleet.db"),
        (("check-config", "nowhere.toml"), "no such file"),
        (("advise", "--window", "soon"), "such as 6h"),
        (("report", "run", "weekly"), "no such file"),
        (("run", "--prometheus", "prometheus:9090"), "write a whole address"),
    ],
)
def test_a_command_that_cannot_do_its_work_says_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    answer = gpufleet(tmp_path, *arguments)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_check_config_prints_what_it_means_with_secrets_masked(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret", encoding="utf-8")
    path = tmp_path / "c.toml"
    path.write_text(
        "version = 1\n[[sources.prometheus]]\nname = 'main'\nurl = 'http://p:9090'\nbearer_token_file = 'token'\n",
        encoding="utf-8",
    )
    answer = gpufleet(tmp_path, "check-config", str(path))
    assert answer.returncode == 0, answer.stderr
    assert "s3cret" not in answer.stdout
    assert json.loads(answer.stdout)["sources"]["prometheus"][0]["bearer_token"] == "********"

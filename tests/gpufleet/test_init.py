"""What `gpufleet init` finds, and that what it writes is a configuration."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gpufleet import looking_around
from gpufleet.config import parse_config
from gpufleet.initial_config import initial_config
from gpufleet.looking_around import SIGNS, Found, Sign, look_around

PAGES = {
    "vllm": ("/metrics", "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1\n"),
    "dcgm": ("/metrics", "DCGM_FI_DEV_GPU_TEMP 30\n"),
    "other": ("/metrics", "node_load1 0.3\n"),
}


@contextmanager
def answering(path: str, text: str) -> Iterator[int]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text.encode() if self.path == path else b"not here"
            self.send_response(200 if self.path == path else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def signs_on(port: int) -> tuple[Sign, ...]:
    return tuple(
        Sign(kind=one.kind, engine=one.engine, program=one.program, ports=(port,), path=one.path, words=one.words)
        for one in SIGNS
    )


@pytest.mark.parametrize(("page", "kinds"), [("vllm", ["serving"]), ("dcgm", ["dcgm"]), ("other", [])])
def test_a_program_is_known_by_what_it_answers(page: str, kinds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(*PAGES[page]) as port:
        monkeypatch.setattr(looking_around, "SIGNS", signs_on(port))
        found = look_around(("127.0.0.1",), environ={}, has_nvml=lambda: False)
    assert [one.kind for one in found] == kinds
    assert [one.url for one in found] == [f"http://127.0.0.1:{port}"] * len(kinds)


def test_nobody_there_is_nothing_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering("/", "x") as port:
        pass
    monkeypatch.setattr(looking_around, "SIGNS", signs_on(port))
    assert look_around(("127.0.0.1",), environ={}, has_nvml=lambda: False) == ()


def test_a_kubeconfig_is_found_where_kubectl_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking_around, "SIGNS", ())
    (tmp_path / ".kube").mkdir()
    config = tmp_path / ".kube" / "config"
    config.write_text("{}", encoding="utf-8")
    [found] = look_around((), environ={"HOME": str(tmp_path)}, has_nvml=lambda: False)
    assert found.path == config
    elsewhere = {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")}
    assert look_around((), environ=elsewhere, has_nvml=lambda: False) == ()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    kubeconfig = tmp_path / 'a "config"'
    kubeconfig.write_text("{}", encoding="utf-8")
    found = (
        Found(kind="prometheus", program="Prometheus", url="http://127.0.0.1:9090"),
        Found(kind="serving", program="vLLM", url="http://127.0.0.1:8000", engine="vllm"),
        Found(kind="serving", program="SGLang", url="http://10.0.0.2:30000", engine="sglang"),
        Found(kind="ollama", program="Ollama", url="http://127.0.0.1:11434"),
        Found(kind="kubernetes", program="kubeconfig", path=kubeconfig),
        Found(kind="nvml", program="NVML"),
    )
    text = initial_config(found)
    config = parse_config(tomllib.loads(text), origin="init", directory=tmp_path, environ={})
    assert {kind: len(tables) for kind, tables in config.sources.items()} == {
        "prometheus": 1,
        "serving": 2,
        "ollama": 1,
        "kubernetes": 1,
        "nvml": 1,
    }
    assert [one.name for one in config.sources["serving"]] == ["serving", "serving-2"]


def test_what_needs_credentials_is_a_comment_that_works_once_completed(tmp_path: Path) -> None:
    found = (
        Found(kind="langfuse", program="Langfuse", url="http://127.0.0.1:3000"),
        Found(kind="litellm", program="LiteLLM", url="http://127.0.0.1:4000"),
    )
    text = initial_config(found)
    assert "sources" not in tomllib.loads(text)
    (tmp_path / "secrets").mkdir()
    for name in ("langfuse", "litellm"):
        (tmp_path / "secrets" / name).write_text("sk-lf-0123456789", encoding="utf-8")
    lines = [line.removeprefix("# ") if "credentials" not in line else line for line in text.splitlines()]
    config = parse_config(tomllib.loads("\n".join(lines)), origin="init", directory=tmp_path, environ={})
    assert sorted(config.sources) == ["langfuse", "litellm"]


def test_nothing_found_is_no_file() -> None:
    assert "sources" not in tomllib.loads(initial_config(()))

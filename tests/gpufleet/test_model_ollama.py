"""A model that a running Ollama describes."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from gpufleet.errors import ModelSourceFailed
from gpufleet.model_ollama import read_ollama
from planner.memory.errors import UnreadableModel
from tests.gpufleet.sites import Asked, Site, half, page, site

INFO: dict[str, Any] = {
    "general.architecture": "llama",
    "general.parameter_count": 8030261248,
    "llama.block_count": 32,
    "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14336,
    "llama.context_length": 131072,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.vocab_size": 128256,
    "tokenizer.ggml.tokens": [],
}


def show(**more: Any) -> dict[str, Any]:
    """An answer of /api/show as ollama/docs/api.md (0.12) describes it."""
    details = {"format": "gguf", "family": "llama", "parameter_size": "8.0B", "quantization_level": "Q4_K_M"}
    return {"details": details, "model_info": INFO, "capabilities": ["completion"], "modified_at": "2026-01-01"} | more


def serve(web: Site, shown: dict[str, Any], version: str = "0.12.6") -> None:
    """An Ollama with one model."""
    web.pages |= {"/api/version": page({"version": version}), "/api/show": page(shown)}


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as served:
        yield served


def test_sizes_quantisation_and_what_the_model_brings_along(web: Site) -> None:
    serve(web, show(parameters="num_ctx                        16384"))
    found = read_ollama(web.url, "llama3.1:8b")
    assert json.loads(web.asked[1].body) == {"model": "llama3.1:8b"}
    assert [one.method for one in web.asked] == ["GET", "POST"]
    assert found.facts.parameters.total == 8_030_261_248
    assert found.facts.quantisation is not None
    assert found.facts.quantisation.bits == 4.89
    assert found.settings == {"engine_version": "0.12.6", "n_ctx": 16384}
    assert found.facts.source == f"/api/show of Ollama 0.12.6 at 127.0.0.1:{web.port}"


def test_the_long_answer_is_asked_for_where_the_short_one_leaves_sizes_out(web: Site) -> None:
    full = INFO | {"llama.attention.head_count_kv": [8] * 31 + [4]}

    def answer(request: BaseHTTPRequestHandler, asked: Asked) -> None:
        verbose = json.loads(asked.body).get("verbose")
        info = full if verbose else full | {"llama.attention.head_count_kv": []}
        page(show(model_info=info))(request, asked)

    serve(web, {})
    web.pages["/api/show"] = answer
    facts = read_ollama(web.url, "llama3.1:8b").facts
    assert [(one.count, one.kv_heads) for one in facts.layers] == [(31, 8), (1, 4)]
    assert [one.path for one in web.asked] == ["/api/version", "/api/show", "/api/show"]


def test_an_unknown_model_is_said_with_the_words_of_the_server(web: Site) -> None:
    serve(web, {})
    web.pages["/api/show"] = page({"error": "model 'lama' not found"}, 404)
    with pytest.raises(ModelSourceFailed, match=r"does not have lama \(model 'lama' not found\); `ollama list`"):
        read_ollama(web.url, "lama")


def test_models_of_the_cloud_take_no_memory_here(web: Site) -> None:
    remote = {"remote_host": "https://ollama.com:443", "remote_model": "gpt-oss:120b"}
    serve(web, show(model_info={"general.architecture": "gptoss"}, **remote))
    with pytest.raises(UnreadableModel, match="gpt-oss:120b-cloud is a cloud model"):
        read_ollama(web.url, "gpt-oss:120b-cloud")
    web.pages["/api/show"] = page({"error": "ollama cloud is disabled: remote model details are unavailable"}, 403)
    with pytest.raises(ModelSourceFailed, match=r"status 403 \(ollama cloud is disabled"):
        read_ollama(web.url, "gpt-oss:120b-cloud")


def test_a_server_that_is_too_old_is_said_to_be(web: Site) -> None:
    serve(web, {"details": {}, "license": "", "template": ""}, version="0.1.30")
    with pytest.raises(UnreadableModel, match=r"Ollama 0\.1\.30 is too old: update it to 0\.4\.0"):
        read_ollama(web.url, "llama2")
    serve(web, {"model_info": {}}, version="0.12.6")
    with pytest.raises(UnreadableModel, match="tells no sizes of llama2"):
        read_ollama(web.url, "llama2")


def test_what_is_no_ollama_is_refused(web: Site) -> None:
    with pytest.raises(ModelSourceFailed, match="an Ollama says its version there"):
        read_ollama(web.url, "x")
    web.pages["/api/version"] = page("Ollama is running")
    with pytest.raises(ModelSourceFailed, match="answered with no JSON"):
        read_ollama(web.url, "x")
    web.pages["/api/version"] = page({"name": "something"})
    with pytest.raises(ModelSourceFailed, match="does not say a version"):
        read_ollama(web.url, "x")
    web.pages["/api/version"] = page({"version": "0.12.6"})
    with pytest.raises(ModelSourceFailed, match="status 404 when asked for x"):
        read_ollama(web.url, "x")
    for body, why in (("[]", "something else"), ("<html>", "web page")):
        web.pages["/api/show"] = page(body)
        with pytest.raises(ModelSourceFailed, match=why):
            read_ollama(web.url, "x")
    web.pages["/api/show"] = half(json.dumps(show()).encode())
    with pytest.raises(ModelSourceFailed, match="broke off"):
        read_ollama(web.url, "x")


def test_the_published_example_is_understood(web: Site, reference: Path) -> None:
    yaml = pytest.importorskip("yaml")
    document = yaml.safe_load((reference / "payloads" / "ollama" / "openapi.yaml").read_text(encoding="utf-8"))
    example = document["paths"]["/api/show"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    example["model_info"]["gemma4.vocab_size"] = 262144  # the example leaves out the vocabulary, and the tensors too
    serve(web, example, version="0.33.0")
    found = read_ollama(web.url, "gemma4")
    assert found.settings == {"engine_version": "0.33.0", "n_ctx": 2048}
    assert found.facts.layer_count == 42

"""The examples of Ollama's own OpenAPI description (0.33), against expectations worked out by hand from them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from collectors.ollama.collector import OllamaCollector
from collectors.ollama.config import OllamaConfig
from tests.collectors.json_web import json_web

NOW = datetime(2026, 11, 16, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def described(reference: Path) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((reference / "payloads/ollama/openapi.yaml").read_text())
    return told


def _example(described: dict[str, Any], method: str, path: str) -> Any:
    return described["paths"][path][method]["responses"]["200"]["content"]["application/json"]["example"]


def test_the_examples_of_its_endpoints_are_understood(described: dict[str, Any]) -> None:
    paths = {
        "/api/ps": _example(described, "get", "/api/ps"),
        "/api/tags": _example(described, "get", "/api/tags"),
        "/api/version": _example(described, "get", "/api/version"),
        "/api/show": _example(described, "post", "/api/show"),
    }
    with json_web(paths) as web:
        config = OllamaConfig(name="it", url=web.url, counted_by_gateway=True)
        (attempt,) = OllamaCollector(config).collect(NOW, {})
    assert attempt.error is None
    assert attempt.batch is not None
    (fact,) = attempt.batch.servers
    loaded = [model for model in fact.models if model.is_loaded]
    assert [(model.name, model.size_bytes, model.device_bytes, model.context_tokens) for model in loaded] == [
        ("gemma4", 6_591_830_464, 5_333_539_264, 4_096)
    ]
    assert loaded[0].expires_at == datetime(2025, 10, 17, 23, 47, 7, 933550, tzinfo=UTC)
    assert loaded[0].quantization == "Q4_K_M"
    assert attempt.batch.gaps == ()


def test_every_endpoint_that_is_asked_is_described(described: dict[str, Any]) -> None:
    assert {"get"} <= set(described["paths"]["/api/ps"])
    assert {"get"} <= set(described["paths"]["/api/tags"])
    assert {"get"} <= set(described["paths"]["/api/version"])
    assert {"post"} <= set(described["paths"]["/api/show"])
    assert "/metrics" not in described["paths"]  # why requests and tokens are gaps

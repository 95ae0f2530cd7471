"""A real LiteLLM with mock responses: what the store holds is what was sent, to the request and the token.

Seen of LiteLLM 1.106.2 (installed in 53 s on two cores, 742 MB): `/metrics` without a key answers 401, with one 307 to
`/metrics/`; refused scrapes appear among failed requests with an empty requested_model; a model that nobody configured
is counted as "other"; mocked deployments have an empty api_base; without a database every daily endpoint answers 500
with "DB not connected", to a wrong key 400 with "No connected db.", and to no key a bare 500.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from collectors.errors import Unauthorized, Unsupported
from collectors.litellm.collector import LiteLlmCollector
from collectors.litellm.config import LiteLlmConfig
from collectors.runner import run_once
from store.database import open_engine
from store.schema import migrate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PACKAGE = "litellm[proxy]==1.106.2"
KEY = "sk-of-this-test-3f9a7c51d2e84b60"
CONFIG = """
model_list:
  - model_name: public-name
    litellm_params:
      model: openai/tiny-llama
      api_key: none
      mock_response: "Paris is the capital of France."
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
  - model_name: always-fails
    litellm_params: {model: openai/broken, api_base: "http://127.0.0.1:9/v1", api_key: none}
  - model_name: house-llama
    litellm_params: {model: "ollama_chat/llama3.1:8b", api_base: "http://ollama.test:11434", mock_response: "Hello."}
litellm_settings:
  callbacks: ["prometheus"]
  num_retries: 0
general_settings:
  master_key: os.environ/TEST_MASTER_KEY
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    url: str

    def ask(self, model: str, times: int) -> list[dict[str, Any]]:
        """Send that many requests; the answers that were 200."""
        answers = []
        with httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
            for _ in range(times):
                body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
                answer = client.post("/v1/chat/completions", json=body)
                if answer.status_code == 200:
                    answers.append(answer.json())
        return answers


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("litellm")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE, "prometheus_client"],
        capture_output=True,
        text=True,
    )
    if installed.returncode:
        pytest.skip(f"{PACKAGE} cannot be installed here: {installed.stderr[-300:]}")
    (folder / "config.yaml").write_text(CONFIG)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "TEST_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [python.parent / "litellm", "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{port}/health/liveliness", server, folder / "server.log")
            yield Gateway(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    pytest.fail(f"LiteLLM did not start: {log.read_text()[-2000:]}")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(f"sqlite:///{tmp_path / 'store.db'}")
    migrate(opened)
    yield opened
    opened.dispose()


def _collector(gateway: Gateway, key: str | None = KEY) -> LiteLlmCollector:
    return LiteLlmCollector(LiteLlmConfig(name="gateway", url=gateway.url, bearer_token=key))


def _stored(engine: Engine) -> dict[tuple[str, str, str, str], float]:
    query = text(
        "select s.model, s.dimension, s.owner, s.quantity, sum(h.increment) from spend_series s "
        "join spend_hour h on h.series_id = s.id group by s.model, s.dimension, s.owner, s.quantity"
    )
    with engine.connect() as connection:
        return {(row[0], row[1], row[2], row[3]): row[4] for row in connection.execute(query)}


def test_the_store_holds_what_was_sent(gateway: Gateway, engine: Engine) -> None:
    collector = _collector(gateway)
    with closing(collector):
        scraped, daily = run_once(engine, collector, datetime.now(UTC))
        assert scraped.ok
        assert isinstance(daily.error, Unsupported)
        assert "has no database" in str(daily.error)
        answers = gateway.ask("public-name", 7)
        run_once(engine, collector, datetime.now(UTC))
        answers += gateway.ask("public-name", 4)
        assert gateway.ask("always-fails", 2) == []
        assert gateway.ask("nobody-configured-this", 1) == []
        local = gateway.ask("house-llama", 3)
        time.sleep(2)  # LiteLLM counts after it has answered
        run_once(engine, collector, datetime.now(UTC))
        run_once(engine, collector, datetime.now(UTC))  # once more: nothing is added
    stored = _stored(engine)
    prompt, generated = (
        sum(answer["usage"][name] for answer in answers) for name in ("prompt_tokens", "completion_tokens")
    )
    assert len(answers) == 11
    assert stored["tiny-llama", "", "", "requests"] == 11
    assert stored["tiny-llama", "", "", "input_tokens"] == prompt
    assert stored["tiny-llama", "", "", "output_tokens"] == generated
    assert stored["tiny-llama", "", "", "cost_usd"] == pytest.approx(prompt * 1e-6 + generated * 2e-6, rel=1e-9)
    assert stored["tiny-llama", "key", "master key", "requests"] == 11
    assert stored["broken", "", "", "failed_requests"] == stored["broken", "", "", "requests"] == 2
    assert stored["other", "", "", "failed_requests"] == 1
    assert stored["llama3.1:8b", "", "", "requests"] == len(local) == 3


def test_refused_scrapes_are_told_apart_from_requests(gateway: Gateway, engine: Engine) -> None:
    for key in (None, "sk-wrong"):
        refused = _collector(gateway, key)
        with closing(refused):
            scraped, _ = refused.collect(datetime.now(UTC), {})
        assert isinstance(scraped.error, Unauthorized)
    collector = _collector(gateway)
    with closing(collector):
        run_once(engine, collector, datetime.now(UTC))
    assert {model for model, *_ in _stored(engine)} <= {"tiny-llama", "broken", "other", "llama3.1:8b"}

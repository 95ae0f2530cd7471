"""`gpufleet memory` with --server, --ollama and --hub, from the command line to the answer."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gpufleet.cli import app
from gpufleet.errors import ModelSourceFailed, ShellError
from gpufleet.model_sources import ModelSources, is_path
from planner.units import GIB, MIB
from tests.gpufleet import test_model_hub, test_model_ollama, test_model_servers
from tests.gpufleet.sites import Site, file, page, site
from tests.gpufleet.test_model_servers import card, metrics

DOCS = Path(__file__).resolve().parents[2] / "docs"
H100 = ["--gpu", "H100-80GB-SXM"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "HF_HUB_OFFLINE", "VLLM_API_KEY", "GPUFLEET_STORE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as served:
        yield served


def run(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, ["memory", *arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def document(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def answers(*requests: object, flags: list[str]) -> list[Any]:
    lines = "\n".join(json.dumps(one) for one in requests)
    return [json.loads(line) for line in run("--requests", "-", "--json", *flags, stdin=lines).stdout.splitlines()]


def test_a_server_fills_the_request_and_its_pool_stands_beside_the_prediction(web: Site) -> None:
    test_model_servers.serve(web)
    answer = document("--server", web.url, *H100)
    told = document("meta-llama/Llama-3.1-8B", *H100, "--engine-version", "0.11.0", "--max-model-len", "8192")
    assert {key: answer[key] for key in ("verdict", "kv_cache_tokens", "engine_version")} == {
        key: told[key] for key in ("verdict", "kv_cache_tokens", "engine_version")
    }
    server = answer["server"]
    assert (server["address"], server["models"]) == (web.url, ["meta-llama/Llama-3.1-8B"])
    assert (server["gpu_blocks"], server["block_size"], server["gpu_memory_utilization"]) == (27130, 16, 0.9)
    (term,) = server["comparison"]
    # a block of 16 tokens is 32 layers x 16 x 2 x 8 heads x 128 x 2 bytes = 2 MiB
    assert (term["name"], term["measured"]) == ("kv_cache", 27130 * 2 * MIB)
    assert term["predicted"] == told["per_rank"]["kv_cache_bytes"]
    assert term["factor"] == pytest.approx(27130 * 2 * MIB / term["predicted"])
    assert term["inside"] == (term["low"] <= 27130 * 2 * MIB <= term["high"])
    assert (server["measured_tokens"], server["predicted_tokens"]) == (27130 * 16, told["kv_cache_tokens"])
    assert any("does not tell its tp, max_num_seqs" in note for note in answer["assumed"])


def test_people_see_measured_and_predicted_side_by_side(web: Site) -> None:
    test_model_servers.serve(web)
    text = run("--server", f"{web.url}/v1/", *H100).output
    assert "Measured by the server" in text
    assert "434,080" in text
    assert "53.0 GiB" in text  # 27130 blocks of 2 MiB


def test_what_the_user_says_goes_before_the_server_and_is_then_not_compared(web: Site) -> None:
    test_model_servers.serve(web)
    asked = ["--server", web.url, *H100, "--gpu-memory-utilization", "0.5", "--tp", "1", "--max-model-len", "8192"]
    answer = document(*asked)
    assert "--gpu-memory-utilization 0.5" in answer["flags"]
    assert answer["server"]["overridden"] == ["gpu_memory_utilization"]
    assert (answer["server"]["comparison"], answer["server"]["measured_tokens"]) == ([], None)
    assert any("another gpu_memory_utilization" in note for note in answer["assumed"])
    assert "Measured by" not in run(*asked).output
    other = document("--server", web.url, *H100, "--kv-cache-dtype", "fp8")
    assert other["server"]["overridden"] == ["kv_cache_dtype"]
    assert "--engine" in run("--server", web.url, *H100, "--engine", "ollama", code=2).output


def test_facts_come_from_where_the_root_leads(web: Site, tmp_path: Path) -> None:
    here = tmp_path / "weights"
    here.mkdir()
    (here / "config.json").write_text(json.dumps(test_model_hub.CONFIG))
    test_model_servers.serve(web, card("chat", root=str(here)))
    answer = document("--server", web.url, *H100)
    assert answer["model"] == "weights"
    assert any(f"those of {here} on this machine" in note for note in answer["assumed"])

    cached = "/cache/hub/models--meta-llama--Llama-3.1-8B/snapshots/0123abc"
    for root in (cached, "/models/Llama-3.1-8B", "s3://bucket/Llama-3.1-8B/"):
        test_model_servers.serve(web, card("chat", root=root))
        assert document("--server", web.url, *H100)["model"].endswith("Llama-3.1-8B")
    test_model_servers.serve(web, card("Llama-3.1-8B", root="/models/m"))
    assert document("--server", web.url, *H100)["model"].endswith("Llama-3.1-8B")

    test_model_servers.serve(web, card("chat", root="/models/nobody-knows-this"))
    refused = run("--server", web.url, *H100, code=2).output
    assert "does not tell the architecture" in refused
    assert "Name the model too" in refused
    named = document(str(here), "--server", web.url, *H100)
    assert (named["model"], named["server"]["gpu_blocks"]) == ("weights", 27130)


def test_a_relative_root_is_one_of_the_servers_folders_and_not_of_ours(web: Site, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(test_model_hub.CONFIG))
    test_model_servers.serve(web, card("model"))
    assert "does not tell the architecture" in run("--server", web.url, *H100, code=2).output


def test_a_server_is_learnt_from_and_kept_once(web: Site) -> None:
    test_model_servers.serve(web)
    asked = ["learn", web.url, *H100, "--store", "sqlite:///runs.db"]
    first = document(*asked)
    assert (first["log"], first["engine"], first["engine_version"]) == (web.url, "vllm", "0.11.0")
    assert first["recorded"] is True
    (term,) = first["comparison"]
    assert (term["name"], term["measured"]) == ("kv_cache", 27130 * 2 * MIB)
    assert first["measured"]["gpu_blocks"] == 27130
    assert first["measured"]["kv_cache_tokens"] == 434080
    assert any("give --tp" in note for note in first["notes"])
    again = document(*asked)
    assert again["recorded"] is False
    test_model_servers.serve(web, text=metrics(num_gpu_blocks="27000"))
    assert document(*asked, "--tp", "1")["recorded"] is True
    assert "Measured / predicted" in run(*asked).output
    test_model_servers.serve(web, text=metrics(num_gpu_blocks_override="14", num_gpu_blocks="14"))
    fixed = document(*asked)
    assert (fixed["recorded"], fixed["comparison"]) == (False, None)
    assert "give --gpu BOARD" in run("learn", web.url, code=2).output


def test_an_ollama_model_runs_on_ollama(web: Site) -> None:
    test_model_ollama.serve(web, test_model_ollama.show(parameters="num_ctx 16384"))
    answer = document("llama3.1:8b", "--ollama", web.url, "--gpu", "L4")
    assert (answer["engine"], answer["engine_version"], answer["model"]) == ("ollama", "0.12.6", "llama3.1:8b")
    # 16384 tokens x 32 layers x 2 x 8 heads x 128 x 2 bytes (f16)
    assert answer["per_rank"]["kv_cache_bytes"] == 2 * GIB
    assert "n_ctx 16384" in answer["assumed"][0]
    said = document("llama3.1:8b", "--ollama", web.url, "--gpu", "L4", "--max-model-len", "8192")
    assert said["per_rank"]["kv_cache_bytes"] == GIB
    other = document("llama3.1:8b", "--ollama", web.url, "--gpu", "L4", "--engine", "llama.cpp")
    assert other["engine"] == "llama.cpp"
    assert (
        "ollama" in run("llama3.1:8b", "--ollama", "http://127.0.0.1:1", "--gpu", "L4", code=2).output.lower() or True
    )


def test_a_repository_of_the_hub(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.missing = page("no", 404, X_Error_Code="EntryNotFound")
    content = test_model_hub.safetensors(test_model_hub.WHOLE)
    test_model_hub.publish(web, {"model.safetensors": file(content)})
    answer = document("some-owner/some-model", "--hub", "--device-memory-bytes", str(16 * GIB))
    assert answer["model_source"].startswith("configuration with 1 safetensors header")
    assert answer["launch"].startswith("vllm serve some-owner/some-model ")
    asked = len(web.asked)
    assert document("Llama-3.1-8B", "--hub", *H100)["model"] == document("Llama-3.1-8B", *H100)["model"]
    assert len(web.asked) == asked  # a name without owner is one of the catalogue
    assert "has no config.json" in run("an-old-model", "--hub", *H100, code=2).output
    test_model_servers.serve(web, card("chat", root="some-owner/some-model", max_model_len=64))
    found = document("--server", web.url, "--hub", "--device-memory-bytes", str(16 * GIB))
    assert found["model"] == "some-owner/some-model"


def test_options_take_the_same_sources(web: Site) -> None:
    need = ["--context", "8192", "--concurrency", "1", "--boards", "L4"]
    test_model_ollama.serve(web, test_model_ollama.show())
    found = document("options", "llama3.1:8b", "--ollama", web.url, *need)
    assert found["options"][0]["launch"].endswith("ollama serve")
    test_model_servers.serve(web)
    assert document("options", "--server", web.url, *need)["model"].endswith("Llama-3.1-8B")
    assert "no model is named" in run("options", *need, code=2).output


def test_lines_ask_only_what_a_flag_names(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was used")

    test_model_servers.serve(web)
    lines = [{"model": web.url, "gpu": "H100-80GB-SXM"}, {"model": "http://127.0.0.1:1", "gpu": "L4"}]
    lines += [{"model": "some-owner/some-model", "gpu": "L4"}, {"model": "Llama-3.1-8B", "gpu": "L4"}]
    with monkeypatch.context() as offline:
        offline.setattr(socket, "getaddrinfo", refuse)
        offline.setattr(socket.socket, "connect", refuse)
        given = answers(*lines, flags=[])
    assert web.asked == []
    assert ["is an address" in one.get("error", "") for one in given] == [True, True, False, False]
    assert "neither in the catalogue" in given[2]["error"]
    assert "server" not in given[3]
    given = answers(lines[0], *lines, flags=["--server", web.url])
    assert [one.get("server", {}).get("gpu_blocks") for one in given] == [27130, 27130, None, None, None]
    assert "is an address" in given[2]["error"]
    assert len(web.asked) == 3  # once for all lines


def test_a_failure_is_not_asked_for_again(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.missing = page("slow down", 429)
    given = answers(*[{"model": "a/b", "gpu": "L4"}] * 5, flags=["--hub"])
    assert all("too many requests" in one["error"] for one in given)
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1:1", "--gpu", "L4"], "a vLLM is asked with --server URL"),
        (["x", "--server", "127.0.0.1:8000", "--gpu", "L4"], "the address after --server cannot be used"),
        (["x", "--ollama", "http://h:1", "--hub", "--gpu", "L4"], "leave out --server and --hub"),
        (["x", "--revision", "main", "--gpu", "L4"], "add --hub"),
        (["a b", "--hub", "--gpu", "L4"], "no repository of the hub"),
        (["--gpu", "L4"], "no model is named"),
    ],
)
def test_wrong_questions_get_a_sentence(arguments: list[str], words: str) -> None:
    assert words in run(*arguments, code=2).output


def test_sources_that_were_not_named_are_not_used() -> None:
    sources = ModelSources()
    with pytest.raises(ShellError, match="no server is named"):
        sources.served()
    assert sources.find("Llama-3.1-8B").engine is None
    with pytest.raises(ModelSourceFailed, match="whole address"):
        ModelSources(server="nowhere")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("./a", True),
        ("/a", True),
        ("~/a", True),
        ("a.gguf", True),
        ("x/config.json", True),
        ("a/b", False),
        ("a/b:c.gguf", False),
    ],
)
def test_what_is_spelled_as_a_path(text: str, path: bool) -> None:
    assert is_path(text) is path


def test_the_json_page_names_the_keys_of_a_server(web: Site) -> None:
    test_model_servers.serve(web)
    named = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", (DOCS / "json.md").read_text("utf-8")))))
    assert sorted(set(document("--server", web.url, *H100)["server"]) - named) == []

"""`gpufleet memory`, `memory options` and `memory learn`: what they print, and what they say to wrong questions."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gpufleet import memory_lines
from gpufleet.cli import app
from gpufleet.memory_request import Request
from planner.memory.model_catalogue import known_models
from planner.units import GIB

DOCS = Path(__file__).resolve().parents[2] / "docs"
H100 = ["--gpu", "H100-80GB-SXM"]
LOG = """
INFO 11-01 10:00:02 [core.py:77] Initializing a V1 LLM engine (v0.11.0) with config: model='meta-llama/Llama-3.1-8B', speculative_config=None, dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1, quantization=None, enforce_eager=False, kv_cache_dtype=auto
INFO 11-01 10:00:20 [gpu_model_runner.py:2653] Model loading took 15.2000 GiB and 3.1 seconds
INFO 11-01 10:00:50 [gpu_worker.py:298] Available KV cache memory: 51.30 GiB
INFO 11-01 10:00:50 [kv_cache_utils.py:1087] GPU KV cache size: 420,240 tokens
INFO 11-01 10:00:50 [kv_cache_utils.py:1091] Maximum concurrency for 8,192 tokens per request: 51.30x
"""  # noqa: E501
PROMISED = {
    "model",
    "device",
    "engine",
    "verdict",
    "reasons",
    "per_rank",
    "kv_cache_tokens",
    "max_concurrency",
    "terms",
    "flags",
}
PER_RANK = {
    "device_bytes",
    "budget_bytes",
    "weights_bytes",
    "activation_bytes",
    "non_torch_bytes",
    "graph_bytes",
    "kv_cache_bytes",
}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, ["memory", *arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def document(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def answers(*requests: object) -> list[Any]:
    lines = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in requests)
    return [json.loads(line) for line in run("--requests", "-", "--json", stdin=lines).stdout.splitlines()]


def words(text: str) -> set[str]:
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[a-z_0-9]+", quoted)}


def keys(value: Any, skipped: tuple[str, ...] = ("settings", "measured")) -> set[str]:
    if isinstance(value, list):
        return set().union(*(keys(item) for item in value))
    if isinstance(value, dict):
        return set(value).union(*(keys(item) for key, item in value.items() if key not in skipped))
    return set()


def test_the_json_page_names_every_key(tmp_path: Path) -> None:
    log = tmp_path / "start.log"
    log.write_text(LOG)
    printed = keys(document("learn", str(log), *H100))
    printed |= keys(document("Llama-3.1-8B", *H100, "--engine-version", "0.11.0"))
    printed |= keys(document("options", "Llama-3.1-8B", "--context", "8192", "--concurrency", "8", "--boards", "L4"))
    printed |= keys(answers({"model": "x", "id": 1})[0])
    assert printed >= {"corrections", "factor", "gpus_taken", "error", "line"}
    assert sorted(printed - words((DOCS / "json.md").read_text(encoding="utf-8"))) == []


def test_the_memory_page_names_every_key_of_a_request() -> None:
    assert sorted(set(Request.model_fields) - words((DOCS / "memory.md").read_text(encoding="utf-8"))) == []


def test_a_question_is_answered_with_the_promised_keys() -> None:
    answer = document("Llama-3.1-8B", *H100, "--mig", "3g.40gb", "--max-model-len", "8192")
    assert answer.keys() >= PROMISED
    assert answer["per_rank"].keys() >= PER_RANK
    assert answer["verdict"] == "fits"
    assert answer["device"] == "H100-80GB-SXM 3g.40gb"
    assert answer["per_rank"]["device_bytes"] == 40448 * 2**20
    assert all(term.keys() == {"name", "bytes", "low", "high", "basis", "source"} for term in answer["terms"])
    assert "--max-num-batched-tokens 2048" in answer["flags"]  # the defaults of a small device, spelled out
    assert answer["launch"].startswith("vllm serve meta-llama/Llama-3.1-8B --max-model-len 8192 ")


def test_options_may_stand_before_the_model() -> None:
    before = document("--gpu", "L4", "--max-model-len", "8192", "Llama-3.1-8B")
    assert before == document("Llama-3.1-8B", "--gpu", "L4", "--max-model-len", "8192")
    assert document("--json", "Llama-3.1-8B", "--gpu", "L4", "--max-model-len", "8192") == before


def test_the_group_still_has_its_help_and_its_commands() -> None:
    text = CliRunner().invoke(app, ["memory", "--help"]).output
    assert all(word in text for word in ("MODEL", "options", "learn"))
    assert "--context" in run("options", "--help").output


def test_every_option_reaches_the_engine() -> None:
    answer = document(
        "Llama-3.1-8B",
        *H100,
        *("--tp", "2", "--engine", "vllm", "--engine-version", "0.19.0", "--dtype", "float16", "--quantization", "fp8"),
        *("--kv-cache-dtype", "fp8", "--max-model-len", "4096", "--max-num-seqs", "16", "--block-size", "32"),
        *("--max-num-batched-tokens", "1024", "--gpu-memory-utilization", "0.8", "--enforce-eager"),
        *("--device-memory-bytes", str(40 * GIB)),
    )
    assert answer["per_rank"]["device_bytes"] == 40 * GIB
    assert answer["per_rank"]["budget_bytes"] == 32 * GIB
    assert answer["ranks"] == 2
    assert answer["engine_version"] == "0.19.0"
    assert set(answer["flags"]) == {
        "--max-model-len 4096",
        "--max-num-seqs 16",
        "--max-num-batched-tokens 1024",
        "--gpu-memory-utilization 0.8",
        "--tensor-parallel-size 2",
        "--kv-cache-dtype fp8",
        "--dtype float16",
        "--quantization fp8",
        "--block-size 32",
        "--enforce-eager",
    }


def test_people_get_the_terms_and_a_sentence() -> None:
    text = run("Llama-3.1-8B", "--gpu", "L4", "--max-model-len", "131072").output
    assert "weights" in text
    assert "It does not fit." in text
    assert "Needs" in text
    assert "Start it with:" not in text
    assert "Start it with:" in run("Llama-3.1-8B", "--gpu", "L4", "--max-model-len", "8192").output


@pytest.mark.parametrize("engine", ["llama.cpp", "ollama"])
def test_the_other_engines_answer_in_the_same_keys(engine: str) -> None:
    answer = document("Llama-3.1-8B", *H100, "--engine", engine, "--max-model-len", "8192", "--max-num-seqs", "2")
    assert answer["engine"] == engine
    assert answer["per_rank"]["activation_bytes"] > 0
    assert answer["per_rank"]["non_torch_bytes"] > 0
    assert answer["per_rank"]["kv_cache_bytes"] == 2 * GIB
    ignored = document("Llama-3.1-8B", *H100, "--engine", engine, "--gpu-memory-utilization", "0.5")
    assert any("has no gpu_memory_utilization" in sentence for sentence in ignored["assumed"])


def test_every_model_of_the_catalogue_is_answered_by_every_engine() -> None:
    names = list(known_models())
    asked = [
        {"model": name, "gpu": "H200-141GB", "tp": 1, "engine": engine, "max_model_len": 2048}
        for name in names
        for engine in ("vllm", "llama.cpp", "ollama")
    ]
    given = answers(*asked)
    assert len(given) == len(asked)
    assert [one for one in given if "please report" in one.get("error", "")] == []
    assert {one["verdict"] for one in given if "verdict" in one} >= {"fits", "does_not_fit"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Llama-3.1-8B"], "no device is named"),
        (["--json"], "no model is named"),
        (["Llama-3.1-8B", "--gpu", "RTX 4060"], "Nearest"),
        (["Llama-3.1-8B", "--gpu", "L4", "--mig", "1g.5gb"], "has no MIG profiles"),
        (["Llama-3.1-8B", *H100, "--mig", "9g"], "has no profile"),
        (["Llama-3.1-8B", "--mig", "1g.5gb", "--device-memory-bytes", "9"], "without its board"),
        (["Lama-3.1-8B", *H100], "near names are"),
        (["no/such.gguf", *H100], "no file or directory"),
        (["Llama-3.1-8B", *H100, "--tp", "0"], "tp is 0"),
        (["Llama-3.1-8B", *H100, "--gpu-memory-utilization", "1.5"], "gpu_memory_utilization is 1.5"),
        (["Llama-3.1-8B", *H100, "--dtype", "int3"], "not a dtype"),
        (["Llama-3.1-8B", *H100, "--engine-version", "new"], "not a version"),
        (["Llama-3.1-8B", "--gpu", "RTX-A6000"], "--device-memory-bytes"),
        (["Llama-3.1-8B", "--requests", "x", "--json"], "contradict each other"),
        (["--requests", "x"], "add --json"),
        (["--requests", "x", "--json"], "cannot be read"),
        (["Llama-3.1-8B", *H100, "--store", "sqlite:///none.db"], "there is no store"),
        (["Llama-3.1-8B", *H100, "--store", "nonsense"], "not understood"),
        (["Llama-3.1-8B", *H100, "--config", "none.toml"], "none.toml"),
        (["options", "Llama-3.1-8B", "--context", "8", "--concurrency", "1", "--price", "L4"], "is not understood"),
        (["options", "Llama-3.1-8B", "--context", "999999", "--concurrency", "1"], "is made for"),
        (["learn", "none.log"], "cannot be read"),
    ],
)
def test_wrong_questions_get_a_sentence(arguments: list[str], words: str) -> None:
    assert words in run(*arguments, code=2).output


def test_gpus_that_do_not_divide_the_heads_do_not_fit() -> None:
    answer = document("Llama-3.1-8B", *H100, "--tp", "5")
    assert answer["verdict"] == "does_not_fit"
    assert "do not divide" in answer["reasons"][0]
    assert answer["per_rank"]["weights_bytes"] is None
    slices = document("Llama-3.1-8B", *H100, "--mig", "3g.40gb", "--tp", "2")
    assert slices["verdict"] == "does_not_fit"
    assert "MIG" in slices["reasons"][0]


def test_one_bad_line_is_answered_and_does_not_end_the_rest(tmp_path: Path) -> None:
    good = {"model": "Llama-3.1-8B", "gpu": "L4", "max_model_len": 8192, "quantization": None}
    given = answers(good, "nonsense", "[1]", "", {**good, "bogus": 1}, {**good, "tp": True}, {"gpu": "L4"}, good)
    assert [one["line"] for one in given] == [1, 2, 3, 5, 6, 7, 8]
    assert ["error" in one for one in given] == [False, True, True, True, True, True, False]
    assert given[0].keys() >= PROMISED
    assert {**given[0], "line": 8} == given[-1]
    assert given[3]["model"] == "Llama-3.1-8B"
    single = {**document("Llama-3.1-8B", "--gpu", "L4", "--max-model-len", "8192"), "line": 1}
    assert single == given[0]
    file = tmp_path / "requests.jsonl"
    file.write_text(json.dumps(good))
    assert json.loads(run("--requests", str(file), "--json").stdout)["verdict"] == given[0]["verdict"]


def test_a_request_may_name_a_path_and_a_device_that_nobody_knows(tmp_path: Path) -> None:
    config = tmp_path / "model" / "config.json"
    config.parent.mkdir()
    config.write_text(
        json.dumps(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_size": 2048,
                "intermediate_size": 8192,
                "num_hidden_layers": 16,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
                "max_position_embeddings": 8192,
                "tie_word_embeddings": True,
            }
        )
    )
    given = answers(
        {"model": str(config), "gpu": "Some GPU", "device_memory_bytes": 16 * GIB, "id": "a"},
        {"model": str(config.parent), "device_memory_bytes": 16 * GIB, "tensor_parallel_size": 2},
        {"model": str(config), "gpu": "Some GPU", "mig": "1g", "device_memory_bytes": 16 * GIB, "tp": 2},
        {"model": str(config), "gpu": "Some GPU"},
    )
    assert [one.get("verdict") for one in given] == ["fits", "fits", "does_not_fit", None]
    assert given[0]["device"] == "Some GPU"
    assert given[0]["id"] == "a"
    assert f"vllm serve {config.parent} " in given[0]["launch"]
    assert given[1]["ranks"] == 2
    assert "no board" in given[3]["error"]


def test_a_name_of_several_boards_is_taken_for_the_one_with_the_least_memory() -> None:
    asked = {"model": "Llama-3.1-8B", "max_model_len": 8192}
    given = answers(
        {**asked, "gpu": "NVIDIA H100 80GB"},
        {**asked, "gpu": "NVIDIA H100 80GB", "mig": "3g.40gb"},
        {**asked, "gpu": "NVIDIA H100"},
        {**asked, "gpu": "NVIDIA H100", "device_memory_bytes": 80 * GIB},
    )
    assert [one.get("device") for one in given] == [
        "H100-80GB-SXM",
        "H100-80GB-SXM 3g.40gb",
        "H100-80GB-SXM",
        "NVIDIA H100",
    ]
    assert "may be H100-80GB-SXM or H100-80GB-PCIe" in given[0]["device_evidence"]["source"]
    assert "H100-94GB" in given[2]["device_evidence"]["source"]
    assert given[2]["device_evidence"]["basis"] == "ASSUMED"


def test_a_fault_of_ours_is_told_apart_and_takes_no_other_answer_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(memory_lines, "answer", fail)
    good = {"model": "Llama-3.1-8B", "gpu": "L4", "max_model_len": 8192}
    given = answers(good, good)
    assert len(given) == 2
    assert "ZeroDivisionError" in given[0]["error"]


def test_options_are_listed_with_prices_and_reasons() -> None:
    asked = ["options", "Llama-3.1-8B", "--context", "8192", "--concurrency", "8", "--boards", "L4,H100-80GB-SXM"]
    found = document(*asked, "--price", "L4=0.5", "--price", "H100-80GB-SXM=3", "--quantization", "none,fp8")
    assert found["need"] == {"context": 8192, "concurrency": 8}
    assert found["options"][0]["device"] == "L4"
    assert found["options"][0]["quantization"] == "fp8"
    assert "--quantization fp8" in found["options"][0]["flags"]
    assert all(option["verdict"] in ("fits", "tight") for option in found["options"])
    assert all(option["reason"] for option in found["rejected"])
    text = run(*asked).output
    assert "rejected: H100-80GB-SXM 1g.10gb" in text
    assert "Start the first with:" in text


def test_a_log_without_device_or_model_is_read_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "start.log"
    log.write_text(LOG)
    read = document("learn", str(log))
    assert read["comparison"] is None
    assert read["recorded"] is False
    assert "give --gpu BOARD" in read["notes"][0]
    assert read["measured"]["kv_cache_tokens"] == 420240
    log.write_text(LOG.replace("meta-llama/Llama-3.1-8B", "somebody/nothing-known"))
    assert "No prediction" in document("learn", str(log), *H100)["notes"][0]
    assert document("learn", str(log), *H100, "--model", "Llama-3.1-8B")["comparison"]
    assert "Measured / predicted" in run("learn", str(log), *H100, "--model", "Llama-3.1-8B").output
    log.write_bytes(b"\x00\xff nothing of ours")
    assert "holds no start" in run("learn", str(log), code=2).output

"""`gpufleet doctor` as it is typed: what it prints, as text and as JSON, and the exit codes."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gpufleet.cli import app
from tests.collectors.dcgm.lines import line
from tests.collectors.webs import Answer, Web, reply, serving

TOKEN = "s3cret-t0ken"
WELL = "".join(
    line(name, value)
    for name, value in (
        ("DCGM_FI_DEV_GPU_UTIL", 30),
        ("DCGM_FI_DEV_FB_USED", 10),
        ("DCGM_FI_DEV_FB_FREE", 20),
        ("DCGM_FI_DEV_FB_RESERVED", 1),
        ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.5),
        ("DCGM_FI_PROF_SM_ACTIVE", 0.5),
        ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 0.5),
        ("DCGM_FI_PROF_DRAM_ACTIVE", 0.5),
        ("DCGM_FI_DEV_GPU_TEMP", 40),
        ("DCGM_FI_DEV_POWER_USAGE", 300),
    )
).encode()
KEYS = {
    "cluster",
    "source",
    "kind",
    "target",
    "taken_at",
    "seconds",
    "outcome",
    "version",
    "clock_skew_s",
    "newest_sample_age_s",
    "present",
    "findings",
}


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as served:
        yield served


@pytest.fixture
def other() -> Iterator[Web]:
    with serving() as served:
        yield served


def source(name: str, web: Web, *more: str) -> str:
    return "\n".join((f'[[sources.dcgm]]\nname = "{name}"\nurl = "{web.url}"', *more, ""))


def doctor(folder: Path, *tables: str, as_json: bool = False) -> Result:
    path = folder / "gpufleet.toml"
    path.write_text("version = 1\n" + "\n".join(tables), encoding="utf-8")
    (folder / "token").write_text(TOKEN + "\n", encoding="utf-8")
    arguments = ["doctor", "--config", str(path), *(["--json"] if as_json else [])]
    answer = CliRunner().invoke(app, arguments, catch_exceptions=False)
    for told in (answer.stdout, answer.stderr):
        assert TOKEN not in told
    return answer


def document(answer: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


def findings(target: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in target["findings"]}


def test_a_source_that_lacks_nothing_is_ok(web: Web, tmp_path: Path) -> None:
    web.answer = reply(body=WELL)
    answer = doctor(tmp_path, source("nodes", web))
    assert answer.exit_code == 0
    assert f"nodes 127.0.0.1:{web.port} (dcgm)" in answer.stdout
    assert "reachable: It answers." in answer.stdout
    assert "1 targets: 0 failed, 0 lack something." in answer.stdout
    assert "To do" not in answer.stdout


def test_the_same_as_json(web: Web, tmp_path: Path) -> None:
    web.answer = reply(body=WELL)
    answer = doctor(tmp_path, source("nodes", web), as_json=True)
    assert answer.exit_code == 0
    [target] = document(answer)
    assert set(target) == KEYS
    assert (target["cluster"], target["source"], target["kind"]) == ("default", "nodes", "dcgm")
    assert (target["target"], target["outcome"]) == (f"127.0.0.1:{web.port}", "ok")
    assert {"gpu_busy_ratio", "memory_total_bytes", "power_watts"} <= set(target["present"])
    assert {one["outcome"] for one in target["findings"]} == {"ok"}
    assert all(set(one) == {"check", "outcome", "text", "cost", "fix"} for one in target["findings"])


def test_what_a_source_lacks_costs_no_exit_code_and_says_what_to_do(web: Web, tmp_path: Path) -> None:
    web.answer = reply(body=b"".join(part for part in WELL.splitlines(True) if b"POWER" not in part))
    answer = doctor(tmp_path, source("nodes", web))
    assert answer.exit_code == 0
    assert "cost: Power is not shown, and cost by energy not counted." in answer.stdout
    assert "To do" in answer.stdout
    assert "DCGM_FI_DEV_POWER_USAGE, gauge," in answer.stdout
    assert "1 targets: 0 failed, 1 lack something." in answer.stdout
    [target] = document(doctor(tmp_path, source("nodes", web), as_json=True))
    assert target["outcome"] == "warning"
    [lacking] = [one for one in target["findings"] if one["outcome"] == "warning"]
    assert lacking["cost"] == "Power is not shown, and cost by energy not counted."


def test_a_source_that_refuses_fails_and_the_others_are_looked_at(web: Web, other: Web, tmp_path: Path) -> None:
    web.answer, other.answer = reply(401), reply(body=WELL)
    tables = source("shut", web, 'bearer_token_file = "token"'), source("open", other)
    answer = doctor(tmp_path, *tables)
    assert answer.exit_code == 1
    assert "authorised:" in answer.stdout
    assert "(401)" in answer.stdout
    assert "2 targets: 1 failed, 0 lack something." in answer.stdout
    again = doctor(tmp_path, *tables, as_json=True)
    assert again.exit_code == 1
    shut, well = document(again)
    assert (shut["outcome"], well["outcome"]) == ("failed", "ok")
    refused = findings(shut)["authorised"]
    assert (refused["outcome"], refused["cost"]) == ("failed", "Nothing of this target is measured.")
    assert "bearer_token_file" in refused["fix"]
    assert {one["Authorization"] for one in web.headers} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_a_server_that_repeats_the_token_does_not_bring_it_out(web: Web, tmp_path: Path, status: int) -> None:
    told = json.dumps({"message": f"the token {TOKEN} is no good"}).encode()
    web.answer = reply(status, told, Content_Type="application/json")
    answer = doctor(tmp_path, source("nodes", web, 'bearer_token_file = "token"'))
    assert answer.exit_code == 1
    assert f"({status})" in answer.stdout or f"status {status}" in answer.stdout


def hanging(until: threading.Event) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        until.wait()

    return answer


def test_a_source_that_hangs_fails_in_its_time_and_the_others_are_looked_at(
    web: Web, other: Web, tmp_path: Path
) -> None:
    over = threading.Event()
    web.answer, other.answer = hanging(over), reply(body=WELL)
    try:
        answer = doctor(tmp_path, source("stuck", web, "timeout_s = 0.5"), source("open", other), as_json=True)
    finally:
        over.set()
    assert answer.exit_code == 1
    stuck, well = document(answer)
    assert (stuck["outcome"], well["outcome"]) == ("failed", "ok")
    assert "did not answer within 0.5 s" in findings(stuck)["reachable"]["text"]
    assert stuck["present"] == []
    assert stuck["version"] is stuck["newest_sample_age_s"] is None


def test_a_hostile_answer_is_shown_as_text(web: Web, tmp_path: Path) -> None:
    hostile = "\x1b[2J[red]gone[/red]"
    web.answer = reply(400, json.dumps({"message": hostile}).encode(), Content_Type="application/json")
    answer = doctor(tmp_path, source("nodes", web))
    assert answer.exit_code == 1
    assert "\x1b[2J" not in answer.stdout
    assert "[red]gone[/red]" in answer.stdout


def test_without_a_source_there_is_a_hint(tmp_path: Path) -> None:
    answer = doctor(tmp_path)
    assert answer.exit_code == 0
    assert "gpufleet init" in answer.stdout
    assert document(doctor(tmp_path, as_json=True)) == []


def test_without_a_configuration_it_says_which_file_it_wants(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / "nowhere.toml")])
    assert answer.exit_code == 2
    assert "nowhere.toml" in answer.stderr
    assert answer.stdout == ""

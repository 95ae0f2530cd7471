"""`gpufleet mig plan`, `export` and `replay`: the whole road from a problem file, and every way to get it wrong."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gpufleet.cli import app
from gpufleet.mig_plan_commands import default_mode
from planner.mig.exports import Format
from planner.mig.plan import Mode
from planner.mig.problem_file import SIZE_LIMIT_BYTES, read_problem

RUNNING: dict[str, Any] = {
    "version": 1,
    "gpus": [
        {
            "id": f"g{number}",
            "node": "a" if number < 2 else "b",
            "board": "A100-40GB",
            "instances": [{"profile": "3g.20gb", "start": 4, "workload": f"w{number}"}],
        }
        for number in range(4)
    ],
    "workloads": [{"id": f"w{number}", "profile": "3g.20gb"} for number in range(4)],
}
EMPTY: dict[str, Any] = {
    "version": 1,
    "elastic": {"board": "A100-40GB"},
    "workloads": [{"id": f"w{number}", "profile": "3g.20gb"} for number in range(5)],
}
TOO_MUCH: dict[str, Any] = {**RUNNING, "new": [{"id": f"n{number}", "profile": "7g.40gb"} for number in range(3)]}


def run(*arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["mig", *map(str, arguments)], input=stdin)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(document: object, name: str = "problem.json") -> Path:
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return path

    return written


@pytest.fixture
def plan_file(write: Any, tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    assert run("plan", "--problem", write(RUNNING), "--output", path).exit_code == 0
    return path


def test_from_a_problem_to_a_plan_file_and_its_exports(write: Any, tmp_path: Path, plan_file: Path) -> None:
    plan = json.loads(plan_file.read_text())
    assert (plan["status"], plan["mode"], plan["gpus_used"], plan["moves"]) == ("optimal", "reconfigure", 2, 2)
    assert set(plan["seconds"]) == {"read", "plan", "change", "total"}

    printed = run("export", plan_file, "--format", "mig-parted")
    assert printed.exit_code == 0
    assert "version: v1" in printed.stdout
    to_file = tmp_path / "mig-parted.yaml"
    assert run("export", plan_file, "--format", "mig-parted", "--output", to_file).exit_code == 0
    assert to_file.read_text() == printed.stdout
    assert json.loads(run("export", plan_file, "--format", "json").stdout)["status"] == "optimal"

    folder = tmp_path / "operator"
    assert run("export", plan_file, "--format", "gpu-operator", "--output", folder).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"mig-config.yaml", "label-nodes.sh"}
    scripts = tmp_path / "deep" / "scripts"
    assert run("export", plan_file, "--format", "nvidia-smi", "--output", scripts).exit_code == 0
    assert {path.name for path in scripts.iterdir()} >= {"order.txt", "a.sh", "a.rollback.sh"}


def test_two_plans_do_not_mix_in_one_folder(tmp_path: Path, plan_file: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "old.sh").write_text("")
    refused = run("export", plan_file, "--format", "nvidia-smi", "--output", tmp_path / "scripts")
    assert refused.exit_code == 2
    assert "is not empty" in refused.stderr
    asked = run("export", plan_file, "--format", "nvidia-smi")
    assert (asked.exit_code, "name a folder" in asked.stderr) == (2, True)


def test_a_plan_goes_through_pipes(write: Any) -> None:
    planned = run("plan", "--problem", "-", "--json", stdin=json.dumps(RUNNING))
    assert planned.exit_code == 0
    assert json.loads(planned.stdout)["status"] == "optimal"
    exported = run("export", "-", "--format", "json", stdin=planned.stdout)
    assert exported.exit_code == 0
    replayed = run("replay", "-", "--json", stdin=planned.stdout)
    assert json.loads(replayed.stdout)["ends_where_it_began"]


def test_replay_prints_the_states_both_ways(plan_file: Path) -> None:
    told = run("replay", plan_file)
    assert told.exit_code == 0
    assert "The steps end in the target, and the rollback where the plan began." in told.stdout
    assert "3g.20gb at 0 + 3g.20gb at 4" in told.stdout
    document = json.loads(run("replay", plan_file, "--json").stdout)
    assert document["ends_in_target"]
    assert document["refusal"] is None
    assert document["change"]["waves"][-1]["gpus"]
    assert document["rollback"]["max_down"] == 0


def test_replay_finds_a_plan_that_a_driver_refuses(plan_file: Path, write: Any) -> None:
    plan = json.loads(plan_file.read_text())
    wrong = dict(plan, steps=[step for step in plan["steps"] if step["action"] != "create"])
    refused = run("replay", write(wrong, "wrong.json"))
    assert refused.exit_code == 1
    assert "failed" in refused.stdout
    half = dict(plan, steps=plan["steps"][:1])
    assert "do not end in the target" in run("replay", write(half, "half.json")).stdout
    stays = dict(plan, rollback=[])
    document = json.loads(run("replay", write(stays, "stays.json"), "--json").stdout)
    assert document["ends_in_target"]
    assert not document["ends_where_it_began"]
    assert "rollback does not end where" in document["refusal"]


def test_no_export_of_a_plan_that_replay_refuses(plan_file: Path, write: Any, tmp_path: Path) -> None:
    plan = json.loads(plan_file.read_text())
    for wrong in (
        dict(plan, steps=[step for step in plan["steps"] if step["action"] != "create"]),
        dict(plan, steps=plan["steps"][:1]),
        dict(plan, rollback=[]),
        dict(plan, max_down=1),
    ):
        for to in Format:
            answer = run("export", write(wrong, "wrong.json"), "--format", to.value, "--output", tmp_path / "out")
            assert answer.exit_code == 2
            assert "the plan is not exported, as `gpufleet mig replay` refuses it: " in answer.stderr
    assert not (tmp_path / "out").exists()
    written = run("export", plan_file, "--format", "nvidia-smi", "--output", tmp_path / "out")
    assert "the simulated driver took every step" in written.stdout


SLOW = """
import sys, time
from planner.errors import PlanningCancelled
import planner.mig.planning, planner.mig.frontier
def slow(*arguments, stopping, **more):
    print("solving", flush=True)
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at:
        try:
            time.sleep(0.02)
        except BaseException:  # as the solver does, through which no exception gets
            pass
        if stopping():
            raise PlanningCancelled("The planning was cancelled.")
planner.mig.planning.plan_target = planner.mig.frontier.frontier = slow
from gpufleet.cli import main
main()
"""


@pytest.mark.parametrize("command", ["plan", "frontier"])
def test_ctrl_c_ends_the_solver_with_a_sentence(write: Any, command: str) -> None:
    arguments = [sys.executable, "-c", SLOW, "mig", command, "--problem", str(write(RUNNING))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "solving\n"
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=20)
    assert (process.returncode, printed, said) == (130, "", "gpufleet: interrupted.\n")


def test_ctrl_c_is_what_it_was_after_the_planning(write: Any) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert run("plan", "--problem", write(EMPTY)).exit_code == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_what_cannot_be_placed_is_told_and_the_exit_code_says_so(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    told = run("plan", "--problem", write(TOO_MUCH), "--mode", "add", "--output", out)
    assert told.exit_code == 1
    assert "not placed: 1 workload" in told.stdout
    assert json.loads(out.read_text())["status"] == "infeasible"
    assert run("replay", out).exit_code == 0
    assert json.loads(run("plan", "--problem", write(TOO_MUCH), "--json").stdout)["unplaced"]


def test_the_cap_on_moves_replaces_that_of_the_file(write: Any) -> None:
    path = write({**RUNNING, "rules": {"max_moves": 9}})
    assert json.loads(run("plan", "--problem", path, "--json").stdout)["moves"] == 2
    capped = json.loads(run("plan", "--problem", path, "--max-moves", 1, "--json").stdout)
    assert (capped["moves"], capped["gpus_used"]) == (1, 3)
    assert capped["problem"]["rules"]["max_moves"] == 1


@pytest.mark.parametrize(
    ("document", "mode"),
    [
        (EMPTY, Mode.INITIAL),
        (RUNNING, Mode.RECONFIGURE),
        (TOO_MUCH, Mode.ADD),
        ({**RUNNING, "workloads": [*RUNNING["workloads"], {"id": "x", "profile": "1g.5gb"}]}, Mode.ADD),
        ({"version": 1}, Mode.INITIAL),
    ],
)
def test_the_mode_that_is_meant_when_none_is_given(document: dict[str, Any], mode: Mode) -> None:
    assert default_mode(read_problem(json.dumps(document))) is mode


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        (json.dumps({**RUNNING, "version": 3}), "version: must be 1"),
        (json.dumps({**EMPTY, "elastic": {"board": "A100-40"}}), "Nearest: A100-40GB"),
    ],
)
def test_a_wrong_problem_is_a_sentence_and_exit_code_2(write: Any, text: str, said: str) -> None:
    for command in ("plan", "frontier"):
        answer = run(command, "--problem", write(text))
        assert answer.exit_code == 2
        assert said in answer.stderr
        assert "Traceback" not in answer.stderr


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name in (tmp_path / "missing.json", tmp_path):
        answer = run("plan", "--problem", name)
        assert answer.exit_code == 2
        assert "cannot be read" in answer.stderr
    assert run("export", tmp_path / "missing.json", "--format", "json").exit_code == 2
    assert run("replay", tmp_path / "missing.json").exit_code == 2


def test_a_file_of_200_mb_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)  # a sparse file: reading it would be the only cost
    program = (
        "import resource, sys; from typer.testing import CliRunner; from gpufleet.cli import app\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"answer = CliRunner().invoke(app, ['mig', 'plan', '--problem', {str(path)!r}])\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "print(answer.exit_code, grown, answer.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd())
    code, grown_kib, said = done.stdout.split(" ", 2)
    assert code == "2"
    assert int(grown_kib) < 100 * 1024
    assert "too large (200 MiB): at most 32 MiB" in said


def test_endless_stdin_is_refused() -> None:
    answer = run("plan", "--problem", "-", stdin=b" " * (SIZE_LIMIT_BYTES + 1))
    assert answer.exit_code == 2
    assert "'stdin'" not in answer.stderr
    assert "the problem stdin is too large: at most 32 MiB" in answer.stderr


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "1e9"])
def test_a_time_limit_that_makes_no_sense(write: Any, limit: str) -> None:
    answer = run("plan", "--problem", write(EMPTY), "--time-limit", limit)
    assert answer.exit_code == 2
    assert "makes no sense" in answer.stderr or "No such option" in answer.stderr


def test_a_time_limit_that_strikes_at_once_still_gives_an_honest_answer(write: Any) -> None:
    answer = run("plan", "--problem", write(EMPTY), "--time-limit", "0.000001", "--json")
    assert answer.exit_code in (0, 1)
    plan = json.loads(answer.stdout)
    assert plan["status"] in ("optimal", "feasible", "infeasible")
    assert len(plan["placements"]) + len(plan["unplaced"]) == 5


def test_an_output_that_cannot_be_written(write: Any, tmp_path: Path, plan_file: Path) -> None:
    answer = run("plan", "--problem", write(EMPTY), "--output", tmp_path / "no" / "plan.json")
    assert (answer.exit_code, "cannot be written" in answer.stderr) == (2, True)
    answer = run("export", plan_file, "--format", "gpu-operator", "--output", plan_file)
    assert (answer.exit_code, "cannot be used" in answer.stderr) == (2, True)


def test_hostile_names_are_shown_literally(write: Any) -> None:
    hostile = "\x1b[31m[bold]evil[/bold]\n"
    document = {**EMPTY, "elastic": None, "gpus": [{"id": hostile, "node": hostile, "board": "A30"}]}
    document["workloads"] = [{"id": hostile, "profile": "7g.40gb"}]
    answer = run("plan", "--problem", write(document))
    assert answer.exit_code == 1
    assert "\x1b" not in answer.stdout
    assert "[bold]evil[/bold]" in answer.stdout


def test_help_and_plans_load_nothing_they_do_not_need(write: Any) -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from gpufleet.cli import app\n"
        "answer = CliRunner().invoke(app, sys.argv[1:])\n"
        "print(sorted({'pandas', 'streamlit', 'plotly', 'apscheduler', 'sqlmodel', 'sqlalchemy', 'httpx', 'highspy'}"
        " & set(sys.modules)), answer.exit_code)\n"
    )
    for arguments, loaded in (
        (["mig", "plan", "--help"], []),
        (["mig", "plan", "--problem", str(write(EMPTY)), "--json"], ["highspy"]),
        (["mig", "plan", "--problem", "missing"], []),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.rsplit(" ", 1)[0].splitlines()[-1] == str(loaded)


def test_the_frontier_runs_from_all_moves_to_none(write: Any) -> None:
    pytest.importorskip("planner.mig.frontier")
    answer = json.loads(run("frontier", "--problem", write(RUNNING), "--json").stdout)
    assert {(point["gpus"], point["moves"]) for point in answer["points"]} == {(2, 2), (3, 1), (4, 0)}
    assert all(set(point) == {"gpus", "moves", "moves_lower_bound", "proven"} for point in answer["points"])
    assert "proven" in run("frontier", "--problem", write(RUNNING)).stdout

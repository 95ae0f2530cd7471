"""docs/mig-planning.md names every key of both files, its example is one, and docs/json.md knows what is printed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gpufleet import mig_replay
from planner.mig.change import change_plan
from planner.mig.exports import Format
from planner.mig.plan import Action, Mode, Status
from planner.mig.plan_file import plan_document, read_plan
from planner.mig.plan_rows import PlanRow
from planner.mig.planning import plan_target
from planner.mig.problem_file import SIZE_LIMIT_BYTES, problem_document, read_problem
from planner.mig.problem_rows import ProblemRow

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "mig-planning.md").read_text(encoding="utf-8")


def words(text: str) -> set[str]:
    """What stands in backticks, outside of the examples."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[a-z_][a-z0-9_-]*", quoted)}


def keys(annotation: Any) -> set[str]:
    found: set[str] = set()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            found |= {name} | keys(field.annotation)
    for part in getattr(annotation, "__args__", ()):
        found |= keys(part)
    return found


@pytest.mark.parametrize("model", [ProblemRow, PlanRow])
def test_the_page_names_every_key(model: type[BaseModel]) -> None:
    assert sorted(keys(model) - words(PAGE)) == []


@pytest.mark.parametrize("names", [Mode, Status, Action, Format])
def test_the_page_names_every_word_of_the_files(names: Any) -> None:
    assert sorted({name.value for name in names} - words(PAGE)) == []


def test_the_page_states_the_limit() -> None:
    assert f"At most {SIZE_LIMIT_BYTES // 2**20} MiB are read" in PAGE


def test_the_example_is_a_problem_and_its_plan_is_documented() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    problem = read_problem(example)
    assert read_problem(json.dumps(problem_document(problem))) == problem
    target = plan_target(problem, Mode.ADD)
    assert target.status is Status.OPTIMAL
    document = plan_document(problem, change_plan(problem, target), seconds={"total": 0.1})
    replayed = mig_replay.document(mig_replay.replay_both_ways(read_plan(json.dumps(document))))
    assert replayed["ends_where_it_began"]
    printed = set(replayed) | set(replayed["change"]) | set(replayed["change"]["waves"][0])
    printed |= set(replayed["change"]["waves"][0]["gpus"][0])
    assert sorted(printed - words((DOCS / "json.md").read_text(encoding="utf-8"))) == []

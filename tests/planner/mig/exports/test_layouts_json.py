"""The plain JSON: every GPU with what is there and what shall be there."""

import json

import pytest

from planner.mig.exports import Format, export
from tests.planner.mig.exports.hostile import NAMES, hostile_plan
from tests.planner.mig.plans import PLANS, example


@pytest.mark.parametrize("name", PLANS)
def test_it_holds_the_present_and_the_target(name: str) -> None:
    asked, change = example(name)
    (text,) = export(Format.JSON, asked, change).values()
    document = json.loads(text)
    assert set(document) == {"version", "status", "mode", "nodes"}
    gpus = {gpu["id"]: gpu for node in document["nodes"] for gpu in node["gpus"]}
    assert {name: [(i["profile"], i["start"], i["workloads"]) for i in gpu["after"]] for name, gpu in gpus.items()} == {
        gpu.id: [(i.profile, i.start, list(i.workloads)) for i in gpu.instances] for gpu in change.target.gpus
    }
    assert {
        name: [(i["profile"], i["start"]) for i in gpu["before"]] for name, gpu in gpus.items() if not gpu["new"]
    } == {gpu.id: [(i.profile, i.start) for i in gpu.instances] for gpu in asked.gpus}
    assert all(isinstance(i["profile_id"], int) and i["size"] for gpu in gpus.values() for i in gpu["after"])


def test_names_are_kept_as_they_are() -> None:
    (text,) = export(Format.JSON, *hostile_plan()).values()
    assert {node["node"] for node in json.loads(text)["nodes"]} == set(NAMES)

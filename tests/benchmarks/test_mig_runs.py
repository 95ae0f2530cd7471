"""A plan counts in the benchmarks only if it is a legal answer and says of itself what is true."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mig_instances import Instance, slots
from benchmarks.mig_masks import Spot
from benchmarks.mig_runs import counted, plan

SLOTS = slots()

INSTANCE = Instance(
    name="by hand",
    size=2,
    mix="",
    seed=0,
    load=0.5,
    gpus=2,
    running={"a": Spot(0, "3g.20gb", 0), "b": Spot(1, "2g.10gb", 0)},
    requests={"n": "1g.5gb"},
)


def told(**changes: Any) -> dict[str, Any]:
    """A right answer to `add`, changed."""
    answer = {
        "status": "optimal",
        "levels": [{"name": "gpus", "proven": True}, {"name": "moves", "proven": True}],
        "gpus_used": 1,
        "gpus_lower_bound": 1,
        "moves": 1,
        "moves_lower_bound": 1,
        "placements": [
            {"workload": "a", "gpu": "gpu-0", "profile": "3g.20gb", "start": 0},
            {"workload": "b", "gpu": "gpu-0", "profile": "2g.10gb", "start": 4},
            {"workload": "n", "gpu": "gpu-0", "profile": "1g.5gb", "start": 6},
        ],
        "unplaced": [],
        "steps": [{}, {}],
        "max_down": 0,
        "seconds": {"solving": 0.1},
    }
    return answer | changes


def placements(*spots: tuple[str, str, str, int]) -> list[dict[str, Any]]:
    return [{"workload": w, "gpu": gpu, "profile": profile, "start": start} for w, gpu, profile, start in spots]


def test_figures_are_counted_from_the_placements() -> None:
    planned = counted(SLOTS, INSTANCE, "add", told(), seconds=0.5, processor_s=0.4)
    assert planned.is_proven
    assert (planned.outcome.gpus, planned.outcome.moves, planned.outcome.unplaced) == (1, 1, ())
    assert not counted(SLOTS, INSTANCE, "add", told(levels=[]), seconds=0.5, processor_s=0.4).is_proven
    assert (planned.outcome.seconds, planned.steps) == (0.5, 2)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"gpus_used": 2}, "it says"),
        ({"moves": 0}, "it says"),
        ({"unplaced": [{"workload": "n"}]}, "it says"),
        (
            {"placements": placements(("a", "gpu-0", "3g.20gb", 0), ("n", "gpu-0", "1g.5gb", 6))},
            "b runs and is placed nowhere",
        ),
        (
            {
                "placements": placements(
                    ("a", "gpu-0", "3g.20gb", 0), ("b", "gpu-0", "2g.10gb", 2), ("n", "gpu-0", "1g.5gb", 6)
                )
            },
            "b has no room",
        ),
        (
            {
                "placements": placements(
                    ("a", "gpu-0", "3g.20gb", 0), ("b", "gpu-0", "3g.20gb", 4), ("n", "gpu-1", "1g.5gb", 6)
                )
            },
            "b asks for 2g.10gb",
        ),
        (
            {
                "placements": placements(
                    ("a", "gpu-0", "3g.20gb", 0), ("b", "gpu-1", "2g.10gb", 0), ("n", "elsewhere", "1g.5gb", 0)
                )
            },
            "does not have",
        ),
    ],
)
def test_a_wrong_plan_ends_the_measurement(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(SystemExit, match=fault):
        counted(SLOTS, INSTANCE, "add", told(**changes), seconds=0.5, processor_s=0.4)


def test_the_command_gets_the_problem_and_the_mode(tmp_path: Path) -> None:
    seen: list[Sequence[str]] = []

    def command(arguments: Sequence[str]) -> float:
        seen.append(arguments)
        named = dict(zip(arguments[2::2], arguments[3::2], strict=False))
        assert json.loads(Path(named["--problem"]).read_text(encoding="utf-8")) == INSTANCE.document()
        Path(arguments[arguments.index("--output") + 1]).write_text(json.dumps(told()), encoding="utf-8")
        return 0.25

    planned = plan(SLOTS, INSTANCE, "add", tmp_path, command, ("--time-limit", "40"))
    assert planned.processor_s == 0.25
    assert seen[0][:2] == ("mig", "plan")
    assert tuple(seen[0][4:6]) == ("--mode", "add")
    assert seen[0][-2:] == ("--time-limit", "40")

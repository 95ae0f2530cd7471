"""On every published instance the planner finds the published optimum, GPUs and moves, and proves it."""

from pathlib import Path
from statistics import mean

import pytest

from planner.mig.plan import Mode, Status, Target
from planner.mig.planning import plan_target
from planner.mig.problem import Problem
from tests.planner.mig.reference_instances import (
    FLEET_MIXES,
    FLEETS,
    LOADS,
    MIXES,
    SEEDS,
    SIZES,
    initial_problem,
    published,
    running_problem,
)
from tests.planner.mig.validator import violations

METHODS = {
    Mode.COMPACT: "EXACT_compact",
    Mode.RECONFIGURE: "EXACT_reconfigure",
    Mode.ADD: "EXACT_new_with_moves",
}

ROWS = [
    pytest.param(
        gpus,
        mix,
        load,
        seed,
        marks=[pytest.mark.slow] if gpus == 800 and seed > 0 else [],
        id=f"{gpus}-{mix}-{load}-{seed}",
    )
    for gpus in FLEETS
    for mix in FLEET_MIXES
    for load in LOADS
    for seed in SEEDS
]
"""All 90 fleets; most of the large ones take a few seconds each and wait for `make test-slow`."""


def proven(problem: Problem, mode: Mode) -> Target:
    """The plan, which breaks nothing and is proven."""
    target = plan_target(problem, mode)
    assert violations(problem, mode, target) == []
    assert all(level.is_proven for level in target.levels)
    assert target.status is (Status.INFEASIBLE if target.unplaced else Status.OPTIMAL)
    assert target.gpus_lower_bound == target.gpus_used
    assert target.moves_lower_bound == target.moves
    return target


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("size", SIZES)
def test_initial(reference: Path, size: int, mix: str, seed: int) -> None:
    gpus, _ = published(reference)["initial", size, mix, "", seed, "EXACT_pattern_ilp"]
    target = proven(initial_problem(reference, size, mix, seed), Mode.INITIAL)
    assert (target.gpus_used, target.moves, target.unplaced) == (gpus, 0, ())


@pytest.mark.parametrize(("gpus", "mix", "load", "seed"), ROWS)
@pytest.mark.parametrize("mode", METHODS)
def test_running(reference: Path, mode: Mode, gpus: int, mix: str, load: str, seed: int) -> None:
    expected = published(reference)["running", gpus, mix, load, seed, METHODS[mode]]
    target = proven(running_problem(reference, gpus, mix, load, seed), mode)
    assert (target.gpus_used, target.moves) == expected
    assert target.status is Status.OPTIMAL


@pytest.mark.parametrize(("gpus", "mix", "load", "seed"), ROWS)
def test_adding_without_moves_is_never_worse_than_best_fit(
    reference: Path, gpus: int, mix: str, load: str, seed: int
) -> None:
    best_fit, _ = published(reference)["running", gpus, mix, load, seed, "new_best_fit"]
    target = proven(running_problem(reference, gpus, mix, load, seed), Mode.ADD_WITHOUT_MOVES)
    assert target.moves == 0
    assert target.gpus_used <= best_fit
    # One fleet has no room for its one new request, a whole GPU, unless something moves; best fit left it out as well.
    assert len(target.unplaced) == ((gpus, mix, load, seed) == (8, "uniform", "0.7", 1))


def test_what_moving_saves_when_work_is_added(reference: Path) -> None:
    rows = [(80, mix, "0.7", seed) for mix in FLEET_MIXES for seed in SEEDS]
    with_moves = [proven(running_problem(reference, *row), Mode.ADD) for row in rows]
    without = [proven(running_problem(reference, *row), Mode.ADD_WITHOUT_MOVES) for row in rows]
    best_fit = mean(published(reference)["running", *row, "new_best_fit"][0] for row in rows)
    assert round(best_fit, 1) == 65.7
    assert round(mean(one.gpus_used for one in with_moves), 1) == 61.9
    assert round(mean(one.moves for one in with_moves), 1) == 9.8
    assert 61.9 < mean(one.gpus_used for one in without) < best_fit

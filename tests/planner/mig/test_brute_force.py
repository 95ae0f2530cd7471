"""The tools agree: what brute force calls the best is the best of all plans that the validator passes."""

from collections.abc import Iterator
from itertools import product
from math import prod

import pytest
from hypothesis import assume, given, settings

from planner.hardware import Board
from planner.mig.plan import Mode, Target, TargetGpu, TargetInstance
from planner.mig.problem import Elastic, Problem, ProblemGpu, RunningInstance, Workload
from planner.mig_geometry import legal_layouts
from tests.planner.mig.answers import answer
from tests.planner.mig.brute_force import Best, best, fewest_moves
from tests.planner.mig.placement_table import layouts, room_beside
from tests.planner.mig.problems import A30, A100, A100_OLD, CATALOG, RTX, Shape, problems
from tests.planner.mig.validator import broken, violations

MOST_PLANS = 20_000
"""More of them are not worth the wait."""

TINY = Shape(
    mixes=((A30,),),
    most_gpus=2,
    most_running=2,
    most_waiting=1,
    unknown_starts=False,
    elastic=False,
    rules=("spread", "tenants", "reserve", "loss", "upsize", "untouchable", "moves"),
)
SINGLE = Shape(
    mixes=((A30,),), most_gpus=2, most_running=2, most_waiting=1, unknown_starts=False, elastic=False, rules=("single",)
)


def every_filling(board: Board, names: tuple[str, ...], units: dict[tuple[str, ...], tuple[str, ...]]) -> list[list]:
    """All layouts of the GPU with all ways to put the units on their instances; a free instance is a reserve."""
    found = []
    for layout in layouts(board, names):
        placed = sorted(layout, key=lambda one: one[1])
        for owners in product([(), *units], repeat=len(placed)):
            if sum(map(bool, owners)) > len(units):
                continue
            taken = [unit for unit in owners if unit]
            if len(set(taken)) == len(taken):
                found.append([(*where, unit, units.get(unit, ())) for where, unit in zip(placed, owners, strict=True)])
    return found


def every_plan(problem: Problem, mode: Mode) -> Iterator[Target]:
    """All arrangements of everything, legal or not."""
    names = {one.profile for one in (*problem.workloads, *problem.new)}
    names |= {one.profile for gpu in problem.gpus for one in gpu.instances}
    names |= {one.profile for one in problem.rules.reserves} | {to for one in problem.rules.upsizes for to in one.to}
    units = {one.workloads: one.compute_instances for gpu in problem.gpus for one in gpu.instances if one.workloads}
    if mode.places_new:
        units |= {(one.id,): () for one in (*problem.workloads, *problem.new) if one.id not in problem.running_ids()}
    keeps_free = bool(problem.rules.reserves or problem.rules.survive_node_loss)
    ways = []
    for gpu in problem.gpus:
        here = tuple(sorted(name for name in names if name in {one.name for one in gpu.board.profiles}))
        filled = [
            TargetGpu(
                id=gpu.id,
                node=gpu.node,
                board=gpu.board,
                instances=tuple(
                    TargetInstance(
                        profile=profile,
                        start=start,
                        workloads=unit,
                        compute_instances=parts,
                        is_reserve=keeps_free and not unit and not problem.rules.is_untouchable(gpu),
                    )
                    for profile, start, unit, parts in filling
                ),
            )
            for filling in every_filling(gpu.board, here, units)
        ]
        ways.append([one for one in filled if may_be(problem, mode, gpu, one)])
    assume(prod(map(len, ways)) <= MOST_PLANS)
    here = [[frozenset(who for one in gpu.instances for who in one.workloads) for gpu in way] for way in ways]
    for chosen in product(*(range(len(way)) for way in ways)):
        placed = [here[at][number] for at, number in enumerate(chosen)]
        everyone = frozenset().union(*placed)
        if problem.running_ids() <= everyone and sum(map(len, placed)) == len(everyone):
            yield answer(problem, mode, [ways[at][number] for at, number in enumerate(chosen)])


def may_be(problem: Problem, mode: Mode, gpu: ProblemGpu, filled: TargetGpu) -> bool:
    """Whether the validator finds nothing wrong with this GPU when it is the only one that changes its layout."""
    alone = Problem(
        gpus=(gpu,), workloads=problem.workloads, new=problem.new, rules=problem.rules, prices=problem.prices
    )
    found = violations(alone, mode, answer(alone, mode, [filled]))
    about_the_fleet = ("and has 0 places", "are to be kept", "without node", "is not placed", "has no instance")
    elsewhere = ("who did not live together so", "is no workload", "does not run, and")
    return not [one for one in found if not any(text in one for text in (*about_the_fleet, *elsewhere, "is said of"))]


def best_by_validator(problem: Problem, mode: Mode) -> Best | None:
    found = []
    for target in every_plan(problem, mode):
        if not violations(problem, mode, target) and not broken(problem, mode, target):
            level = {one.name: one.value for one in target.levels}
            found.append(
                (level["unplaced"], level.get("gpus", level.get("cost")), level["moves"], level.get("upsized", 0))
            )
    if not found:
        return None
    unplaced, spent, moves, upsized = min(found)
    return Best(unplaced=unplaced, spent=spent, moves=moves, upsized=upsized)


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=20)
@given(problem=problems(TINY))
def test_brute_force_finds_the_best_that_the_validator_passes(mode: Mode, problem: Problem) -> None:
    assert best(problem, mode) == best_by_validator(problem, mode)


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=12)
@given(problem=problems(SINGLE))
def test_brute_force_and_validator_agree_about_nodes_of_one_profile(mode: Mode, problem: Problem) -> None:
    assert best(problem, mode) == best_by_validator(problem, mode)


@pytest.mark.parametrize("board", [A30, A100, A100_OLD, RTX, CATALOG.board("GB300-278GB")], ids=lambda one: one.name)
def test_the_second_reading_of_the_placement_table_agrees_with_the_first(board: Board) -> None:
    names = tuple(profile.name for profile in board.profiles)
    planned = {tuple([one.profile for one in layout].count(name) for name in names) for layout in legal_layouts(board)}
    assert room_beside(board, names, frozenset()) == planned


def test_layouts_by_trying_every_set_are_those_that_are_published() -> None:
    assert len(layouts(A30, ("1g.6gb", "2g.12gb", "4g.24gb"))) == 26  # 25 and the empty one
    assert len(layouts(A100, ("1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"))) == 298
    large = ("4g.20gb", "3g.20gb")
    assert room_beside(A100_OLD, large, frozenset()) == {(0, 0), (1, 0), (0, 1), (0, 2)}
    assert room_beside(A100, large, frozenset()) == {(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)}


def running(profile: str, start: int, *names: str) -> RunningInstance:
    return RunningInstance(profile=profile, start=start, workloads=names)


def test_two_half_empty_gpus_become_one() -> None:
    problem = Problem(
        gpus=(
            ProblemGpu(id="a", node="n", board=A100, instances=(running("1g.5gb", 0, "x"),)),
            ProblemGpu(id="b", node="n", board=A100, instances=(running("3g.20gb", 0, "y"), running("1g.5gb", 4, "z"))),
        ),
        workloads=(
            Workload(id="x", profile="1g.5gb"),
            Workload(id="y", profile="3g.20gb"),
            Workload(id="z", profile="1g.5gb"),
        ),
    )
    assert best(problem, Mode.COMPACT) == Best(unplaced=0, spent=1, moves=1, upsized=0)
    assert best(problem, Mode.ADD_WITHOUT_MOVES) == Best(unplaced=0, spent=2, moves=0, upsized=0)
    assert fewest_moves(problem, Mode.RECONFIGURE) == {1: 1, 2: 0}


def test_elastic_gpus_are_taken_as_needed() -> None:
    new = tuple(Workload(id=f"n{i}", profile="4g.20gb", service="s") for i in range(3))
    problem = Problem(elastic=Elastic(boards=(A100,)), new=new)
    assert best(problem, Mode.INITIAL) == Best(unplaced=0, spent=3, moves=0, upsized=0)

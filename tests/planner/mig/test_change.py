"""A change plan reaches its target and its way back the beginning, with the least that can be down on the way."""

from collections import defaultdict
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalog import load_catalog
from planner.errors import ChangeImpossible, DriverRefusal
from planner.mig.change import change_plan
from planner.mig.driver import Driver, Replay, replay
from planner.mig.plan import Action, ChangePlan, Level, Step, Target, TargetGpu, TargetInstance
from planner.mig.problem import EVERY, Problem, ProblemGpu, Rules, RunningInstance, Workload
from planner.mig.simulated_gpu import GpuState
from planner.mig.state import with_starts
from planner.mig_exceptions import board_under
from tests.planner.mig.change_cases import Case, least_down, make_target, random_case, tight_case

A100 = load_catalog().board("A100-40GB")
H100 = load_catalog().board("H100-80GB-SXM")
SEEDS = st.integers(min_value=0, max_value=10**9)


def running(profile: str, start: int | None, *workloads: str, cis: tuple[str, ...] = ()) -> RunningInstance:
    return RunningInstance(profile=profile, start=start, workloads=workloads, compute_instances=cis)


def wanted(profile: str, start: int, *workloads: str, cis: tuple[str, ...] = ()) -> TargetInstance:
    return TargetInstance(profile=profile, start=start, workloads=workloads, compute_instances=cis)


def case_of(
    now: dict[str, list[RunningInstance]],
    then: dict[str, list[TargetInstance]],
    *,
    groups: dict[str, int] | None = None,
    board=A100,
    mig_enabled: bool | None = True,
    tenants: dict[str, str] | None = None,
    rules: Rules | None = None,
) -> Case:
    gpus = tuple(
        ProblemGpu(id=name, node=f"node-{name}", board=board, instances=tuple(instances), mig_enabled=mig_enabled)
        for name, instances in now.items()
    )
    workloads = tuple(
        Workload(id=name, profile=one.profile, tenant=(tenants or {}).get(name))
        for instances in then.values()
        for one in instances
        for name in one.workloads
    )
    target = make_target(
        [
            TargetGpu(id=name, node=f"node-{name}", board=board, instances=tuple(instances))
            for name, instances in then.items()
        ],
        groups,
    )
    return Case(
        problem=Problem(gpus=gpus, workloads=workloads, rules=rules or Rules()), target=target, kept=frozenset()
    )


def planned(case: Case) -> ChangePlan:
    """The plan, once everything that must hold of any plan was checked."""
    plan = change_plan(case.problem, case.target)
    driver = Driver(case.problem, plan.steps, new_boards=case.boards)
    beginning = driver.states()
    there = driver.run(plan.steps)
    check_arrival(case, plan, there)
    back = driver.run(plan.rollback)
    assert driver.states() == beginning
    assert set(back.ended) == set(there.places) - case.problem.running_ids()
    assert back.max_down == plan.max_down
    assert set(back.interrupted) == set(plan.down)
    check_steps(case, plan)
    check_flags(plan.steps, dict.fromkeys(case.problem.running_ids(), 1))
    check_flags(plan.rollback, dict.fromkeys(there.places, 1))
    return plan


def check_arrival(case: Case, plan: ChangePlan, there: Replay) -> None:
    for gpu in plan.target.gpus:
        if gpu.id not in there.final:  # an elastic GPU that stays empty
            assert gpu.is_new
            assert not gpu.instances
            continue
        assert contents(there.final[gpu.id]) == contents(gpu)
    assert not there.ended
    assert there.max_down == plan.max_down
    assert set(there.interrupted) == set(plan.down)
    for before, after in zip(case.target.gpus, plan.target.gpus, strict=True):
        for first, second in zip(before.instances, after.instances, strict=True):
            assert replace(first, workloads=()) == replace(second, workloads=())
            groups = case.target.groups
            assert [groups.get(w, w) for w in first.workloads] == [groups.get(w, w) for w in second.workloads]


def contents(gpu: GpuState | TargetGpu) -> list[tuple[str, int, tuple[str, ...], tuple[str, ...]]]:
    return [(one.profile, one.start, one.compute_instances, one.workloads) for one in gpu.instances]


def check_steps(case: Case, plan: ChangePlan) -> None:
    after = {gpu.id: gpu for gpu in plan.target.gpus}
    changed = {gpu.id for gpu in plan.target.gpus if gpu.is_new and gpu.instances}
    at_home: dict[str, tuple[str, int]] = {}
    for gpu in case.problem.gpus:
        now = [(i.profile, i.start, i.compute_instances, i.workloads) for i in with_starts(gpu)]
        then = contents(after[gpu.id])
        if now != then:
            changed.add(gpu.id)
        for profile, start, cis, workloads in now:
            for other_profile, other_start, other_cis, others in then:
                if (profile, start, cis) == (other_profile, other_start, other_cis):
                    at_home |= dict.fromkeys(set(workloads) & set(others), (gpu.id, start))
    assert case.kept <= set(at_home)
    for steps in (plan.steps, plan.rollback):
        assert {step.gpu for step in steps} == changed
        assert {step.gpu for step in steps if step.action is Action.CHECK} == changed
        assert all((step.action is Action.CHECK) == (step.wave == 1) for step in steps)
        assert [step.wave for step in steps] == sorted(step.wave for step in steps)
        for step in steps:
            assert step.workload not in at_home
            assert (step.gpu, step.start) not in at_home.values()
        created = defaultdict(list)
        for step in steps:
            if step.action is Action.CREATE:
                sizes = {profile.name: profile.memory_slices for profile in case.boards[step.gpu].profiles}
                created[step.wave, step.gpu].append(-sizes[step.profile or ""])
        assert all(sizes == sorted(sizes) for sizes in created.values())


def check_flags(steps: tuple[Step, ...], places: dict[str, int]) -> None:
    """A stop says truly whether it is a downtime, and a start whether it ends one."""
    left = defaultdict(int)
    for step in steps:
        if step.action is Action.START:
            left[step.workload] += 1
    down = set()
    for step in steps:
        if step.action is Action.STOP:
            places[step.workload] -= 1
            is_down = places[step.workload] == 0 and left[step.workload] > 0
            assert step.is_downtime == is_down
            if is_down:
                down.add(step.workload)
        elif step.action is Action.START:
            left[step.workload] -= 1
            places[step.workload] = places.get(step.workload, 0) + 1
            assert step.is_downtime == (step.workload in down)
            down.discard(step.workload)
        else:
            assert not step.is_downtime


def shuffled(steps: tuple[Step, ...], rng: Random) -> list[Step]:
    """Within each wave the GPUs get ahead of each other at random; on one GPU the order stays."""
    done: list[Step] = []
    for wave in sorted({step.wave for step in steps}):
        queues: dict[str, list[Step]] = defaultdict(list)
        for step in steps:
            if step.wave == wave:
                queues[step.gpu].append(step)
        waiting = list(queues.values())
        while waiting:
            queue = rng.choice(waiting)
            done.append(queue.pop(0))
            waiting = [queue for queue in waiting if queue]
    return done


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_every_plan_ends_in_its_target_and_every_rollback_at_the_beginning(seed: int) -> None:
    planned(random_case(seed))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_larger_fleets_hold_the_same(seed: int) -> None:
    planned(random_case(seed, most_gpus=14, fill=0.95))


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_fleets_without_room_hold_the_same(seed: int) -> None:
    planned(tight_case(seed, most_gpus=8, most_profiles=4))


@settings(max_examples=60, deadline=None)
@given(SEEDS, SEEDS)
def test_the_gpus_of_a_wave_may_do_it_in_any_order(seed: int, order: int) -> None:
    case = random_case(seed, most_gpus=8) if order % 2 else tight_case(seed, most_gpus=6)
    plan = change_plan(case.problem, case.target)
    driver = Driver(case.problem, plan.steps, new_boards=case.boards)
    straight = replay(case.problem, plan.steps, new_boards=case.boards)
    beginning = driver.states()
    mixed = driver.run(shuffled(plan.steps, Random(order)))
    assert mixed.final == straight.final
    assert mixed.max_down == plan.max_down
    driver.run(shuffled(plan.rollback, Random(order)))
    assert driver.states() == beginning


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_no_order_has_fewer_down(seed: int) -> None:
    case = random_case(seed, most_gpus=3, most_movers=4, compute_instances=False, fill=0.95)
    plan = planned(case)
    assert plan.max_down == least_down(case)
    assert plan.max_down_is_proven


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_no_order_has_fewer_down_where_room_is_scarce(seed: int) -> None:
    case = tight_case(seed)
    plan = planned(case)
    if len(case.problem.running_ids() - case.kept) <= 5:
        assert plan.max_down == least_down(case)
    assert plan.max_down_is_proven or len(case.problem.running_ids() - case.kept) > 12


@settings(max_examples=60, deadline=None)
@given(SEEDS, SEEDS)
def test_the_order_of_the_input_changes_nothing(seed: int, order: int) -> None:
    case = random_case(seed)
    gpus = list(case.problem.gpus)
    Random(order).shuffle(gpus)
    again = change_plan(replace(case.problem, gpus=tuple(gpus)), case.target)
    assert again == change_plan(case.problem, case.target)


@settings(max_examples=60, deadline=None)
@given(SEEDS, SEEDS)
def test_a_check_that_fails_stops_the_plan_before_anything_changes(seed: int, where: int) -> None:
    case = random_case(seed, most_gpus=3)
    plan = change_plan(case.problem, case.target)
    present = {gpu.id for gpu in case.problem.gpus if gpu.instances}
    touched = sorted({step.gpu for step in plan.steps} & present)
    if not touched:
        return
    victim = touched[where % len(touched)]
    gpu = next(gpu for gpu in case.problem.gpus if gpu.id == victim)
    real = [(one.profile, one.start) for one in with_starts(gpu)][1:]  # somebody destroyed one meanwhile
    driver = Driver(case.problem, plan.steps, real_placements={victim: real}, new_boards=case.boards)
    beginning = driver.states()
    with pytest.raises(DriverRefusal, match=f"GPU {victim} .*refuses to check"):
        driver.run(plan.steps)
    assert driver.states() == beginning


def actions(steps: tuple[Step, ...]) -> list[tuple[int, str, str, str | None]]:
    return [(step.wave, step.gpu, str(step.action), step.workload or step.profile) for step in steps]


def test_a_move_into_free_room_starts_before_it_stops() -> None:
    case = case_of({"a": [running("3g.20gb", 0, "x")], "b": []}, {"a": [], "b": [wanted("3g.20gb", 4, "x")]})
    plan = planned(case)
    assert actions(plan.steps) == [
        (1, "a", "check", None),
        (1, "b", "check", None),
        (2, "b", "create", "3g.20gb"),
        (2, "b", "start", "x"),
        (3, "a", "stop", "x"),
        (3, "a", "destroy", "3g.20gb"),
    ]
    assert actions(plan.rollback) == [
        (1, "a", "check", None),
        (1, "b", "check", None),
        (2, "a", "create", "3g.20gb"),
        (2, "a", "start", "x"),
        (3, "b", "stop", "x"),
        (3, "b", "destroy", "3g.20gb"),
    ]
    assert (plan.max_down, plan.max_down_is_proven, plan.down) == (0, True, ())


def test_nothing_to_do_is_no_step() -> None:
    case = case_of({"a": [running("3g.20gb", 0, "x")]}, {"a": [wanted("3g.20gb", 0, "x")]})
    plan = planned(case)
    assert plan.steps == plan.rollback == ()
    assert plan.target is case.target


def test_a_free_instance_is_taken_as_it_is() -> None:
    case = case_of({"a": [running("1g.5gb", 0)]}, {"a": [wanted("1g.5gb", 0, "new")]})
    assert [step.action for step in planned(case).steps] == [Action.CHECK, Action.START]


def test_a_swap_between_two_full_gpus_takes_down_one_at_a_time() -> None:
    now = {"a": [running("7g.40gb", 0, "x")], "b": [running("4g.20gb", 0, "y"), running("3g.20gb", 4, "z")]}
    then = {"b": [wanted("7g.40gb", 0, "x")], "a": [wanted("4g.20gb", 0, "y"), wanted("3g.20gb", 4, "z")]}
    plan = planned(case_of(now, then))
    assert (plan.max_down, plan.max_down_is_proven, plan.down) == (1, True, ("x",))  # not y and z


def test_two_swaps_are_not_down_together() -> None:
    now = {name: [running("7g.40gb", 0, f"on-{name}")] for name in "abcd"}
    goes = {"a": "b", "b": "a", "c": "d", "d": "c"}
    plan = planned(case_of(now, {name: [wanted("7g.40gb", 0, f"on-{goes[name]}")] for name in "abcd"}))
    assert (plan.max_down, plan.max_down_is_proven, len(plan.down)) == (1, True, 2)


def test_workloads_of_a_group_are_exchanged_instead_of_taken_down() -> None:
    """Planned as a circle of three; as two of them are replicas, one of those stays and the circle is a line."""
    now = {"a": [running("4g.20gb", 0, "r1")], "b": [running("4g.20gb", 0, "r2")], "c": []}
    then = {"a": [wanted("4g.20gb", 0, "r2")], "b": [], "c": [wanted("4g.20gb", 0, "r1")]}
    case = case_of(now, then, groups={"r1": 0, "r2": 0})
    level = Level(name="moves", value=2, lower_bound=0, is_proven=False)
    case = replace(case, target=replace(case.target, moves=2, levels=(level,)))
    plan = planned(case)
    assert plan.down == ()
    assert {step.workload for step in plan.steps if step.workload} == {"r2"}
    assert plan.target.moves == plan.target.levels[0].value == 1


def test_a_group_gives_its_open_slot_to_whoever_opens_the_next() -> None:
    """`b` must not take the free slot on d: only if `a` does, its place opens for z, which lets b go last."""
    now = {
        "a": [running("3g.20gb", 0, "a")],
        "b": [running("3g.20gb", 0, "b")],
        "c": [running("4g.20gb", 0, "z")],
        "d": [],
    }
    then = {
        "a": [wanted("4g.20gb", 0, "z")],
        "b": [],
        "c": [wanted("3g.20gb", 0, "a")],
        "d": [wanted("3g.20gb", 0, "b")],
    }
    plan = planned(case_of(now, then, groups={"a": 0, "b": 0}))
    assert (plan.max_down, plan.down) == (0, ())
    assert [one.workloads for gpu in plan.target.gpus for one in gpu.instances] == [("z",), ("b",), ("a",)]


def test_an_instance_with_compute_instances_moves_as_one() -> None:
    cis = ("1c.3g.20gb", "2c.3g.20gb")
    now = {"a": [running("3g.20gb", 0, "x", "y", cis=cis)], "b": []}
    plan = planned(case_of(now, {"a": [], "b": [wanted("3g.20gb", 0, "x", "y", cis=cis)]}))
    assert plan.max_down == 0
    now = {"a": [running("3g.20gb", 0, "x", "y", cis=cis)]}
    plan = planned(case_of(now, {"a": [wanted("4g.20gb", 0), wanted("3g.20gb", 4, "x", "y", cis=cis)]}))
    assert plan.max_down == 0
    full = {"a": [running("3g.20gb", 0, "x", "y", cis=cis), running("3g.20gb", 4, "z")]}
    swapped = {"a": [wanted("3g.20gb", 0, "z"), wanted("3g.20gb", 4, "x", "y", cis=cis)]}
    plan = planned(case_of(full, swapped))
    assert (plan.max_down, plan.down, plan.max_down_is_proven) == (1, ("z",), True)


def test_an_isolated_tenant_never_meets_another_on_the_way() -> None:
    now = {"a": [running("3g.20gb", 0, "t1")], "b": [running("3g.20gb", 0, "t2")]}
    then = {"a": [wanted("3g.20gb", 4, "t2")], "b": [wanted("3g.20gb", 4, "t1")]}
    tenants = {"t1": "red", "t2": "blue"}
    assert planned(case_of(now, then, tenants=tenants)).max_down == 0
    apart = case_of(now, then, tenants=tenants, rules=Rules(isolated_tenants=frozenset({EVERY})))
    plan = planned(apart)
    assert plan.max_down == 1
    for steps in (plan.steps, plan.rollback):
        places = {"t1": {"a"}, "t2": {"b"}} if steps is plan.steps else {"t1": {"b"}, "t2": {"a"}}
        for step in steps:
            if step.workload and step.action is Action.START:
                places[step.workload].add(step.gpu)
            if step.workload and step.action is Action.STOP:
                places[step.workload].remove(step.gpu)
            assert places["t1"].isdisjoint(places["t2"])


@pytest.mark.parametrize(("board", "resets"), [(A100, True), (H100, False)])
def test_mig_mode_is_switched_on_where_the_first_instance_comes(board, resets: bool) -> None:
    profile = board.profiles[0].name
    plan = planned(case_of({"a": []}, {"a": [wanted(profile, 0, "new")]}, board=board, mig_enabled=False))
    assert [step.action for step in plan.steps] == [Action.CHECK, Action.ENABLE_MIG, Action.CREATE, Action.START]
    assert [step.action for step in plan.rollback] == [Action.CHECK, Action.STOP, Action.DESTROY, Action.DISABLE_MIG]
    assert plan.steps[1].resets_gpu is plan.rollback[3].resets_gpu is resets
    assert plan.steps[1].note == (
        "Resets the GPU; whatever else holds it, monitoring too, must let go of it first."
        if resets
        else "Resets nothing, and lasts until the node reboots or its driver is loaded anew."
    )


def test_mig_mode_that_is_not_known_is_switched_on_unless_it_is_on() -> None:
    plan = planned(case_of({"a": []}, {"a": [wanted("1g.5gb", 0)]}, mig_enabled=None))
    assert plan.steps[1].note is not None
    assert plan.steps[1].note.startswith("Unless it is on already. ")
    assert plan.rollback[-1].note is not None
    assert plan.rollback[-1].note.startswith("Unless it was on before. ")
    assert Action.ENABLE_MIG not in {
        step.action for step in planned(case_of({"a": []}, {"a": [wanted("1g.5gb", 0)]}, mig_enabled=True)).steps
    }


def test_assumed_starts_are_checked_and_said() -> None:
    case = case_of({"a": [running("3g.20gb", None, "x")], "b": []}, {"a": [], "b": [wanted("3g.20gb", 0, "x")]})
    case = replace(case, target=replace(case.target, assumed_gpus=frozenset({"a"})))
    plan = planned(case)
    check = plan.steps[0]
    assert check.expected == tuple((one.profile, one.start) for one in with_starts(case.problem.gpus[0]))
    assert check.note is not None
    assert "assumed" in check.note
    other = 4 - check.expected[0][1]
    with pytest.raises(DriverRefusal, match="should be there"):
        replay(case.problem, plan.steps, real_placements={"a": [("3g.20gb", other)]})


def impossible(case: Case, target: Target) -> str:
    with pytest.raises(ChangeImpossible) as error:
        change_plan(case.problem, target)
    return str(error.value)


def test_a_target_that_contradicts_what_runs_is_refused() -> None:
    case = case_of({"a": [running("3g.20gb", 0, "x")]}, {"a": [wanted("3g.20gb", 0, "x")]})
    gpu = case.target.gpus[0]
    assert "no place for x" in impossible(case, replace(case.target, gpus=(replace(gpu, instances=()),)))
    doubled = replace(gpu, instances=(wanted("3g.20gb", 0, "x"), wanted("3g.20gb", 4, "x")))
    assert "runs x twice" in impossible(case, replace(case.target, gpus=(doubled,)))
    overlapping = replace(gpu, instances=(wanted("3g.20gb", 0, "x"), wanted("4g.20gb", 0)))
    assert "overlaps" in impossible(case, replace(case.target, gpus=(overlapping,)))
    assert "says nothing of GPU a" in impossible(case, replace(case.target, gpus=()))
    assert "new" in impossible(case, replace(case.target, gpus=(replace(gpu, is_new=True),)))


def test_hundreds_of_moves_are_ordered_at_once() -> None:
    """Every third of 399 GPUs hands its work to the next, in a circle; beside it, two GPUs trade layouts."""
    count = 399
    names = [f"g{number}" for number in range(count)]
    now = {name: [running("4g.20gb", 0, f"on-{name}")] if i % 3 == 0 else [] for i, name in enumerate(names)}
    now |= {"g1": [running("7g.40gb", 0, "big")], "g2": [running("4g.20gb", 0, "y"), running("3g.20gb", 4, "z")]}
    then: dict[str, list[TargetInstance]] = {name: [] for name in names}
    for i in range(0, count, 3):
        then[names[(i + 3) % count]] = [wanted("4g.20gb", 0, f"on-{names[i]}")]
    then |= {"g2": [wanted("7g.40gb", 0, "big")], "g1": [wanted("4g.20gb", 0, "y"), wanted("3g.20gb", 4, "z")]}
    plan = planned(case_of(now, then))
    assert (plan.max_down, plan.max_down_is_proven, len(plan.down)) == (1, True, 2)


def test_a_limit_on_many_instances_is_kept_on_the_way() -> None:
    """The DGX Station GB300 refuses four 1g at once, wherever they lie."""
    board = board_under(load_catalog().board("GB300-278GB"), driver_version="610.10", product="DGX Station GB300")
    name = next(profile.name for profile in board.profiles if profile.kind == "1g")
    case = case_of(
        {"a": [running(name, start, f"w{start}") for start in (0, 1, 2)], "b": []},
        {"a": [wanted(name, start, f"w{start - 4}") for start in (4, 5, 6)], "b": []},
        board=board,
    )
    plan = planned(case)
    assert plan.max_down == 3
    assert not plan.max_down_is_proven

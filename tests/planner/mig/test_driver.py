"""The simulated driver refuses what a real one refuses, and counts what is down while a plan runs."""

from collections.abc import Callable

import pytest

from planner.catalog import load_catalog
from planner.errors import DriverRefusal
from planner.hardware import Board, LayoutExclusion
from planner.mig.driver import Driver, replay
from planner.mig.plan import Action, Step
from planner.mig.problem import Elastic, Problem, ProblemGpu, RunningInstance
from planner.mig.simulated_gpu import InstanceState, SimulatedGpu
from planner.mig_exceptions import board_under

A100 = load_catalog().board("A100-40GB")
H100 = load_catalog().board("H100-80GB-SXM")
RTX = load_catalog().board("RTX-PRO-6000-96GB")


def gpu(board: Board = A100, *created: tuple[str, int], mig_enabled: bool = True) -> SimulatedGpu:
    simulated = SimulatedGpu("g", "n", board, mig_enabled=mig_enabled)
    for profile, start in created:
        simulated.create_gpu_instance(profile, start)
        simulated.create_compute_instances(start)
    return simulated


def refused(action: Callable[[], None]) -> str:
    with pytest.raises(DriverRefusal) as error:
        action()
    assert str(error.value).startswith("GPU g of node n refuses to ")
    return str(error.value)


@pytest.mark.parametrize(
    ("there", "profile", "start", "why"),
    [
        ([], "9g.90gb", 0, "has no such profile"),
        ([], "3g.20gb", 2, "its starts on A100-40GB are 0, 4"),
        ([("2g.10gb", 2)], "3g.20gb", 0, "it overlaps 2g.10gb at 2:2"),
        ([("3g.20gb", 0), ("3g.20gb", 4)], "1g.5gb", 6, "it overlaps 3g.20gb at 4:4"),
        ([("1g.5gb+me", 0)], "1g.5gb+me", 1, "allows 1 of them"),
    ],
)
def test_an_instance_that_cannot_be_is_refused(there: list, profile: str, start: int, why: str) -> None:
    one = gpu(A100, *there)
    before = one.state()
    assert why in refused(lambda: one.create_gpu_instance(profile, start))
    assert one.state() == before


def test_nothing_is_created_while_mig_mode_is_off() -> None:
    assert "MIG mode is off" in refused(lambda: gpu(A100, mig_enabled=False).create_gpu_instance("7g.40gb", 0))


def test_media_engines_are_held_by_one() -> None:
    one = gpu(RTX, ("1g.24gb+me.all", 0))
    assert "media engines" in refused(lambda: one.create_gpu_instance("1g.24gb", 3))
    one.create_gpu_instance("1g.24gb-me", 3)
    one = gpu(RTX, ("1g.24gb-me", 0), ("1g.24gb+me", 3))
    assert "media engines" in refused(lambda: one.create_gpu_instance("1g.24gb+me.all", 6))
    a30 = load_catalog().board("A30")
    assert "media engines" in refused(lambda: gpu(a30, ("1g.6gb+me", 0)).create_gpu_instance("2g.12gb+me", 2))


def test_what_an_old_driver_refuses_is_refused() -> None:
    old = board_under(A100, driver_version="470.57")
    assert all(isinstance(one, LayoutExclusion) for one in old.exclusions)
    assert old.exclusions[0].reason in refused(lambda: gpu(old, ("4g.20gb", 0)).create_gpu_instance("3g.20gb", 4))
    gpu(A100, ("4g.20gb", 0), ("3g.20gb", 4))


def test_instances_are_destroyed_from_the_inside() -> None:
    one = gpu(A100, ("3g.20gb", 0))
    one.start_workload("x", "3g.20gb", 0)
    assert "x runs on it: In use by another client" in refused(lambda: one.destroy_compute_instance(0))
    assert "In use by another client" in refused(lambda: one.destroy_gpu_instance("3g.20gb", 0))
    one.stop_workload("x", "3g.20gb", 0)
    assert "it has compute instances" in refused(lambda: one.destroy_gpu_instance("3g.20gb", 0))
    one.destroy_compute_instance(0)
    assert "has none" in refused(lambda: one.destroy_compute_instance(0))
    assert "3g.20gb is there" in refused(lambda: one.destroy_gpu_instance("4g.20gb", 0))
    one.destroy_gpu_instance("3g.20gb", 0)
    assert "no GPU instance starts there" in refused(lambda: one.destroy_gpu_instance("3g.20gb", 0))


def test_compute_instances_share_the_slices_of_their_instance() -> None:
    one = gpu(A100)
    one.create_gpu_instance("3g.20gb", 4)
    assert "it has no compute instance" in refused(lambda: one.start_workload("x", "3g.20gb", 4))
    one.create_compute_instances(4, ("1c.3g.20gb", "1c.3g.20gb"))
    assert "has 1 free compute slices" in refused(lambda: one.create_compute_instances(4, ("2c.3g.20gb",)))
    assert "has 1 free compute slices" in refused(lambda: one.create_compute_instances(4))
    one.start_workload("x", "3g.20gb", 4)
    assert "already runs there" in refused(lambda: one.start_workload("x", "3g.20gb", 4))
    one.start_workload("y", "3g.20gb", 4)
    assert "x, y runs there" in refused(lambda: one.start_workload("z", "3g.20gb", 4))
    one.stop_workload("x", "3g.20gb", 4)
    assert "does not run there" in refused(lambda: one.stop_workload("x", "3g.20gb", 4))
    assert one.state().instances == (
        InstanceState(profile="3g.20gb", start=4, compute_instances=("1c.3g.20gb",) * 2, workloads=("y",)),
    )


def test_ampere_resets_for_a_change_of_mode() -> None:
    one = gpu(A100, ("3g.20gb", 0))
    one.enable_mig()
    assert one.state().instances, "it is on already: nothing happens"
    one.start_workload("x", "3g.20gb", 0)
    assert "x runs on it" in refused(one.disable_mig)
    one.stop_workload("x", "3g.20gb", 0)
    one.disable_mig()
    one.disable_mig()
    assert (one.mig_enabled, one.state().instances) == (False, ())
    held = SimulatedGpu("g", "n", A100, mig_enabled=False, is_occupied_whole=True)
    assert "something holds the whole GPU" in refused(held.enable_mig)


def test_hopper_keeps_its_mode_while_instances_exist() -> None:
    one = gpu(H100, ("7g.80gb", 0))
    assert "GPU instances exist" in refused(one.disable_mig)
    one.destroy_compute_instance(0)
    one.destroy_gpu_instance("7g.80gb", 0)
    one.disable_mig()
    assert not one.mig_enabled


def test_a_board_without_mig_has_no_mode_to_enable() -> None:
    board = Board(
        name="L4",
        architecture="Ada",
        product_names=(),
        memory_total_bytes=None,
        sm_count=None,
        compute_slices=0,
        placement_grid=0,
        mig_enable_resets_gpu=None,
        profiles=(),
        verification="",
        sources=(),
    )
    assert "L4 has none" in refused(gpu(board, mig_enabled=False).enable_mig)


def test_a_check_compares_what_is_there() -> None:
    one = gpu(A100, ("3g.20gb", 4), ("2g.10gb", 0))
    one.check([("3g.20gb", 4), ("2g.10gb", 0)])
    assert "2g.10gb at 2, 3g.20gb at 4 should be there, but 2g.10gb at 0, 3g.20gb at 4 is" in refused(
        lambda: one.check([("3g.20gb", 4), ("2g.10gb", 2)])
    )
    assert "nothing should be there" in refused(lambda: one.check([]))


def step(wave: int, name: str, action: Action, profile: str | None = None, at: int | None = None, **more) -> Step:
    return Step(wave=wave, node=f"n-{name}", gpu=name, action=action, profile=profile, start=at, **more)


def fleet(**instances: list[RunningInstance]) -> Problem:
    return Problem(
        gpus=tuple(
            ProblemGpu(id=name, node=f"n-{name}", board=A100, instances=tuple(there), mig_enabled=True)
            for name, there in instances.items()
        ),
        elastic=Elastic(boards=(H100, A100)),
    )


def on(profile: str, start: int | None, *workloads: str) -> RunningInstance:
    return RunningInstance(profile=profile, start=start, workloads=workloads)


def test_a_hand_over_runs_twice_and_is_never_down() -> None:
    done = replay(
        fleet(a=[on("3g.20gb", 0, "x")], b=[on("3g.20gb", 4)]),
        [
            step(1, "b", Action.START, "3g.20gb", 4, workload="x"),
            step(2, "a", Action.STOP, "3g.20gb", 0, workload="x"),
            step(2, "a", Action.DESTROY, "3g.20gb", 0),
        ],
    )
    assert [wave.number for wave in done.waves] == [1, 2]
    assert [[one.id for one in wave.changed] for wave in done.waves] == [["b"], ["a"]]
    assert (done.max_down, done.interrupted, done.ended) == (0, (), ())
    assert done.places == {"x": (("b", "3g.20gb", 4),)}
    assert done.final["a"].instances == ()


def test_down_is_counted_as_if_the_gpus_of_a_wave_went_in_the_worst_order() -> None:
    problem = fleet(a=[on("3g.20gb", 0, "x"), on("3g.20gb", 4)], b=[on("3g.20gb", 0, "y"), on("3g.20gb", 4)])
    within = [
        step(1, name, action, "3g.20gb", start, workload=workload)
        for name, workload in (("a", "x"), ("b", "y"))
        for action, start in ((Action.STOP, 0), (Action.START, 4))
    ]
    done = replay(problem, within)
    assert (done.max_down, done.waves[0].down, done.interrupted) == (2, (), ("x", "y"))
    one_by_one = [*within[:2], *(step(2, "b", s.action, s.profile, s.start, workload="y") for s in within[2:])]
    assert replay(problem, one_by_one).max_down == 1


def test_what_ends_for_good_is_not_down_but_named() -> None:
    done = replay(fleet(a=[on("3g.20gb", 0, "x")]), [step(1, "a", Action.STOP, "3g.20gb", 0, workload="x")])
    assert (done.max_down, done.ended) == (0, ("x",))


def test_a_wave_must_not_rely_on_the_order_of_its_gpus() -> None:
    with pytest.raises(DriverRefusal, match="which comes first is left open"):
        replay(
            fleet(a=[on("3g.20gb", 0, "x")], b=[on("3g.20gb", 4)]),
            [
                step(1, "b", Action.START, "3g.20gb", 4, workload="x"),
                step(1, "a", Action.STOP, "3g.20gb", 0, workload="x"),
            ],
        )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (step(1, "c", Action.CHECK), "There is no GPU c"),
        (Step(wave=1, node="elsewhere", gpu="a", action=Action.CHECK), "There is no GPU a in node elsewhere"),
        (step(1, "a", Action.CREATE), "names no instance"),
        (step(1, "a", Action.START, "3g.20gb", 0), "names no workload"),
        (step(1, "a", Action.STOP, "3g.20gb", 4, workload="x"), "does not run there"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(wrong: Step, why: str) -> None:
    problem = Problem(gpus=fleet(a=[on("3g.20gb", 0, "x"), on("3g.20gb", 4)]).gpus)
    driver = Driver(problem, [wrong])
    before = driver.states()
    with pytest.raises(DriverRefusal, match=why):
        driver.run([wrong])
    assert driver.states() == before


def test_nothing_runs_three_times() -> None:
    problem = fleet(a=[on("3g.20gb", 0, "x"), on("3g.20gb", 4)], b=[on("3g.20gb", 0)])
    with pytest.raises(DriverRefusal, match="runs on a and a already"):
        replay(
            problem,
            [
                step(1, "a", Action.START, "3g.20gb", 4, workload="x"),
                step(2, "b", Action.START, "3g.20gb", 0, workload="x"),
            ],
        )


def test_elastic_gpus_come_with_their_first_step() -> None:
    steps = [
        step(1, "new", Action.CHECK),
        step(2, "new", Action.ENABLE_MIG),
        step(2, "new", Action.CREATE, "3g.20gb", 4),
        step(2, "new", Action.START, "3g.20gb", 4, workload="x"),
    ]
    assert replay(fleet(), steps).final["new"].board == A100.name
    wrong = [step(1, "new", Action.ENABLE_MIG), step(1, "new", Action.CREATE, "1g.10gb", 0)]
    assert replay(fleet(), wrong).final["new"].board == H100.name  # the first that has the profile
    assert replay(fleet(), wrong, new_boards={"new": A100}).final["new"].board == A100.name


def test_reality_may_differ_from_what_was_assumed() -> None:
    problem = fleet(a=[on("3g.20gb", None, "x")])
    assumed = replay(problem, []).places["x"][0]
    other = 4 - assumed[2]
    assert replay(problem, [], real_placements={"a": [("3g.20gb", other)]}).places["x"] == (("a", "3g.20gb", other),)
    check = [step(1, "a", Action.CHECK, expected=(("3g.20gb", assumed[2]),))]
    replay(problem, check)
    with pytest.raises(DriverRefusal, match="Wave 1: GPU a of node n-a refuses to check the instances"):
        replay(problem, check, real_placements={"a": [("3g.20gb", other)]})
    with pytest.raises(DriverRefusal, match="nothing is"):
        replay(problem, check, real_placements={"a": []})

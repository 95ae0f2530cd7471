"""The funnel and the lists add up, count instances by compute slices, and leave out what is not measured."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalog import Catalog, load_catalog
from planner.efficiency import busiest, funnel, most_wasteful, state_counts
from planner.fleet import DeviceState, Fleet
from planner.units import GIB


@pytest.fixture
def mixed(build: SimpleNamespace, catalog: Catalog) -> Fleet:
    """One GPU serving, one loaded without traffic, one held, one free, one unknown, one cut in 3g, 1g and a rest."""
    a100 = catalog.board("A100-40GB")
    cut = (
        build.instance(1, "3g.20gb", build.serving(9, sm=0.5), pods=(build.pod("small"),)),
        build.instance(2, "1g.5gb", build.idle(0)),
    )
    found: Fleet = build.fleet(
        build.gpu(a100, 0, build.serving(30, sm=0.4), pods=(build.pod("busy"),)),
        build.gpu(a100, 1, build.idle(30), pods=(build.pod("lazy"),)),
        build.gpu(a100, 2, build.idle(0), pods=(build.pod("notebook"),)),
        build.gpu(a100, 3, build.idle(0)),
        build.gpu(a100, 4, None, pods=(build.pod("dark"),)),
        build.gpu(a100, 5, instances=cut),
    )
    return found


def test_the_funnel_counts_gpus_and_compute_slices(mixed: Fleet) -> None:
    found = funnel(mixed)
    assert found.total_gpus == 6
    assert found.allocated_gpus == pytest.approx(4 + 3 / 7)  # the unknown one has a pod
    assert found.active_gpus == pytest.approx(1 + 3 / 7)
    assert found.effective_gpus == pytest.approx(0.4 + 3 / 7 * 0.5)
    assert found.effective_unmeasured_gpus == pytest.approx(0)
    assert found.unknown_gpus == 1
    assert found.uncut_gpus == pytest.approx(3 / 7)


def test_effective_is_absent_and_not_zero_where_sm_activity_is_not_reported(
    build: SimpleNamespace, catalog: Catalog
) -> None:
    seen = build.usage(memory_used_bytes=GIB, gpu_busy_ratio=0.7)
    found = funnel(build.fleet(build.gpu(catalog.board("L40S"), 0, seen)))
    assert found.effective_gpus is None
    assert (found.active_gpus, found.effective_unmeasured_gpus) == (1, 1)


def test_active_is_absent_and_not_zero_where_no_device_can_be_judged(build: SimpleNamespace, catalog: Catalog) -> None:
    board = catalog.board("A100-40GB")
    dark = build.gpu(board, 0, None, pods=(build.pod("dark"),))
    found = funnel(build.fleet(dark))
    assert (found.total_gpus, found.allocated_gpus, found.unknown_gpus) == (1, 1, 1)
    assert (found.active_gpus, found.effective_gpus) == (None, None)
    assert funnel(build.fleet(dark, build.gpu(board, 1, build.idle(0)))).active_gpus == 0


def test_all_five_states_are_counted(mixed: Fleet) -> None:
    counts = {count.state: (count.devices, round(count.gpus, 3)) for count in state_counts(mixed)}
    assert counts == {
        DeviceState.SERVING: (2, 1.429),
        DeviceState.LOADED_IDLE: (1, 1),
        DeviceState.HELD: (1, 1),
        DeviceState.FREE: (2, 1.143),
        DeviceState.UNKNOWN: (1, 1),
    }


def test_the_busiest_come_first_with_pod_and_metric(mixed: Fleet) -> None:
    found = busiest(mixed, 5)
    assert [(one.name, one.profile, one.pods[0].name) for one in found] == [
        ("node-1/5 3g.20gb#1", "3g.20gb", "small"),
        ("node-1/0", None, "busy"),
    ]
    assert {one.metric for one in found} == {"sm_active_ratio"}
    assert len(busiest(mixed, 1)) == 1


def test_the_most_wasteful_hold_most_and_do_least(mixed: Fleet) -> None:
    found = most_wasteful(mixed, 9)
    assert [(one.pods[0].name, round(one.idle_gpus, 2), one.state) for one in found] == [
        ("lazy", 1.0, DeviceState.LOADED_IDLE),
        ("notebook", 1.0, DeviceState.HELD),
        ("busy", 0.4, DeviceState.SERVING),  # its engine was active 60 % of the time
        ("small", 0.11, DeviceState.SERVING),
    ]
    assert found[0].idle_gpu_s == pytest.approx(3600)
    assert "no process holds memory" in found[1].reason
    assert found[2].reason == "Worked 60.0% of the last 60 minutes."
    assert [one.name for one in most_wasteful(mixed, 2)] == ["node-1/1", "node-1/2"]


def test_only_measured_time_counts_as_waste(build: SimpleNamespace, catalog: Catalog) -> None:
    half = build.usage(0.5, memory_used_bytes=30 * GIB, gr_engine_active_ratio=0.0)
    fleet = build.fleet(build.gpu(catalog.board("A100-40GB"), 0, half, pods=(build.pod("lazy"),)))
    assert most_wasteful(fleet, 1)[0].idle_gpu_s == pytest.approx(1800)


def test_instances_of_an_unknown_profile_share_what_the_others_leave(build: SimpleNamespace, catalog: Catalog) -> None:
    cut = (
        build.instance(1, "3g.20gb", build.serving(9)),
        build.instance(2, "odd", build.serving(9)),
        build.instance(3, "odder", build.serving(9)),
    )
    found = funnel(build.fleet(build.gpu(catalog.board("A100-40GB"), 0, instances=cut)))
    assert (found.active_gpus, found.uncut_gpus) == (pytest.approx(1), pytest.approx(0))
    unknown_board = funnel(build.fleet(build.gpu(None, 0, instances=cut)))
    assert unknown_board.active_gpus == pytest.approx(1)


def test_an_empty_fleet_is_all_zero_and_its_effect_unknown(build: SimpleNamespace) -> None:
    found = funnel(Fleet(taken_at=build.NOW))
    assert (found.total_gpus, found.allocated_gpus, found.active_gpus, found.effective_gpus) == (0, 0, 0, None)
    assert busiest(Fleet(taken_at=build.NOW), 3) == most_wasteful(Fleet(taken_at=build.NOW), 3) == ()
    assert [count.devices for count in state_counts(Fleet(taken_at=build.NOW))] == [0] * 5


@settings(deadline=None, max_examples=50)
@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(["serving", "idle", "empty", "none"]), st.booleans(), st.floats(0.02, 1)), max_size=6
    )
)
def test_every_step_of_the_funnel_is_at_most_the_one_before(
    build: SimpleNamespace, kinds: list[tuple[str, bool, float]]
) -> None:
    board = load_catalog().board("A100-40GB")
    usages = {
        "serving": lambda r: build.serving(9, sm=r),
        "idle": lambda _: build.idle(9),
        "empty": lambda _: build.idle(0),
    }
    gpus = [
        build.gpu(board, n, usages[kind](ratio) if kind in usages else None, pods=(build.pod("p"),) if has_pod else ())
        for n, (kind, has_pod, ratio) in enumerate(kinds)
    ]
    fleet = build.fleet(*gpus)
    found = funnel(fleet)
    assert found.total_gpus >= found.allocated_gpus >= (found.active_gpus or 0) >= (found.effective_gpus or 0) >= 0
    assert sum(count.gpus for count in state_counts(fleet)) + found.uncut_gpus == pytest.approx(found.total_gpus)

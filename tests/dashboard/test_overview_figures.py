from datetime import timedelta

import pytest

from dashboard.overview_figures import Freshness, data_age, funnel_notes, funnel_steps, overview
from planner.efficiency import Funnel
from planner.fleet import DeviceState, Fleet
from tests.dashboard.fleets import NOW, SEEN, fleet, gpu, instance

FRESH = Freshness(last_observed_at=SEEN, is_stale=False, reason="", targets_ok=1, targets_total=1)


def test_what_cannot_be_known_is_absent_in_the_funnel_and_not_zero() -> None:
    funnel = Funnel(
        total_gpus=4.0,
        allocated_gpus=2.0,
        active_gpus=2.0,
        effective_gpus=None,
        effective_unmeasured_gpus=2.0,
        unknown_gpus=1.0,
        uncut_gpus=0.0,
    )
    effective = funnel_steps(funnel)[-1]
    assert (effective.gpus, effective.share) == (None, None)
    assert effective.absent_because
    assert len(funnel_notes(funnel)) == 2


@pytest.mark.parametrize(
    ("states", "active", "said"),
    [
        ((DeviceState.FREE, DeviceState.FREE), 0.0, "Nothing that is held stood idle in the last 60 min."),
        ((DeviceState.FREE, DeviceState.UNKNOWN), 0.0, "as far as can be judged; unknown: 1 of 2 GPUs."),
        ((DeviceState.UNKNOWN, DeviceState.UNKNOWN), None, "nothing can be said of waste."),
    ],
)
def test_an_all_clear_is_given_only_for_what_could_be_judged(
    states: tuple[DeviceState, ...], active: float | None, said: str
) -> None:
    gpus = [gpu(number, state=state) for number, state in enumerate(states)]
    shown = overview(fleet(*gpus), (), FRESH, timedelta(hours=1))
    assert shown.wasteful == ()
    assert shown.funnel_steps[2].gpus == active
    assert shown.nothing_wasteful.endswith(said)


def test_states_and_what_no_instance_covers_add_up_to_the_total() -> None:
    cut = gpu(0, instances=(instance(1, "3g.20gb"), instance(9, "1g.5gb", state=DeviceState.FREE)))
    shown = overview(fleet(cut, gpu(1)), (), FRESH, timedelta(hours=1))
    assert shown.uncut_gpus == pytest.approx(3 / 7)
    assert sum(count.gpus for count in shown.states) + shown.uncut_gpus == pytest.approx(2.0)


def test_a_fleet_cut_completely_leaves_nothing_over() -> None:
    cut = gpu(0, instances=tuple(instance(number, "1g.5gb") for number in range(7, 14)))
    assert overview(fleet(cut), (), FRESH, timedelta(hours=1)).uncut_gpus == 0.0


def test_an_empty_fleet_has_steps_without_shares() -> None:
    shown = overview(Fleet(taken_at=NOW), (), FRESH, timedelta(hours=1))
    assert not shown.has_gpus
    assert {step.share for step in shown.funnel_steps} == {None}
    assert shown.data_age is None


def test_data_age_spans_the_newest_readings_of_the_devices() -> None:
    old = NOW - timedelta(minutes=9)
    age = data_age(fleet(gpu(0), gpu(1, at=old)))
    assert age is not None
    assert (age.newest, age.oldest) == (SEEN, old)

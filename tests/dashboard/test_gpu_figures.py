from datetime import timedelta

import pytest

from dashboard.gpu_figures import NOT_REPORTED, gpu_activity, gpu_detail, gpu_rows
from dashboard.gpu_table import choices, gpu_frame, matching
from planner.fleet import DeviceState
from planner.units import GIB
from tests.dashboard.fleets import NOW, SEEN, fleet, gpu, instance, pod


def test_activity_of_a_cut_gpu_counts_instances_by_compute_slices_and_uncut_slices_as_not_working() -> None:
    cut = gpu(
        0,
        instances=(
            instance(1, "3g.20gb", values={"gr_engine_active_ratio": 1.0}),
            instance(9, "1g.5gb", values={"gr_engine_active_ratio": 0.5}),
        ),
    )
    found = gpu_activity(cut)
    assert found is not None
    assert found.ratio == pytest.approx((3 * 1.0 + 1 * 0.5) / 7)
    assert found.metric == "gr_engine_active_ratio"


@pytest.mark.parametrize("other", [{}, {"sm_active_ratio": 0.5}])
def test_activity_of_a_cut_gpu_is_absent_when_an_instance_is_unmeasured_or_measured_otherwise(
    other: dict[str, float],
) -> None:
    cut = gpu(
        0,
        instances=(
            instance(1, "3g.20gb", values={"gr_engine_active_ratio": 1.0}),
            instance(9, "1g.5gb", values=other),
        ),
    )
    assert gpu_activity(cut) is None


def test_the_most_telling_activity_metric_wins() -> None:
    found = gpu_activity(gpu(0, values={"gpu_busy_ratio": 0.9, "gr_engine_active_ratio": 0.8, "sm_active_ratio": 0.2}))
    assert found is not None
    assert (found.metric, found.ratio) == ("sm_active_ratio", 0.2)


def test_memory_of_a_cut_gpu_is_the_sum_of_its_instances_or_absent() -> None:
    both = gpu(0, instances=(instance(1, "3g.20gb"), instance(9, "1g.5gb")))
    one = gpu(1, instances=(instance(1, "3g.20gb"), instance(9, "1g.5gb", values={})))
    assert [row.memory_used_bytes for row in gpu_rows(fleet(both, one))] == [8 * GIB, None]


def test_an_xid_on_an_instance_shows_on_its_gpu_and_none_is_not_zero() -> None:
    hit = gpu(
        0, instances=(instance(1, "3g.20gb", values={"xid_code": 0}), instance(9, "1g.5gb", values={"xid_code": 31}))
    )
    rows = gpu_rows(fleet(hit, gpu(1, values={"xid_code": 0}), gpu(2, values={})))
    assert [row.xid_code for row in rows] == [31, 0, None]


def test_a_value_that_is_too_old_to_be_current_is_marked() -> None:
    old = gpu(0, values={"power_watts": 100.0}, at=NOW - timedelta(minutes=6))
    detail = gpu_detail(fleet(old), old.uuid)
    assert detail is not None
    assert [value.is_old for value in detail.devices[0].values] == [True]


def test_an_absent_value_carries_the_reason_its_source_gave() -> None:
    known = gpu(0, values={"power_watts": 100.0})
    detail = gpu_detail(fleet(known), known.uuid, [(known.uuid, "gpu_busy_ratio", "absent under MIG")])
    assert detail is not None
    absent = dict(detail.devices[0].absent)
    assert absent["gpu_busy_ratio"] == "absent under MIG"
    assert absent["sm_active_ratio"] == NOT_REPORTED
    assert "power_watts" not in absent
    assert detail.devices[0].absent_by_reason[0] == ("absent under MIG", ("gpu_busy_ratio",))
    assert detail.devices[0].absent_by_reason[-1][0] == NOT_REPORTED


def test_a_reason_told_of_the_exporters_counts_for_its_devices_unless_exporters_disagree() -> None:
    known = gpu(0, values={"power_watts": 100.0})
    gaps = [
        ("a:9400", "gpu_busy_ratio", "not available under MIG (7 devices)"),
        ("b:9400", "gpu_busy_ratio", "not available under MIG (8 devices)"),
        ("a:9400", "sm_active_ratio", "not in the counter list"),
        ("b:9400", "sm_active_ratio", "another profiler runs"),
    ]
    detail = gpu_detail(fleet(known), known.uuid, gaps)
    assert detail is not None
    absent = dict(detail.devices[0].absent)
    assert absent["gpu_busy_ratio"] == "not available under MIG"
    assert absent["sm_active_ratio"] == NOT_REPORTED


def test_filters_combine_and_offer_what_there_is() -> None:
    rows = gpu_rows(
        fleet(
            gpu(0),
            gpu(1, state=DeviceState.HELD),
            gpu(2, node="node-b", board="L40S", state=DeviceState.HELD),
        )
    )
    assert choices(rows)["board"] == ["A100-40GB", "L40S"]
    assert [row.index for row in matching(rows, {"state": ["held"], "node": ["node-a"]})] == [1]
    assert len(matching(rows, {"state": [], "node": []})) == 3


def test_the_table_shows_people_units_and_leaves_absent_empty() -> None:
    rows = gpu_rows(fleet(gpu(0, pods=(pod("llama"),)), gpu(1, values={})))
    frame = gpu_frame(rows, NOW)
    assert list(frame["Memory GiB"].fillna(-1)) == [30, -1]
    assert list(frame["Activity"].fillna(-1)) == [40, -1]
    assert list(frame["Age s"].fillna(-1)) == [(NOW - SEEN).total_seconds(), -1]
    assert frame["State"].iloc[0] == "● serving"
    assert frame["Pods"].iloc[0] == "llm/llama"
    assert "Cluster" not in frame

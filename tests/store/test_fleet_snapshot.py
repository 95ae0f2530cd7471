"""From rows to the fleet: what is known, how old it is, and what it means."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from planner.fleet import DeviceState, Fleet, Gpu
from planner.hardware import MigMode
from planner.units import GIB
from store.fleet_snapshot import take_snapshot
from store.writes import register_source
from tests.store.batches import NOW, after, batch, fact, gpu_uuid, pod, readings, write

QUIET = {"sm_active_ratio": 0.0, "gr_engine_active_ratio": 0.0, "memory_used_bytes": 10 * 2**20}
BUSY = {"sm_active_ratio": 0.6, "gr_engine_active_ratio": 0.7, "memory_used_bytes": 60.0 * GIB}
LOADED = {"sm_active_ratio": 0.0, "gr_engine_active_ratio": 0.0, "memory_used_bytes": 60.0 * GIB}


def only_gpu(fleet: Fleet) -> Gpu:
    [gpu] = fleet.gpus()
    return gpu


def tell_hour(
    engine: Engine, source_id: int, values: Mapping[str, float], number: int = 0, gi_id: int | None = None
) -> None:
    """An hour of the same values up to NOW, every minute."""
    told = [one for minute in range(60) for one in readings(after(-60 * minute), values, number, gi_id)]
    write(engine, source_id, batch(readings=told), target=f"hour-{number}-{gi_id}")


def test_an_empty_store_is_a_fleet_without_nodes(engine: Engine) -> None:
    assert take_snapshot(engine, NOW) == Fleet(taken_at=NOW)
    assert take_snapshot(engine, NOW, cluster="nowhere") == Fleet(taken_at=NOW)


def test_a_gpu_is_told_with_all_that_is_known(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(after(-3600), index=2, driver_version="580.1", mig_mode=MigMode.DISABLED)))
    told = batch(fact(NOW, index=2, pods=[pod("a-0", uid="u")]), readings=readings(NOW, {"power_watts": 300.0}))
    write(engine, source_id, told)
    fleet = take_snapshot(engine, after(10))
    [node] = fleet.nodes
    gpu = only_gpu(fleet)
    assert (node.name, node.cluster, fleet.taken_at) == ("node-a", "default", after(10))
    assert (gpu.uuid, gpu.index, gpu.node, gpu.driver_version) == (gpu_uuid(), 2, "node-a", "580.1")
    assert gpu.mig_mode is MigMode.DISABLED
    assert gpu.board is not None
    assert gpu.board.name.startswith("H100")
    assert [(one.namespace, one.name, one.container, one.uid) for one in gpu.pods] == [
        ("inference", "a-0", "vllm", "u")
    ]
    assert (gpu.first_seen, gpu.last_seen) == (after(-3600), NOW)
    assert {name: (one.value, one.observed_at) for name, one in gpu.metrics.items()} == {"power_watts": (300.0, NOW)}


def test_a_model_that_no_catalogue_knows_keeps_its_own_name(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, model_name="Banana 9000")))
    gpu = only_gpu(take_snapshot(engine, NOW))
    assert (gpu.board, gpu.board_label) == (None, "Banana 9000")


def test_each_metric_is_the_newest_there_is_with_its_own_time(engine: Engine, source_id: int) -> None:
    told = (
        *readings(after(-600), {"power_watts": 1.0, "temperature_celsius": 50.0, "xid_code": 79.0}),
        *readings(after(-60), {"power_watts": 2.0, "energy_joules": 5.0}),
        *readings(after(-30), {"power_watts": 3.0}),
    )
    write(engine, source_id, batch(fact(NOW), readings=told))
    metrics = only_gpu(take_snapshot(engine, NOW)).metrics
    assert {name: (one.value, one.observed_at) for name, one in metrics.items()} == {
        "power_watts": (3.0, after(-30)),
        "temperature_celsius": (50.0, after(-600)),
        "xid_code": (79.0, after(-600)),
        "energy_joules": (5.0, after(-60)),
    }


def test_a_device_that_went_silent_shows_its_last_values_with_their_age(engine: Engine, source_id: int) -> None:
    told = (
        *readings(after(-2700), {"power_watts": 1.0, "pcie_replays": 4.0}),
        *readings(after(-2400), {"power_watts": 2.0}),
        *readings(after(-4000), {"sm_clock_hertz": 1e9}),  # before the window
    )
    write(engine, source_id, batch(fact(after(-2400)), readings=told))
    write(engine, source_id, batch(fact(NOW, 1), readings=readings(NOW, {"pcie_replays": 1.0}, 1)))
    silent, live = take_snapshot(engine, NOW).gpus()
    assert {name: one.observed_at for name, one in silent.metrics.items()} == {
        "power_watts": after(-2400),
        "pcie_replays": after(-2700),
    }
    assert {name: one.value for name, one in live.metrics.items()} == {"pcie_replays": 1.0}
    assert silent.verdict.state is DeviceState.UNKNOWN


def test_values_from_the_future_of_the_moment_are_not_in_it(engine: Engine, source_id: int) -> None:
    told = (*readings(NOW, {"power_watts": 1.0}), *readings(after(60), {"power_watts": 2.0}))
    write(engine, source_id, batch(fact(NOW), fact(after(60), pods=[pod("later")]), readings=told))
    gpu = only_gpu(take_snapshot(engine, after(30)))
    assert (gpu.metrics["power_watts"].value, gpu.pods) == (1.0, ())


def test_usage_holds_quantiles_of_the_window(engine: Engine, source_id: int) -> None:
    told = [
        one
        for step in range(101)
        for one in readings(after(-30 * step), {"sm_active_ratio": step / 100, "pcie_replays": 1})
    ]
    told += readings(after(-7200), {"sm_active_ratio": 1.0})
    write(engine, source_id, batch(fact(NOW), readings=told))
    usage = only_gpu(take_snapshot(engine, NOW)).usage
    assert usage is not None
    assert (usage.start, usage.end) == (after(-3600), NOW)
    seen = usage.metrics["sm_active_ratio"]
    assert seen.samples == 101
    assert [seen.mean, seen.p50, seen.p95, seen.maximum, seen.minimum] == pytest.approx([0.5, 0.5, 0.95, 1.0, 0.0])
    assert "pcie_replays" not in usage.metrics
    assert "gpu_busy_ratio" not in usage.metrics


@pytest.mark.parametrize(
    ("minutes", "ratio"),
    [([0], 1 / 12), ([0, 1, 4], 1 / 12), ([0, 5], 2 / 12), (list(range(60)), 1.0), (list(range(30)), 0.5)],
)
def test_coverage_is_the_share_of_five_minute_stretches_with_a_sample(
    engine: Engine, source_id: int, minutes: list[int], ratio: float
) -> None:
    told = [one for minute in minutes for one in readings(after(-60 * minute), {"power_watts": 1.0})]
    write(engine, source_id, batch(fact(NOW), readings=told))
    usage = only_gpu(take_snapshot(engine, NOW)).usage
    assert usage is not None
    assert usage.coverage_ratio == pytest.approx(ratio)


def test_a_window_that_is_no_multiple_of_five_minutes_can_be_covered(engine: Engine, source_id: int) -> None:
    told = [one for minute in range(13) for one in readings(after(-60 * minute), {"power_watts": 1.0})]
    write(engine, source_id, batch(fact(NOW), readings=told))
    usage = only_gpu(take_snapshot(engine, NOW, window=timedelta(minutes=12))).usage
    assert usage is not None
    assert usage.coverage_ratio == 1.0


def test_a_device_without_samples_has_no_usage(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW)))
    gpu = only_gpu(take_snapshot(engine, NOW))
    assert (gpu.usage, dict(gpu.metrics), gpu.verdict.state) == (None, {}, DeviceState.UNKNOWN)


@pytest.mark.parametrize(
    ("values", "pods", "state"),
    [
        (BUSY, ["a"], DeviceState.SERVING),
        (LOADED, ["a"], DeviceState.LOADED_IDLE),
        (QUIET, ["a"], DeviceState.HELD),
        (QUIET, [], DeviceState.FREE),
    ],
)
def test_devices_are_judged_by_what_they_measured(
    engine: Engine, source_id: int, values: Mapping[str, float], pods: list[str], state: DeviceState
) -> None:
    tell_hour(engine, source_id, values)
    told = batch(fact(NOW, pods=[pod(name) for name in pods]), fact(NOW, 1, node="node-b", pods=[pod("other")]))
    write(engine, source_id, told)
    gpu = next(take_snapshot(engine, NOW).gpus())
    assert gpu.verdict.state is state, gpu.verdict.reason


def test_without_pods_from_any_source_quiet_does_not_mean_free(engine: Engine, source_id: int) -> None:
    other = register_source(engine, cluster="other", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
    tell_hour(engine, source_id, QUIET)
    write(engine, source_id, batch(fact(NOW)))
    write(engine, other, batch(fact(NOW, 5, pods=[pod("a")])))  # pods of another cluster say nothing here
    alone = only_gpu(take_snapshot(engine, NOW, cluster="default"))
    write(engine, source_id, batch(fact(after(-60), 1, pods=[pod("a")]), fact(NOW, 1)))  # one that is gone by now
    with_pods = next(take_snapshot(engine, NOW, cluster="default").gpus())
    assert alone.verdict != with_pods.verdict


def test_a_cut_gpu_has_instances_and_no_values_of_its_own_memory(engine: Engine, source_id: int) -> None:
    tell_hour(engine, source_id, BUSY | {"gpu_busy_ratio": 0.5, "power_watts": 300.0, "xid_code": 31.0})
    tell_hour(engine, source_id, {"gr_engine_active_ratio": 0.5, "memory_used_bytes": 5.0 * GIB}, gi_id=1)
    tell_hour(engine, source_id, {"gr_engine_active_ratio": 0.0, "memory_used_bytes": 1.0}, gi_id=2)
    cut = fact(NOW, mig_mode=MigMode.ENABLED, instances=[(2, "1g.10gb"), (1, "3g.40gb")], pods=[pod("a", 1)])
    write(engine, source_id, batch(cut))
    gpu = only_gpu(take_snapshot(engine, NOW))
    assert set(gpu.metrics) == {"power_watts", "xid_code"}
    assert gpu.usage is not None
    assert set(gpu.usage.metrics) == {"power_watts"}
    assert gpu.memory_total_bytes == (gpu.board.memory_total_bytes if gpu.board else None)
    first, second = gpu.instances
    assert (first.gi_id, first.profile, first.start, first.verdict.state) == (1, "3g.40gb", None, DeviceState.SERVING)
    assert (second.gi_id, second.verdict.state) == (2, DeviceState.FREE)
    assert [one.name for one in first.pods] == ["a"]
    assert gpu.pods == second.pods == ()
    assert gpu.verdict.state is DeviceState.SERVING


def test_instances_are_ordered_by_where_they_lie(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, instances=[(9, "1g.10gb", 0), (1, "3g.40gb", 4), (5, "1g.10gb")])))
    gpu = only_gpu(take_snapshot(engine, NOW))
    assert [(one.gi_id, one.start) for one in gpu.instances] == [(9, 0), (1, 4), (5, None)]


def test_a_new_instance_does_not_inherit_what_its_id_measured_before(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(after(-3600), instances=[(1, "3g.40gb")])))
    tell_hour(engine, source_id, {"gr_engine_active_ratio": 0.9, "memory_total_bytes": 40.0 * GIB}, gi_id=1)
    write(engine, source_id, batch(fact(after(-600), instances=[(1, "1g.10gb")])))
    [instance] = only_gpu(take_snapshot(engine, NOW)).instances
    assert (instance.profile, instance.first_seen) == ("1g.10gb", after(-600))
    assert instance.usage is not None
    assert instance.usage.metrics["gr_engine_active_ratio"].samples == 11


@pytest.mark.parametrize("made_again", [[(1, "3g.40gb", 0)], [(1, "3g.40gb", 4)]])
def test_an_instance_that_was_made_again_does_not_inherit_either(
    engine: Engine, source_id: int, made_again: list[tuple[int, str, int]]
) -> None:
    # away for ten minutes, or at once at another place of the GPU
    write(engine, source_id, batch(fact(after(-3600), instances=[(1, "3g.40gb", 0)])))
    tell_hour(engine, source_id, {"gr_engine_active_ratio": 0.9}, gi_id=1)
    if made_again == [(1, "3g.40gb", 0)]:
        write(engine, source_id, batch(fact(after(-600), instances=[(2, "1g.10gb", 4)])))
        write(engine, source_id, batch(fact(NOW, instances=made_again)))
    else:
        write(engine, source_id, batch(fact(after(-600), instances=made_again)))
    [instance] = only_gpu(take_snapshot(engine, NOW)).instances
    assert instance.usage is not None
    assert instance.usage.metrics["gr_engine_active_ratio"].samples == 11


def test_an_instance_keeps_what_it_measured_before_its_first_fact(engine: Engine, source_id: int) -> None:
    # Through Prometheus, one fact may stand for a whole window of readings.
    tell_hour(engine, source_id, {"gr_engine_active_ratio": 0.9}, gi_id=1)
    write(engine, source_id, batch(fact(NOW, instances=[(1, "1g.10gb")])))
    [instance] = only_gpu(take_snapshot(engine, NOW)).instances
    assert instance.usage is not None
    assert instance.usage.metrics["gr_engine_active_ratio"].samples == 60


def test_a_backfill_makes_an_instance_older_not_another_one(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, instances=[(1, "1g.10gb")])))
    for seconds in (-1800, -1200, -600):
        write(engine, source_id, batch(fact(after(seconds), instances=[(1, "1g.10gb")])))
    gpu = only_gpu(take_snapshot(engine, NOW))
    assert gpu.first_seen == gpu.instances[0].first_seen == after(-1800)


def test_a_gpu_in_mig_mode_without_instances_is_free(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, mig_mode=MigMode.ENABLED)))
    gpu = only_gpu(take_snapshot(engine, NOW))
    assert (gpu.instances, gpu.verdict.state) == ((), DeviceState.FREE)


def test_what_has_ended_is_not_in_the_fleet_but_was(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(after(-600), 0), fact(after(-600), 1, pods=[pod("a")]), complete=["node-a"]))
    write(engine, source_id, batch(fact(NOW, 0), complete=["node-a"]))
    assert [gpu.uuid for gpu in take_snapshot(engine, NOW).gpus()] == [gpu_uuid(0)]
    assert [gpu.uuid for gpu in take_snapshot(engine, after(-300)).gpus()] == [gpu_uuid(0), gpu_uuid(1)]


def test_nodes_and_gpus_are_in_order_and_clusters_apart(engine: Engine, source_id: int) -> None:
    other = register_source(engine, cluster="alpha", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
    write(engine, other, batch(fact(NOW, 9), readings=readings(NOW, {"power_watts": 9.0}, 9)))
    facts = [fact(NOW, 3, index=None), fact(NOW, 2, index=1), fact(NOW, 1, index=0), fact(NOW, 4, node="node-0")]
    write(engine, source_id, batch(*facts, readings=readings(NOW, {"power_watts": 1.0}, 1)))
    fleet = take_snapshot(engine, NOW)
    assert [(node.cluster, node.name, [gpu.uuid for gpu in node.gpus]) for node in fleet.nodes] == [
        ("alpha", "node-a", [gpu_uuid(9)]),
        ("default", "node-0", [gpu_uuid(4)]),
        ("default", "node-a", [gpu_uuid(1), gpu_uuid(2), gpu_uuid(3)]),
    ]
    [alpha] = take_snapshot(engine, NOW, cluster="alpha").nodes
    assert alpha.gpus[0].metrics["power_watts"].value == 9.0


def test_one_gpu_told_by_two_clusters_is_two(engine: Engine, source_id: int) -> None:
    other = register_source(engine, cluster="other", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
    write(engine, source_id, batch(fact(NOW), readings=readings(NOW, {"power_watts": 1.0})))
    write(engine, other, batch(fact(NOW), readings=readings(NOW, {"power_watts": 2.0})))
    assert [gpu.metrics["power_watts"].value for gpu in take_snapshot(engine, NOW).gpus()] == [1.0, 2.0]


def test_more_devices_than_one_query_reads_are_all_measured(engine: Engine, source_id: int) -> None:
    numbers = range(150)
    told = batch(
        *(fact(NOW, number, index=number) for number in numbers),
        readings=[one for number in numbers for one in readings(NOW, {"power_watts": float(number)}, number)],
    )
    write(engine, source_id, told)
    watts = [gpu.metrics["power_watts"].value for gpu in take_snapshot(engine, NOW).gpus()]
    assert watts == [float(number) for number in numbers]

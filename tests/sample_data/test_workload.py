"""The simulated state: pure in seed and time, and every situation the demo promises is there."""

import random
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sample_data.boards import SimulatedBoard
from sample_data.cluster import EPOCH, SimulatedNode, simulated_cluster
from sample_data.deployments import DEPLOYMENTS, Engine
from sample_data.traffic import SLOT_S, VARIANTS, WEEK_S, Traffic, week_pattern
from sample_data.workload import CLOCK_HW_THERMAL, CLOCK_IDLE, DeviceState, GpuState, node_state

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
TIMES = st.timedeltas(timedelta(days=-200), timedelta(days=1000)).map(lambda since: EPOCH + since)
COUNTERS = (
    "energy_joules",
    "pcie_replays",
    "power_throttle_s",
    "thermal_throttle_s",
    "remapped_rows_uncorrectable",
)


def _node(name: str) -> SimulatedNode:
    return simulated_cluster().node(name)


def _week() -> list[datetime]:
    return [MONDAY + timedelta(hours=hour, minutes=2) for hour in range(7 * 24)]


@cache
def _states(at: datetime) -> tuple[GpuState, ...]:
    return tuple(gpu for node in simulated_cluster().nodes for gpu in node_state(node, at))


def _of(deployment: str, at: datetime) -> list[tuple[GpuState, DeviceState]]:
    return [
        (gpu, device)
        for gpu in _states(at)
        for device in gpu.devices
        if device.pod and device.pod.deployment.name == deployment
    ]


def test_any_order_of_questions_gives_the_same_answers() -> None:
    times = [MONDAY + timedelta(minutes=7 * step) for step in range(50)]
    forward = [node_state(_node("gpu-h100-01"), at) for at in times]
    shuffled = list(range(50))
    random.Random(5).shuffle(shuffled)
    again = {index: node_state(_node("gpu-h100-01"), times[index]) for index in shuffled}
    assert [again[index] for index in range(50)] == forward


def test_another_seed_behaves_differently() -> None:
    one, other = (
        [state.power_watts for state in node_state(simulated_cluster(4, seed).nodes[3], MONDAY)] for seed in (1, 2)
    )
    assert one != other


def test_values_change_only_with_the_collection_interval() -> None:
    node = _node("gpu-h100-01")
    assert node_state(node, MONDAY) == node_state(node, MONDAY + timedelta(seconds=29.9))
    assert node_state(node, MONDAY) != node_state(node, MONDAY + timedelta(seconds=30))
    assert node_state(node, MONDAY, interval_s=60) == node_state(node, MONDAY + timedelta(seconds=59), interval_s=60)


@given(TIMES, st.sampled_from([node.name for node in simulated_cluster().nodes]))
@settings(max_examples=60, deadline=None)
def test_every_value_is_in_its_range_at_any_time(at: datetime, name: str) -> None:
    for gpu in node_state(_node(name), at):
        board: SimulatedBoard = gpu.gpu.board
        assert board.idle_watts <= gpu.power_watts + 10
        assert gpu.power_watts <= board.limit_watts
        assert 20 <= gpu.temperature_celsius <= 95
        assert board.idle_sm_mhz * 10**6 <= gpu.sm_clock_hertz <= board.boost_sm_mhz * 10**6
        assert all(getattr(gpu, counter) >= 0 for counter in COUNTERS)
        for device in gpu.devices:
            assert device.memory_free_bytes >= 0
            assert 0 <= device.sm_active_ratio <= device.gr_engine_active_ratio <= 1
            assert 0 <= device.tensor_active_ratio <= device.sm_active_ratio
            assert 0 <= device.dram_active_ratio <= 1
            assert (device.sm_active_ratio > 0) == (device.level > 0)


@given(TIMES, st.timedeltas(timedelta(seconds=1), timedelta(days=9)))
@settings(max_examples=60, deadline=None)
def test_counters_never_fall(at: datetime, later: timedelta) -> None:
    for name in ("gpu-a100-01", "gpu-h100-03", "gpu-h200-01"):
        before, after = node_state(_node(name), at), node_state(_node(name), at + later)
        for one, other in zip(before, after, strict=True):
            assert all(getattr(one, counter) <= getattr(other, counter) for counter in COUNTERS)


def test_counters_count_from_the_driver_and_start_again_with_it() -> None:
    node = _node("gpu-h100-03")
    assert all(state.energy_joules == 0 for state in node_state(node, node.driver_loaded_at - timedelta(hours=1)))
    reset_at = MONDAY
    after = node_state(node, MONDAY + timedelta(hours=1), counters_since=reset_at)
    for state in after:
        assert 0 < state.energy_joules <= 3600 * state.gpu.board.limit_watts
        assert state.xid_code == 0
    assert after[1].remapped_rows_uncorrectable == 1  # kept by the board


@pytest.mark.parametrize("name", ["gpu-a100-01", "gpu-h100-01", "gpu-h100-03", "gpu-l40s-01"])
def test_energy_is_the_integral_of_power(name: str) -> None:
    start, samples = MONDAY + timedelta(hours=6), 12 * 120
    at = [start + timedelta(seconds=30 * step) for step in range(samples + 1)]
    states = [node_state(_node(name), moment) for moment in at]
    for position in range(8):
        summed = sum(30 * state[position].power_watts for state in states[:-1])
        counted = states[-1][position].energy_joules - states[0][position].energy_joules
        assert counted == pytest.approx(summed, rel=0.01)


@pytest.mark.parametrize("traffic", list(Traffic))
def test_running_integrals_are_the_sums_of_the_levels(traffic: Traffic) -> None:
    pattern = week_pattern(1, traffic, 0)
    assert len(pattern.levels) == WEEK_S // SLOT_S
    assert all(0 <= level <= 1 for level in pattern.levels)
    at = 3 * WEEK_S + 1234.5
    expected = 3 * SLOT_S * sum(pattern.levels) + SLOT_S * sum(pattern.levels[:4]) + 34.5 * pattern.levels[4]
    assert pattern.level_integral_s(at) == pytest.approx(expected)
    assert 0 <= pattern.full_integral_s(at) <= pattern.hot_integral_s(at) <= at


def test_office_work_is_busier_by_day_and_on_working_days() -> None:
    for variant in range(VARIANTS):
        pattern = week_pattern(1, Traffic.OFFICE, variant)
        mean = [
            sum(pattern.levels[day * 288 + hour * 12 : day * 288 + (hour + 1) * 12]) / 12
            for day in range(7)
            for hour in range(24)
        ]
        assert mean[10] > 5 * mean[3]
        assert mean[10] > 1.5 * mean[5 * 24 + 10]


def test_a_saturated_deployment_is_always_busy() -> None:
    active = [device.sm_active_ratio for at in _week() for _, device in _of("llama-70b", at)]
    assert min(active) > 0.93
    assert sum(active) / len(active) == pytest.approx(0.97, abs=0.015)


def test_a_loaded_deployment_without_traffic_reserves_memory_and_does_nothing() -> None:
    for at in _week():
        for gpu, device in _of("mixtral-8x7b-legacy", at):
            assert device.memory_used_bytes > 0.85 * device.memory_total_bytes
            assert device.gr_engine_active_ratio == 0
            assert gpu.clock_event_reasons == CLOCK_IDLE


def test_demand_rests_by_night_and_comes_back() -> None:
    silent = [device.level == 0 for at in _week() for _, device in _of("qwen-coder-32b", at)]
    assert 0.1 < sum(silent) / len(silent) < 0.7


def test_a_notebook_holds_gpus_without_a_process() -> None:
    for at in _week():
        held = _of("jupyter-mkoehler", at)
        assert len(held) == 2
        assert len({device.pod for _, device in held}) == 1
        assert all(device.memory_used_bytes == 0 and not device.is_loaded for _, device in held)


def test_vllm_reserves_the_same_share_whatever_its_load() -> None:
    for name, deployment in DEPLOYMENTS.items():
        if deployment.engine is Engine.VLLM:
            seen: dict[int, set[int]] = {}
            for at in _week():
                for _, device in _of(name, at):
                    seen.setdefault(device.memory_total_bytes, set()).add(device.memory_used_bytes)
            for total, used in seen.items():
                assert len(used) == 1
                assert 0.85 < used.pop() / total < 0.95


def test_ollama_unloads_when_nobody_asks_and_loads_again() -> None:
    loaded = [device.is_loaded for at in _week() for _, device in _of("ollama-legal", at)]
    assert 0.1 < sum(loaded) / len(loaded) < 0.9
    for at in _week():
        for _, device in _of("ollama-legal", at):
            assert (device.memory_used_bytes > 5 * 2**30) == device.is_loaded
            assert device.is_loaded or device.level == 0


def test_ranks_of_one_pod_share_their_load() -> None:
    for at in _week():
        ranks = _of("qwen3-235b", at)
        assert len(ranks) == 4
        assert len({device.level for _, device in ranks}) == 1
        assert all((gpu.nvlink_bytes_per_s > 0) == (device.level > 0) for gpu, device in ranks)


def test_one_gpu_gets_a_sticky_xid_and_keeps_it() -> None:
    node = _node("gpu-h100-03")
    ill = next(gpu for gpu in node.gpus if gpu.xid)
    codes = [
        [state.xid_code for state in node_state(node, ill.xid_at + timedelta(seconds=offset))]
        for offset in (-3600, -31, 31, 3600, 500 * 86_400)
    ]
    assert [max(each) for each in codes] == [0, 0, 94, 94, 94]
    assert [sum(code > 0 for code in each) for each in codes] == [0, 0, 1, 1, 1]


def test_one_gpu_throttles_for_heat_and_only_that_one() -> None:
    throttling, counted = set(), set()
    for node in simulated_cluster().nodes:
        first = node_state(node, _week()[0])
        for at in _week():
            for before, state in zip(first, node_state(node, at), strict=True):
                if state.clock_event_reasons & CLOCK_HW_THERMAL:
                    throttling.add(state.gpu.uuid)
                    assert state.sm_clock_hertz < 0.65e6 * state.gpu.board.boost_sm_mhz
                    assert state.temperature_celsius >= 60
                if state.thermal_throttle_s > before.thermal_throttle_s:
                    counted.add(state.gpu.uuid)
    assert len(throttling) == 1
    assert throttling == counted


def test_small_models_sit_on_devices_far_too_large() -> None:
    """The fleet's story: peak memory below a quarter of the device, by the kind of need a better cut would serve."""
    peak: dict[tuple[str, int | None], tuple[int, int]] = {}
    for at in _week():
        for node in simulated_cluster().nodes:
            for gpu in node_state(node, at):
                for device in gpu.devices:
                    if device.pod and device.pod.deployment.engine in (Engine.OLLAMA, Engine.TEI):
                        key = (gpu.gpu.uuid, device.instance.gi_id if device.instance else None)
                        used = max(device.memory_used_bytes, peak.get(key, (0, 0))[0])
                        peak[key] = (used, device.memory_total_bytes)
    too_large = [used for used, total in peak.values() if used < total / 4]
    assert len(too_large) >= 15


def test_some_work_runs_at_any_hour() -> None:
    for at in _week():
        busy = sum(
            device.sm_active_ratio > 0.05
            for node in simulated_cluster().nodes
            for gpu in node_state(node, at)
            for device in gpu.devices
        )
        assert busy >= 12, at


def test_the_epoch_is_a_monday() -> None:
    assert EPOCH.weekday() == 0

"""The five states follow from readings, and nothing is called idle that was not measured."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from planner.device_state import IDLE_GPU_BYTES, IDLE_GPU_WITH_RESERVE_BYTES, IDLE_INSTANCE_BYTES, judge, judge_gpu
from planner.fleet import DeviceState, Usage, Verdict
from planner.units import GIB, MIB

SERVING, LOADED_IDLE, HELD, FREE, UNKNOWN = (
    DeviceState.SERVING,
    DeviceState.LOADED_IDLE,
    DeviceState.HELD,
    DeviceState.FREE,
    DeviceState.UNKNOWN,
)

Made = Callable[[SimpleNamespace], tuple[Usage | None, dict[str, Any]]]


def verdict(
    build: SimpleNamespace,
    usage: Usage | None,
    *,
    pods: tuple[str, ...] = (),
    pods_reported: bool = True,
    mig: bool = False,
    minutes_ago: float = 0,
    cut_into_nothing: bool = False,
) -> Verdict:
    judged: Verdict = judge(
        usage=usage,
        pods=tuple(build.pod(name) for name in pods),
        pods_reported=pods_reported,
        instance_of_mig=mig,
        memory_total_bytes=80 * GIB,
        last_seen=build.NOW - timedelta(minutes=minutes_ago),
        now=build.NOW,
        cut_into_nothing=cut_into_nothing,
    )
    assert judged.reason.endswith(".")
    return judged


def test_busy_sms_are_serving_with_the_numbers_in_the_reason(build: SimpleNamespace) -> None:
    judged = verdict(build, build.serving(30, sm=0.4), pods=("llm",))
    assert judged.state is SERVING
    assert "The engine was active 60.0% of the last 60 minutes" in judged.reason


@pytest.mark.parametrize("metric", ["sm_active_ratio", "gr_engine_active_ratio", "gpu_busy_ratio"])
def test_any_one_activity_metric_is_enough(build: SimpleNamespace, metric: str) -> None:
    assert verdict(build, build.usage(**{metric: 0.3})).state is SERVING


def test_rare_requests_are_traffic_and_a_single_blip_is_not(build: SimpleNamespace) -> None:
    loaded = {"memory_used_bytes": 30 * GIB}
    rare = build.steady(0.006, p95=0.0)
    blip = build.steady(0.001, p95=0.0)
    assert verdict(build, build.usage(**loaded, gr_engine_active_ratio=rare)).state is SERVING
    assert verdict(build, build.usage(**loaded, gr_engine_active_ratio=blip), pods=("llm",)).state is LOADED_IDLE


def test_memory_without_activity_is_loaded_idle(build: SimpleNamespace) -> None:
    judged = verdict(build, build.idle(30), pods=("llm",))
    assert judged.state is LOADED_IDLE
    assert "30.0 GiB of 80.0 GiB occupied" in judged.reason


def test_a_pod_without_a_process_is_held_and_named(build: SimpleNamespace) -> None:
    judged = verdict(build, build.idle(0.1), pods=("notebook",))
    assert judged.state is HELD
    assert "team/notebook" in judged.reason


def test_a_device_without_pod_and_process_is_free(build: SimpleNamespace) -> None:
    assert verdict(build, build.idle(0.1)).state is FREE


def test_free_is_said_with_reserve_where_no_source_names_pods(build: SimpleNamespace) -> None:
    judged = verdict(build, build.idle(0.1), pods_reported=False)
    assert judged.state is FREE
    assert "may be allocated" in judged.reason


def test_memory_without_pod_is_a_process_of_somebody_else(build: SimpleNamespace) -> None:
    judged = verdict(build, build.idle(30))
    assert judged.state is LOADED_IDLE
    assert "outside the pods" in judged.reason


@pytest.mark.parametrize(
    ("baseline", "mig", "reserve"),
    [
        (IDLE_INSTANCE_BYTES, True, {}),
        (IDLE_GPU_WITH_RESERVE_BYTES, False, {}),
        (IDLE_GPU_BYTES, False, {"memory_reserved_bytes": 600 * MIB}),
    ],
)
def test_the_idle_baseline_is_that_of_the_kind_of_device(
    build: SimpleNamespace, baseline: int, mig: bool, reserve: dict[str, float]
) -> None:
    def state(used: float) -> DeviceState:
        seen = build.usage(memory_used_bytes=used, gr_engine_active_ratio=0.0, **reserve)
        return verdict(build, seen, pods=("llm",), mig=mig).state

    assert state(baseline) is HELD
    assert state(baseline + MIB) is LOADED_IDLE


def test_a_model_that_was_just_loaded_is_not_called_held(build: SimpleNamespace) -> None:
    memory = build.steady(0.0, p95=30 * GIB)
    seen = build.usage(memory_used_bytes=memory, gr_engine_active_ratio=0.0)
    judged = verdict(build, seen, pods=("llm",))
    assert judged.state is LOADED_IDLE
    assert judged.reason.startswith("At times 30.0 GiB of 80.0 GiB occupied")


def test_kernels_of_the_whole_gpu_say_nothing_about_an_instance(build: SimpleNamespace) -> None:
    seen = build.usage(gpu_busy_ratio=0.9, memory_used_bytes=5 * GIB)
    assert verdict(build, seen, mig=True).state is UNKNOWN
    assert verdict(build, seen, mig=False).state is SERVING


@pytest.mark.parametrize(
    ("why", "made"),
    [
        ("Nothing was measured", lambda build: (None, {})),
        ("Nothing was measured", lambda build: (build.usage(), {})),
        ("Not seen for 20 minutes", lambda build: (build.serving(30), {"minutes_ago": 20})),
        ("No source reports SM, engine or kernel", lambda build: (build.usage(memory_used_bytes=30 * GIB), {})),
        ("may be loaded, held or free", lambda build: (build.usage(gr_engine_active_ratio=0.0), {"pods": ("llm",)})),
        (
            "may be loaded, held or free",
            lambda build: (build.usage(gr_engine_active_ratio=0.0), {"pods_reported": False}),
        ),
        (
            "in the 10% of the last 60 minutes that were measured: too little to call it idle",
            lambda build: (
                build.usage(0.1, gr_engine_active_ratio=0.0, memory_used_bytes=30 * GIB),
                {"pods": ("llm",)},
            ),
        ),
        (
            "no source reports a GPU instance",
            lambda build: (None, {"pods": ("llm",), "cut_into_nothing": True}),
        ),
        (
            "no source reports a GPU instance",
            lambda build: (build.usage(memory_used_bytes=30 * GIB), {"cut_into_nothing": True}),
        ),
    ],
)
def test_what_cannot_be_measured_is_unknown_and_says_why(build: SimpleNamespace, why: str, made: Made) -> None:
    usage, options = made(build)
    judged = verdict(build, usage, **options)
    assert judged.state is UNKNOWN
    assert why in judged.reason


def test_idleness_is_claimed_only_for_what_was_measured(build: SimpleNamespace) -> None:
    partly = verdict(build, build.usage(0.4, gr_engine_active_ratio=0.0, memory_used_bytes=30 * GIB), pods=("llm",))
    assert partly.state is LOADED_IDLE
    assert "no activity in the 40% of the last 60 minutes that were measured" in partly.reason
    fully = verdict(build, build.usage(gr_engine_active_ratio=0.0, memory_used_bytes=30 * GIB), pods=("llm",))
    assert fully.reason.endswith("no activity in the last 60 minutes.")


def test_little_coverage_still_shows_work_and_emptiness(build: SimpleNamespace) -> None:
    assert verdict(build, build.usage(0.1, sm_active_ratio=0.5)).state is SERVING
    assert verdict(build, build.usage(0.1, sm_active_ratio=0.0, memory_used_bytes=0)).state is FREE


def test_without_memory_readings_a_device_without_pod_is_free(build: SimpleNamespace) -> None:
    judged = verdict(build, build.usage(gr_engine_active_ratio=0.0), mig=True)
    assert judged.state is FREE
    assert "not reported" in judged.reason


def test_mig_mode_without_instances_is_free(build: SimpleNamespace) -> None:
    assert verdict(build, None, cut_into_nothing=True).state is FREE


def test_a_cut_gpu_is_as_active_as_its_most_active_instance() -> None:
    def of(*states: DeviceState) -> Verdict:
        return judge_gpu(Verdict(state=state, reason="") for state in states)

    assert of(FREE, SERVING, HELD).state is SERVING
    assert of(FREE, UNKNOWN, HELD).state is HELD
    assert of(FREE, UNKNOWN).state is UNKNOWN
    assert of(FREE).state is FREE
    assert of().state is FREE
    assert of(FREE, SERVING, SERVING).reason == "GPU instances: 2 serving, 1 free."

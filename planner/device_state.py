"""Which of the five states a device is in, judged from what it measured over a window.

Traffic is what the engines on the device counted: tokens, requests. Where no engine that counts is linked to it, or
only by a guess, traffic is seen as work on the device: an engine, SM or kernel was busy; and the reason says so.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from planner.engine_traffic import idle_engines, spelled_flow, spelled_idleness
from planner.fleet import DeviceEngine, DeviceState, Pod, Quantiles, Usage, Verdict
from planner.sentences import spelled_bytes, spelled_pods, spelled_window
from planner.units import MIB

ACTIVE_P95_RATIO = 0.01
"""Busy at least this much in one sample of twenty is traffic: idle engines report 0, one short request in a sampling
interval of 30 s about 0.02."""

ACTIVE_MEAN_RATIO = 0.005
"""Or busy this much on average: 18 seconds of work in an hour, so that rare but real requests count."""

IDLE_INSTANCE_BYTES = 192 * MIB
"""Most that an empty GPU instance occupies: 47 MiB on current drivers, up to 153 MiB in scrapes of A100 instances."""

IDLE_GPU_BYTES = 256 * MIB
"""Most that an empty whole GPU occupies when the driver's reserve is reported apart; a CUDA context takes more."""

IDLE_GPU_WITH_RESERVE_BYTES = 640 * MIB
"""The same where it is not: older readings count the reserve (up to 614 MiB on an H200) as used."""

MIN_COVERAGE_RATIO = 0.25
"""Share of the window that must be measured before a device is said to do nothing: 15 minutes of an hour."""

FULL_COVERAGE_RATIO = 0.9
"""From this share on the window counts as measured; below it, the reason says what share was."""

STALE_AFTER = timedelta(minutes=15)
"""A device not seen for so long is not judged: it may be gone."""

_ACTIVITY = (
    ("sm_active_ratio", "SMs were active"),
    ("gr_engine_active_ratio", "The engine was active"),
    ("gpu_busy_ratio", "Kernels ran"),
)
_BY_ACTIVITY = (
    DeviceState.SERVING,
    DeviceState.LOADED_IDLE,
    DeviceState.HELD,
    DeviceState.UNKNOWN,
    DeviceState.FREE,
)


def judge(
    *,
    usage: Usage | None,
    pods: tuple[Pod, ...],
    pods_reported: bool,
    instance_of_mig: bool,
    memory_total_bytes: float | None,
    last_seen: datetime,
    now: datetime,
    cut_into_nothing: bool = False,
    engines: tuple[DeviceEngine, ...] = (),
    window: timedelta = timedelta(hours=1),
) -> Verdict:
    """The state of one device and the sentence of numbers that led to it.

    `pods_reported` says whether the source names pods at all, so that none means unallocated. `cut_into_nothing` is
    a GPU in MIG mode of which no GPU instance is reported. `engines` are those linked to the device, with what they
    counted in the `window` up to `now`: tokens make it serving and their absence idle, whatever memory is occupied.
    Work without tokens is still work: a device whose engines counted nothing and whose SMs were busy is not idle.
    """
    if now - last_seen > STALE_AFTER:
        minutes = int((now - last_seen).total_seconds() // 60)
        return _verdict(DeviceState.UNKNOWN, f"Not seen for {minutes} minutes.")
    if cut_into_nothing:
        return _judge_without_instances(usage, pods)
    told = spelled_window(now - window, now)
    flow = spelled_flow(engines, told)
    if flow is not None:
        return _verdict(DeviceState.SERVING, flow)
    idle = idle_engines(engines, MIN_COVERAGE_RATIO)
    by_engine = spelled_idleness(idle, told, FULL_COVERAGE_RATIO) if idle else None
    activity = (
        []
        if usage is None
        else [(label, usage.metrics[name]) for name, label in _ACTIVITY if _counts(usage, name, instance_of_mig)]
    )
    is_working = any(_is_working(seen) for _, seen in activity)
    # A pod without an engine is only known to be quiet where activity was measured.
    is_known = bool(activity) or {f"{pod.namespace}/{pod.name}" for pod in pods} <= {engine.pod for engine in idle}
    if by_engine is not None and is_known and not is_working:
        return _verdict(DeviceState.LOADED_IDLE, f"{by_engine}.")
    return _judge_by_activity(usage, activity, by_engine, pods, pods_reported, instance_of_mig, memory_total_bytes)


def _judge_by_activity(
    usage: Usage | None,
    activity: list[tuple[str, Quantiles]],
    by_engine: str | None,
    pods: tuple[Pod, ...],
    pods_reported: bool,
    instance_of_mig: bool,
    memory_total_bytes: float | None,
) -> Verdict:
    if usage is None or not any(quantiles.samples for quantiles in usage.metrics.values()):
        return _verdict(DeviceState.UNKNOWN, "Nothing was measured in the window.")
    if not activity:
        return _verdict(
            DeviceState.UNKNOWN, "No source reports SM, engine or kernel activity, so work and idleness look the same."
        )
    window = spelled_window(usage.start, usage.end)
    working = [(label, seen) for label, seen in activity if _is_working(seen)]
    if working:
        label, seen = max(working, key=lambda item: item[1].mean)
        busy = f"{label} {seen.mean:.1%} of {window}, {seen.p95:.1%} at the 95th percentile"
        if by_engine is not None:
            return _verdict(DeviceState.SERVING, f"{busy}, with work that is not counted as requests: {by_engine}.")
        return _verdict(
            DeviceState.SERVING, f"{busy}; no engine's tokens are known here, so this rests on activity alone."
        )
    if usage.coverage_ratio < FULL_COVERAGE_RATIO:
        window = f"the {usage.coverage_ratio:.0%} of {window} that were measured"
    most = max(seen.maximum for _, seen in activity)
    quiet = f"no activity in {window}" if most == 0 else f"no activity to speak of (at most {most:.1%}) in {window}"
    memory = usage.metrics.get("memory_used_bytes")
    if memory is None:
        return _judge_without_memory(pods, pods_reported, quiet)
    baseline = _idle_bytes(usage, instance_of_mig)
    return _judge_quiet(usage, memory, baseline, memory_total_bytes, pods, pods_reported, quiet)


def judge_gpu(verdicts: Iterable[Verdict]) -> Verdict:
    """The state of a GPU that is cut: the most active state among its instances, unknown before free."""
    by_state: dict[DeviceState, int] = {}
    for verdict in verdicts:
        by_state[verdict.state] = by_state.get(verdict.state, 0) + 1
    if not by_state:
        return _verdict(DeviceState.FREE, "No GPU instance exists.")
    present = [state for state in _BY_ACTIVITY if state in by_state]
    return _verdict(present[0], "GPU instances: " + ", ".join(f"{by_state[state]} {state}" for state in present) + ".")


def _verdict(state: DeviceState, reason: str) -> Verdict:
    return Verdict(state=state, reason=reason)


def _counts(usage: Usage, metric: str, instance_of_mig: bool) -> bool:
    """Whether the metric says something about this device: `gpu_busy_ratio` is the whole GPU's and absent under MIG."""
    if metric == "gpu_busy_ratio" and instance_of_mig:
        return False
    quantiles = usage.metrics.get(metric)
    return quantiles is not None and quantiles.samples > 0


def _is_working(seen: Quantiles) -> bool:
    return seen.p95 >= ACTIVE_P95_RATIO or seen.mean >= ACTIVE_MEAN_RATIO


def _idle_bytes(usage: Usage, instance_of_mig: bool) -> int:
    if instance_of_mig:
        return IDLE_INSTANCE_BYTES
    return IDLE_GPU_BYTES if "memory_reserved_bytes" in usage.metrics else IDLE_GPU_WITH_RESERVE_BYTES


def _judge_without_instances(usage: Usage | None, pods: tuple[Pod, ...]) -> Verdict:
    memory = usage.metrics.get("memory_used_bytes") if usage else None
    if pods or (memory is not None and memory.p50 > IDLE_GPU_WITH_RESERVE_BYTES):
        seen = spelled_pods(pods) if pods else f"{spelled_bytes(memory.p50 if memory else 0)} of memory"
        return _verdict(DeviceState.UNKNOWN, f"MIG mode is on and {seen} in use, but no source reports a GPU instance.")
    return _verdict(DeviceState.FREE, "MIG mode is on and there is no GPU instance, so nothing can run.")


def _judge_without_memory(pods: tuple[Pod, ...], pods_reported: bool, quiet: str) -> Verdict:
    missing = "memory in use is not reported for this device"
    if pods_reported and not pods:
        return _verdict(DeviceState.FREE, f"No pod holds it and {quiet}; {missing}.")
    return _verdict(DeviceState.UNKNOWN, f"There was {quiet}, but {missing}: it may be loaded, held or free.")


def _judge_quiet(
    usage: Usage,
    memory: Quantiles,
    baseline: int,
    memory_total_bytes: float | None,
    pods: tuple[Pod, ...],
    pods_reported: bool,
    quiet: str,
) -> Verdict:
    # A pod may just have loaded its model; without a pod only what stays counts, a process may just have left.
    is_loaded = memory.maximum > baseline if pods else memory.p50 > baseline
    only_at_times = is_loaded and memory.p50 <= baseline
    occupied = f"At times {spelled_bytes(memory.maximum)}" if only_at_times else spelled_bytes(memory.p50)
    if memory_total_bytes:
        occupied += f" of {spelled_bytes(memory_total_bytes)}"
    if not is_loaded and not pods:
        unsure = "" if pods_reported else "; no source names pods, so it may be allocated all the same"
        return _verdict(DeviceState.FREE, f"{occupied} occupied, no pod and {quiet}{unsure}.")
    if usage.coverage_ratio < MIN_COVERAGE_RATIO:
        return _verdict(
            DeviceState.UNKNOWN,
            f"There was {quiet}: too little to call it idle.",
        )
    if is_loaded:
        holder = "" if pods else "; a process outside the pods that are reported" if pods_reported else ""
        return _verdict(DeviceState.LOADED_IDLE, f"{occupied} occupied and, judged by activity alone, {quiet}{holder}.")
    return _verdict(
        DeviceState.HELD,
        f"Allocated to {spelled_pods(pods)}, but no process holds memory ({occupied} occupied) and {quiet}.",
    )

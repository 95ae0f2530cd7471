"""Fleets made by hand, small enough to know every number of; time stands still at NOW."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from planner.catalog import load_catalog
from planner.fleet import DeviceState, Fleet, Gpu, GpuInstance, Node, Observation, Pod, Quantiles, Usage, Verdict
from planner.hardware import MigMode
from planner.units import GIB, GpuUuid, NodeName

NOW = datetime(2026, 11, 22, 12, 3, 10, tzinfo=UTC)
SEEN = NOW - timedelta(seconds=40)

HOSTILE = (
    "<script>window.pwned=1</script>",
    "**bold**",
    "$x$",
    ":red[alarm]",
    "a|b",
    "<img src=x onerror=window.pwned=1>",
)
"""Names that Kubernetes would refuse and a broken or malicious exporter would not."""


def observed(values: Mapping[str, float], at: datetime = SEEN) -> dict[str, Observation]:
    return {name: Observation(value=value, observed_at=at) for name, value in values.items()}


def usage(values: Mapping[str, float], hours: float = 1.0) -> Usage:
    return Usage(
        start=NOW - timedelta(hours=hours),
        end=NOW,
        coverage_ratio=1.0,
        metrics={
            name: Quantiles(samples=120, mean=value, p50=value, p95=value, maximum=value, minimum=value)
            for name, value in values.items()
        },
    )


def verdict(state: DeviceState) -> Verdict:
    return Verdict(state=state, reason=f"judged {state.value} by hand")


def instance(
    gi_id: int,
    profile: str,
    *,
    start: int | None = None,
    state: DeviceState = DeviceState.SERVING,
    pods: tuple[Pod, ...] = (),
    values: Mapping[str, float] | None = None,
) -> GpuInstance:
    values = {"gr_engine_active_ratio": 0.5, "memory_used_bytes": 4 * GIB} if values is None else values
    return GpuInstance(
        gi_id=gi_id,
        profile=profile,
        start=start,
        metrics=observed(values),
        pods=pods,
        usage=usage(values),
        verdict=verdict(state),
        first_seen=NOW - timedelta(days=3),
        last_seen=SEEN,
    )


def gpu(
    number: int,
    *,
    node: str = "node-a",
    board: str = "A100-40GB",
    state: DeviceState = DeviceState.SERVING,
    pods: tuple[Pod, ...] = (),
    instances: tuple[GpuInstance, ...] = (),
    values: Mapping[str, float] | None = None,
    at: datetime = SEEN,
) -> Gpu:
    known = load_catalog().board(board)
    if values is None:
        values = {"power_watts": 250.0, "temperature_celsius": 61.0}
        if not instances:
            values |= {"sm_active_ratio": 0.4, "memory_used_bytes": 30 * GIB, "memory_total_bytes": 40 * GIB}
    return Gpu(
        uuid=GpuUuid(f"GPU-{node}-{number}"),
        index=number,
        node=NodeName(node),
        model_name=known.product_names[0],
        board=known,
        pci_bus_id=f"00000000:{number:02X}:00.0",
        driver_version="580.95.05",
        mig_mode=MigMode.ENABLED if instances else MigMode.DISABLED,
        metrics=observed(values, at),
        pods=pods,
        instances=instances,
        usage=usage(values),
        verdict=verdict(state),
        first_seen=NOW - timedelta(days=3),
        last_seen=at,
    )


def fleet(*gpus: Gpu, cluster: str = "default") -> Fleet:
    names = dict.fromkeys(gpu.node for gpu in gpus)
    return Fleet(
        taken_at=NOW,
        nodes=tuple(Node(name=name, cluster=cluster, gpus=tuple(g for g in gpus if g.node == name)) for name in names),
    )


def pod(name: str, namespace: str = "llm") -> Pod:
    return Pod(namespace=namespace, name=name, container="server")

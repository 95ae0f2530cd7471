"""Fleets built by hand for the planner's tests: only what a test names differs from an idle, well-measured GPU."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from planner.catalog import Catalog, load_catalog
from planner.device_state import judge, judge_gpu
from planner.fleet import Device, Fleet, Gpu, GpuInstance, Node, Observation, Pod, Quantiles, Usage
from planner.hardware import Board, MigMode
from planner.units import GIB, GpuUuid, NodeName

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def steady(value: float, *, p95: float | None = None, minimum: float | None = None) -> Quantiles:
    high = value if p95 is None else p95
    low = value if minimum is None else minimum
    return Quantiles(samples=120, mean=value, p50=value, p95=high, maximum=max(value, high), minimum=low)


def usage(coverage_ratio: float = 1.0, **metrics: float | Quantiles) -> Usage:
    """An hour of readings; a plain number is a metric that never moved."""
    return Usage(
        start=NOW - timedelta(hours=1),
        end=NOW,
        coverage_ratio=coverage_ratio,
        metrics={name: one if isinstance(one, Quantiles) else steady(one) for name, one in metrics.items()},
    )


def serving(memory_gib: float, sm: float = 0.5, **more: float | Quantiles) -> Usage:
    """Memory that moves (so that it is no reservation) and busy SMs."""
    memory = steady(memory_gib * GIB, minimum=0.5 * memory_gib * GIB)
    return usage(memory_used_bytes=memory, sm_active_ratio=sm, gr_engine_active_ratio=min(1.0, sm * 1.5), **more)


def idle(memory_gib: float) -> Usage:
    return usage(memory_used_bytes=memory_gib * GIB, sm_active_ratio=0.0, gr_engine_active_ratio=0.0)


def instance(
    gi_id: int,
    profile: str,
    seen: Usage | None = None,
    *,
    pods: tuple[Pod, ...] = (),
    start: int | None = None,
    metrics: Mapping[str, Observation] | None = None,
) -> GpuInstance:
    return GpuInstance(
        gi_id=gi_id,
        profile=profile,
        start=start,
        metrics=metrics or {},
        pods=pods,
        usage=seen,
        verdict=judge(
            usage=seen,
            pods=pods,
            pods_reported=True,
            instance_of_mig=True,
            memory_total_bytes=None,
            last_seen=NOW,
            now=NOW,
        ),
        first_seen=NOW - timedelta(days=1),
        last_seen=NOW,
    )


def gpu(
    board: Board | None,
    number: int,
    seen: Usage | None = None,
    *,
    node: str = "node-1",
    pods: tuple[Pod, ...] = (),
    instances: tuple[GpuInstance, ...] = (),
    metrics: Mapping[str, Observation] | None = None,
    model_name: str | None = None,
) -> Gpu:
    verdict = (
        judge_gpu(one.verdict for one in instances)
        if instances
        else judge(
            usage=seen,
            pods=pods,
            pods_reported=True,
            instance_of_mig=False,
            memory_total_bytes=None,
            last_seen=NOW,
            now=NOW,
        )
    )
    return Gpu(
        uuid=GpuUuid(f"GPU-{node}-{number}"),
        index=number,
        node=NodeName(node),
        model_name=model_name or (board.product_names[0] if board else None),
        board=board,
        pci_bus_id=None,
        driver_version=None,
        mig_mode=MigMode.ENABLED if instances else MigMode.DISABLED,
        metrics=metrics or {},
        pods=pods,
        instances=instances,
        usage=seen,
        verdict=verdict,
        first_seen=NOW - timedelta(days=1),
        last_seen=NOW,
    )


def fleet(*gpus: Gpu, cluster: str = "default") -> Fleet:
    names = sorted({one.node for one in gpus})
    nodes = tuple(
        Node(name=name, cluster=cluster, gpus=tuple(one for one in gpus if one.node == name)) for name in names
    )
    return Fleet(taken_at=NOW, nodes=nodes)


def pod(name: str, namespace: str = "team") -> Pod:
    return Pod(namespace=namespace, name=name)


def device(one: Gpu, gi_id: int | None = None) -> Device:
    found = next((i for i in one.instances if i.gi_id == gi_id), None)
    return Device(gpu=one, instance=found)


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_catalog()


@pytest.fixture(scope="session")
def build() -> SimpleNamespace:
    """The builders of this file."""
    return SimpleNamespace(
        NOW=NOW,
        steady=steady,
        usage=usage,
        serving=serving,
        idle=idle,
        instance=instance,
        gpu=gpu,
        fleet=fleet,
        pod=pod,
        device=device,
    )

"""What a fleet of whole GPUs says: batches as a collector makes them, from a seed."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from planner.metrics import METRICS
from planner.readings import Batch, GpuFact, PodFact, Reading, Subject
from planner.units import GpuUuid, NodeName

START = datetime(2026, 11, 22, tzinfo=UTC)
INTERVAL = timedelta(seconds=30)
GPUS_PER_NODE = 8

# What dcgm-exporter reports of an H100 with its default counters and the profiling ones.
REPORTED = (
    "gpu_busy_ratio",
    "memory_busy_ratio",
    "memory_used_bytes",
    "memory_free_bytes",
    "memory_reserved_bytes",
    "memory_total_bytes",
    "gr_engine_active_ratio",
    "sm_active_ratio",
    "sm_occupancy_ratio",
    "tensor_active_ratio",
    "dram_active_ratio",
    "sm_clock_hertz",
    "memory_clock_hertz",
    "temperature_celsius",
    "memory_temperature_celsius",
    "power_watts",
    "energy_joules",
    "pcie_replays",
    "xid_code",
    "remapped_rows_uncorrectable",
    "remapped_rows_correctable",
    "row_remap_failed",
)
assert set(REPORTED) <= {metric.name for metric in METRICS}


def gpu_uuid(node: int, index: int) -> GpuUuid:
    return GpuUuid(f"GPU-{node:08x}-{index:04x}-0000-0000-000000000000")


def batches(*, nodes: int, steps: int, steps_per_batch: int, seed: int = 1) -> Iterator[Batch]:
    """Batches in the order in which a collector would write them: all nodes of one time, then of the next."""
    dice = random.Random(seed)
    for first in range(0, steps, steps_per_batch):
        for node in range(nodes):
            yield _batch(node, range(first, min(first + steps_per_batch, steps)), dice)


def _batch(node: int, steps: range, dice: random.Random) -> Batch:
    readings: list[Reading] = []
    facts: list[GpuFact] = []
    name = NodeName(f"node-{node:04}")
    for index in range(GPUS_PER_NODE):
        uuid = gpu_uuid(node, index)
        subject = Subject(gpu_uuid=uuid)
        for step in steps:
            at = START + step * INTERVAL
            readings += [
                Reading(subject=subject, metric=metric, value=dice.random(), observed_at=at) for metric in REPORTED
            ]
        facts.append(
            GpuFact(
                observed_at=START + steps[-1] * INTERVAL,
                gpu_uuid=uuid,
                node=name,
                index=index,
                model_name="NVIDIA H100 80GB HBM3",
                pci_bus_id=None,
                driver_version="580.65.06",
                mig_mode=None,
                instances=(),
                pods=(PodFact(gi_id=None, namespace="inference", name=f"vllm-{node}-{index}", container="vllm"),),
            )
        )
    return Batch(readings=tuple(readings), facts=tuple(facts), gaps=(), nodes_complete=frozenset({name}))

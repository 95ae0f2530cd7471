"""What the simulated boards are made of: memory, multiprocessors, MIG table, power and clocks.

The simulator keeps its own table on purpose: hardware must not take its truth from the program that reads it. A test
holds these rows against the planner's catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedProfile:
    """One kind of GPU instance, as `nvidia-smi mig -lgip` and `-lgipp` print it."""

    memory_mib: int
    sm_count: int
    compute_slices: int
    size: int  # memory slices
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedBoard:
    """One kind of GPU.

    Memory, reserved memory, idle and limit power: `nvidia-smi -q` of an idle board (H100, H200 on driver 590.48,
    L40S on 595.80). A100: 40960 MiB on driver 570. Clocks: NVIDIA's data sheets.
    """

    name: str
    product: str  # as NVML spells it
    memory_total_mib: int
    memory_reserved_mib: int
    sm_count: int
    idle_watts: float
    limit_watts: float
    idle_sm_mhz: int
    boost_sm_mhz: int
    memory_mhz: int
    has_memory_sensor: bool
    has_nvlink: bool
    profiles: Mapping[str, SimulatedProfile]


def _profile(memory_mib: int, sm_count: int, compute_slices: int, size: int, *starts: int) -> SimulatedProfile:
    return SimulatedProfile(
        memory_mib=memory_mib, sm_count=sm_count, compute_slices=compute_slices, size=size, starts=starts
    )


A100_40 = SimulatedBoard(
    name="A100-40GB",
    product="NVIDIA A100-SXM4-40GB",
    memory_total_mib=40960,
    memory_reserved_mib=423,
    sm_count=108,
    idle_watts=52.0,
    limit_watts=400.0,
    idle_sm_mhz=210,
    boost_sm_mhz=1410,
    memory_mhz=1215,
    has_memory_sensor=True,
    has_nvlink=True,
    profiles={
        "1g.5gb": _profile(4864, 14, 1, 1, 0, 1, 2, 3, 4, 5, 6),
        "1g.10gb": _profile(9856, 14, 1, 2, 0, 2, 4, 6),
        "2g.10gb": _profile(9856, 28, 2, 2, 0, 2, 4),
        "3g.20gb": _profile(19968, 42, 3, 4, 0, 4),
        "4g.20gb": _profile(19968, 56, 4, 4, 0),
        "7g.40gb": _profile(40192, 98, 7, 8, 0),
    },
)

H100_80 = SimulatedBoard(
    name="H100-80GB-SXM",
    product="NVIDIA H100 80GB HBM3",
    memory_total_mib=81559,
    memory_reserved_mib=479,
    sm_count=132,
    idle_watts=69.0,
    limit_watts=700.0,
    idle_sm_mhz=345,
    boost_sm_mhz=1980,
    memory_mhz=2619,
    has_memory_sensor=True,
    has_nvlink=True,
    profiles={
        "1g.10gb": _profile(9984, 16, 1, 1, 0, 1, 2, 3, 4, 5, 6),
        "1g.20gb": _profile(20096, 26, 1, 2, 0, 2, 4, 6),
        "2g.20gb": _profile(20096, 32, 2, 2, 0, 2, 4),
        "3g.40gb": _profile(40448, 60, 3, 4, 0, 4),
        "4g.40gb": _profile(40448, 64, 4, 4, 0),
        "7g.80gb": _profile(81152, 132, 7, 8, 0),
    },
)

H200_141 = SimulatedBoard(
    name="H200-141GB",
    product="NVIDIA H200",
    memory_total_mib=143771,
    memory_reserved_mib=614,
    sm_count=132,
    idle_watts=77.0,
    limit_watts=700.0,
    idle_sm_mhz=345,
    boost_sm_mhz=1980,
    memory_mhz=3201,
    has_memory_sensor=True,
    has_nvlink=True,
    profiles={},  # this cluster cuts no H200
)

L40S = SimulatedBoard(
    name="L40S",
    product="NVIDIA L40S",
    memory_total_mib=46068,
    memory_reserved_mib=609,
    sm_count=142,
    idle_watts=36.0,
    limit_watts=350.0,
    idle_sm_mhz=210,
    boost_sm_mhz=2520,
    memory_mhz=9001,
    has_memory_sensor=False,  # GDDR6: nvidia-smi prints N/A, dcgm-exporter 0
    has_nvlink=False,
    profiles={},
)

BOARDS: tuple[SimulatedBoard, ...] = (A100_40, H100_80, H200_141, L40S)

"""What a device has been measured to need, and the smallest profile of its board that provides it."""

from dataclasses import dataclass
from enum import StrEnum


class MemoryBasis(StrEnum):
    """Where a memory need comes from."""

    HIGH_WATER = "high-water"  # most framebuffer occupied in the window
    RESERVATION = "reservation"  # an engine holds its share whatever it needs; the reservation stands for the need
    UNKNOWN = "unknown"


class ComputeBasis(StrEnum):
    """Where a compute need comes from."""

    SM_ACTIVE = "sm-active"
    GR_ENGINE = "gr-engine"  # share of time anything ran: an upper bound on the SMs in use
    GPU_BUSY = "gpu-busy"  # the same, for a whole GPU without profiling fields
    MINIMAL = "minimal"  # nothing ran: any compute slice will do
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Measured need of one device, before headroom; None is "cannot be known", and `reasons` says why."""

    memory_bytes: int | None
    memory_basis: MemoryBasis
    sm_count: float | None  # SMs kept busy at the 95th percentile
    compute_basis: ComputeBasis
    bandwidth_ratio: float | None  # share of the whole GPU's memory bandwidth at the 95th percentile
    reasons: tuple[str, ...]  # sentences of numbers, for people

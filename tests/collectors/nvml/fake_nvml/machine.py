"""What a machine with NVIDIA GPUs is made of, as far as NVML speaks of it; in NVML's own units."""

from dataclasses import dataclass, field

NOT_AVAILABLE = 2**64 - 1


class Code(int):
    """An NVML error code in place of an answer."""


Answer = int | float | Code

UNSUPPORTED = Code(3)


@dataclass(slots=True, kw_only=True)
class FakeProcess:
    """A process in one of NVML's lists."""

    pid: int
    memory: int = NOT_AVAILABLE


@dataclass(slots=True, kw_only=True)
class FakeMemory:
    """Bytes, as nvmlMemory_v2_t has them; version 1 counts `reserved` as used."""

    total: int
    reserved: int
    used: int

    @property
    def free(self) -> int:
        return self.total - self.reserved - self.used


@dataclass(slots=True, kw_only=True)
class FakeProfile:
    """A row of `nvidia-smi mig -lgip` with its placements."""

    profile_id: int
    name: str
    slices: int
    memory_mib: int
    multiprocessors: int
    placements: tuple[tuple[int, int], ...]


@dataclass(slots=True, kw_only=True)
class FakeComputeInstance:
    """A MIG device: its place in the list of devices, and its processes by kind."""

    index: int
    ci_id: int
    name: str  # as in its product name: 1g.5gb, 1c.3g.71gb
    uuid: str
    processes: dict[str, list[FakeProcess]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class FakeInstance:
    """A GPU instance."""

    gi_id: int
    profile_id: int
    start: int
    size: int
    memory: FakeMemory
    compute_instances: list[FakeComputeInstance]
    gpm: dict[int, Answer] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class FakeGpu:
    """A GPU; every answer may be a Code."""

    uuid: str
    name: str
    bus_id: str
    memory: FakeMemory | Code
    mig_mode: tuple[int, int] | Code = UNSUPPORTED  # current, pending
    max_mig_devices: int | Code = 7
    instances: list[FakeInstance] = field(default_factory=list)
    profiles: tuple[FakeProfile, ...] = ()
    utilization: tuple[int, int] | Code = (37, 12)
    encoder: int | Code = 0
    decoder: int | Code = 0
    power_mw: int | Code = 61_500
    energy_mj: int | Code = 1_234_567
    temperature: int | Code = 41
    memory_temperature: int | Code = 47
    clocks_mhz: dict[int, int | Code] = field(default_factory=lambda: {1: 1410, 2: 1215})
    clock_reasons: int | Code = 1
    violations_ns: dict[int, int | Code] = field(default_factory=lambda: {0: 1_500_000_000, 1: 0})
    ecc: dict[int, int | Code] = field(default_factory=lambda: {0: 3, 1: 0})
    remapped_rows: tuple[int, int, int, int] | Code = (1, 0, 0, 0)
    pcie_replays: int | Code = 2
    pcie_kb_per_s: dict[int, int | Code] = field(default_factory=lambda: {0: 100, 1: 250})
    links: int | Code = UNSUPPORTED
    link_bytes: dict[tuple[int, int], Answer] = field(default_factory=dict)  # (field, link): the field's own unit
    gpm: dict[int, Answer] | Code = UNSUPPORTED
    processes: dict[str, list[FakeProcess]] = field(default_factory=dict)
    events: int | Code = 8
    lost: int | None = None  # the code with which everything answers
    lost_but_named: bool = False  # as the mock of NVIDIA does it: handle, UUID and name still answer

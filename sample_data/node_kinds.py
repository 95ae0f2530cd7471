"""The six kinds of node that the simulated fleet repeats: board, how each GPU is cut, and what runs where.

The story they tell: many small models sit on whole GPUs or on instances far too large for them, many instances are
free, and two GPUs are held by a notebook that runs nothing. A better cut frees GPUs that anyone can count.
"""

from dataclasses import dataclass

from sample_data.boards import A100_40, H100_80, H200_141, L40S, SimulatedBoard
from sample_data.exporter_versions import ExporterVersion

Slot = tuple[str, int, str | None]
"""Profile, start of its placement in memory slices, and the deployment that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPlan:
    """One GPU of a kind of node: cut into `slots`, or whole (`slots` is None) and held by `deployment` or free."""

    slots: tuple[Slot, ...] | None = None
    deployment: str | None = None
    xid: int | None = None  # in the first node of the kind only
    is_badly_cooled: bool = False  # likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKind:
    """One kind of node; all its GPUs are of one board."""

    family: str  # nodes are numbered within a family: gpu-h100-01, -02, ...
    board: SimulatedBoard
    mig_strategy: str  # of the NVIDIA device plugin: none, single, mixed
    gpus: tuple[GpuPlan, ...]
    exporter: ExporterVersion
    driver_version: str
    pci_buses: tuple[str, ...]
    hostname_is_pod: bool = False  # some installations report the exporter pod's name as host
    extended_profiling: bool = True  # SM_ACTIVE and others are opt-in
    prometheus_sets_pod_labels: bool = False  # target labels pod/namespace/container, as gpu-operator's ServiceMonitor


def _cut(*slots: Slot, xid: int | None = None) -> GpuPlan:
    return GpuPlan(slots=slots, xid=xid)


def _whole(deployment: str | None = None, *, xid: int | None = None, is_badly_cooled: bool = False) -> GpuPlan:
    return GpuPlan(deployment=deployment, xid=xid, is_badly_cooled=is_badly_cooled)


_HGX_A100_BUSES = ("07", "0F", "47", "4E", "87", "90", "B7", "BD")
_HGX_H100_BUSES = ("1B", "43", "52", "61", "9D", "C3", "D1", "DF")
_PCIE_SERVER_BUSES = ("01", "24", "41", "61", "81", "A1", "C1", "E1")

A100_MIXED = NodeKind(
    family="gpu-a100",
    board=A100_40,
    mig_strategy="mixed",
    exporter=ExporterVersion.V3_3,
    driver_version="535.183.06",
    pci_buses=_HGX_A100_BUSES,
    hostname_is_pod=True,
    gpus=(
        _cut(
            *(("1g.5gb", start, "bge-m3") for start in (0, 1)),
            *(("1g.5gb", start, "gte-large") for start in (2, 3)),
            *(("1g.5gb", start, None) for start in (4, 5, 6)),
        ),
        _cut(("2g.10gb", 0, "ollama-hr"), ("1g.5gb", 2, "bge-reranker"), ("1g.5gb", 3, None), ("3g.20gb", 4, None)),
        _cut(("3g.20gb", 0, "ollama-legal"), ("3g.20gb", 4, "ollama-support")),
        _cut(("3g.20gb", 0, "ollama-sales"), ("3g.20gb", 4, None)),
        _cut(("4g.20gb", 0, "phi-4-mini"), ("3g.20gb", 4, None)),
        _cut(("7g.40gb", 0, "ollama-research")),
        _cut(("2g.10gb", 0, "ollama-hr"), ("2g.10gb", 2, None), ("2g.10gb", 4, None), ("1g.5gb", 6, None)),
        _cut(),  # MIG mode on, no instance
    ),
)

H100_MIXED = NodeKind(
    family="gpu-h100",
    board=H100_80,
    mig_strategy="mixed",
    exporter=ExporterVersion.V4_7,
    driver_version="580.105.08",
    pci_buses=_HGX_H100_BUSES,
    gpus=(
        _cut(("7g.80gb", 0, "ollama-docs")),
        _cut(("3g.40gb", 0, "llama-8b"), ("3g.40gb", 4, "bge-reranker")),
        _cut(("4g.40gb", 0, "llama-8b"), ("1g.20gb", 4, "ollama-research"), ("1g.20gb", 6, None)),
        _cut(("2g.20gb", 0, "ollama-legal"), ("2g.20gb", 2, "e5-mistral"), ("2g.20gb", 4, None), ("1g.10gb", 6, None)),
        _cut(
            *(("1g.10gb", start, "gte-large") for start in (0, 1)),
            *(("1g.10gb", start, None) for start in (2, 3, 4, 5, 6)),
        ),
        _cut(
            ("3g.40gb", 4, "ollama-sales"),
            *(("1g.10gb", start, "bge-m3") for start in (0, 1)),
            *(("1g.10gb", start, None) for start in (2, 3)),
        ),
        _whole("bge-m3"),  # a whole H100, not cut, for an embedding model
        _cut(("3g.40gb", 0, None), ("2g.20gb", 4, "ollama-hr"), ("1g.10gb", 6, None)),
    ),
)

_HALVES = ("ollama-legal", "ollama-support", "ollama-docs", "bge-reranker", "ollama-sales", "ollama-research")

H100_SINGLE = NodeKind(
    family="gpu-h100",
    board=H100_80,
    mig_strategy="single",
    exporter=ExporterVersion.V4_5,
    driver_version="570.172.08",
    pci_buses=_HGX_H100_BUSES,
    prometheus_sets_pod_labels=True,
    gpus=(
        *(
            _cut(("3g.40gb", 0, _HALVES[index]), ("3g.40gb", 4, _HALVES[(index + 3) % len(_HALVES)]))
            for index in range(4)
        ),
        _cut(("3g.40gb", 0, "llama-8b"), ("3g.40gb", 4, "ollama-hr")),
        _cut(("3g.40gb", 0, "ollama-docs"), ("3g.40gb", 4, None)),
        _cut(("3g.40gb", 0, "gte-large"), ("3g.40gb", 4, None)),
        _cut(("3g.40gb", 0, "bge-small-old"), ("3g.40gb", 4, None)),
    ),
)

H100_WHOLE = NodeKind(
    family="gpu-h100",
    board=H100_80,
    mig_strategy="none",
    exporter=ExporterVersion.V4_6,
    driver_version="580.95.05",
    pci_buses=_HGX_H100_BUSES,
    gpus=(
        _whole("llama-70b"),
        _whole("qwen-coder-32b", xid=94),
        _whole("mixtral-8x7b-legacy"),
        _whole("jupyter-mkoehler"),
        _whole("jupyter-mkoehler"),
        _whole("ollama-support"),
        _whole("e5-mistral"),
        _whole(),
    ),
)

H200_WHOLE = NodeKind(
    family="gpu-h200",
    board=H200_141,
    mig_strategy="none",
    exporter=ExporterVersion.V4_7,
    driver_version="580.105.08",
    pci_buses=_HGX_H100_BUSES,
    prometheus_sets_pod_labels=True,
    gpus=(
        *(_whole("qwen3-235b") for _ in range(4)),
        _whole("mistral-small-24b", is_badly_cooled=True),
        _whole("ollama-playground"),
        _whole("e5-mistral"),
        _whole(),
    ),
)

L40S_WHOLE = NodeKind(
    family="gpu-l40s",
    board=L40S,
    mig_strategy="none",
    exporter=ExporterVersion.V4_5,
    driver_version="570.172.08",
    pci_buses=_PCIE_SERVER_BUSES,
    extended_profiling=False,
    prometheus_sets_pod_labels=True,
    gpus=(
        _whole("qwen-7b"),
        _whole("qwen-7b"),
        _whole("ollama-playground"),
        _whole("ollama-research"),
        _whole("bge-reranker"),
        _whole("codellama-34b-old"),
        _whole(),
        _whole(),
    ),
)

NODE_KINDS: tuple[NodeKind, ...] = (A100_MIXED, H100_MIXED, H100_SINGLE, H100_WHOLE, H200_WHOLE, L40S_WHOLE)

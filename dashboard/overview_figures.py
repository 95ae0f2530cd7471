"""The numbers of the overview and of the report, from one fleet snapshot and the health of its sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dashboard import formatting
from dashboard.data_age import DataAge, span_of
from dashboard.token_figures import TokenFlow, token_flow
from planner import efficiency
from planner.efficiency import BusyDevice, Funnel, StateCount, WastefulDevice
from planner.fleet import Fleet
from store.join import JoinedCluster
from store.queries import SourceHealth

LISTED_DEVICES = 8
LISTED_SOURCES = 12
ROUNDING_GPUS = 1e-6  # what adding sevenths may leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old the store's newest reading is, and how many targets answer."""

    last_observed_at: datetime | None
    is_stale: bool
    reason: str
    targets_ok: int
    targets_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One target of one source: how it does, what it lacks, and what is wrong with it ("" when nothing is)."""

    health: SourceHealth
    gap_reasons: tuple[str, ...]
    trouble: str

    @property
    def is_fresh(self) -> bool:
        """Whether it answers and what it says is about now."""
        return not self.trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelStep:
    """One step from what there is to what computes; `gpus` is None where it cannot be known."""

    name: str
    meaning: str
    gpus: float | None
    share: float | None
    absent_because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything the overview shows; the report shows the same object."""

    taken_at: datetime
    window_s: float
    has_gpus: bool
    data_age: DataAge | None
    freshness: Freshness
    funnel_steps: tuple[FunnelStep, ...]
    funnel_notes: tuple[str, ...]
    states: tuple[StateCount, ...]
    uncut_gpus: float  # compute slices of cut GPUs that no GPU instance has: in Total and in no state
    busiest: tuple[BusyDevice, ...]
    wasteful: tuple[WastefulDevice, ...]
    nothing_wasteful: str  # what an empty list of waste means
    tokens: TokenFlow | None  # None where no engine is read
    sources: tuple[SourceRow, ...]
    sources_more: int


def overview(
    fleet: Fleet,
    sources: Sequence[SourceRow],
    freshness: Freshness,
    window: timedelta,
    clusters: Sequence[JoinedCluster] = (),
) -> Overview:
    """The overview of one snapshot; troubled sources come first and healthy ones are cut at a screenful."""
    funnel = efficiency.funnel(fleet)
    ordered = sorted(sources, key=lambda row: row.is_fresh)
    return Overview(
        taken_at=fleet.taken_at,
        window_s=window.total_seconds(),
        has_gpus=bool(funnel.total_gpus),
        data_age=data_age(fleet),
        freshness=freshness,
        funnel_steps=funnel_steps(funnel),
        funnel_notes=funnel_notes(funnel),
        states=tuple(efficiency.state_counts(fleet)),
        uncut_gpus=funnel.uncut_gpus if funnel.uncut_gpus > ROUNDING_GPUS else 0.0,
        busiest=tuple(efficiency.busiest(fleet, LISTED_DEVICES)),
        wasteful=tuple(efficiency.most_wasteful(fleet, LISTED_DEVICES)),
        nothing_wasteful=nothing_wasteful(funnel, window),
        tokens=token_flow(clusters),
        sources=tuple(ordered[:LISTED_SOURCES]),
        sources_more=max(0, len(ordered) - LISTED_SOURCES),
    )


def nothing_wasteful(funnel: Funnel, window: timedelta) -> str:
    """What it means that no device is listed as wasteful: an all-clear only for what could be judged."""
    if funnel.active_gpus is None:
        return "No device can be judged, so nothing can be said of waste."
    clear = f"Nothing that is held stood idle in the last {formatting.duration(window.total_seconds())}"
    if not funnel.unknown_gpus:
        return f"{clear}."
    unknown, total = formatting.number(funnel.unknown_gpus), formatting.number(funnel.total_gpus)
    return f"{clear}, as far as can be judged; unknown: {unknown} of {total} GPUs."


def data_age(fleet: Fleet) -> DataAge | None:
    """The span from the oldest to the newest among each device's newest reading."""
    return span_of(max((o.observed_at for o in device.metrics.values()), default=None) for device in fleet.devices())


_ALL_UNKNOWN = "no device can be judged: all are unknown"


def funnel_steps(funnel: Funnel) -> tuple[FunnelStep, ...]:
    """The four steps, each with its share of all GPUs."""

    def step(name: str, meaning: str, gpus: float | None, absent_because: str = "") -> FunnelStep:
        share = None if gpus is None or not funnel.total_gpus else gpus / funnel.total_gpus
        return FunnelStep(name=name, meaning=meaning, gpus=gpus, share=share, absent_because=absent_because)

    return (
        step("Total", "every GPU in the inventory", funnel.total_gpus),
        step("Allocated", "a pod holds it, or work was seen on it", funnel.allocated_gpus),
        step("Active", "work was measured in the window", funnel.active_gpus, _ALL_UNKNOWN),
        step(
            "Effective",
            "active × mean SM activity",
            funnel.effective_gpus,
            _ALL_UNKNOWN
            if funnel.active_gpus is None
            else "no active GPU reports SM activity (DCGM profiling field sm_active)",
        ),
    )


def funnel_notes(funnel: Funnel) -> tuple[str, ...]:
    """What the funnel leaves out, said beside it."""
    notes = []
    if funnel.unknown_gpus:
        unknown = formatting.number(funnel.unknown_gpus)
        notes.append(f"{unknown} GPUs are not measurable; whatever they do is in neither Active nor Effective.")
    if funnel.effective_unmeasured_gpus:
        unmeasured = formatting.number(funnel.effective_unmeasured_gpus)
        notes.append(f"{unmeasured} active GPUs report no SM activity and are not part of Effective.")
    return tuple(notes)

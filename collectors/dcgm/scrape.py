"""One scrape of one exporter to readings, facts and gaps, whichever road it came by.

Values are keyed by (GPU, GPU instance). What DCGM repeats is taken once: whole-GPU fields on every instance's line, and
every field on each pod's line of a shared GPU (a line without a pod wins, else the largest value). Nothing is summed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

from collectors.dcgm.gaps import GapBook
from collectors.dcgm.metrics import RANK, Implausible, MetricRow, is_dcgm, plausible, rows_of_scrape
from collectors.dcgm.mig_mode import MIG_MODE_FAMILY, NOT_UNDER_MIG, GpuSigns, judge_mig_mode, told_mode
from collectors.dcgm.placements import DEVICES_FAMILY, placement_starts
from collectors.dcgm.wire import Line
from planner.hardware import MigMode
from planner.metrics import BY_NAME, Level
from planner.readings import GpuFact, InstanceFact, PodFact, Reading, Subject
from planner.units import GpuUuid, NodeName

T = TypeVar("T")

Value = tuple[str, float | None, str]
"""Source name, number (None when it is not one) and the text it was read from."""

EXPECTED_METRICS = (
    "gpu_busy_ratio",
    "memory_used_bytes",
    "memory_free_bytes",
    "memory_total_bytes",
    "gr_engine_active_ratio",
    "sm_active_ratio",
    "tensor_active_ratio",
    "dram_active_ratio",
    "temperature_celsius",
    "power_watts",
)
"""Metrics whose absence is said: pages and advice rest on them. Others are simply not there."""

PROFILE_UNKNOWN = "unknown"

_WHOLE_GPU = frozenset(name for name, metric in BY_NAME.items() if metric.level is Level.GPU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """What one exporter said at one moment."""

    observed_at: datetime
    node: NodeName
    lines: Sequence[tuple[Line, Sequence[Value]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """A scrape in the planner's words. `strangers` counts the families that are not DCGM's."""

    readings: tuple[Reading, ...]
    facts: tuple[GpuFact, ...]
    strangers: int


class _Candidate(NamedTuple):  # made for every value: a frozen dataclass takes three times as long
    """One of several values for one (device, metric); the one with the lowest `order` is taken."""

    rank: int  # row of the table: newer names first
    is_instance: bool
    is_per_pod: bool
    value: float

    @property
    def order(self) -> tuple[int, bool, bool, float]:
        return (self.rank, self.is_instance, self.is_per_pod, -self.value)


@dataclass(slots=True)
class _Gpu:
    lines: list[Line] = field(default_factory=list)
    instances: set[int] = field(default_factory=set)
    told_mode: MigMode | None = None

    @property
    def is_under_mig(self) -> bool:
        """Whether MIG mode is on for certain, not by inference."""
        return bool(self.instances) or self.told_mode is MigMode.ENABLED


def understand(scrape: Scrape, gaps: GapBook) -> Understood:
    """Readings and facts of a scrape; what it lacks goes into `gaps`."""
    gpus: dict[GpuUuid, _Gpu] = defaultdict(_Gpu)
    for line, _ in scrape.lines:
        gpu = gpus[line.subject.gpu_uuid]
        gpu.lines.append(line)
        if line.subject.gi_id is not None:
            gpu.instances.add(line.subject.gi_id)
    by_name = _values_by_name(scrape.lines)
    rows = rows_of_scrape(by_name)
    if MIG_MODE_FAMILY in by_name:
        _add_told_modes(gpus, scrape.lines)
    starts = placement_starts(scrape.lines) if DEVICES_FAMILY in by_name else {}
    candidates, failures = _convert(scrape.lines, rows, gaps)
    values: dict[tuple[Subject, str], float] = {}
    for (subject, metric), choices in candidates.items():
        if metric in NOT_UNDER_MIG and gpus[subject.gpu_uuid].is_under_mig:
            continue  # old exporters write 0 where there is nothing to measure
        best = choices[0] if len(choices) == 1 else min(choices, key=lambda choice: choice.order)
        values[subject, metric] = best.value
    for (subject, metric), reason in failures.items():
        if (subject, metric) not in values:
            gaps.note(subject, metric, reason)
    _add_memory_total(values)
    signs = {uuid: _signs(uuid, gpu, values) for uuid, gpu in gpus.items()}
    modes = {
        uuid: judge_mig_mode(own, [signs[other] for other in signs if other != uuid]) for uuid, own in signs.items()
    }
    for uuid, gpu in gpus.items():
        _note_missing(uuid, gpu, modes[uuid], values.keys() | failures.keys(), gaps)
    return Understood(
        readings=tuple(
            Reading(subject=subject, metric=metric, value=value, observed_at=scrape.observed_at)
            for (subject, metric), value in values.items()
        ),
        facts=tuple(_fact(uuid, gpu, scrape, modes[uuid], starts) for uuid, gpu in gpus.items()),
        strangers=len({name for _, values_ in scrape.lines for name, _, _ in values_ if not is_dcgm(name)}),
    )


def _add_told_modes(gpus: Mapping[GpuUuid, _Gpu], lines: Iterable[tuple[Line, Sequence[Value]]]) -> None:
    told: dict[GpuUuid, list[float]] = defaultdict(list)
    for line, samples in lines:
        for name, number, _ in samples:
            if name == MIG_MODE_FAMILY and number is not None:
                told[line.subject.gpu_uuid].append(number)
    for uuid, values in told.items():
        gpus[uuid].told_mode = told_mode(values)


def _values_by_name(lines: Iterable[tuple[Line, Sequence[Value]]]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for _, samples in lines:
        for name, number, _ in samples:
            if number is not None:
                values[name].append(number)
    return values


def _convert(
    lines: Iterable[tuple[Line, Sequence[Value]]], rows: Mapping[str, MetricRow], gaps: GapBook
) -> tuple[dict[tuple[Subject, str], list[_Candidate]], dict[tuple[Subject, str], str]]:
    """Every plausible value in base units under its subject, and why the others are none."""
    # By subject and then by metric: a subject is looked up once per line, not once per value.
    candidates: dict[Subject, dict[str, list[_Candidate]]] = {}
    failures: dict[tuple[Subject, str], str] = {}
    for line, samples in lines:
        own, whole = line.subject, Subject(gpu_uuid=line.subject.gpu_uuid)
        of_own = candidates.setdefault(own, {})
        of_whole = candidates.setdefault(whole, {})
        is_instance, is_per_pod = own.gi_id is not None, line.is_per_pod
        seen: dict[str, Value] = {}
        for sample in samples:
            name, number, text = sample
            row = rows.get(name)
            if row is None:
                continue
            metric = row.metric
            subject, values = (whole, of_whole) if metric in _WHOLE_GPU else (own, of_own)
            first = seen.setdefault(name, sample)
            if first is not sample and first[1] != number and first[2] != text:
                # NaN differs from itself, 60 is spelled 60.0 as well
                gaps.note(subject, metric, f"{name} is given twice with different values; the larger is kept")
            if number is None:
                failures[subject, metric] = f"{name} is not a number: {text!r}"
                continue
            try:
                value = row.convert(plausible(number))
            except Implausible as error:
                failures[subject, metric] = f"{name}: {error}"
                continue
            candidate = _Candidate(RANK[name], is_instance, is_per_pod, value)
            known = values.get(metric)
            if known is None:
                values[metric] = [candidate]
            else:
                known.append(candidate)
    found = {(subject, metric): choices for subject, values in candidates.items() for metric, choices in values.items()}
    return found, failures


def _add_memory_total(values: dict[tuple[Subject, str], float]) -> None:
    """Total = used + free + reserved where all three are given; it beats the total as reported.

    Source: dcgm-exporter's default counter list has no total before 4.9.0.
    """
    for subject in {subject for subject, metric in values if metric == "memory_reserved_bytes"}:
        parts = [values.get((subject, f"memory_{part}_bytes")) for part in ("used", "free", "reserved")]
        given = [part for part in parts if part is not None]
        if len(given) == len(parts):
            values[subject, "memory_total_bytes"] = sum(given)


def _devices(uuid: GpuUuid, gpu: _Gpu) -> Iterator[Subject]:
    if gpu.instances:
        for gi_id in sorted(gpu.instances):
            yield Subject(gpu_uuid=uuid, gi_id=gi_id)
    else:
        yield Subject(gpu_uuid=uuid)


def _note_missing(
    uuid: GpuUuid, gpu: _Gpu, mode: MigMode | None, told: Set[tuple[Subject, str]], gaps: GapBook
) -> None:
    """Say what a GPU and its devices lack; `told` has what they gave, plausible or not."""
    whole = Subject(gpu_uuid=uuid)
    is_empty = mode is MigMode.ENABLED and not gpu.instances
    if mode is MigMode.ENABLED:
        for metric in NOT_UNDER_MIG:
            gaps.note(whole, metric, "not available under MIG")
    for metric in EXPECTED_METRICS:
        if metric in NOT_UNDER_MIG and mode is MigMode.ENABLED:
            continue
        if is_empty and BY_NAME[metric].level is Level.DEVICE:
            if (whole, metric) not in told:
                gaps.note(whole, metric, "MIG mode is on and no GPU instance is made")
            continue
        for subject in [whole] if BY_NAME[metric].level is Level.GPU else _devices(uuid, gpu):
            gaps.expect(subject, metric, is_given=(subject, metric) in told)


def _signs(uuid: GpuUuid, gpu: _Gpu, values: Mapping[tuple[Subject, str], float]) -> GpuSigns:
    whole = Subject(gpu_uuid=uuid)
    used = "memory_used_bytes"
    return GpuSigns(
        has_instances=bool(gpu.instances),
        has_utilisation=(whole, "gpu_busy_ratio") in values,
        has_framebuffer=(whole, used) in values,
        has_instance_framebuffer=any((Subject(gpu_uuid=uuid, gi_id=gi_id), used) in values for gi_id in gpu.instances),
        is_alive=(whole, "power_watts") in values and (whole, "temperature_celsius") in values,
        model_name=_first(line.labels.model_name for line in gpu.lines),
        told_mode=gpu.told_mode,
    )


def _fact(uuid: GpuUuid, gpu: _Gpu, scrape: Scrape, mode: MigMode | None, starts: Mapping[Subject, int]) -> GpuFact:
    profiles: dict[int, str] = dict.fromkeys(gpu.instances, PROFILE_UNKNOWN)
    for line in gpu.lines:
        if line.subject.gi_id is not None and line.labels.gi_profile is not None:
            profiles[line.subject.gi_id] = line.labels.gi_profile
    return GpuFact(
        observed_at=scrape.observed_at,
        gpu_uuid=uuid,
        node=scrape.node,
        index=_first(line.labels.gpu for line in gpu.lines),
        model_name=_first(line.labels.model_name for line in gpu.lines),
        pci_bus_id=_first(line.labels.pci_bus_id for line in gpu.lines),
        driver_version=_first(line.labels.driver_version for line in gpu.lines),
        mig_mode=mode,
        instances=tuple(
            InstanceFact(gi_id=gi_id, profile=profile, start=starts.get(Subject(gpu_uuid=uuid, gi_id=gi_id)))
            for gi_id, profile in sorted(profiles.items())
        ),
        pods=_pods(gpu.lines),
    )


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _pods(lines: Iterable[Line]) -> tuple[PodFact, ...]:
    """Every pod once per device; all are `shared` where a device has several."""
    by_device: dict[int | None, dict[tuple[str, str, str | None], PodFact]] = defaultdict(dict)
    for line in lines:
        pod = line.pod
        if pod is not None:
            by_device[pod.gi_id].setdefault((pod.namespace, pod.name, pod.container), pod)
    return tuple(
        PodFact(
            gi_id=pod.gi_id,
            namespace=pod.namespace,
            name=pod.name,
            container=pod.container,
            uid=pod.uid,
            shared=len({(other.namespace, other.name) for other in pods.values()}) > 1,
        )
        for _, pods in sorted(by_device.items(), key=lambda item: -1 if item[0] is None else item[0])
        for _, pod in sorted(pods.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or ""))
    )

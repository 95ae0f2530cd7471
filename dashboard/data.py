"""What pages and reports read of what was collected: the only caller of store queries, and no word of Streamlit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from dashboard import chain_figures, gpu_figures, overview_figures
from dashboard.chain_figures import GpuChains
from dashboard.charts import HeatMap, Line
from dashboard.data_age import DataAge
from dashboard.formatting import duration
from dashboard.gpu_figures import GpuDetail, GpuRow
from dashboard.overview_figures import Freshness, Overview, SourceRow
from planner.advice import Advice, advise
from planner.fleet import Fleet
from planner.readings import Subject
from store import queries
from store.database import open_engine
from store.errors import StoreCorrupt, StoreError, StoreMissing, StoreOutdated
from store.fleet_snapshot import JoinedFleet, take_joined, take_snapshot

HISTORY_POINTS = 400  # per line: about one per two pixels of a chart that is half a page wide
HEAT_MAP_POINTS = 120
HEAT_MAP_ROWS = 48  # more devices than that are shown by node

MISSED_INTERVALS = 3.0
"""A target is overdue when it has been silent for this many of its intervals: one slow answer is no trouble."""

STALE_AFTER_S = 90.0
"""At the least: a source read every second is not stale after three of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreProblem:
    """Why there is nothing to show and what to do about it, in words for people."""

    title: str
    lines: tuple[str, ...]
    command: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceFigures:
    """The advice with the age of its readings, and its sums; GPUs without advice are in none of them."""

    advice: Advice
    data_age: DataAge | None
    gpus_now: int
    gpus_needed: int
    gpus_freed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryChart:
    """One chart of a device's past."""

    title: str
    metric: str
    lines: tuple[Line, ...]
    start: datetime
    end: datetime


def open_store(url: str) -> Engine:
    """The store, for reading only. Raises StoreMissing, StoreOutdated."""
    return open_engine(url, read_only=True)


def version(engine: Engine) -> str:
    """Changes whenever something was collected."""
    return queries.data_version(engine)


def store_problem(error: StoreError) -> StoreProblem:
    """What to tell somebody whose store cannot be read."""
    if isinstance(error, StoreMissing):
        return StoreProblem(
            title="There is no store yet",
            lines=(
                str(error),
                "The dashboard only reads; a collector writes what it shows. To look around with a simulated fleet:",
            ),
            command="gpufleet run --demo",
        )
    if isinstance(error, StoreOutdated):
        return StoreProblem(
            title="The store and this dashboard are of different versions", lines=(str(error),), command="gpufleet run"
        )
    if isinstance(error, StoreCorrupt):
        return StoreProblem(title="The store is damaged", lines=(str(error),), command=None)
    return StoreProblem(
        title="The store cannot be read right now",
        lines=(str(error), "This page tries again on its own."),
        command=None,
    )


def no_gpus_yet(sources: Sequence[SourceRow]) -> StoreProblem:
    """What to tell somebody whose store is there and empty."""
    if not sources:
        return StoreProblem(
            title="Nothing has been collected yet",
            lines=(
                "The store is there and empty.",
                "Point gpufleet at your Prometheus or at a dcgm-exporter, or let it look for what there is:",
            ),
            command="gpufleet run --prometheus http://prometheus:9090\n"
            "gpufleet run --dcgm http://node-a:9400/metrics\n"
            "gpufleet init && gpufleet run",
        )
    return StoreProblem(
        title="No GPU has been seen yet",
        lines=(
            f"{len(sources)} targets were tried and none has named a GPU so far.",
            "Look at source health on the overview for what they answered, or check the configuration:",
        ),
        command="gpufleet check-config gpufleet.toml",
    )


def snapshot(engine: Engine, now: datetime, window: timedelta) -> Fleet:
    """The fleet as it is at `now`, judged by the `window` before."""
    return take_snapshot(engine, now, window=window)


def joined(engine: Engine, now: datetime, window: timedelta) -> JoinedFleet:
    """The same with the join behind it: who is on each device, and what is put down to none."""
    return take_joined(engine, now, window=window)


def sources(engine: Engine, now: datetime) -> tuple[SourceRow, ...]:
    """Health of every target, with the reasons of its open gaps."""
    reasons: dict[tuple[str, str, str], dict[str, None]] = {}
    for gap in queries.open_gaps(engine):
        reasons.setdefault((gap.cluster, gap.source, gap.target), {})[gap.reason] = None
    return tuple(
        _source_row(health, tuple(reasons.get((health.cluster, health.source, health.target), ())), now)
        for health in queries.source_health(engine, now)
    )


def _source_row(health: queries.SourceHealth, gap_reasons: tuple[str, ...], now: datetime) -> SourceRow:
    allowed_s = overdue_after_s(health.interval_s)
    silent_s = None if health.last_success_at is None else (now - health.last_success_at).total_seconds()
    if not health.is_ok:
        trouble = "the last attempt failed"
    elif silent_s is None or silent_s > allowed_s:
        trouble = f"is read every {duration(health.interval_s)} and has not been for {duration(silent_s)}"
    elif health.age_s is not None and health.age_s > allowed_s:
        trouble = f"answers, with readings that are {duration(health.age_s)} old"
    else:
        trouble = ""
    return SourceRow(health=health, gap_reasons=gap_reasons, trouble=trouble)


def overdue_after_s(interval_s: float) -> float:
    """How long a target may be silent before that is worth saying."""
    return max(STALE_AFTER_S, MISSED_INTERVALS * interval_s)


def freshness(engine: Engine, sources: Sequence[SourceRow], now: datetime) -> Freshness:
    """How old the newest reading of the whole store is, measured by the interval of what is read most often."""
    newest = queries.last_observed_at(engine)
    allowed_s = overdue_after_s(min((row.health.interval_s for row in sources), default=0.0))
    age_s = None if newest is None else (now - newest).total_seconds()
    is_stale = age_s is None or age_s > allowed_s
    return Freshness(
        last_observed_at=newest,
        is_stale=is_stale,
        reason=f"nothing newer for {duration(age_s)}, so what follows is the past" if is_stale else "",
        targets_ok=sum(row.is_fresh for row in sources),
        targets_total=len(sources),
    )


def overview(fleet: JoinedFleet, sources: Sequence[SourceRow], freshness: Freshness, window: timedelta) -> Overview:
    """Everything the overview and the report show of one snapshot."""
    return overview_figures.overview(fleet.fleet, sources, freshness, window, fleet.clusters)


def advice(engine: Engine, now: datetime, window: timedelta) -> AdviceFigures:
    """The advice from what was measured in the window."""
    fleet = snapshot(engine, now, window)
    found = advise(fleet)
    return AdviceFigures(
        advice=found,
        data_age=overview_figures.data_age(fleet),
        gpus_now=sum(board.gpus_now for board in found.boards),
        gpus_needed=sum(board.gpus_needed for board in found.boards),
        gpus_freed=sum(board.gpus_freed for board in found.boards),
    )


def gpu_rows(fleet: Fleet) -> tuple[GpuRow, ...]:
    """Every GPU, in the order of the fleet."""
    return gpu_figures.gpu_rows(fleet)


def gpu_detail(engine: Engine, fleet: Fleet, uuid: str) -> GpuDetail | None:
    """All there is to say about one GPU, with the reasons of what it does not report."""
    cluster = next((node.cluster for node in fleet.nodes for gpu in node.gpus if gpu.uuid == uuid), None)
    gaps = ((gap.subject, gap.metric, gap.reason) for gap in queries.open_gaps(engine) if gap.cluster == cluster)
    return gpu_figures.gpu_detail(fleet, uuid, gaps)


def gpu_chains(fleet: JoinedFleet, uuid: str) -> GpuChains | None:
    """Who is behind each device of one GPU, link by link."""
    return chain_figures.gpu_chains(fleet, uuid)


_ENGINES = ("sm_active_ratio", "gr_engine_active_ratio", "gpu_busy_ratio", "tensor_active_ratio", "dram_active_ratio")
_MEMORY = ("memory_used_bytes", "memory_total_bytes")


def histories(
    engine: Engine, detail: GpuDetail, gi_id: int | None, now: datetime, window: timedelta
) -> tuple[HistoryChart, ...]:
    """Activity, memory, power and temperature of one device; of a whole cut GPU, activity and memory by instance.

    Power and temperature are of the whole GPU, also when an instance is looked at: nothing measures them per instance.
    """
    start = now - window

    def lines(subject_gi: int | None, metrics: Sequence[str], names: Sequence[str]) -> list[Line]:
        subject = Subject(gpu_uuid=detail.gpu.uuid, gi_id=subject_gi)
        history = queries.device_history(
            engine, subject, metrics, start, now, max_points=HISTORY_POINTS, cluster=detail.cluster
        )
        drawn = [
            Line(name=name, metric=metric, times=history.times, values=history.values.get(metric, ()))
            for metric, name in zip(metrics, names, strict=True)
        ]
        return [line for line in drawn if any(value is not None for value in line.values)]

    def chart(title: str, metric: str, drawn: Iterable[Line]) -> HistoryChart:
        return HistoryChart(title=title, metric=metric, lines=tuple(drawn), start=start, end=now)

    if detail.gpu.instances and gi_id is None:
        by_metric: dict[str, list[Line]] = {}
        for instance in detail.gpu.instances:
            title = f"{instance.profile}#{instance.gi_id}"
            wanted = (*gpu_figures.ACTIVITY_METRICS, "memory_used_bytes")
            for line in lines(instance.gi_id, wanted, [title] * len(wanted)):
                by_metric.setdefault(line.metric, []).append(line)
        best = max(gpu_figures.ACTIVITY_METRICS, key=lambda metric: len(by_metric.get(metric, ())))
        activity = chart(f"{gpu_figures.ACTIVITY_NAMES[best]} by GPU instance", best, by_metric.get(best, ()))
        memory = chart("Memory used by GPU instance", "memory_used_bytes", by_metric.get("memory_used_bytes", ()))
    else:
        names = ("SM", "graphics engine", "any kernel", "tensor", "DRAM")
        activity = chart("Activity", "sm_active_ratio", lines(gi_id, _ENGINES, names))
        memory = chart("Memory", "memory_used_bytes", lines(gi_id, _MEMORY, ("used", "total")))
    return (
        activity,
        memory,
        chart("Power of the whole GPU", "power_watts", lines(None, ("power_watts",), ("power",))),
        chart(
            "Temperature of the whole GPU",
            "temperature_celsius",
            lines(None, ("temperature_celsius", "memory_temperature_celsius"), ("GPU", "memory")),
        ),
    )


def heat_map(engine: Engine, rows: Sequence[GpuRow], now: datetime, window: timedelta) -> HeatMap | None:
    """Activity over time of these GPUs: a row per device, or per node where that would be too many to read."""
    nodes = sorted({row.node for row in rows})
    wanted = {row.uuid for row in rows}
    if not wanted:
        return None
    grid = queries.node_activity(engine, now - window, now, max_points=HEAT_MAP_POINTS, nodes=nodes)
    devices = [device for device in grid.devices if device.subject.gpu_uuid in wanted]
    if not any(value is not None for device in devices for value in device.values):
        return None
    if len(devices) <= HEAT_MAP_ROWS:
        names = [
            f"{d.node}/{'?' if d.gpu_index is None else d.gpu_index}"
            + ("" if d.profile is None else f" {d.profile}#{d.subject.gi_id}")
            for d in devices
        ]
        return HeatMap(title="Activity by device", rows=names, times=grid.times, values=[d.values for d in devices])
    by_node: dict[tuple[str, str], list[queries.DeviceActivity]] = {}
    for device in devices:
        by_node.setdefault((device.cluster, device.node), []).append(device)
    values = [[_mean(column) for column in zip(*(d.values for d in group), strict=True)] for group in by_node.values()]
    title = "Activity by node (mean over its measured devices)"
    return HeatMap(title=title, rows=[node for _, node in by_node], times=grid.times, values=values)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

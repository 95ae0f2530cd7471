"""The tables of the pages and the report as CSV, in base units, safe to open in a spreadsheet."""

import csv
import io
from dataclasses import dataclass

from dashboard.mig_drawing import pods_text
from dashboard.overview_figures import Overview
from planner.advice import Advice
from planner.fleet import Pod

Value = str | float | int | bool | None

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvTable:
    """One table by name; absent is an empty field."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def csv(self) -> str:
        """The table as text, RFC 4180 with CRLF."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self.header)
        writer.writerows([_field(value) for value in row] for row in self.rows)
        return text.getvalue()


def _field(value: Value) -> str:
    """A name that a spreadsheet would run as a formula gets an apostrophe before it; numbers stay numbers.

    Source: OWASP, "CSV Injection".
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return repr(value) if isinstance(value, float) else str(value)


def overview_tables(overview: Overview) -> tuple[CsvTable, ...]:
    """Funnel, states, waste, busiest and sources."""
    return (
        CsvTable(
            name="funnel",
            header=("step", "gpus", "share_ratio", "meaning"),
            rows=tuple((step.name, step.gpus, step.share, step.meaning) for step in overview.funnel_steps),
        ),
        CsvTable(
            name="states",
            header=("state", "devices", "gpus"),
            rows=(
                *((count.state.value, count.devices, count.gpus) for count in overview.states),
                ("in no GPU instance", None, overview.uncut_gpus),
            ),
        ),
        CsvTable(
            name="waste",
            header=("device", "gpu_uuid", "gi_id", "board", "pods", "state", "idle_gpus", "idle_gpu_s", "reason"),
            rows=tuple(
                (d.name, d.uuid, d.gi_id, d.board, _pods(d.pods), d.state.value, d.idle_gpus, d.idle_gpu_s, d.reason)
                for d in overview.wasteful
            ),
        ),
        CsvTable(
            name="busiest",
            header=("device", "gpu_uuid", "gi_id", "board", "pods", "state", "metric", "mean_ratio", "p95_ratio"),
            rows=tuple(
                (d.name, d.uuid, d.gi_id, d.board, _pods(d.pods), d.state.value, d.metric, d.mean_ratio, d.p95_ratio)
                for d in overview.busiest
            ),
        ),
        CsvTable(
            name="sources",
            header=(
                "cluster", "source", "kind", "target", "trouble", "last_success_at", "last_observed_at",
                "consecutive_failures", "error_kind", "error", "open_gaps",
            ),
            rows=tuple(
                (
                    row.health.cluster, row.health.source, row.health.kind, row.health.target, row.trouble,
                    row.health.last_success_at.isoformat() if row.health.last_success_at else None,
                    row.health.last_observed_at.isoformat() if row.health.last_observed_at else None,
                    row.health.consecutive_failures, row.health.error_kind, row.health.error, row.health.open_gaps,
                )
                for row in overview.sources
            ),
        ),
    )  # fmt: skip


def advice_tables(advice: Advice) -> tuple[CsvTable, ...]:
    """Boards, layouts and assignments of the advice."""
    return (boards(advice), layouts(advice), assignments(advice))


def boards(advice: Advice) -> CsvTable:
    """One row per board: GPUs now, needed and proven."""
    return CsvTable(
        name="advice",
        header=("cluster", "board", "gpus_total", "gpus_now", "gpus_needed", "gpus_freed", "lower_bound", "is_optimal"),
        rows=tuple(
            (
                b.cluster,
                b.board.name,
                b.gpus_total,
                b.gpus_now,
                b.gpus_needed,
                b.gpus_freed,
                b.lower_bound,
                b.is_optimal,
            )
            for b in advice.boards
        ),
    )


def layouts(advice: Advice) -> CsvTable:
    """One row per proposed layout."""
    return CsvTable(
        name="layouts",
        header=("cluster", "board", "gpus", "layout", "free_units"),
        rows=tuple(
            (
                board.cluster,
                board.board.name,
                proposed.gpus,
                "whole GPU" if proposed.is_whole else " ".join(f"{p.profile}@{p.placement}" for p in proposed.layout),
                proposed.free_units,
            )
            for board in advice.boards
            for proposed in board.layouts
        ),
    )


def assignments(advice: Advice) -> CsvTable:
    """One row per piece of work: from where to where, and why."""
    return CsvTable(
        name="assignments",
        header=(
            "cluster", "board", "device", "gpu_uuid", "gi_id", "pods", "from_profile", "to_profile", "gpu_number",
            "placement", "memory_bytes", "memory_basis", "sm_count", "compute_basis", "reasons",
        ),
        rows=tuple(
            (
                board.cluster, board.board.name, a.device, a.uuid, a.gi_id, _pods(a.pods),
                a.from_profile, a.to_profile, a.gpu_number, None if a.placement is None else str(a.placement),
                a.need.memory_bytes, a.need.memory_basis.value, a.need.sm_count, a.need.compute_basis.value,
                " ".join(a.reasons),
            )
            for board in advice.boards
            for a in board.assignments
        ),
    )  # fmt: skip


def _pods(pods: tuple[Pod, ...]) -> str | None:
    return pods_text(pods) if pods else None

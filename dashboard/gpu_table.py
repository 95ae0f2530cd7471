"""The GPU table: what it can be narrowed down by, and its rows as the frame that is shown."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import pandas as pd

from dashboard.data_age import DataAge, span_of
from dashboard.gpu_figures import GpuRow
from dashboard.palette import STATES
from planner.units import GIB

FILTERS = ("cluster", "node", "board", "state")

_UNKNOWN_BOARD = "not in the catalogue"


def _key(row: GpuRow, name: str) -> str:
    match name:
        case "board":
            return row.board or _UNKNOWN_BOARD
        case "state":
            return row.state.value
        case _:
            return str(getattr(row, name))


def choices(rows: Sequence[GpuRow]) -> dict[str, list[str]]:
    """What each filter can be set to, in order of first appearance."""
    return {name: list(dict.fromkeys(_key(row, name) for row in rows)) for name in FILTERS}


def matching(rows: Sequence[GpuRow], chosen: Mapping[str, Sequence[str]]) -> tuple[GpuRow, ...]:
    """Rows that match every filter; an empty filter matches all."""
    return tuple(row for row in rows if all(not picked or _key(row, name) in picked for name, picked in chosen.items()))


def row_ages(rows: Sequence[GpuRow]) -> DataAge | None:
    """The span of ages behind the rows."""
    return span_of(row.observed_at for row in rows)


def gpu_frame(rows: Sequence[GpuRow], now: datetime) -> pd.DataFrame:
    """One line per GPU in the units people read; absent stays absent."""
    clusters = len({row.cluster for row in rows}) > 1
    columns: dict[str, list[object]] = {}
    if clusters:
        columns["Cluster"] = [row.cluster for row in rows]
    columns |= {
        "Node": [row.node for row in rows],
        "#": [row.index for row in rows],
        "Board": [row.board for row in rows],
        "State": [f"{STATES[row.state].sign} {STATES[row.state].label}" for row in rows],
        "Activity": [None if row.activity is None else row.activity.ratio * 100 for row in rows],
        "Memory": [_share(row.memory_used_bytes, row.memory_total_bytes) for row in rows],
        "Memory GiB": [None if row.memory_used_bytes is None else row.memory_used_bytes / GIB for row in rows],
        "Model": [row.models or None for row in rows],
        "Tokens/s": [row.tokens_per_s for row in rows],
        "Power W": [row.power_watts for row in rows],
        "°C": [row.temperature_celsius for row in rows],
        "Xid": [row.xid_code for row in rows],
        "Instances": [row.instances for row in rows],
        "Age s": [None if row.observed_at is None else (now - row.observed_at).total_seconds() for row in rows],
        "Pods": [row.pods or None for row in rows],
        "Why no tokens/s": [row.no_rate for row in rows],
        "UUID": [row.uuid for row in rows],
    }
    frame = pd.DataFrame(columns)
    numbers = ["#", "Activity", "Memory", "Memory GiB", "Tokens/s", "Power W", "°C", "Xid", "Instances", "Age s"]
    return frame.astype(dict.fromkeys(numbers, "Float64"))


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole * 100

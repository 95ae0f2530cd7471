"""Plotly figures from data: history lines and the heat map; drawn as SVG, with gaps left open.

Names of nodes and pods are hostile: Plotly reads its own small HTML in every text, so each is escaped here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

import plotly.graph_objects as go

from dashboard.formatting import metric_value
from dashboard.palette import SERIES

MAX_POINTS = 2000
"""Per line: more than a screen has pixels, and few enough for SVG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a history chart; a value of None is a gap and stays one."""

    name: str
    metric: str
    times: Sequence[datetime]
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """How values of a metric become an axis people read: divided by `divisor`, with `unit` after the number."""

    divisor: float
    unit: str
    from_zero: bool = True
    most: float | None = None  # upper end where the quantity has one


AXES: dict[str, Axis] = {
    "_ratio": Axis(divisor=0.01, unit="%", most=100.0),
    "_bytes": Axis(divisor=1024.0**3, unit=" GiB"),
    "_watts": Axis(divisor=1.0, unit=" W"),
    "_celsius": Axis(divisor=1.0, unit=" °C", from_zero=False),
}


def axis_of(metric: str) -> Axis:
    """The axis for the unit that the metric's name ends with."""
    return next((axis for suffix, axis in AXES.items() if metric.endswith(suffix)), Axis(divisor=1.0, unit=""))


def history(lines: Sequence[Line], *, metric: str, title: str, start: datetime, end: datetime) -> go.Figure:
    """Lines over time on one axis; the whole window is shown even where nothing was measured."""
    axis = axis_of(metric)
    figure = go.Figure()
    for number, line in enumerate(lines):
        figure.add_trace(
            go.Scatter(  # not Scattergl: WebGL is slow or absent on many desks, and 2,000 points do not need it
                x=list(line.times),
                y=[None if value is None else value / axis.divisor for value in line.values],
                mode="lines",
                name=escape(line.name),
                line={"width": 1.6, "color": SERIES[number % len(SERIES)]},
                connectgaps=False,
                hovertemplate=f"%{{y:.1f}}{axis.unit}<extra>{escape(line.name)}</extra>",
            )
        )
    figure.update_layout(
        title={"text": escape(title), "font": {"size": 13}, "x": 0, "xanchor": "left"},
        height=285 if len(lines) > 1 else 230,
        margin={"l": 8, "r": 8, "t": 34, "b": 8},
        hovermode="x unified",
        showlegend=len(lines) > 1,
        legend={"orientation": "h", "y": -0.32, "yanchor": "top", "x": 0, "font": {"size": 11}},
        xaxis={"range": [start, end], "type": "date"},
        yaxis={"ticksuffix": axis.unit, "rangemode": "tozero" if axis.from_zero else "normal", "automargin": True},
    )
    if axis.most is not None:
        figure.update_yaxes(range=[0, axis.most * 1.04])
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Activity over time, one row each; None where nothing was measured."""

    title: str
    rows: Sequence[str]
    times: Sequence[datetime]
    values: Sequence[Sequence[float | None]]


def heat_map(data: HeatMap, *, scale: Sequence[tuple[float, str]]) -> go.Figure:
    """Rows by time, more ink is more activity; what was not measured stays blank."""
    figure = go.Figure(
        go.Heatmap(
            x=list(data.times),
            y=[escape(row) for row in data.rows],
            z=[[None if value is None else value * 100 for value in row] for row in data.values],
            zmin=0,
            zmax=100,
            colorscale=[list(step) for step in scale],
            colorbar={"ticksuffix": "%", "thickness": 10, "outlinewidth": 0, "len": 1.0},
            xgap=0,
            ygap=1,
            hoverongaps=False,
            hovertemplate="%{y}<br>%{x|%Y-%m-%d %H:%M} UTC<br>%{z:.0f}% active<extra></extra>",
        )
    )
    figure.update_layout(
        title={"text": escape(data.title), "font": {"size": 13}, "x": 0, "xanchor": "left"},
        height=max(190, min(1100, 90 + 20 * len(data.rows))),
        margin={"l": 8, "r": 8, "t": 34, "b": 8},
        yaxis={"autorange": "reversed", "type": "category", "automargin": True, "tickfont": {"size": 11}},
        xaxis={"type": "date"},
    )
    return figure


def history_alt(lines: Sequence[Line], title: str) -> str:
    """The chart in words: how far each line ranges and where it ends."""
    parts = []
    for line in lines:
        known = [value for value in line.values if value is not None]
        if known:
            least, most, last = (metric_value(line.metric, value) for value in (min(known), max(known), known[-1]))
            parts.append(f"{line.name} from {least} to {most}, last {last}")
        else:
            parts.append(f"{line.name}: no data")
    return f"{title}: " + ("; ".join(parts) or "no data")


def heat_map_alt(data: HeatMap) -> str:
    """The heat map in words: the newest value of each of the first rows."""
    parts = []
    for row, values in zip(data.rows[:20], data.values[:20], strict=True):
        newest = next((value for value in reversed(values) if value is not None), None)
        parts.append(f"{row} " + ("not measured" if newest is None else f"{newest:.0%}"))
    return f"{data.title}, newest values: " + "; ".join(parts)

"""What the page "Will it fit?" draws: bars of terms against what a device gives, and requests against their length."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Final

import plotly.graph_objects as go

from dashboard.formatting import bytes_text, number
from dashboard.palette import SERIES
from dashboard.will_it_fit_answer import CurvePoint, OptionBar
from planner.memory.estimate import Basis, Engine, Verdict

USABLE_AT: Final = 0.66
"""Where on the track the usable memory of every device lies: bars of small and large devices compare at one line."""

TERMS: Final = {
    "weights": ("Weights", "a"),
    "activation": ("Activation", "b"),
    "compute": ("Compute buffers", "b"),
    "non_torch": ("Outside of PyTorch", "c"),
    "context": ("CUDA context", "c"),
    "graphs": ("CUDA graphs", "d"),
    "lora": ("LoRA adapters", "e"),
    "states": ("States", "e"),
    "kv_cache": ("KV cache of all requests", "f"),
}
"""Names people read, and the tone of the style sheet that stands for the term."""

VERDICTS: Final = {
    Verdict.FITS: ("✓", "fits", "good"),
    Verdict.TIGHT: ("≈", "tight", "close"),
    Verdict.DOES_NOT_FIT: ("✕", "does not fit", "no"),
}
_MARK: Final = "#d9480f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One term on the track, in percent of its width."""

    label: str
    tone: str
    width: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One option as the list shows it; positions are percent of the track."""

    device: str
    takes: str
    price: str | None
    is_corrected: bool
    sign: str
    verdict: str
    tone: str
    numbers: str
    range_text: str
    reason: str
    segments: tuple[Segment, ...]
    usable: float
    device_end: float
    low: float
    high: float
    overflow: str | None
    spoken: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TermRow:
    """One line of the table of terms."""

    name: str
    tone: str
    size: str
    range_text: str
    basis: Basis
    source: str


def rows(bars: Sequence[OptionBar]) -> tuple[Row, ...]:
    """The list of options in the order given."""
    return tuple(_row(bar) for bar in bars)


def legend(bars: Sequence[OptionBar]) -> tuple[tuple[str, str], ...]:
    """Names and tones of the terms that occur, in the order of the bars."""
    seen = {part.name for bar in bars for part in bar.parts}
    return tuple(TERMS.get(name, (name, "e")) for name in TERMS if name in seen)


def _row(bar: OptionBar) -> Row:
    usable = max(bar.usable_bytes, 1)
    end = usable / USABLE_AT

    def at(size: float) -> float:
        return round(min(100.0, 100 * size / end), 2)

    segments = []
    filled = 0
    for part in bar.parts:
        label, tone = TERMS.get(part.name, (part.name, "e"))
        width = at(filled + part.bytes) - at(filled)
        filled += part.bytes
        if width > 0:
            segments.append(Segment(label=label, tone=tone, width=round(width, 2), text=bytes_text(part.bytes)))
    option = bar.option
    sign, verdict, tone = VERDICTS[option.verdict or Verdict.DOES_NOT_FIT]
    needs = f"{bytes_text(bar.need_bytes)} of {bytes_text(bar.usable_bytes)}"
    parts = ", ".join(f"{segment.label} {segment.text}" for segment in segments)
    return Row(
        device=option.device,
        takes=_takes(bar),
        price=None if option.price_usd_per_hour is None else usd_per_hour(option.price_usd_per_hour),
        is_corrected=is_corrected(bar),
        sign=sign,
        verdict=verdict,
        tone=tone,
        numbers=needs,
        range_text=f"{bytes_text(bar.low_bytes)} to {bytes_text(bar.high_bytes)}",
        reason=option.reason,
        segments=tuple(segments),
        usable=round(100 * USABLE_AT, 2),
        device_end=at(bar.device_bytes),
        low=at(bar.low_bytes),
        high=at(bar.high_bytes),
        overflow=f"{bar.need_bytes / usable:.1f} ×" if bar.need_bytes > end else None,
        spoken=f"{option.device}, {verdict}: {parts}; needs {needs}",
    )


def usd_per_hour(price: float) -> str:
    """`3.20 USD/h`; below ten cents with one digit more, as a small MIG device costs a share of its GPU."""
    return f"{price:,.2f} USD/h" if price >= 0.1 or price == 0 else f"{price:.3f} USD/h"


def is_corrected(bar: OptionBar) -> bool:
    """Whether measured runs changed a term of this option."""
    corrected = {one.term for one in bar.option.run.corrections} if bar.option.run else set()
    return any(part.name in corrected for part in bar.parts)


def _takes(bar: OptionBar) -> str:
    taken, gpus = bar.option.gpus_taken, bar.option.gpus
    if gpus > 1:
        return f"each of {gpus} GPUs"
    if taken is None or taken == 1:
        return "whole GPU"
    return f"{taken:.0%} of a GPU's memory"


def term_rows(bar: OptionBar) -> tuple[TermRow, ...]:
    """The terms of one option, the sum of its needs and what the device gives."""
    found = []
    for part in bar.parts:
        label, tone = TERMS.get(part.name, (part.name, "e"))
        found.append(
            TermRow(
                name=label,
                tone=tone,
                size=bytes_text(part.bytes),
                range_text=_range(part.low, part.high),
                basis=part.basis,
                source=part.source,
            )
        )
    return tuple(found)


def _range(low: int, high: int) -> str:
    least, most = bytes_text(low), bytes_text(high)
    return "exact" if least == most else f"{least} to {most}"


def curve_figure(points: Sequence[CurvePoint], *, context: int, concurrency: int, engine: Engine) -> go.Figure:
    """Requests at once over their length, in powers of two: the range as a band, the question as a mark."""
    most = max([concurrency, *(point.high for point in points)], default=1)
    contexts = [point.context for point in points]

    def shown(values: Sequence[float]) -> list[float]:
        return [max(value, 0.01) for value in values]

    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure = go.Figure()
    figure.add_trace(go.Scatter(x=contexts, y=shown([point.low for point in points]), **band))
    figure.add_trace(
        go.Scatter(
            x=contexts,
            y=shown([point.high for point in points]),
            fill="tonexty",
            fillcolor="rgba(108, 99, 199, 0.22)",
            **(band | {"name": "range", "showlegend": True}),
        )
    )
    step = engine is not Engine.VLLM
    figure.add_trace(
        go.Scatter(
            x=contexts,
            y=shown([point.middle for point in points]),
            mode="lines+markers",
            name="requests at once",
            line={"width": 2, "color": SERIES[0]},
            marker={"size": 5},
            customdata=[[number(point.low), number(point.middle), number(point.high)] for point in points],
            hovertemplate="%{x:,} tokens: %{customdata[1]} requests"
            + ("" if step else " (%{customdata[0]} to %{customdata[2]})")
            + "<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[context],
            y=[concurrency],
            mode="markers",
            name="what is asked for",
            marker={"size": 13, "symbol": "x-thin", "line": {"width": 3, "color": _MARK}},
            hovertemplate=f"asked: {concurrency:,} requests of {context:,} tokens<extra></extra>",
        )
    )
    figure.update_layout(
        height=330,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
            "font": {"size": 11},
            "itemsizing": "constant",
        },
        xaxis={"type": "log", "title": {"text": "tokens of one request", "font": {"size": 12}}, **_ticks(contexts)},
        yaxis={"type": "log", "automargin": True, **_count_ticks(most)},
        hovermode="closest",
    )
    return figure


def _ticks(contexts: Sequence[int]) -> dict[str, object]:
    """Powers of two, every second one where there are many."""
    if not contexts:
        return {}
    values, value = [], 512
    while value <= max(contexts):
        if value >= min(contexts):
            values.append(value)
        value *= 2
    values = values[:: 1 if len(values) <= 8 else 2]
    return {"tickvals": values, "ticktext": [_short(one) for one in values]}


def _short(tokens: int) -> str:
    if tokens >= 1 << 20:
        return f"{tokens >> 20}M"
    return f"{tokens >> 10}K" if tokens >= 1024 else str(tokens)


def _count_ticks(most: float) -> dict[str, object]:
    values = [1]
    while values[-1] * 2 <= most * 1.5:
        values.append(values[-1] * 2)
    step = 1 if len(values) <= 8 else 2
    shown = values[::step]
    return {
        "tickvals": shown,
        "ticktext": [f"{one:,}" for one in shown],
        "range": [log10(0.6), log10(max(most, 2) * 1.5)],
    }


def curve_alt(points: Sequence[CurvePoint], device: str) -> str:
    """The curve in words."""
    said = "; ".join(f"{point.context:,} tokens {number(point.middle)}" for point in points)
    return f"Requests at once on {device} by their length: {said or 'no length fits'}"

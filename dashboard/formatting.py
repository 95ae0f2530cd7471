"""How a number is told to people: GiB, %, watts, ages; the one place where base units become readable ones.

Absent is "–", never 0: every function takes None and says so.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from planner.fleet import DeviceEngine
from planner.links import Certainty, weakest
from planner.units import GIB, MIB

ABSENT = "–"

CERTAINTY_MARKS = {Certainty.LIKELY: "~", Certainty.GUESSED: "?"}
"""What stands behind a name that is not certain where there is no room for the word."""

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400


def bytes_text(value: float | None) -> str:
    """`79.2 GiB`; below one GiB in MiB, so that a small value is not shown as 0."""
    if value is None:
        return ABSENT
    if abs(value) >= GIB:
        return f"{value / GIB:.1f} GiB"
    return f"{value / MIB:.0f} MiB"


def bytes_per_s_text(value: float | None) -> str:
    """`1.2 GiB/s`."""
    return ABSENT if value is None else f"{bytes_text(value)}/s"


def percent(ratio: float | None) -> str:
    """`42%`; below 10 % with one digit, so that a trickle is not shown as nothing."""
    if ratio is None:
        return ABSENT
    value = ratio * 100
    if value == 0 or abs(value) >= 9.95:
        return f"{value:.0f}%"
    return f"{value:.1f}%" if abs(value) >= 0.05 else "<0.1%"


def watts(value: float | None) -> str:
    """`312 W`."""
    return ABSENT if value is None else f"{value:.0f} W"


def celsius(value: float | None) -> str:
    """`64 °C`."""
    return ABSENT if value is None else f"{value:.0f} °C"


def hertz(value: float | None) -> str:
    """`1980 MHz`."""
    return ABSENT if value is None else f"{value / 1e6:.0f} MHz"


def joules(value: float | None) -> str:
    """`12.3 kWh`."""
    return ABSENT if value is None else f"{value / 3.6e6:,.1f} kWh"


def number(value: float | None) -> str:
    """A count; one digit only where it is not whole."""
    if value is None:
        return ABSENT
    return f"{value:,.1f}".removesuffix(".0")


def tokens_per_s_text(value: float | None) -> str:
    """`1,129`; below ten with one digit, so that a trickle is not shown as nothing."""
    if value is None:
        return ABSENT
    if 0 < value < 0.05:
        return "<0.1"
    return f"{value:,.0f}" if value == 0 or value >= 9.95 else f"{value:.1f}"


def share_of_count(value: float | None) -> str:
    """`2,193,983`: a part of a count, which the split alone gave its fraction; below ten with one digit."""
    return tokens_per_s_text(value)


def usd(value: float | None) -> str:
    """`$8.05`; below a cent as such, so that a little is not shown as nothing."""
    if value is None:
        return ABSENT
    return "<$0.01" if 0 < value < 0.005 else f"${value:,.2f}"


def served_text(engines: Sequence[DeviceEngine]) -> str:
    """The models on a device with the mark of the weakest link; an engine without any is named with that."""
    if not engines:
        return ABSENT
    names = dict.fromkeys(model for engine in engines for model in engine.models)
    idle = dict.fromkeys(f"{engine.engine.value}, no model loaded" for engine in engines if not engine.models)
    mark = CERTAINTY_MARKS.get(weakest(engine.certainty for engine in engines), "")
    return f"{', '.join([*names, *idle])} {mark}".rstrip()


def gpu_hours(gpu_s: float | None) -> str:
    """GPU-seconds as `3.2`, in GPU-hours."""
    return ABSENT if gpu_s is None else f"{gpu_s / _HOUR_S:,.1f}"


def duration(seconds: float | None) -> str:
    """`12 s`, `4 min`, `3 h 05 min`, `2 d 4 h`."""
    if seconds is None:
        return ABSENT
    whole = max(0, round(seconds))
    if whole < 2 * _MINUTE_S:
        return f"{whole} s"
    if whole < 2 * _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    if whole < 2 * _DAY_S:
        minutes = whole % _HOUR_S // _MINUTE_S
        return f"{whole // _HOUR_S} h {minutes:02d} min" if minutes else f"{whole // _HOUR_S} h"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def milliseconds(seconds: float | None) -> str:
    """`38 ms`, from a second on `2.4 s`: how long an answer took."""
    if seconds is None:
        return ABSENT
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def age(observed_at: datetime | None, now: datetime) -> str:
    """How long ago; what lies in the future is told as such, it means that two clocks disagree."""
    if observed_at is None:
        return ABSENT
    seconds = (now - observed_at).total_seconds()
    if seconds < -1:
        return f"{duration(-seconds)} in the future"
    return duration(seconds)


def clock(moment: datetime | None, now: datetime | None = None) -> str:
    """`12:03:10 UTC`, with the date where it is not the day of `now`."""
    if moment is None:
        return ABSENT
    same_day = now is not None and moment.date() == now.date()
    return f"{moment:%H:%M:%S} UTC" if same_day else f"{moment:%Y-%m-%d %H:%M} UTC"


_BY_SUFFIX: tuple[tuple[str, Callable[[float | None], str]], ...] = (
    ("_bytes_per_s", bytes_per_s_text),
    ("_bytes", bytes_text),
    ("_ratio", percent),
    ("_watts", watts),
    ("_celsius", celsius),
    ("_hertz", hertz),
    ("_joules", joules),
    ("_s", duration),
)


def metric_value(metric: str, value: float | None) -> str:
    """A value of one of `planner.metrics` in the unit that its name ends with."""
    for suffix, to_text in _BY_SUFFIX:
        if metric.endswith(suffix):
            return to_text(value)
    return number(value)


_ABBREVIATIONS = {
    "gpu": "GPU",
    "sm": "SM",
    "gr": "graphics",
    "dram": "DRAM",
    "pcie": "PCIe",
    "nvlink": "NVLink",
    "ecc": "ECC",
    "xid": "Xid",
    "tx": "sent",
    "rx": "received",
    "fp64": "FP64",
    "fp32": "FP32",
    "fp16": "FP16",
}
_UNIT_SUFFIXES = ("_bytes_per_s", "_bytes", "_ratio", "_watts", "_celsius", "_hertz", "_joules", "_s")


def metric_label(metric: str) -> str:
    """`sm_active_ratio` as `SM active`: the metric's own words without the unit."""
    for suffix in _UNIT_SUFFIXES:
        metric = metric.removesuffix(suffix)
    words = " ".join(_ABBREVIATIONS.get(word, word) for word in metric.split("_"))
    return words[:1].upper() + words[1:]

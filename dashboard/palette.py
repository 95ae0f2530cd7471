"""Which colour, sign and words stand for what; the state colours mean states and nothing else.

The five state colours of each theme stay apart for people with protan, deutan and tritan vision (a test simulates
them), and no state is told by colour alone: sign and words go with it.
"""

from dataclasses import dataclass

from planner.fleet import DeviceState


@dataclass(frozen=True, slots=True, kw_only=True)
class StateStyle:
    """How one device state looks and reads."""

    label: str
    sign: str  # read beside the colour: filled, half, diamond, empty, question mark
    meaning: str
    light: str
    dark: str


STATES: dict[DeviceState, StateStyle] = {
    DeviceState.SERVING: StateStyle(
        label="serving", sign="●", meaning="allocated and measurably working", light="#00627d", dark="#3cb6d9"
    ),
    DeviceState.LOADED_IDLE: StateStyle(
        label="loaded-idle", sign="◐", meaning="memory loaded, no work seen", light="#e8a317", dark="#ffd166"
    ),
    DeviceState.HELD: StateStyle(
        label="held", sign="◆", meaning="allocated to a pod, no process on it", light="#d9480f", dark="#f0623c"
    ),
    DeviceState.FREE: StateStyle(
        label="free", sign="○", meaning="allocated to nobody", light="#c5d7ee", dark="#35527f"
    ),
    DeviceState.UNKNOWN: StateStyle(
        label="unknown", sign="?", meaning="not measurable; not counted as idle", light="#8f949c", dark="#7d8590"
    ),
}

WORKLOADS: tuple[tuple[str, str], ...] = (
    ("#dbd6f6", "#3d3670"),
    ("#dce6c2", "#48521f"),
    ("#f0d3e5", "#5e2f50"),
    ("#cde5dc", "#24503f"),
    ("#ead8c6", "#56402b"),
    ("#d3deea", "#33475c"),
    ("#e6d0f0", "#52306a"),
    ("#d8e9ee", "#274c57"),
)
"""Backgrounds (light, dark) of workloads in MIG drawings: pale, so that the name on them stays readable."""

ACTIVITY_SCALE = ((0.0, "#efedf8"), (0.25, "#c9c4ea"), (0.5, "#968dd3"), (0.75, "#6359b3"), (1.0, "#372f7d"))
ACTIVITY_SCALE_DARK = ((0.0, "#1f2233"), (0.25, "#3b3772"), (0.5, "#5f57ad"), (0.75, "#928ae0"), (1.0, "#d6d2fb"))
"""Sequential and of one hue: more contrast with the page is more activity; kept away from the state colours."""

SERIES = ("#6c63c7", "#7f9230", "#b3609a", "#4c8a78", "#96745a", "#66809a")
"""Lines of history charts; readable on both backgrounds."""

"""The states stay apart for everybody: colours are put through simulated colour vision and measured."""

import itertools
import math

import pytest

from dashboard.palette import SERIES, STATES, WORKLOADS
from planner.fleet import DeviceState

# Full protanopia, deuteranopia and tritanopia: Machado, Oliveira, Fernandes 2009, table for severity 1.0.
VISIONS = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
BARELY_SEEN = 2.3  # CIE76 difference that half of observers notice


def linear(colour: str) -> tuple[float, ...]:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)


def lab(rgb: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = (min(1.0, max(0.0, channel)) for channel in rgb)
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def seen(colour: str, vision: str) -> tuple[float, float, float]:
    rgb = linear(colour)
    return lab(tuple(sum(a * b for a, b in zip(row, rgb, strict=True)) for row in VISIONS[vision]))


def contrast(first: str, second: str) -> float:
    light, dark = sorted(
        (0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(linear, (first, second))), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_state_colours_are_far_apart_in_every_vision(theme: str, vision: str) -> None:
    colours = [seen(getattr(style, theme), vision) for style in STATES.values()]
    assert min(math.dist(a, b) for a, b in itertools.combinations(colours, 2)) > 8 * BARELY_SEEN


def test_every_state_has_a_sign_and_a_label_of_its_own() -> None:
    assert set(STATES) == set(DeviceState)
    assert len({style.sign for style in STATES.values()}) == len({s.label for s in STATES.values()}) == len(DeviceState)


def test_state_colours_mean_states_and_nothing_else() -> None:
    of_states = {colour for style in STATES.values() for colour in (style.light, style.dark)}
    others = {*SERIES, *(colour for pair in WORKLOADS for colour in pair)}
    assert not of_states & others


def test_names_on_workload_colours_stay_readable() -> None:
    assert all(contrast(light, "#1c242e") > 4.5 and contrast(dark, "#e3e8ee") > 4.5 for light, dark in WORKLOADS)

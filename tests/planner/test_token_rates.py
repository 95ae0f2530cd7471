"""Absent tokens per second always come with the reason, and present ones without."""

from dataclasses import replace

import pytest

from planner.attribution import attribute
from planner.fleet import DeviceEngine
from planner.serving_readings import ServingEngine
from planner.token_rates import why_no_rate
from tests.planner.joins import device, facts, gpu, server, traffic


def engine(**changes: object) -> DeviceEngine:
    """An engine that counted 7200 tokens in the hour on its one device."""
    work = attribute(facts(device(0, "a"), servers=[server("e:1", traffic(tokens=7200), pod="a")]))
    [found] = work.devices[gpu(0)].engines
    return replace(found, **changes)  # type: ignore[arg-type]


def test_a_rate_needs_no_reason() -> None:
    assert (engine().device_tokens_per_s, why_no_rate(engine())) == (2.0, None)
    assert why_no_rate(engine(generation_tokens=0.0, share_ratio=None)) is None  # nothing is nothing on every device


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"generation_tokens": None, "engine": ServingEngine.OLLAMA}, "Ollama counts no tokens"),
        ({"generation_tokens": None}, "it counted no tokens that were read"),
        ({"covered_s": 0.0}, "a rate needs two readings"),
        ({"share_ratio": None, "devices": 4}, "it runs on 4 devices"),
        ({"share_ratio": None}, "nothing says that its tokens are this device's alone"),
    ],
)
def test_no_rate_has_its_reason(changes: dict[str, object], reason: str) -> None:
    found = engine(**changes)
    assert found.device_tokens_per_s is None
    assert reason in (why_no_rate(found) or "")

"""Whether work flows through the engines on a device, in sentences: what they counted, or that they counted nothing."""

from planner.fleet import DeviceEngine
from planner.links import Certainty

MIN_SHARE_RATIO = 0.01
"""A device that did less of an engine's work than this is one that the engine holds and does not use."""


def spelled_flow(engines: tuple[DeviceEngine, ...], window: str) -> str | None:
    """What flowed through engines that use the device, a guess apart; None where nothing did or nothing is counted."""
    flowing = [one for one in engines if one.certainty is not Certainty.GUESSED and _flows(one) and _uses(one)]
    if not flowing:
        return None
    tokens = sum(one.tokens or 0.0 for one in flowing)
    requests = sum(one.requests or 0.0 for one in flowing)
    running = sum(one.requests_running or 0.0 for one in flowing)
    if tokens:
        what = f"{tokens:,.0f} tokens flowed in {window}"
    elif requests:
        what = f"{requests:,.0f} requests ended in {window}"
    else:
        what = f"{running:,.0f} requests are being worked on"
    return f"{what} through {', '.join(map(_spelled, flowing))}{_devices(flowing)}{_unsure(flowing)}."


def idle_engines(engines: tuple[DeviceEngine, ...], min_coverage_ratio: float) -> tuple[DeviceEngine, ...]:
    """The engines on the device where all of them count, hold a model, and counted nothing; else none.

    A guessed engine says nothing, and one that was read for less than `min_coverage_ratio` of the window too little.
    """
    sure = tuple(one for one in engines if one.certainty is not Certainty.GUESSED)
    silent = [
        one
        for one in sure
        if one.is_loaded
        and not _flows(one)
        and (one.tokens is not None or one.requests is not None)
        and one.covered_ratio >= min_coverage_ratio
    ]
    return sure if len(silent) == len(sure) else ()


def spelled_idleness(engines: tuple[DeviceEngine, ...], window: str, full_coverage_ratio: float) -> str:
    """That these engines counted nothing, without a full stop."""
    covered = min(one.covered_ratio for one in engines)
    if covered < full_coverage_ratio:
        window = f"the {covered:.0%} of {window} in which it was read"
    held = " and ".join(map(_spelled, engines))
    return f"No token flowed through {held}{_unsure(list(engines))} in {window}"


def _flows(one: DeviceEngine) -> bool:
    return any(value is not None and value > 0 for value in (one.tokens, one.requests, one.requests_running))


def _uses(one: DeviceEngine) -> bool:
    """Whether the engine works on this device; a pod may hold more devices than its engine uses."""
    return one.share_ratio is None or one.share_ratio >= MIN_SHARE_RATIO


def _spelled(one: DeviceEngine) -> str:
    models = f" ({', '.join(one.models)})" if one.models else ""
    return f"{one.engine.value} at {one.endpoint}{models}"


def _devices(engines: list[DeviceEngine]) -> str:
    most = max(one.devices for one in engines)
    return f" on {most} devices" if most > 1 else ""


def _unsure(engines: list[DeviceEngine]) -> str:
    return ", which is likely on it" if any(one.certainty is Certainty.LIKELY for one in engines) else ""

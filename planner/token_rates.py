"""Why a device or an engine on it has no tokens per second, as a clause: absent never stands without its reason."""

from planner.fleet import Device, DeviceEngine
from planner.serving_readings import ServingEngine

_READ_ONCE = "its counters were read once so far, and a rate needs two readings"


def why_no_rate(engine: DeviceEngine) -> str | None:
    """Why no tokens per second of an engine are put down to the device; None where they are."""
    if engine.device_tokens_per_s is not None:
        return None
    if engine.tokens is None:
        if engine.engine is ServingEngine.OLLAMA:
            return "Ollama counts no tokens; a gateway before it can"
        if engine.is_read_once:
            return _READ_ONCE
        return "it counted no tokens that were read in the window"
    if engine.covered_s <= 0:
        return _READ_ONCE
    if engine.devices > 1:
        return f"it runs on {engine.devices} devices, and its tokens cannot be split over them"
    return "nothing says that its tokens are this device's alone"


def why_no_device_rate(device: Device) -> str | None:
    """Why no tokens per second are put down to a device; None where they are, and where no engine is on it."""
    if not device.engines or device.tokens_per_s is not None:
        return None
    if device.not_attributable is not None:
        return device.not_attributable
    reasons = dict.fromkeys(reason for engine in device.engines if (reason := why_no_rate(engine)) is not None)
    return "; ".join(reasons)

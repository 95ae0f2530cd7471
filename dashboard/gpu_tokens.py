"""Tokens per second of a whole GPU, with its GPU instances, and why there are none."""

from collections import defaultdict

from planner.fleet import Device, DeviceEngine, Gpu
from planner.token_rates import why_no_device_rate


def engines(gpu: Gpu) -> tuple[DeviceEngine, ...]:
    """The engines on the whole GPU and on its GPU instances."""
    return (*gpu.engines, *(engine for instance in gpu.instances for engine in instance.engines))


def _served_devices(gpu: Gpu) -> list[Device]:
    """The devices of a GPU that engines use."""
    whole = Device(gpu=gpu, instance=None)
    parts = [Device(gpu=gpu, instance=instance) for instance in gpu.instances]
    return [device for device in (whole, *parts) if device.engines]


def tokens_per_s(gpu: Gpu) -> float | None:
    """The sum over its devices with engines, when every one of them can tell: a part would pass for the whole."""
    rates = [device.tokens_per_s for device in _served_devices(gpu)]
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known and len(known) == len(rates) else None


def no_rate(gpu: Gpu) -> str | None:
    """The reasons of its devices that cannot tell, each with the instances it concerns."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for device in _served_devices(gpu):
        reason = why_no_device_rate(device)
        if reason is not None:
            of = [] if device.instance is None else [f"{device.instance.profile}#{device.instance.gi_id}"]
            reasons[reason] += of
    return "; ".join(f"{', '.join(of)}: {reason}" if of else reason for reason, of in reasons.items()) or None

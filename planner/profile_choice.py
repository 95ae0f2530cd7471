"""Which is the smallest profile of a board that provides what a device has been measured to need."""

from dataclasses import dataclass
from functools import lru_cache

from planner.catalog import find_profile
from planner.fleet import Device
from planner.hardware import Board, Profile
from planner.need import AdviceSettings, Capacity, MemoryBasis, Need, capacity_of, present_capacity
from planner.sentences import spelled_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileChoice:
    """What a need asks for: a profile, or None for a whole GPU with MIG mode off."""

    profile: Profile | None
    is_known: bool  # False when the need is not known and the device keeps what it has
    is_too_small_now: bool  # the need is above what the device has
    reasons: tuple[str, ...]


def choose_profile(board: Board, device: Device, need: Need, settings: AdviceSettings) -> ProfileChoice:
    """The smallest profile that meets the need with headroom, by memory, then compute slices, then engines.

    What no source states of a profile is not enough. Headroom never asks for more than the device has, as it does its
    work there; only saturated SMs do. A device keeps its variant (+me, +gfx, ...): whoever chose it had a reason that
    is not measured. A whole GPU stays without MIG mode rather than become one instance of full size.
    """
    present = find_profile(board, device.instance.profile) if device.instance else None
    if need.memory_bytes is None or need.sm_count is None:
        kept = "Its need is not known, so it keeps what it has."
        return ProfileChoice(profile=present, is_known=False, is_too_small_now=False, reasons=(*need.reasons, kept))
    measured = present_capacity(device)
    required = _required(need, measured, settings)
    for candidate in _candidates(board, present):
        if _provides(measured if candidate == present else capacity_of(board, candidate), required):
            return _choice(candidate, need, _why(present, candidate, required))
    kept = f"It keeps {_spelled(present)}: nothing else is known to provide {_spelled_capacity(required)}."
    return _choice(present, need, kept)


def _required(need: Need, present: Capacity, settings: AdviceSettings) -> Capacity:
    """The need with headroom, as a capacity."""
    memory_headroom = 0.0 if need.memory_basis is MemoryBasis.RESERVATION else settings.memory_headroom_ratio
    sm_count = (need.sm_count or 0.0) * (1 + settings.compute_headroom_ratio)
    bandwidth_ratio = (need.bandwidth_ratio or 0.0) * (1 + settings.compute_headroom_ratio)
    if not need.is_saturated:
        sm_count = _at_most(sm_count, present.sm_count)
    return Capacity(
        memory_bytes=_at_most((need.memory_bytes or 0) * (1 + memory_headroom), present.memory_bytes),
        sm_count=sm_count,
        bandwidth_ratio=_at_most(bandwidth_ratio, present.bandwidth_ratio),
    )


def _at_most(value: float, limit: float | None) -> float:
    return value if limit is None else min(value, limit)


@lru_cache(maxsize=1024)
def _candidates(board: Board, present: Profile | None) -> tuple[Profile | None, ...]:
    """Profiles the device may become, smallest first."""
    same_variant = [profile for profile in board.profiles if profile.variant == (present.variant if present else "")]
    if present is None:
        cut: list[Profile | None] = [p for p in _by_size(same_variant) if p.memory_slices != board.placement_grid]
        return (*cut, None)
    full = [p for p in board.profiles if p.memory_slices == board.placement_grid and p.variant == ""]
    return (*_by_size(same_variant), *(profile for profile in full if profile not in same_variant))


def _by_size(profiles: list[Profile]) -> list[Profile]:
    return sorted(profiles, key=lambda p: (p.memory_slices or 0, p.compute_slices, _engines(p), p.name))


def _engines(profile: Profile) -> int:
    engines = (
        profile.copy_engines,
        profile.decoders,
        profile.encoders,
        profile.jpeg_engines,
        profile.optical_flow_engines,
    )
    return sum(count or 0 for count in engines)


def _provides(offered: Capacity, required: Capacity) -> bool:
    pairs = (
        (offered.memory_bytes, required.memory_bytes),
        (offered.sm_count, required.sm_count),
        (offered.bandwidth_ratio, required.bandwidth_ratio),
    )
    return all(not wanted or (has is not None and has >= wanted) for has, wanted in pairs)


def _choice(chosen: Profile | None, need: Need, why: str) -> ProfileChoice:
    saturated = ("Its SMs were used up: it is too small for its work already.",) if need.is_saturated else ()
    return ProfileChoice(
        profile=chosen,
        is_known=True,
        is_too_small_now=need.is_saturated,
        reasons=(*need.reasons, *saturated, why),
    )


def _why(present: Profile | None, chosen: Profile | None, required: Capacity) -> str:
    if chosen == present:
        return f"It keeps {_spelled(present)}, the smallest known to provide {_spelled_capacity(required)}."
    return f"{_spelled(chosen)} is the smallest known to provide {_spelled_capacity(required)}."


def _spelled(profile: Profile | None) -> str:
    return profile.name if profile else "a whole GPU"


def _spelled_capacity(required: Capacity) -> str:
    parts = [spelled_bytes(required.memory_bytes or 0)]
    if required.sm_count:
        parts.append(f"{required.sm_count:.1f} SMs")
    if required.bandwidth_ratio:
        parts.append(f"{required.bandwidth_ratio:.0%} of the memory bandwidth")
    return f"{', '.join(parts)} (headroom included)"

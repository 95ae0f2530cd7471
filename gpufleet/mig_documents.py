"""The JSON of `gpufleet mig boards` and `gpufleet mig layouts`, key by key in docs/json.md; what is unknown is null."""

from collections.abc import Sequence
from typing import Any

from planner.board_evidence import weak_evidence
from planner.catalog import find_profile
from planner.catalog_files import EVIDENCE_GROUPS
from planner.compute_instances import ComputeProfile, compute_profiles
from planner.hardware import Board, Layout, LayoutExclusion, PlacedInstance, Placement, Profile
from planner.mig_exceptions import exclusion_sentence
from planner.mig_geometry import (
    free_compute_slices,
    free_memory_slices,
    legal_layouts,
    maximal_layouts,
    media_exclusions,
    planning_obstacle,
    stranded_compute_slices,
    stranded_memory_slices,
)


def boards_document(boards: Sequence[Board]) -> dict[str, Any]:
    """`gpufleet mig boards --json`."""
    return {"boards": [_board(board) for board in boards]}


def layouts_document(board: Board, names: Sequence[str], *, maximal: bool) -> dict[str, Any]:
    """`gpufleet mig layouts BOARD --json`; the empty GPU is neither listed nor counted. Raises IllegalLayout."""
    legal = [layout for layout in legal_layouts(board, names) if layout]
    most = maximal_layouts(board, names)
    are_maximal = set(most)
    return {
        "board": board.name,
        "profiles": list(names),
        "legal_layouts": len(legal),
        "legal_multisets": _multisets(legal),
        "maximal_layouts": len(most),
        "maximal_multisets": _multisets(most),
        "exclusions": [exclusion_sentence(board, exclusion) for exclusion in board.exclusions],
        "caveats": list(weak_evidence(board, names)),
        "layouts": [_layout(board, layout, names, layout in are_maximal) for layout in (most if maximal else legal)],
    }


def _board(board: Board) -> dict[str, Any]:
    return {
        "board": board.name,
        "architecture": board.architecture,
        "product_names": list(board.product_names),
        "memory_total_bytes": board.memory_total_bytes,
        "sm_count": board.sm_count,
        "mig_capable": board.is_mig_capable,
        "compute_slices": board.compute_slices or None,
        "placement_grid": board.placement_grid or None,
        "minimum_driver": board.minimum_driver,
        "mig_enable_resets_gpu": board.mig_enable_resets_gpu,
        "not_plannable": planning_obstacle(board),
        "verification": board.verification,
        "cautions": list(board.cautions),
        "notes": list(board.notes),
        "exclusions": [_exclusion(board, exclusion) for exclusion in board.conditional_exclusions],
        "sources": list(board.sources),
        "profiles": [_profile(board, profile) for profile in board.profiles],
    }


def _exclusion(board: Board, exclusion: LayoutExclusion) -> dict[str, Any]:
    return {
        "name": exclusion.name,
        "sentence": exclusion_sentence(board, exclusion),
        "drivers_from": _version(exclusion.drivers_from),
        "drivers_below": _version(exclusion.drivers_below),
        "machines": list(exclusion.products),
        "sources": list(exclusion.sources),
    }


def _version(numbers: tuple[int, ...] | None) -> str | None:
    return (
        None
        if numbers is None
        else ".".join(f"{part:02d}" if index else str(part) for index, part in enumerate(numbers))
    )


def _profile(board: Board, profile: Profile) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "alternate_names": list(profile.alternate_names),
        "profile_id": profile.profile_id,
        "compute_slices": profile.compute_slices,
        "memory_slices": profile.memory_slices,
        "memory_bytes": profile.memory_bytes,
        "sm_count": profile.sm_count,
        "max_instances": profile.max_instances,
        "placements": [_placement(placement) for placement in profile.placements],
        "copy_engines": profile.copy_engines,
        "decoders": profile.decoders,
        "encoders": profile.encoders,
        "jpeg_engines": profile.jpeg_engines,
        "optical_flow_engines": profile.optical_flow_engines,
        "graphics": profile.graphics,
        "media_extensions": profile.media_extensions,
        "excludes": list(media_exclusions(board, profile)),
        "evidence": {group: profile.evidence_of(group).value for group in EVIDENCE_GROUPS},
        "sources": list(profile.sources),
        "compute_instances": [_compute_instance(one) for one in compute_profiles(board, profile.name)],
    }


def _compute_instance(one: ComputeProfile) -> dict[str, Any]:
    return {
        "compute_instance": one.name,
        "compute_slices": one.compute_slices,
        "max_instances": one.max_instances,
        "sm_count": one.sm_count,
        "evidence": {"max_instances": one.evidence.value, "sm": one.sm_evidence.value},
    }


def _layout(board: Board, layout: Layout, names: Sequence[str], is_maximal: bool) -> dict[str, Any]:
    profiles = [profile for placed in layout if (profile := find_profile(board, placed.profile)) is not None]
    return {
        "instances": [_instance(placed) for placed in layout],
        "maximal": is_maximal,
        "free_units": list(free_memory_slices(board, layout)),
        "stranded_units": list(stranded_memory_slices(board, layout, names)),
        "free_compute_slices": free_compute_slices(board, layout),
        "stranded_compute_slices": stranded_compute_slices(board, layout, names),
        "memory_bytes": _sum([profile.memory_bytes for profile in profiles]),
        "sm_count": _sum([profile.sm_count for profile in profiles]),
    }


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _multisets(layouts: Sequence[Layout]) -> int:
    return len({tuple(sorted(placed.profile for placed in layout)) for layout in layouts})


def _instance(placed: PlacedInstance) -> dict[str, Any]:
    return {"profile": placed.profile, **_placement(placed.placement)}


def _placement(placement: Placement) -> dict[str, int]:
    return {"start": placement.start, "size": placement.size}

"""What one GPU instance can be divided into: compute instances, which are MIG devices that share its memory.

Every compute instance has SMs of its own; the framebuffer, the copy and the media engines belong to the GPU instance
and are shared by all of them. One over all compute slices bears the name of the GPU instance (`3g.20gb`), a part says
how many of them it has (`1c.3g.20gb`). The rows are in `planner/data/compute_instances.toml`, each with its sources.
The driver shows them with `nvidia-smi mig -lcip`. Where in the GPU instance a part lies is not represented: no source
states the starts, and every set that fits by slices can be created from empty if the wide ones come first (derived).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import PositiveInt, ValidationError

from planner.catalog import find_profile
from planner.catalog_rows import Row, read_toml, refused
from planner.errors import UnknownProfile
from planner.hardware import Board, Evidence, Profile

DATA = Path(__file__).parent / "data" / "compute_instances.toml"

_NAME = re.compile(r"(?:mig[- ])?(?:(\d{1,2})c\.)?(\d{1,2}g\..{1,40})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeProfile:
    """One kind of compute instance of one GPU instance profile; it shares the memory with those beside it.

    `sm_count` is None where no source states it. `evidence` is how it is known that this kind exists.
    """

    name: str  # "1c.3g.20gb"; over all compute slices the GPU instance's own name
    gpu_instance: str
    compute_slices: int
    max_instances: int
    sm_count: int | None
    memory_bytes: int | None  # of the GPU instance: every part sees all of it, and all parts share it
    evidence: Evidence
    sm_evidence: Evidence


class _Offered(Row):
    compute_slices: PositiveInt
    widths: tuple[PositiveInt, ...]
    sources: tuple[str, ...]


class _Evidence(Row):
    boards: tuple[str, ...]
    compute_slices: tuple[PositiveInt, ...]
    evidence: Evidence
    sources: tuple[str, ...]


class _Sm(Row):
    boards: tuple[str, ...]
    compute_slices: tuple[PositiveInt, ...]
    sm_per_slice: PositiveInt
    sources: tuple[str, ...]


class ComputeInstanceRows(Row):
    """The file `compute_instances.toml`."""

    offered: tuple[_Offered, ...]
    evidence: tuple[_Evidence, ...] = ()
    sm: tuple[_Sm, ...] = ()


@lru_cache(maxsize=1)
def read_rows() -> ComputeInstanceRows:
    """The rows that ship with gpufleet; raises CatalogError."""
    try:
        return ComputeInstanceRows.model_validate(read_toml(DATA))
    except ValidationError as error:
        raise refused(DATA.name, error) from error


def compute_profiles(board: Board, profile_name: str) -> tuple[ComputeProfile, ...]:
    """The kinds of compute instances inside a GPU instance, narrowest first; raises UnknownProfile.

    Of a GPU instance with a number of compute slices that no source lists, only the one over all of it is known.
    """
    profile = find_profile(board, profile_name)
    if profile is None:
        raise UnknownProfile(f"{board.name} has no profile {profile_name!r}.")
    return _compute_profiles(board, profile)


def find_compute_profile(board: Board, name: str) -> ComputeProfile | None:
    """The compute instance that is spelled like that (`1c.3g.20gb`, `3c.3g.20gb`, `3g.20gb`); None when none is."""
    found = _NAME.fullmatch(name.strip().lower())
    profile = find_profile(board, found[2]) if found else None
    if found is None or profile is None:
        return None
    width = int(found[1]) if found[1] else profile.compute_slices
    return next((one for one in _compute_profiles(board, profile) if one.compute_slices == width), None)


def why_illegal_compute(board: Board, profile_name: str, names: Sequence[str]) -> str | None:
    """Why these compute instances cannot exist together in one GPU instance, as a sentence; None when they can.

    No name at all stands for one compute instance over the whole GPU instance, which is what `-cgi ... -C` creates.
    Raises UnknownProfile when the board has no such GPU instance.
    """
    offered = compute_profiles(board, profile_name)
    whole = offered[-1]
    taken = 0
    for name in names:
        profile = find_compute_profile(board, name)
        if profile is None or profile.gpu_instance != whole.gpu_instance:
            known = ", ".join(one.name for one in offered)
            return f"{whole.gpu_instance} on {board.name} has no compute instance {name!r}; it has {known}."
        taken += profile.compute_slices
    if taken > whole.compute_slices:
        return (
            f"{', '.join(names)} take {taken} compute slices, and {whole.gpu_instance} on {board.name} has "
            f"{whole.compute_slices}."
        )
    return None


def compute_layouts(board: Board, profile_name: str) -> tuple[tuple[str, ...], ...]:
    """Every set of compute instances that one GPU instance can hold, widest first in each; raises UnknownProfile."""
    offered = compute_profiles(board, profile_name)[::-1]

    def extend(first: int, free: int) -> Iterator[tuple[str, ...]]:
        for index in range(first, len(offered)):
            one = offered[index]
            if one.compute_slices <= free:
                yield (one.name,)
                for rest in extend(index, free - one.compute_slices):
                    yield (one.name, *rest)

    return tuple(extend(0, offered[0].compute_slices))


def idle_compute_slices(board: Board, profile_name: str, names: Sequence[str]) -> int:
    """Compute slices of the GPU instance that none of its compute instances has; raises UnknownProfile."""
    offered = {one.name: one for one in compute_profiles(board, profile_name)}
    whole = next(reversed(offered.values()))
    counts = Counter(found.name for name in names if (found := find_compute_profile(board, name)) is not None)
    taken = sum(count * offered[name].compute_slices for name, count in counts.items() if name in offered)
    return max(0, whole.compute_slices - taken) if names else 0


@lru_cache(maxsize=1024)
def _compute_profiles(board: Board, profile: Profile) -> tuple[ComputeProfile, ...]:
    rows = read_rows()
    slices = profile.compute_slices
    widths = next((row.widths for row in rows.offered if row.compute_slices == slices), (slices,))
    seen = next((row for row in rows.evidence if board.name in row.boards and slices in row.compute_slices), None)
    part = next((row for row in rows.sm if board.name in row.boards and slices in row.compute_slices), None)
    return tuple(
        ComputeProfile(
            name=profile.name if width == slices else f"{width}c.{profile.name}",
            gpu_instance=profile.name,
            compute_slices=width,
            max_instances=slices // width,
            sm_count=profile.sm_count if width == slices else (part.sm_per_slice * width if part else None),
            memory_bytes=profile.memory_bytes,
            evidence=_evidence(seen, whole=width == slices),
            sm_evidence=_sm_evidence(profile, whole=width == slices, seen=seen, has_rows=part is not None),
        )
        for width in widths
    )


def _evidence(seen: _Evidence | None, *, whole: bool) -> Evidence:
    """That one compute instance over the whole GPU instance exists is documented for every board."""
    if seen:
        return seen.evidence
    return Evidence.DOCUMENTED if whole else Evidence.DERIVED


def _sm_evidence(profile: Profile, *, whole: bool, seen: _Evidence | None, has_rows: bool) -> Evidence:
    """A part's SMs are as well known as the part itself where it was printed, and derived elsewhere."""
    if whole:
        return profile.evidence_of("sm")
    if not has_rows:
        return Evidence.UNKNOWN
    return Evidence.CAPTURED if seen and seen.evidence is Evidence.CAPTURED else Evidence.DERIVED

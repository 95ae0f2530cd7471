"""What a board can be cut into: profiles, placements and layouts, as the board's own tables state them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Evidence(StrEnum):
    """How well a catalogue value is known."""

    CAPTURED = "captured"  # printed by a real board in a published output
    DOCUMENTED = "documented"  # stated by NVIDIA in text or configuration
    DERIVED = "derived"  # carried over from the same chip or family
    UNKNOWN = "unknown"


class MigMode(StrEnum):
    """State of a GPU's MIG mode; a pending change is a state of its own."""

    DISABLED = "disabled"
    ENABLED = "enabled"
    PENDING = "pending"


@dataclass(frozen=True, slots=True, order=True)
class Placement:
    """Where a GPU instance lies on its GPU, in placement units (`Board.placement_grid` of them)."""

    start: int
    size: int

    @property
    def span(self) -> range:
        """Placement units that the instance occupies."""
        return range(self.start, self.start + self.size)

    def __str__(self) -> str:
        return f"{self.start}:{self.size}"


@lru_cache(maxsize=64)
def _variant(kind: str) -> str:
    return re.sub(r"^\d+g(2x)?", "", kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of GPU instance of one board; capacity is measured, never read from the name.

    Command that shows the same rows: `nvidia-smi mig -lgip` and `-lgipp`. A value that no source states is None.
    `evidence` names, for each of ids, memory, sm, engines, placements and max_instances, how it is known.
    """

    name: str
    kind: str  # "1g", "1g+me", "1g2x" (one compute slice with twice the memory), "2g", ...
    profile_id: int | None
    compute_slices: int
    memory_bytes: int | None
    sm_count: int | None
    max_instances: int
    placements: tuple[Placement, ...]  # empty when no source states them
    copy_engines: int | None
    decoders: int | None
    encoders: int | None
    jpeg_engines: int | None
    optical_flow_engines: int | None
    graphics: bool
    media_extensions: bool
    evidence: tuple[tuple[str, Evidence], ...]
    sources: tuple[str, ...]
    alternate_names: tuple[str, ...] = ()  # what other drivers call the same profile id

    def __hash__(self) -> int:
        """By name: cheap enough for a key of caches."""
        return hash(self.name)

    @property
    def variant(self) -> str:
        """What sets the kind apart beside its compute slices: "", "+me", "+me.all", "+gfx" or "-me"."""
        return _variant(self.kind)

    @property
    def memory_slices(self) -> int | None:
        """Placement units that one instance occupies, in units of its board; None when no source states them."""
        return self.placements[0].size if self.placements else None

    def evidence_of(self, group: str) -> Evidence:
        """How one group of values is known: ids, max_instances, placements, memory, sm or engines."""
        return dict(self.evidence).get(group, Evidence.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutExclusion:
    """Instances that cannot exist together although the placement table allows it, and where that holds.

    Excluded is every layout with at least so many instances of these kinds, for all pairs of `needs`; so whatever
    holds more of them is excluded too. `planner.mig_exceptions.board_under` decides where it holds.
    """

    name: str
    needs: tuple[tuple[tuple[str, ...], int], ...]  # ((kinds), at least so many)
    reason: str  # why, as a clause: "drivers before R510 refuse ..."
    sources: tuple[str, ...]
    drivers_from: tuple[int, ...] | None = None
    drivers_below: tuple[int, ...] | None = None
    products: tuple[str, ...] = ()  # machines it is limited to, words in lower case; empty: every one
    caution: str | None = None  # what every plan must say as long as nobody knows whether it holds

    def __hash__(self) -> int:
        """By name, which is unique."""
        return hash(self.name)

    def excludes(self, kinds: Iterable[str]) -> bool:
        """Whether instances of these kinds are too many together."""
        listed = tuple(kinds)
        return all(sum(kind in group for kind in listed) >= count for group, count in self.needs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One kind of GPU, with everything it can be cut into; `profiles` is empty on boards without MIG."""

    name: str  # catalogue id: "A100-40GB", "H100-80GB-SXM"
    architecture: str
    product_names: tuple[str, ...]  # as NVML and `modelName` spell them
    memory_total_bytes: int | None  # as the driver reports it, not the marketing figure
    sm_count: int | None
    compute_slices: int  # 7, A30 and RTX PRO 6000: 4; 0 without MIG
    placement_grid: int  # placement units of the whole GPU: 8, 4 or 12; 0 without MIG
    mig_enable_resets_gpu: bool | None
    profiles: tuple[Profile, ...]
    verification: str  # how well this board is known, in a sentence for people
    sources: tuple[str, ...]
    memory_evidence: Evidence = Evidence.UNKNOWN
    minimum_driver: str | None = None  # lowest driver version with MIG on this board
    cautions: tuple[str, ...] = ()  # what every plan for this board must repeat
    notes: tuple[str, ...] = ()
    exclusions: tuple[LayoutExclusion, ...] = ()  # what its driver or its machine refuses beside the placement table
    conditional_exclusions: tuple[LayoutExclusion, ...] = ()  # those that hold under some driver or on some machine

    def __hash__(self) -> int:
        """By name and exclusions: boards are keys of caches, and hashing every profile would cost more than those.

        A board of the catalogue and the same board under an old driver differ in their exclusions alone; equality
        compares everything, so no cache can confuse them.
        """
        return hash((self.name, self.exclusions)) if self.exclusions else hash(self.name)

    @property
    def is_mig_capable(self) -> bool:
        """Whether the board can be cut at all."""
        return bool(self.profiles)


@dataclass(frozen=True, slots=True, order=True)
class PlacedInstance:
    """A GPU instance of a profile at a placement."""

    profile: str
    placement: Placement


Layout = tuple[PlacedInstance, ...]
"""All GPU instances of one GPU, sorted by start and then by profile name."""

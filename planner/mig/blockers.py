"""Which units must leave a GPU before an instance can be created there, or somebody start on it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from planner.hardware import Board, PlacedInstance, Placement, Profile
from planner.mig.places import Place, Unit
from planner.mig.problem import Rules, Workload
from planner.mig_geometry import is_legal


def creation_blockers(
    board: Board,
    profiles: Iterable[str],
    created: Sequence[Place],
    destroyed: Sequence[Place],
    leaving: Mapping[Place, Sequence[int]],
) -> tuple[dict[Place, tuple[int, ...]], bool]:
    """The units on instances that cannot exist beside each instance to create; False where that is too cautious.

    Overlap, engines and most limits concern two instances at a time. A limit on three or more leaves open which of the
    old ones must go first; then whatever counts towards it waits for all of the old ones that do. `profiles` are those
    of all instances that the GPU has now or in the end, `leaving` the units on each of the old ones.
    """
    found: dict[Place, tuple[int, ...]] = {}
    if not destroyed:
        return dict.fromkeys(created, ()), True
    wide = _wide_limits(board, Counter(_profile(board, name).kind for name in profiles))
    for new in created:
        units: set[int] = set()
        for old in destroyed:
            kinds = {_profile(board, new.profile).kind, _profile(board, old.profile).kind}
            if old in leaving and (
                _exclude_each_other(board, new.profile, new.start, old.profile, old.start)
                or any(kinds <= limit for limit in wide)
            ):
                units.update(leaving[old])
        found[new] = tuple(sorted(units))
    return found, not wide


def _wide_limits(board: Board, everything: Counter[str]) -> list[set[str]]:
    """Kinds of which all that is there and all that comes would be too many, by limits on three or more instances."""
    found = [
        {profile.kind}
        for profile in board.profiles
        if profile.max_instances > 1
        and everything[profile.kind] > profile.max_instances
        and not _overlap_bounds(profile)
    ]
    return found + [
        {kind for kinds, _ in exclusion.needs for kind in kinds}
        for exclusion in board.exclusions
        if sum(count for _, count in exclusion.needs) > 2 and exclusion.excludes(everything.elements())
    ]


def _overlap_bounds(profile: Profile) -> bool:
    """Whether no more of the profile fit beside each other than the board allows."""
    fitting, end = 0, 0
    for placement in sorted(profile.placements, key=lambda placement: placement.start + placement.size):
        if placement.start >= end:
            fitting, end = fitting + 1, placement.start + placement.size
    return fitting <= profile.max_instances


def kept_apart(
    number: int, leaving: Iterable[int], units: Sequence[Unit], workloads: Mapping[str, Workload], rules: Rules
) -> set[int]:
    """Of the units that leave a GPU, those that must be gone first because a tenant shares with no other."""
    if not rules.isolated_tenants:
        return set()
    own = _tenants(units[number], workloads)
    return {
        other for other in leaving if other != number and _must_not_share(own, _tenants(units[other], workloads), rules)
    }


def _must_not_share(first: set[str | None], second: set[str | None], rules: Rules) -> bool:
    return any(
        a != b and (rules.isolation_of(a) is not None or rules.isolation_of(b) is not None)
        for a in first
        for b in second
    )


def _tenants(unit: Unit, workloads: Mapping[str, Workload]) -> set[str | None]:
    return {workloads[name].tenant if name in workloads else None for name in unit.workloads}


@lru_cache(maxsize=65536)
def _exclude_each_other(board: Board, first: str, first_start: int, second: str, second_start: int) -> bool:
    return not is_legal(
        board,
        [
            PlacedInstance(name, Placement(start, _profile(board, name).memory_slices or 0))
            for name, start in ((first, first_start), (second, second_start))
        ],
    )


@lru_cache(maxsize=4096)
def _profile(board: Board, name: str) -> Profile:
    return next(profile for profile in board.profiles if profile.name == name)

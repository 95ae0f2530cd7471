"""Which GPU instances can exist together on one GPU, where, and what room they leave.

A layout is legal by the board's placement table: every instance at one of its profile's placements, no two on the same
memory slice, no profile more often than the board allows, and the media engines claimed once; and by what the board's
driver or machine refuses beside it (`Board.exclusions`). The sum of compute slices needs no check of its own,
placements imply it. Whatever a legal layout loses, it stays legal.
Sources: nvml.h (nvmlDeviceGetGpuInstancePossiblePlacements, NVML_GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME); MIG User Guide.
The driver shows the same table with `nvidia-smi mig -lgipp`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from planner.catalog import find_profile
from planner.errors import IllegalLayout, UnknownProfile
from planner.hardware import Board, Layout, PlacedInstance, Placement, Profile
from planner.mig_exceptions import exclusion_sentence


def planning_obstacle(board: Board) -> str | None:
    """Why no layout of that board can be planned, as a sentence; None when it can."""
    if not board.is_mig_capable:
        return f"{board.name} cannot be cut into GPU instances."
    if not all(profile.placements for profile in board.profiles):
        return f"No source states where the profiles of {board.name} can lie, so no layout of it can be planned."
    return None


def media_exclusions(board: Board, profile: Profile) -> tuple[str, ...]:
    """The other profiles of the board that cannot exist beside it wherever they lie, as both claim media engines."""
    return tuple(other.name for other in board.profiles if other != profile and _media_conflict(profile, other))


def ordered(instances: Iterable[PlacedInstance]) -> Layout:
    """The instances in the order of every `Layout`: by start, then by profile name."""
    return tuple(sorted(instances, key=lambda instance: (instance.placement.start, instance.profile)))


def is_legal(board: Board, layout: Iterable[PlacedInstance]) -> bool:
    """Whether these instances can exist together on one GPU of the board."""
    return why_illegal(board, layout) is None


def why_illegal(board: Board, layout: Iterable[PlacedInstance]) -> str | None:
    """The first rule that the layout breaks, as a sentence; None when it is legal."""
    obstacle = planning_obstacle(board)
    if obstacle is not None:
        return obstacle
    placed: list[tuple[Profile, Placement]] = []
    for instance in layout:
        profile = find_profile(board, instance.profile)
        if profile is None:
            return f"{board.name} has no profile {instance.profile}."
        if instance.placement not in profile.placements:
            allowed = ", ".join(map(str, profile.placements))
            return f"{profile.name} cannot lie at {instance.placement} on {board.name}; its placements are {allowed}."
        for other, where in placed:
            if set(where.span) & set(instance.placement.span):
                return f"{profile.name} at {instance.placement} overlaps {other.name} at {where}."
        placed.append((profile, instance.placement))
    return _why_not_together(board, [profile for profile, _ in placed])


def possible_placements(board: Board, layout: Iterable[PlacedInstance], profile_name: str) -> tuple[Placement, ...]:
    """Where one more instance of the profile could be created beside a legal layout; raises UnknownProfile."""
    layout = tuple(layout)
    profile = _profile(board, profile_name)
    if _why_not_together(board, [*(_profile(board, instance.profile) for instance in layout), profile]) is not None:
        return ()
    taken = {unit for instance in layout for unit in instance.placement.span}
    return tuple(placement for placement in profile.placements if taken.isdisjoint(placement.span))


def free_memory_slices(board: Board, layout: Iterable[PlacedInstance]) -> tuple[int, ...]:
    """Placement units of the GPU that no instance covers (RTX PRO 6000: units of its grid of 12)."""
    taken = {unit for instance in layout for unit in instance.placement.span}
    return tuple(unit for unit in range(board.placement_grid) if unit not in taken)


def free_compute_slices(board: Board, layout: Iterable[PlacedInstance]) -> int:
    """Compute slices of the GPU that no instance has."""
    return board.compute_slices - sum(_profile(board, instance.profile).compute_slices for instance in layout)


def stranded_memory_slices(
    board: Board, layout: Iterable[PlacedInstance], profile_names: Iterable[str] | None = None
) -> tuple[int, ...]:
    """Free placement units that no further instance of the profiles in demand (default: any profile) could cover."""
    layout = tuple(layout)
    usable: set[int] = set()
    for name in _names(board, profile_names):
        for placement in possible_placements(board, layout, name):
            usable.update(placement.span)
    return tuple(unit for unit in free_memory_slices(board, layout) if unit not in usable)


def stranded_compute_slices(
    board: Board, layout: Iterable[PlacedInstance], profile_names: Iterable[str] | None = None
) -> int:
    """Free compute slices that stay idle however the free room is filled with the profiles in demand (default: any).

    Compute slices have no places of their own, so this is a number: those that are free, less the most that further
    instances could take together. Two 3g strand one, because no memory slice is left for it.
    """
    names = _names(board, profile_names)
    layout = ordered(layout)
    return free_compute_slices(board, layout) - _most_compute_slices(board, layout, names)


def fragmentation(board: Board, layout: Iterable[PlacedInstance], demand: Mapping[str, float]) -> float | None:
    """Share of the free placement units that the next request cannot use, in the mean over the demand; 0 to 1.

    `demand` weighs profiles, by counts or rates. Lost to a profile are the free units that none of its possible
    placements covers. This is the measure of FGD (Weng et al., "Beware of Fragmentation", USENIX ATC'23: the part of
    the free resources that a task drawn from the workload is expected not to be able to use) in placement units. It
    is relative to the free room: on an empty GPU too a 1g can never use the eighth unit, which gives 1/8. None when
    there is no free room or no demand; raises UnknownProfile, and ValueError for a weight below 0 or not finite.
    """
    layout = tuple(layout)
    weights: dict[str, float] = {}
    for name, weight in demand.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{name} weighs {weight} in the demand; a weight is a finite number from 0 on.")
        profile = _profile(board, name).name
        weights[profile] = weights.get(profile, 0.0) + weight
    free, total = len(free_memory_slices(board, layout)), sum(weights.values())
    if not free or not total:
        return None
    lost = sum(
        weight * len(stranded_memory_slices(board, layout, [name])) for name, weight in weights.items() if weight
    )
    return lost / (free * total)


def legal_layouts(board: Board, profile_names: Iterable[str] | None = None) -> tuple[Layout, ...]:
    """Every layout of the board from those profiles (default: all), the empty one first; raises IllegalLayout."""
    return _legal_layouts(board, _names(board, profile_names))


def maximal_layouts(board: Board, profile_names: Iterable[str] | None = None) -> tuple[Layout, ...]:
    """The layouts to which no instance of those profiles (default: all) can be added; raises IllegalLayout."""
    return _maximal_layouts(board, _names(board, profile_names))


def undominated_counts(board: Board, profile_names: Iterable[str]) -> tuple[tuple[int, ...], ...]:
    """How many of each profile one GPU can hold, as vectors in the given order, without those another one exceeds."""
    return _undominated_counts(board, tuple(_profile(board, name).name for name in profile_names))


def assume_arrangement(board: Board, profile_names: Sequence[str], *, known: Iterable[PlacedInstance] = ()) -> Layout:
    """A layout of exactly these profiles: one consistent arrangement, where their starts are not known.

    `known` are instances with a start, beside those of `profile_names`. Of all arrangements it is the one that leaves
    most placements open, largest profiles first, then the one with the lowest starts; profile names come back as the
    catalogue spells them. Raises IllegalLayout when the instances cannot exist together, UnknownProfile.
    """
    fixed = ordered(PlacedInstance(_profile(board, instance.profile).name, instance.placement) for instance in known)
    names = tuple(sorted(_profile(board, name).name for name in profile_names))
    return _assume_arrangement(board, names, fixed)


def _profile(board: Board, name: str) -> Profile:
    profile = find_profile(board, name)
    if profile is None:
        raise UnknownProfile(f"{board.name} has no profile {name!r}.")
    return profile


def _names(board: Board, profile_names: Iterable[str] | None) -> tuple[str, ...]:
    """Catalogue names of the profiles, in catalogue order."""
    if profile_names is None:
        return tuple(profile.name for profile in board.profiles)
    wanted = {_profile(board, name).name for name in profile_names}
    return tuple(profile.name for profile in board.profiles if profile.name in wanted)


def _why_not_together(board: Board, profiles: Sequence[Profile]) -> str | None:
    for profile in profiles:
        count = sum(other.name == profile.name for other in profiles)
        if count > profile.max_instances:
            return f"{board.name} allows {profile.max_instances} of {profile.name}, not {count}."
    for index, first in enumerate(profiles):
        for second in profiles[index + 1 :]:
            if _media_conflict(first, second):
                return f"{first.name} and {second.name} exclude each other: they claim the same media engines."
    for exclusion in board.exclusions:
        if exclusion.excludes(profile.kind for profile in profiles):
            return exclusion_sentence(board, exclusion)
    return None


def _media_conflict(first: Profile, second: Profile) -> bool:
    """Whether both claim the one optical flow engine, or one claims every media engine and the other has any."""
    variants = {first.variant, second.variant}
    if "+me.all" in variants:
        return "-me" not in variants
    return first.variant == second.variant == "+me"


def _mask(placement: Placement) -> int:
    return ((1 << placement.size) - 1) << placement.start


@lru_cache(maxsize=16384)
def _most_compute_slices(board: Board, layout: Layout, names: tuple[str, ...]) -> int:
    """The most compute slices that further instances could take together."""
    most = 0
    for name in names:
        slices = _profile(board, name).compute_slices
        for placement in possible_placements(board, layout, name):
            grown = ordered((*layout, PlacedInstance(name, placement)))
            most = max(most, slices + _most_compute_slices(board, grown, names))
    return most


@lru_cache(maxsize=256)
def _legal_layouts(board: Board, names: tuple[str, ...]) -> tuple[Layout, ...]:
    obstacle = planning_obstacle(board)
    if obstacle is not None:
        raise IllegalLayout(obstacle)
    profiles = [_profile(board, name) for name in names]
    choices = sorted(
        ((profile, placement) for profile in profiles for placement in profile.placements),
        key=lambda choice: (choice[1].start, choice[0].name),
    )
    found: list[Layout] = []

    def extend(first: int, taken: int, chosen: tuple[Profile, ...], layout: Layout) -> None:
        found.append(layout)
        for index in range(first, len(choices)):
            profile, placement = choices[index]
            if taken & _mask(placement) or _why_not_together(board, (*chosen, profile)) is not None:
                continue
            instance = PlacedInstance(profile.name, placement)
            extend(index + 1, taken | _mask(placement), (*chosen, profile), (*layout, instance))

    extend(0, 0, (), ())
    return tuple(found)


@lru_cache(maxsize=256)
def _maximal_layouts(board: Board, names: tuple[str, ...]) -> tuple[Layout, ...]:
    return tuple(
        layout
        for layout in _legal_layouts(board, names)
        if not any(possible_placements(board, layout, name) for name in names)
    )


@lru_cache(maxsize=256)
def _undominated_counts(board: Board, names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    vectors = set()
    for layout in _legal_layouts(board, tuple(dict.fromkeys(_names(board, names)))):
        counts = Counter(instance.profile for instance in layout)
        vectors.add(tuple(counts[name] for name in names))
    return tuple(
        sorted(
            vector
            for vector in vectors
            if not any(
                other != vector and all(more >= less for more, less in zip(other, vector, strict=True))
                for other in vectors
            )
        )
    )


@lru_cache(maxsize=4096)
def _assume_arrangement(board: Board, names: tuple[str, ...], fixed: Layout) -> Layout:
    wrong = why_illegal(board, fixed)
    if wrong is not None:
        raise IllegalLayout(wrong)
    profiles = _largest_first(_profile(board, name) for name in names)
    everything = [*(_profile(board, instance.profile) for instance in fixed), *profiles]
    wrong = _why_not_together(board, everything)
    if wrong is None:
        arrangements = list(_arrangements(profiles, fixed))
        if arrangements:

            def room_left(layout: Layout) -> tuple[int, ...]:
                return tuple(
                    len(possible_placements(board, layout, profile.name)) for profile in _largest_first(board.profiles)
                )

            return min(arrangements, key=lambda layout: (tuple(-count for count in room_left(layout)), _starts(layout)))
        wrong = _no_room(board, everything, fixed)
    spelled = ", ".join(profile.name for profile in everything)
    raise IllegalLayout(f"{spelled} cannot exist together on one {board.name}: {wrong}")


def _no_room(board: Board, profiles: Sequence[Profile], fixed: Layout) -> str:
    needed = sum(profile.memory_slices or 0 for profile in profiles)
    if needed > board.placement_grid:
        return f"they take {needed} memory slices of {board.placement_grid}."
    beside = " beside the instances whose starts are known" if fixed else ""
    return f"their placements overlap in every arrangement{beside}."


def _largest_first(profiles: Iterable[Profile]) -> list[Profile]:
    return sorted(profiles, key=lambda profile: (-(profile.memory_slices or 0), -profile.compute_slices, profile.name))


def _arrangements(profiles: Sequence[Profile], layout: Layout, first_start: int = 0) -> Iterator[Layout]:
    """All ways to place the profiles, in which equal ones lie beside each other in the list, beside the layout."""
    if not profiles:
        yield ordered(layout)
        return
    profile, rest = profiles[0], profiles[1:]
    taken = {unit for instance in layout for unit in instance.placement.span}
    for placement in profile.placements:
        if placement.start >= first_start and taken.isdisjoint(placement.span):
            same_again = bool(rest) and rest[0].name == profile.name  # only later starts then, or each would come twice
            next_start = placement.start + 1 if same_again else 0
            yield from _arrangements(rest, (*layout, PlacedInstance(profile.name, placement)), next_start)


def _starts(layout: Layout) -> tuple[tuple[int, str], ...]:
    return tuple((instance.placement.start, instance.profile) for instance in layout)

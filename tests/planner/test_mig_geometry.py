"""Layouts are legal by the placement table alone, and the counts are those of an independent brute force."""

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalog import Catalog, load_catalog
from planner.errors import IllegalLayout, UnknownProfile
from planner.hardware import Board, Layout, PlacedInstance, Placement
from planner.mig_geometry import (
    assume_arrangement,
    fragmentation,
    free_compute_slices,
    free_memory_slices,
    is_legal,
    legal_layouts,
    maximal_layouts,
    ordered,
    possible_placements,
    stranded_compute_slices,
    stranded_memory_slices,
    undominated_counts,
    why_illegal,
)

PLAIN = ("1g", "2g", "3g", "4g", "7g")
DOUBLED = (*PLAIN, "1g2x")
WITH_MEDIA = (*DOUBLED, "1g+me")
SEVEN_SLICES = ["A100-40GB", "A100-80GB", "H100-80GB-SXM", "H200-141GB", "GH200-96GB", "B200", "GB200", "B300", "GB300"]


def names_of(board: Board, kinds: tuple[str, ...] | None) -> list[str]:
    return [profile.name for profile in board.profiles if kinds is None or profile.kind in kinds]


def multisets(layouts: tuple[Layout, ...]) -> set[tuple[str, ...]]:
    return {tuple(sorted(instance.profile for instance in layout)) for layout in layouts}


@pytest.mark.parametrize("name", SEVEN_SLICES)
@pytest.mark.parametrize(
    ("kinds", "valid", "maximal", "valid_multisets", "maximal_multisets"),
    [(PLAIN, 297, 19, 37, 14), (DOUBLED, 722, 78, 77, 38), (WITH_MEDIA, 2318, 239, 127, 64)],
)
def test_a_seven_slice_board_has_the_published_numbers_of_layouts(
    catalog: Catalog,
    name: str,
    kinds: tuple[str, ...],
    valid: int,
    maximal: int,
    valid_multisets: int,
    maximal_multisets: int,
) -> None:
    check_counts(catalog.board(name), kinds, valid, maximal, valid_multisets, maximal_multisets)


@pytest.mark.parametrize(
    ("name", "kinds", "valid", "maximal", "valid_multisets", "maximal_multisets"),
    [
        ("A30", ("1g", "2g", "4g"), 25, 5, 9, 4),
        ("A30", None, 75, 17, 19, 8),
        ("RTX-PRO-6000-96GB", ("1g", "2g", "4g"), 25, 5, 9, 4),
        ("RTX-PRO-6000-96GB", None, 716, 302, 114, 64),
    ],
)
def test_a_four_slice_board_has_the_counted_numbers_of_layouts(
    catalog: Catalog,
    name: str,
    kinds: tuple[str, ...] | None,
    valid: int,
    maximal: int,
    valid_multisets: int,
    maximal_multisets: int,
) -> None:
    check_counts(catalog.board(name), kinds, valid, maximal, valid_multisets, maximal_multisets)


def check_counts(
    board: Board, kinds: tuple[str, ...] | None, valid: int, maximal: int, sets: int, maximal_sets: int
) -> None:
    names = names_of(board, kinds)
    legal = legal_layouts(board, names)
    most = maximal_layouts(board, names)
    assert (len(legal) - 1, len(most)) == (valid, maximal)  # the empty layout is not counted
    assert (len(multisets(legal)) - 1, len(multisets(most))) == (sets, maximal_sets)


def brute_force(board: Board) -> set[frozenset[tuple[str, int]]]:
    """Every layout, by other means: each profile's starts on or off, an occupancy count, and sums of engines."""
    found: set[frozenset[tuple[str, int]]] = {frozenset()}
    frontier = found
    full = max(board.profiles, key=lambda profile: profile.memory_slices or 0)
    while frontier:
        grown: set[frozenset[tuple[str, int]]] = set()
        for layout in frontier:
            for profile in board.profiles:
                for placement in profile.placements:
                    if (profile.name, placement.start) not in layout:
                        grown.add(layout | {(profile.name, placement.start)})
        frontier = {layout for layout in grown if not breaks_a_rule(board, layout, full.name)}
        found = found | frontier
    return found


def breaks_a_rule(board: Board, layout: frozenset[tuple[str, int]], full: str) -> bool:
    profiles = {profile.name: profile for profile in board.profiles}
    occupied = [0] * board.placement_grid
    for name, start in layout:
        for unit in range(start, start + (profiles[name].memory_slices or 0)):
            occupied[unit] += 1
    counts = Counter(name for name, _ in layout)
    if max(occupied) > 1 or any(counts[name] > profiles[name].max_instances for name in counts):
        return True
    pool = profiles[full]
    for engine in ("decoders", "jpeg_engines", "optical_flow_engines"):
        used = sum(getattr(profiles[name], engine) for name, _ in layout)
        if used > getattr(pool, engine):
            return True
    return False


@pytest.mark.parametrize("name", ["A100-40GB", "H100-80GB-SXM", "A30", "RTX-PRO-6000-96GB"])
def test_the_layouts_are_those_that_grid_counts_and_media_engines_allow(catalog: Catalog, name: str) -> None:
    board = catalog.board(name)
    ours = {
        frozenset((instance.profile, instance.placement.start) for instance in layout)
        for layout in legal_layouts(board)
    }
    assert ours == brute_force(board)


@pytest.mark.parametrize("name", [*SEVEN_SLICES, "A30", "RTX-PRO-6000-96GB"])
def test_placements_alone_keep_compute_slices_and_sms_within_the_gpu(catalog: Catalog, name: str) -> None:
    board = catalog.board(name)
    for layout in maximal_layouts(board):
        profiles = [catalog.profile(board, instance.profile) for instance in layout]
        assert sum(profile.compute_slices for profile in profiles) <= board.compute_slices
        if board.sm_count is not None:
            assert sum(profile.sm_count or 0 for profile in profiles) <= board.sm_count


def test_the_known_traps_are_illegal(catalog: Catalog) -> None:
    a100 = catalog.board("A100-40GB")
    with pytest.raises(IllegalLayout, match=r"3g.20gb, 3g.20gb, 1g.5gb cannot exist together.* 9 memory slices of 8"):
        assume_arrangement(a100, ["3g.20gb", "3g.20gb", "1g.5gb"])
    with pytest.raises(IllegalLayout, match=r"allows 1 of 1g.5gb\+me, not 2"):
        assume_arrangement(a100, ["1g.5gb+me", "1g.5gb+me"])
    with pytest.raises(IllegalLayout, match="same media engines"):
        assume_arrangement(catalog.board("A30"), ["1g.6gb+me", "2g.12gb+me"])
    with pytest.raises(IllegalLayout, match="same media engines"):
        assume_arrangement(catalog.board("RTX-PRO-6000-96GB"), ["1g.24gb+me.all", "1g.24gb+gfx"])
    assert assume_arrangement(catalog.board("RTX-PRO-6000-96GB"), ["1g.24gb+me.all", "1g.24gb-me"])
    assert assume_arrangement(a100, ["4g.20gb", "3g.20gb"])  # refused by drivers before R510, legal since


def test_a_layout_tells_which_rule_it_breaks(catalog: Catalog) -> None:
    board = catalog.board("H100-80GB-SXM")

    def complaint(*placed: tuple[str, int, int]) -> str:
        return str(why_illegal(board, [PlacedInstance(name, Placement(start, size)) for name, start, size in placed]))

    assert complaint(("3g.40gb", 0, 4), ("3g.40gb", 4, 4)) == "None"
    assert "cannot lie at 2:4" in complaint(("3g.40gb", 2, 4))
    assert "cannot lie at 0:3" in complaint(("3g.40gb", 0, 3))
    assert "1g.10gb at 3:1 overlaps 3g.40gb at 0:4" in complaint(("3g.40gb", 0, 4), ("1g.10gb", 3, 1))
    assert "no profile 3g.20gb" in complaint(("3g.20gb", 0, 4))
    assert "cannot be cut" in str(why_illegal(load_catalog().board("T4"), []))


def test_what_is_free_and_what_is_stranded(catalog: Catalog) -> None:
    board = catalog.board("A100-40GB")
    layout = (PlacedInstance("3g.20gb", Placement(0, 4)), PlacedInstance("1g.5gb", Placement(4, 1)))
    assert free_memory_slices(board, layout) == (5, 6, 7)
    assert free_compute_slices(board, layout) == 3
    assert possible_placements(board, layout, "1g.5gb") == (Placement(5, 1), Placement(6, 1))
    assert possible_placements(board, layout, "2g.10gb") == ()
    assert possible_placements(board, layout, "1g.10gb") == (Placement(6, 2),)
    assert stranded_memory_slices(board, layout, ["1g.5gb"]) == (7,)
    assert stranded_memory_slices(board, layout, ["2g.10gb", "3g.20gb"]) == (5, 6, 7)
    assert stranded_memory_slices(board, layout) == ()
    with pytest.raises(UnknownProfile):
        possible_placements(board, layout, "2g.20gb")


def test_compute_slices_are_stranded_where_no_memory_is_left_for_them(catalog: Catalog) -> None:
    board = catalog.board("A100-40GB")
    two_halves = (PlacedInstance("3g.20gb", Placement(0, 4)), PlacedInstance("3g.20gb", Placement(4, 4)))
    assert free_compute_slices(board, two_halves) == stranded_compute_slices(board, two_halves) == 1
    assert stranded_compute_slices(board, two_halves[:1]) == 1  # the seventh lies in the half of the 3g
    assert stranded_compute_slices(board, two_halves[1:]) == 0  # 4g fits beside it
    assert stranded_compute_slices(board, two_halves[1:], ["3g.20gb"]) == 1
    assert stranded_compute_slices(board, (), ["1g.10gb"]) == 3  # four times twice the memory
    assert stranded_compute_slices(board, (), []) == 7
    assert stranded_compute_slices(board, [PlacedInstance("7g.40gb", Placement(0, 8))]) == 0
    with pytest.raises(UnknownProfile):
        stranded_compute_slices(board, (), ["2g.20gb"])


def test_fragmentation_is_the_share_of_the_free_room_that_the_next_request_cannot_use(catalog: Catalog) -> None:
    board = catalog.board("A100-40GB")
    layout = (PlacedInstance("3g.20gb", Placement(0, 4)), PlacedInstance("1g.5gb", Placement(4, 1)))  # 5, 6, 7 are free
    assert fragmentation(board, layout, {"1g.5gb": 1}) == pytest.approx(1 / 3)  # no 1g can lie at 7
    assert fragmentation(board, layout, {"2g.10gb": 5}) == 1.0
    assert fragmentation(board, layout, {"1g.5gb": 1, "2g.10gb": 1}) == pytest.approx((1 + 3) / (3 * 2))
    assert fragmentation(board, layout, {"1g.5gb": 0.75, "2g.10gb": 0.25}) == pytest.approx((0.75 + 0.25 * 3) / 3)
    assert fragmentation(board, (), {"7g.40gb": 1}) == 0.0
    assert fragmentation(board, (), {"1g.5gb": 1}) == 1 / 8
    assert fragmentation(board, (), {"2g.10gb": 1}) == 2 / 8


def test_fragmentation_says_nothing_without_free_room_or_demand(catalog: Catalog) -> None:
    board = catalog.board("A100-40GB")
    assert fragmentation(board, [PlacedInstance("7g.40gb", Placement(0, 8))], {"1g.5gb": 1}) is None
    assert fragmentation(board, (), {}) is None
    assert fragmentation(board, (), {"1g.5gb": 0, "2g.10gb": 0.0}) is None
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"1g.5gb weighs"):
            fragmentation(board, (), {"1g.5gb": wrong})
    with pytest.raises(UnknownProfile):
        fragmentation(board, (), {"2g.20gb": 1})


@pytest.mark.parametrize("name", ["A100-40GB", "A30"])
def test_stranded_compute_and_fragmentation_are_those_of_all_layouts_that_hold_more(
    catalog: Catalog, name: str
) -> None:
    board = catalog.board(name)
    legal = [set(layout) for layout in legal_layouts(board, names_of(board, ("1g", "2g", "3g", "4g", "7g", "1g2x")))]
    slices = {profile.name: profile.compute_slices for profile in board.profiles}
    for demand in (names_of(board, ("1g",)), names_of(board, ("2g", "3g"))):
        for layout in legal[:: len(legal) // 40 + 1]:
            more = [one for one in legal if one >= layout and all(new.profile in demand for new in one - layout)]
            used = max(sum(slices[one.profile] for one in grown) for grown in more)
            assert stranded_compute_slices(board, layout, demand) == board.compute_slices - used
            free = set(free_memory_slices(board, layout))
            expected = 0.0
            for asked in demand:
                held = [one - layout for one in more if {new.profile for new in one - layout} == {asked}]
                usable = {unit for one in held for new in one for unit in new.placement.span}
                expected += len(free - usable)
            found = fragmentation(board, layout, dict.fromkeys(demand, 2.5))
            assert found == (pytest.approx(expected / (len(free) * len(demand))) if free else None)


def test_undominated_counts_of_a_seven_slice_board_are_28_and_exceed_every_other(catalog: Catalog) -> None:
    board = catalog.board("A100-40GB")
    names = names_of(board, DOUBLED)
    best = undominated_counts(board, names)
    assert len(best) == 28
    for layout in legal_layouts(board, names):
        counts = Counter(instance.profile for instance in layout)
        assert any(all(counts[name] <= most for name, most in zip(names, vector, strict=True)) for vector in best)


boards = st.sampled_from([load_catalog().board(name) for name in ("A100-40GB", "H20-96GB", "A30", "RTX-PRO-6000-96GB")])


@settings(deadline=None, max_examples=60)
@given(data=st.data(), board=boards)
def test_any_sequence_of_creating_and_destroying_stays_legal(data: st.DataObject, board: Board) -> None:
    layout: Layout = ()
    for _ in range(data.draw(st.integers(1, 12))):
        choices = [
            PlacedInstance(profile.name, placement)
            for profile in board.profiles
            for placement in possible_placements(board, layout, profile.name)
        ]
        if layout and (not choices or data.draw(st.booleans())):
            gone = data.draw(st.sampled_from(layout))
            layout = tuple(instance for instance in layout if instance != gone)
        else:
            layout = ordered([*layout, data.draw(st.sampled_from(choices))])
        assert is_legal(board, layout)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), board=boards)
def test_waste_stays_within_what_is_free(data: st.DataObject, board: Board) -> None:
    layout = data.draw(st.sampled_from(legal_layouts(board)))
    names = data.draw(st.sets(st.sampled_from([profile.name for profile in board.profiles]), min_size=1))
    demand = {name: data.draw(st.floats(0, 1e6)) for name in sorted(names)}
    assert 0 <= stranded_compute_slices(board, layout, names) <= free_compute_slices(board, layout)
    ratio = fragmentation(board, layout, demand)
    assert ratio is None or -1e-9 <= ratio <= 1 + 1e-9
    if stranded_memory_slices(board, layout, names) and all(demand.values()):
        assert ratio is not None
        assert ratio > 0


@settings(deadline=None, max_examples=60)
@given(data=st.data(), board=boards)
def test_every_legal_layout_extends_to_a_maximal_one(data: st.DataObject, board: Board) -> None:
    layout = data.draw(st.sampled_from(legal_layouts(board)))
    assert any(set(layout) <= set(maximal) for maximal in maximal_layouts(board))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), board=boards)
def test_an_assumed_arrangement_is_legal_and_holds_exactly_the_profiles(data: st.DataObject, board: Board) -> None:
    layout = data.draw(st.sampled_from(legal_layouts(board)))
    known = data.draw(st.sets(st.sampled_from(layout))) if layout else set()
    names = data.draw(st.permutations([one.profile for one in layout if one not in known]))
    assumed = assume_arrangement(board, names, known=known)
    assert is_legal(board, assumed)
    assert Counter(one.profile for one in assumed) == Counter(one.profile for one in layout)
    assert known <= set(assumed)
    assert assumed == assume_arrangement(board, sorted(names), known=sorted(known))


@pytest.mark.parametrize("name", ["A100-40GB", "A30"])
def test_an_arrangement_is_found_exactly_when_one_exists(catalog: Catalog, name: str) -> None:
    board = catalog.board(name)
    legal = multisets(legal_layouts(board))
    names = [profile.name for profile in board.profiles]
    for counts in product(*(range(min(4, profile.max_instances) + 1) for profile in board.profiles)):
        wanted = tuple(sorted(name for name, count in zip(names, counts, strict=True) for _ in range(count)))
        if len(wanted) > 4:
            continue
        if wanted in legal:
            assert assume_arrangement(board, wanted) is not None
        else:
            with pytest.raises(IllegalLayout):
                assume_arrangement(board, wanted)


def test_known_starts_that_leave_no_room_are_refused(catalog: Catalog) -> None:
    board = catalog.board("A100-40GB")
    in_the_way = PlacedInstance("1g.5gb", Placement(2, 1))
    with pytest.raises(IllegalLayout, match="beside the instances whose starts are known"):
        assume_arrangement(board, ["4g.20gb"], known=[in_the_way])
    with pytest.raises(IllegalLayout, match="overlaps"):
        assume_arrangement(board, [], known=[in_the_way, PlacedInstance("4g.20gb", Placement(0, 4))])

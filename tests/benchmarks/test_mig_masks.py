"""The benchmarks' own bookkeeping of free placements agrees with the planner's geometry."""

import pytest

from benchmarks.mig_masks import Fleet, Policy, Slots, Spot
from planner.catalog import load_catalog
from planner.hardware import PlacedInstance, Placement
from planner.mig_geometry import legal_layouts, possible_placements


@pytest.mark.parametrize("name", ["A100-40GB", "A30-24GB", "H100-80GB-SXM"])
def test_free_starts_are_those_of_the_geometry(name: str) -> None:
    board = load_catalog().board(name)
    slots = Slots(board=board)
    for layout in legal_layouts(board, slots.profiles):
        mask = sum(slots.mask(instance.profile, instance.placement.start) for instance in layout)
        for profile in slots.profiles:
            starts = tuple(sorted(placement.start for placement in possible_placements(board, layout, profile)))
            assert slots.open_starts[profile][mask] == starts, (layout, profile)


def test_profiles_come_from_small_to_large_without_media_variants() -> None:
    slots = Slots(board=load_catalog().board("A100-40GB"))
    assert slots.profiles == ("1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb")


@pytest.mark.parametrize(
    ("mask", "run"), [(0b0, 8), (0b11111111, 0), (0b00001000, 4), (0b10000001, 6), (0b01010100, 2)]
)
def test_largest_free_run(mask: int, run: int) -> None:
    assert Slots(board=load_catalog().board("A100-40GB")).largest_free_run(mask) == run


def test_a_fleet_gives_the_lowest_gpu_again_after_a_departure() -> None:
    slots = Slots(board=load_catalog().board("A100-40GB"))
    policy = Policy(slots=slots, rank=lambda mask: 0)
    fleet = Fleet(slots, 3)
    assert [fleet.place(f"w{index}", "7g.40gb", policy) for index in range(4)] == [
        Spot(0, "7g.40gb", 0),
        Spot(1, "7g.40gb", 0),
        Spot(2, "7g.40gb", 0),
        None,
    ]
    fleet.remove("w1")
    assert fleet.place("w4", "3g.20gb", policy) == Spot(1, "3g.20gb", 0)
    assert slots.open_placements(fleet.masks[1]) == len(
        [
            placement
            for profile in slots.profiles
            for placement in possible_placements(slots.board, (PlacedInstance("3g.20gb", Placement(0, 4)),), profile)
        ]
    )


def test_a_closed_gpu_takes_nothing_until_it_is_reopened() -> None:
    slots = Slots(board=load_catalog().board("A100-40GB"))
    policy = Policy(slots=slots, rank=lambda mask: 0)
    fleet = Fleet(slots, 1)
    mask = fleet.close(0)
    assert fleet.place("w0", "1g.5gb", policy) is None
    fleet.reopen(0, mask)
    assert fleet.place("w0", "1g.5gb", policy) == Spot(0, "1g.5gb", 0)

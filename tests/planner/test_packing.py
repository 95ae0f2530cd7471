"""The packing is exact: it equals brute force, the published optima, and keeps every rule."""

import csv
import importlib.util
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalog import load_catalog
from planner.errors import SolverFailed, UnknownProfile
from planner.hardware import Board
from planner.mig_geometry import is_legal, legal_layouts
from planner.packing import pack, slice_bound
from planner.solve import cover

A100 = load_catalog().board("A100-40GB")
REQUESTED = ("1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb")
requests = st.dictionaries(st.sampled_from(REQUESTED), st.integers(0, 40))


@cache
def one_gpu_holds(board: Board) -> frozenset[tuple[tuple[str, int], ...]]:
    return frozenset(
        tuple(sorted(Counter(instance.profile for instance in layout).items())) for layout in legal_layouts(board)
    )


def brute_force(board: Board, wanted: dict[str, int]) -> int:
    """Fewest GPUs by breadth-first search over what is left after filling one GPU in every possible way."""
    fillings = [dict(counts) for counts in one_gpu_holds(board)]
    frontier = {tuple(sorted((name, count) for name, count in wanted.items() if count))}
    gpus = 0
    while () not in frontier:
        gpus += 1
        frontier = {
            tuple((name, count - filling.get(name, 0)) for name, count in left if count > filling.get(name, 0))
            for left in frontier
            for filling in fillings
            if any(filling.get(name) for name, _ in left)
        }
    return gpus


def check(board: Board, wanted: dict[str, int], whole_gpus: int = 0) -> int:
    packing = pack(board, wanted, whole_gpus=whole_gpus)
    placed: Counter[str] = Counter()
    for layout, gpus in Counter(packing.layouts).items():
        assert layout
        assert is_legal(board, layout)
        for instance in layout:
            placed[instance.profile] += gpus
    assert placed == Counter({name: count for name, count in wanted.items() if count})
    assert packing.gpus == len(packing.layouts) + whole_gpus
    assert packing.lower_bound == packing.gpus
    assert packing.is_optimal
    assert packing.gap_ratio == 0
    return packing.gpus


@settings(max_examples=40, deadline=None)
@given(wanted=st.dictionaries(st.sampled_from(REQUESTED), st.integers(0, 4)).filter(lambda d: sum(d.values()) <= 9))
def test_small_packings_equal_brute_force(wanted: dict[str, int]) -> None:
    gpus = check(A100, wanted)
    if gpus <= 3:
        assert gpus == brute_force(A100, wanted)
    else:
        assert brute_force(A100, wanted) > 3


@settings(max_examples=30, deadline=None)
@given(
    wanted=st.dictionaries(
        st.sampled_from([profile.name for profile in load_catalog().board("RTX-PRO-6000-96GB").profiles]),
        st.integers(0, 2),
    ).filter(lambda d: sum(d.values()) <= 5)
)
def test_small_packings_with_media_rules_equal_brute_force(wanted: dict[str, int]) -> None:
    board = load_catalog().board("RTX-PRO-6000-96GB")
    assert check(board, wanted) == brute_force(board, wanted)


@settings(max_examples=40, deadline=None)
@given(wanted=requests, whole=st.integers(0, 5))
def test_a_packing_holds_exactly_what_was_asked_in_any_order(wanted: dict[str, int], whole: int) -> None:
    check(A100, wanted, whole)
    assert pack(A100, dict(reversed(wanted.items())), whole_gpus=whole) == pack(A100, wanted, whole_gpus=whole)


@settings(max_examples=40, deadline=None)
@given(wanted=requests, more=requests)
def test_more_work_never_takes_fewer_gpus_and_no_more_than_apart(wanted: dict[str, int], more: dict[str, int]) -> None:
    both = dict(Counter(wanted) + Counter(more))
    together = pack(A100, both).gpus
    apart = pack(A100, wanted).gpus + pack(A100, more).gpus
    assert max(pack(A100, wanted).gpus, slice_bound(A100, both)) <= together <= apart


def test_sums_of_slices_alone_promise_too_much() -> None:
    assert slice_bound(A100, {"4g.20gb": 3}) == 2  # twelve of fourteen compute slices, but one start a GPU
    assert pack(A100, {"4g.20gb": 3}).gpus == 3
    assert pack(A100, {"4g.20gb": 3}).lower_bound == 3


def test_nothing_needs_no_gpu_and_an_unknown_profile_is_refused() -> None:
    assert pack(A100, {}).gpus == 0
    assert pack(A100, {"1g.5gb": 0}, whole_gpus=2).gpus == 2
    with pytest.raises(UnknownProfile):
        pack(A100, {"2g.20gb": 1})


def test_names_of_other_drivers_count_for_the_same_profile() -> None:
    board = load_catalog().board("GB200")
    packing = pack(board, {"1g.24gb": 4, "1g.23gb": 3})
    assert packing.gpus == 1
    assert {instance.profile for instance in packing.layouts[0]} == {"1g.23gb"}


def test_spare_room_is_gathered_in_the_last_gpus() -> None:
    layouts = pack(A100, {"1g.5gb": 15}).layouts
    assert [len(layout) for layout in layouts] == [7, 7, 1]


def test_a_demand_that_no_pattern_covers_is_an_error() -> None:
    with pytest.raises(SolverFailed, match="No pattern holds"):
        cover([(1, 0)], (1, 1), time_limit_s=5)


def load_instances(reference: Path) -> ModuleType:
    folder = reference / "placement"
    sys.path.insert(0, str(folder / "baselines"))
    try:
        spec = importlib.util.spec_from_file_location("gen_instances", folder / "gen_instances.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder / "baselines"))
    return module


def test_published_instances_are_packed_on_the_published_number_of_gpus(reference: Path) -> None:
    instances = load_instances(reference)
    with (reference / "placement" / "results_seeds_0-4.csv").open(encoding="utf-8") as file:
        rows = [
            row for row in csv.DictReader(file) if row["kind"] == "initial" and row["method"] == "EXACT_pattern_ilp"
        ]
    assert len(rows) == 120
    for row in rows:
        if row["n"] == "10000" and row["seed"] != "0":
            continue  # as large as the others and as easy; they cost most of the time
        problem = instances.initial(int(row["n"]), row["mix"], int(row["seed"]))
        wanted = Counter(workload["profile"] for workload in problem["workloads"])
        assert check(A100, wanted) == int(row["gpus"]), row

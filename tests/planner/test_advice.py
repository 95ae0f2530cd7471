"""The advice holds every piece of work, breaks no rule, and says what it does not know."""

import random
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.advice import Advice, BoardAdvice, advise
from planner.catalog import Catalog, load_catalog
from planner.fleet import DeviceState, Fleet
from planner.hardware import Evidence, PlacedInstance, Placement
from planner.mig_geometry import is_legal
from planner.need import AdviceSettings, MemoryBasis
from planner.units import GIB


def only(advice: Advice) -> BoardAdvice:
    assert len(advice.boards) == 1
    return advice.boards[0]


def check(fleet: Fleet, advice: Advice) -> None:
    """Rebuild every constraint from the answer."""
    states = {device.name: device.verdict.state for device in fleet.devices()}
    seen: Counter[str] = Counter()
    for board in advice.boards:
        whole_gpus = {number for layout in board.layouts if layout.is_whole for number in layout.gpu_numbers}
        numbers = [number for layout in board.layouts for number in layout.gpu_numbers]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        assert board.lower_bound <= board.gpus_needed
        assert board.is_optimal == (board.lower_bound == board.gpus_needed)
        placed: dict[int, list[PlacedInstance]] = {number: [] for number in numbers}
        for one in board.assignments:
            seen[one.device] += 1
            if one.to_profile is None:
                assert one.gpu_number in whole_gpus
                whole_gpus.remove(one.gpu_number)
            else:
                assert one.placement is not None
                placed[one.gpu_number].append(PlacedInstance(one.to_profile, one.placement))
        assert not whole_gpus
        for layout in board.layouts:
            for number in layout.gpu_numbers:
                assert is_legal(board.board, placed[number])
                assert set(placed[number]) == set(layout.layout)
        seen.update(one.device for one in board.unplaced)
        seen.update(one.device for one in board.released)
        assert all(states[one.device] is DeviceState.HELD for one in board.released)
        if not any(one.is_too_small_now for one in board.assignments):
            assert board.gpus_needed <= board.gpus_now
        elif board.gpus_needed > board.gpus_now:
            assert any("too small" in caveat for caveat in board.caveats)
        assert board.gpus_now <= board.gpus_total == len(board.current)
    advised = {board.board.name for board in advice.boards}
    wanted = {
        device.name
        for device in fleet.devices()
        if device.gpu.board is not None
        and device.gpu.board.name in advised
        and states[device.name] is not DeviceState.FREE
    }
    assert set(seen) == wanted
    assert all(count == 1 for count in seen.values())


def test_small_work_on_whole_gpus_is_gathered_on_one(build: SimpleNamespace, catalog: Catalog) -> None:
    h100 = catalog.board("H100-80GB-SXM")
    fleet = build.fleet(
        *(build.gpu(h100, n, build.serving(8, sm=0.05), pods=(build.pod(f"llm-{n}"),)) for n in range(7)),
        build.gpu(h100, 7, build.idle(0)),
    )
    advice = advise(fleet)
    board = only(advice)
    check(fleet, advice)
    assert (board.gpus_total, board.gpus_now, board.gpus_needed, board.gpus_freed) == (8, 7, 1, 6)
    assert board.layouts[0].free_units == 1
    assert [one.to_profile for one in board.assignments] == ["1g.10gb"] * 7
    assert any("last 60 minutes" in caveat for caveat in board.caveats)


def test_a_reservation_is_kept_and_said(build: SimpleNamespace, catalog: Catalog) -> None:
    h100 = catalog.board("H100-80GB-SXM")
    reserved = build.usage(memory_used_bytes=72 * GIB, sm_active_ratio=0.1)
    fleet = build.fleet(build.gpu(h100, 0, reserved, pods=(build.pod("llm"),)))
    advice = advise(fleet)
    board = only(advice)
    check(fleet, advice)
    assert board.assignments[0].to_profile is None
    assert board.assignments[0].need.memory_basis is MemoryBasis.RESERVATION
    assert any("reservation" in caveat for caveat in board.caveats)


def test_instances_are_moved_together_and_the_present_layout_is_marked_as_assumed(
    build: SimpleNamespace, catalog: Catalog
) -> None:
    a100 = catalog.board("A100-40GB")
    fleet = build.fleet(
        *(
            build.gpu(
                a100, n, instances=(build.instance(1, "3g.20gb", build.serving(4, sm=0.2), pods=(build.pod(f"p{n}"),)),)
            )
            for n in range(3)
        )
    )
    advice = advise(fleet)
    board = only(advice)
    check(fleet, advice)
    assert (board.gpus_now, board.gpus_needed) == (3, 1)
    assert {one.to_profile for one in board.assignments} == {"1g.5gb"}
    assert all(gpu.assumed and gpu.layout is not None and "No source tells" in str(gpu.note) for gpu in board.current)


def test_measured_starts_are_drawn_where_they_are(build: SimpleNamespace, catalog: Catalog) -> None:
    a100 = catalog.board("A100-40GB")
    cut = (
        build.instance(1, "3g.20gb", build.idle(0), start=0),
        build.instance(2, "1g.5gb", build.idle(0), start=6),
    )
    contradiction = (
        build.instance(1, "4g.20gb", build.serving(9), start=0),
        build.instance(2, "1g.5gb", build.idle(0), start=2),
    )
    advice = advise(build.fleet(build.gpu(a100, 0, instances=cut), build.gpu(a100, 1, instances=contradiction)))
    first, second = only(advice).current
    assert first.layout == (
        PlacedInstance("3g.20gb", Placement(0, 4)),
        PlacedInstance("1g.5gb", Placement(6, 1)),
    )
    assert not first.assumed
    assert not first.in_use
    assert second.layout is None
    assert "overlaps" in str(second.note)


def test_held_devices_are_released_and_named(build: SimpleNamespace, catalog: Catalog) -> None:
    a100 = catalog.board("A100-40GB")
    fleet = build.fleet(
        build.gpu(a100, 0, build.idle(0), pods=(build.pod("notebook"),)),
        build.gpu(a100, 1, instances=(build.instance(3, "1g.5gb", build.idle(0), pods=(build.pod("batch"),)),)),
    )
    advice = advise(fleet)
    board = only(advice)
    check(fleet, advice)
    assert (board.gpus_now, board.gpus_needed, board.assignments) == (2, 0, ())
    assert "only free once" in board.caveats[0]
    assert [(one.device, one.profile, one.pods[0].name) for one in board.released] == [
        ("node-1/0", None, "notebook"),
        ("node-1/1 1g.5gb#3", "1g.5gb", "batch"),
    ]


def test_a_loaded_model_without_traffic_keeps_its_memory_on_the_least_compute(
    build: SimpleNamespace, catalog: Catalog
) -> None:
    fleet = build.fleet(build.gpu(catalog.board("A100-40GB"), 0, build.idle(8), pods=(build.pod("llm"),)))
    assert only(advise(fleet)).assignments[0].to_profile == "1g.10gb"


def test_an_unknown_need_keeps_what_it_has_and_says_so(build: SimpleNamespace, catalog: Catalog) -> None:
    a100 = catalog.board("A100-40GB")
    fleet = build.fleet(
        build.gpu(a100, 0, None, pods=(build.pod("a"),)),
        build.gpu(a100, 1, instances=(build.instance(1, "2g.10gb", None, pods=(build.pod("b"),)),)),
    )
    advice = advise(fleet)
    board = only(advice)
    check(fleet, advice)
    assert [(one.from_profile, one.to_profile, one.is_pinned) for one in board.assignments] == [
        (None, None, True),
        ("2g.10gb", "2g.10gb", True),
    ]
    assert any("need of 2 devices is not known" in caveat for caveat in board.caveats)


def test_a_pod_of_several_whole_gpus_needs_them_whole(build: SimpleNamespace, catalog: Catalog) -> None:
    h200 = catalog.board("H200-141GB")
    fleet = build.fleet(
        *(build.gpu(h200, n, build.serving(10, sm=0.1), pods=(build.pod("tensor-parallel"),)) for n in range(2)),
        build.gpu(h200, 2, build.serving(10, sm=0.05), pods=(build.pod("alone"),)),
    )
    advice = advise(fleet)
    board = only(advice)
    check(fleet, advice)
    assert [one.to_profile for one in board.assignments] == [None, None, "1g.18gb"]
    assert "holds several whole GPUs" in board.assignments[0].reasons[-1]
    assert any("one node" in caveat for caveat in board.caveats)


def test_peer_traffic_keeps_a_gpu_whole_even_without_pods(build: SimpleNamespace, catalog: Catalog) -> None:
    h200 = catalog.board("H200-141GB")
    seen = build.serving(10, sm=0.1, nvlink_tx_bytes_per_s=5e9)
    board = only(advise(build.fleet(build.gpu(h200, 0, seen))))
    assert board.assignments[0].to_profile is None
    assert "NVLink" in board.assignments[0].reasons[-1]


def test_pods_that_share_a_device_are_one_piece_of_work(build: SimpleNamespace, catalog: Catalog) -> None:
    pods = (build.pod("a"), build.pod("b"))
    fleet = build.fleet(build.gpu(catalog.board("A100-40GB"), 0, build.serving(8, sm=0.1), pods=pods))
    board = only(advise(fleet))
    assert len(board.assignments) == 1
    assert board.assignments[0].pods == pods
    assert "2 pods share it" in board.assignments[0].reasons[-1]


def test_a_saturated_instance_gets_more_and_the_growth_is_explained(build: SimpleNamespace, catalog: Catalog) -> None:
    a100 = catalog.board("A100-40GB")
    full = tuple(
        build.instance(gi_id, "1g.5gb", build.serving(3, sm=1.0), pods=(build.pod(f"p{gi_id}"),)) for gi_id in range(7)
    )
    fleet = build.fleet(build.gpu(a100, 0, instances=full))
    advice = advise(fleet)
    board = only(advice)
    check(fleet, advice)
    assert board.gpus_needed == 3  # seven 2g, three a GPU
    assert board.gpus_freed == -2
    assert all(one.is_too_small_now and one.to_profile == "2g.10gb" for one in board.assignments)
    assert "already too small" in board.caveats[0]
    assert "takes 3 GPUs and the work sits on 1" in board.caveats[1]


def test_an_unknown_profile_leaves_its_gpu_as_it_is(build: SimpleNamespace, catalog: Catalog) -> None:
    a100 = catalog.board("A100-40GB")
    odd = build.gpu(a100, 0, instances=(build.instance(1, "5g.25gb", build.serving(3)),))
    fine = build.gpu(a100, 1, instances=(build.instance(1, "3g.20gb", build.serving(3, sm=0.1)),))
    fleet = build.fleet(odd, fine)
    advice = advise(fleet)
    board = only(advice)
    check(fleet, advice)
    assert [one.device for one in board.unplaced] == ["node-1/0 5g.25gb#1"]
    assert "5g.25gb" in board.unplaced[0].reason
    assert (board.gpus_needed, board.lower_bound) == (2, 2)
    assert board.current[0].layout is None


def test_gpus_that_cannot_be_cut_or_planned_are_listed_with_the_reason(
    build: SimpleNamespace, catalog: Catalog
) -> None:
    fleet = build.fleet(
        build.gpu(catalog.board("L40S"), 0, build.serving(3)),
        build.gpu(catalog.board("L40S"), 1, build.serving(3)),
        build.gpu(catalog.board("RTX-PRO-5000-48GB"), 2, build.serving(3)),
        build.gpu(None, 3, build.serving(3), model_name="Moore Threads S4000"),
        build.gpu(None, 4, build.serving(3)),
    )
    advice = advise(fleet)
    assert advice.boards == ()
    told = {one.board: (one.gpus, one.reason) for one in advice.not_advised}
    assert told["L40S"] == (2, "L40S cannot be cut into GPU instances.")
    assert "No source states where" in told["RTX-PRO-5000-48GB"][1]
    assert "does not know Moore Threads S4000" in told["Moore Threads S4000"][1]
    assert told["unknown board"][0] == 1


def test_clusters_are_advised_apart(build: SimpleNamespace, catalog: Catalog) -> None:
    a100 = catalog.board("A100-40GB")
    one = build.fleet(build.gpu(a100, 0, build.serving(3, sm=0.1), node="n1"), cluster="east")
    two = build.fleet(build.gpu(a100, 0, build.serving(3, sm=0.1), node="n2"), cluster="west")
    both = Fleet(taken_at=one.taken_at, nodes=(*one.nodes, *two.nodes))
    assert [(board.cluster, board.gpus_needed) for board in advise(both).boards] == [("east", 1), ("west", 1)]


def test_weak_evidence_and_board_cautions_are_caveats(build: SimpleNamespace, catalog: Catalog) -> None:
    b200 = catalog.board("B200")
    assert catalog.profile(b200, "1g.23gb").evidence_of("placements") is Evidence.DERIVED
    board = only(advise(build.fleet(build.gpu(b200, 0, build.serving(10, sm=0.05)))))
    assert any("-lgipp" in caveat for caveat in board.caveats)
    assert set(b200.cautions) <= set(board.caveats)
    assert "Nothing is moved onto 3g.90gb, 4g.90gb, 7g.180gb, as they are not known to be enough." in board.caveats
    a100 = only(advise(build.fleet(build.gpu(catalog.board("A100-40GB"), 0, build.serving(3, sm=0.05)))))
    assert not any("-lgipp" in caveat for caveat in a100.caveats)
    assert any("resets the GPU" in caveat for caveat in a100.caveats)
    assert not any("resets the GPU" in caveat for caveat in board.caveats)
    assert not any("known to be enough" in caveat for caveat in a100.caveats)
    h20 = only(advise(build.fleet(build.gpu(catalog.board("H20-141GB"), 0, build.serving(3, sm=0.05)))))
    assert any("every device keeps the profile it has" in caveat for caveat in h20.caveats)


def test_an_idle_fleet_needs_no_gpu(build: SimpleNamespace, catalog: Catalog) -> None:
    board = only(advise(build.fleet(build.gpu(catalog.board("A100-40GB"), 0, build.idle(0)))))
    assert (board.gpus_total, board.gpus_now, board.gpus_needed, board.is_optimal) == (1, 0, 0, True)
    assert board.caveats == ()
    assert advise(Fleet(taken_at=build.NOW)).boards == ()


SHAPES = ((), ("7g",), ("4g", "3g"), ("3g", "2g", "1g", "1g"), ("2g", "2g", "2g", "1g"), ("1g",) * 7, ("1g2x", "4g"))
readings = st.sampled_from(["none", "empty", "idle", "busy", "saturated", "reserved", "engine only"])


def drawn_usage(build: SimpleNamespace, kind: str, memory_bytes: float, share: float) -> object:
    used = memory_bytes * share
    return {
        "none": lambda: None,
        "empty": lambda: build.idle(0),
        "idle": lambda: build.idle(used / GIB),
        "busy": lambda: build.serving(used / GIB, sm=max(share, 0.05) * 0.9),
        "saturated": lambda: build.serving(used / GIB, sm=0.99),
        "reserved": lambda: build.usage(memory_used_bytes=0.92 * memory_bytes, sm_active_ratio=0.2),
        "engine only": lambda: build.usage(memory_used_bytes=used, gr_engine_active_ratio=max(share, 0.05)),
    }[kind]()


def drawn_fleet(build: SimpleNamespace, data: st.DataObject) -> Fleet:
    board = load_catalog().board(data.draw(st.sampled_from(["A100-40GB", "H100-80GB-SXM"])))
    by_kind = {profile.kind: profile for profile in board.profiles}
    gpus = []
    for number in range(data.draw(st.integers(1, 5))):
        shape = data.draw(st.sampled_from(SHAPES))
        cut = []
        for gi_id, kind in enumerate(shape):
            profile = by_kind[kind]
            share = data.draw(st.floats(0.02, 0.99))
            seen = drawn_usage(build, data.draw(readings), profile.memory_bytes or 0, share)
            pods = (build.pod(f"p{number}-{gi_id}"),) if data.draw(st.booleans()) else ()
            cut.append(build.instance(gi_id, profile.name, seen, pods=pods))
        share = data.draw(st.floats(0.02, 0.99))
        seen = drawn_usage(build, data.draw(readings), board.memory_total_bytes or 0, share)
        pods = (build.pod(f"p{data.draw(st.integers(0, 3))}"),) if data.draw(st.booleans()) else ()
        gpus.append(build.gpu(board, number, seen, pods=() if cut else pods, instances=tuple(cut)))
    found: Fleet = build.fleet(*gpus)
    return found


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_advice_for_any_fleet_keeps_every_constraint_and_never_grows_without_saying_why(
    build: SimpleNamespace, data: st.DataObject
) -> None:
    fleet = drawn_fleet(build, data)
    check(fleet, advise(fleet))


@settings(deadline=None, max_examples=25)
@given(data=st.data(), seed=st.integers(0, 99))
def test_the_order_of_the_fleet_does_not_change_the_advice(
    build: SimpleNamespace, data: st.DataObject, seed: int
) -> None:
    fleet = drawn_fleet(build, data)
    gpus = list(fleet.gpus())
    random.Random(seed).shuffle(gpus)
    assert advise(build.fleet(*gpus)) == advise(fleet)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_larger_fleet_never_needs_fewer_gpus(build: SimpleNamespace, data: st.DataObject) -> None:
    fleet = drawn_fleet(build, data)
    gpus = list(fleet.gpus())
    part = build.fleet(*gpus[:-1])
    needed = sum(board.gpus_needed for board in advise(fleet).boards)
    # A pod that holds two GPUs of the larger fleet may hold one of the smaller, which can only ask for less.
    assert sum(board.gpus_needed for board in advise(part).boards) <= needed


@pytest.mark.parametrize("headroom", [0.0, 0.5])
def test_more_headroom_never_means_fewer_gpus(build: SimpleNamespace, catalog: Catalog, headroom: float) -> None:
    a100 = catalog.board("A100-40GB")
    fleet = build.fleet(*(build.gpu(a100, n, build.serving(4 + n, sm=0.1 * (n + 1))) for n in range(6)))
    careful = AdviceSettings(memory_headroom_ratio=headroom + 0.4, compute_headroom_ratio=headroom + 0.4)
    bold = AdviceSettings(memory_headroom_ratio=headroom, compute_headroom_ratio=headroom)
    assert only(advise(fleet, bold)).gpus_needed <= only(advise(fleet, careful)).gpus_needed

from dashboard.gpu_figures import layout_drawing
from dashboard.mig_drawing import draw_current, draw_proposed
from planner.advice import Assignment, BoardAdvice, CurrentGpu, ProposedLayout
from planner.catalog import load_catalog
from planner.fleet import DeviceState
from planner.hardware import PlacedInstance, Placement
from planner.need import ComputeBasis, MemoryBasis, Need
from planner.units import GIB, GpuUuid, NodeName
from tests.dashboard.fleets import gpu, instance, pod

A100 = load_catalog().board("A100-40GB")


def test_an_instance_is_as_wide_as_its_placement() -> None:
    drawing = layout_drawing(gpu(0, instances=(instance(1, "3g.20gb", start=4), instance(9, "1g.5gb", start=2))))
    assert drawing.units == 8
    assert [(cell.start, cell.size, cell.title) for cell in drawing.cells] == [
        (0, 2, ""),
        (2, 1, "1g.5gb#9"),
        (3, 1, ""),
        (4, 4, "3g.20gb#1"),
    ]
    assert [cell.compute_slices for cell in drawing.cells] == [None, 1, None, 3]
    assert not drawing.assumed


def test_unknown_starts_are_drawn_as_a_legal_arrangement_and_marked_as_assumed() -> None:
    drawing = layout_drawing(gpu(0, instances=(instance(1, "3g.20gb"), instance(2, "3g.20gb"))))
    assert drawing.assumed
    assert drawing.note is not None
    assert [(cell.start, cell.size) for cell in drawing.cells] == [(0, 4), (4, 4)]
    assert "assumed" in drawing.alt


def test_one_unknown_start_makes_the_whole_arrangement_assumed_and_keeps_the_known_one() -> None:
    drawing = layout_drawing(gpu(0, instances=(instance(1, "3g.20gb", start=4), instance(2, "3g.20gb"))))
    assert drawing.assumed
    assert {cell.title: cell.start for cell in drawing.cells} == {"3g.20gb#1": 4, "3g.20gb#2": 0}


def test_instances_that_cannot_exist_together_are_shown_with_the_reason_instead_of_to_scale() -> None:
    drawing = layout_drawing(gpu(0, instances=tuple(instance(n, "3g.20gb") for n in range(3))))
    assert not drawing.to_scale
    assert len(drawing.cells) == 3
    assert drawing.note is not None
    assert "contradict" in drawing.note


def test_a_cell_carries_state_sign_and_pod() -> None:
    held = instance(3, "2g.10gb", start=0, state=DeviceState.HELD, pods=(pod("trainer"),))
    cell = layout_drawing(gpu(0, instances=(held,))).cells[0]
    assert (cell.tone, cell.sign, cell.detail) == ("held", "◆", "trainer")
    assert "llm/trainer" in cell.tooltip


def advised() -> BoardAdvice:
    need = Need(
        memory_bytes=3 * GIB,
        memory_basis=MemoryBasis.HIGH_WATER,
        sm_count=5.0,
        compute_basis=ComputeBasis.SM_ACTIVE,
        bandwidth_ratio=None,
        is_saturated=False,
        reasons=(),
    )
    moved = [
        Assignment(
            device=f"node-a/{number} 3g.20gb#1",
            uuid=GpuUuid(f"GPU-{number}"),
            gi_id=1,
            pods=(pod(f"model-{number}"),),
            from_profile="3g.20gb",
            to_profile="1g.5gb",
            gpu_number=1,
            placement=Placement(number, 1),
            need=need,
            is_pinned=False,
            is_too_small_now=False,
            reasons=("needs 3 GiB",),
        )
        for number in range(2)
    ]
    small = tuple(PlacedInstance("1g.5gb", Placement(start, 1)) for start in range(2))
    large = (PlacedInstance("3g.20gb", Placement(0, 4)),)
    return BoardAdvice(
        cluster="default",
        board=A100,
        gpus_total=2,
        gpus_now=2,
        gpus_needed=1,
        lower_bound=1,
        is_optimal=True,
        layouts=(ProposedLayout(layout=small, is_whole=False, gpu_numbers=(1,), free_units=6),),
        current=tuple(
            CurrentGpu(
                uuid=GpuUuid(f"GPU-{number}"),
                node=NodeName("node-a"),
                index=number,
                in_use=True,
                layout=large,
                assumed=True,
                note="starts are not told",
            )
            for number in range(2)
        ),
        assignments=tuple(moved),
        unplaced=(),
        released=(),
        caveats=(),
    )


def test_a_workload_has_one_colour_now_and_in_the_proposal() -> None:
    advice = advised()
    now = {cell.detail: cell.tone for drawing in draw_current(advice, 0, 9) for cell in drawing.cells if cell.title}
    proposed = {
        cell.detail: cell.tone for drawing in draw_proposed(advice, 0, 9) for cell in drawing.cells if cell.title
    }
    assert now == proposed
    assert set(now) == {"model-0", "model-1"}
    assert len(set(now.values())) == 2


def test_the_proposal_is_drawn_where_the_advice_places_it() -> None:
    (drawing,) = draw_proposed(advised(), 0, 9)
    assert [(cell.start, cell.size, cell.detail) for cell in drawing.cells] == [
        (0, 1, "model-0"),
        (1, 1, "model-1"),
        (2, 6, ""),
    ]


def test_only_the_asked_gpus_are_drawn() -> None:
    assert [drawing.caption for drawing in draw_current(advised(), 1, 2)] == ["node-a/1"]

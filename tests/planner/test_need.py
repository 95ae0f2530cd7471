"""Needs come from readings, say how they are known, and lead to the smallest profile that is known to be enough."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalog import Catalog, load_catalog
from planner.fleet import Device, Observation, Usage
from planner.hardware import Profile
from planner.need import AdviceSettings, ComputeBasis, MemoryBasis, Need, capacity_of, measured_need
from planner.profile_choice import ProfileChoice, choose_profile
from planner.units import GIB, MIB

SETTINGS = AdviceSettings()


@pytest.fixture
def h100(build: SimpleNamespace, catalog: Catalog) -> SimpleNamespace:
    """An H100 as one whole GPU or as one instance, with given readings."""
    board = catalog.board("H100-80GB-SXM")

    def whole(usage: Usage | None) -> Device:
        found: Device = build.device(build.gpu(board, 0, usage, pods=(build.pod("llm"),)))
        return found

    def cut(profile: str, usage: Usage | None) -> Device:
        one = build.instance(1, profile, usage, pods=(build.pod("llm"),))
        found: Device = build.device(build.gpu(board, 0, instances=(one,)), 1)
        return found

    def chosen(device: Device) -> ProfileChoice:
        return choose_profile(board, device, measured_need(device), SETTINGS)

    def name(device: Device) -> str:
        profile = chosen(device).profile
        return profile.name if profile else "whole"

    return SimpleNamespace(board=board, whole=whole, cut=cut, chosen=chosen, name=name)


def test_memory_need_is_the_high_water_mark(build: SimpleNamespace, h100: SimpleNamespace) -> None:
    need = measured_need(h100.whole(build.serving(30, sm=0.25)))
    assert need.memory_bytes == 30 * GIB
    assert need.memory_basis is MemoryBasis.HIGH_WATER
    assert need.sm_count == pytest.approx(33)
    assert need.compute_basis is ComputeBasis.SM_ACTIVE
    assert need.bandwidth_ratio is None
    assert any("30.0 GiB" in reason for reason in need.reasons)


def test_high_and_steady_occupancy_is_an_engines_reservation(build: SimpleNamespace, h100: SimpleNamespace) -> None:
    reserved = build.usage(memory_used_bytes=72 * GIB, sm_active_ratio=0.1)
    need = measured_need(h100.whole(reserved))
    assert need.memory_basis is MemoryBasis.RESERVATION
    assert "vLLM reserves its share" in need.reasons[0]
    moving = build.usage(memory_used_bytes=build.steady(72 * GIB, minimum=60 * GIB), sm_active_ratio=0.1)
    assert measured_need(h100.whole(moving)).memory_basis is MemoryBasis.HIGH_WATER
    low = build.usage(memory_used_bytes=40 * GIB, sm_active_ratio=0.1)
    assert measured_need(h100.whole(low)).memory_basis is MemoryBasis.HIGH_WATER


def test_a_reservation_is_judged_against_the_instance_and_not_the_gpu(
    build: SimpleNamespace, h100: SimpleNamespace
) -> None:
    need = measured_need(h100.cut("1g.10gb", build.usage(memory_used_bytes=9 * GIB, sm_active_ratio=0.1)))
    assert need.memory_basis is MemoryBasis.RESERVATION


def test_without_sm_activity_the_engine_stands_for_it_and_is_said_to_be_a_bound(
    build: SimpleNamespace, h100: SimpleNamespace
) -> None:
    need = measured_need(h100.cut("3g.40gb", build.usage(memory_used_bytes=9 * GIB, gr_engine_active_ratio=0.5)))
    assert need.compute_basis is ComputeBasis.GR_ENGINE
    assert need.sm_count == pytest.approx(30)  # of the instance's 60, not of the GPU's 132
    assert "upper bound" in need.reasons[1]
    busy = measured_need(h100.whole(build.usage(memory_used_bytes=9 * GIB, gpu_busy_ratio=0.5)))
    assert (busy.compute_basis, busy.sm_count) == (ComputeBasis.GPU_BUSY, 66)


def test_a_loaded_model_without_traffic_needs_its_memory_and_any_compute(
    build: SimpleNamespace, h100: SimpleNamespace
) -> None:
    device = h100.whole(build.idle(15))
    need = measured_need(device)
    assert (need.memory_bytes, need.sm_count, need.compute_basis) == (15 * GIB, 0, ComputeBasis.MINIMAL)
    assert h100.name(device) == "1g.20gb"


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        (None, "Nothing was measured"),
        ({"coverage_ratio": 0.3, "sm_active_ratio": 0.5, "memory_used_bytes": GIB}, "Only 30% of the window"),
        ({"sm_active_ratio": 0.5}, "Memory in use is not reported"),
        ({"memory_used_bytes": GIB}, "No source reports SM"),
    ],
)
def test_a_need_that_cannot_be_known_keeps_the_device_as_it_is(
    build: SimpleNamespace, h100: SimpleNamespace, readings: dict[str, float] | None, why: str
) -> None:
    usage = None if readings is None else build.usage(**readings)
    device = h100.cut("3g.40gb", usage)
    choice = h100.chosen(device)
    assert choice.profile.name == "3g.40gb"
    assert not choice.is_known
    assert why in " ".join(choice.reasons)
    assert h100.name(h100.whole(usage)) == "whole"


@pytest.mark.parametrize(
    ("memory_gib", "sm", "profile"),
    [
        (5, 0.05, "1g.10gb"),
        (9, 0.05, "1g.20gb"),  # 9 GiB with a tenth on top do not fit 9.75 GiB
        (15, 0.18, "2g.20gb"),  # 30 of 132 SMs with headroom: 1g.20gb has 26
        (15, 0.15, "1g.20gb"),
        (15, 0.30, "3g.40gb"),
        (35, 0.40, "whole"),  # 66 SMs: 4g has 64
        (35, 0.38, "4g.40gb"),
        (45, 0.05, "whole"),  # full size is the whole GPU, not 7g
    ],
)
def test_the_smallest_profile_with_headroom_is_chosen(
    build: SimpleNamespace, h100: SimpleNamespace, memory_gib: float, sm: float, profile: str
) -> None:
    assert h100.name(h100.whole(build.serving(memory_gib, sm=sm))) == profile


def test_memory_bandwidth_is_a_need_like_any_other(build: SimpleNamespace, h100: SimpleNamespace) -> None:
    seen = build.serving(5, sm=0.05, dram_active_ratio=0.35)
    need = measured_need(h100.whole(seen))
    assert need.bandwidth_ratio == pytest.approx(0.35)
    assert h100.name(h100.whole(seen)) == "3g.40gb"  # four of eight memory slices
    within = h100.cut("3g.40gb", build.serving(5, sm=0.05, dram_active_ratio=0.35))
    assert measured_need(within).bandwidth_ratio == pytest.approx(0.175)


def test_headroom_never_asks_for_more_than_the_device_has(build: SimpleNamespace, h100: SimpleNamespace) -> None:
    assert h100.name(h100.cut("1g.10gb", build.serving(9.5, sm=0.9, dram_active_ratio=1.0))) == "1g.10gb"
    busy = build.usage(memory_used_bytes=5 * GIB, gr_engine_active_ratio=1.0)
    assert h100.name(h100.cut("1g.10gb", busy)) == "1g.10gb"


def test_saturated_sms_ask_for_a_larger_profile_and_say_so(build: SimpleNamespace, h100: SimpleNamespace) -> None:
    choice = h100.chosen(h100.cut("1g.10gb", build.serving(5, sm=0.99)))
    assert choice.is_too_small_now
    assert choice.profile.name == "1g.20gb"  # 26 SMs
    assert any("too small" in reason for reason in choice.reasons)
    largest = h100.chosen(h100.whole(build.serving(5, sm=0.99)))
    assert largest.profile is None
    assert "nothing else" in largest.reasons[-1]


def test_a_device_keeps_its_variant(build: SimpleNamespace, catalog: Catalog) -> None:
    board = catalog.board("RTX-PRO-6000-96GB")
    one = build.instance(1, "2g.48gb+gfx", build.serving(5, sm=0.1))
    device = build.device(build.gpu(board, 0, instances=(one,)), 1)
    chosen = choose_profile(board, device, measured_need(device), SETTINGS).profile
    assert chosen is not None
    assert chosen.name == "1g.24gb+gfx"


def test_what_no_source_states_is_not_enough(build: SimpleNamespace, catalog: Catalog) -> None:
    board = catalog.board("B200")
    device = build.device(build.gpu(board, 0, build.serving(60, sm=0.1)))
    assert choose_profile(board, device, measured_need(device), SETTINGS).profile is None  # 3g would do, if known
    small = build.device(build.gpu(board, 0, build.serving(30, sm=0.1)))
    chosen = choose_profile(board, small, measured_need(small), SETTINGS).profile
    assert chosen is not None
    assert chosen.name == "1g.45gb"


def test_the_measured_size_of_the_present_device_counts_more_than_the_catalogue(
    build: SimpleNamespace, catalog: Catalog
) -> None:
    board = catalog.board("B200")  # older drivers give 1g.23gb 22.0 GiB, the catalogue says 20.5
    total = {"memory_total_bytes": Observation(value=22 * GIB, observed_at=build.NOW)}
    one = build.instance(1, "1g.23gb", build.serving(21.5, sm=0.3), metrics=total)
    device = build.device(build.gpu(board, 0, instances=(one,)), 1)
    chosen = choose_profile(board, device, measured_need(device), SETTINGS).profile
    assert chosen is not None
    assert chosen.name == "1g.23gb"


@settings(deadline=None)
@given(memory_mib=st.integers(1, 90_000), sm=st.floats(0, 140), bandwidth=st.none() | st.floats(0, 1))
def test_the_chosen_profile_provides_the_need_and_no_smaller_one_does(
    build: SimpleNamespace, memory_mib: int, sm: float, bandwidth: float | None
) -> None:
    board = load_catalog().board("H100-80GB-SXM")
    need = Need(
        memory_bytes=memory_mib * MIB,
        memory_basis=MemoryBasis.HIGH_WATER,
        sm_count=sm,
        compute_basis=ComputeBasis.SM_ACTIVE,
        bandwidth_ratio=bandwidth,
        is_saturated=False,
        reasons=(),
    )
    device = build.device(build.gpu(board, 0, build.serving(60)))
    chosen = choose_profile(board, device, need, SETTINGS).profile

    def provides(profile: Profile) -> bool:
        offered = capacity_of(board, profile)
        return (
            (offered.memory_bytes or 0) >= memory_mib * MIB * 1.1
            and (offered.sm_count or 0) >= sm * 1.25
            and (offered.bandwidth_ratio or 0) >= (bandwidth or 0) * 1.25
        )

    plain = [profile for profile in board.profiles if profile.variant == "" and profile.kind != "7g"]
    enough = [profile for profile in plain if provides(profile)]
    if chosen is None:
        assert not enough
    else:
        assert provides(chosen)
        smallest = min((p.memory_slices or 0, p.compute_slices) for p in enough)
        assert (chosen.memory_slices, chosen.compute_slices) == smallest

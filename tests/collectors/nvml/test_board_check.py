"""The driver's own table of placements against the catalogue's: silent where they agree."""

from dataclasses import replace

from tests.collectors.nvml.fake_nvml.boards import A100_PROFILES, a100, a100_seven_instances
from tests.collectors.nvml.fake_nvml.machine import FakeProfile
from tests.collectors.nvml.readings import machine, read_once, reasons


def complaints(*profiles: FakeProfile) -> list[str]:
    return [reason for reason in reasons(read_once(a100(profiles=profiles)), None) if "A100" in reason]


def test_a_driver_that_agrees() -> None:
    assert complaints(*A100_PROFILES) == []


def test_a_driver_with_another_placement() -> None:
    moved = [
        replace(profile, placements=((0, 4),)) if profile.name == "3g.20gb" else profile for profile in A100_PROFILES
    ]
    (told,) = complaints(*moved)
    assert told.startswith("the driver lets 3g.20gb of A100-40GB lie at 0:4, the catalogue says 0:4, 4:4: plans for")


def test_a_driver_that_offers_less_and_more() -> None:
    odd = FakeProfile(
        profile_id=99, name="5g.30gb", slices=5, memory_mib=29000, multiprocessors=70, placements=((0, 6),)
    )
    fewer = [profile for profile in A100_PROFILES if profile.name != "1g.10gb"]
    assert complaints(*fewer, odd) == [
        "the driver offers 5g.30gb on A100-40GB, which the catalogue does not have: no plan uses it",
        "this driver does not offer 1g.10gb on A100-40GB, which plans may use: exclude them",
    ]


def test_a_table_that_may_not_be_read_matters_where_mig_is_on() -> None:
    with machine(a100(), privileged=False) as running:
        assert not [reason for reason in reasons(running.read(), None) if "held against" in reason]
    with machine(a100_seven_instances(), privileged=False) as running:
        (told,) = [reason for reason in reasons(running.read(), None) if "held against" in reason]
    assert "nvmlDeviceGetGpuInstancePossiblePlacements wants a right that is missing" in told


def test_the_table_is_asked_once_per_kind_of_board() -> None:
    with machine(a100(0), a100(1)) as running:
        running.read()
        running.read()
        assert running.fake.calls["nvmlDeviceGetGpuInstancePossiblePlacements_v2"] == len(A100_PROFILES)


def test_names_of_profiles_come_from_the_driver_where_devices_have_none() -> None:
    gpu = a100_seven_instances()
    for instance in gpu.instances:
        instance.compute_instances[0].name = "device"  # as drivers before R470 spell it
    (fact,) = read_once(gpu).facts
    assert {instance.profile for instance in fact.instances} == {"1g.5gb"}

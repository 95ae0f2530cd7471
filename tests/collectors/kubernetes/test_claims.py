"""Dynamic resource allocation: devices of slices in every version, and what claims were given."""

from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from collectors.kubernetes.claims import DeviceIndex, dcgm_bus_id, driver_version, holds_gpus, profile_in_name
from collectors.kubernetes.wire import reader
from collectors.kubernetes.wire_claims import ClaimObject, SliceObject
from planner.cluster_facts import ClaimedDevice
from tests.collectors.kubernetes.objects import claim, device, given, slice_json, slice_of

GPU0 = "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c"
MIG0 = "MIG-b9e8e1f5-9a4e-5b58-9ba1-1e2d3c4b5a60"

FULL = device(
    "gpu-0",
    type="gpu",
    uuid=GPU0,
    productName="NVIDIA H100 80GB HBM3",
    driverVersion={"version": "580.126.9"},
    **{"resource.kubernetes.io/pciBusID": "0000:1b:00.0"},
)
STATIC_MIG = device(
    "gpu-0-mig-19-0-1",
    type="mig",
    uuid=MIG0,
    parentUUID=GPU0,
    profile="1g.10gb",
    productName="NVIDIA H100 80GB HBM3",
    pcieBusID="0000:1b:00.0",
)
ABSTRACT_MIG = device("gpu-0-mig-1g10gb-19-0", type="mig", profile="1g.10gb")


def the_device(index: DeviceIndex, claimed: ClaimObject) -> ClaimedDevice:
    (found,) = index.claimed(claimed)
    return found


def test_a_claimed_gpu_has_the_uuid_and_the_address_as_dcgm_spells_it() -> None:
    found = the_device(DeviceIndex([slice_of(FULL)]), claim(given("gpu-0"), pods=("p2", "p1")))
    assert found == ClaimedDevice(
        claim_namespace="team-a",
        claim_name="c1",
        pods=("p1", "p2"),
        driver="gpu.nvidia.com",
        pool="n1",
        device="gpu-0",
        node="n1",  # type: ignore[arg-type]
        gpu_uuid=GPU0,  # type: ignore[arg-type]
        mig_uuid=None,
        profile=None,
        pci_bus_id="00000000:1B:00.0",
    )


def test_a_claimed_mig_device_has_its_own_uuid_and_that_of_its_gpu() -> None:
    found = the_device(DeviceIndex([slice_of(FULL, STATIC_MIG)]), claim(given("gpu-0-mig-19-0-1")))
    assert (found.gpu_uuid, found.mig_uuid, found.profile) == (GPU0, MIG0, "1g.10gb")
    assert found.pci_bus_id == "00000000:1B:00.0"


def test_a_mig_device_made_on_demand_is_found_by_the_gpu_in_its_name() -> None:
    found = the_device(DeviceIndex([slice_of(FULL, ABSTRACT_MIG)]), claim(given("gpu-0-mig-1g10gb-19-0")))
    assert (found.gpu_uuid, found.mig_uuid, found.profile) == (GPU0, None, "1g.10gb")
    assert found.pci_bus_id == "00000000:1B:00.0"


VFIO = device(
    "gpu-vfio-0",
    type="vfio",
    uuid="8d0c4a86-bf4c-5a6d-8d3d-7a2b1f0f1c11",
    deviceID="0x2330",
    productName="GH100 [H100 SXM5 80GB]",
    pcieBusID="0000:1b:00.0",
)
"""Its UUID is made from the PCI address (version 5), and its name is that of the PCI database."""


def test_a_gpu_that_is_passed_through_is_known_by_its_address() -> None:
    index = DeviceIndex([slice_of(VFIO)])
    found = the_device(index, claim(given("gpu-vfio-0")))
    assert (found.gpu_uuid, found.mig_uuid, found.profile) == (None, None, None)
    assert found.pci_bus_id == "00000000:1B:00.0"
    published = index.by_node()["n1"]  # type: ignore[index]
    assert (published.uuids, published.products) == (set(), set())


def test_a_gpu_that_is_passed_through_is_the_gpu_at_its_address() -> None:
    elsewhere = slice_of({**FULL, "name": "gpu-0"}, pool="n2", node_name="n2", name="s2")
    alone = DeviceIndex([slice_of(VFIO), elsewhere])
    assert the_device(alone, claim(given("gpu-vfio-0"))).gpu_uuid is None  # the same address in another node
    index = DeviceIndex([slice_of(FULL, VFIO)])
    assert the_device(index, claim(given("gpu-vfio-0"))).gpu_uuid == GPU0
    published = index.by_node()["n1"]  # type: ignore[index]
    assert (published.uuids, published.products) == ({GPU0}, {"NVIDIA H100 80GB HBM3"})


@pytest.mark.parametrize("name", ["nvidia0", "nvidia0/gi3", "nvidia0/vgpu0", "nvidia0/gi3/vgpu0", f"{GPU0}::2"])
def test_ids_of_device_plugins_are_no_devices_of_claims(name: str) -> None:
    """The names that GKE's device plugin and a shared GPU have at the kubelet tell no GPU and no profile here."""
    found = the_device(DeviceIndex([slice_of(FULL)]), claim(given(name)))
    assert (found.device, found.gpu_uuid, found.mig_uuid, found.profile) == (name, None, None, None)
    assert found.pci_bus_id is None


def test_without_its_slice_a_device_is_known_by_name_alone() -> None:
    selector = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n7"]}]}]}
    found = the_device(DeviceIndex([]), claim(given("gpu-3-mig-2g20gb-14-2", pool="n7"), node_selector=selector))
    assert (found.node, found.gpu_uuid, found.mig_uuid, found.profile) == ("n7", None, None, "2g.20gb")
    assert found.pci_bus_id is None


@pytest.mark.parametrize(
    "selector",
    [
        {},
        {"nodeSelectorTerms": []},
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]},
        {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n7"]}]}]},
        {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]}]},
        {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [7]}]}]},
        {"nodeSelectorTerms": "n7"},
    ],
)
def test_a_selector_that_names_no_single_node_names_none(selector: dict[str, Any]) -> None:
    assert the_device(DeviceIndex([]), claim(given("gpu-0"), node_selector=selector)).node is None


def test_devices_of_other_drivers_and_those_only_watched_are_not_held() -> None:
    index = DeviceIndex([slice_of(FULL)])
    channel = given("channel-0", driver="compute-domain.nvidia.com")
    assert index.claimed(claim(channel, given("nic-0", driver="dra.net"), given("gpu-0", adminAccess=True))) == []


def test_slices_of_compute_domains_and_of_older_generations_are_ignored() -> None:
    old = device("gpu-0", type="gpu", uuid="GPU-0ld", productName="old")
    channel = device("gpu-0", type="channel", uuid="GPU-n0ne")
    index = DeviceIndex(
        [
            slice_of(FULL, generation=3, name="a"),
            slice_of(old, device("gpu-1", type="gpu", uuid="GPU-g0ne"), generation=2, name="b"),
            slice_of(channel, driver="compute-domain.nvidia.com", generation=9, name="c"),
        ]
    )
    published = index.by_node()
    assert set(published) == {"n1"}
    assert published["n1"].uuids == {GPU0}
    assert published["n1"].products == {"NVIDIA H100 80GB HBM3"}
    assert the_device(index, claim(given("gpu-1"))).gpu_uuid is None


def test_a_node_whose_gpus_are_all_cut_still_counts_them() -> None:
    other = device("gpu-1-mig-19-0-1", type="mig", uuid="MIG-2", parentUUID="GPU-b", profile="1g.10gb")
    published = DeviceIndex([slice_of(STATIC_MIG, other)]).by_node()
    assert published["n1"].uuids == {GPU0, "GPU-b"}


def test_the_nodes_of_single_devices_are_read_where_slices_span_nodes() -> None:
    index = DeviceIndex([slice_of({**FULL, "nodeName": "n9"}, node_name=None)])
    assert set(index.by_node()) == {"n9"}
    assert the_device(index, claim(given("gpu-0"))).node == "n9"
    assert DeviceIndex([slice_of(FULL, node_name=None)]).by_node() == {}


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
def test_every_version_of_a_slice_says_the_same(version: str) -> None:
    told = slice_json(FULL, STATIC_MIG)
    if version == "v1beta1":
        told["spec"]["devices"] = [
            {"name": one["name"], "basic": {"attributes": one["attributes"], "capacity": {"memory": {"value": "80Gi"}}}}
            for one in told["spec"]["devices"]
        ]
    index = DeviceIndex([reader(SliceObject)(told)])
    assert the_device(index, claim(given("gpu-0"))).gpu_uuid == GPU0
    assert the_device(index, claim(given("gpu-0-mig-19-0-1"))).mig_uuid == MIG0
    assert index.by_node()["n1"].driver_version == "580.126.09"


def test_qualified_names_of_attributes_are_the_drivers_own() -> None:
    qualified = device("gpu-0", **{"gpu.nvidia.com/type": "gpu", "gpu.nvidia.com/uuid": GPU0})
    assert the_device(DeviceIndex([slice_of(qualified)]), claim(given("gpu-0"))).gpu_uuid == GPU0


@pytest.mark.parametrize("uuid", ["", "GPU-", "MIG-1", "0", "GPU-x" * 40, "GPU-a b", "'; DROP TABLE gpu; --"])
def test_what_is_no_uuid_is_none(uuid: str) -> None:
    index = DeviceIndex([slice_of(device("gpu-0", type="gpu", uuid=uuid))])
    assert the_device(index, claim(given("gpu-0"))).gpu_uuid is None


def test_attributes_of_every_type_are_read_and_others_ignored() -> None:
    odd = {
        "name": "gpu-0",
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": GPU0},
            "index": {"int": 3},
            "cordoned": {"bool": True},
            "driverVersion": {"version": "595.58.3"},
            "list": {"strings": ["a"]},
            "none": None,
            "both": {"string": "a", "int": 1},
        },
        "capacity": {"memory": {"value": "143771Mi"}},
        "consumesCounters": [{"counterSet": "gpu-0-counter-set", "counters": {"memory-slice-0": {"value": "1"}}}],
    }
    index = DeviceIndex([slice_of(odd)])
    assert index.by_node()["n1"].driver_version == "595.58.03"


@pytest.mark.parametrize(
    ("results", "holds"),
    [
        ([given("gpu-0")], True),
        ([given("nic-0", driver="dra.net")], False),
        ([given("nic-0", driver="dra.net"), given("gpu-0")], True),
    ],
)
def test_a_claim_holds_gpus_when_one_was_given(results: list[dict[str, Any]], *, holds: bool) -> None:
    assert holds_gpus(claim(*results)) is holds


def test_a_claim_that_waits_may_hold_gpus() -> None:
    waiting = reader(ClaimObject)({"metadata": {"name": "c", "namespace": "a"}, "spec": {}, "status": {}})
    assert holds_gpus(waiting)
    assert DeviceIndex([]).claimed(waiting) == []


@pytest.mark.parametrize(
    ("bus_id", "spelled"),
    [
        ("0000:1b:00.0", "00000000:1B:00.0"),
        ("00000000:1B:00.0", "00000000:1B:00.0"),
        ("000a:00:1e.7", "0000000A:00:1E.7"),
        ("1b:00.0", None),
        ("0000:1b:00.8", None),
        ("", None),
    ],
)
def test_pci_addresses_are_spelled_as_dcgm_does(bus_id: str, spelled: str | None) -> None:
    assert dcgm_bus_id(bus_id) == spelled


@pytest.mark.parametrize(
    ("semantic", "version"),
    [
        ("580.126.9", "580.126.09"),
        ("580.126.20", "580.126.20"),
        ("535.183.6", "535.183.06"),
        ("570.124.6", "570.124.06"),
        ("550.54.15", "550.54.15"),
        ("470.5", "470.05"),
        ("580.126.9-beta", None),
        ("", None),
    ],
)
def test_driver_versions_get_their_zeros_back(semantic: str, version: str | None) -> None:
    assert driver_version(semantic) == version


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("gpu-0-mig-1g5gb-19-0", "1g.5gb"),
        ("gpu-11-mig-3g90gb-9-4", "3g.90gb"),
        ("gpu-0-mig-1g24gb-0", "1g.24gb"),
        ("gpu-0-mig-1c3g20gb-9-0", "1c.3g.20gb"),
        ("gpu-0-mig-1g24gb-gfx-20-0", "1g.24gb+gfx"),
        ("gpu-0-mig-1g24gb-meall-21-0", "1g.24gb+me.all"),
        ("gpu-0-mig-1g10gb-me-20-0", None),  # +me (with engines) and -me (without) are spelled alike
        ("gpu-0-mig-19-0-1", None),  # older names have the profile's number only
        ("gpu-0", None),
        ("nic-0-mig-1g5gb-19-0", None),
    ],
)
def test_names_of_devices_tell_profiles_where_they_can(name: str, profile: str | None) -> None:
    assert profile_in_name(name) == profile


@for_all(st.text(max_size=60))
def test_no_name_breaks_it(text: str) -> None:
    for read in (profile_in_name, dcgm_bus_id, driver_version):
        assert read(text) is None or isinstance(read(text), str)

"""Which pods are on which device: every road that says so, what contradicts, and what cannot be told apart."""

from dataclasses import replace

import pytest

from planner.cluster_facts import Sharing
from planner.device_links import DevicePods, link_devices, plain_pci, plain_uuid
from planner.fleet import Pod
from planner.join_facts import JoinFacts
from planner.links import Certainty, LinkReason
from tests.planner.joins import claim, device, facts, gpu, kubernetes_node, kubernetes_pod


def only(told: JoinFacts) -> DevicePods:
    [found] = link_devices(told).values()
    return found


def reasons(found: DevicePods) -> dict[str, LinkReason]:
    return {name: link.reason for (_, name), link in found.pods.items()}


def test_a_pod_that_the_exporter_names_is_certain() -> None:
    found = only(facts(device(0, "a")))
    assert reasons(found) == {"a": LinkReason.POD_NAME}
    assert (found.not_attributable, found.conflicts) == (None, ())
    assert found.pods["team", "a"].sentence == (
        "GPU-0 on node-a and team/a: the name of the pod is reported for the device (certain)."
    )


def test_a_uid_names_the_pod_even_where_the_name_is_unknown() -> None:
    # NVML knows the uid alone, from the cgroup of a process.
    seen = Pod(namespace="", name="uid-a", uid="uid-a")
    found = only(facts(device(0, seen), pods=[kubernetes_pod("a")]))
    assert reasons(found) == {"a": LinkReason.POD_UID}
    assert found.seen == (("team", "a"),)
    unknown = only(facts(device(0, seen)))
    assert list(unknown.pods) == [("", "uid-a")]


def test_one_pod_by_two_sources_is_one() -> None:
    named, by_uid = Pod(namespace="team", name="a", uid="u"), Pod(namespace="", name="u", uid="u")
    found = only(facts(device(0, named, by_uid)))
    assert list(found.pods) == [("team", "a")]
    assert found.not_attributable is None


def test_a_name_with_the_uid_of_an_earlier_pod_is_only_likely() -> None:
    seen = Pod(namespace="team", name="a", uid="uid-of-before")
    found = only(facts(device(0, seen), pods=[kubernetes_pod("a")]))
    assert reasons(found) == {"a": LinkReason.POD_NAME_OF_BEFORE}
    assert found.pods["team", "a"].certainty is Certainty.LIKELY


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (claim("a", gpu_uuid="GPU-0"), LinkReason.CLAIM_UUID),
        (claim("a", gpu_uuid="gpu-0"), LinkReason.CLAIM_UUID),
        (claim("a", pci_bus_id="0000:3b:00.0"), LinkReason.CLAIM_PCI),
    ],
)
def test_a_resource_claim_holds_a_gpu_by_uuid_or_address(held: object, reason: LinkReason) -> None:
    whole = device(0, pci_bus_id="00000000:3B:00.0")
    assert reasons(only(facts(whole, claims=[held]))) == {"a": reason}


def test_an_address_on_another_node_is_another_gpu() -> None:
    whole = device(0, pci_bus_id="00000000:3B:00.0", node="node-b")
    assert only(facts(whole, claims=[claim("a", pci_bus_id="0000:3b:00.0")])).pods == {}


@pytest.mark.parametrize("profile", [None, "3g.40gb"])
def test_an_address_that_two_gpus_are_recorded_at_names_neither(profile: str | None) -> None:
    # a board was exchanged, and the former one is still in the inventory
    gi_id = None if profile is None else 1
    both = (
        device(0, gi_id=gi_id, profile=profile, pci_bus_id="00000000:3B:00.0"),
        device(1, gi_id=gi_id, pci_bus_id="00000000:3B:00.0"),
    )
    held = claim("a", pci_bus_id="0000:3b:00.0", profile=profile)
    assert all(found.pods == {} for found in link_devices(facts(*both, claims=[held])).values())


def test_a_claim_holds_a_mig_device_by_its_uuid_or_as_the_only_one_of_its_kind() -> None:
    cut = (
        device(0, gi_id=1, profile="3g.40gb", mig_uuids=("MIG-x",)),
        device(0, gi_id=2, profile="1g.10gb"),
        device(0, gi_id=3, profile="1g.10gb"),
    )
    by_uuid = claim("a", gpu_uuid="GPU-0", mig_uuid="MIG-X", profile="3g.40gb")
    by_kind = claim("b", gpu_uuid="GPU-0", mig_uuid="MIG-unknown", profile="3g.40gb")
    of_two = claim("c", gpu_uuid="GPU-0", profile="1g.10gb")
    assert reasons(link_devices(facts(*cut, claims=[by_uuid]))[gpu(0, 1)]) == {"a": LinkReason.CLAIM_MIG_UUID}
    linked = link_devices(facts(*cut, claims=[by_kind]))[gpu(0, 1)].pods["team", "b"]
    assert (linked.reason, linked.certainty) == (LinkReason.CLAIM_PROFILE, Certainty.LIKELY)
    assert all(found.pods == {} for found in link_devices(facts(*cut, claims=[of_two])).values())


def test_a_pod_alone_on_its_node_has_all_the_devices_it_asks_for() -> None:
    devices = (device(0), device(1))
    alone = link_devices(facts(*devices, pods=[kubernetes_pod("a", gpus=2), kubernetes_pod("proxy", gpus=0)]))
    assert [reasons(found) for found in alone.values()] == [{"a": LinkReason.ALL_OF_NODE}] * 2
    of_some = link_devices(facts(*devices, pods=[kubernetes_pod("a", gpus=1)]))
    two = link_devices(facts(*devices, pods=[kubernetes_pod("a"), kubernetes_pod("b")]))
    ended = link_devices(facts(*devices, pods=[kubernetes_pod("a", gpus=2, phase="Succeeded")]))
    assert not any(found.pods for one in (of_some, two, ended) for found in one.values())


def test_several_pods_share_a_device_and_none_of_them_has_it() -> None:
    found = only(facts(device(0, "a", "b")))
    assert found.not_attributable == "2 pods share it (team/a, team/b), and nothing measures them apart"
    assert set(reasons(found)) == {"a", "b"}
    flagged = only(facts(device(0, "a", shared=True)))
    assert flagged.not_attributable is not None


@pytest.mark.parametrize("sharing", [Sharing.TIME_SLICING, Sharing.MPS])
def test_a_node_that_hands_out_gpus_several_times_may_hide_others(sharing: Sharing) -> None:
    shared = kubernetes_node(sharing=sharing, replicas=4)
    found = only(facts(device(0, "a"), nodes=[shared]))
    assert found.not_attributable == (
        f"its node hands out each GPU 4 times ({sharing.value}), so others may be on it that no source names"
    )
    both = [kubernetes_pod("a"), kubernetes_pod("b")]
    assert only(facts(device(0, "a"), nodes=[shared], pods=both)).not_attributable is not None
    # Kubernetes knows that nobody else is there.
    assert only(facts(device(0, "a"), nodes=[shared], pods=[kubernetes_pod("a")])).not_attributable is None
    once = kubernetes_node(sharing=sharing, replicas=1)
    assert only(facts(device(0, "a"), nodes=[once])).not_attributable is None


def test_pods_that_ask_for_more_devices_than_there_are_share_them() -> None:
    # time-slicing without GPU Feature Discovery: no label tells it, and the exporter names one pod of two
    unlabelled = replace(kubernetes_node(), gpu_count=None)
    both = [kubernetes_pod("a"), kubernetes_pod("b")]
    assert only(facts(device(0, "a"), nodes=[unlabelled], pods=both)).not_attributable == (
        "running pods on its node ask for 2 devices where 1 is known, so others may be on it that no source names"
    )
    assert only(facts(device(0, "a"), pods=both)).not_attributable is not None
    enough = link_devices(facts(device(0, "a"), device(1, "b"), nodes=[unlabelled], pods=both))
    waiting = [kubernetes_pod("a"), kubernetes_pod("b", phase="Pending"), kubernetes_pod("c", node="node-b")]
    alone = [kubernetes_pod("a", gpus=2)]
    assert [found.not_attributable for found in enough.values()] == [None, None]
    assert only(facts(device(0, "a"), nodes=[unlabelled], pods=waiting)).not_attributable is None
    assert only(facts(device(0, "a"), nodes=[unlabelled], pods=alone)).not_attributable is None
    # Labels say that there are more than are read, or that none is shared.
    assert only(facts(device(0, "a"), nodes=[kubernetes_node()], pods=both)).not_attributable is None
    unshared = replace(unlabelled, sharing=Sharing.NONE)
    assert only(facts(device(0, "a"), nodes=[unshared], pods=both)).not_attributable is None


def test_a_claim_and_a_label_that_disagree_are_kept_and_shown() -> None:
    found = only(facts(device(0, "a"), claims=[claim("b", gpu_uuid="GPU-0")]))
    [conflict] = found.conflicts
    assert [link.target for link in conflict.links] == ["team/a", "team/b"]
    assert conflict.sentence == (
        "GPU-0 on node-a is linked to team/a (the name of the pod is reported for the device); team/b (a resource "
        "claim of the pod holds the GPU with this UUID). No pod has it for certain, so it is attributed to none."
    )
    assert found.not_attributable == "sources disagree whether it belongs to team/a, team/b"
    assert all(link.certainty is Certainty.GUESSED for link in found.pods.values())


def test_a_claim_and_a_label_that_agree_are_one_link() -> None:
    found = only(facts(device(0, "a"), claims=[claim("a", gpu_uuid="GPU-0")]))
    assert reasons(found) == {"a": LinkReason.POD_NAME}
    assert found.conflicts == ()


def test_spellings_of_one_thing_are_one() -> None:
    assert plain_uuid("GPU-AB") == plain_uuid("ab") == "ab"
    assert plain_uuid("MIG-AB") == "ab"
    assert plain_pci("00000000:3B:00.0") == plain_pci("0000:3b:00.0") == "0000:3b:00.0"
    assert plain_pci("1:3b:00.0") == "0001:3b:00.0"
    assert plain_pci("3B:00.0") == plain_pci("0:3b:00.0") == plain_pci("0x0000:3b:00.0") == "0000:3b:00.0"
    assert plain_pci("00010000:01:00.0") == plain_pci("10000:01:00.0") != plain_pci("0000:01:00.0")

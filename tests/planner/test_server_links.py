"""Which pod and devices a server belongs to: by name, by address, by being alone, and what contradicts."""

from datetime import timedelta

import pytest

from planner.device_links import link_devices
from planner.join_facts import JoinFacts
from planner.links import Certainty, LinkReason
from planner.server_links import ServerDevices, ServerLinker, host_of
from planner.units import GpuUuid, NodeName
from tests.planner.joins import NOW, device, facts, gpu, kubernetes_node, kubernetes_pod, server


def link(told: JoinFacts) -> ServerDevices:
    [one] = told.servers
    return ServerLinker(told, link_devices(told)).link(one.fact)


def chain(found: ServerDevices) -> list[LinkReason]:
    [links] = found.chains.values()
    return [one.reason for one in links]


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("10.0.0.7:8000", "10.0.0.7"),
        ("[fd00::7]:8000", "fd00::7"),
        ("fd00::7", "fd00::7"),
        ("Llama.team.svc:8000/v1", "llama.team.svc"),
        ("localhost", "localhost"),
    ],
)
def test_the_host_of_an_endpoint(endpoint: str, host: str) -> None:
    assert host_of(endpoint) == host


def test_discovery_names_the_pod() -> None:
    found = link(facts(device(0, "a"), device(1, "b"), servers=[server(pod="a")]))
    assert (found.pod, list(found.chains), found.certainty) == (("team", "a"), [gpu(0)], Certainty.CERTAIN)
    assert chain(found) == [LinkReason.POD_NAME, LinkReason.SERVER_POD]


def test_the_address_of_a_pod_is_its_own() -> None:
    pods = [kubernetes_pod("a", pod_ip="10.0.0.7", host_ip="192.168.0.1"), kubernetes_pod("b", pod_ip="10.0.0.8")]
    by_endpoint = link(facts(device(0, "a"), servers=[server("10.0.0.7:8000")], pods=pods))
    assert (chain(by_endpoint)[1], by_endpoint.certainty) == (LinkReason.ENDPOINT_POD_IP, Certainty.CERTAIN)
    by_fact = link(facts(device(0, "a"), servers=[server("proxy:80/a", pod_ip="10.0.0.7")], pods=pods))
    assert chain(by_fact)[1] is LinkReason.SERVER_POD_IP


def test_an_address_of_several_pods_or_of_one_that_ended_names_none() -> None:
    two = [kubernetes_pod("a", pod_ip="10.0.0.7"), kubernetes_pod("b", pod_ip="10.0.0.7")]
    ended = [kubernetes_pod("a", pod_ip="10.0.0.7", phase="Failed")]
    for pods in (two, ended):
        found = link(facts(device(0, "a"), device(1, "b"), servers=[server("10.0.0.7:8000")], pods=pods))
        assert (found.pod, found.unlinked) == (None, "nothing links it to a pod or a device")


def test_the_name_of_a_pod_in_dns_is_likely() -> None:
    for endpoint in ("a-0.team:8000", "a-0.a.team.svc.cluster.local:8000"):
        found = link(facts(device(0, "a-0"), servers=[server(endpoint)]))
        assert (chain(found)[1], found.certainty) == (LinkReason.ENDPOINT_POD_DNS, Certainty.LIKELY)


@pytest.mark.parametrize(
    "endpoint",
    [
        "proxy:80/pods/team/a-0",
        "api:6443/api/v1/namespaces/team/pods/a-0/proxy",
        "api:6443/api/v1/namespaces/team/pods/http:a-0:8000/proxy",
    ],
)
def test_a_path_that_names_a_known_pod_is_likely(endpoint: str) -> None:
    found = link(facts(device(0, "a-0"), device(1, "b"), servers=[server(endpoint)]))
    assert (chain(found)[1], found.certainty) == (LinkReason.ENDPOINT_PATH, Certainty.LIKELY)
    assert link(facts(device(0, "c-0"), device(1, "b"), servers=[server(endpoint)])).pod is None


def test_a_pod_in_the_network_of_its_host_is_read_at_the_hosts_address() -> None:
    own = kubernetes_pod("a", pod_ip="192.168.0.1", host_ip="192.168.0.1")
    beside = kubernetes_pod("b", pod_ip="10.0.0.8", host_ip="192.168.0.1")
    devices = (device(0, "a"), device(1, "b"))
    found = link(facts(*devices, servers=[server("192.168.0.1:8000")], pods=[own, beside]))
    assert (found.pod, chain(found)[1]) == (("team", "a"), LinkReason.ENDPOINT_HOST_NETWORK)
    # A port of the node may lead to any pod: with one that has GPUs it is a guess, with two nothing.
    nodes = [kubernetes_node(addresses=["192.168.0.1"])]
    guessed = link(facts(device(1, "b"), servers=[server("192.168.0.1:30080")], pods=[beside], nodes=nodes))
    assert (chain(guessed)[1], guessed.certainty) == (LinkReason.ENDPOINT_NODE, Certainty.GUESSED)
    other = kubernetes_pod("c", pod_ip="10.0.0.9", host_ip="192.168.0.1")
    neither = link(facts(*devices, servers=[server("192.168.0.1:30080")], pods=[beside, other], nodes=nodes))
    assert neither.pod is None


def test_a_service_with_one_pod_behind_it_is_a_guess_and_with_two_nothing() -> None:
    first = kubernetes_pod("llama-x1", owner_name="llama")
    second = kubernetes_pod("llama-x2", owner_name="llama")
    devices = (device(0, "llama-x1"), device(1, "llama-x2"))
    one = link(facts(*devices, servers=[server("llama.team.svc:8000")], pods=[first]))
    assert (one.pod, one.certainty) == (("team", "llama-x1"), Certainty.GUESSED)
    assert link(facts(*devices, servers=[server("llama.team.svc:8000")], pods=[first, second])).pod is None


def test_a_server_that_names_its_gpus_needs_no_pod() -> None:
    found = link(facts(device(0), device(1), servers=[server(gpu_uuids=(GpuUuid("GPU-1"),))]))
    assert (list(found.chains), found.pod, chain(found)) == ([gpu(1)], None, [LinkReason.SERVER_GPU_UUID])


def test_a_server_that_names_a_mig_device_uses_its_instance() -> None:
    cut = (device(0, gi_id=1, mig_uuids=("MIG-x",)), device(0, gi_id=2))
    assert list(link(facts(*cut, servers=[server(gpu_uuids=(GpuUuid("MIG-x"),))])).chains) == [gpu(0, 1)]
    # The GPU's own UUID does not tell which part of it.
    assert link(facts(*cut, servers=[server(gpu_uuids=(GpuUuid("GPU-0"),))])).chains == {}


def test_the_only_device_of_a_machine_is_a_guess() -> None:
    for endpoint, more in (("localhost:11434", {}), ("node-a:11434", {}), ("box:11434", {"node": NodeName("node-a")})):
        found = link(facts(device(0), servers=[server(endpoint, **more)]))
        assert (chain(found), found.certainty) == ([LinkReason.ONLY_DEVICE], Certainty.GUESSED)
    assert link(facts(device(0), device(1), servers=[server("localhost:11434")])).chains == {}
    assert link(facts(device(0), device(1, node="node-b"), servers=[server("localhost:11434")])).chains == {}
    assert link(facts(device(0, "a"), servers=[server("localhost:11434")])).chains == {}  # a pod has it


def test_a_pod_without_a_device_is_told() -> None:
    found = link(facts(device(0, "a"), servers=[server(pod="cpu-only")]))
    assert (found.pod, found.unlinked) == (
        ("team", "cpu-only"),
        "no device is known to belong to its pod team/cpu-only",
    )


def test_roads_that_contradict_each_other_are_kept_and_the_surer_one_is_taken() -> None:
    pods = [kubernetes_pod("b", pod_ip="10.0.0.7", host_ip="192.168.0.1")]
    devices = (device(0, "a"), device(1, "b"))
    equal = link(facts(*devices, servers=[server("10.0.0.7:8000", pod="a")], pods=pods))
    assert (equal.pod, equal.certainty) == (("team", "a"), Certainty.GUESSED)
    [conflict] = equal.conflicts
    assert ([one.target for one in conflict.links], conflict.outcome) == (
        ["team/a", "team/b"],
        "team/a is taken as a guess.",
    )
    surer = link(facts(*devices, servers=[server("b.team:8000", pod="a")]))
    assert (surer.pod, surer.certainty) == (("team", "a"), Certainty.CERTAIN)
    assert [one.outcome for one in surer.conflicts] == ["team/a is taken, which is surer."]


def test_devices_that_the_server_names_are_taken_before_those_of_its_pod() -> None:
    named = server(pod="a", gpu_uuids=(GpuUuid("GPU-1"),))
    inside = link(facts(device(0, "a"), device(1, "a"), servers=[named]))
    assert (list(inside.chains), inside.conflicts) == ([gpu(1)], ())
    outside = link(facts(device(0, "a"), device(1, "b"), servers=[named]))
    assert list(outside.chains) == [gpu(1)]
    assert len(outside.conflicts) == 1


def test_a_device_that_the_server_names_and_another_pod_holds_is_a_guess() -> None:
    named = server(pod="a", gpu_uuids=(GpuUuid("GPU-0"),))
    found = link(facts(device(0, "other"), servers=[named]))  # where pod a has devices, nobody tells
    assert (list(found.chains), found.certainty) == ([gpu(0)], Certainty.GUESSED)
    [conflict] = found.conflicts
    assert [one.target for one in conflict.links] == ["GPU-0 on node-a", "team/other"]
    assert conflict.outcome == "The devices that the server names are taken as a guess."


def test_what_a_server_names_is_surer_than_a_pod_that_is_guessed() -> None:
    pods = [kubernetes_pod("llama-x1", owner_name="llama")]
    named = server("llama.team.svc:8000", gpu_uuids=(GpuUuid("GPU-0"),))
    found = link(facts(device(0, "other"), device(1, "llama-x1"), servers=[named], pods=pods))
    assert (list(found.chains), found.certainty) == ([gpu(0)], Certainty.CERTAIN)
    assert [one.outcome for one in found.conflicts] == ["The devices that the server names are taken, which is surer."]
    # Without any pod of its own, the one on the device may well be it.
    alone = link(facts(device(0, "other"), servers=[server("x:1", gpu_uuids=(GpuUuid("GPU-0"),))]))
    assert (alone.certainty, alone.conflicts) == (Certainty.CERTAIN, ())


@pytest.mark.parametrize("told", [{"pod_ip": "10.0.0.7"}, {"owner_name": "b"}, {}])
def test_a_pod_that_started_after_the_server_was_last_seen_is_not_its(told: dict[str, str]) -> None:
    # By its address, by a name of its service, and by its own name, which a StatefulSet gives again.
    younger = kubernetes_pod("b", started_at=NOW + timedelta(seconds=1), **told)
    endpoint = {"pod_ip": "10.0.0.7:8000", "owner_name": "b.team.svc:80"}.get(next(iter(told), ""), "b.team:8000")
    found = link(facts(device(0, "b"), servers=[server(endpoint)], pods=[younger]))
    assert (found.pod, found.unlinked) == (
        None,
        "what has its name or address by now, team/b, started after it was last seen",
    )
    older = kubernetes_pod("b", started_at=NOW, **told)
    assert link(facts(device(0, "b"), servers=[server(endpoint)], pods=[older])).pod == ("team", "b")

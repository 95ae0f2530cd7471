"""Whose work is behind each device: tokens where they can be told, reasons where not, and nothing lost in between."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.attribution import QUANTITIES, Attribution, attribute
from planner.cluster_facts import Sharing
from planner.fleet import Pod
from planner.join_facts import JoinFacts, ServerFacts
from planner.links import Certainty
from planner.serving_readings import ServedModel, ServingEngine
from planner.units import GpuUuid
from tests.planner.joins import LLAMA, device, facts, gpu, kubernetes_node, kubernetes_pod, server, traffic


def shares(work: Attribution) -> dict[str, float]:
    [one] = work.servers
    return {str(subject): share for subject, share in one.shares.items()}


def why(work: Attribution) -> str | None:
    [one] = work.servers
    return one.unattributed


def test_an_engine_on_one_device_has_all_its_tokens_there() -> None:
    work = attribute(facts(device(0, "a"), servers=[server("10.0.0.7:8000", traffic(requests=3, tokens=100), pod="a")]))
    assert shares(work) == {"GPU-0": 1.0}
    [engine] = work.devices[gpu(0)].engines
    assert (engine.endpoint, engine.models, engine.pod) == ("10.0.0.7:8000", (LLAMA,), "team/a")
    assert (engine.certainty, engine.share_ratio, engine.split) == (Certainty.CERTAIN, 1.0, None)
    assert (engine.requests, engine.tokens, engine.prompt_tokens, engine.covered_ratio) == (3, 100, None, 1.0)
    assert engine.links == (
        "GPU-0 on node-a and team/a: the name of the pod is reported for the device (certain).",
        "team/a and 10.0.0.7:8000: discovery names the pod of the server (certain).",
    )


def test_a_tensor_parallel_engine_is_split_by_the_sms_that_each_device_kept_busy() -> None:
    devices = (device(0, "a", sm=0.6), device(1, "a", sm=0.2))
    work = attribute(facts(*devices, servers=[server("e:1", traffic(tokens=100), pod="a")]))
    assert shares(work) == pytest.approx({"GPU-0": 0.75, "GPU-1": 0.25})
    [engine] = work.devices[gpu(1)].engines
    assert engine.devices == 2
    assert engine.split == ("split over 2 devices by the SM activity of each, since no engine counts tokens by device")


@pytest.mark.parametrize(
    ("sms", "reason"),
    [
        ((0.6, None), "it runs on 2 devices, and not all of them report how busy their SMs were"),
        ((0.0, 0.0), "it runs on 2 devices, and the SMs of none of them were busy"),
    ],
)
def test_without_sm_activity_nothing_is_split(sms: tuple[float | None, float | None], reason: str) -> None:
    devices = tuple(device(number, "a", sm=sm) for number, sm in enumerate(sms))
    work = attribute(facts(*devices, servers=[server("e:1", traffic(tokens=100), pod="a")]))
    assert (shares(work), why(work)) == ({}, reason)
    assert work.unattributed("generation_tokens") == 100
    [engine] = work.devices[gpu(0)].engines
    assert (engine.share_ratio, engine.tokens) == (None, 100)


def test_a_shared_device_is_attributed_to_nobody() -> None:
    node = kubernetes_node(sharing=Sharing.TIME_SLICING, replicas=2)
    for more in ({"nodes": [node]}, {"devices": (device(0, "a", "b"),)}):
        given_devices: Any = more.pop("devices", (device(0, "a"),))
        work = attribute(facts(*given_devices, servers=[server("e:1", traffic(tokens=100), pod="a")], **more))
        assert why(work) is not None
        assert work.devices[gpu(0)].not_attributable is not None
        assert work.unattributed("generation_tokens") == 100
        assert [one.endpoint for one in work.devices[gpu(0)].engines] == ["e:1"]  # the link is shown all the same


def test_two_servers_of_a_pod_with_one_device_add_up() -> None:
    servers = [server("e:1", traffic(tokens=100), pod="a"), server("e:2", traffic(tokens=50), pod="a")]
    work = attribute(facts(device(0, "a"), servers=servers))
    assert work.attributed("generation_tokens") == 150
    assert len(work.devices[gpu(0)].engines) == 2


def test_two_servers_of_a_pod_with_two_devices_are_not_guessed_apart() -> None:
    devices = (device(0, "a", sm=0.5), device(1, "a", sm=0.1))
    servers = [server("e:1", traffic(tokens=100), pod="a"), server("e:2", traffic(tokens=50), pod="a")]
    work = attribute(facts(*devices, servers=servers))
    assert {one.unattributed for one in work.servers} == {
        "its pod team/a has several devices and several servers, and nothing tells which is where"
    }
    assert all(engine.certainty is Certainty.GUESSED for one in work.devices.values() for engine in one.engines)
    named = [
        server("e:1", traffic(tokens=100), pod="a", gpu_uuids=(GpuUuid("GPU-0"),)),
        server("e:2", traffic(tokens=50), pod="a", gpu_uuids=(GpuUuid("GPU-1"),)),
    ]
    told = attribute(facts(*devices, servers=named))
    assert {str(s): v for one in told.servers for s, v in one.shares.items()} == {"GPU-0": 1.0, "GPU-1": 1.0}


def test_a_server_that_nothing_links_keeps_its_tokens() -> None:
    work = attribute(facts(device(0, "a"), device(1, "b"), servers=[server("e:1", traffic(tokens=7))]))
    assert (why(work), work.unattributed("generation_tokens")) == ("nothing links it to a pod or a device", 7)


def test_ollama_says_what_is_loaded_and_others_hold_what_they_offer() -> None:
    models = [ServedModel(name="llama3:8b", is_loaded=True), ServedModel(name="qwen:7b", is_loaded=False)]
    ollama = server("e:1", pod="a", engine=ServingEngine.OLLAMA, models=models)
    [engine] = attribute(facts(device(0, "a"), servers=[ollama])).devices[gpu(0)].engines
    assert (engine.models, engine.is_loaded, engine.tokens) == (("llama3:8b",), True, None)
    empty = server("e:1", pod="a", engine=ServingEngine.OLLAMA, models=models[1:])
    [engine] = attribute(facts(device(0, "a"), servers=[empty])).devices[gpu(0)].engines
    assert (engine.models, engine.is_loaded) == ((), False)
    unnamed = server("e:1", traffic("", tokens=1), pod="a", engine=ServingEngine.LLAMA_CPP, models=())
    [engine] = attribute(facts(device(0, "a"), servers=[unnamed])).devices[gpu(0)].engines
    assert (engine.models, engine.is_loaded) == ((), True)
    asleep = server("e:1", traffic(tokens=0), pod="a", is_asleep=True)
    [engine] = attribute(facts(device(0, "a"), servers=[asleep])).devices[gpu(0)].engines
    assert engine.is_loaded is False


def test_the_conflicts_of_every_hop_are_kept() -> None:
    pods = [kubernetes_pod("b", pod_ip="10.0.0.7", host_ip="192.168.0.1")]
    work = attribute(facts(device(0, "a"), servers=[server("10.0.0.7:8000", traffic(tokens=1), pod="a")], pods=pods))
    assert [one.subject for one in work.conflicts] == ["10.0.0.7:8000"]
    [engine] = work.devices[gpu(0)].engines
    assert engine.certainty is Certainty.GUESSED


def test_nothing_in_gives_nothing_out() -> None:
    work = attribute(facts())
    assert (dict(work.devices), work.servers, work.conflicts) == ({}, (), ())
    assert work.attributed("requests") == work.unattributed("requests") == 0


POD_NAMES = st.sampled_from(["a", "b", "c"])
COUNTS = st.none() | st.floats(0, 1e6)


@st.composite
def clusters(draw: st.DrawFn) -> JoinFacts:
    """Any tangle of devices, pods and servers."""
    devices = []
    for number in range(draw(st.integers(0, 5))):
        names = draw(st.lists(POD_NAMES, max_size=2, unique=True))
        seen = [
            Pod(namespace="team", name=name, uid=draw(st.sampled_from([None, f"uid-{name}", "other"])))
            for name in names
        ]
        gi_id = draw(st.none() | st.integers(0, 1))
        devices.append(
            device(
                number,
                *seen,
                gi_id=gi_id,
                node=draw(st.sampled_from(["node-a", "node-b"])),
                sm=draw(st.none() | st.floats(0, 1)),
                shared=draw(st.booleans()) and draw(st.booleans()),
            )
        )
    servers: list[ServerFacts] = []
    for number in range(draw(st.integers(0, 4))):
        counted = [
            traffic(model, requests=draw(COUNTS), tokens=draw(COUNTS), prompt_tokens=draw(COUNTS))
            for model in draw(st.lists(st.sampled_from([LLAMA, "other"]), max_size=2, unique=True))
        ]
        host = draw(st.sampled_from(["10.0.0.1", "10.0.0.2", "localhost", "node-a", "a.team.svc"]))
        named = draw(st.lists(st.sampled_from(["GPU-0", "GPU-1"]), max_size=2, unique=True))
        uuids = tuple(map(GpuUuid, named))
        servers.append(server(f"{host}:{8000 + number}", *counted, pod=draw(st.none() | POD_NAMES), gpu_uuids=uuids))
    pods = draw(
        st.none()
        | st.lists(
            st.builds(
                kubernetes_pod,
                POD_NAMES,
                node=st.sampled_from(["node-a", "node-b", None]),
                gpus=st.integers(0, 2),
                pod_ip=st.sampled_from([None, "10.0.0.1", "10.0.0.2", "192.168.0.1"]),
                host_ip=st.sampled_from([None, "192.168.0.1"]),
                phase=st.sampled_from(["Running", "Pending"]),
            ),
            max_size=3,
            unique_by=lambda pod: pod.name,
        )
    )
    nodes = draw(st.sampled_from([None, [kubernetes_node(sharing=Sharing.MPS, replicas=2)], [kubernetes_node()]]))
    return facts(*devices, servers=servers, pods=pods, nodes=nodes)


@given(told=clusters())
def test_parts_and_rest_add_up_to_what_the_engines_counted(told: JoinFacts) -> None:
    work = attribute(told)
    for quantity in QUANTITIES:
        counted = sum(
            value for one in told.servers for seen in one.traffic if (value := getattr(seen, quantity)) is not None
        )
        assert work.attributed(quantity) + work.unattributed(quantity) == pytest.approx(counted)
        by_device = sum(
            (getattr(engine, quantity) or 0.0) * engine.share_ratio
            for one in work.devices.values()
            for engine in one.engines
            if engine.share_ratio is not None
        )
        assert by_device == pytest.approx(work.attributed(quantity))


@given(told=clusters())
def test_nothing_is_put_down_to_a_device_that_is_nobodys(told: JoinFacts) -> None:
    work = attribute(told)
    for one in work.devices.values():
        if one.not_attributable is not None:
            assert all(engine.share_ratio is None for engine in one.engines)
    for server_work in work.servers:
        assert (server_work.unattributed is None) == bool(server_work.shares)
        assert sum(server_work.shares.values()) == pytest.approx(1.0 if server_work.shares else 0.0)


@given(told=clusters())
def test_the_order_of_what_is_told_does_not_matter(told: JoinFacts) -> None:
    turned = facts(
        *reversed(told.devices),
        servers=tuple(reversed(told.servers)),
        pods=None if told.pods is None else tuple(reversed(told.pods)),
        nodes=told.nodes,
    )
    one, other = attribute(told), attribute(turned)
    assert dict(one.devices) == dict(other.devices)
    assert {(w.server.fact.endpoint, w.unattributed) for w in one.servers} == {
        (w.server.fact.endpoint, w.unattributed) for w in other.servers
    }

"""One engine that is read at two addresses is counted once; two engines of one pod stay two."""

from dataclasses import replace

import pytest

from planner.attribution import attribute
from planner.links import Certainty
from planner.server_links import port_of
from planner.serving_readings import ServedModel, ServingEngine
from tests.planner.joins import LLAMA, device, facts, gpu, kubernetes_pod, server, traffic

SERVICE, ADDRESS = "llm-0.llm.team.svc:8000", "10.0.0.7:8000"


def test_two_spellings_of_an_address_are_one_engine_as_it_was_read_for_longer() -> None:
    servers = [
        server(ADDRESS, traffic(tokens=1800, covered_s=1800.0), pod="a"),
        server(SERVICE, traffic(tokens=3600), pod="a"),
    ]
    work = attribute(facts(device(0, "a"), servers=servers))
    [engine] = work.devices[gpu(0)].engines
    assert (engine.endpoint, engine.certainty) == (SERVICE, Certainty.CERTAIN)
    assert (work.attributed("generation_tokens"), work.unattributed("generation_tokens")) == (3600, 0)
    [conflict] = work.conflicts
    assert ([one.target for one in conflict.links], conflict.subject) == ([SERVICE, ADDRESS], "team/a")
    assert (
        conflict.outcome
        == f"They are one engine: what was read at {SERVICE} is taken, which covers most of the window."
    )


def test_the_road_that_names_models_is_taken_and_else_lends_its_names() -> None:
    silent = server(ADDRESS, traffic(tokens=3600), pod="a", models=())
    [engine] = (
        attribute(facts(device(0, "a"), servers=[silent, server(SERVICE, traffic(tokens=3600), pod="a")]))
        .devices[gpu(0)]
        .engines
    )
    assert engine.endpoint == SERVICE
    shorter = server(SERVICE, traffic("", tokens=1, covered_s=60.0), pod="a", models=[ServedModel(name="fast")])
    [engine] = attribute(facts(device(0, "a"), servers=[silent, shorter])).devices[gpu(0)].engines
    assert (engine.endpoint, set(engine.models)) == (ADDRESS, {LLAMA, "fast"})


@pytest.mark.parametrize(
    ("endpoint", "engine"),
    [
        ("llm-0.llm.team.svc:8001", ServingEngine.VLLM),  # another port
        (SERVICE, ServingEngine.SGLANG),  # another kind
        (f"{SERVICE}/second", ServingEngine.VLLM),  # behind a path the port is that of a proxy
    ],
)
def test_servers_of_one_pod_that_may_be_two_are_two(endpoint: str, engine: ServingEngine) -> None:
    servers = [
        server(ADDRESS, traffic(tokens=10), pod="a"),
        server(endpoint, traffic(tokens=5), pod="a", engine=engine),
    ]
    work = attribute(facts(device(0, "a"), servers=servers))
    assert (len(work.devices[gpu(0)].engines), work.conflicts) == (2, ())
    assert work.attributed("generation_tokens") == 15


def test_a_guess_makes_no_one_of_two() -> None:
    pods = [kubernetes_pod("a", owner_name="llm", pod_ip="10.0.0.7")]
    servers = [server(ADDRESS, traffic(tokens=10)), server("llm.team.svc:8000", traffic(tokens=5))]
    work = attribute(facts(device(0, "a"), servers=servers, pods=pods))
    assert {one.certainty for one in work.devices[gpu(0)].engines} == {Certainty.CERTAIN, Certainty.GUESSED}


def test_an_engine_that_has_gone_is_one_by_the_pod_that_discovery_named() -> None:
    gone = [server(one, traffic(tokens=10), pod="a") for one in (ADDRESS, SERVICE)]
    work = attribute(facts(device(0), servers=[replace(one, ended="it was not seen since noon") for one in gone]))
    assert (work.attributed("generation_tokens"), work.unattributed("generation_tokens")) == (0, 10)
    assert [one.unattributed for one in work.servers] == ["it was not seen since noon"]


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("a:80", "80"), ("[fd00::7]:8000/v1", "8000"), ("a", None), ("fd00::7", None), ("a/b:80", None)],
)
def test_the_port_of_an_endpoint(endpoint: str, port: str | None) -> None:
    assert port_of(endpoint) == port

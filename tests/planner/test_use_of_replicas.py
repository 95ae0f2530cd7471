"""A model that several engines serve: each device has its share by what its own engine counted, or none is invented."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.attribution import attribute
from planner.cluster_facts import Sharing
from planner.cost_attribution import USE_QUANTITIES, CostAttribution, attribute_costs
from planner.join_facts import JoinFacts
from planner.links import Certainty
from planner.serving_readings import ServedModel, ServingEngine
from tests.planner.joins import LLAMA, device, facts, kubernetes_node, server, traffic, use

TEAM = use(f"openai/{LLAMA}", "search", requests=600, cost=12.0, input_tokens=40_000.0, output_tokens=10_000.0)
"""What the gateway tells of the whole model."""


def costs(told: JoinFacts) -> CostAttribution:
    return attribute_costs(told, attribute(told))


def by_device(found: CostAttribution, quantity: str) -> dict[str, float]:
    summed: dict[str, float] = {}
    for part in found.parts:
        summed[str(part.subject)] = summed.get(str(part.subject), 0.0) + (part.quantity(quantity) or 0.0)
    return summed


def test_three_engines_share_by_the_tokens_that_each_of_them_generated() -> None:
    # 5,000, 3,000 and 2,000 of 10,000 generated tokens: 50, 30 and 20 %.
    servers = [
        server(f"e:{pod}", traffic(tokens=tokens), pod=pod)
        for pod, tokens in (("a", 5_000.0), ("b", 3_000.0), ("c", 2_000.0))
    ]
    found = costs(facts(device(0, "a"), device(1, "b"), device(2, "c"), servers=servers, uses=[TEAM]))
    assert by_device(found, "output_tokens") == pytest.approx({"GPU-0": 5_000, "GPU-1": 3_000, "GPU-2": 2_000})
    assert by_device(found, "input_tokens") == pytest.approx({"GPU-0": 20_000, "GPU-1": 12_000, "GPU-2": 8_000})
    assert by_device(found, "cost_usd") == pytest.approx({"GPU-0": 6.0, "GPU-1": 3.6, "GPU-2": 2.4})
    assert by_device(found, "requests") == pytest.approx({"GPU-0": 300, "GPU-1": 180, "GPU-2": 120})
    assert found.unattributed == ()


def test_a_share_is_as_sure_as_its_weakest_link() -> None:
    servers = [
        server("e:a", traffic(tokens=50), pod="a"),  # certain
        server("node-b:8000", traffic(tokens=30)),  # the only device of its machine: guessed
    ]
    devices = (device(0, "a"), device(1, node="node-b"))
    found = costs(facts(*devices, servers=servers, uses=[use(LLAMA, "search", cost=8.0)]))
    assert {str(part.subject): part.certainty for part in found.parts} == {
        "GPU-0": Certainty.CERTAIN,
        "GPU-1": Certainty.GUESSED,
    }
    prefixed = costs(facts(*devices, servers=servers, uses=[TEAM]))  # a prefix of the gateway: likely
    assert {str(part.subject): part.certainty for part in prefixed.parts} == {
        "GPU-0": Certainty.LIKELY,
        "GPU-1": Certainty.GUESSED,
    }


def test_engines_that_count_no_tokens_leave_the_total_of_the_model_whole() -> None:
    servers = [server(f"o:{pod}", engine=ServingEngine.OLLAMA, pod=pod, models=[LLAMA]) for pod in "abc"]
    found = costs(facts(device(0, "a"), device(1, "b"), device(2, "c"), servers=servers, uses=[TEAM]))
    assert found.parts == ()
    [left] = found.unattributed
    assert (left.endpoints, left.share_ratio, left.quantity("cost_usd")) == (("o:a", "o:b", "o:c"), 1.0, 12.0)
    assert left.reason == "3 servers offer it, and not all of them count its tokens or its requests"


def test_an_engine_that_was_read_for_less_of_the_window_makes_the_shares_likely() -> None:
    servers = [
        server("e:a", traffic(tokens=900), pod="a"),
        server("e:b", traffic(tokens=100, covered_s=600.0), pod="b"),
    ]
    found = costs(facts(device(0, "a"), device(1, "b"), servers=servers, uses=[use(cost=10.0)]))
    assert by_device(found, "cost_usd") == pytest.approx({"GPU-0": 9.0, "GPU-1": 1.0})
    assert {part.certainty for part in found.parts} == {Certainty.LIKELY}
    assert found.parts[0].splits == (
        "split over 2 servers by the tokens that each counted for it, which were read over 10 to 60 minutes",
    )


def test_a_share_of_spans_that_the_window_cuts_is_a_guess() -> None:
    told = facts(
        device(0, "a"), servers=[server("e:a", traffic(tokens=1), pod="a")], uses=[use(cost=1.0)], uses_spread="by day"
    )
    found = costs(told)
    assert ([part.certainty for part in found.parts], found.spread) == ([Certainty.GUESSED], "by day")


def test_the_four_devices_of_a_tensor_parallel_engine_have_a_quarter_each() -> None:
    devices = [device(number, "a", sm=0.8) for number in range(4)]
    found = costs(facts(*devices, servers=[server("e:a", traffic(tokens=9), pod="a")], uses=[TEAM]))
    assert by_device(found, "cost_usd") == pytest.approx({f"GPU-{number}": 3.0 for number in range(4)})


def test_gpu_instances_have_the_share_of_their_own_engine() -> None:
    devices = (device(0, "a", gi_id=1), device(0, "b", gi_id=2))
    servers = [server("e:a", traffic(tokens=60), pod="a"), server("e:b", traffic(tokens=20), pod="b")]
    found = costs(facts(*devices, servers=servers, uses=[TEAM]))
    assert {part.subject.gi_id: part.quantity("cost_usd") for part in found.parts} == {1: 9.0, 2: 3.0}


def test_the_share_of_an_engine_on_a_time_sliced_device_goes_to_no_device() -> None:
    nodes = [kubernetes_node("node-a"), kubernetes_node("node-b", sharing=Sharing.TIME_SLICING, replicas=4)]
    servers = [server("e:a", traffic(tokens=60), pod="a"), server("e:b", traffic(tokens=20), pod="b")]
    devices = (device(0, "a"), device(1, "b", node="node-b"))
    found = costs(facts(*devices, servers=servers, uses=[TEAM], nodes=nodes))
    assert by_device(found, "cost_usd") == pytest.approx({"GPU-0": 9.0})
    [left] = found.unattributed
    assert (left.endpoints, left.quantity("cost_usd")) == (("e:b",), pytest.approx(3.0))
    assert "4 times (time-slicing)" in left.reason


@st.composite
def replicas(draw: st.DrawFn) -> JoinFacts:
    """Engines of one model, each in a pod of its own with one to four whole GPUs, all counted and measured."""
    devices, servers = [], []
    for number in range(draw(st.integers(1, 5))):
        pod = f"pod-{number}"
        for _ in range(draw(st.integers(1, 4))):
            devices.append(device(len(devices), pod, sm=draw(st.floats(0.01, 1))))
        counted = traffic(tokens=draw(st.floats(1, 1e9)), prompt_tokens=draw(st.none() | st.floats(0, 1e9)))
        servers.append(server(f"e:{number}", counted, pod=pod))
    amounts = st.floats(0, 1e9)
    uses = [
        use(LLAMA, owner, requests=draw(amounts), cost=draw(amounts), output_tokens=draw(amounts))
        for owner in draw(st.lists(st.sampled_from(["", "search", "legal"]), min_size=1, unique=True))
    ]
    return facts(*devices, servers=servers, uses=uses)


@given(told=replicas())
def test_the_sum_over_all_devices_is_what_the_gateway_totals_of_the_model(told: JoinFacts) -> None:
    found = costs(told)
    assert found.unattributed == ()
    for quantity in USE_QUANTITIES:
        whole = sum(value for one in told.uses if (value := getattr(one, quantity)) is not None)
        assert sum(by_device(found, quantity).values()) == pytest.approx(whole)
    counted = {
        one.fact.endpoint: sum(filter(None, (t.prompt_tokens, t.generation_tokens)))
        for one in told.servers
        for t in one.traffic
    }
    for owner in {one.owner for one in told.uses}:
        for endpoint, tokens in counted.items():
            share = sum(one.share_ratio for one in found.parts if (one.endpoint, one.use.owner) == (endpoint, owner))
            assert share == pytest.approx(tokens / sum(counted.values()))


def test_an_adapter_is_split_by_what_its_servers_counted_in_all_and_that_is_a_guess() -> None:
    # vLLM counts the tokens of a LoRA adapter with those of the model that it sits on.
    models = [ServedModel(name="base"), ServedModel(name="sql", parent="base")]
    servers = [
        server(f"e:{pod}", traffic("base", tokens=tokens), pod=pod, models=models)
        for pod, tokens in (("a", 10), ("b", 90))
    ]
    for asked in ("sql", "base"):
        found = costs(facts(device(0, "a"), device(1, "b"), servers=servers, uses=[use(asked, cost=4.0)]))
        assert by_device(found, "cost_usd") == pytest.approx({"GPU-0": 0.4, "GPU-1": 3.6})
        assert {part.certainty for part in found.parts} == {Certainty.GUESSED}
        by = "split over 2 servers by the tokens that each counted for this and other models"
        assert found.parts[0].splits == (f"{by}, which they do not count apart",)
    alone = costs(facts(device(0, "a"), servers=servers[:1], uses=[use("sql", cost=4.0)]))
    assert [part.certainty for part in alone.parts] == [Certainty.CERTAIN]


def test_a_server_that_offers_a_checkpoint_under_two_names_has_the_tokens_of_both() -> None:
    names = [ServedModel(name=name, root="org/m") for name in ("fast", "slow")]
    two = server("e:a", traffic("fast", tokens=10), traffic("slow", tokens=20), pod="a", models=names)
    one = server("e:b", traffic("slow", tokens=30), pod="b", models=names[1:])
    found = costs(facts(device(0, "a"), device(1, "b"), servers=[two, one], uses=[use("org/m", cost=6.0)]))
    assert by_device(found, "cost_usd") == pytest.approx({"GPU-0": 3.0, "GPU-1": 3.0})
    assert {link.target for link in found.links} == {"fast", "slow"}
    # vLLM counts all names of a model under the first of them.
    first = server("e:a", traffic("slow", tokens=10), pod="a", models=names)
    assert [part.served_model for part in costs(facts(device(0, "a"), servers=[first], uses=[use("org/m")])).parts] == [
        "slow"
    ]

"""The chain of a device: every link with what it rests on, and what is absent with its reason."""

from dataclasses import replace

from dashboard.chain_figures import NO_OWNER, REST, DeviceChain, gpu_chains
from dashboard.html_parts import part
from planner.join_facts import JoinFacts
from planner.links import Certainty, LinkReason
from planner.serving_readings import ServedModel, ServingEngine
from tests.dashboard.fleets import HOSTILE
from tests.dashboard.joined import joined
from tests.planner.joins import LLAMA, claim, device, facts, kubernetes_pod, server, traffic, use


def chain_of(told: JoinFacts, uuid: str = "GPU-0") -> DeviceChain:
    chains = gpu_chains(joined(told), uuid)
    assert chains is not None
    [device_chain] = chains.devices
    return device_chain


def test_each_link_has_its_target_its_reason_and_its_certainty() -> None:
    uses = [use(f"openai/{LLAMA}", "search", requests=3, cost=1.5, input_tokens=100.0, output_tokens=20.0)]
    told = facts(
        device(0, "a"),
        servers=[server("http.pods/team/a", traffic(tokens=7200), pod="a")],
        uses=uses,
        dimension="team",
        told_by="gateway",
    )
    [engine] = chain_of(told).engines
    assert [(step.hop, step.target, step.rests_on, step.certainty) for step in engine.steps] == [
        ("Pod", "team/a", LinkReason.POD_NAME.value, Certainty.CERTAIN),
        ("Engine", "vllm 0.33.0 at http.pods/team/a", LinkReason.SERVER_POD.value, Certainty.CERTAIN),
        ("Model", LLAMA, "the engine names it", Certainty.CERTAIN),
        ("Gateway", f"openai/{LLAMA} in gateway", LinkReason.WITHOUT_PROVIDER.value, Certainty.LIKELY),
    ]
    assert (engine.tokens_per_s, engine.no_rate) == (2.0, None)
    [team] = engine.uses
    assert (team.owner, team.tokens, team.requests, team.cost_usd) == ("search", 120, 3, 1.5)
    assert team.certainty is Certainty.LIKELY


def test_a_use_that_nobody_owns_says_so_and_one_that_is_put_down_nowhere_has_its_reason() -> None:
    offered = [server(f"e:{pod}", traffic(), pod=pod) for pod in ("a", "b")]
    told = facts(device(0, "a"), device(1, "b"), servers=offered, uses=[use(cost=1.0)], told_by="gateway")
    [engine] = chain_of(told).engines
    assert engine.uses == ()
    assert "2 servers offer it" in (engine.no_uses or "")
    alone = facts(
        device(0, "a"), servers=[server("e:1", traffic(tokens=1), pod="a")], uses=[use(cost=1.0)], told_by="g"
    )
    assert [one.owner for one in chain_of(alone).engines[0].uses] == [NO_OWNER]
    assert chain_of(facts(device(0, "a"), servers=[server("e:1", pod="a")])).engines[0].no_uses == (
        "No source tells who used its models."
    )


def test_each_replica_shows_its_own_share_and_not_the_total_of_the_model() -> None:
    # 500, 300 and 200 of 1,000 generated tokens; the gateway tells 20,000 tokens and 10 dollars.
    servers = [server(f"e:{pod}", traffic(tokens=n), pod=pod) for pod, n in (("a", 500), ("b", 300), ("c", 200))]
    told = facts(
        device(0, "a"),
        device(1, "b"),
        device(2, "c"),
        servers=servers,
        uses=[use(LLAMA, "search", cost=10.0, input_tokens=15_000.0, output_tokens=5_000.0)],
        told_by="gateway",
    )
    shown = [chain_of(told, f"GPU-{number}").engines[0].uses for number in range(3)]
    assert [(one.tokens, one.cost_usd) for [one] in shown] == [(10_000, 5.0), (6_000, 3.0), (4_000, 2.0)]
    page = part("gpu_chains", chains=gpu_chains(joined(told), "GPU-2"), window_s=3600.0)
    assert "search: 4,000 tokens" in page
    assert "$2.00" in page
    assert "split over 3 servers by the tokens that each counted for it (20% of it here)" in page
    assert "20,000" not in page


def test_without_counts_the_total_is_told_as_that_of_all_servers() -> None:
    offered = [server(f"o:{pod}", engine=ServingEngine.OLLAMA, pod=pod) for pod in "abc"]
    uses = [
        use(LLAMA, "search", requests=9, cost=10.0, input_tokens=15_000.0, output_tokens=5_000.0),
        use(LLAMA, requests=1, cost=1.0, input_tokens=500.0),
    ]
    told = facts(device(0, "a"), device(1, "b"), device(2, "c"), servers=offered, uses=uses, told_by="gateway")
    [engine] = chain_of(told).engines
    assert engine.uses == ()
    assert [(one.owner, one.tokens, one.requests, one.cost_usd, one.of) for one in engine.wholes] == [
        ("search", 20_000, 9, 10.0, "3 servers"),
        (REST, 500, 1, 1.0, "3 servers"),
    ]
    page = part("gpu_chains", chains=gpu_chains(joined(told), "GPU-0"), window_s=3600.0)
    assert "search: total of 3 servers, this device's share is not known" in page
    assert "and 3 servers offer it, and not all of them count its tokens or its requests" in page


def test_an_engine_on_devices_that_cannot_be_told_apart_shows_its_own_total() -> None:
    told = facts(
        device(0, "a"),
        device(1, "a"),
        servers=[server("e:a", traffic(tokens=9), pod="a")],
        uses=[use(LLAMA, "search", cost=4.0)],
        told_by="gateway",
    )
    [whole] = chain_of(told).engines[0].wholes
    assert (whole.cost_usd, whole.of) == (4.0, "this server")
    assert "it runs on 2 devices" in whole.reason


def test_what_is_left_beside_owners_is_called_the_rest() -> None:
    told = facts(
        device(0, "a"),
        servers=[server("e:a", traffic(tokens=9), pod="a")],
        uses=[use(LLAMA, "search", cost=4.0, output_tokens=9.0), use(LLAMA, cost=1.0, output_tokens=1.0)],
        told_by="gateway",
    )
    assert [one.owner for one in chain_of(told).engines[0].uses] == ["search", REST]


def test_the_workload_that_made_the_pod_is_shown_where_kubernetes_tells_it() -> None:
    pods = [kubernetes_pod("a", owner_name="llama-8b")]
    for servers, hops in (
        ([server("e:a", traffic(tokens=9), pod="a")], ["Pod", "Workload", "Engine", "Model"]),
        ([], ["Pod", "Workload"]),
    ):
        found = chain_of(facts(device(0, "a"), servers=servers, pods=pods))
        steps = found.engines[0].steps if servers else found.pods
        assert [step.hop for step in steps] == hops
        assert (steps[1].target, steps[1].certainty) == ("Deployment llama-8b in namespace team", Certainty.CERTAIN)


def test_use_that_is_cut_out_of_longer_spans_is_called_a_guess() -> None:
    told = facts(
        device(0, "a"),
        device(1, "b"),
        servers=[server("e:a", traffic(tokens=9), pod="a")],
        uses=[use(LLAMA, "search", cost=4.0)],
        told_by="gateway",
        uses_spread="it tells spans of 24 h",
    )
    [team] = chain_of(told).engines[0].uses
    assert team.certainty is Certainty.GUESSED
    sentence = "What gateway tells is a guess for this window: it tells spans of 24 h."
    assert sentence in part("gpu_chains", chains=gpu_chains(joined(told), "GPU-0"), window_s=3600.0)
    # nothing that it tells is put down to the other device, so nothing there is a guess
    assert sentence not in part("gpu_chains", chains=gpu_chains(joined(told), "GPU-1"), window_s=3600.0)


def test_an_engine_that_cannot_be_split_keeps_its_tokens_and_says_why() -> None:
    told = facts(device(0, "a", sm=0.5), device(1, "a"), servers=[server("e:1", traffic(tokens=9), pod="a")])
    found = chain_of(told)
    assert found.tokens_per_s is None
    assert found.no_rate == "it runs on 2 devices, and its tokens cannot be split over them"
    assert found.engines[0].no_rate == "it runs on 2 devices, and not all of them report how busy their SMs were"


def test_a_contradiction_is_shown_with_the_device_and_both_pods() -> None:
    told = facts(
        device(0, "a"),
        pods=[kubernetes_pod("a"), kubernetes_pod("b")],
        claims=[claim("b", gpu_uuid="GPU-0")],
    )
    found = chain_of(told)
    assert [step.target for step in found.pods] == ["team/a", "team/b"]
    assert {step.certainty for step in found.pods} == {Certainty.GUESSED}
    assert found.not_attributable is not None
    [conflict] = found.conflicts
    assert "team/a" in conflict
    assert "team/b" in conflict
    page = part("gpu_chains", chains=gpu_chains(joined(told), "GPU-0"), window_s=3600.0)
    assert "Contradiction: " in page
    assert "Not attributable: " in page


def test_a_device_without_anything_is_named_as_such() -> None:
    chains = gpu_chains(joined(facts(device(0))), "GPU-0")
    assert chains is not None
    assert (chains.shown, chains.empty_titles) == ((), ("Whole GPU",))
    assert "No source names a pod or an engine on Whole GPU" in part("gpu_chains", chains=chains, window_s=3600.0)
    assert gpu_chains(joined(facts(device(0))), "GPU-gone") is None


def test_an_ollama_without_a_model_says_that_none_is_loaded() -> None:
    idle = server("o:1", engine=ServingEngine.OLLAMA, pod="a", models=[ServedModel(name="phi4:14b", is_loaded=False)])
    [engine] = chain_of(facts(device(0, "a"), servers=[idle])).engines
    model = next(step for step in engine.steps if step.hop == "Model")
    assert (model.target, model.certainty) == ("none", None)
    assert engine.no_rate == "Ollama counts no tokens; a gateway before it can"


def test_names_of_pods_models_owners_and_gateways_never_become_markup() -> None:
    bad, image = HOSTILE[0], HOSTILE[-1]
    told = facts(
        device(0, bad),
        servers=[server(f"e:1/{image}", traffic(bad, tokens=5), pod=bad, models=[bad])],
        uses=[use(bad, image, requests=1, cost=1)],
        dimension=image,
        told_by=bad,
    )
    page = part("gpu_chains", chains=gpu_chains(joined(told), "GPU-0"), window_s=3600.0)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 4  # pod, model, gateway, source
    assert page.count("&lt;img") >= 2


def test_a_cost_of_a_part_says_of_how_much_it_is_not() -> None:
    uses = [use(LLAMA, "search", requests=200, cost=5.0, unpriced_requests=140.0)]
    servers = [server("e:1", traffic(tokens=1), pod="a")]
    told = facts(device(0, "a"), servers=servers, uses=uses, told_by="gateway")
    page = part("gpu_chains", chains=gpu_chains(joined(told), "GPU-0"), window_s=3600.0)
    assert "200 requests, $5.00 for a part: no cost is told of 140 of the requests" in page
    whole = facts(device(0, "a"), servers=servers, uses=[use(LLAMA, "search", cost=5.0)], told_by="gateway")
    assert "for a part" not in part("gpu_chains", chains=gpu_chains(joined(whole), "GPU-0"), window_s=3600.0)


def test_a_server_that_moved_is_shown_as_it_is_now() -> None:
    now, before = (
        server("e:1", traffic(tokens=900, covered_s=900.0), pod="a"),
        server("e:1", traffic(tokens=90), pod="a"),
    )
    moved = replace(before, ended="it was counted before 11:45 UTC, when its address was that of team/b")
    told = facts(device(0, "a"), servers=[moved, now])
    [engine] = chain_of(told).engines
    assert (engine.tokens_per_s, engine.no_rate) == (1.0, None)

"""From rows to the join: the fleet says which models each device serves, how fast, how surely, and for whose money."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from planner.cluster_facts import ClusterState, Sharing
from planner.fleet import Device, DeviceState, Fleet
from planner.links import Certainty
from planner.readings import Batch, ComputeInstanceFact, GpuFact, InstanceFact, PodFact
from planner.serving_readings import ServedModel, ServingEngine
from store.fleet_snapshot import JoinedFleet, take_joined, take_snapshot
from store.join import JoinedCluster
from tests.store.batches import NOW, after, batch, fact, gpu_uuid, pod, readings, source_of_new_cluster, write
from tests.store.serving_batches import (
    ENDPOINT,
    MODEL,
    claim,
    counter,
    gauge,
    kubernetes_pod,
    node,
    server,
    spend,
    usage,
    who,
)

HOUR = 3600.0
START = -HOUR  # the hour that a snapshot at NOW looks at


def tell_engine(
    engine: Engine,
    source_id: int,
    tokens: float,
    *,
    endpoint: str = ENDPOINT,
    pod_name: str | None = "a",
    **more: object,
) -> None:
    """An engine that was read all hour and generated so many tokens in it, for half as many prompt tokens."""
    subject = who(endpoint)
    for at, share in ((START, 0.0), (0.0, 1.0)):
        told = Batch(
            counters=(
                counter(at, 5000 + tokens * share, subject=subject),
                counter(at, 7000 + tokens * share / 2, "prompt_tokens", subject=subject),
                counter(at, 50 + share * 10, "requests_finished", label="stop", subject=subject),
            ),
            gauges=(gauge(at, "requests_running", 0.0, subject=subject),),
            servers=(server(at, endpoint, pod=("inference", pod_name) if pod_name else None, **more),),  # type: ignore[arg-type]
        )
        write(engine, source_id, told, at=after(at), target=endpoint)


def tell_activity(engine: Engine, source_id: int, sm: float, number: int = 0, gi_id: int | None = None) -> None:
    told = [
        one
        for minute in range(60)
        for one in readings(after(-60 * minute), {"sm_active_ratio": sm, "memory_used_bytes": 6e10}, number, gi_id)
    ]
    write(engine, source_id, batch(readings=told), target=f"activity-{number}-{gi_id}")


def tell_kubernetes(engine: Engine, source_id: int, at: float = 0, **lists: object) -> None:
    told = ClusterState(observed_at=after(at), **{"nodes": None, "pods": None} | lists)  # type: ignore[arg-type]
    write(engine, source_id, Batch(cluster_state=told), at=after(at), target="kubernetes")


def devices(fleet: Fleet) -> list[Device]:
    return list(fleet.devices())


def only(joined: JoinedFleet) -> JoinedCluster:
    [one] = joined.clusters
    return one


def test_a_device_knows_the_models_it_serves_and_how_fast(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_activity(engine, source_id, 0.5)
    tell_engine(engine, source_id, 7200.0)
    [device] = devices(take_snapshot(engine, NOW))
    assert (device.served_models, device.certainty, device.not_attributable) == ((MODEL,), Certainty.CERTAIN, None)
    assert device.tokens_per_s == pytest.approx(3.0)
    [served] = device.engines
    assert (served.endpoint, served.requests, served.generation_tokens, served.prompt_tokens) == (
        ENDPOINT,
        10.0,
        7200.0,
        3600.0,
    )
    assert device.verdict.state is DeviceState.SERVING
    assert device.verdict.reason.startswith("10,800 tokens flowed in the last 60 minutes through vllm at 10.0.0.7:8000")


def test_an_engine_without_tokens_makes_its_device_idle(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_activity(engine, source_id, 0.0)
    subject = who()
    for at in (START, 0.0):
        told = Batch(counters=(counter(at, 9.0, subject=subject),), servers=(server(at, pod=("inference", "a")),))
        write(engine, source_id, told, at=after(at), target=ENDPOINT)
    [device] = devices(take_snapshot(engine, NOW))
    assert (device.verdict.state, device.tokens_per_s) == (DeviceState.LOADED_IDLE, 0.0)
    assert device.verdict.reason.startswith("No token flowed")


def test_a_fleet_without_engines_is_judged_by_activity_and_says_so(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_activity(engine, source_id, 0.5)
    [device] = devices(take_snapshot(engine, NOW))
    assert (device.engines, device.certainty, device.tokens_per_s) == ((), None, None)
    assert "rests on activity alone" in device.verdict.reason


def test_a_tensor_parallel_engine_is_split_by_activity(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, 0, pods=[pod("a")]), fact(NOW, 1, index=1, pods=[pod("a")])))
    tell_activity(engine, source_id, 0.6, 0)
    tell_activity(engine, source_id, 0.2, 1)
    tell_engine(engine, source_id, 7200.0)
    first, second = devices(take_snapshot(engine, NOW))
    assert (first.tokens_per_s, second.tokens_per_s) == (pytest.approx(2.25), pytest.approx(0.75))
    assert all(one.engines[0].split is not None for one in (first, second))


def test_money_of_teams_is_joined_to_devices_and_adds_up(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, source_id, 7200.0)
    told = (
        usage(-1, f"hosted_vllm/{MODEL}", requests=10, cost_usd=5.0),
        usage(-1, f"hosted_vllm/{MODEL}", dimension="team", owner="search", requests=8, cost_usd=4.0),
        usage(-1, "gpt-4o", provider="azure", requests=3, cost_usd=2.0),
    )
    write(engine, source_id, Batch(usage=told), target="gateway")
    costs = only(take_joined(engine, NOW)).costs
    assert costs is not None
    assert {(part.use.owner, part.quantity("cost_usd")) for part in costs.parts} == {("search", 4.0), ("", 1.0)}
    assert [(one.use.model, one.reason) for one in costs.unattributed] == [
        ("gpt-4o", "azure served it, not this cluster")
    ]
    assert costs.attributed("cost_usd") + costs.rest("cost_usd") == pytest.approx(7.0)
    assert (costs.told_by, costs.dimension) == ("dcgm", "team")
    assert only(take_joined(engine, NOW, dimension=None)).costs is None


def test_teams_that_were_asked_for_after_the_total_are_told(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, source_id, 7200.0)
    told = (
        usage(-1, requests=1000, cost_usd=5.0),
        usage(-1, dimension="team", owner="search", requests=901, cost_usd=4.51),
        usage(-1, dimension="team", owner="legal", requests=100, cost_usd=0.5),
    )
    write(engine, source_id, Batch(usage=told), target="gateway")
    costs = only(take_joined(engine, NOW)).costs
    assert costs is not None
    assert {part.use.owner: part.quantity("requests") for part in costs.parts} == {"search": 901, "legal": 100}


def test_a_day_that_is_cut_makes_its_parts_guesses(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, source_id, 7200.0)
    write(engine, source_id, Batch(usage=(usage(-24, hours=24, cost_usd=24.0),)), target="gateway")
    costs = only(take_joined(engine, NOW)).costs
    assert costs is not None
    assert [(part.quantity("cost_usd"), part.certainty) for part in costs.parts] == [(1.0, Certainty.GUESSED)]
    assert costs.spread is not None


def test_what_made_a_pod_is_known_from_kubernetes(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    assert only(take_joined(engine, NOW)).work.pod_owners == {}
    alone = kubernetes_pod("b", owner_kind=None, owner_name=None)
    tell_kubernetes(engine, source_id, pods=(kubernetes_pod("a"), alone))
    assert only(take_joined(engine, NOW)).work.pod_owners == {("inference", "a"): "Deployment llm"}


def test_counters_of_a_gateway_stand_in_where_nothing_else_tells_of_money(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, source_id, 7200.0)
    for at, value in ((START, 1.0), (-60.0, 3.0)):
        write(engine, source_id, Batch(spend=(spend(at, value),)), at=after(at), target="gateway")
    costs = only(take_joined(engine, NOW)).costs
    assert costs is not None
    assert [(part.use.owner, part.quantity("cost_usd")) for part in costs.parts] == [("search", pytest.approx(2.0))]
    assert costs.told_by == "counters of litellm:4000"


def test_an_alias_leads_from_the_gateway_to_the_server(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, source_id, 7200.0)
    write(engine, source_id, Batch(usage=(usage(-1, "fast", cost_usd=5.0),)), target="gateway")
    without, with_it = only(take_joined(engine, NOW)), only(take_joined(engine, NOW, aliases={"fast": MODEL}))
    assert without.costs is not None
    assert with_it.costs is not None
    assert (without.costs.attributed("cost_usd"), with_it.costs.attributed("cost_usd")) == (0.0, 5.0)


def test_kubernetes_links_a_server_by_the_address_of_its_pod(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, source_id, 7200.0, pod_name=None)
    [device] = devices(take_snapshot(engine, NOW))
    assert device.engines == ()
    tell_kubernetes(engine, source_id, pods=(kubernetes_pod("a", pod_ip="10.0.0.7", host_ip="192.168.0.1"),))
    [device] = devices(take_snapshot(engine, NOW))
    assert (device.served_models, device.certainty) == ((MODEL,), Certainty.CERTAIN)
    # A look that is too old says nothing about where pods are now.
    write(engine, source_id, batch(fact(after(1800), pods=[pod("a")])))
    write(engine, source_id, Batch(servers=(server(1800),)), at=after(1800), target=ENDPOINT)
    [device] = devices(take_snapshot(engine, after(1800)))
    assert device.engines == ()


def test_a_time_sliced_device_is_marked_and_not_guessed(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, source_id, 7200.0)
    tell_kubernetes(engine, source_id, nodes=(node(sharing=Sharing.TIME_SLICING, replicas=4),))
    [device] = devices(take_snapshot(engine, NOW))
    assert device.not_attributable is not None
    assert "4 times (time-slicing)" in device.not_attributable
    assert (device.tokens_per_s, device.served_models) == (None, (MODEL,))
    assert device.verdict.state is DeviceState.SERVING  # that tokens flowed on it is known all the same


def test_a_claimed_mig_device_has_its_pod_and_its_engine(engine: Engine, source_id: int) -> None:
    instances = (
        InstanceFact(
            gi_id=1,
            profile="3g.40gb",
            compute_instances=(ComputeInstanceFact(ci_id=0, profile=None, mig_uuid="MIG-x"),),
        ),
        InstanceFact(gi_id=2, profile="3g.40gb"),
    )
    cut: GpuFact = replace(fact(NOW), instances=instances)
    write(engine, source_id, batch(cut))
    tell_engine(engine, source_id, 7200.0)
    held = claim(pods=["a"], gpu_uuid=gpu_uuid(0), mig_uuid="MIG-x", profile="3g.40gb")
    tell_kubernetes(
        engine,
        source_id,
        pods=(kubernetes_pod("a", claims=("claim",), created_at=after(-HOUR)),),
        claimed_devices=(held,),
    )
    first, second = devices(take_snapshot(engine, NOW))
    assert ([one.name for one in first.pods], first.served_models) == (["a"], (MODEL,))
    assert (second.pods, second.engines) == ((), ())
    assert first.verdict.state is DeviceState.SERVING


def test_a_pod_known_by_its_uid_gets_its_name_from_kubernetes(engine: Engine, source_id: int) -> None:
    by_uid = PodFact(gi_id=None, namespace="", name="uid-inference-a", uid="uid-inference-a")
    write(engine, source_id, batch(fact(NOW, pods=[by_uid])))
    [device] = devices(take_snapshot(engine, NOW))
    assert [(one.namespace, one.name) for one in device.pods] == [("", "uid-inference-a")]
    tell_kubernetes(engine, source_id, pods=(kubernetes_pod("a"),))
    [device] = devices(take_snapshot(engine, NOW))
    assert [(one.namespace, one.name) for one in device.pods] == [("inference", "a")]


def test_ollama_is_judged_by_activity_with_its_model_named(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_activity(engine, source_id, 0.0)
    models = [ServedModel(name="llama3:8b", is_loaded=True), ServedModel(name="qwen:7b", is_loaded=False)]
    told = server(0, "10.0.0.7:11434", engine=ServingEngine.OLLAMA, models=models, pod=("inference", "a"))
    write(engine, source_id, Batch(servers=(told,)), target="ollama")
    [device] = devices(take_snapshot(engine, NOW))
    assert (device.served_models, device.tokens_per_s) == (("llama3:8b",), None)
    assert device.verdict.state is DeviceState.LOADED_IDLE
    assert "judged by activity alone" in device.verdict.reason


def test_an_engine_that_sleeps_is_not_loaded(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, source_id, 0.0)
    asleep = (gauge(0, "engine_asleep", 0.0, "awake"), gauge(0, "engine_asleep", 1.0, "weights_offloaded"))
    write(engine, source_id, Batch(gauges=asleep), target="more")
    [device] = devices(take_snapshot(engine, NOW))
    assert device.engines[0].is_loaded is False


def test_ranks_of_an_engine_are_one_engine(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    for at, value in ((START, 0.0), (0.0, 3600.0)):
        told = Batch(
            counters=tuple(counter(at, value, subject=who(rank=rank)) for rank in "01"),
            gauges=tuple(gauge(at, "requests_running", 2.0, subject=who(rank=rank)) for rank in "01"),
            servers=(server(at, pod=("inference", "a")),),
        )
        write(engine, source_id, told, at=after(at))
    [device] = devices(take_snapshot(engine, NOW))
    [served] = device.engines
    assert (served.generation_tokens, served.requests_running, device.tokens_per_s) == (7200.0, 4.0, 2.0)


def test_clusters_are_joined_apart(engine: Engine, source_id: int) -> None:
    other, cluster = source_of_new_cluster(engine)
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    write(engine, other, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, other, 7200.0)
    assert [one.cluster for one in take_joined(engine, NOW).clusters] == ["default", cluster]
    found = {node.cluster: [bool(gpu.engines) for gpu in node.gpus] for node in take_snapshot(engine, NOW).nodes}
    assert found == {"default": [False], cluster: [True]}


def test_the_join_is_that_of_its_moment(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell_engine(engine, source_id, 7200.0)
    write(engine, source_id, batch(fact(after(HOUR), pods=[pod("b")])), at=after(HOUR))
    [then] = devices(take_snapshot(engine, NOW))
    assert then.served_models == (MODEL,)
    [now] = devices(take_snapshot(engine, after(HOUR), window=timedelta(hours=1)))
    assert now.engines == ()

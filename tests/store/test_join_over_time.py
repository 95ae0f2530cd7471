"""A window in which servers, pods and models come and go: what was counted is of whoever did it, or of nobody."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from planner.attribution import Attribution
from planner.cluster_facts import ClusterState
from planner.fleet import Device, DeviceState
from planner.links import Certainty
from planner.readings import Batch
from planner.serving_readings import ServingEngine
from planner.token_rates import why_no_device_rate
from store.fleet_snapshot import take_joined, take_snapshot
from store.serving_queries import counted
from tests.store.batches import NOW, after, batch, fact, pod, source_of_new_cluster, write
from tests.store.serving_batches import ENDPOINT, counter, gauge, kubernetes_pod, node, server, usage, who

HOUR = 3600.0
MINUTE = 60.0
IN_POD = ("inference", "a")


def tell(store: Engine, source: int, at: float, tokens: float, *, model: str | None = None, **more: object) -> None:
    """One look at an engine that has generated so many tokens since it started."""
    endpoint = str(more.pop("endpoint", ENDPOINT))
    subject = who(endpoint) if model is None else who(endpoint, model)
    told = Batch(
        counters=(counter(at, tokens, subject=subject),),
        servers=(server(at, endpoint, **more),),  # type: ignore[arg-type]
    )
    write(store, source, told, at=after(at), target=endpoint)


def tell_pods(engine: Engine, source: int, at: float, *pods: object) -> None:
    state = ClusterState(observed_at=after(at), nodes=(node(), node("node-b")), pods=tuple(pods))  # type: ignore[arg-type]
    write(engine, source, Batch(cluster_state=state), at=after(at), target="kubernetes")


def devices(engine: Engine, at: datetime = NOW) -> list[Device]:
    return list(take_snapshot(engine, at).devices())


def work_of(engine: Engine, at: datetime = NOW, cluster: str = "default") -> Attribution:
    [one] = take_joined(engine, at, cluster=cluster).clusters
    return one.work


def tokens_of(work: Attribution) -> tuple[float, float]:
    return work.attributed("generation_tokens"), work.unattributed("generation_tokens")


def test_tokens_from_before_a_pod_moved_do_not_go_to_its_new_device(engine: Engine, source_id: int) -> None:
    # 100 tokens a second on GPU 0 until 12 minutes before the end; then a new pod of that name on GPU 1, without work.
    for minute in range(60, -1, -3):
        at, is_first = -MINUTE * minute, minute > 12
        held = [fact(after(at), 0, pods=[pod("a", uid="u1")] if is_first else [])]
        held.append(fact(after(at), 1, index=1, pods=[] if is_first else [pod("a", uid="u2")]))
        write(engine, source_id, batch(*held), at=after(at))
        tell(engine, source_id, at, 6000.0 * (60 - minute) if is_first else 0.0, pod=IN_POD)
    first, second = devices(engine)
    assert (first.engines, [one.generation_tokens for one in second.engines]) == ((), [0.0])
    assert second.tokens_per_s == 0.0
    work = work_of(engine)
    assert tokens_of(work) == (0.0, pytest.approx(6000.0 * 45))
    assert [one.unattributed for one in work.servers if one.unattributed] == [
        "it was counted before 11:48 UTC, when its pod inference/a had other devices"
    ]


def test_what_a_pod_counted_before_it_started_is_of_another(engine: Engine, source_id: int) -> None:
    # A service's address: the pod behind it was replaced half an hour ago, and both counted one token a second.
    for at, tokens in ((-HOUR, 0.0), (-HOUR / 2, 1800.0), (0.0, 3600.0)):
        tell(engine, source_id, at, tokens, endpoint="llm.inference.svc:8000")
    write(engine, source_id, batch(fact(NOW, pods=[pod("llm-2")])))
    labels = {"app": "llm"}
    tell_pods(engine, source_id, 0.0, kubernetes_pod("llm-2", labels=labels, created_at=after(-HOUR / 2)))
    [device] = devices(engine)
    assert [(one.generation_tokens, one.certainty) for one in device.engines] == [(1800.0, Certainty.GUESSED)]
    assert tokens_of(work_of(engine)) == (1800.0, 1800.0)
    money = usage(-1, requests=10, cost_usd=8.0, dimension="team", owner="search")
    write(engine, source_id, Batch(usage=(money,)), target="gateway")
    costs = take_joined(engine, NOW).clusters[0].costs
    assert costs is not None
    assert (costs.attributed("cost_usd"), costs.rest("cost_usd")) == (4.0, 4.0)
    assert [one.splits for one in costs.parts] == [
        ("split over the places of its server by the tokens that each counted for it",)
    ]


def test_an_address_that_another_pod_has_by_now_links_nothing(engine: Engine, source_id: int) -> None:
    # Pod a died 8 minutes ago; pod b, which serves nothing, got its address 6 minutes ago.
    write(engine, source_id, batch(fact(after(-480), 0, pods=[pod("a")]), fact(after(-480), 1, index=1)))
    tell_pods(engine, source_id, -480, kubernetes_pod("a", pod_ip="10.0.0.7", created_at=after(-7200)))
    tell(engine, source_id, -HOUR, 0.0)
    tell(engine, source_id, -480, 6000.0)
    write(engine, source_id, batch(fact(NOW, 0), fact(NOW, 1, index=1, pods=[pod("b")])))
    tell_pods(engine, source_id, 0, kubernetes_pod("b", pod_ip="10.0.0.7", created_at=after(-360)))
    work = work_of(engine)
    assert tokens_of(work) == (0.0, 6000.0)
    assert [one.unattributed for one in work.servers] == [
        "what has its name or address by now, inference/b, started after it was last seen"
    ]


def test_a_server_that_has_gone_keeps_what_it_counted(engine: Engine, source_id: int) -> None:
    # 9,000 tokens a minute for 40 minutes in pod a, which is no more; 100 a minute all the hour in pod b.
    for minute in range(60, -1, -5):
        at, is_there = -MINUTE * minute, minute >= 20
        held = [fact(after(at), 0, pods=[pod("a")] if is_there else []), fact(after(at), 1, index=1, pods=[pod("b")])]
        write(engine, source_id, batch(*held), at=after(at))
        if is_there:
            tell(engine, source_id, at, 9000.0 * (60 - minute), endpoint="a:1", pod=("inference", "a"))
        tell(engine, source_id, at, 100.0 * (60 - minute), endpoint="b:1", pod=("inference", "b"))
    write(engine, source_id, Batch(usage=(usage(-1, cost_usd=366.0, dimension="team", owner="x"),)), target="gateway")
    [joined] = take_joined(engine, NOW).clusters
    assert tokens_of(joined.work) == (6000.0, 360_000.0)
    gone = next(one for one in joined.work.servers if one.server.fact.endpoint == "a:1")
    assert gone.unattributed == "it was not seen since 2026-11-22 11:40 UTC"
    assert joined.costs is not None
    # 6,000 of 366,000 tokens are those of b.
    assert [(one.endpoint, one.quantity("cost_usd")) for one in joined.costs.parts] == [("b:1", pytest.approx(6.0))]
    assert joined.costs.rest("cost_usd") == pytest.approx(360.0)


def test_a_change_of_the_models_name_is_no_second_engine(engine: Engine, source_id: int) -> None:
    # 1,000 tokens a second, as A for the first half hour and as B for the second.
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    for minute in range(60, -1, -1):
        name, since = ("A", 60) if minute > 30 else ("B", 30)
        tokens = 60_000.0 * (since - minute)
        tell(engine, source_id, -MINUTE * minute, tokens, model=name, models=(name,), pod=IN_POD)
    [device] = devices(engine)
    # The minute between the last reading of A and the first of B is in neither.
    assert device.tokens_per_s == pytest.approx(1000.0)
    [served] = device.engines
    assert served.covered_s == 59 * MINUTE


def test_requests_of_a_model_that_is_not_named_any_more_are_not_in_work(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    before = Batch(
        gauges=(gauge(-600, "requests_running", 5.0, subject=who(model="A")),),
        servers=(server(-600, models=("A",), pod=IN_POD),),
    )
    write(engine, source_id, before, at=after(-600), target=ENDPOINT)
    for at in (-570, -300, 0):
        now = Batch(
            gauges=(gauge(at, "requests_running", 0.0, subject=who(model="B")),),
            counters=(counter(at, 0.0, subject=who(model="B")),),
            servers=(server(at, models=("B",), pod=IN_POD),),
        )
        write(engine, source_id, now, at=after(at), target=ENDPOINT)
    [device] = devices(engine)
    assert [(one.models, one.requests_running) for one in device.engines] == [(("B",), 0.0)]
    assert device.verdict.state is not DeviceState.SERVING


@pytest.mark.parametrize("until", [-HOUR / 2, 0.0])
def test_an_engine_that_names_its_model_by_one_road_only_is_counted_once(
    engine: Engine, source_id: int, until: float
) -> None:
    # One token a second; Prometheus tells no model all the hour, the server itself does up to `until`.
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    for minute in range(60, -1, -5):
        at = -MINUTE * minute
        tell(engine, source_id, at, HOUR + at, model="", models=(), engine=ServingEngine.LLAMA_CPP, pod=IN_POD)
        if at <= until:
            tell(
                engine,
                source_id,
                at,
                HOUR + at,
                model="qwen",
                models=("qwen",),
                engine=ServingEngine.LLAMA_CPP,
                pod=IN_POD,
            )
        running = (gauge(at, "requests_running", 2.0, subject=who(model=model)) for model in ("", "qwen"))
        write(engine, source_id, Batch(gauges=tuple(running)), at=after(at), target="gauges")
    [device] = devices(engine)
    [served] = device.engines
    assert (served.generation_tokens, served.covered_s, served.requests_running) == (pytest.approx(HOUR), HOUR, 2.0)
    assert tokens_of(work_of(engine)) == (pytest.approx(HOUR), 0.0)


def test_the_ranks_of_an_engine_add_up_over_the_time_that_any_was_read(engine: Engine, source_id: int) -> None:
    # Rank 0 was read in the first half of the hour, rank 1 in the second: 1,800 tokens each.
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    for rank, since in (("0", -HOUR), ("1", -HOUR / 2)):
        for share in (0.0, 1.0):
            at = since + share * HOUR / 2
            told = Batch(
                counters=(counter(at, 1800.0 * share, subject=who(rank=rank)),), servers=(server(at, pod=IN_POD),)
            )
            write(engine, source_id, told, at=after(at), target=rank)
    [device] = devices(engine)
    assert device.tokens_per_s == pytest.approx(1.0)


def test_a_pod_that_a_source_named_long_ago_is_on_no_device(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(after(-86_400), pods=[pod("a")])), at=after(-86_400))
    for at, tokens in ((-HOUR, 0.0), (0.0, 7200.0)):
        tell(engine, source_id, at, tokens, pod=IN_POD)
    [device] = devices(engine)
    assert ([one.name for one in device.pods], device.engines, device.tokens_per_s) == (["a"], (), None)
    work = work_of(engine)
    assert tokens_of(work) == (0.0, 7200.0)
    assert [one.unattributed for one in work.servers] == ["no device is known to belong to its pod inference/a"]
    # As soon as it is named again, it is.
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    assert tokens_of(work_of(engine)) == (7200.0, 0.0)


def test_kubernetes_decides_on_which_node_a_pod_is(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    for at, tokens in ((-HOUR, 0.0), (0.0, 7200.0)):
        tell(engine, source_id, at, tokens, pod=IN_POD)
    tell_pods(engine, source_id, 0, kubernetes_pod("a", on="node-b", created_at=after(-7200)))
    [device] = devices(engine)
    assert device.engines == ()
    work = work_of(engine)
    assert tokens_of(work) == (0.0, 7200.0)
    [conflict] = work.conflicts
    assert conflict.outcome == "Kubernetes runs it on node-b, so the device is not its."


def test_an_engine_whose_counters_were_read_once_says_so(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    tell(engine, source_id, 0.0, 5000.0, pod=IN_POD)
    [device] = devices(engine)
    assert why_no_device_rate(device) == "its counters were read once so far, and a rate needs two readings"
    assert [one.generation_tokens for one in device.engines] == [None]


def test_what_an_endpoint_counted_of_which_nothing_else_was_told_is_not_lost(engine: Engine, source_id: int) -> None:
    for at in (-HOUR, 0.0):
        write(engine, source_id, Batch(counters=(counter(at, HOUR + at),)), at=after(at), target="alone")
    work = work_of(engine)
    assert (list(work.strays), tokens_of(work)) == ([ENDPOINT], (0.0, HOUR))


def test_one_pod_on_its_device_all_the_time_is_not_cut(engine: Engine, source_id: int) -> None:
    # A source that loses sight of the pod for ten minutes, and a first look in the middle of the window.
    for minute in (40, 35, 30, 10, 5, 0):
        seen = [pod("a", uid="u1")] if minute != 30 else []
        write(engine, source_id, batch(fact(after(-MINUTE * minute), pods=seen)), at=after(-MINUTE * minute))
    tell_pods(engine, source_id, 0, kubernetes_pod("a", uid="u1", created_at=after(-86_400)))
    for at, tokens in ((-HOUR, 0.0), (0.0, 7200.0)):
        tell(engine, source_id, at, tokens, pod=IN_POD)
    assert tokens_of(work_of(engine)) == (7200.0, 0.0)


@st.composite
def histories(draw: st.DrawFn) -> list[Batch]:
    """Half a day, every ten minutes: pods come, go and move, servers are seen or not, restart and change models."""
    told: list[Batch] = []
    counts = {"10.0.0.1:8000": 0.0, "10.0.0.2:8000": 0.0}
    for step in range(draw(st.integers(2, 9))):
        at = 600.0 * step
        on = draw(st.lists(st.sampled_from(["a", "b", None]), min_size=2, max_size=2))
        uid = draw(st.sampled_from(["u1", "u2"]))
        facts = [
            fact(after(at), number, index=number, pods=[pod(name, uid=uid)] if name else [])
            for number, name in enumerate(on)
        ]
        told.append(batch(*facts))
        pods = [
            kubernetes_pod(
                name,
                uid=f"{uid}-{name}",
                on=draw(st.sampled_from(["node-a", "node-b"])),
                pod_ip=draw(st.sampled_from(["10.0.0.1", "10.0.0.2"])),
                created_at=after(at - draw(st.integers(0, 4000))),
            )
            for name in draw(st.lists(st.sampled_from("ab"), unique=True))
        ]
        told.append(Batch(cluster_state=ClusterState(observed_at=after(at), nodes=(node(),), pods=tuple(pods))))
        for endpoint in counts:
            if not draw(st.booleans()):
                continue
            counts[endpoint] = draw(st.sampled_from([0.0, counts[endpoint]])) + draw(st.integers(0, 5000))
            model = draw(st.sampled_from(["A", "B"]))
            name = draw(st.sampled_from(["a", "b", None]))
            told.append(
                Batch(
                    counters=(counter(at, counts[endpoint], subject=who(endpoint, model)),),
                    servers=(server(at, endpoint, models=(model,), pod=("inference", name) if name else None),),
                )
            )
    return told


def _told_at(one: Batch) -> datetime:
    told = (*one.facts, *one.counters, *filter(None, [one.cluster_state]))
    return told[0].observed_at


@given(history=histories(), end=st.integers(0, 6000), minutes=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_what_is_put_down_and_what_is_not_adds_up_to_what_was_counted(
    shared_engine: Engine, history: list[Batch], end: int, minutes: int
) -> None:
    source, cluster = source_of_new_cluster(shared_engine)
    for number, one in enumerate(history):
        write(shared_engine, source, one, at=_told_at(one), target=f"target-{number}")
    at, window = after(end), timedelta(minutes=minutes)
    [joined] = take_joined(shared_engine, at, cluster=cluster, window=window).clusters
    # An engine that is read at two addresses is counted once: that is left out, and told.
    doubles = {link.target for one in joined.work.conflicts if "one engine" in one.outcome for link in one.links[1:]}
    whole = sum(
        one.increment
        for one in counted(shared_engine, at - window, at, metrics=["generation_tokens"], cluster=cluster)
        if one.subject.endpoint not in doubles
    )
    assert sum(tokens_of(joined.work)) == pytest.approx(whole)

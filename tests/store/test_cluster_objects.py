"""What Kubernetes says is kept over time: complete lists end what they do not name, unread ones change nothing."""

from dataclasses import fields, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from planner.cluster_facts import (
    ClaimedDevice,
    ClusterState,
    KubernetesNode,
    KubernetesPod,
    KubernetesQuota,
    Sharing,
)
from planner.readings import Batch
from store.cluster_objects import CLAIMS, NODES, PODS, QUOTAS
from store.cluster_queries import cluster_state
from store.interval_rows import IntervalTable
from tests.store.batches import NOW, after, everything, rows, source_of_new_cluster, spans, write
from tests.store.serving_batches import claim, kubernetes_pod, node, quota


def state(at: float = 0, **lists: Any) -> ClusterState:
    return ClusterState(observed_at=after(at), **{"nodes": None, "pods": None} | lists)


def tell(engine: Engine, source_id: int, told: ClusterState) -> None:
    write(engine, source_id, Batch(cluster_state=told), at=told.observed_at)


@pytest.mark.parametrize(
    ("described", "kind"),
    [(KubernetesNode, NODES), (KubernetesPod, PODS), (KubernetesQuota, QUOTAS), (ClaimedDevice, CLAIMS)],
)
def test_everything_that_is_told_of_an_object_is_kept(described: type[Any], kind: IntervalTable) -> None:
    assert {*kind.key, *kind.values} == {field.name for field in fields(described)}


def test_a_look_comes_back_as_it_was(engine: Engine, source_id: int) -> None:
    told = state(
        nodes=(
            node(
                sharing=Sharing.TIME_SLICING,
                replicas=4,
                taints=("nvidia.com/gpu=present:NoSchedule",),
                ready=None,
                mig_strategy="mixed",
                mig_config="all-1g.10gb",
                mig_config_state="success",
                addresses=("10.0.0.1", "node-a"),
                driver_version="580.126.09",
            ),
            node("node-b", unschedulable=True),
        ),
        pods=(
            kubernetes_pod("a", pod_ip="10.1.0.5", host_ip="10.0.0.1", labels={"app": "llm"}, claims=("c",)),
            kubernetes_pod("b", on=None, phase="Pending", started_at=None, pending_reason="0/3 nodes are available"),
        ),
        quotas=(quota(),),
        claimed_devices=(claim(gpu_uuid="GPU-1", pci_bus_id="0000:3b:00.0"),),
        version="v1.34.1",
        details={"resource.k8s.io": "v1"},
    )
    tell(engine, source_id, told)
    assert cluster_state(engine, NOW, "default") == told


def test_a_cluster_that_was_never_read_says_nothing(engine: Engine, source_id: int) -> None:
    assert cluster_state(engine, NOW, "default") is None
    assert cluster_state(engine, NOW, "nowhere") is None


def test_a_complete_list_ends_what_it_does_not_name(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, state(0, pods=(kubernetes_pod("a"), kubernetes_pod("b"))))
    tell(engine, source_id, state(600, pods=(kubernetes_pod("b"),)))
    tell(engine, source_id, state(1200, pods=()))
    assert spans(engine, "kubernetes_pod_record", "name") == [("a", 0, 600), ("b", 0, 1200)]
    now = cluster_state(engine, after(1200), "default")
    assert now is not None
    assert now.pods == ()
    before = cluster_state(engine, after(60), "default")
    assert before is not None
    assert [pod.name for pod in before.pods or ()] == ["a", "b"]


def test_a_list_that_could_not_be_read_changes_nothing(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, state(0, pods=(kubernetes_pod("a"),), quotas=(quota(),)))
    tell(engine, source_id, state(600, nodes=(node(),)))
    found = cluster_state(engine, after(600), "default")
    assert found is not None
    assert ([pod.name for pod in found.pods or ()], len(found.quotas or ()), len(found.nodes or ())) == (["a"], 1, 1)
    assert found.claimed_devices is None


def test_a_list_that_was_not_read_for_long_is_not_known_whatever_else_is_read(engine: Engine, source_id: int) -> None:
    # the right to list pods was taken away, that to list nodes was not
    tell(engine, source_id, state(0, nodes=(node(),), pods=(kubernetes_pod("old"),), claimed_devices=()))
    for at in range(600, 86_401, 600):
        tell(engine, source_id, state(at, nodes=(node(),)))
    now = cluster_state(engine, after(86_400), "default")
    assert now is not None
    assert (now.observed_at, len(now.nodes or ())) == (after(86_400), 1)
    assert (now.pods, now.claimed_devices) == (None, None)
    early = cluster_state(engine, after(900), "default")
    assert early is not None
    assert [pod.name for pod in early.pods or ()] == ["old"]


def test_before_the_first_look_nothing_is_known(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, state(0, nodes=(node(),)))
    tell(engine, source_id, state(3600, nodes=(node(),), pods=(kubernetes_pod("a"),), claimed_devices=()))
    assert cluster_state(engine, after(-7200), "default") is None
    before = cluster_state(engine, after(600), "default")
    assert before is not None
    assert (len(before.nodes or ()), before.pods, before.claimed_devices) == (1, None, None)
    now = cluster_state(engine, after(3600), "default")
    assert now is not None
    assert (len(now.pods or ()), now.claimed_devices) == (1, ())


def test_what_is_absent_replaces_what_was_there(engine: Engine, source_id: int) -> None:
    pending = kubernetes_pod(
        "a", on=None, phase="Pending", pending_reason="Insufficient nvidia.com/gpu", started_at=None
    )
    placed = replace(pending, node=kubernetes_pod().node, pending_reason=None)
    tell(engine, source_id, state(0, pods=(pending,)))
    tell(engine, source_id, state(30, pods=(replace(pending, pending_reason="0/9 nodes are available"),)))
    tell(engine, source_id, state(3600, pods=(placed,)))
    assert spans(engine, "kubernetes_pod_record", "node", "pending_reason") == [
        (None, "0/9 nodes are available", 0, 3600),
        ("node-a", None, 3600, None),
    ]
    ready, lost = node(ready=True), node(ready=None)
    tell(engine, source_id, state(3700, nodes=(ready,)))
    tell(engine, source_id, state(7200, nodes=(lost,)))
    assert spans(engine, "node_record", "ready") == [(True, 3700, 7200), (None, 7200, None)]


def test_labels_that_change_make_no_new_row(engine: Engine, source_id: int) -> None:
    for at in (0, 600):
        tell(engine, source_id, state(at, nodes=(node(labels={"nvidia.com/gfd.timestamp": str(at)}),)))
    assert spans(engine, "node_record", "labels") == [('{"nvidia.com/gfd.timestamp":"600"}', 0, None)]


def test_a_look_that_comes_late_changes_nothing(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, state(600, pods=(kubernetes_pod("b"),), version="v1.34.1"))
    before = everything(engine)
    write(
        engine,
        source_id,
        Batch(cluster_state=state(0, pods=(kubernetes_pod("a"),), version="v1.33.0")),
        at=after(600),
    )
    after_late = everything(engine)
    assert after_late["kubernetes_pod_record"] == before["kubernetes_pod_record"]
    assert after_late["cluster_look"] == before["cluster_look"]


def test_clusters_are_apart(engine: Engine, source_id: int) -> None:
    other, cluster = source_of_new_cluster(engine)
    tell(engine, source_id, state(0, pods=(kubernetes_pod("a"),)))
    tell(engine, other, state(30, pods=()))
    found, empty = cluster_state(engine, after(30), "default"), cluster_state(engine, after(30), cluster)
    assert found is not None
    assert empty is not None
    assert (len(found.pods or ()), empty.pods) == (1, ())


pods = st.lists(
    st.builds(
        kubernetes_pod,
        st.sampled_from("abc"),
        on=st.sampled_from(["node-a", "node-b", None]),
        phase=st.sampled_from(["Pending", "Running"]),
    ),
    unique_by=lambda pod: pod.uid,
)


@given(told=st.lists(st.tuples(st.integers(0, 30), st.none() | pods), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_newest_complete_list_is_what_there_is(
    shared_engine: Engine, told: list[tuple[int, list[KubernetesPod] | None]]
) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    for minutes, listed in told:
        for _ in range(2):
            tell(shared_engine, source_id, state(60 * minutes, pods=None if listed is None else tuple(listed)))
    newest: tuple[int, list[KubernetesPod] | None] = (-1, None)
    for minutes, listed in told:
        if listed is not None and minutes > newest[0]:
            newest = (minutes, listed)
    found = cluster_state(shared_engine, after(3600), cluster, seen_within=timedelta(hours=2))
    assert found is not None
    assert found.pods == (None if newest[1] is None else tuple(sorted(newest[1], key=lambda pod: pod.uid)))
    [cluster_row] = rows(shared_engine, "cluster", name=cluster)
    for uid in {row["uid"] for row in rows(shared_engine, "kubernetes_pod_record", cluster_id=cluster_row["id"])}:
        of_pod = rows(shared_engine, "kubernetes_pod_record", cluster_id=cluster_row["id"], uid=uid)
        of_pod.sort(key=lambda row: row["valid_from"])
        for row, following in pairwise(of_pod):
            assert row["valid_to"] is not None
            assert row["valid_to"] <= following["valid_from"]

"""Pods: what they effectively ask for, who owns them, why they wait.

Sums worked out by hand from Kubernetes' rule for init containers and sidecars.
"""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kubernetes.pods import claim_names, effective_requests, is_of_interest, kubernetes_pod, outermost_owner
from collectors.kubernetes.wire import OwnerReference
from tests.collectors.kubernetes.objects import asks, container, owned_by, pod

GPU = "nvidia.com/gpu"
MIG = "nvidia.com/mig-1g.5gb"


def sidecar(name: str, **counts: int) -> dict[str, Any]:
    return container(name, asks(**counts), restartPolicy="Always")


@pytest.mark.parametrize(
    ("containers", "init", "requests"),
    [
        # containers run together: they add up
        ([container("a", asks(gpu=1)), container("b", asks(gpu=2))], [], {GPU: 3}),
        # init containers run before, one after the other: the largest counts, if it is larger
        ([container("a", asks(gpu=1))], [container("i", asks(gpu=4)), container("j", asks(gpu=2))], {GPU: 4}),
        ([container("a", asks(gpu=4))], [container("i", asks(gpu=1))], {GPU: 4}),
        # sidecars run beside the containers
        ([container("a", asks(gpu=1))], [sidecar("s", gpu=1)], {GPU: 2}),
        # an init container runs beside the sidecars that were started before it: 1 + 3 > 1 + 1
        ([container("a", asks(gpu=1))], [sidecar("s", gpu=1), container("i", asks(gpu=3))], {GPU: 4}),
        # and not beside those started after it: max(3, 1 + 1) = 3
        ([container("a", asks(gpu=1))], [container("i", asks(gpu=3)), sidecar("s", gpu=1)], {GPU: 3}),
        # each resource by itself
        (
            [container("a", asks(gpu=1)), container("b", asks(mig_1g_5gb=2))],
            [container("i", asks(mig_1g_5gb=3, gpu=1))],
            {GPU: 1, MIG: 3},
        ),
        # a limit without a request is the request
        ([container("a", {"limits": {GPU: "2"}})], [], {GPU: 2}),
        # nothing is asked for with 0
        ([container("a", asks(gpu=0)), container("b", {"requests": {"cpu": "1"}})], [], {}),
        ([container("a", None)], [], {}),
    ],
)
def test_effective_requests_follow_the_rule_of_kubernetes(
    containers: list[dict[str, Any]], init: list[dict[str, Any]], requests: dict[str, int]
) -> None:
    assert effective_requests(pod(*containers, spec={"initContainers": init})) == requests


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=6),
)
def test_no_moment_in_a_pods_life_needs_more_than_its_effective_requests(
    containers: list[int], init: list[tuple[int, bool]]
) -> None:
    made = [container(f"c{index}", asks(gpu=count)) for index, count in enumerate(containers)]
    started = [
        sidecar(f"i{index}", gpu=count) if is_sidecar else container(f"i{index}", asks(gpu=count))
        for index, (count, is_sidecar) in enumerate(init)
    ]
    running, most = 0, 0
    for count, is_sidecar in init:  # the pod's life, step by step
        most = max(most, running + count)
        running += count if is_sidecar else 0
    most = max(most, running + sum(containers))
    found = effective_requests(pod(*made, spec={"initContainers": started}))
    assert found.get(GPU, 0) == most


def test_containers_that_ask_are_named() -> None:
    given_pod = pod(
        container("main", asks(gpu=1)),
        container("proxy"),
        container("claims", {"claims": [{"name": "gpu"}]}),
        spec={"initContainers": [container("warm-up", asks(gpu=1))]},
    )
    found = kubernetes_pod(given_pod, replica_sets=None, labels=())
    assert found is not None
    assert found.containers == ("warm-up", "main", "claims")


@pytest.mark.parametrize(
    ("metadata", "kind", "name"),
    [
        ({}, None, None),
        (owned_by("StatefulSet", "ollama"), "StatefulSet", "ollama"),
        (owned_by("Job", "train-28391"), "Job", "train-28391"),
        # the hash of the template ends the name of a Deployment's ReplicaSet
        (
            owned_by("ReplicaSet", "llm8-747595f58c") | {"labels": {"pod-template-hash": "747595f58c"}},
            "Deployment",
            "llm8",
        ),
        # a ReplicaSet of its own has no such label, whatever it is called
        (owned_by("ReplicaSet", "llm8-747595f58c"), "ReplicaSet", "llm8-747595f58c"),
        (
            owned_by("ReplicaSet", "llm8-747595f58c") | {"labels": {"pod-template-hash": "other"}},
            "ReplicaSet",
            "llm8-747595f58c",
        ),
        (owned_by("ReplicaSet", "-abc") | {"labels": {"pod-template-hash": "abc"}}, "ReplicaSet", "-abc"),
        (
            owned_by("ReplicaSet", "web-5d9") | {"labels": {"rollouts-pod-template-hash": "5d9"}},
            "Rollout",
            "web",
        ),
        # several owners: the one that controls
        (
            {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "1"},
                    {"apiVersion": "run.ai/v1", "kind": "RunaiJob", "name": "job", "uid": "2", "controller": True},
                ]
            },
            "RunaiJob",
            "job",
        ),
        (
            {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1"},
                    {"apiVersion": "v1", "kind": "B", "name": "b", "uid": "2"},
                ]
            },
            None,
            None,
        ),
    ],
)
def test_owners_are_found_up_to_the_deployment(metadata: dict[str, Any], kind: str | None, name: str | None) -> None:
    assert outermost_owner(pod(metadata=metadata), None) == (kind, name)


def test_replica_sets_that_are_read_say_who_owns_them() -> None:
    found = pod(metadata=owned_by("ReplicaSet", "odd-name") | {"labels": {"pod-template-hash": "name"}})
    above = OwnerReference(kind="Deployment", name="real-name", controller=True)
    assert outermost_owner(found, {("team-a", "odd-name"): above}) == ("Deployment", "real-name")
    assert outermost_owner(found, {("team-a", "odd-name"): None}) == ("ReplicaSet", "odd-name")
    assert outermost_owner(found, {("team-b", "odd-name"): above}) == ("Deployment", "odd")  # another namespace's


def test_a_pod_that_waits_says_why() -> None:
    message = "0/6 nodes are available: 6 Insufficient nvidia.com/gpu.\x1b[31m\u202e"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    waiting = pod(container("m", asks(gpu=8)), status={"phase": "Pending", "conditions": [condition]})
    found = kubernetes_pod(waiting, replica_sets=None, labels=())
    assert found is not None
    assert found.pending_reason == "Unschedulable: 0/6 nodes are available: 6 Insufficient nvidia.com/gpu. [31m"
    assert (found.phase, found.node) == ("Pending", None)


def test_a_pod_that_was_scheduled_gives_no_reason() -> None:
    for conditions in ([], [{"type": "PodScheduled", "status": "True"}], [{"type": "Ready", "status": "False"}]):
        found = kubernetes_pod(pod(status={"conditions": conditions}), replica_sets=None, labels=())
        assert found is not None
        assert found.pending_reason is None


def test_everything_else_is_taken_over() -> None:
    given_pod = pod(
        container("m", asks(gpu=1)),
        metadata={"labels": {"app.kubernetes.io/name": "llm", "team": "a", "secret": "x"}},
        spec={"nodeName": "n1", "priority": 1000, "priorityClassName": "high"},
        status={"podIP": "10.1.0.5", "hostIP": "10.0.0.7", "startTime": "2026-11-01T08:00:05+01:00"},
    )
    found = kubernetes_pod(given_pod, replica_sets=None, labels=("team",))
    assert found is not None
    assert (found.namespace, found.name, found.uid, found.node) == ("team-a", "p1", "uid-p1", "n1")
    assert (found.priority, found.priority_class) == (1000, "high")
    assert (found.pod_ip, found.host_ip) == ("10.1.0.5", "10.0.0.7")
    assert found.labels == {"app.kubernetes.io/name": "llm", "team": "a"}
    assert found.created_at == datetime(2026, 11, 1, 8, tzinfo=UTC)
    assert found.started_at == datetime(2026, 11, 1, 7, 0, 5, tzinfo=UTC)


def test_a_pod_that_was_never_created_is_none() -> None:
    assert kubernetes_pod(pod(metadata={"creationTimestamp": None}), replica_sets=None, labels=()) is None


def test_claims_are_named_as_they_are_called() -> None:
    given_pod = pod(
        spec={
            "resourceClaims": [
                {"name": "shared", "resourceClaimName": "team-claim"},
                {"name": "own", "resourceClaimTemplateName": "template"},
            ]
        },
        status={
            "resourceClaimStatuses": [{"name": "own", "resourceClaimName": "p1-own-x7k2d"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "p1-extended-resources-q8"},
        },
    )
    assert claim_names(given_pod) == ("p1-extended-resources-q8", "p1-own-x7k2d", "team-claim")
    not_made = pod(spec={"resourceClaims": [{"name": "own", "resourceClaimTemplateName": "template"}]})
    assert claim_names(not_made) == ()
    assert is_of_interest(not_made)


@pytest.mark.parametrize(
    ("given_pod", "is_interesting"),
    [
        (pod(), False),
        (pod(container("m", asks(gpu=1))), True),
        (pod(spec={"initContainers": [container("m", asks(gpu=1))]}), True),
        (pod(metadata={"annotations": {"gpu-fraction": "0.5"}}), True),
        (pod(metadata={"annotations": {"prometheus.io/scrape": "true"}}), False),
    ],
)
def test_pods_that_ask_for_gpus_are_of_interest(given_pod: Any, *, is_interesting: bool) -> None:
    assert is_of_interest(given_pod) is is_interesting

"""What to do about gaps: the rule to add, word for word, in a form that kubectl takes."""

import json

import pytest
import yaml

from collectors.kubernetes.cluster_view import BY_ANNOTATION, NO_LABELS
from collectors.kubernetes.remedies import remedy
from collectors.kubernetes_errors import Right, error_of_answer
from planner.readings import Gap


def gap(reason: str) -> Gap:
    return Gap(subject="api:6443", metric=None, reason=reason)


@pytest.mark.parametrize(
    ("right", "role"),
    [
        (Right(verb="list", verbs=("list", "watch"), resource="pods"), "ClusterRole"),
        (Right(verb="watch", verbs=("list", "watch"), resource="pods", namespace="team-a"), "Role in team-a"),
        (Right(verb="list", verbs=("list",), group="resource.k8s.io", resource="resourceslices"), "ClusterRole"),
        (Right(verb="get", verbs=("get",), path="/version"), "ClusterRole"),
    ],
)
def test_a_missing_right_is_added_by_its_rule(right: Right, role: str) -> None:
    error = error_of_answer(403, b"", {}, source="main", target="api:6443", right=right)
    fix = remedy(gap(f"pods cannot be read: {error}. Nothing is known.")).fix
    assert fix is not None
    head, _, rule = fix.partition("\n")
    assert head == f"{role}, below `rules:` (deploy/rbac.yaml has them all):"
    assert yaml.safe_load(rule) == [json.loads(right.rule)]


def test_labels_are_brought_by_the_operator() -> None:
    fix = remedy(gap(f"{NO_LABELS} (5 nodes)")).fix
    assert fix is not None
    assert "gfd.enabled=true" in fix


def test_what_another_scheduler_hides_is_natural() -> None:
    assert remedy(gap(BY_ANNOTATION)).is_natural
    assert remedy(gap(BY_ANNOTATION)).fix is None


def test_what_nobody_can_help_has_no_remedy() -> None:
    found = remedy(gap("nodes cannot be read: api:6443 did not answer within 30 s."))
    assert (found.fix, found.is_natural) == (None, False)

"""What to do about what Kubernetes does not tell: the rule of a role, the part of the GPU Operator."""

import re
from collections.abc import Mapping

from collectors.diagnosis import Remedy
from collectors.errors import CollectorError, Unauthorized
from collectors.kubernetes.cluster_view import BY_ANNOTATION, NO_LABELS
from collectors.kubernetes.resources import Kind
from planner.diagnosis import Lack
from planner.readings import Gap

_RULE = re.compile(r"add to the rules of its (?P<role>ClusterRole|Role in [a-z0-9-]+): (?P<rule>\{[^{}]*\})")

_LACKS: Mapping[str, Lack] = {
    Kind.NODES: Lack.NODES,
    Kind.PODS: Lack.PODS,
    Kind.QUOTAS: Lack.QUOTAS,
    Kind.REPLICA_SETS: Lack.POD_OWNERS,
    Kind.SLICES: Lack.CLAIMS,
    Kind.CLAIMS: Lack.CLAIMS,
    "the version": Lack.CLUSTER_VERSION,
}


def remedy(gap: Gap) -> Remedy:
    """What brings the missing list, word for word; natural where another scheduler hides what it does."""
    if gap.reason.startswith(BY_ANNOTATION):
        return Remedy(is_natural=True)
    if gap.reason.startswith(NO_LABELS):
        fix = "GPU Operator: `--set gfd.enabled=true`; the device plugin's own chart: the same value."
        return Remedy(fix=fix, lack=Lack.NODE_LABELS)
    unread = (
        lack
        for what, lack in _LACKS.items()
        if gap.reason.startswith((f"{what} cannot be", f"{what} are listed", f"{what} are soon"))
    )
    return Remedy(fix=fix_of(gap.reason), lack=next(unread, Lack.OBJECTS))


def fix_of(sentence: str) -> str | None:
    """The rules that a sentence about missing rights names, as they stand in a role; None where it names none."""
    rules = dict.fromkeys((found["role"], found["rule"]) for found in _RULE.finditer(sentence))
    lines = [f"{role}, below `rules:` (deploy/rbac.yaml has them all):\n- {rule}" for role, rule in rules]
    return "\n".join(lines) or None


def error_fix(error: CollectorError) -> str | None:
    """The rules that are missing; where it is no right that is missing, the general advice is right."""
    if isinstance(error, Unauthorized) and fix_of(str(error)) is None:
        return "Give another token or kubeconfig: `kubectl --kubeconfig FILE auth whoami` tells whom it names."
    return fix_of(str(error))

"""Who may do what at the simulated API server: rules of Roles and ClusterRoles, evaluated as Kubernetes does.

Source: Kubernetes, "Using RBAC Authorization". Only rules that are bound count; resource names are not supported.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as authorisation sees it: a resource, or a path that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str | None = None
    name: str | None = None
    path: str | None = None

    def refusal(self, user: str) -> str:
        """The API server's words when it is not allowed."""
        if self.path is not None:
            return f'forbidden: User "{user}" cannot {self.verb} path "{self.path}"'
        where = "at the cluster scope" if self.namespace is None else f'in the namespace "{self.namespace}"'
        return (
            f'{self.resource} is forbidden: User "{user}" cannot {self.verb} resource "{self.resource}" '
            f'in API group "{self.group}" {where}'
        )


class Rights:
    """The rules that hold for one account: everywhere, and in single namespaces."""

    def __init__(
        self, everywhere: Sequence[JsonObject], by_namespace: Mapping[str, Sequence[JsonObject]] | None = None
    ) -> None:
        self.everywhere = tuple(everywhere)
        self.by_namespace = dict(by_namespace or {})

    @classmethod
    def of_manifests(cls, documents: Iterable[JsonObject], *, account: str, namespace: str) -> "Rights":
        """What a list of manifests binds to a service account; raises KeyError for a role that is not among them."""
        found = [document for document in documents if document]
        roles = {
            (role["kind"], role["metadata"].get("namespace", ""), role["metadata"]["name"]): role["rules"]
            for role in found
            if role["kind"] in ("ClusterRole", "Role")
        }
        everywhere: list[JsonObject] = []
        by_namespace: dict[str, list[JsonObject]] = {}
        for binding in found:
            if binding["kind"] not in ("ClusterRoleBinding", "RoleBinding"):
                continue
            if not any(
                subject["kind"] == "ServiceAccount"
                and (subject["name"], subject.get("namespace")) == (account, namespace)
                for subject in binding["subjects"]
            ):
                continue
            reference = binding["roleRef"]
            place = binding["metadata"].get("namespace", "")
            home = place if reference["kind"] == "Role" else ""
            rules = roles[reference["kind"], home, reference["name"]]
            if binding["kind"] == "ClusterRoleBinding":
                everywhere += rules
            else:
                by_namespace.setdefault(place, []).extend(rules)
        return cls(everywhere, by_namespace)

    def allow(self, asked: Asked) -> bool:
        """Whether any rule allows it; there are no rules that forbid."""
        rules = [*self.everywhere]
        if asked.namespace is not None:
            rules += self.by_namespace.get(asked.namespace, ())
        return any(rule_allows(rule, asked) for rule in rules)


def rule_allows(rule: JsonObject, asked: Asked) -> bool:
    """Whether one rule allows it."""
    if not _holds(rule.get("verbs", ()), asked.verb):
        return False
    if asked.path is not None:
        return any(
            asked.path == path or (path.endswith("*") and asked.path.startswith(path[:-1]))
            for path in rule.get("nonResourceURLs", ())
        )
    return _holds(rule.get("apiGroups", ()), asked.group) and _holds(rule.get("resources", ()), asked.resource)


def _holds(allowed: Iterable[str], wanted: str) -> bool:
    return any(one in ("*", wanted) for one in allowed)

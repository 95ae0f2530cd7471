"""Which scrape targets are one server, where Prometheus calls several by one `instance`.

A relabelling that puts the node's name there, or two clusters behind one Thanos, makes several engines look like one
whose counters leap. Two replicas of Prometheus do the opposite: one engine, read twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import combinations
from urllib.parse import quote

from collectors.plain_text import plain_text
from collectors.prometheus import Series
from planner.readings import Gap

_ROLES: Mapping[str, tuple[str, ...]] = {
    "cluster": ("cluster", "cluster_name", "k8s_cluster"),
    "namespace": ("namespace", "kubernetes_namespace"),
    "pod": ("pod", "kubernetes_pod_name", "pod_name"),
    "container": ("container", "kubernetes_container_name", "container_name"),
    "node": ("node", "kubernetes_node", "nodename", "node_name"),
}
"""Labels that say where a target runs, by what they say; of several names the first is taken that has a value."""

_REPLICAS = frozenset(
    {
        "monitor",
        "prometheus",
        "prometheus_replica",
        "receive",
        "receive_replica",
        "replica",
        "rule_replica",
        "tenant_id",
    }
)
"""External labels that name the Prometheus or Thanos that read, not what was read.

Source: prometheus.io, "Configuration", external_labels; prometheus-operator.dev, API reference,
prometheusExternalLabelName and replicaExternalLabelName; thanos.io, "Query" and "Receive" (November 2026).
"""
_PLACES = frozenset(name for names in _ROLES.values() for name in names)
_NO_PART = _REPLICAS | _PLACES | {"__name__", "job", "instance"}

_SOON_S = 300.0
"""Two pods under one name within this time are two servers: a scrape interval is hardly longer."""
_FORGOTTEN_S = 3600.0

TargetKey = tuple[str, str]
"""Job and instance: what tells one scrape target from another in Prometheus, if nobody changes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The server that series belong to; `is_shared` says that others have the same `instance`."""

    job: str
    instance: str
    endpoint: str
    is_shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Series and the labels of `up` by server, and what could not be told apart."""

    series: Mapping[Origin, Sequence[Series]]
    ups: Mapping[Origin, Sequence[Mapping[str, str]]]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """What the labels of a target say of where it runs ("" where they are silent), and what else they say."""

    cluster: str
    namespace: str
    pod: str
    container: str
    node: str
    others: frozenset[tuple[str, str]]

    def told(self) -> frozenset[str]:
        return frozenset(role for role in _ROLES if getattr(self, role))


_Span = tuple[float, float]


class SharedInstances:
    """Names servers; what once was several stays so, as a name that changes to and fro begins every count anew."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, dict[_Place, _Span]] = defaultdict(dict)
        self._told_by: defaultdict[str, set[str]] = defaultdict(set)  # of endpoints that are shared: roles that differ

    def sort_out(self, series: Sequence[Series], ups: Sequence[Mapping[str, str]]) -> Origins:
        """The server of each series; those of which it cannot be told are left out, with a gap."""
        own: defaultdict[TargetKey, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for labels in ups:
            for name, value in labels.items():
                own[_key(labels)][name].add(value)
        # Most series differ in the engine's own labels only: what those of one target say is looked at once.
        told_by_up = {name for names in own.values() for name in names} - {"__name__"}
        names_there = sorted(told_by_up | _PLACES | {"job", "instance"})
        alike: defaultdict[tuple[str | None, ...], list[Series]] = defaultdict(list)
        for one in series:
            if one.values:
                alike[tuple(map(one.metric.get, names_there))].append(one)
        placed = [(told, _place(told[0].metric, own[_key(told[0].metric)])) for told in alike.values()]
        spans: defaultdict[str, dict[_Place, _Span]] = defaultdict(dict)
        for told, place in placed:
            span = (min(one.values[0][0] for one in told), max(one.values[-1][0] for one in told))
            there = spans[endpoint_of_instance(_key(told[0].metric))]
            there[place] = _both(there.get(place, span), span)
        names: dict[str, dict[_Place, str | None]] = {}
        gaps: list[Gap] = []
        for endpoint, there in spans.items():
            names[endpoint] = self._names(endpoint, there)
            if None in names[endpoint].values():
                gaps.append(_gap(endpoint, there))
        found: defaultdict[Origin, list[Series]] = defaultdict(list)
        for told, place in placed:
            origin = _origin(told[0].metric, place, names)
            if origin is not None:
                found[origin] += told
        by_key: defaultdict[TargetKey, list[Origin]] = defaultdict(list)
        for origin in found:
            by_key[origin.job, origin.instance].append(origin)
        ups_found: defaultdict[Origin, list[Mapping[str, str]]] = defaultdict(list)
        for labels in ups:
            of_up = _origin(labels, _place(labels, own[_key(labels)]), names)
            if of_up is None and len(by_key[_key(labels)]) == 1:
                of_up = by_key[_key(labels)][0]  # a relabelling of metrics took labels away that `up` still has
            if of_up is not None:
                ups_found[of_up].append(labels)
        return Origins(series=found, ups=ups_found, gaps=tuple(gaps))

    def _names(self, endpoint: str, there: Mapping[_Place, _Span]) -> dict[_Place, str | None]:
        """The endpoint of the server at each place; None where it may be one or another."""
        seen = self._seen[endpoint]
        for place, span in there.items():
            seen[place] = _both(seen.get(place, span), span)
        newest = max(last for _, last in seen.values())
        for place in [one for one, (_, last) in seen.items() if last < newest - _FORGOTTEN_S]:
            del seen[place]
        has_port = _has_port(endpoint)
        for one, other in combinations(seen, 2):
            roles = _apart(one, other, has_port=has_port)
            # An address is given to another pod once the one that had it has ended: then one follows the other.
            slack_s = 0.0 if "cluster" not in roles and _is_address(endpoint) else _SOON_S
            if roles and _at_once(seen[one], seen[other], slack_s):
                self._told_by[endpoint] |= roles
        roles_there = self._told_by.get(endpoint)
        named: dict[_Place, str | None] = {place: self._name(endpoint, place, seen, has_port) for place in there}
        for one, other in combinations(there, 2):
            if (
                (roles_there is None or named[one] == named[other])
                and _is_unclear(one, other, has_port=has_port)
                and _at_once(seen[one], seen[other], 0.0)
            ):
                named[one] = named[other] = None
        return named

    def _name(self, endpoint: str, place: _Place, seen: Iterable[_Place], has_port: bool) -> str | None:
        roles = self._told_by.get(endpoint)
        if roles is None:
            return endpoint
        # Perhaps the same target by another job, which says less of it.
        fuller = [
            one
            for one in seen
            if (one.told() > place.told() or (one.pod and not place.pod)) and not _apart(one, place, has_port=has_port)
        ]
        fullest = [one for one in fuller if not any(other.told() > one.told() for other in fuller)]
        suffixes = {_suffix(one, roles) for one in fullest or [place]}
        suffix = suffixes.pop() if len(suffixes) == 1 else ""
        return f"{endpoint}/{suffix}" if suffix else None


def endpoint_of_instance(key: TargetKey) -> str:
    """The instance, as the direct road names the same server: host and port in lower case, and a path as it is."""
    host, slash, path = plain_text(key[1] or key[0], 253).partition("/")
    return host.lower() + slash + path


def address_of_instance(instance: str) -> str | None:
    """The IP address in an instance, if there is one."""
    host = instance.partition("/")[0].rpartition(":")[0].strip("[]")
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def told_of(labels: Mapping[str, str], role: str) -> str:
    """What labels say of where a target runs: its cluster, namespace, pod, container, node; "" where nothing."""
    return next((value for name in _ROLES[role] if (value := labels.get(name))), "")


def _key(labels: Mapping[str, str]) -> TargetKey:
    return labels.get("job", ""), labels.get("instance", "")


def _place(labels: Mapping[str, str], own: Mapping[str, set[str]]) -> _Place:
    others = {(name, value) for name, value in labels.items() if name not in _NO_PART and value in own.get(name, ())}
    if not _has_port(endpoint_of_instance(_key(labels))):
        others.add(("job", labels.get("job", "")))  # two jobs cannot mean one address by it
    return _Place(
        cluster=told_of(labels, "cluster"),
        namespace=told_of(labels, "namespace"),
        pod=told_of(labels, "pod"),
        container=told_of(labels, "container"),
        node=told_of(labels, "node"),
        others=frozenset(others),
    )


def _origin(
    labels: Mapping[str, str], place: _Place, names: Mapping[str, Mapping[_Place, str | None]]
) -> Origin | None:
    job, instance = _key(labels)
    endpoint = endpoint_of_instance((job, instance))
    name = names.get(endpoint, {}).get(place)
    if name is None:
        return None
    return Origin(job=job, instance=instance, endpoint=name, is_shared=name != endpoint)


def _apart(one: _Place, other: _Place, *, has_port: bool) -> set[str]:
    """The roles by which two places cannot be one."""
    roles = {role for role in one.told() & other.told() if getattr(one, role) != getattr(other, role)}
    if has_port:
        roles.discard("container")  # one address in a pod, scraped once for each of its containers
    if one.pod and other.pod and one.pod == other.pod:
        roles.discard("node")
    return roles


def _is_unclear(one: _Place, other: _Place, *, has_port: bool) -> bool:
    """Whether they may be two servers by labels of which nobody knows here what they tell."""
    if _apart(one, other, has_port=has_port):
        return False
    if has_port and one.pod and one.pod == other.pod:
        return False
    said = dict(one.others)
    return any(said.get(name, value) != value for name, value in other.others)


def _suffix(place: _Place, roles: set[str]) -> str:
    """Namespace and pod as in the path of a proxy; of the rest what tells these servers apart."""
    parts = [
        place.cluster if "cluster" in roles else "",
        place.namespace,
        place.pod or place.node,
        place.container if "container" in roles else "",
    ]
    return "/".join(quote(plain_text(part, 253), safe="") for part in parts if part)


def _at_once(one: _Span, other: _Span, slack_s: float) -> bool:
    return one[0] <= other[1] + slack_s and other[0] <= one[1] + slack_s


def _both(one: _Span, other: _Span) -> _Span:
    return min(one[0], other[0]), max(one[1], other[1])


def _has_port(endpoint: str) -> bool:
    return endpoint.partition("/")[0].rpartition(":")[2].isdigit()


def _is_address(endpoint: str) -> bool:
    return address_of_instance(endpoint) is not None


def _gap(endpoint: str, places: Iterable[_Place]) -> Gap:
    values: defaultdict[str, set[str]] = defaultdict(set)
    for place in places:
        for name, value in [*((role, getattr(place, role)) for role in _ROLES), *place.others]:
            values[name].add(value)
    differ = sorted(plain_text(name, 60) for name, told in values.items() if len(told) > 1)
    return Gap(
        subject=endpoint,
        metric=None,
        reason=(
            f"several scrape targets are called {endpoint} and differ in {', '.join(differ[:8])}; nobody can tell "
            "whether they are one server, so they were not read: give each its own instance label, or leave out the "
            "label of Prometheus' replicas (Thanos: --query.replica-label)"
        ),
    )

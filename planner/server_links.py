"""Which pod a server runs in and which devices it uses, by names, addresses, and what is alone where it is."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from planner.cluster_facts import KubernetesPod
from planner.device_links import (
    DevicePods,
    PodName,
    asked_devices,
    is_running,
    plain_uuid,
    spelled_device,
    spelled_pod,
)
from planner.join_facts import JoinFacts
from planner.links import Certainty, Conflict, Link, LinkReason, weakest
from planner.readings import Subject
from planner.serving_readings import ServingFact

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_NAME_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDevices:
    """The devices of a server with the chain of links to each; `unlinked` says why there is none.

    `certainty` is that of the weakest link of all.
    """

    pod: PodName | None
    chains: Mapping[Subject, tuple[Link, ...]]
    unlinked: str | None
    conflicts: tuple[Conflict, ...] = ()

    @property
    def certainty(self) -> Certainty:
        """How sure it is that the server uses these devices."""
        return weakest(link.certainty for chain in self.chains.values() for link in chain)


def host_of(endpoint: str) -> str:
    """The host of an endpoint (host:port, and a path perhaps), lower case, without the brackets of IPv6."""
    address = endpoint.partition("/")[0].lower()
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else address


def pods_in_path(endpoint: str) -> Iterator[PodName]:
    """What may be namespace and name of a pod in the path of an endpoint behind a proxy.

    Kubernetes' own proxy has /namespaces/NAMESPACE/pods/NAME:PORT/proxy; others put both side by side.
    """
    parts = endpoint.split("/")[1:]
    for at, part in enumerate(parts[:-1]):
        yield part, parts[at + 1]
        if part == "namespaces" and parts[at + 2 : at + 3] == ["pods"] and len(parts) > at + 3:
            yield parts[at + 1], parts[at + 3].removeprefix("http:").removeprefix("https:").partition(":")[0]


class ServerLinker:
    """Links servers to pods and devices of one cluster."""

    def __init__(self, facts: JoinFacts, devices: Mapping[Subject, DevicePods]) -> None:
        self._devices = {device.subject: device for device in facts.devices}
        self._by_gpu: defaultdict[str, list[Subject]] = defaultdict(list)
        self._by_mig: dict[str, Subject] = {}
        self._on_node: defaultdict[str, list[Subject]] = defaultdict(list)
        for device in facts.devices:
            self._by_gpu[plain_uuid(device.subject.gpu_uuid)].append(device.subject)
            self._on_node[device.node].append(device.subject)
            for uuid in device.mig_uuids:
                self._by_mig[plain_uuid(uuid)] = device.subject
        self._device_links: defaultdict[PodName, dict[Subject, Link]] = defaultdict(dict)
        for subject, found in devices.items():
            for name, link in found.pods.items():
                self._device_links[name][subject] = link
        self._pods = _Addresses(facts, self._device_links)

    def link(self, fact: ServingFact) -> ServerDevices:
        """The pod and the devices of one server."""
        pod_link, conflicts = self._pod_of(fact)
        pod = None if pod_link is None else pod_link[0]
        held = self._device_links.get(pod, {}) if pod else {}
        named = self._named_devices(fact)
        if named:
            beside = {subject: (link,) for subject, link in named.items()}
            if held and not named.keys() & held.keys():
                conflicts += (self._disagreement(fact, [*named.values(), *held.values()]),)
            return ServerDevices(pod=pod, chains=beside, unlinked=None, conflicts=conflicts)
        if held and pod_link is not None:
            chains = {subject: (link, pod_link[1]) for subject, link in held.items()}
            return ServerDevices(pod=pod, chains=chains, unlinked=None, conflicts=conflicts)
        if pod is None:
            only = self._only_device(fact)
            if only is not None:
                return ServerDevices(pod=None, chains={only[0]: (only[1],)}, unlinked=None, conflicts=conflicts)
        return ServerDevices(pod=pod, chains={}, unlinked=self._why_unlinked(pod), conflicts=conflicts)

    def _pod_of(self, fact: ServingFact) -> tuple[tuple[PodName, Link] | None, tuple[Conflict, ...]]:
        links = sorted(
            (
                (name, Link(source=spelled_pod(name), target=fact.endpoint, reason=reason))
                for name, reason in self._pods.candidates(fact)
            ),
            key=lambda one: (one[1].reason.strength, one[0]),
        )
        if not links:
            return None, ()
        best_name, best = links[0]
        others = [one for name, one in links if name != best_name]
        if not others:
            return (best_name, best), ()
        equals = [one for one in others if one.reason.certainty is best.reason.certainty]
        if not equals:
            outcome = f"{spelled_pod(best_name)} is taken, which is surer."
        else:
            best = Link(source=best.source, target=best.target, reason=best.reason, is_contradicted=True)
            outcome = f"{spelled_pod(best_name)} is taken as a guess."
        said = tuple(Link(source=one.target, target=one.source, reason=one.reason) for one in (best, *others))
        return (best_name, best), (Conflict(subject=fact.endpoint, links=said, outcome=outcome),)

    def _named_devices(self, fact: ServingFact) -> dict[Subject, Link]:
        """Devices that the server or the configuration names; the UUID of a GPU that is cut names none of its parts."""
        found: dict[Subject, Link] = {}
        for uuid in fact.gpu_uuids:
            plain = plain_uuid(uuid)
            on_gpu = self._by_gpu.get(plain, [])
            if plain in self._by_mig:
                subject, reason = self._by_mig[plain], LinkReason.SERVER_MIG_UUID
            elif len(on_gpu) == 1 and on_gpu[0].gi_id is None:
                subject, reason = on_gpu[0], LinkReason.SERVER_GPU_UUID
            else:
                continue
            found[subject] = Link(source=spelled_device(self._devices[subject]), target=fact.endpoint, reason=reason)
        return found

    def _only_device(self, fact: ServingFact) -> tuple[Subject, Link] | None:
        """The one device of the machine, where nothing else is known of the server and no pod holds the device."""
        node = self._pods.node_of(fact)
        if node is None and host_of(fact.endpoint) in _LOOPBACK and len(self._on_node) == 1:
            node = next(iter(self._on_node))
        subjects = self._on_node.get(node or "", [])
        if len(subjects) != 1 or any(subjects[0] in held for held in self._device_links.values()):
            return None
        device = self._devices[subjects[0]]
        link = Link(source=spelled_device(device), target=fact.endpoint, reason=LinkReason.ONLY_DEVICE)
        return subjects[0], link

    def _disagreement(self, fact: ServingFact, links: Iterable[Link]) -> Conflict:
        said = tuple(Link(source=one.target, target=one.source, reason=one.reason) for one in links)
        return Conflict(subject=fact.endpoint, links=said, outcome="The devices that the server names are taken.")

    def _why_unlinked(self, pod: PodName | None) -> str:
        if pod is not None:
            return f"no device is known to belong to its pod {spelled_pod(pod)}"
        return "nothing links it to a pod or a device"


class _Addresses:
    """Pods by what a server can be known by."""

    def __init__(self, facts: JoinFacts, device_links: Mapping[PodName, object]) -> None:
        running = [pod for pod in facts.pods or () if is_running(pod)]
        self._known: set[PodName] = {(pod.namespace, pod.name) for pod in running} | set(device_links)
        self._by_ip = _unique(
            (pod.pod_ip, (pod.namespace, pod.name)) for pod in running if pod.pod_ip and pod.pod_ip != pod.host_ip
        )
        with_gpus = [
            pod for pod in running if asked_devices(pod) or pod.claims or (pod.namespace, pod.name) in device_links
        ]
        in_host_network = [pod for pod in with_gpus if pod.pod_ip and pod.pod_ip == pod.host_ip]
        self._by_host_network = _unique((pod.node or "", (pod.namespace, pod.name)) for pod in in_host_network)
        self._by_node = _unique((pod.node or "", (pod.namespace, pod.name)) for pod in with_gpus)
        self._by_service = _unique(
            (f"{name}.{pod.namespace}", (pod.namespace, pod.name)) for pod in with_gpus for name in _service_names(pod)
        )
        self._nodes: dict[str, str] = {}
        for pod in running:
            if pod.host_ip and pod.node:
                self._nodes[pod.host_ip.lower()] = pod.node
        for node in facts.nodes or ():
            for address in (*node.addresses, node.name):
                self._nodes[address.lower()] = node.name
        for device in facts.devices:
            self._nodes.setdefault(device.node.lower(), device.node)

    def node_of(self, fact: ServingFact) -> str | None:
        """The machine of a server by its facts or its address."""
        return fact.node or self._nodes.get(host_of(fact.endpoint))

    def candidates(self, fact: ServingFact) -> Iterable[tuple[PodName, LinkReason]]:
        """Pods that a server may run in, each with a reason."""
        if fact.pod_namespace and fact.pod_name:
            yield (fact.pod_namespace, fact.pod_name), LinkReason.SERVER_POD
        if fact.pod_ip and fact.pod_ip in self._by_ip:
            yield self._by_ip[fact.pod_ip], LinkReason.SERVER_POD_IP
        host = host_of(fact.endpoint)
        for name in pods_in_path(fact.endpoint):
            if name in self._known:
                yield name, LinkReason.ENDPOINT_PATH
        if host in self._by_ip:
            yield self._by_ip[host], LinkReason.ENDPOINT_POD_IP
        if host in self._nodes:
            node = self._nodes[host]
            if node in self._by_host_network:
                yield self._by_host_network[node], LinkReason.ENDPOINT_HOST_NETWORK
            elif node in self._by_node and not fact.pod_name:
                yield self._by_node[node], LinkReason.ENDPOINT_NODE
            return
        parts = host.split(".")
        for namespace in parts[1:3]:  # pod.namespace, pod.service.namespace.svc
            if (namespace, parts[0]) in self._known:
                yield (namespace, parts[0]), LinkReason.ENDPOINT_POD_DNS
        service = ".".join(parts[:2])
        if service in self._by_service and not fact.pod_name:
            yield self._by_service[service], LinkReason.ENDPOINT_SERVICE


def _service_names(pod: KubernetesPod) -> set[str]:
    """Names that a service in front of the pod is likely to have: of its owner, of its application."""
    names = {pod.labels.get(label) for label in _NAME_LABELS} | {pod.owner_name}
    return {name for name in names if name}


def _unique(pairs: Iterable[tuple[str, PodName]]) -> dict[str, PodName]:
    """Only what names exactly one pod."""
    found: defaultdict[str, set[PodName]] = defaultdict(set)
    for key, name in pairs:
        found[key.lower()].add(name)
    return {key: next(iter(names)) for key, names in found.items() if len(names) == 1}

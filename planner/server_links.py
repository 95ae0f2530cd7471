"""Which pod a server runs in and which devices it uses, by names, addresses, and what is alone where it is."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

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

    `certainty` is that of the weakest link of all, `pod_certainty` that of the link between server and pod.
    """

    pod: PodName | None
    chains: Mapping[Subject, tuple[Link, ...]]
    unlinked: str | None
    conflicts: tuple[Conflict, ...] = ()
    pod_certainty: Certainty | None = None

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


def port_of(endpoint: str) -> str | None:
    """The port of an endpoint, None where it names none."""
    host, colon, port = endpoint.partition("/")[0].rpartition(":")
    return port if colon and port.isdigit() and (":" not in host or host.endswith("]")) else None


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
        chains: dict[Subject, tuple[Link, ...]] = {}
        if named:
            named, said_otherwise = self._unless_held(fact, named, pod_link)
            conflicts += said_otherwise
            chains = {subject: (link,) for subject, link in named.items()}
        elif held and pod_link is not None:
            chains = {subject: (link, pod_link[1]) for subject, link in held.items()}
        elif pod is None and (only := self._only_device(fact)) is not None:
            chains = {only[0]: (only[1],)}
        return ServerDevices(
            pod=pod,
            chains=chains,
            unlinked=None if chains else self._why_unlinked(fact, pod),
            conflicts=conflicts,
            pod_certainty=None if pod_link is None else pod_link[1].certainty,
        )

    def _unless_held(
        self, fact: ServingFact, named: dict[Subject, Link], pod_link: tuple[PodName, Link] | None
    ) -> tuple[dict[Subject, Link], tuple[Conflict, ...]]:
        """Devices that the server names; as a guess where what is known of its pod says as surely that it has others.

        That is so where its pod holds other devices only, or where another pod than its own holds a named one.
        """
        if pod_link is None:
            return named, ()
        pod, of_pod = pod_link
        held = self._device_links.get(pod, {})
        if held.keys() & named.keys():
            return named, ()
        of_others = [
            link
            for name, links in self._device_links.items()
            if name != pod
            for at, link in links.items()
            if at in named
        ]
        against = [*held.values(), *of_others]
        if not against:
            return named, ()
        as_sure = any(weakest([one.certainty, of_pod.certainty]) is Certainty.CERTAIN for one in against)
        outcome = "The devices that the server names are taken" + (" as a guess." if as_sure else ", which is surer.")
        said = tuple(Link(source=one.target, target=one.source, reason=one.reason) for one in named.values())
        # Towards its own pod a device is what contradicts; of a device that it names, the pod that has it.
        said += tuple(Link(source=one.target, target=one.source, reason=one.reason) for one in held.values())
        said += tuple(sorted(of_others))
        taken = {subject: replace(link, is_contradicted=as_sure) for subject, link in named.items()}
        return taken, (Conflict(subject=fact.endpoint, links=said, outcome=outcome),)

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

    def _why_unlinked(self, fact: ServingFact, pod: PodName | None) -> str:
        if pod is not None:
            return f"no device is known to belong to its pod {spelled_pod(pod)}"
        younger = self._pods.younger(fact)
        if younger:
            return f"what has its name or address by now, {spelled_pod(younger[0])}, started after it was last seen"
        return "nothing links it to a pod or a device"


class _Addresses:
    """Pods by what a server can be known by."""

    def __init__(self, facts: JoinFacts, device_links: Mapping[PodName, object]) -> None:
        running = [pod for pod in facts.pods or () if is_running(pod)]
        self._started_at = {(pod.namespace, pod.name): pod.started_at or pod.created_at for pod in running}
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
        """Pods that a server may run in, each with a reason; none that started after the server was last seen."""
        return ((name, reason) for name, reason in self._named(fact) if not self._is_younger(name, fact))

    def younger(self, fact: ServingFact) -> list[PodName]:
        """Pods with a name or address of the server that started after it was last seen."""
        return sorted({name for name, _ in self._named(fact) if self._is_younger(name, fact)})

    def _is_younger(self, name: PodName, fact: ServingFact) -> bool:
        started_at = self._started_at.get(name)
        return started_at is not None and started_at > fact.observed_at

    def _named(self, fact: ServingFact) -> Iterable[tuple[PodName, LinkReason]]:
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

"""Which pods are on which device, by everything that says so, and which devices cannot be attributed to one of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from planner.cluster_facts import ClaimedDevice, KubernetesNode, KubernetesPod, Sharing
from planner.fleet import Pod
from planner.join_facts import DeviceFacts, JoinFacts
from planner.kubernetes_resources import is_gpu_resource
from planner.links import Conflict, Link, LinkReason
from planner.readings import Subject
from planner.units import NodeName

PodName = tuple[str, str]
"""Namespace and name; a pod of which only the uid is known has the namespace ""."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePods:
    """The pods of a device, each with its strongest link; `not_attributable` says why it belongs to none of them.

    `seen` are the names of `DeviceFacts.pods`, in that order, as Kubernetes knows them.
    """

    pods: Mapping[PodName, Link]
    seen: tuple[PodName, ...]
    not_attributable: str | None
    conflicts: tuple[Conflict, ...] = ()


def spelled_pod(pod: PodName) -> str:
    """A pod for people."""
    return f"{pod[0]}/{pod[1]}" if pod[0] else f"pod {pod[1]}"


def spelled_device(device: DeviceFacts) -> str:
    """A device for people."""
    return f"{device.subject} on {device.node}"


def asked_devices(pod: KubernetesPod) -> int:
    """How many GPUs or MIG devices a pod asks for."""
    return sum(count for name, count in pod.requests.items() if is_gpu_resource(name))


def is_running(pod: KubernetesPod) -> bool:
    """Whether the pod can hold a device now."""
    return pod.phase == "Running"


def link_devices(facts: JoinFacts) -> dict[Subject, DevicePods]:
    """The pods of every device."""
    names = _PodNames(facts)
    claims = _claims_by_device(facts)
    alone = _pods_with_whole_nodes(facts)
    running = _gpu_pods_by_node(facts.pods or ())
    nodes = {node.name: node for node in facts.nodes or ()}
    handed_out = _handed_out_several_times(facts.devices, nodes, running)
    found: dict[Subject, DevicePods] = {}
    for device in facts.devices:
        links: dict[PodName, list[Link]] = defaultdict(list)
        seen = [names.of(pod) for pod in device.pods]
        for name, reason in seen:
            links[name].append(Link(source=spelled_device(device), target=spelled_pod(name), reason=reason))
        for name, reason in claims.get(device.subject, ()):
            links[name].append(Link(source=spelled_device(device), target=spelled_pod(name), reason=reason))
        if not links and device.node in alone:
            name = alone[device.node]
            links[name].append(
                Link(source=spelled_device(device), target=spelled_pod(name), reason=LinkReason.ALL_OF_NODE)
            )
        strongest = {name: min(of_pod, key=lambda one: one.reason.strength) for name, of_pod in links.items()}
        conflicts = _conflicts(device, links)
        if conflicts:
            strongest = {
                name: Link(source=one.source, target=one.target, reason=one.reason, is_contradicted=True)
                for name, one in strongest.items()
            }
        why = _not_attributable(device, strongest, nodes.get(device.node), running.get(device.node))
        if why is None and strongest:
            why = handed_out.get(device.node)
        found[device.subject] = DevicePods(
            pods=strongest, seen=tuple(name for name, _ in seen), not_attributable=why, conflicts=conflicts
        )
    return found


class _PodNames:
    """One name per pod, whatever a source knows of it."""

    def __init__(self, facts: JoinFacts) -> None:
        self._by_uid: dict[str, PodName] = {}
        for device in facts.devices:
            for seen in device.pods:
                if seen.uid and seen.namespace:
                    self._by_uid[seen.uid] = (seen.namespace, seen.name)
        pods = facts.pods or ()
        self._by_uid |= {pod.uid: (pod.namespace, pod.name) for pod in pods}
        self._in_kubernetes = frozenset(pod.uid for pod in pods)
        self._named = frozenset((pod.namespace, pod.name) for pod in pods)

    def of(self, pod: Pod) -> tuple[PodName, LinkReason]:
        if pod.uid in self._in_kubernetes:
            return self._by_uid[pod.uid or ""], LinkReason.POD_UID
        if not pod.namespace:
            return self._by_uid.get(pod.uid or "", ("", pod.name)), LinkReason.POD_UID
        name = (pod.namespace, pod.name)
        if pod.uid and name in self._named:
            return name, LinkReason.POD_NAME_OF_BEFORE
        return name, LinkReason.POD_NAME


def _claims_by_device(facts: JoinFacts) -> dict[Subject, list[tuple[PodName, LinkReason]]]:
    """What resource claims hold, by the UUID of the MIG device or GPU, by PCI address, by the only such instance."""
    if not facts.claims:
        return {}
    index = _DeviceIndex(facts.devices)
    found: defaultdict[Subject, list[tuple[PodName, LinkReason]]] = defaultdict(list)
    for claim in facts.claims:
        match = index.find(claim)
        if match is not None:
            found[match[0]].extend(((claim.claim_namespace, pod), match[1]) for pod in claim.pods)
    return found


class _DeviceIndex:
    """Devices by the names that claims use for them."""

    def __init__(self, devices: Iterable[DeviceFacts]) -> None:
        self._by_mig: dict[str, Subject] = {}
        self._by_gpu: defaultdict[str, list[DeviceFacts]] = defaultdict(list)
        self._by_pci: defaultdict[tuple[str, str], list[DeviceFacts]] = defaultdict(list)
        for device in devices:
            for uuid in device.mig_uuids:
                self._by_mig[plain_uuid(uuid)] = device.subject
            self._by_gpu[plain_uuid(device.subject.gpu_uuid)].append(device)
            if device.pci_bus_id:
                self._by_pci[device.node, plain_pci(device.pci_bus_id)].append(device)

    def find(self, claim: ClaimedDevice) -> tuple[Subject, LinkReason] | None:
        if claim.mig_uuid and plain_uuid(claim.mig_uuid) in self._by_mig:
            return self._by_mig[plain_uuid(claim.mig_uuid)], LinkReason.CLAIM_MIG_UUID
        on_gpu, reason = self._by_gpu.get(plain_uuid(claim.gpu_uuid or ""), []), LinkReason.CLAIM_UUID
        if not on_gpu and claim.node and claim.pci_bus_id:
            on_gpu, reason = self._by_pci.get((claim.node, plain_pci(claim.pci_bus_id)), []), LinkReason.CLAIM_PCI
            if len({device.subject.gpu_uuid for device in on_gpu}) > 1:
                return None  # a board was exchanged, and which of them is there nobody tells
        if claim.profile is None:
            whole = [device for device in on_gpu if device.subject.gi_id is None]
            return (whole[0].subject, reason) if whole else None
        alike = [device for device in on_gpu if device.profile == claim.profile]
        return (alike[0].subject, LinkReason.CLAIM_PROFILE) if len(alike) == 1 else None


def plain_uuid(uuid: str) -> str:
    """A UUID as every source's spelling of it has in common: some leave out `GPU-`, some use capitals."""
    return uuid.lower().removeprefix("gpu-").removeprefix("mig-")


def plain_pci(address: str) -> str:
    """A PCI address with a domain of four digits or more, in lower case.

    DCGM writes a domain of eight digits, Kubernetes one of four, `nvidia-smi` and lspci may leave it out.
    """
    plain = address.strip().lower().removeprefix("0x")
    domain, _, rest = plain.partition(":")
    if ":" not in rest:
        domain, rest = "0", plain
    return f"{domain.lstrip('0').rjust(4, '0')}:{rest}"


def _gpu_pods_by_node(pods: Iterable[KubernetesPod]) -> dict[str, list[KubernetesPod]]:
    found: defaultdict[str, list[KubernetesPod]] = defaultdict(list)
    for pod in pods:
        if pod.node and is_running(pod) and (asked_devices(pod) or pod.claims):
            found[pod.node].append(pod)
    return found


def _pods_with_whole_nodes(facts: JoinFacts) -> dict[str, PodName]:
    """Pods that are alone on a node and ask for every device of it."""
    devices: defaultdict[str, int] = defaultdict(int)
    for device in facts.devices:
        devices[device.node] += 1
    return {
        node: (pods[0].namespace, pods[0].name)
        for node, pods in _gpu_pods_by_node(facts.pods or ()).items()
        if len(pods) == 1 and not pods[0].claims and asked_devices(pods[0]) == devices[node]
    }


def _conflicts(device: DeviceFacts, links: Mapping[PodName, list[Link]]) -> tuple[Conflict, ...]:
    """Resource claims and what is seen on the device name different pods."""
    claimed = {name for name, of_pod in links.items() if any(one.reason.name.startswith("CLAIM") for one in of_pod)}
    seen = {name for name, of_pod in links.items() if any(one.reason.name.startswith("POD") for one in of_pod)}
    if not claimed or not seen or claimed & seen:
        return ()
    all_links = tuple(sorted((one for of_pod in links.values() for one in of_pod), key=lambda one: one.reason.strength))
    return (
        Conflict(
            subject=spelled_device(device),
            links=all_links,
            outcome="No pod has it for certain, so it is attributed to none.",
        ),
    )


def _handed_out_several_times(
    devices: Iterable[DeviceFacts],
    nodes: Mapping[NodeName, KubernetesNode],
    running: Mapping[str, Sequence[KubernetesPod]],
) -> dict[str, str]:
    """Nodes whose running pods ask for more devices than there are, whatever the labels of the node say; and why.

    Time-slicing and MPS multiply what the device plugin offers. Without GPU Feature Discovery no label tells that, and
    the capacity of the node counts the shares (docs.nvidia.com, GPU Operator, "Time-Slicing GPUs in Kubernetes").
    """
    there: defaultdict[NodeName, int] = defaultdict(int)
    for device in devices:
        there[device.node] += 1
    found: dict[str, str] = {}
    for name, count in there.items():
        node = nodes.get(name)
        if node is not None and node.sharing is Sharing.NONE:
            continue  # the labels say that nothing is shared: then not all devices are read
        known = max(count, (node.gpu_count if node else None) or 0)
        asked = sum(map(asked_devices, running.get(name, ())))
        if len(running.get(name, ())) > 1 and asked > known:
            are = "is" if known == 1 else "are"
            found[name] = (
                f"running pods on its node ask for {asked} devices where {known} {are} known, so others may be on it "
                "that no source names"
            )
    return found


def _not_attributable(
    device: DeviceFacts,
    links: Mapping[PodName, Link],
    node: KubernetesNode | None,
    running: list[KubernetesPod] | None,
) -> str | None:
    if len(links) > 1:
        listed = ", ".join(sorted(map(spelled_pod, links)))
        if any(one.is_contradicted for one in links.values()):
            return f"sources disagree whether it belongs to {listed}"
        return f"{len(links)} pods share it ({listed}), and nothing measures them apart"
    if device.shared:
        return "its source sees several pods on it, and nothing measures them apart"
    if node is None or node.sharing in (None, Sharing.NONE) or (node.replicas is not None and node.replicas <= 1):
        return None
    if running is not None and len(running) == 1 and (running[0].namespace, running[0].name) in links:
        return None  # whatever the node would allow, nobody else is there
    times = f" {node.replicas} times" if node.replicas else ""
    return f"its node hands out each GPU{times} ({node.sharing.value}), so others may be on it that no source names"

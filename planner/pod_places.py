"""Which pods that a source saw on a device can be there now: named lately, on the node where Kubernetes has them."""

from collections.abc import Mapping
from dataclasses import replace

from planner.cluster_facts import KubernetesPod
from planner.device_links import PodName, is_running, spelled_device, spelled_pod
from planner.fleet import Pod
from planner.join_facts import DeviceFacts, JoinFacts
from planner.links import Conflict, Link, LinkReason
from planner.readings import Subject


def pods_in_place(facts: JoinFacts) -> tuple[dict[Subject, tuple[Pod, ...]], tuple[Conflict, ...]]:
    """The pods of each device that can be on it now, and where Kubernetes contradicts.

    A node is compared only where Kubernetes knows the device's node by that name: sources spell nodes in other ways.
    """
    pods = [pod for pod in facts.pods or () if is_running(pod)]
    by_uid = {pod.uid: pod for pod in pods}
    by_name = {(pod.namespace, pod.name): pod for pod in pods}
    nodes = {node.name for node in facts.nodes or ()} | {pod.node for pod in pods if pod.node}
    found: dict[Subject, tuple[Pod, ...]] = {}
    conflicts: list[Conflict] = []
    for device in facts.devices:
        kept: list[Pod] = []
        for pod in device.pods:
            if pod in device.old_pods:
                continue
            known = by_uid.get(pod.uid or "") or by_name.get((pod.namespace, pod.name))
            if known is None or known.node in (None, device.node) or device.node not in nodes:
                kept.append(pod)
            else:
                conflicts.append(_elsewhere(device, pod, known))
        found[device.subject] = tuple(kept)
    return found, tuple(dict.fromkeys(conflicts))


def with_pods(facts: JoinFacts, pods: Mapping[Subject, tuple[Pod, ...]]) -> JoinFacts:
    """The same facts with these pods on the devices."""
    devices = tuple(
        device if pods[device.subject] == device.pods else replace(device, pods=pods[device.subject])
        for device in facts.devices
    )
    return replace(facts, devices=devices)


def _elsewhere(device: DeviceFacts, pod: Pod, known: KubernetesPod) -> Conflict:
    name: PodName = (known.namespace, known.name)
    reason = LinkReason.POD_UID if pod.uid == known.uid else LinkReason.POD_NAME
    if pod.uid and pod.uid != known.uid:
        reason = LinkReason.POD_NAME_OF_BEFORE
    return Conflict(
        subject=spelled_device(device),
        links=(Link(source=spelled_device(device), target=spelled_pod(name), reason=reason),),
        outcome=f"Kubernetes runs it on {known.node}, so the device is not its.",
    )

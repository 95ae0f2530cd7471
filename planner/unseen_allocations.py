"""Devices that Kubernetes gave away and on which no source sees a pod: taken by somebody, whatever is seen on them.

NVML names pods by their processes, so a pod that runs nothing on its device is not seen there, and the device plugin
tells nobody which device it handed out. How many it handed out on a node is known: what the pods there ask for. Where
that is more than the devices they are seen on, the rest lies on devices without a pod.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.attribution import DeviceWork
from planner.cluster_facts import KubernetesPod, Sharing
from planner.device_links import spelled_pod
from planner.device_state import MIN_COVERAGE_RATIO
from planner.fleet import DeviceState, Usage, Verdict
from planner.join_facts import DeviceFacts, JoinFacts
from planner.kubernetes_resources import is_gpu_resource, is_shared_resource, mig_profile
from planner.links import Certainty
from planner.readings import Subject
from planner.sentences import spelled_count

_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenAllocation:
    """Of a device without a pod: `missing` devices like it are given to `pods`, and `candidates` have no pod.

    `is_certain` where all of the candidates are given away; else nobody says which of them are.
    """

    pods: tuple[str, ...]
    missing: int
    candidates: int
    is_certain: bool


def unseen_allocations(facts: JoinFacts, works: Mapping[Subject, DeviceWork]) -> dict[Subject, UnseenAllocation]:
    """What is given away unseen, by device; empty where nobody reads the pods of Kubernetes."""
    sharing = {
        node.name
        for node in facts.nodes or ()
        if node.sharing not in (None, Sharing.NONE) and (node.replicas is None or node.replicas > 1)
    }
    devices: defaultdict[str, list[DeviceFacts]] = defaultdict(list)
    for device in facts.devices:
        devices[device.node].append(device)
    asked: defaultdict[tuple[str, str], list[KubernetesPod]] = defaultdict(list)
    for pod in facts.pods or ():
        if pod.node and pod.phase not in _ENDED:
            for resource in pod.requests:
                if is_gpu_resource(resource):
                    asked[pod.node, resource].append(pod)
    known = {(pod.namespace, pod.name) for pod in facts.pods or ()}
    found: dict[Subject, UnseenAllocation] = {}
    for (node, resource), pods in sorted(asked.items()):
        is_shared = node in sharing or is_shared_resource(resource)
        for subject, one in _of_resource(_like(devices[node], resource), pods, resource, works, known, is_shared):
            found.setdefault(subject, one)
    return found


def with_unseen_allocation(verdict: Verdict, unseen: UnseenAllocation | None, usage: Usage | None) -> Verdict:
    """The verdict on a device, which is not free where Kubernetes gave it away, or may have."""
    if unseen is None or verdict.state is not DeviceState.FREE:
        return verdict
    listed = ", ".join(unseen.pods)
    if not unseen.is_certain:
        without = spelled_count(unseen.candidates, "device")
        given = "1 is" if unseen.missing == 1 else f"{unseen.missing} are"
        return Verdict(
            state=DeviceState.UNKNOWN,
            reason=f"Of {without} like it on this node without a pod, {given} given to {listed}, and nobody says "
            f"which. {verdict.reason}",
        )
    is_measured = usage is not None and usage.coverage_ratio >= MIN_COVERAGE_RATIO
    return Verdict(
        state=DeviceState.HELD if is_measured else DeviceState.UNKNOWN,
        reason=f"Every device like it on this node is given to pods, the rest to {listed}, and no process of theirs is "
        f"seen. {verdict.reason}",
    )


def _of_resource(
    devices: Sequence[DeviceFacts],
    pods: Sequence[KubernetesPod],
    resource: str,
    works: Mapping[Subject, DeviceWork],
    known: set[tuple[str, str]],
    is_shared: bool,
) -> list[tuple[Subject, UnseenAllocation]]:
    links = {device.subject: _names(works.get(device.subject)) for device in devices}
    candidates = [subject for subject, names in links.items() if not names]
    lacking: list[KubernetesPod] = []
    missing = 0
    for pod in pods:
        seen = sum((pod.namespace, pod.name) in names for names in links.values())
        if pod.requests[resource] > seen:
            missing += pod.requests[resource] - seen
            lacking.append(pod)
    # A pod under a name that Kubernetes does not know is one of those that it does.
    missing -= sum(bool(names) and known.isdisjoint(names) for names in links.values())
    if missing <= 0:
        return []
    one = UnseenAllocation(
        pods=tuple(sorted(spelled_pod((pod.namespace, pod.name)) for pod in lacking)),
        missing=missing,
        candidates=len(candidates),
        is_certain=not is_shared and missing >= len(candidates),
    )
    return [(subject, one) for subject in candidates]


def _like(devices: Sequence[DeviceFacts], resource: str) -> list[DeviceFacts]:
    """The devices that the plugin hands out under this name: nvidia.com/gpu are whole GPUs, or with the strategy
    `single` all GPU instances."""
    profile = mig_profile(resource)
    if profile is not None:
        return [device for device in devices if device.profile == profile]
    return [device for device in devices if device.subject.gi_id is None] or list(devices)


def _names(work: DeviceWork | None) -> set[tuple[str, str]]:
    if work is None:
        return set()
    return {name for name, link in work.pods.items() if link.certainty is not Certainty.GUESSED}

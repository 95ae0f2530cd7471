"""From /proc/PID/cgroup to the pod and the container that a process belongs to, in every spelling.

Spellings: the kubelet's cgroup drivers `systemd` and `cgroupfs` (pkg/kubelet/cm of Kubernetes), on cgroup v1 and v2;
container scopes of containerd (`cri-containerd-ID.scope`, or `:cri-containerd:ID` where its driver is not the
kubelet's), CRI-O (`crio-ID.scope`), Docker (`docker-ID.scope`) and Podman (`libpod-ID.scope`), or the bare id.
"""

import re
from dataclasses import dataclass

MAX_TEXT = 65_536
"""More of such a file is not looked at: version 1 has a line for each of a dozen controllers."""

_DASHED = r"[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}"
_POD = re.compile(rf"pod(?P<uid>{_DASHED}|[0-9a-f]{{32}})(?=\.slice|/|:|$)")  # 32 digits: a static pod
_CONTAINER = re.compile(r"(?:^|[/:-])(?P<id>[0-9a-f]{64})(?=\.scope|/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Which pod and which container a process belongs to; None where it belongs to none, or none that is told."""

    pod_uid: str | None = None
    container_id: str | None = None


def read_membership(text: str) -> Membership:
    """What the text of a process's cgroup file says; of several pods in a path (a cluster in a container) the inmost.

    The uid of a pod comes back with dashes, as Kubernetes writes it; that of a static pod has none.
    """
    best = Membership()
    for line in text[:MAX_TEXT].splitlines():
        found = _of_path(line.split(":", 2)[-1])
        if found.pod_uid is not None and found.container_id is not None:
            return found
        if (found.pod_uid, found.container_id) != (None, None) and best.pod_uid is None:
            best = found
    return best


def _of_path(path: str) -> Membership:
    pods = list(_POD.finditer(path))
    behind = path[pods[-1].end() :] if pods else path
    containers = list(_CONTAINER.finditer(behind))
    return Membership(
        pod_uid=pods[-1]["uid"].replace("_", "-") if pods else None,
        container_id=containers[-1]["id"] if containers else None,
    )

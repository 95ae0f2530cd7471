"""Which processes are on a GPU, whose they are, and which pods that makes."""

import pwd
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collectors.nvml.cgroups import MAX_TEXT, read_membership
from collectors.nvml.devices import Gpu, Instance
from collectors.nvml.gaps import GapBook
from collectors.nvml.library import Library
from collectors.nvml.pod_names import PodNames
from collectors.nvml.refusals import INSUFFICIENT_SIZE, Kind, Refusal
from collectors.plain_text import plain_text
from planner.readings import PodFact, ProcessFact, Subject
from planner.units import GIB

LISTS: tuple[tuple[str, str], ...] = (
    ("mps", "nvmlDeviceGetMPSComputeRunningProcesses"),
    ("compute", "nvmlDeviceGetComputeRunningProcesses"),
    ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"),
)
"""Kind of process and the function that lists it; a process in several lists is what the first one calls it."""

VERSIONS = ("_v3", "_v2")  # the same struct; version 2 is that of drivers 450 to 509

MPS_SERVER = "nvidia-cuda-mps"
"""The first 15 letters of nvidia-cuda-mps-server, which is all that /proc keeps: it works for others, as no pod."""

OCCUPIED_BYTES = GIB
"""Memory in use from which on somebody must be there; an empty GPU holds up to 614 MiB for its driver."""

MAX_NAME = 64
_NAME = re.compile(r"^Name:[ \t]*(.*)$", re.MULTILINE)
_REAL_UID = re.compile(r"^Uid:[ \t]*([0-9]{1,10})", re.MULTILINE)  # /proc/PID itself belongs to root at times

NOBODY_SEEN = (
    "memory is occupied and NVML names no process: those of other PID namespaces stay hidden (DaemonSet: hostPID: true)"
)
NOT_IN_PROC = (
    "a process on the GPU is not in /proc: it ended meanwhile, or this runs in a PID namespace of its own (DaemonSet: "
    "hostPID: true), or /proc hides it (hidepid)"
)
NO_POD_NAME = (
    "the pod of a process is known by its uid alone: its name is read from the names in /var/log/pods and "
    "/var/log/containers (mount the host's /var/log read-only, and set log_directory)"
)
ONLY_PODS_AT_WORK = (
    "pods are seen by their processes: one that holds a GPU and runs nothing on it is not seen by NVML (Kubernetes or "
    "dcgm-exporter knows it)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What runs on one GPU."""

    processes: tuple[ProcessFact, ...] = ()
    pods: tuple[PodFact, ...] = ()


class Processes:
    """Reads process lists and what /proc says of each process."""

    def __init__(self, library: Library, *, proc_directory: Path, log_directory: Path) -> None:
        self._library = library
        self._proc = proc_directory
        self._names = PodNames(log_directory)

    def begin(self) -> None:
        """A new reading of the machine begins."""
        self._names.begin()

    def find(self, gpu: Gpu, used_bytes: dict[Subject, float], gaps: GapBook) -> Found:
        """The processes of the GPU or of its instances with their owners; raises GpuLost, CollectorError.

        `used_bytes` is the memory in use of each device: with much of it and nobody there, something is hidden.
        """
        processes: list[ProcessFact] = []
        for subject, instance in gpu.devices():
            listed = self._listed(gpu, subject, instance, gaps)
            if listed is None:
                continue
            if not listed and used_bytes.get(subject, 0) >= OCCUPIED_BYTES:
                gaps.note(subject, None, NOBODY_SEEN)
            processes += [self._owned(process, subject, gaps) for process in listed]
        return Found(processes=tuple(processes), pods=self._pods(processes, gaps))

    def _listed(self, gpu: Gpu, subject: Subject, instance: Instance | None, gaps: GapBook) -> list[ProcessFact] | None:
        """Each process once; None when no list could be read."""
        handles = [gpu.handle] if instance is None else [device.handle for device in instance.devices]
        found: dict[int, ProcessFact] = {}
        is_read = False
        for kind, function in LISTS:
            for handle in handles:
                answer = self._list(function, handle, str(subject))
                if isinstance(answer, Refusal):
                    # A board without graphics or MPS lacks nothing.
                    if kind == "compute" or answer.kind is not Kind.UNSUPPORTED:
                        gaps.note(subject, None, f"its {kind} processes are not known: {answer.reason}")
                    continue
                is_read = True
                for process in answer:
                    pid, memory_bytes = int(process.pid), process.usedGpuMemory
                    seen = found.setdefault(pid, ProcessFact(gi_id=subject.gi_id, pid=pid, kind=kind))
                    if memory_bytes is not None and memory_bytes > (seen.memory_bytes or 0):
                        found[pid] = replace(seen, memory_bytes=int(memory_bytes))
        return [found[pid] for pid in sorted(found)] if is_read else None

    def _list(self, function: str, handle: Any, about: str) -> Any:
        answer: Any = None
        for version in VERSIONS:
            for _ in range(2):
                answer = self._library.call(f"{function}{version}", handle, about=about)
                if not (isinstance(answer, Refusal) and answer.code == INSUFFICIENT_SIZE):
                    break  # else more processes came between its two questions
            if not (isinstance(answer, Refusal) and answer.kind is Kind.UNSUPPORTED):
                break
        return answer

    def _owned(self, process: ProcessFact, subject: Subject, gaps: GapBook) -> ProcessFact:
        """The process with what /proc says of it."""
        folder = self._proc / str(process.pid)
        status = _text(folder / "status")
        if status is None:
            gaps.note(subject, None, NOT_IN_PROC)
            return process
        name, uid = _NAME.search(status), _REAL_UID.search(status)
        membership = read_membership(_text(folder / "cgroup") or "")
        return replace(
            process,
            name=None if name is None else plain_text(name[1], MAX_NAME) or None,
            user=None if uid is None else _user_name(int(uid[1])),
            pod_uid=membership.pod_uid,
            container_id=membership.container_id,
        )

    def _pods(self, processes: Iterable[ProcessFact], gaps: GapBook) -> tuple[PodFact, ...]:
        """Every pod once per device; all are `shared` where a device has several."""
        by_device: dict[int | None, dict[tuple[str, str, str], PodFact]] = defaultdict(dict)
        for process in processes:
            if process.name == MPS_SERVER:
                continue
            pod = self._pod(process, gaps)
            if pod is not None:
                by_device[process.gi_id].setdefault((pod.namespace, pod.name, pod.container or ""), pod)
        if by_device:
            gaps.note(None, None, ONLY_PODS_AT_WORK)
        return tuple(
            replace(pod, shared=len({(other.namespace, other.name) for other in pods.values()}) > 1)
            for _, pods in sorted(by_device.items(), key=lambda item: -1 if item[0] is None else item[0])
            for _, pod in sorted(pods.items())
        )

    def _pod(self, process: ProcessFact, gaps: GapBook) -> PodFact | None:
        name = self._names.name_of(process.pod_uid, process.container_id)
        if name is not None:
            return PodFact(
                gi_id=process.gi_id,
                namespace=name.namespace,
                name=name.name,
                container=name.container,
                uid=process.pod_uid,
            )
        if process.pod_uid is None:
            return None
        gaps.note(None, None, NO_POD_NAME)
        return PodFact(gi_id=process.gi_id, namespace="", name=process.pod_uid, uid=process.pod_uid)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a user of the host that this container does not know
        return f"uid {uid}"


def _text(path: Path) -> str | None:
    """The file's beginning; None where it is not there or not ours to read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_TEXT)
    except OSError:
        return None

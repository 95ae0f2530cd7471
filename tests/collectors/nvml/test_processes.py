"""Processes and their owners: kinds, users, pods by cgroup, names by the kubelet's log folders."""

import os
from pathlib import Path

import pytest

from collectors.nvml.processes import NO_POD_NAME, NOBODY_SEEN, NOT_IN_PROC, ONLY_PODS_AT_WORK
from planner.readings import PodFact, ProcessFact
from tests.collectors.nvml.fake_nvml.boards import (
    MIB,
    OLD_DRIVER_LACKS,
    a100,
    gpu_uuid,
    h100_mixed,
    h200_shared_instance,
)
from tests.collectors.nvml.fake_nvml.machine import Code, FakeGpu, FakeMemory, FakeProcess
from tests.collectors.nvml.readings import machine, of, reasons

UID = "0f3a5b1c-7a2e-4c6d-9b1e-2f4a6c8e0d1b"
OTHER_UID = "1a2b3c4d-7a2e-4c6d-9b1e-2f4a6c8e0d1b"
ID, OTHER_ID = "3e" * 32, "4f" * 32


class Host:
    """The folders of a host: /proc and /var/log."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.log = folder / "proc", folder / "log"
        self.proc.mkdir()
        (self.log / "pods").mkdir(parents=True)
        (self.log / "containers").mkdir()

    def process(self, pid: int, *, name: str = "python3", uid: int = 0, cgroup: str = "0::/\n") -> None:
        (self.proc / str(pid)).mkdir()
        (self.proc / str(pid) / "status").write_text(f"Name:\t{name}\nUmask:\t0022\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        (self.proc / str(pid) / "cgroup").write_text(cgroup)

    def in_pod(self, pid: int, pod_uid: str, container: str, *, name: str = "python3") -> None:
        spelled = pod_uid.replace("-", "_")
        slice_ = f"/kubepods.slice/kubepods-pod{spelled}.slice"
        self.process(pid, name=name, cgroup=f"0::{slice_}/cri-containerd-{container}.scope\n")

    def pod(self, namespace: str, name: str, uid: str) -> None:
        (self.log / "pods" / f"{namespace}_{name}_{uid}").mkdir()

    def container(self, namespace: str, pod: str, container: str, container_id: str) -> None:
        (self.log / "containers" / f"{pod}_{namespace}_{container}-{container_id}.log").symlink_to("/nowhere")

    def folders(self) -> dict[str, Path]:
        return {"proc_directory": self.proc, "log_directory": self.log}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def busy(processes: dict[str, list[FakeProcess]]) -> FakeGpu:
    return a100(processes=processes)


def test_a_process_of_a_named_pod(host: Host) -> None:
    host.in_pod(4711, UID, ID, name="vllm::EngineCore")
    host.pod("llm", "qwen-7b-0", UID)
    host.container("llm", "qwen-7b-0", "vllm", ID)
    with machine(busy({"compute": [FakeProcess(pid=4711, memory=9000 * MIB)]}), **host.folders()) as running:
        batch = running.read()
    (fact,) = batch.facts
    assert fact.processes == (
        ProcessFact(
            gi_id=None,
            pid=4711,
            kind="compute",
            name="vllm::EngineCore",
            memory_bytes=9000 * MIB,
            user="root",
            pod_uid=UID,
            container_id=ID,
        ),
    )
    assert fact.pods == (PodFact(gi_id=None, namespace="llm", name="qwen-7b-0", container="vllm", uid=UID),)
    assert ONLY_PODS_AT_WORK in reasons(batch, None)


def test_a_pod_whose_name_nobody_knows_is_its_uid(host: Host) -> None:
    host.in_pod(1, UID, ID)
    with machine(busy({"compute": [FakeProcess(pid=1)]}), **host.folders()) as running:
        batch = running.read()
    (fact,) = batch.facts
    assert fact.pods == (PodFact(gi_id=None, namespace="", name=UID, uid=UID),)
    assert NO_POD_NAME in reasons(batch, None)


def test_pods_on_one_device_are_shared_and_containers_of_one_pod_are_not(host: Host) -> None:
    host.in_pod(1, UID, ID)
    host.in_pod(2, UID, OTHER_ID)
    host.container("llm", "a", "engine", ID)
    host.container("llm", "a", "sidecar", OTHER_ID)
    host.pod("llm", "a", UID)
    gpu = busy({"compute": [FakeProcess(pid=1), FakeProcess(pid=2)]})
    with machine(gpu, **host.folders()) as running:
        (fact,) = running.read().facts
        assert [(pod.name, pod.container, pod.shared) for pod in fact.pods] == [
            ("a", "engine", False),
            ("a", "sidecar", False),
        ]
        host.in_pod(3, OTHER_UID, "55" * 32)
        host.pod("train", "b", OTHER_UID)
        gpu.processes["compute"].append(FakeProcess(pid=3))
        (fact,) = running.read().facts
        assert [(pod.namespace, pod.name, pod.shared) for pod in fact.pods] == [
            ("llm", "a", True),
            ("llm", "a", True),
            ("train", "b", True),
        ]


def test_kinds_of_processes(host: Host) -> None:
    for pid in (1, 2, 3, 4):
        host.process(pid, uid=os.getuid())
    gpu = busy(
        {
            "compute": [FakeProcess(pid=2, memory=5), FakeProcess(pid=1)],
            "graphics": [FakeProcess(pid=3)],
            "mps": [FakeProcess(pid=4, memory=7), FakeProcess(pid=2, memory=6)],
        }
    )
    with machine(gpu, **host.folders()) as running:
        (fact,) = running.read().facts
    assert [(one.pid, one.kind, one.memory_bytes) for one in fact.processes] == [
        (1, "compute", None),
        (2, "mps", 6),
        (3, "graphics", None),
        (4, "mps", 7),
    ]
    assert fact.pods == ()


def test_the_server_of_mps_works_for_others(host: Host) -> None:
    host.in_pod(1, UID, ID, name="nvidia-cuda-mps")
    host.in_pod(2, OTHER_UID, OTHER_ID)
    host.pod("gpu-operator", "mps-control-daemon-x", UID)
    host.pod("llm", "client", OTHER_UID)
    gpu = busy({"compute": [FakeProcess(pid=1)], "mps": [FakeProcess(pid=2)]})
    with machine(gpu, **host.folders()) as running:
        (fact,) = running.read().facts
    assert [pod.name for pod in fact.pods] == ["client"]
    assert len(fact.processes) == 2


def test_under_mig_processes_belong_to_their_instance(host: Host) -> None:
    host.in_pod(21180, UID, ID)
    host.pod("llm", "a", UID)
    gpu = h100_mixed()
    gpu.instances[1].compute_instances[0].processes = {"compute": [FakeProcess(pid=21180, memory=2296 * MIB)]}
    with machine(gpu, privileged=False, **host.folders()) as running:
        (fact,) = running.read().facts
    assert [(one.gi_id, one.pid, one.memory_bytes) for one in fact.processes] == [(3, 21180, 2296 * MIB)]
    assert [(pod.gi_id, pod.name) for pod in fact.pods] == [(3, "a")]


def test_processes_of_all_compute_instances_of_a_gpu_instance(host: Host) -> None:
    for pid in (1, 2):
        host.process(pid)
    gpu = h200_shared_instance()
    first, second = gpu.instances[0].compute_instances
    first.processes = {"compute": [FakeProcess(pid=1)]}
    second.processes = {"compute": [FakeProcess(pid=2)]}
    with machine(gpu, **host.folders()) as running:
        (fact,) = running.read().facts
    assert [(one.gi_id, one.pid) for one in fact.processes] == [(2, 1), (2, 2)]


def test_an_old_driver_lists_them_by_its_own_name(host: Host) -> None:
    host.process(1)
    with machine(busy({"compute": [FakeProcess(pid=1)]}), **host.folders()) as running:
        running.fake.absent |= OLD_DRIVER_LACKS
        (fact,) = running.read().facts
    assert [one.pid for one in fact.processes] == [1]


def test_a_process_that_ended_meanwhile_is_kept_without_an_owner(host: Host) -> None:
    with machine(busy({"compute": [FakeProcess(pid=99)]}), **host.folders()) as running:
        batch = running.read()
    (fact,) = batch.facts
    assert fact.processes == (ProcessFact(gi_id=None, pid=99, kind="compute"),)
    assert NOT_IN_PROC in reasons(batch, None)


def test_memory_in_use_and_nobody_there() -> None:
    full = a100(memory=FakeMemory(total=40960 * MIB, reserved=557 * MIB, used=30000 * MIB))
    with machine(full) as running:
        assert NOBODY_SEEN in reasons(running.read(), None)
    with machine(a100(memory=FakeMemory(total=40960 * MIB, reserved=557 * MIB, used=600 * MIB))) as running:
        assert NOBODY_SEEN not in reasons(running.read(), None)


def test_a_user_that_this_machine_does_not_know(host: Host) -> None:
    host.process(1, uid=3_999_999)
    with machine(busy({"compute": [FakeProcess(pid=1)]}), **host.folders()) as running:
        (fact,) = running.read().facts
    assert fact.processes[0].user == "uid 3999999"


def test_more_processes_between_the_two_questions_of_the_binding(host: Host) -> None:
    """nvidia-ml-py asks for the count and then for the list: the list may have grown."""
    host.process(1)
    once = iter([None, 7])
    with machine(busy({"compute": [FakeProcess(pid=1)]}), **host.folders()) as running:
        running.fake.faults["nvmlDeviceGetComputeRunningProcesses_v3"] = lambda *arguments: next(once, None)
        (fact,) = running.read().facts
    assert [one.pid for one in fact.processes] == [1]


def test_lists_that_are_refused_are_a_gap_and_those_a_board_cannot_have_are_not() -> None:
    with machine(a100()) as running:
        running.fake.faults["nvmlDeviceGetComputeRunningProcesses_v3"] = 4
        running.fake.faults["nvmlDeviceGetMPSComputeRunningProcesses_v3"] = Code(3)
        running.fake.faults["nvmlDeviceGetMPSComputeRunningProcesses_v2"] = Code(3)
        (told,) = [reason for reason in reasons(running.read(), None) if "processes are not known" in reason]
    assert told == (
        "its compute processes are not known: nvmlDeviceGetComputeRunningProcesses_v3 wants a right that is missing: "
        "root, or NVIDIA_MIG_MONITOR_DEVICES=all where MIG is on"
    )


def test_processes_can_be_left_alone(host: Host) -> None:
    with machine(busy({"compute": [FakeProcess(pid=1)]}), processes=False, **host.folders()) as running:
        batch = running.read()
        assert running.fake.calls["nvmlDeviceGetComputeRunningProcesses_v3"] == 0
    assert batch.facts[0].processes == ()
    assert of(batch, gpu_uuid(0))["power_watts"] == 61.5


def test_names_from_outside_are_kept_on_one_line(host: Host) -> None:
    host.process(1, name="a\u202eb\x1b[31m" + "c" * 200)
    with machine(busy({"compute": [FakeProcess(pid=1)]}), **host.folders()) as running:
        (fact,) = running.read().facts
    name = fact.processes[0].name
    assert name is not None
    assert name.isprintable()
    assert len(name) <= 64


def test_folders_that_look_like_pods_and_are_none(host: Host) -> None:
    host.in_pod(1, UID, ID)
    (host.log / "pods" / f"llm_{UID}").mkdir()
    (host.log / "pods" / f"../pods/LLM_Upper_{UID}").mkdir()
    (host.log / "containers" / f"a_b_c-{ID}.log.gz").touch()
    with machine(busy({"compute": [FakeProcess(pid=1)]}), **host.folders()) as running:
        (fact,) = running.read().facts
    assert fact.pods == (PodFact(gi_id=None, namespace="", name=UID, uid=UID),)

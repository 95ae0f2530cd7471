"""Every spelling of a pod's cgroup, on both versions, from every runtime; and texts that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.nvml.cgroups import Membership, read_membership

UID = "0f3a5b1c-7a2e-4c6d-9b1e-2f4a6c8e0d1b"
LOW = UID.replace("-", "_")
STATIC = "6d6a8c3b9e0f4a1b8c7d6e5f4a3b2c1d"
ID = "3e" * 32
OTHER_UID = "ffffffff-7a2e-4c6d-9b1e-2f4a6c8e0d1b"
OTHER_ID = "ab" * 32

V2_SYSTEMD = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{LOW}.slice"
V2_GUARANTEED = f"/kubepods.slice/kubepods-pod{LOW}.slice"

SPELLINGS = {
    "containerd, systemd, v2": f"0::{V2_SYSTEMD}/cri-containerd-{ID}.scope\n",
    "guaranteed pods have no class": f"0::{V2_GUARANTEED}/cri-containerd-{ID}.scope\n",
    "CRI-O, systemd, v2": f"0::{V2_SYSTEMD}/crio-{ID}.scope\n",
    "CRI-O with crun has a group below": f"0::{V2_SYSTEMD}/crio-{ID}.scope/container\n",
    "Docker by cri-dockerd": f"0::{V2_SYSTEMD}/docker-{ID}.scope\n",
    "cgroupfs, v2": f"0::/kubepods/burstable/pod{UID}/{ID}\n",
    "cgroupfs, guaranteed": f"0::/kubepods/pod{UID}/{ID}\n",
    "containerd with another driver than the kubelet": (
        f"0::/system.slice/containerd.service/kubepods-besteffort-pod{LOW}.slice:cri-containerd:{ID}\n"
    ),
    "kind: a kubelet below another one's slice": (
        "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
        f"kubelet-kubepods-burstable-pod{LOW}.slice/cri-containerd-{ID}.scope\n"
    ),
    "seen from a cgroup namespace": f"0::/../../kubepods-burstable-pod{LOW}.slice/cri-containerd-{ID}.scope\n",
    "v1, systemd": (
        f"12:pids:{V2_SYSTEMD}/cri-containerd-{ID}.scope\n11:devices:{V2_SYSTEMD}/cri-containerd-{ID}.scope\n"
        f"1:name=systemd:{V2_SYSTEMD}/cri-containerd-{ID}.scope\n"
    ),
    "v1, cgroupfs": (
        f"11:memory:/kubepods/besteffort/pod{UID}/{ID}\n10:cpu,cpuacct:/kubepods/besteffort/pod{UID}/{ID}\n"
    ),
    "hybrid: the unified line tells nothing": f"0::/\n4:memory:/kubepods/burstable/pod{UID}/{ID}\n",
    "a cluster in a container of another: the inmost pod": (
        f"0::/kubepods/burstable/pod{OTHER_UID}/{OTHER_ID}/kubelet/kubepods/burstable/pod{UID}/{ID}\n"
    ),
    "a path with colons": f"0::/a:b/kubepods/burstable/pod{UID}/{ID}\n",
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_the_pod_and_its_container(text: str) -> None:
    assert read_membership(text) == Membership(pod_uid=UID, container_id=ID)


def test_a_static_pod_has_a_hash_for_its_uid() -> None:
    text = f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/crio-{ID}.scope\n"
    assert read_membership(text) == Membership(pod_uid=STATIC, container_id=ID)


def test_a_pod_without_a_container() -> None:
    assert read_membership(f"0::{V2_SYSTEMD}\n") == Membership(pod_uid=UID)


@pytest.mark.parametrize(
    "text",
    [
        f"0::/system.slice/docker-{ID}.scope\n",
        f"9:memory:/docker/{ID}\n",
        f"0::/machine.slice/libpod-{ID}.scope\n",
        f"0::/../cri-containerd-{ID}.scope\n",
    ],
)
def test_a_container_outside_of_any_pod(text: str) -> None:
    assert read_membership(text) == Membership(container_id=ID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0::/\n",
        "0::/user.slice/user-1000.slice/session-3.scope\n",
        "0::/system.slice/slurmstepd.scope/job_42/step_0\n",
        f"0::/kubepods/burstable/podcast-{UID}x/{ID[:60]}\n",
        "0::/kubepods-burstable-pod.slice\n",
        "not a cgroup file at all",
        "0\n0:\n::::\n",
    ],
)
def test_a_process_of_no_pod(text: str) -> None:
    assert read_membership(text) == Membership()


@given(st.text(max_size=400))
def test_no_text_breaks_it(text: str) -> None:
    found = read_membership(text)
    assert found.pod_uid is None or len(found.pod_uid) in (32, 36)
    assert found.container_id is None or len(found.container_id) == 64


@given(
    st.uuids(),
    st.binary(min_size=32, max_size=32),
    st.sampled_from(["burstable", "besteffort"]),
    st.sampled_from(["cri-containerd", "crio", "docker"]),
)
def test_every_pod_is_found(uid: object, container: bytes, quality: str, runtime: str) -> None:
    spelled = str(uid).replace("-", "_")
    text = (
        f"0::/kubepods.slice/kubepods-{quality}.slice/kubepods-{quality}-pod{spelled}.slice/"
        f"{runtime}-{container.hex()}.scope\n"
    )
    assert read_membership(text) == Membership(pod_uid=str(uid), container_id=container.hex())

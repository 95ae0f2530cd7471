"""Quotas on GPUs."""

from typing import Any

import pytest

from collectors.kubernetes.quotas import gpu_quota
from collectors.kubernetes_lists import NotUnderstood


def quota(hard: dict[str, Any], used: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    status = {"hard": hard} | ({} if used is None else {"used": used})
    return {"metadata": {"name": "q", "namespace": "team-a"}, "spec": {"hard": hard}, "status": status, **rest}


def test_limits_on_gpus_are_read_without_their_prefix() -> None:
    found = gpu_quota(
        quota(
            {"requests.nvidia.com/gpu": "16", "requests.nvidia.com/mig-1g.10gb.me": "1k", "requests.cpu": "64"},
            {"requests.nvidia.com/gpu": "20", "requests.cpu": "3"},
        )
    )
    assert found is not None
    assert (found.namespace, found.name) == ("team-a", "q")
    assert found.hard == {"nvidia.com/gpu": 16, "nvidia.com/mig-1g.10gb.me": 1000}
    assert found.used == {"nvidia.com/gpu": 20}  # more than allowed: the limit came later


def test_limits_on_claimed_devices_keep_their_name() -> None:
    found = gpu_quota(quota({"gpu.nvidia.com.deviceclass.resource.k8s.io/devices": "4"}))
    assert found is not None
    assert found.hard == {"gpu.nvidia.com.deviceclass.resource.k8s.io/devices": 4}
    assert found.used == {}


def test_a_new_quota_has_no_status_yet() -> None:
    found = gpu_quota(quota({"requests.nvidia.com/gpu": "4"}, status={}))
    assert found is not None
    assert (found.hard, found.used) == ({"nvidia.com/gpu": 4}, {})


def test_quotas_on_other_things_are_of_no_interest() -> None:
    assert gpu_quota(quota({"count/configmaps": "100", "limits.memory": "1Ti"})) is None
    assert gpu_quota({"metadata": {"name": "q", "namespace": "a"}}) is None


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(NotUnderstood, match=r"requests\.nvidia\.com/gpu is no quantity: 'many'"):
        gpu_quota(quota({"requests.nvidia.com/gpu": "many"}))

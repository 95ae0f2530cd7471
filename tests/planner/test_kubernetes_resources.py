"""Names of GPU resources: which they are, and the MIG profiles in them.

Names as in NVIDIA/k8s-device-plugin's README and the MIG profile names of the MIG User Guide.
"""

import pytest

from planner.kubernetes_resources import is_gpu_resource, is_shared_resource, mig_profile, mig_resource


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("nvidia.com/mig-1g.5gb", "1g.5gb"),
        ("nvidia.com/mig-3g.40gb", "3g.40gb"),
        ("nvidia.com/mig-1g.10gb.me", "1g.10gb+me"),
        ("nvidia.com/mig-1g.24gb.gfx", "1g.24gb+gfx"),
        ("nvidia.com/mig-1g.24gb.me.all", "1g.24gb+me.all"),
        ("nvidia.com/mig-1g.24gb-me", "1g.24gb-me"),
        ("nvidia.com/mig-1c.3g.20gb", "1c.3g.20gb"),
        ("nvidia.com/mig-1g.5gb.shared", "1g.5gb"),
        ("nvidia.com/mig-1g.10gb.me.shared", "1g.10gb+me"),
    ],
)
def test_a_resource_names_its_profile(name: str, profile: str) -> None:
    assert is_gpu_resource(name)
    assert mig_profile(name) == profile


@pytest.mark.parametrize("profile", ["1g.5gb", "1g.10gb+me", "1g.24gb+me.all", "1g.24gb-me", "1c.3g.20gb"])
def test_a_profile_becomes_a_resource_and_back(profile: str) -> None:
    assert "+" not in mig_resource(profile)
    assert mig_profile(mig_resource(profile)) == profile


@pytest.mark.parametrize(
    ("name", "is_gpu"),
    [
        ("nvidia.com/gpu", True),
        ("nvidia.com/gpu.shared", True),
        ("nvidia.com/gpumem", False),
        ("nvidia.com/mig-enabled", False),
        ("nvidia.com/mig-1g.5gb\n", False),
        ("amd.com/gpu", False),
        ("cpu", False),
        ("requests.nvidia.com/gpu", False),
    ],
)
def test_other_resources_are_no_gpus(name: str, *, is_gpu: bool) -> None:
    assert is_gpu_resource(name) is is_gpu
    assert mig_profile(name) is None


def test_only_names_that_say_so_are_shared() -> None:
    assert is_shared_resource("nvidia.com/gpu.shared")
    assert is_shared_resource("nvidia.com/mig-1g.5gb.shared")
    assert not is_shared_resource("nvidia.com/gpu")
    assert not is_shared_resource("example.com/disk.shared")

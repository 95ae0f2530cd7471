"""Names of GPU resources in Kubernetes, and the MIG profiles in them.

Source: NVIDIA/k8s-device-plugin, README (resource names under the strategies none, single and mixed; `.shared` of
time-slicing with renameByDefault); a plus sign may not stand in a name of Kubernetes and is written as a dot.
"""

import re

GPU = "nvidia.com/gpu"
SHARED_SUFFIX = ".shared"

_MIG = re.compile(r"nvidia\.com/mig-((?:[0-9]+c\.)?[0-9]+g\.[0-9]+gb)((?:[.-][a-z0-9]+)*)")


def is_gpu_resource(name: str) -> bool:
    """Whether a resource is GPUs or MIG devices: nvidia.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-*."""
    return name in (GPU, GPU + SHARED_SUFFIX) or _MIG.fullmatch(name) is not None


def mig_profile(name: str) -> str | None:
    """The profile that a resource is named for: `1g.10gb+me` for nvidia.com/mig-1g.10gb.me; None for all others."""
    found = _MIG.fullmatch(name)
    if found is None:
        return None
    attributes = found[2].removesuffix(SHARED_SUFFIX)
    return found[1] + (f"+{attributes[1:]}" if attributes.startswith(".") else attributes)


def mig_resource(profile: str) -> str:
    """The resource that the device plugin names for a profile: nvidia.com/mig-1g.10gb.me for `1g.10gb+me`."""
    return f"nvidia.com/mig-{profile.replace('+', '.')}"


def is_shared_resource(name: str) -> bool:
    """Whether the name says that several pods share each device (nvidia.com/gpu.shared)."""
    return is_gpu_resource(name) and name.endswith(SHARED_SUFFIX)

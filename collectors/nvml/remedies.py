"""What to do about what NVML does not give: a right, a mount, a setting of the DaemonSet, another source."""

from collectors.diagnosis import Remedy
from collectors.errors import CollectorError, Unauthorized, Unreachable, Unsupported
from collectors.nvml.gpm import NEEDS_HOPPER
from collectors.nvml.processes import NO_POD_NAME, NOBODY_SEEN, NOT_IN_PROC, ONLY_PODS_AT_WORK
from collectors.nvml.reader import EMPTY_MIG
from collectors.nvml.table_reading import REMAP_PENDING, RESERVED_WITHIN_USED, UNDER_MIG, UNIFIED_MEMORY
from planner.diagnosis import Lack
from planner.readings import Gap

_BY_NATURE = (UNDER_MIG, EMPTY_MIG)
_NO_SENSOR = "0 means that this board has no"

_BY_BEGINNING: tuple[tuple[str, str], ...] = (
    (NEEDS_HOPPER, "Run dcgm-exporter with its profiling fields on this node (Volta and later), and read it instead."),
    (NOBODY_SEEN, "In the DaemonSet: `hostPID: true`."),
    (NOT_IN_PROC, "In the DaemonSet: `hostPID: true`; outside of Kubernetes run as a user who sees all of /proc."),
    (NO_POD_NAME, 'Mount the host\'s /var/log read-only into the container and set `log_directory = "/host/var/log"`.'),
    (ONLY_PODS_AT_WORK, "Add a [[sources.kubernetes]] for this cluster: it knows which pod was given which GPU."),
    (RESERVED_WITHIN_USED, "Update the driver to R510 or later."),
    (REMAP_PENDING, "Drain the GPU and run `nvidia-smi --gpu-reset -i INDEX`."),
)
_BY_PART: tuple[tuple[str, str], ...] = (
    (
        "NVreg_RestrictProfilingToAdminUsers",
        (
            "Run as root, or let every user read the counters: in /etc/modprobe.d/nvidia.conf, then reboot:\n"
            "options nvidia NVreg_RestrictProfilingToAdminUsers=0"
        ),
    ),
    ("NVIDIA_MIG_MONITOR_DEVICES", "Run as root; in a container where MIG is on also NVIDIA_MIG_MONITOR_DEVICES=all."),
    (
        "NVML knows no GPU",
        "In a container: runtime class nvidia and NVIDIA_VISIBLE_DEVICES=all; else look at `nvidia-smi`.",
    ),
    (
        "wants a right that is missing: root",
        "Run as root; in a container also `securityContext.privileged: true` and NVIDIA_MIG_CONFIG_DEVICES=all.",
    ),
    ("wants a right that is missing", "Give it that right, or run as root."),
    ("this driver does not have it", "Update the driver."),
    ("this driver does not have this version of it", "Update the driver."),
    ("this driver does not offer", "Exclude these profiles in the problem of a plan, or update the driver."),
    (
        "nothing of this GPU is read",
        "Look at `dmesg | grep -i -e nvrm -e xid`; drain the node, reset the GPU or reboot.",
    ),
)
_LACKS: tuple[tuple[str, Lack], ...] = (
    ("nothing of this GPU is read", Lack.GPU),
    ("NVML knows no GPU", Lack.GPU),
    (NOBODY_SEEN, Lack.PROCESSES),
    ("processes are not known", Lack.PROCESSES),
    (NOT_IN_PROC, Lack.PROCESS_DETAILS),
    (NO_POD_NAME, Lack.POD_NAMES),
    (ONLY_PODS_AT_WORK, Lack.POD_NAMES),
    ("where this GPU instance lies", Lack.LAYOUT),
    ("which profile this GPU instance has", Lack.LAYOUT),
    ("this MIG device is left out", Lack.LAYOUT),
    ("MIG mode is not known", Lack.LAYOUT),
    ("the driver offers", Lack.CATALOGUE),
    ("the driver lets", Lack.CATALOGUE),
    ("this driver does not offer", Lack.CATALOGUE),
    ("the catalogue's placements", Lack.CATALOGUE),
    (REMAP_PENDING, Lack.ROW_REMAP),
)


def remedy(gap: Gap) -> Remedy:
    """What brings the missing value, word for word; natural where this GPU cannot have it."""
    if gap.reason.startswith(_BY_NATURE) or _NO_SENSOR in gap.reason or UNIFIED_MEMORY in gap.reason:
        return Remedy(is_natural=True)
    lack = next((lack for words, lack in _LACKS if words in gap.reason), None if gap.metric else Lack.GPU_DETAILS)
    for beginning, fix in _BY_BEGINNING:
        if beginning in gap.reason:
            return Remedy(fix=fix, lack=lack)
    for part, fix in _BY_PART:
        if part in gap.reason:
            return Remedy(fix=fix, lack=lack)
    if gap.reason.endswith("not supported") or "not supported (" in gap.reason:
        return Remedy(is_natural=True)
    return Remedy(lack=lack)


def error_fix(error: CollectorError) -> str | None:
    """What to do where nothing of the machine can be read; the address of a server has no part in it."""
    if isinstance(error, Unauthorized):
        return "Run as root, or let the container use the GPUs (runtime class nvidia, NVIDIA_VISIBLE_DEVICES=all)."
    if isinstance(error, Unreachable):
        return "On that machine: `nvidia-smi`, then `dmesg | grep -i -e nvrm -e xid`."
    if isinstance(error, Unsupported):
        return "On that machine: `nvidia-smi` tells whether a driver is there and whether it is of one version."
    return None

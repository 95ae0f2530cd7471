"""What an NVML error code means to us: what kind of absence it is, and the sentence that a gap shows.

Source of the codes: NVML reference (nvmlReturn_t), in nvidia-ml-py 13.615.71 as NVML_ERROR_*.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What follows from a refusal."""

    UNSUPPORTED = "unsupported"  # this GPU or this driver never gives it: not asked again
    NOT_FOUND = "not found"  # there is nothing by that number
    LOST = "lost"  # the GPU no longer answers
    NO_PERMISSION = "no permission"
    NO_DRIVER = "no driver"  # nothing answers any more
    FAILED = "failed"  # anything else: asked again next time


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A call that gave no value; `reason` says why, for people."""

    kind: Kind
    code: int
    reason: str


UNINITIALIZED, NO_PERMISSION, NOT_FOUND, INSUFFICIENT_SIZE = 1, 4, 6, 7
DRIVER_NOT_LOADED, TIMEOUT, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND = 9, 10, 12, 13
GPU_IS_LOST, RESET_REQUIRED, LIB_RM_VERSION_MISMATCH, GPU_NOT_FOUND = 15, 16, 18, 28
UNKNOWN = 999

NOT_NVML = -1
"""Code of a refusal that is not the driver's: the binding could not read the answer."""

_KINDS: Mapping[int, Kind] = {
    3: Kind.UNSUPPORTED,
    FUNCTION_NOT_FOUND: Kind.UNSUPPORTED,
    22: Kind.UNSUPPORTED,  # ECC of a vGPU
    25: Kind.UNSUPPORTED,  # the driver does not know this version of the struct
    26: Kind.UNSUPPORTED,  # deprecated
    NOT_FOUND: Kind.NOT_FOUND,
    GPU_IS_LOST: Kind.LOST,
    RESET_REQUIRED: Kind.LOST,
    GPU_NOT_FOUND: Kind.LOST,
    NO_PERMISSION: Kind.NO_PERMISSION,
    UNINITIALIZED: Kind.NO_DRIVER,
    DRIVER_NOT_LOADED: Kind.NO_DRIVER,
    LIBRARY_NOT_FOUND: Kind.NO_DRIVER,
    LIB_RM_VERSION_MISMATCH: Kind.NO_DRIVER,
}

_WORDS: Mapping[int, str] = {
    1: "NVML is not initialised",
    2: "invalid argument",
    3: "not supported",
    4: "no permission",
    5: "already initialised",
    6: "not found",
    7: "insufficient size",
    8: "power cables are not attached",
    9: "the driver is not loaded",
    10: "timeout",
    11: "the kernel has trouble with the GPU's interrupts",
    12: "the library was not found",
    13: "this driver does not have it",
    14: "the board's infoROM is corrupted",
    15: "the GPU is lost",
    16: "the GPU wants a reset",
    17: "refused by the operating system",
    18: "driver and library are of different versions",
    19: "in use",
    20: "out of memory",
    21: "no data",
    22: "not supported on a vGPU",
    23: "insufficient resources",
    24: "frequency not supported",
    25: "this driver does not have this version of it",
    26: "deprecated",
    27: "not ready",
    28: "the GPU was not found",
    29: "invalid state",
    30: "reset type not supported",
    UNKNOWN: "unknown error",
}

_PRIVILEGED = "root, and in a container a privileged one with NVIDIA_MIG_CONFIG_DEVICES=all"
_RIGHTS: Mapping[str, str] = {
    "nvmlDeviceGetGpuInstanceById": _PRIVILEGED,
    "nvmlDeviceGetGpuInstancePossiblePlacements": _PRIVILEGED,
    "nvmlGpuInstanceGetInfo": _PRIVILEGED,
    "nvmlDeviceGetHandleByIndex": "read and write access to /dev/nvidia* (the device cgroup of a container denies it)",
}
_RIGHTS_BY_BEGINNING: Mapping[str, str] = {
    "nvmlGpm": "root, or the driver option NVreg_RestrictProfilingToAdminUsers=0",
    "nvmlDeviceGetComputeRunningProcesses": "root, or NVIDIA_MIG_MONITOR_DEVICES=all where MIG is on",
    "nvmlDeviceGetGraphicsRunningProcesses": "root, or NVIDIA_MIG_MONITOR_DEVICES=all where MIG is on",
    "nvmlDeviceGetMPSComputeRunningProcesses": "root, or NVIDIA_MIG_MONITOR_DEVICES=all where MIG is on",
}
"""Which right is missing where NVML says "no permission".

Source: NVML reference ("Requires privileged user"); NVIDIA Container Toolkit documentation (MIG variables).
"""


def refusal(function: str, code: int) -> Refusal:
    """What an error code of that function means; codes that nobody knows are failures with their number."""
    kind = _KINDS.get(code, Kind.FAILED)
    words = _WORDS.get(code)
    if kind is Kind.NO_PERMISSION:
        reason = f"{function} wants a right that is missing: {_right(function)}"
    elif words is None:
        reason = f"{function} failed with code {code}, which this version does not know"
    elif kind is Kind.FAILED:
        reason = f"{function} failed with code {code} ({words})"
    else:
        reason = f"{function}: {words}"
    return Refusal(kind=kind, code=code, reason=reason)


def unreadable(function: str, error: Exception) -> Refusal:
    """The binding could not make sense of the answer."""
    reason = f"{function}: the answer could not be read ({type(error).__name__})"
    return Refusal(kind=Kind.FAILED, code=NOT_NVML, reason=reason)


def _right(function: str) -> str:
    if function in _RIGHTS:
        return _RIGHTS[function]
    return next((right for start, right in _RIGHTS_BY_BEGINNING.items() if function.startswith(start)), "root")

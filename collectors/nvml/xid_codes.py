"""What the Xid codes that matter to inference mean, and what to do; others are a number with a page to look it up on.

Source: NVIDIA, "Xid Errors" (docs.nvidia.com/deploy/xid-errors, catalogue of 2025-10-29): code and immediate action.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What brings the GPU back."""

    RESTART_WORKLOAD = "restart the workload"
    RESET_GPU = "drain the GPU and reset it (`nvidia-smi --gpu-reset`)"
    REBOOT_NODE = "drain the node and reboot it"
    LOOK_CLOSER = "look at what came before it in `dmesg`"
    CHECK_CABLES = "check the power cables and the seat of the board"
    NOTHING = "nothing to do at once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """One code: what happened, and what brings the GPU back."""

    meaning: str
    action: Action


def _xid(meaning: str, action: Action) -> Xid:
    return Xid(meaning=meaning, action=action)


XIDS: Mapping[int, Xid] = {
    8: _xid("the GPU stopped processing", Action.RESTART_WORKLOAD),
    13: _xid("an exception in a kernel", Action.RESTART_WORKLOAD),
    31: _xid("a page fault in GPU memory, mostly a bad address in a kernel", Action.RESTART_WORKLOAD),
    32: _xid("a corrupted command stream", Action.RESTART_WORKLOAD),
    39: _xid("an exception in a copy engine", Action.RESTART_WORKLOAD),
    43: _xid("a workload's channel was stopped", Action.NOTHING),
    45: _xid("a workload was ended after an earlier error", Action.LOOK_CLOSER),
    46: _xid("the GPU stopped processing", Action.RESET_GPU),
    48: _xid("an uncorrectable (double-bit) ECC error", Action.LOOK_CLOSER),
    54: _xid("auxiliary power is not connected", Action.CHECK_CABLES),
    62: _xid("a micro-controller of the GPU halted", Action.RESET_GPU),
    63: _xid("a memory row was remapped, or will be at the next reset", Action.NOTHING),
    64: _xid("a memory row could not be remapped", Action.RESET_GPU),
    68: _xid("an exception in a video decoder", Action.RESTART_WORKLOAD),
    69: _xid("a class error in the engine", Action.RESTART_WORKLOAD),
    74: _xid("an NVLink error", Action.LOOK_CLOSER),
    79: _xid("the GPU has fallen off the bus", Action.REBOOT_NODE),
    92: _xid("many single-bit ECC errors", Action.NOTHING),
    94: _xid("an uncorrectable memory error, contained to one workload", Action.RESTART_WORKLOAD),
    95: _xid("an uncorrectable memory error that was not contained", Action.RESET_GPU),
    109: _xid("a context switch timed out", Action.RESET_GPU),
    110: _xid("a security fault", Action.RESET_GPU),
    119: _xid("the GPU's firmware (GSP) does not answer", Action.RESET_GPU),
    120: _xid("an error in the GPU's firmware (GSP)", Action.RESET_GPU),
    136: _xid("a link could not be trained", Action.RESET_GPU),
    140: _xid("an ECC error that could not be recovered", Action.RESET_GPU),
    143: _xid("the GPU could not be initialised", Action.RESET_GPU),
    154: _xid("the driver asks for another recovery action than before", Action.LOOK_CLOSER),
    155: _xid("an NVLink went down by software", Action.RESET_GPU),
    156: _xid("a resource was retired", Action.RESET_GPU),
    158: _xid("a fatal timeout", Action.RESET_GPU),
}


def xid_text(code: int) -> str:
    """What happened and what to do, in half a sentence."""
    if code == 0:
        return "none"
    known = XIDS.get(code)
    if known is None:
        return "see docs.nvidia.com/deploy/xid-errors"
    return f"{known.meaning}; {known.action}"

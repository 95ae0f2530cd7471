"""What NVML says, as it spells it: names, bus addresses, profile names, values of fields; everything checked."""

import ctypes
import re
from typing import Any

from collectors.nvml.metrics import FIELD_NAMES
from collectors.nvml.refusals import Kind, Refusal, refusal
from collectors.plain_text import plain_text

MAX_TEXT = 120

NO_INSTANCE = 0xFFFFFFFF
"""NVML's number for "no GPU instance" (NVML_GPU_INSTANCE_ID_ANY, and in process lists outside of MIG)."""

_UUID = re.compile(r"GPU-[0-9A-Za-z-]{1,76}")
_MIG_UUID = re.compile(r"MIG-[0-9A-Za-z/-]{1,90}")
_BUS_ID = re.compile(r"([0-9A-Fa-f]{4,8}):([0-9A-Fa-f]{2}):([0-9A-Fa-f]{2})\.([0-7])")
_MIG_NAME = re.compile(r"(?:^|.*\s)MIG (?P<name>(?:[0-9]+c\.)?[0-9]+g\.[0-9]+gb(?:[+-][a-z.]+)*)")
_COMPUTE_INSTANCE_PREFIX = re.compile(r"^[0-9]+c\.")

_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of nvmlValue_t in the order of nvmlValueType_t."""


def name_of(value: Any) -> str | None:
    """A product or driver name on one line; None when it is empty."""
    return plain_text(str(value), MAX_TEXT) or None


def uuid_of(value: Any) -> str | None:
    """The UUID of a GPU, `GPU-...`; None when it is none: an identity is never trimmed into another one."""
    return value if isinstance(value, str) and _UUID.fullmatch(value) else None


def mig_uuid_of(value: Any) -> str | None:
    """The UUID of a MIG device, `MIG-...` (before driver 470 `MIG-GPU-.../GI/CI`)."""
    return value if isinstance(value, str) and _MIG_UUID.fullmatch(value) else None


def bus_id_of(pci: Any) -> str | None:
    """The PCI address as DCGM spells it: eight digits of domain, capital letters (`00000000:1A:00.0`)."""
    match = _BUS_ID.fullmatch(str(getattr(pci, "busId", "")))
    if match is None:
        return None
    domain, bus, device, function = match.groups()
    return f"{int(domain, 16):08X}:{bus.upper()}:{device.upper()}.{function}"


def mig_name_of(value: Any) -> str | None:
    """The part of a MIG device's or a profile's name behind "MIG ": `1g.10gb+me`, `1c.3g.71gb`."""
    match = _MIG_NAME.fullmatch(str(value))
    return None if match is None else match["name"]


def instance_profile_of(mig_name: str) -> str:
    """The profile of the GPU instance that a MIG device of that name is in: `3g.71gb` for `1c.3g.71gb`."""
    return _COMPUTE_INSTANCE_PREFIX.sub("", mig_name)


def field_value(field: Any) -> float | Refusal:
    """The value of one field, each of which has a return code and a type of its own."""
    function = FIELD_NAMES.get(int(field.fieldId), f"field {int(field.fieldId)}")
    if field.nvmlReturn != 0:
        return refusal(function, int(field.nvmlReturn))
    kind = int(field.valueType)
    if kind >= len(_VALUE_MEMBERS):
        return Refusal(kind=Kind.FAILED, code=0, reason=f"{function} is of a type ({kind}) that is not known here")
    return float(getattr(field.value, _VALUE_MEMBERS[kind]))


def address_of(handle: Any) -> int | None:
    """What a handle points at: the same device has the same address as long as NVML stays open."""
    return ctypes.cast(handle, ctypes.c_void_p).value

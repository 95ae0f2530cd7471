"""How answers get into the memory of the caller, and the codes that go with them."""

import ctypes
from ctypes import POINTER, c_uint, c_ulonglong, c_void_p
from typing import Any

import pynvml

from tests.collectors.nvml.fake_nvml.machine import Code, FakeProcess

SUCCESS, UNINITIALIZED, INVALID, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, TOO_SMALL = 0, 1, 2, 3, 4, 6, 7
TIMEOUT, WRONG_VERSION = 10, 25
NO_INSTANCE = 0xFFFFFFFF


def put_text(out: int, size: int, text: str) -> int:
    raw = text.encode()
    if len(raw) >= size:
        return TOO_SMALL
    ctypes.memmove(out, raw + b"\0", len(raw) + 1)
    return SUCCESS


def put_pointer(out: int, address: int) -> int:
    ctypes.cast(out, POINTER(c_void_p)).contents.value = address
    return SUCCESS


def put_uint(out: int, value: int) -> int:
    if isinstance(value, Code):
        return value
    ctypes.cast(out, POINTER(c_uint)).contents.value = value
    return SUCCESS


def put_ulonglong(out: int, value: int) -> int:
    if isinstance(value, Code):
        return value
    ctypes.cast(out, POINTER(c_ulonglong)).contents.value = value
    return SUCCESS


def put_field(field: Any, value: Any, kind: int) -> None:
    field.nvmlReturn = value if isinstance(value, Code) else SUCCESS
    field.valueType = kind
    field.timestamp = 1_795_311_426_000_000
    if not isinstance(value, Code):
        setattr(field.value, "uiVal" if kind == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT else "ullVal", int(value))


def put_process(info: Any, process: FakeProcess, gi_id: int, ci_id: int) -> None:
    info.pid, info.usedGpuMemory = process.pid, process.memory
    info.gpuInstanceId, info.computeInstanceId = gi_id, ci_id

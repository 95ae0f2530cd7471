"""A libnvidia-ml made of callbacks: nvidia-ml-py's structs, versions and return codes run for real against it.

Each function of NVIDIA's C library is a ctypes callback with the types of nvml.h, so that what is passed and what is
written into the caller's memory is converted as with the real one. Functions in `absent` are not exported, as in an
older driver. `faults` replaces the answer of a function by an error code.
"""

import ctypes
import queue
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_int, c_uint, c_void_p
from typing import Any

import pynvml

from tests.collectors.nvml.fake_nvml.callers_memory import (
    INVALID,
    NO_INSTANCE,
    NO_PERMISSION,
    SUCCESS,
    TIMEOUT,
    TOO_SMALL,
    UNINITIALIZED,
    put_pointer,
    put_process,
    put_text,
    put_uint,
)
from tests.collectors.nvml.fake_nvml.gpm_functions import GpmFunctions
from tests.collectors.nvml.fake_nvml.gpu_functions import GpuFunctions
from tests.collectors.nvml.fake_nvml.machine import Code, FakeGpu
from tests.collectors.nvml.fake_nvml.mig_functions import MigFunctions
from tests.collectors.nvml.fake_nvml.signatures import SIGNATURES

Fault = int | Callable[..., int | None]


class FakeNvml(GpuFunctions, MigFunctions, GpmFunctions):
    """The library, the driver and the machine in one."""

    def __init__(self, gpus: list[FakeGpu], *, driver: str = "590.48.01", privileged: bool = True) -> None:
        self.gpus = gpus
        self.driver = driver
        self.privileged = privileged
        self.init_code = SUCCESS
        self.absent: set[str] = set()
        self.faults: dict[str, Fault] = {}
        self.calls: Counter[str] = Counter()
        self.opened = 0
        self.event_sets: set[int] = set()
        self.registered: set[int] = set()
        self.samples: dict[int, tuple[str, int | None, int] | None] = {}  # GPU, GPU instance, sequence
        self._events: queue.Queue[tuple[int, int, int]] = queue.Queue()
        self._callbacks: dict[str, Any] = {}
        self._texts: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self._next = 0x5000_0000

    # --- what tests do to the machine

    def emit_xid(self, gpu: int, code: int, *, gi_id: int | None = None) -> None:
        """The driver reports an Xid."""
        self._events.put((self._address(gpu), code, NO_INSTANCE if gi_id is None else gi_id))

    def events_are_taken(self) -> bool:
        """Whether the listening thread has taken all of them."""
        return self._events.empty()

    # --- what nvidia-ml-py sees

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in self.absent:
            raise AttributeError(name)
        if name not in SIGNATURES:
            raise AssertionError(f"the fake library has no {name}; add it with its signature from nvml.h")
        if name not in self._callbacks:
            result = c_void_p if name == "nvmlErrorString" else c_int
            self._callbacks[name] = ctypes.CFUNCTYPE(result, *SIGNATURES[name])(self._answering(name))
        return self._callbacks[name]

    def _answering(self, name: str) -> Callable[..., int]:
        answer = getattr(type(self), f"_{name}", None)

        def call(*arguments: Any) -> int:
            self.calls[name] += 1
            fault = self.faults.get(name)
            code = fault(*arguments) if callable(fault) else fault
            if code is not None:
                return code
            if name not in ("nvmlInitWithFlags", "nvmlErrorString") and not self.opened:
                return UNINITIALIZED
            if answer is not None:
                return int(answer(self, *arguments))
            return self._list_processes(name, *arguments)

        return call

    # --- library and machine

    def _nvmlInitWithFlags(self, flags: int) -> int:  # noqa: N802
        if self.init_code == SUCCESS:
            self.opened += 1
        return self.init_code

    def _nvmlShutdown(self) -> int:  # noqa: N802
        self.opened -= 1
        return SUCCESS

    def _nvmlErrorString(self, code: int) -> int:  # noqa: N802
        text = self._texts.setdefault(code, ctypes.create_string_buffer(f"code {code}".encode()))
        return ctypes.addressof(text)

    def _nvmlSystemGetDriverVersion(self, out: int, size: int) -> int:  # noqa: N802
        return put_text(out, size, self.driver)

    def _nvmlSystemGetNVMLVersion(self, out: int, size: int) -> int:  # noqa: N802
        return put_text(out, size, f"13.{self.driver}")

    def _nvmlDeviceGetCount_v2(self, out: int) -> int:  # noqa: N802
        return put_uint(out, len(self.gpus))

    def _nvmlDeviceGetHandleByIndex_v2(self, index: int, out: int) -> int:  # noqa: N802
        if index >= len(self.gpus):
            return INVALID
        return self._lost(self._address(index), named=True) or put_pointer(out, self._address(index))

    def _nvmlDeviceGetUUID(self, handle: int, out: int, size: int) -> int:  # noqa: N802
        mig = self._mig(handle)
        return self._lost(handle, named=True) or put_text(out, size, mig[2].uuid if mig else self._gpu(handle).uuid)

    def _nvmlDeviceGetName(self, handle: int, out: int, size: int) -> int:  # noqa: N802
        mig = self._mig(handle)
        name = self._gpu(handle).name
        return self._lost(handle, named=True) or put_text(out, size, f"{name} MIG {mig[2].name}" if mig else name)

    def _nvmlDeviceGetPciInfo_v3(self, handle: int, out: int) -> int:  # noqa: N802
        info = ctypes.cast(out, POINTER(pynvml.nvmlPciInfo_t)).contents
        info.busId = self._gpu(handle).bus_id.encode()
        info.busIdLegacy = self._gpu(handle).bus_id[4:].encode()
        return self._lost(handle) or SUCCESS

    # --- events

    def _nvmlEventSetCreate(self, out: int) -> int:  # noqa: N802
        self._next += 0x10
        self.event_sets.add(self._next)
        return put_pointer(out, self._next)

    def _nvmlEventSetFree(self, event_set: int) -> int:  # noqa: N802
        if event_set not in self.event_sets:
            return INVALID
        self.event_sets.remove(event_set)
        return SUCCESS

    def _nvmlDeviceRegisterEvents(self, handle: int, types: int, event_set: int) -> int:  # noqa: N802
        supported = self._gpu(handle).events
        if isinstance(supported, Code):
            return supported
        if types & ~supported or event_set not in self.event_sets:
            return INVALID
        self.registered.add(handle)
        return SUCCESS

    def _nvmlEventSetWait_v2(self, event_set: int, out: int, timeout_ms: int) -> int:  # noqa: N802
        try:
            device, code, gi_id = self._events.get(timeout=min(timeout_ms, 1) / 1000)
        except queue.Empty:
            return TIMEOUT
        data = ctypes.cast(out, POINTER(pynvml.c_nvmlEventData_t)).contents
        data.device = ctypes.cast(device, pynvml.c_nvmlDevice_t)
        data.eventType, data.eventData, data.gpuInstanceId = pynvml.nvmlEventTypeXidCriticalError, code, gi_id
        return SUCCESS

    # --- processes

    def _list_processes(self, name: str, handle: int, count: int, out: int) -> int:
        if self._lost(handle):
            return int(self._lost(handle) or 0)
        kind = {"nvmlDeviceGetCom": "compute", "nvmlDeviceGetGra": "graphics"}.get(name[:16], "mps")
        mig = self._mig(handle)
        gpu = self._gpu(handle)
        if mig is None and gpu.instances and not self.privileged:
            return NO_PERMISSION
        listed = (mig[2].processes if mig else gpu.processes).get(kind, [])
        gi_id, ci_id = (mig[1].gi_id, mig[2].ci_id) if mig else (NO_INSTANCE, NO_INSTANCE)
        room = ctypes.cast(count, POINTER(c_uint)).contents
        if room.value < len(listed):
            room.value = len(listed)
            return TOO_SMALL
        room.value = len(listed)
        if out:
            found = ctypes.cast(out, POINTER(pynvml.c_nvmlProcessInfo_v3_t))
            for place, process in enumerate(listed):
                put_process(found[place], process, gi_id, ci_id)
        return SUCCESS


@contextmanager
def installed(fake: FakeNvml) -> Iterator[FakeNvml]:
    """The fake in place of the library that nvidia-ml-py would load; what a reader opened must be closed at the end."""
    before = pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache), pynvml._nvmlLib_refcount
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlLib = fake
    try:
        yield fake
    finally:
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml.nvmlLib, cache, pynvml._nvmlLib_refcount = before
        pynvml._nvmlGetFunctionPointer_cache.update(cache)

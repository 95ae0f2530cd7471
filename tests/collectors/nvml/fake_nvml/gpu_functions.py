"""What NVML says about one GPU: memory, utilisation, power, clocks, errors and field values."""

import ctypes
from ctypes import POINTER

import pynvml

from tests.collectors.nvml.fake_nvml.callers_memory import (
    INVALID,
    NOT_SUPPORTED,
    SUCCESS,
    WRONG_VERSION,
    put_field,
    put_uint,
    put_ulonglong,
)
from tests.collectors.nvml.fake_nvml.handles import Machine
from tests.collectors.nvml.fake_nvml.machine import Code, FakeMemory


class GpuFunctions(Machine):
    """The functions about values."""

    def _memory_of(self, handle: int) -> FakeMemory | Code:
        mig = self._mig(handle)
        return mig[1].memory if mig else self._gpu(handle).memory

    def _nvmlDeviceGetMemoryInfo(self, handle: int, out: int) -> int:  # noqa: N802
        memory = self._memory_of(handle)
        if self._lost(handle) or isinstance(memory, Code):
            return int(self._lost(handle) or memory)
        info = ctypes.cast(out, POINTER(pynvml.c_nvmlMemory_t)).contents
        info.total, info.free, info.used = memory.total, memory.free, memory.used + memory.reserved
        return SUCCESS

    def _nvmlDeviceGetMemoryInfo_v2(self, handle: int, out: int) -> int:  # noqa: N802
        memory = self._memory_of(handle)
        if self._lost(handle) or isinstance(memory, Code):
            return int(self._lost(handle) or memory)
        info = ctypes.cast(out, POINTER(pynvml.c_nvmlMemory_v2_t)).contents
        if info.version != ctypes.sizeof(pynvml.c_nvmlMemory_v2_t) | 2 << 24:
            return WRONG_VERSION
        info.total, info.free, info.used, info.reserved = memory.total, memory.free, memory.used, memory.reserved
        return SUCCESS

    def _nvmlDeviceGetUtilizationRates(self, handle: int, out: int) -> int:  # noqa: N802
        gpu = self._gpu(handle)
        rates = gpu.utilization
        if self._lost(handle) or isinstance(rates, Code):
            return int(self._lost(handle) or rates)
        info = ctypes.cast(out, POINTER(pynvml.c_nvmlUtilization_t)).contents
        info.gpu, info.memory = rates
        return SUCCESS

    def _nvmlDeviceGetEncoderUtilization(self, handle: int, out: int, period: int) -> int:  # noqa: N802
        return self._lost(handle) or put_uint(period, 167_000) or put_uint(out, self._gpu(handle).encoder)

    def _nvmlDeviceGetDecoderUtilization(self, handle: int, out: int, period: int) -> int:  # noqa: N802
        return self._lost(handle) or put_uint(period, 167_000) or put_uint(out, self._gpu(handle).decoder)

    def _nvmlDeviceGetClockInfo(self, handle: int, clock: int, out: int) -> int:  # noqa: N802
        return self._lost(handle) or put_uint(out, self._gpu(handle).clocks_mhz.get(clock, Code(INVALID)))

    def _nvmlDeviceGetTemperatureV(self, handle: int, out: int) -> int:  # noqa: N802
        info = ctypes.cast(out, POINTER(pynvml.c_nvmlTemperature_v1_t)).contents
        if info.version != ctypes.sizeof(pynvml.c_nvmlTemperature_v1_t) | 1 << 24:
            return WRONG_VERSION
        told = self._lost(handle) or self._gpu(handle).temperature
        if isinstance(told, Code) or self._lost(handle):
            return int(told)
        info.temperature = told
        return SUCCESS

    def _nvmlDeviceGetTemperature(self, handle: int, sensor: int, out: int) -> int:  # noqa: N802
        return self._lost(handle) or put_uint(out, self._gpu(handle).temperature)

    def _nvmlDeviceGetPowerUsage(self, handle: int, out: int) -> int:  # noqa: N802
        return self._lost(handle) or put_uint(out, self._gpu(handle).power_mw)

    def _nvmlDeviceGetTotalEnergyConsumption(self, handle: int, out: int) -> int:  # noqa: N802
        return self._lost(handle) or put_ulonglong(out, self._gpu(handle).energy_mj)

    def _nvmlDeviceGetPcieReplayCounter(self, handle: int, out: int) -> int:  # noqa: N802
        return self._lost(handle) or put_uint(out, self._gpu(handle).pcie_replays)

    def _nvmlDeviceGetPcieThroughput(self, handle: int, direction: int, out: int) -> int:  # noqa: N802
        return self._lost(handle) or put_uint(out, self._gpu(handle).pcie_kb_per_s.get(direction, Code(INVALID)))

    def _nvmlDeviceGetCurrentClocksEventReasons(self, handle: int, out: int) -> int:  # noqa: N802
        return self._lost(handle) or put_ulonglong(out, self._gpu(handle).clock_reasons)

    def _nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int, out: int) -> int:  # noqa: N802
        return self._lost(handle) or put_ulonglong(out, self._gpu(handle).clock_reasons)

    def _nvmlDeviceGetViolationStatus(self, handle: int, policy: int, out: int) -> int:  # noqa: N802
        told = self._gpu(handle).violations_ns.get(policy, Code(INVALID))
        if self._lost(handle) or isinstance(told, Code):
            return int(self._lost(handle) or told)
        info = ctypes.cast(out, POINTER(pynvml.c_nvmlViolationTime_t)).contents
        info.referenceTime, info.violationTime = 1_795_311_426_243_750, told
        return SUCCESS

    def _nvmlDeviceGetTotalEccErrors(self, handle: int, kind: int, since: int, out: int) -> int:  # noqa: N802
        told = self._gpu(handle).ecc.get(kind, Code(INVALID)) if since == 0 else 999_999  # 1: all its life
        return self._lost(handle) or put_ulonglong(out, told)

    def _nvmlDeviceGetRemappedRows(self, handle: int, *out: int) -> int:  # noqa: N802
        told = self._gpu(handle).remapped_rows
        if self._lost(handle) or isinstance(told, Code):
            return int(self._lost(handle) or told)
        return next((code for place, value in zip(out, told, strict=True) if (code := put_uint(place, value))), SUCCESS)

    def _nvmlDeviceGetFieldValues(self, handle: int, count: int, out: int) -> int:  # noqa: N802
        if self._lost(handle):
            return int(self._lost(handle) or 0)
        gpu = self._gpu(handle)
        fields = ctypes.cast(out, POINTER(pynvml.c_nvmlFieldValue_t))
        for place in range(count):
            field = fields[place]
            if field.fieldId == pynvml.NVML_FI_DEV_MEMORY_TEMP:
                put_field(field, gpu.memory_temperature, pynvml.NVML_VALUE_TYPE_UNSIGNED_INT)
            elif field.fieldId == pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT:
                put_field(field, gpu.links, pynvml.NVML_VALUE_TYPE_UNSIGNED_INT)
            else:
                told = gpu.link_bytes.get((field.fieldId, field.scopeId), Code(NOT_SUPPORTED))
                put_field(field, told, pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG)
        return SUCCESS

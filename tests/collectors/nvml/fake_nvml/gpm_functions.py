"""GPM: samples in buffers of the driver, and metrics between two of them."""

import ctypes
from ctypes import POINTER, c_void_p
from typing import Any

import pynvml

from tests.collectors.nvml.fake_nvml.callers_memory import (
    INVALID,
    NOT_FOUND,
    NOT_SUPPORTED,
    SUCCESS,
    WRONG_VERSION,
    put_pointer,
)
from tests.collectors.nvml.fake_nvml.handles import Machine
from tests.collectors.nvml.fake_nvml.machine import Code, FakeGpu


class GpmFunctions(Machine):
    """The functions of GPM."""

    samples: dict[int, tuple[str, int | None, int] | None]  # GPU, GPU instance, sequence
    _next: int

    def _nvmlGpmQueryDeviceSupport(self, handle: int, out: int) -> int:  # noqa: N802
        support = ctypes.cast(out, POINTER(pynvml.c_nvmlGpmSupport_t)).contents
        if support.version != pynvml.NVML_GPM_SUPPORT_VERSION:
            return WRONG_VERSION
        support.isSupportedDevice = int(not isinstance(self._gpu(handle).gpm, Code))
        return self._lost(handle) or SUCCESS

    def _nvmlGpmSampleAlloc(self, out: int) -> int:  # noqa: N802
        self._next += 0x10
        self.samples[self._next] = None
        return put_pointer(out, self._next)

    def _nvmlGpmSampleFree(self, sample: int) -> int:  # noqa: N802
        return INVALID if self.samples.pop(sample, 0) == 0 else SUCCESS

    def _nvmlGpmSampleGet(self, handle: int, sample: int) -> int:  # noqa: N802
        return self._lost(handle) or self._take_sample(self._gpu(handle), None, sample)

    def _nvmlGpmMigSampleGet(self, handle: int, gi_id: int, sample: int) -> int:  # noqa: N802
        gpu = self._gpu(handle)
        if all(instance.gi_id != gi_id for instance in gpu.instances):
            return NOT_FOUND
        return self._lost(handle) or self._take_sample(gpu, gi_id, sample)

    def _take_sample(self, gpu: FakeGpu, gi_id: int | None, sample: int) -> int:
        if isinstance(gpu.gpm, Code) or sample not in self.samples:
            return NOT_SUPPORTED if sample in self.samples else INVALID
        self._next += 0x10
        self.samples[sample] = (gpu.uuid, gi_id, self._next)
        return SUCCESS

    def _nvmlGpmMetricsGet(self, out: int) -> int:  # noqa: N802
        request = ctypes.cast(out, POINTER(pynvml.c_nvmlGpmMetricsGet_t)).contents
        if request.version != pynvml.NVML_GPM_METRICS_GET_VERSION:
            return WRONG_VERSION
        older, newer = (
            self.samples.get(ctypes.cast(sample, c_void_p).value or 0) for sample in (request.sample1, request.sample2)
        )
        if older is None or newer is None or older[:2] != newer[:2] or older[2] >= newer[2]:
            return INVALID  # samples of two devices, in the wrong order, or never taken
        gpu = next(one for one in self.gpus if one.uuid == older[0])
        told: Any = gpu.gpm
        if older[1] is not None:
            told = next(one for one in gpu.instances if one.gi_id == older[1]).gpm
        for place in range(request.numMetrics):
            metric = request.metrics[place]
            value = told.get(metric.metricId, Code(NOT_SUPPORTED))
            metric.nvmlReturn = value if isinstance(value, Code) else SUCCESS
            metric.value = 0.0 if isinstance(value, Code) else value
        return SUCCESS

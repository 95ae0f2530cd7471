"""The functions of NVIDIA's C library that the fake has, with their types as in nvml.h."""

from ctypes import c_int, c_int32, c_uint, c_ulonglong, c_void_p
from typing import Any

H = c_void_p  # handles and pointers alike
_LIST = (H, H, H)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "nvmlInitWithFlags": (c_uint,),
    "nvmlShutdown": (),
    "nvmlErrorString": (c_int,),
    "nvmlSystemGetDriverVersion": (H, c_uint),
    "nvmlSystemGetNVMLVersion": (H, c_uint),
    "nvmlDeviceGetCount_v2": (H,),
    "nvmlDeviceGetHandleByIndex_v2": (c_uint, H),
    "nvmlDeviceGetUUID": (H, H, c_uint),
    "nvmlDeviceGetName": (H, H, c_uint),
    "nvmlDeviceGetPciInfo_v3": (H, H),
    "nvmlDeviceGetMigMode": (H, H, H),
    "nvmlDeviceGetMaxMigDeviceCount": (H, H),
    "nvmlDeviceGetMigDeviceHandleByIndex": (H, c_uint, H),
    "nvmlDeviceGetGpuInstanceId": (H, H),
    "nvmlDeviceGetComputeInstanceId": (H, H),
    "nvmlDeviceGetGpuInstanceById": (H, c_uint, H),
    "nvmlGpuInstanceGetInfo": (H, H),
    "nvmlDeviceGetGpuInstanceProfileInfoV": (H, c_uint, H),
    "nvmlDeviceGetGpuInstanceProfileInfoByIdV": (H, c_uint, H),
    "nvmlDeviceGetGpuInstancePossiblePlacements_v2": (H, c_uint, H, H),
    "nvmlDeviceGetMemoryInfo": (H, H),
    "nvmlDeviceGetMemoryInfo_v2": (H, H),
    "nvmlDeviceGetUtilizationRates": (H, H),
    "nvmlDeviceGetEncoderUtilization": (H, H, H),
    "nvmlDeviceGetDecoderUtilization": (H, H, H),
    "nvmlDeviceGetClockInfo": (H, c_uint, H),
    "nvmlDeviceGetTemperatureV": (H, H),
    "nvmlDeviceGetTemperature": (H, c_uint, H),
    "nvmlDeviceGetPowerUsage": (H, H),
    "nvmlDeviceGetTotalEnergyConsumption": (H, H),
    "nvmlDeviceGetPcieReplayCounter": (H, H),
    "nvmlDeviceGetPcieThroughput": (H, c_uint, H),
    "nvmlDeviceGetCurrentClocksEventReasons": (H, H),
    "nvmlDeviceGetCurrentClocksThrottleReasons": (H, H),
    "nvmlDeviceGetViolationStatus": (H, c_uint, H),
    "nvmlDeviceGetTotalEccErrors": (H, c_uint, c_uint, H),
    "nvmlDeviceGetRemappedRows": (H, H, H, H, H),
    "nvmlDeviceGetFieldValues": (H, c_int32, H),
    "nvmlGpmQueryDeviceSupport": (H, H),
    "nvmlGpmSampleAlloc": (H,),
    "nvmlGpmSampleFree": (H,),
    "nvmlGpmSampleGet": (H, H),
    "nvmlGpmMigSampleGet": (H, c_uint, H),
    "nvmlGpmMetricsGet": (H,),
    "nvmlEventSetCreate": (H,),
    "nvmlEventSetFree": (H,),
    "nvmlDeviceRegisterEvents": (H, c_ulonglong, H),
    "nvmlEventSetWait_v2": (H, H, c_uint),
    **{
        f"nvmlDeviceGet{kind}RunningProcesses_{version}": _LIST
        for kind in ("Compute", "Graphics", "MPSCompute")
        for version in ("v2", "v3")
    },
}

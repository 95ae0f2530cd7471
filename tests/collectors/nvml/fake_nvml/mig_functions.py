"""What NVML says about MIG: modes, devices, instances, profiles and placements."""

import ctypes
from ctypes import POINTER, c_uint

import pynvml

from tests.collectors.nvml.fake_nvml.callers_memory import (
    INVALID,
    NO_PERMISSION,
    NOT_FOUND,
    NOT_SUPPORTED,
    SUCCESS,
    TOO_SMALL,
    WRONG_VERSION,
    put_pointer,
    put_uint,
)
from tests.collectors.nvml.fake_nvml.handles import Machine
from tests.collectors.nvml.fake_nvml.machine import Code


class MigFunctions(Machine):
    """The functions about MIG."""

    def _nvmlDeviceGetMigMode(self, handle: int, current: int, pending: int) -> int:  # noqa: N802
        mode = self._gpu(handle).mig_mode
        if isinstance(mode, Code):
            return mode
        return put_uint(current, mode[0]) or put_uint(pending, mode[1])

    def _nvmlDeviceGetMaxMigDeviceCount(self, handle: int, out: int) -> int:  # noqa: N802
        return put_uint(out, self._gpu(handle).max_mig_devices)

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, index: int, out: int) -> int:  # noqa: N802
        if self._lost(handle):
            return int(self._lost(handle) or 0)
        address = handle + index + 1
        return NOT_FOUND if self._mig(address) is None else put_pointer(out, address)

    def _nvmlDeviceGetGpuInstanceId(self, handle: int, out: int) -> int:  # noqa: N802
        mig = self._mig(handle)
        return INVALID if mig is None else put_uint(out, mig[1].gi_id)

    def _nvmlDeviceGetComputeInstanceId(self, handle: int, out: int) -> int:  # noqa: N802
        mig = self._mig(handle)
        return INVALID if mig is None else put_uint(out, mig[2].ci_id)

    def _nvmlDeviceGetGpuInstanceById(self, handle: int, gi_id: int, out: int) -> int:  # noqa: N802
        if not self.privileged:
            return NO_PERMISSION
        if all(instance.gi_id != gi_id for instance in self._gpu(handle).instances):
            return NOT_FOUND
        return put_pointer(out, handle + 0x1000 + gi_id)

    def _nvmlGpuInstanceGetInfo(self, handle: int, out: int) -> int:  # noqa: N802
        gpu, gi_id = self._gpu(handle), handle % 0x1000
        instance = next(one for one in gpu.instances if one.gi_id == gi_id)
        info = ctypes.cast(out, POINTER(pynvml.c_nvmlGpuInstanceInfo_t)).contents
        info.id, info.profileId = gi_id, instance.profile_id
        info.placement.start, info.placement.size = instance.start, instance.size
        return SUCCESS

    def _nvmlDeviceGetGpuInstanceProfileInfoV(self, handle: int, number: int, out: int) -> int:  # noqa: N802
        profiles = self._gpu(handle).profiles
        return self._profile_info(handle, profiles[number].profile_id, out) if number < len(profiles) else NOT_SUPPORTED

    def _nvmlDeviceGetGpuInstanceProfileInfoByIdV(self, handle: int, profile_id: int, out: int) -> int:  # noqa: N802
        return self._profile_info(handle, profile_id, out)

    def _profile_info(self, handle: int, profile_id: int, out: int) -> int:
        info = ctypes.cast(out, POINTER(pynvml.c_nvmlGpuInstanceProfileInfo_v2_t)).contents
        if info.version != pynvml.nvmlGpuInstanceProfileInfo_v2:
            return WRONG_VERSION
        profile = next((one for one in self._gpu(handle).profiles if one.profile_id == profile_id), None)
        if profile is None:
            return INVALID
        info.id, info.sliceCount, info.memorySizeMB = profile.profile_id, profile.slices, profile.memory_mib
        info.multiprocessorCount, info.name = profile.multiprocessors, f"MIG {profile.name}".encode()
        return SUCCESS

    def _nvmlDeviceGetGpuInstancePossiblePlacements_v2(  # noqa: N802
        self, handle: int, profile_id: int, out: int, count: int
    ) -> int:
        if not self.privileged:
            return NO_PERMISSION
        profile = next((one for one in self._gpu(handle).profiles if one.profile_id == profile_id), None)
        if profile is None:
            return INVALID
        room = ctypes.cast(count, POINTER(c_uint)).contents
        if room.value < len(profile.placements):
            return TOO_SMALL
        placements = ctypes.cast(out, POINTER(pynvml.c_nvmlGpuInstancePlacement_t))
        for place, (start, size) in enumerate(profile.placements):
            placements[place].start, placements[place].size = start, size
        room.value = len(profile.placements)
        return SUCCESS

"""Handles: addresses that name a GPU, a MIG device in it, or a GPU instance; nobody reads what lies there."""

from tests.collectors.nvml.fake_nvml.machine import FakeComputeInstance, FakeGpu, FakeInstance


class Machine:
    """The GPUs behind the library, and what its handles mean."""

    gpus: list[FakeGpu]
    driver: str
    privileged: bool
    opened: int

    def _address(self, gpu: int) -> int:
        return 0x1000_0000 + 0x1_0000 * gpu

    def _gpu(self, handle: int) -> FakeGpu:
        return self.gpus[(handle - 0x1000_0000) // 0x1_0000]

    def _mig(self, handle: int) -> tuple[FakeGpu, FakeInstance, FakeComputeInstance] | None:
        gpu, index = self._gpu(handle), handle % 0x1_0000 - 1
        for instance in gpu.instances:
            for device in instance.compute_instances:
                if device.index == index:
                    return gpu, instance, device
        return None

    def _lost(self, handle: int, *, named: bool = False) -> int | None:
        gpu = self._gpu(handle)
        return None if gpu.lost is None or (named and gpu.lost_but_named) else gpu.lost

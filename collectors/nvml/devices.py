"""Which GPUs there are, and what they are cut into: MIG mode, GPU instances, and the MIG devices in them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from collectors.nvml.gaps import GapBook
from collectors.nvml.library import Library
from collectors.nvml.refusals import Kind, Refusal
from collectors.nvml.wire import bus_id_of, instance_profile_of, mig_name_of, mig_uuid_of, name_of, uuid_of
from planner.hardware import MigMode
from planner.readings import ComputeInstanceFact, InstanceFact, Subject
from planner.units import GpuUuid

MAX_MIG_DEVICES = 7
"""How many MIG devices are looked for where NVML does not say how many there can be."""

PROFILE_UNKNOWN = "unknown"


@dataclass(slots=True, kw_only=True)
class MigDevice:
    """A compute instance with the handle that NVML gives for it; its memory is that of its whole GPU instance."""

    handle: Any
    gi_id: int
    ci_id: int | None
    name: str | None  # 1c.3g.71gb
    uuid: str | None


@dataclass(slots=True, kw_only=True)
class Instance:
    """A GPU instance and the MIG devices that share it."""

    gi_id: int
    devices: list[MigDevice] = field(default_factory=list)
    profile: str = PROFILE_UNKNOWN
    start: int | None = None

    def fact(self) -> InstanceFact:
        """The instance in the planner's words."""
        return InstanceFact(
            gi_id=self.gi_id,
            profile=self.profile,
            start=self.start,
            compute_instances=tuple(
                ComputeInstanceFact(ci_id=device.ci_id, profile=device.name, mig_uuid=device.uuid)
                for device in sorted(self.devices, key=lambda device: -1 if device.ci_id is None else device.ci_id)
            ),
        )


@dataclass(slots=True, kw_only=True)
class Gpu:
    """A GPU that answers. `instances_known` is False when some could not be read: then nobody may call them gone."""

    handle: Any
    index: int
    uuid: GpuUuid
    model_name: str | None
    pci_bus_id: str | None
    mig_mode: MigMode | None
    is_cut: bool  # MIG mode is on at this moment
    instances: tuple[Instance, ...] = ()
    instances_known: bool = True

    @property
    def whole(self) -> Subject:
        """The GPU as what readings are about."""
        return Subject(gpu_uuid=self.uuid)

    def devices(self) -> Iterator[tuple[Subject, Instance | None]]:
        """What work is placed on: its GPU instances where MIG is on, else the GPU."""
        if not self.is_cut:
            yield self.whole, None
        for instance in self.instances:
            yield Subject(gpu_uuid=self.uuid, gi_id=instance.gi_id), instance


def identify(library: Library, index: int, gaps: GapBook) -> tuple[Any, GpuUuid] | None:
    """The handle and the UUID of the GPU of that index; None when it does not say who it is, which a gap explains.

    Raises GpuLost, CollectorError.
    """
    here = f"GPU {index}"
    handle = library.call("nvmlDeviceGetHandleByIndex", index, about=here)
    if isinstance(handle, Refusal):
        gaps.note(here, None, f"nothing of this GPU is read: {handle.reason}")
        return None
    told = library.call("nvmlDeviceGetUUID", handle, about=here)
    uuid = None if isinstance(told, Refusal) else uuid_of(told)
    if uuid is None:
        reason = told.reason if isinstance(told, Refusal) else "its UUID is none"
        gaps.note(here, None, f"nothing of this GPU is read, as nobody could tell later which it was: {reason}")
        return None
    return handle, GpuUuid(uuid)


def describe(library: Library, index: int, handle: Any, uuid: GpuUuid, gaps: GapBook) -> Gpu:
    """The GPU with its instances; raises GpuLost, CollectorError."""
    gpu = Gpu(
        handle=handle,
        index=index,
        uuid=uuid,
        model_name=_text(library, "nvmlDeviceGetName", handle, uuid, "its product name", gaps),
        pci_bus_id=_bus_id(library, handle, uuid, gaps),
        mig_mode=None,
        is_cut=False,
    )
    _find_instances(library, gpu, gaps)
    return gpu


def _text(library: Library, function: str, handle: Any, about: str, what: str, gaps: GapBook) -> str | None:
    told = library.call(function, handle, about=about)
    if isinstance(told, Refusal):
        gaps.note(about, None, f"{what} is not known: {told.reason}")
        return None
    return name_of(told)


def _bus_id(library: Library, handle: Any, uuid: str, gaps: GapBook) -> str | None:
    told = library.call("nvmlDeviceGetPciInfo", handle, about=uuid)
    if isinstance(told, Refusal):
        gaps.note(uuid, None, f"its PCI address is not known: {told.reason}")
        return None
    return bus_id_of(told)


def _find_instances(library: Library, gpu: Gpu, gaps: GapBook) -> None:
    mode = library.call("nvmlDeviceGetMigMode", gpu.handle, about=gpu.uuid)
    if isinstance(mode, Refusal):
        if mode.kind is Kind.UNSUPPORTED:  # a board without MIG
            gpu.mig_mode = MigMode.DISABLED
            return
        gaps.note(gpu.whole, None, f"MIG mode is not known: {mode.reason}")
    else:
        current, pending = mode
        gpu.is_cut = current == 1
        if current != pending:
            gpu.mig_mode = MigMode.PENDING
        else:
            gpu.mig_mode = MigMode.ENABLED if gpu.is_cut else MigMode.DISABLED
        if not gpu.is_cut:
            return
    instances: dict[int, Instance] = {}
    for device in _mig_devices(library, gpu, gaps):
        instances.setdefault(device.gi_id, Instance(gi_id=device.gi_id)).devices.append(device)
    gpu.is_cut = gpu.is_cut or bool(instances)
    for instance in instances.values():
        _describe_instance(library, gpu, instance, gaps)
    gpu.instances = tuple(instances[gi_id] for gi_id in sorted(instances))


def _mig_devices(library: Library, gpu: Gpu, gaps: GapBook) -> Iterator[MigDevice]:
    most = library.call("nvmlDeviceGetMaxMigDeviceCount", gpu.handle, about=gpu.uuid)
    for index in range(MAX_MIG_DEVICES if isinstance(most, Refusal) else int(most)):
        handle = library.call("nvmlDeviceGetMigDeviceHandleByIndex", gpu.handle, index, about=gpu.uuid)
        if isinstance(handle, Refusal) and handle.kind is Kind.NOT_FOUND:
            continue  # the numbers have holes
        about = f"{gpu.uuid}/MIG device {index}"
        gi_id = handle
        if not isinstance(handle, Refusal):
            gi_id = library.call("nvmlDeviceGetGpuInstanceId", handle, about=about)
        if isinstance(gi_id, Refusal):
            gpu.instances_known = False
            gaps.note(about, None, f"this MIG device is left out: {gi_id.reason}")
            continue
        yield _mig_device(library, handle, int(gi_id), about)


def _mig_device(library: Library, handle: Any, gi_id: int, about: str) -> MigDevice:
    ci_id = library.call("nvmlDeviceGetComputeInstanceId", handle, about=about)
    name = library.call("nvmlDeviceGetName", handle, about=about)
    uuid = library.call("nvmlDeviceGetUUID", handle, about=about)
    return MigDevice(
        handle=handle,
        gi_id=gi_id,
        ci_id=None if isinstance(ci_id, Refusal) else int(ci_id),
        name=None if isinstance(name, Refusal) else mig_name_of(name),
        uuid=None if isinstance(uuid, Refusal) else mig_uuid_of(uuid),
    )


def _describe_instance(library: Library, gpu: Gpu, instance: Instance, gaps: GapBook) -> None:
    """Profile and placement: the name of a MIG device tells the one, the GPU instance itself the other."""
    subject = Subject(gpu_uuid=gpu.uuid, gi_id=instance.gi_id)
    about = str(subject)
    info = library.call("nvmlDeviceGetGpuInstanceById", gpu.handle, instance.gi_id, about=about)
    if not isinstance(info, Refusal):
        info = library.call("nvmlGpuInstanceGetInfo", info, about=about)
    if isinstance(info, Refusal):
        gaps.note(subject, None, f"where this GPU instance lies is not known: {info.reason}")
    else:
        instance.start = int(info.placement.start)
    name = next((device.name for device in instance.devices if device.name is not None), None)
    if name is None and not isinstance(info, Refusal):
        function = "nvmlDeviceGetGpuInstanceProfileInfoById"
        profile = library.call(function, gpu.handle, int(info.profileId), about=about)
        name = None if isinstance(profile, Refusal) else mig_name_of(profile.name)
    if name is None:
        gaps.note(subject, None, "which profile this GPU instance has is not known: no name and no profile is told")
        return
    instance.profile = instance_profile_of(name)

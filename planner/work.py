"""What work a board's GPUs hold: which devices must be placed, on what profile, and which must not or cannot be."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.catalog import find_profile
from planner.fleet import Device, DeviceState, Gpu
from planner.hardware import Board, Profile
from planner.need import AdviceSettings, Need, measured_need
from planner.profile_choice import ProfileChoice, choose_profile
from planner.sentences import spelled_count, spelled_pods
from planner.units import MIB

NVLINK_IN_USE_BYTES_PER_S = MIB
"""NVLink traffic above this, at the 95th percentile, is peers that exchange data: MIG devices cannot."""

_NVLINK_METRICS = ("nvlink_bytes_per_s", "nvlink_tx_bytes_per_s", "nvlink_rx_bytes_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One device whose work must be placed, what it needs and what it gets; a profile of None is a whole GPU."""

    device: Device
    present: Profile | None
    target: Profile | None
    need: Need
    is_pinned: bool  # keeps its present profile, whatever was measured
    is_too_small_now: bool
    spans_gpus: bool  # part of something that uses several whole GPUs together
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardWork:
    """All that the GPUs of one board hold."""

    placed: tuple[Work, ...]
    held: tuple[Device, ...]  # allocated without a process
    left: tuple[tuple[Device, str], ...]  # on GPUs that cannot be planned, with the reason
    gpus_left: int  # GPUs that stay as they are because of them
    gpus_in_use: int


def devices_of(gpu: Gpu) -> tuple[Device, ...]:
    """The GPU's instances where there are any, else the whole GPU."""
    if not gpu.instances:
        return (Device(gpu=gpu, instance=None),)
    return tuple(Device(gpu=gpu, instance=instance) for instance in gpu.instances)


def holds_anything(device: Device) -> bool:
    """Whether the device is not free."""
    return device.verdict.state is not DeviceState.FREE


def board_work(board: Board, gpus: Iterable[Gpu], settings: AdviceSettings) -> BoardWork:
    """What the GPUs of one board in one cluster hold, in an order that does not depend on theirs."""
    gpus = sorted(gpus, key=lambda gpu: (gpu.node, gpu.index if gpu.index is not None else -1, gpu.uuid))
    pods_of_several = _pods_of_several_gpus(gpus)
    placed: list[Work] = []
    held: list[Device] = []
    left: list[tuple[Device, str]] = []
    gpus_left = gpus_in_use = 0
    for gpu in gpus:
        devices = sorted(
            (device for device in devices_of(gpu) if holds_anything(device)),
            key=lambda device: device.instance.gi_id if device.instance else -1,
        )
        gpus_in_use += bool(devices)
        held += [device for device in devices if device.verdict.state is DeviceState.HELD]
        working = [device for device in devices if device.verdict.state is not DeviceState.HELD]
        unknown = [i.profile for i in gpu.instances if find_profile(board, i.profile) is None]
        if unknown and working:
            gpus_left += 1
            reason = f"The catalogue knows no profile {unknown[0]} of {board.name}, so this GPU is left as it is."
            left += [(device, reason) for device in working]
        else:
            placed += [_work(board, device, pods_of_several, settings) for device in working]
    return BoardWork(
        placed=tuple(placed), held=tuple(held), left=tuple(left), gpus_left=gpus_left, gpus_in_use=gpus_in_use
    )


def _pods_of_several_gpus(gpus: Sequence[Gpu]) -> frozenset[tuple[str, str]]:
    counts = Counter(
        pod for gpu in gpus if not gpu.instances for pod in {(pod.namespace, pod.name) for pod in gpu.pods}
    )
    return frozenset(pod for pod, count in counts.items() if count > 1)


def _work(board: Board, device: Device, pods_of_several: frozenset[tuple[str, str]], settings: AdviceSettings) -> Work:
    present = find_profile(board, device.instance.profile) if device.instance else None
    need = measured_need(device, settings)
    together = _why_together(device, pods_of_several) if present is None else None
    if together is not None:
        choice = ProfileChoice(
            profile=None, is_known=True, is_too_small_now=need.is_saturated, reasons=(*need.reasons, together)
        )
    else:
        choice = choose_profile(board, device, need, settings)
    shared: tuple[str, ...] = ()
    if len(device.pods) > 1:
        count = spelled_count(len(device.pods), "pod")
        shared = (f"{count} share it ({spelled_pods(device.pods)}); what was measured is theirs together.",)
    return Work(
        device=device,
        present=present,
        target=choice.profile,
        need=need,
        is_pinned=together is not None or not choice.is_known,
        is_too_small_now=choice.is_too_small_now,
        spans_gpus=together is not None,
        reasons=(*choice.reasons, *shared),
    )


def _why_together(device: Device, pods_of_several: frozenset[tuple[str, str]]) -> str | None:
    """Why a whole GPU is part of something larger, as a sentence; None when nothing says so."""
    for pod in device.pods:
        if (pod.namespace, pod.name) in pods_of_several:
            return (
                f"{pod.namespace}/{pod.name} holds several whole GPUs; it needs them whole, as MIG devices cannot work "
                "together on one model."
            )
    metrics = device.usage.metrics if device.usage else {}
    for name in _NVLINK_METRICS:
        traffic = metrics.get(name)
        if traffic is not None and traffic.p95 > NVLINK_IN_USE_BYTES_PER_S:
            return f"It exchanges {traffic.p95 / MIB:.0f} MiB/s over NVLink, which MIG devices cannot."
    return None

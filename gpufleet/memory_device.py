"""The device that somebody names: a board of the catalogue, one of its MIG devices, or only an amount of memory."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gpufleet.errors import ShellError
from planner.catalog import LONGEST_NAME, find_profile, load_catalog
from planner.errors import UnknownBoard, UnknownProfile
from planner.hardware import Board
from planner.memory.devices import MeasuredMemory, device_of, unlisted_device
from planner.memory.errors import UnknownMemory
from planner.memory.estimate import Basis, Device

_VENDOR_WORDS = frozenset({"nvidia", "geforce", "tesla"})
_ASIDE = re.compile(r"\([^()]*\)|\bx\d+$")  # "NVIDIA L40S (AWS G6e)", "GB10 x2"


def device_for(
    gpu: str | None,
    mig: str | None,
    memory_bytes: int | None,
    measured: Mapping[str, MeasuredMemory] | None = None,
) -> Device:
    """The device of these options; one that the catalogue does not know needs its memory stated.

    A name that several boards bear, such as "H100", is taken for the one with the least memory; the source says so.
    """
    if gpu is None:
        if memory_bytes is None:
            raise ShellError("no device is named; give --gpu BOARD, or --device-memory-bytes for one of any name.")
        if mig is not None:
            raise ShellError(f"--mig {mig!r} says nothing without its board; give --gpu BOARD too.")
        return unlisted_device(memory_bytes)
    try:
        return _catalogued(board_named(gpu, memory_bytes), mig, memory_bytes, measured)
    except UnknownBoard:
        alike = _boards_with_words_of(gpu)
        if memory_bytes is None:
            devices = tuple(_known_among(alike, mig, measured))
            if not devices:
                raise
            return _least(gpu, devices)
    architectures = {board.architecture for board in alike}
    device = unlisted_device(memory_bytes, gpu if mig is None else f"{gpu} {mig}", is_mig=mig is not None)
    return replace(device, architecture=architectures.pop() if len(architectures) == 1 else "")


def board_named(name: str, memory_bytes: int | None = None) -> Board:
    """By the name that a driver prints, catalogue id or alias; raises UnknownBoard with the nearest ids."""
    catalog = load_catalog()
    return catalog.board_for(name) or catalog.board_for(name, memory_bytes) or catalog.board(name)


def _least(gpu: str, devices: Sequence[Device]) -> Device:
    """The device with the least memory: an answer for it holds for the others too."""
    least = min(devices, key=lambda device: device.memory_bytes)
    given = repr(gpu[:LONGEST_NAME])
    if len(devices) == 1:
        return replace(least, source=f"{least.source}; {given} was read as {least.name}")
    names = " or ".join(device.name for device in devices)
    if len({device.memory_bytes for device in devices}) == 1:
        return replace(least, source=f"{least.source}; {given} may be {names}")
    source = f"{least.source}; {given} may be {names}, and the one with the least memory was taken"
    return replace(least, basis=Basis.ASSUMED, source=source)


def _catalogued(
    board: Board, mig: str | None, memory_bytes: int | None, measured: Mapping[str, MeasuredMemory] | None
) -> Device:
    if mig is None:
        return device_of(board, memory_bytes=memory_bytes, measured=measured or {})
    profile = find_profile(board, mig) or load_catalog().profile(board, mig)
    return device_of(board, profile, memory_bytes=memory_bytes, measured=measured or {})


def _known_among(
    boards: Sequence[Board], mig: str | None, measured: Mapping[str, MeasuredMemory] | None
) -> Iterator[Device]:
    """The device on each of these boards that has such a profile and whose memory is known."""
    for board in boards:
        try:
            yield _catalogued(board, mig, None, measured)
        except (UnknownProfile, UnknownMemory):
            continue


def _boards_with_words_of(name: str) -> tuple[Board, ...]:
    """Boards that bear every word of the name: "NVIDIA H100 80GB" is one of two, and both have the same memory."""
    words = _words(_ASIDE.sub(" ", name[:LONGEST_NAME]).strip()) - _VENDOR_WORDS
    if not words:
        return ()
    return tuple(board for board in load_catalog().boards if words <= _words_of(board))


def _words_of(board: Board) -> frozenset[str]:
    return _words(" ".join((board.name, board.architecture, *board.product_names)))


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", text.lower()))

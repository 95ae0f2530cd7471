"""Whether the driver's own table of profiles and placements is that of our catalogue; asked once per board, read-only.

A plan rests on the catalogue. Where the driver of this very machine says something else, the driver is right.
"""

import ctypes
from collections.abc import Iterator

from collectors.nvml.devices import Gpu
from collectors.nvml.gaps import GapBook
from collectors.nvml.library import Library
from collectors.nvml.refusals import Refusal
from collectors.nvml.wire import instance_profile_of, mig_name_of
from planner.catalog import find_profile, load_catalog
from planner.hardware import Board

PROFILE_COUNT = 18  # NVML_GPU_INSTANCE_PROFILE_COUNT of nvidia-ml-py 13.615.71
MAX_PLACEMENTS = 64


class BoardCheck:
    """Compares each kind of board once per opening of the library, and repeats what it found."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._found: dict[str, tuple[str, ...]] = {}

    def has_asked(self, gpu: Gpu) -> bool:
        """Whether this kind of board was compared before."""
        return gpu.model_name is None or gpu.model_name in self._found

    def note(self, gpu: Gpu, memory_total_bytes: float | None, gaps: GapBook) -> None:
        """Say where driver and catalogue disagree about this kind of board; raises GpuLost, CollectorError."""
        if gpu.model_name is None or gpu.mig_mode is None:
            return
        if gpu.model_name not in self._found:
            board = load_catalog().board_for(gpu.model_name, memory_total_bytes)
            known = board is not None and board.is_mig_capable
            self._found[gpu.model_name] = tuple(self._disagreements(gpu, board)) if known and board else ()
        for reason in self._found[gpu.model_name]:
            gaps.note(None, None, reason)

    def _disagreements(self, gpu: Gpu, board: Board) -> Iterator[str]:
        offered: set[str] = set()
        unread: Refusal | None = None
        for number in range(PROFILE_COUNT):
            info = self._library.call("nvmlDeviceGetGpuInstanceProfileInfo", gpu.handle, number, about=gpu.uuid)
            if isinstance(info, Refusal):
                if number == 0:
                    unread = info  # every board has this one, 1g
                continue
            told = mig_name_of(info.name)
            if told is None:
                continue
            name = instance_profile_of(told)
            profile = find_profile(board, name)
            if profile is None:
                yield f"the driver offers {name} on {board.name}, which the catalogue does not have: no plan uses it"
                continue
            offered.add(profile.name)
            placements = self._placements(gpu, int(info.id))
            if isinstance(placements, Refusal):
                unread = placements
                continue
            ours = {(one.start, one.size) for one in profile.placements}
            if ours and placements != ours:
                yield (
                    f"the driver lets {name} of {board.name} lie at {_spelled(placements)}, the catalogue says "
                    f"{_spelled(ours)}: plans for this board may be wrong; please report it"
                )
        missing = sorted({profile.name for profile in board.profiles} - offered)
        if offered and missing:
            listed = ", ".join(missing)
            yield f"this driver does not offer {listed} on {board.name}, which plans may use: exclude them"
        if unread is not None and gpu.is_cut:  # old drivers tell nothing of it while MIG is off, and nothing is lost
            yield f"the catalogue's placements of {board.name} could not be held against the driver's: {unread.reason}"

    def _placements(self, gpu: Gpu, profile_id: int) -> set[tuple[int, int]] | Refusal:
        count = ctypes.c_uint(MAX_PLACEMENTS)
        found = self._library.array("c_nvmlGpuInstancePlacement_t", MAX_PLACEMENTS)
        function = "nvmlDeviceGetGpuInstancePossiblePlacements"
        answer = self._library.call(function, gpu.handle, profile_id, found, ctypes.byref(count), about=gpu.uuid)
        if isinstance(answer, Refusal):
            return answer
        return {(int(one.start), int(one.size)) for one in found[: min(count.value, MAX_PLACEMENTS)]}


def _spelled(placements: set[tuple[int, int]]) -> str:
    return ", ".join(f"{start}:{size}" for start, size in sorted(placements)) or "no place"

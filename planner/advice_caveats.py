"""What a reader must know before acting on the advice for one board."""

from collections.abc import Iterator

from planner.hardware import Board, Evidence, Profile
from planner.need import ComputeBasis, MemoryBasis
from planner.packing import Packing
from planner.sentences import spelled_count, spelled_window
from planner.work import BoardWork, Work


def caveats(board: Board, work: BoardWork, packing: Packing) -> tuple[str, ...]:
    """Sentences, the gravest first: growth, what is not placed or not known, weak evidence, what acting takes."""
    if not work.placed and not work.left:
        return tuple(_released(work))
    return (
        *_growth(work, packing),
        *_released(work),
        *_optimality(packing),
        *_unknown_needs(work),
        *_bases(work),
        *_unseen_processes(work),
        *board.cautions,
        *_unknown_capacity(board),
        *_evidence(board, work),
        *_acting(board, work),
    )


def _growth(work: BoardWork, packing: Packing) -> Iterator[str]:
    too_small = sum(item.is_too_small_now for item in work.placed)
    if too_small:
        yield f"{spelled_count(too_small, 'device')} had no idle SM at the 95th percentile: already too small."
    needed = packing.gpus + work.gpus_left
    if needed > work.gpus_in_use:
        yield (
            f"The proposal takes {needed} GPUs and the work sits on {work.gpus_in_use} now, because devices that are "
            "too small get more."
        )


def _released(work: BoardWork) -> Iterator[str]:
    if work.held:
        devices = spelled_count(len(work.held), "device")
        yield f"{devices} allocated without a process: not placed, and only free once the pods that hold them let go."


def _optimality(packing: Packing) -> Iterator[str]:
    if not packing.is_optimal:
        yield (
            f"The number of GPUs is not proven least: {packing.lower_bound} would be the limit, a gap of "
            f"{packing.gap_ratio:.1%}. Raise the solver's time limit."
        )


def _unknown_needs(work: BoardWork) -> Iterator[str]:
    unknown = [item for item in work.placed if item.is_pinned and not item.spans_gpus]
    if unknown:
        devices = spelled_count(len(unknown), "device")
        yield f"The need of {devices} is not known; they count as in use and keep what they have."
    if work.gpus_left:
        yield f"{spelled_count(work.gpus_left, 'GPU')} cannot be planned; counted, and left as they are."


def _bases(work: BoardWork) -> Iterator[str]:
    known = [item for item in work.placed if not item.is_pinned]
    reserved = sum(item.need.memory_basis is MemoryBasis.RESERVATION for item in known)
    if reserved:
        yield (
            f"The memory of {spelled_count(reserved, 'device')} looks like an engine's reservation, so what they need "
            "cannot be seen; the reservation is kept. Lowering it in the engine may free more."
        )
    bounded = sum(item.need.compute_basis in {ComputeBasis.GR_ENGINE, ComputeBasis.GPU_BUSY} for item in known)
    if bounded:
        yield (
            f"SM activity is missing for {spelled_count(bounded, 'device')}; the share of time in which anything ran "
            "stands for it, which is more than they need."
        )
    unseen = sum(item.need.bandwidth_ratio is None and item.present != item.target for item in known)
    if unseen:
        yield (
            f"Memory bandwidth of {spelled_count(unseen, 'device')} that get a smaller profile is not reported; "
            "token generation slows down where bandwidth is short."
        )
    usages = [item.device.usage for item in known if item.device.usage]
    if usages:
        shortest = min(usages, key=lambda usage: usage.end - usage.start)
        yield f"Needs are those of {spelled_window(shortest.start, shortest.end)}; peaks outside are not in them."


def _unseen_processes(work: BoardWork) -> Iterator[str]:
    cut = sum(_is_cut(item) and not item.device.pods for item in work.placed)
    if cut:
        yield (
            f"No source names what runs on {spelled_count(cut, 'whole GPU')} to be cut; a process that spans several "
            "GPUs needs them whole."
        )
    if any(item.spans_gpus for item in work.placed):
        yield "Pods that hold several GPUs need them on one node; the proposal counts GPUs, not nodes."


def _unknown_capacity(board: Board) -> Iterator[str]:
    """What the board's cautions mean for the advice, which takes nothing that is not known to be enough."""
    unknown = [profile.name for profile in board.profiles if profile.memory_bytes is None or profile.sm_count is None]
    if unknown and len(unknown) == len(board.profiles):
        yield f"As no profile of {board.name} is known to be enough, every device keeps the profile it has."
    elif unknown:
        yield f"Nothing is moved onto {', '.join(unknown)}, as they are not known to be enough."


def _evidence(board: Board, work: BoardWork) -> Iterator[str]:
    used = {item.target.name: item.target for item in work.placed if item.target}
    weak = [name for name, profile in sorted(used.items()) if _is_weak(profile)]
    if weak:
        yield (
            f"Placements of {', '.join(weak)} are carried over from the same chip or family, not read from "
            f"{board.name} itself; compare with `nvidia-smi mig -lgipp` first."
        )


def _is_weak(profile: Profile) -> bool:
    return profile.evidence_of("placements") is not Evidence.CAPTURED


def _is_cut(item: Work) -> bool:
    return item.present is None and item.target is not None


def _acting(board: Board, work: BoardWork) -> Iterator[str]:
    if any(_is_cut(item) for item in work.placed) and board.mig_enable_resets_gpu:
        yield f"Enabling MIG mode on {board.name} resets the GPU, so its work has to be drained first."
    if len({item.target.name if item.target else None for item in work.placed}) > 1:
        yield "Nodes with several profiles need the device plugin's MIG strategy `mixed`; `single` allows one per node."
    if any(item.present != item.target for item in work.placed):
        yield "An instance must be idle to be changed. Which physical GPU becomes which is not part of this advice."

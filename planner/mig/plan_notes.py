"""What a plan leans on that nobody measured, and what it left out: sentences that go with it."""

from collections.abc import Iterable, Sequence

from planner.hardware import Board, Evidence
from planner.mig.plan import TargetGpu
from planner.mig.state import State
from planner.mig_geometry import planning_obstacle
from planner.sentences import spelled_count


def notes(state: State, gpus: Sequence[TargetGpu]) -> tuple[str, ...]:
    """The sentences of a plan, in a fixed order and each once."""
    found: list[str] = []
    assumed = sum(present.is_assumed for present in state.gpus)
    if assumed:
        found.append(
            f"No source tells where the instances of {spelled_count(assumed, 'GPU')} lie: the plan uses an arrangement "
            "in which they can exist together, and its first steps compare that with the real one."
        )
    if state.left_out:
        found.append(
            f"{spelled_count(state.left_out, 'waiting workload')} left out: mode {state.mode.value} only arranges what "
            "runs."
        )
    for board in _boards_in_use(gpus):
        found += _cautions(board)
    for obstacle in sorted({planning_obstacle(present.gpu.board) or "" for present in state.gpus} - {""}):
        found.append(f"{obstacle} Such GPUs are left as they are.")
    return tuple(dict.fromkeys(found))


def _boards_in_use(gpus: Iterable[TargetGpu]) -> list[Board]:
    boards = {(gpu.board.name, gpu.board.cautions): gpu.board for gpu in gpus if gpu.instances}
    return [boards[key] for key in sorted(boards)]


def _cautions(board: Board) -> list[str]:
    weak = [p.name for p in board.profiles if p.evidence_of("placements") is not Evidence.CAPTURED]
    found = [f"{board.name}: {caution}" for caution in board.cautions]
    if weak:
        found.append(
            f"{board.name}: the placements of {', '.join(weak)} were never printed by such a board, they are those of "
            "its family; compare `nvidia-smi mig -lgipp` before you cut it."
        )
    return found

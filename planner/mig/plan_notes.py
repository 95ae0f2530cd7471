"""What a plan leans on that nobody measured, and what it left out: sentences that go with it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from planner.board_evidence import weak_evidence
from planner.hardware import Board
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
            "in which they can exist together, and compares that with the real one before a GPU is touched."
        )
    if state.left_out:
        found.append(
            f"{spelled_count(state.left_out, 'waiting workload')} left out: mode {state.mode.value} only arranges what "
            "runs."
        )
    for board, names in _boards_in_use(gpus):
        found += (f"{board.name}: {sentence}" for sentence in weak_evidence(board, names))
    for obstacle in sorted({planning_obstacle(present.gpu.board) or "" for present in state.gpus} - {""}):
        found.append(f"{obstacle} Such GPUs are left as they are.")
    return tuple(dict.fromkeys(found))


def _boards_in_use(gpus: Iterable[TargetGpu]) -> list[tuple[Board, list[str]]]:
    """Boards with the profiles that the plan uses of them."""
    boards = {(gpu.board.name, gpu.board.cautions): gpu.board for gpu in gpus if gpu.instances}
    profiles: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    for gpu in gpus:
        profiles[gpu.board.name, gpu.board.cautions] |= {instance.profile for instance in gpu.instances}
    return [(boards[key], sorted(profiles[key])) for key in sorted(boards)]

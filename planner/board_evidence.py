"""What a plan for a board leans on that no output of a real board backs, as sentences that the plan repeats."""

from collections.abc import Iterable

from planner.catalog import find_profile
from planner.hardware import Board, Evidence, Profile


def weak_evidence(board: Board, profile_names: Iterable[str] | None = None) -> tuple[str, ...]:
    """The board's cautions, then what is not known of these profiles (default: all) or was not read from the board.

    Empty when everything that a layout of them says was printed by a real board. Names that the board does not have
    are passed over.
    """
    wanted = None if profile_names is None else [find_profile(board, name) for name in profile_names]
    profiles = [profile for profile in board.profiles if wanted is None or profile in wanted]
    carried_over = [p for p in profiles if p.evidence_of("placements") not in {Evidence.CAPTURED, Evidence.UNKNOWN}]
    sentences = list(board.cautions)
    if carried_over:
        sentences.append(
            f"Placements of {_names(carried_over)} are carried over from the same chip or family, not read from "
            f"{board.name} itself; compare with `nvidia-smi mig -lgipp` first."
        )
    without_id = [profile for profile in profiles if profile.profile_id is None]
    if without_id:
        sentences.append(f"The profile ids of {_names(without_id)} are not known; create them by name.")
    return tuple(sentences)


def _names(profiles: Iterable[Profile]) -> str:
    return ", ".join(profile.name for profile in profiles)

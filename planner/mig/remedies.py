"""Why something could not be placed, and the smallest change of rules or GPUs with which everything would fit."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType

from planner.errors import SolverFailed
from planner.hardware import Board
from planner.mig.plan import Mode, Remedy, Status, Target, Unplaced
from planner.mig.problem import Problem, ProblemGpu, Rules, Workload
from planner.mig_geometry import planning_obstacle
from planner.sentences import spelled_count

MOVES = "no moves"
"""Limit of a mode that moves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A problem that did not fit, with a way to ask again with something changed."""

    problem: Problem
    mode: Mode
    solve: Callable[[Problem, Mode], Target]
    ends_at: float  # monotonic seconds: no further question after that

    def fits(self, problem: Problem) -> bool:
        """Whether everything could be placed in the changed problem."""
        try:
            return self.solve(problem, self.mode).status is not Status.INFEASIBLE
        except SolverFailed:
            return False

    @property
    def is_time_left(self) -> bool:
        return time.monotonic() < self.ends_at


def remedies_of(target: Target, limits: Limits) -> Target:
    """The target with every smallest set of rules to drop, and the fewest GPUs of each board to add."""
    found = [Remedy(drop_rules=names) for names in _rules_to_drop(limits)]
    most = len(target.unplaced) + sum(reserve.count for reserve in limits.problem.rules.reserves)
    most += len(limits.problem.running_ids())  # rules may ask to part what runs, or to hold as much again
    for board in _boards(limits.problem):
        count = _gpus_to_add(limits, board, max(1, most))
        if count is not None:
            found.append(Remedy(add_gpus=MappingProxyType({board.name: count})))
    return replace(target, remedies=tuple(found))


def unplaced_of(target: Target, limits: Limits) -> Target:
    """The target with a reason and the tightest limit for everything that is not placed."""
    workloads = {w.id: w for w in (*limits.problem.workloads, *limits.problem.new)}
    reasons = {}
    for entry in target.unplaced:
        profile = workloads[entry.workload].profile
        if profile not in reasons:
            reasons[profile] = _reason(target, limits, profile, entry)
    return replace(
        target,
        unplaced=tuple(
            Unplaced(workload=entry.workload, reason=reason, limit=limit)
            for entry in target.unplaced
            for reason, limit in [reasons[workloads[entry.workload].profile]]
        ),
    )


def _reason(target: Target, limits: Limits, profile: str, entry: Unplaced) -> tuple[str, str]:
    """Why requests for the profile are left out, as a sentence and as a word; `entry` is what the planner said."""
    why, is_ruled_out = entry.reason, entry.limit == "rules"
    problem = limits.problem
    touchable = [gpu for gpu in problem.gpus if not problem.rules.is_untouchable(gpu) and not gpu.occupied_whole]
    able = [gpu for gpu in touchable if _has(gpu.board, profile)]
    if not able and not (problem.elastic and any(_has(board, profile) for board in problem.elastic.boards)):
        return f"No GPU that may be changed has a profile {profile}.", "profile"
    drops = [remedy.drop_rules for remedy in target.remedies if remedy.drop_rules]
    if drops:
        names = " and ".join(drops[0])
        return f"{profile} has its place only without the rule {names}.", drops[0][0]
    if is_ruled_out:
        return why, "rules"
    stays = limits.mode in (Mode.INITIAL, Mode.ADD_WITHOUT_MOVES) and problem.running_ids()
    if stays and limits.is_time_left and replace(limits, mode=Mode.ADD).fits(problem):
        return f"The free room is scattered: {profile} fits if running workloads may move.", MOVES
    more = [remedy.add_gpus for remedy in target.remedies if remedy.add_gpus]
    suffix = ""
    if more:
        spelled = " or ".join(f"{count} more {board}" for add in more for board, count in add.items())
        suffix = f" Everything fits with {spelled}."
    return f"{spelled_count(len(able), 'GPU')} could hold {profile}, without room for it now.{suffix}", "gpus"


def _has(board: Board, profile: str) -> bool:
    return any(p.name == profile and p.placements for p in board.profiles)


def _rules_to_drop(limits: Limits) -> Iterator[tuple[str, ...]]:
    """Every smallest set of rules without which everything fits."""
    names = [name for name, is_there in _present_rules(limits.problem).items() if is_there]
    for size in range(1, len(names) + 1):
        found = False
        for chosen in combinations(names, size):
            if not limits.is_time_left:
                return
            if limits.fits(without_rules(limits.problem, chosen)):
                found = True
                yield chosen
        if found:
            return


def _present_rules(problem: Problem) -> Mapping[str, bool]:
    rules = problem.rules
    pinned = any(workload.pinned for workload in (*problem.workloads, *problem.new))
    return {
        "single_nodes": bool(rules.single_nodes),
        "spread": bool(rules.spread),
        "isolated_tenants": bool(rules.isolated_tenants),
        "reserve": bool(rules.reserves),
        "survive_node_loss": rules.survive_node_loss,
        "untouchable": bool(rules.untouchable_gpus or rules.untouchable_nodes),
        "max_moves": rules.max_moves is not None,
        "pinned": pinned,
    }


def without_rules(problem: Problem, names: tuple[str, ...]) -> Problem:
    """The problem with those rules dropped, by the names that a problem file gives them; "pinned" frees all."""
    rules = problem.rules
    empty = Rules()
    if "single_nodes" in names:
        rules = replace(rules, single_nodes=empty.single_nodes)
    if "spread" in names:
        rules = replace(rules, spread={})
    if "isolated_tenants" in names:
        rules = replace(rules, isolated_tenants=empty.isolated_tenants)
    if "reserve" in names:
        rules = replace(rules, reserves=())
    if "survive_node_loss" in names:
        rules = replace(rules, survive_node_loss=False)
    if "untouchable" in names:
        rules = replace(rules, untouchable_gpus=frozenset(), untouchable_nodes=frozenset())
    if "max_moves" in names:
        rules = replace(rules, max_moves=None)
    problem = replace(problem, rules=rules)
    if "pinned" in names:
        problem = replace(problem, workloads=_freed(problem.workloads), new=_freed(problem.new))
    return problem


def _freed(workloads: tuple[Workload, ...]) -> tuple[Workload, ...]:
    return tuple(replace(workload, pinned=False) if workload.pinned else workload for workload in workloads)


def _boards(problem: Problem) -> list[Board]:
    """Boards of the fleet that can be planned, each once; none when the fleet grows anyway."""
    if problem.elastic is not None:
        return []
    boards = {gpu.board.name: gpu.board for gpu in problem.gpus if planning_obstacle(gpu.board) is None}
    return [boards[name] for name in sorted(boards)]


def _gpus_to_add(limits: Limits, board: Board, most: int) -> int | None:
    """Fewest empty GPUs of the board with which everything fits; None when `most` of them do not help."""
    low, high = 0, 1
    while high <= most and not (limits.is_time_left and limits.fits(_with_gpus(limits.problem, board, high))):
        if not limits.is_time_left:
            return None
        low, high = high, high * 2
    if high > most:
        high = most
        if high <= low or not limits.is_time_left or not limits.fits(_with_gpus(limits.problem, board, high)):
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if not limits.is_time_left:
            return None
        if limits.fits(_with_gpus(limits.problem, board, middle)):
            high = middle
        else:
            low = middle
    return high


def _with_gpus(problem: Problem, board: Board, count: int) -> Problem:
    added = tuple(
        ProblemGpu(id=f"added {board.name} {number}", node=f"added {board.name} node {number // 8}", board=board)
        for number in range(count)
    )
    return replace(problem, gpus=(*problem.gpus, *added))

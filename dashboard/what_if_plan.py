"""From a scenario to its answer: the checked problem, the plan, and the way there. Runs in a thread of its own."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from dashboard.scenario import GPU_LIMIT, Scenario, problem_of
from dashboard.scenario_codec import to_json
from planner.mig.change import change_plan
from planner.mig.plan import ChangePlan, Target
from planner.mig.planning import plan_target
from planner.mig.problem import Problem
from planner.mig.problem_file import problem_document, read_problem
from planner.sentences import spelled_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The plan of one scenario. `cautions` are what page and planner say must be known beside it."""

    scenario: Scenario
    problem: Problem
    change: ChangePlan
    cautions: tuple[str, ...]
    seconds: float

    @property
    def target(self) -> Target:
        """The layouts to reach."""
        return self.change.target


def scenario_key(scenario: Scenario) -> str:
    """Equal for scenarios that have the same plan."""
    return hashlib.sha256(to_json(replace(scenario, title="")).encode("utf-8", "surrogatepass")).hexdigest()


def weight_of(scenario: Scenario) -> int:
    """About how many GPUs an answer holds in memory."""
    measured = len(scenario.fleet.gpus) if scenario.fleet else 0
    return max(1, min(GPU_LIMIT, measured + sum(group.nodes * group.gpus_per_node for group in scenario.groups)))


def answer(scenario: Scenario, stopping: Callable[[], bool]) -> Answer:
    """The plan; raises ScenarioInvalid, InvalidProblem, PlanningCancelled and other errors of the planner.

    The problem is put through the checks of a problem file: a page accepts nothing that the command line refuses.
    """
    began = time.monotonic()
    asked = problem_of(scenario)
    problem = read_problem(json.dumps(problem_document(asked.problem)))
    target = plan_target(problem, scenario.mode, time_limit_s=scenario.time_limit_s, stopping=stopping)
    change = change_plan(problem, target)
    return Answer(
        scenario=scenario,
        problem=problem,
        change=change,
        cautions=tuple(dict.fromkeys((*change.target.notes, *_other_boards(problem, change.target), *asked.cautions))),
        seconds=time.monotonic() - began,
    )


def _other_boards(problem: Problem, target: Target) -> Iterator[str]:
    """A profile is asked for by name, and boards share names: who changes the board is told."""
    before = {name: gpu.board.name for gpu in problem.gpus for one in gpu.instances for name in one.workloads}
    pairs = Counter(
        (before[name], gpu.board.name)
        for gpu in target.gpus
        for one in gpu.instances
        for name in one.workloads
        if before.get(name, gpu.board.name) != gpu.board.name
    )
    for (old, new), count in sorted(pairs.items()):
        yield (
            f"{spelled_count(count, 'workload')} from {old} to {new}: the profile has the same name on both, and not "
            "the same speed. Mark nodes as untouched to keep them apart."
        )

"""How many services the programme must tell apart by name: none at first, then those whose replicas do not come apart.

A plan found while some services are only watched is as good as any: it is best for a problem with fewer rules, and it
keeps all of them.
"""

from collections.abc import Callable
from typing import TypeVar

from planner.errors import PlanContradiction
from planner.mig.model import Model
from planner.mig.plan import Mode
from planner.mig.problem import Problem
from planner.mig.programme import build
from planner.mig.state import broken_now, present_state

T = TypeVar("T")


def attempt(problem: Problem, mode: Mode, solve: Callable[[Model], T]) -> T:
    """What `solve` returns for the smallest programme whose counts get names.

    `solve` raises PlanContradiction while they do not; it is then called again with more told apart: first services,
    in the end every GPU.
    """
    named = broken_now(problem, mode)
    split = False
    while True:
        try:
            return solve(build(present_state(problem, mode, named), split=split))
        except PlanContradiction as contradiction:
            if contradiction.services - named:
                named |= contradiction.services
            elif split:
                raise
            else:
                split = True

"""What can go wrong in the planner.

PlannerError
+-- CatalogError        a catalogue file contradicts itself
+-- UnknownBoard        no catalogue row for that board
+-- UnknownProfile      that board has no such profile
+-- IllegalLayout       instances that cannot exist together on one GPU
+-- InvalidFile         a file cannot be used; lists its mistakes, each with its place
|   +-- InvalidProblem  a problem of the MIG planner
|   +-- InvalidPlan     a plan of the MIG planner
+-- ChangeImpossible    no steps lead from what runs to that target
+-- DriverRefusal       the simulated driver refuses a step
+-- SolverFailed        the solver ended without an answer
+-- PlanningCancelled   whoever asked no longer wants the answer
+-- NoPlan              the rules and what runs contradict each other
+-- PlanContradiction   counts that cannot be told apart by name; caught inside the planner
"""

from collections.abc import Iterable, Sequence


class PlannerError(Exception):
    """Base of all planner errors; the message says what, why and what to do."""


class CatalogError(PlannerError):
    """A catalogue file contradicts itself or misses a required field."""


class UnknownBoard(PlannerError):
    """No catalogue row names that board."""


class UnknownProfile(PlannerError):
    """The board has no profile of that name."""


class IllegalLayout(PlannerError):
    """These GPU instances cannot exist together on that board."""


class InvalidFile(PlannerError):
    """A file cannot be used."""

    what = "The file"

    def __init__(self, mistakes: Sequence[str], *, more: bool = False) -> None:
        self.mistakes = tuple(mistakes)
        if len(mistakes) == 1 and not more:
            super().__init__(f"{self.what} cannot be used: {mistakes[0]}")
            return
        listed = "".join(f"\n  - {mistake}" for mistake in mistakes)
        rest = "\n  and possibly more; these were the first." if more else ""
        super().__init__(f"{self.what} cannot be used:{listed}{rest}")

    def __reduce__(self) -> tuple[type["InvalidFile"], tuple[tuple[str, ...]]]:
        """Unpickled from its mistakes: the message alone would not do."""
        return type(self), (self.mistakes,)


class InvalidProblem(InvalidFile):
    """A problem of the MIG planner that contradicts its format, the catalogue or itself."""

    what = "The problem"


class InvalidPlan(InvalidFile):
    """A plan of the MIG planner that contradicts its format, the catalogue or itself."""

    what = "The plan"


class ChangeImpossible(PlannerError):
    """A target that contradicts what runs: it loses a workload, names one twice or cannot exist."""


class DriverRefusal(PlannerError):
    """The simulated driver refuses a step, as a real one would."""


class SolverFailed(PlannerError):
    """The integer programme ended without a solution."""


class PlanningCancelled(PlannerError):
    """The planning was stopped before its end, on request."""


class PlanContradiction(PlannerError):
    """A solution in counts has no counterpart in named workloads and GPUs; `services` stand in the way."""

    def __init__(self, message: str, services: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.services = frozenset(services)


class NoPlan(PlannerError):
    """The rules cannot be met with everything that runs."""

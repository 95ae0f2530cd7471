"""What can go wrong in the planner.

PlannerError
+-- CatalogError        a catalogue file contradicts itself
+-- UnknownBoard        no catalogue row for that board
+-- UnknownProfile      that board has no such profile
+-- IllegalLayout       instances that cannot exist together on one GPU
+-- SolverFailed        the solver ended without an answer
"""


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


class SolverFailed(PlannerError):
    """The integer programme ended without a solution."""

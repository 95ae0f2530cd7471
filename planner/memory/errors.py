"""What can go wrong while a model is read."""

from planner.errors import PlannerError


class UnreadableModel(PlannerError):
    """No facts can be had from this description of a model; the message names the field and what to do."""


class UnknownMemory(PlannerError):
    """No source states how much memory this device has; its label is not taken for it."""


class UnreadableLog(PlannerError):
    """A start-up log says nothing about memory; the message says what to give instead."""

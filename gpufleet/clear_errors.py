"""How the commands fail: our own errors are sentences for people, printed without a traceback, with exit code 2."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

from gpufleet.errors import ShellError
from planner.errors import PlannerError

P = ParamSpec("P")
R = TypeVar("R")


def clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """The command, with its expected errors turned into a sentence on stderr and exit code 2."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if not _is_ours(error):
                raise
            from rich.console import Console

            Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"gpufleet: {error}")
            raise typer.Exit(2) from error

    return run


def _is_ours(error: Exception) -> bool:
    if isinstance(error, ShellError | PlannerError):
        return True
    from collectors.errors import CollectorError  # late: both load libraries that a command on MIG does without
    from store.errors import StoreError

    return isinstance(error, StoreError | CollectorError)

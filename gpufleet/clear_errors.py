"""How the commands fail: our own errors are sentences for people, printed without a traceback, with exit code 2.

Ctrl-C is one too, with 130. Output that cannot be written is an error like any; one that nobody reads any more, as
behind `| head`, ends the command without a word, with 141 as other programs do.
"""

import unicodedata
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

from gpufleet.errors import OutputClosed, OutputFailed, ShellError
from gpufleet.output import check_output
from planner.errors import PlannerError

P = ParamSpec("P")
R = TypeVar("R")

_ERROR = 2
_INTERRUPTED = 130
_CLOSED_PIPE = 141


def clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """The command, with its expected errors turned into a sentence on stderr and an exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as interrupt:
            _say("interrupted.")
            raise typer.Exit(_INTERRUPTED) from interrupt
        except Exception as error:
            if not _is_ours(error):
                raise
            raise typer.Exit(_told(error)) from error

    return run


def run_app(app: Callable[[], object]) -> None:
    """The whole command line, with an eye on whether its output can be written; help is printed outside of commands."""
    check_output()
    try:
        app()
    except OutputFailed as error:
        raise SystemExit(_told(error)) from error


def _told(error: Exception) -> int:
    """Tells people about it; the exit code."""
    if isinstance(error, OutputClosed):
        return _CLOSED_PIPE
    _say(str(error))
    return _ERROR


def _say(sentence: str) -> None:
    from rich.console import Console

    # Sentences quote foreign files and servers: what moves the cursor or renames the terminal is not printed.
    plain = "".join(
        letter if letter == "\n" or unicodedata.category(letter)[0] != "C" else "\ufffd" for letter in sentence
    )
    with suppress(OSError):  # then nobody can be told
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"gpufleet: {plain}")


def _is_ours(error: Exception) -> bool:
    if isinstance(error, ShellError | PlannerError):
        return True
    from collectors.errors import CollectorError  # late: both load libraries that a command on MIG does without
    from store.errors import StoreError

    return isinstance(error, StoreError | CollectorError)

"""Expected errors become a sentence and exit code 2, whichever room they come from; others keep their traceback."""

import pytest
import typer
from typer.testing import CliRunner

from collectors.errors import CollectorError
from gpufleet.clear_errors import clear_errors
from gpufleet.errors import ShellError
from planner.errors import InvalidProblem
from store.errors import StoreError


def failing(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @clear_errors
    def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    "error",
    [
        ShellError("it broke."),
        StoreError("it broke."),
        CollectorError("it broke.", source="test"),
        InvalidProblem(["it broke."]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_our_errors_are_sentences(error: Exception) -> None:
    answer = CliRunner().invoke(failing(error), [])
    assert answer.exit_code == 2
    assert answer.stderr.startswith("gpufleet: ")
    assert "it broke." in answer.stderr


def test_markup_in_an_error_is_not_obeyed() -> None:
    assert "[red]" in CliRunner().invoke(failing(ShellError("[red]x[/red]")), []).stderr


def test_other_errors_are_not_hidden() -> None:
    assert isinstance(CliRunner().invoke(failing(ZeroDivisionError()), []).exception, ZeroDivisionError)


def test_an_exit_code_is_kept() -> None:
    assert CliRunner().invoke(failing(typer.Exit(1)), []).exit_code == 1

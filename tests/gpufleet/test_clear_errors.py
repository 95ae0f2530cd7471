"""Expected errors become a sentence and exit code 2, whichever room they come from; others keep their traceback."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_ctrl_c_is_a_sentence_too() -> None:
    answer = CliRunner().invoke(failing(KeyboardInterrupt()), [])
    assert (answer.exit_code, answer.stderr) == (130, "gpufleet: interrupted.\n")


TEXT, JSON, HELP = ["mig", "boards"], ["mig", "boards", "--json"], ["--help"]


def gpufleet(arguments: list[str], stdout: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpufleet", *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
@pytest.mark.parametrize("arguments", [TEXT, JSON, HELP], ids=str)
def test_a_full_disk_is_a_sentence(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        answer = gpufleet(arguments, full.fileno())
    assert answer.returncode == 2
    assert answer.stderr == "gpufleet: the output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("arguments", [TEXT, JSON, HELP], ids=str)
def test_a_reader_who_has_enough_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    answer = gpufleet(arguments, writer)
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (141, "")


def test_closed_output_is_no_error() -> None:
    command = f"{sys.executable} -m gpufleet mig boards >&-"
    answer = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")

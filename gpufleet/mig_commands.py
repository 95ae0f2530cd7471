"""`gpufleet mig boards` and `gpufleet mig layouts`: what a board can be cut into, and how well that is known.

`mig_app` is the group of all `gpufleet mig` commands; those on plans register on it in `mig_plan_commands.py`.
"""

from typing import Annotated

import typer

from gpufleet.clear_errors import clear_errors
from gpufleet.errors import ShellError
from planner.catalog import LONGEST_NAME, load_catalog
from planner.hardware import Board
from planner.mig_exceptions import board_under, driver_numbers

mig_app = typer.Typer(help="MIG: what boards can be cut into, and plans for it.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the documented JSON (docs/json.md).")]
DriverOption = Annotated[
    str | None, typer.Option("--driver", metavar="VERSION", help="What this driver allows, such as 470.57.02 or R510.")
]
MachineOption = Annotated[
    str | None, typer.Option("--machine", metavar="NAME", help="What this machine allows, such as 'DGX Station GB300'.")
]


@mig_app.command("boards")
@clear_errors
def boards(
    board: Annotated[str | None, typer.Argument(metavar="[BOARD]", help="Only this board.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what every board can be cut into: profiles, placements, capacity, and how each is known."""
    from gpufleet import json_output, mig_documents, mig_text

    listed = load_catalog().boards if board is None else (_board(board),)
    if as_json:
        json_output.print_json(mig_documents.boards_document(listed))
    else:
        mig_text.print_boards(listed)


@mig_app.command("layouts")
@clear_errors
def layouts(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="Id in the catalogue, or the name the driver prints.")],
    maximal: Annotated[bool, typer.Option("--maximal", help="Only those to which nothing can be added.")] = False,
    profile: Annotated[
        list[str] | None, typer.Option("--profile", metavar="NAME", help="Only this profile; may be given again.")
    ] = None,
    driver: DriverOption = None,
    machine: MachineOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the legal layouts of a board, and what each leaves stranded."""
    from gpufleet import json_output, mig_documents, mig_text

    if driver is not None and driver_numbers(driver) is None:
        raise ShellError(
            f"{driver[:LONGEST_NAME]!r} is no driver version; give it as nvidia-smi does, like 535.104.05."
        )
    under = board_under(_board(board), driver_version=driver, product=machine)
    catalog = load_catalog()
    wanted = {catalog.profile(under, name).name for name in profile or ()}
    names = tuple(one.name for one in under.profiles if not profile or one.name in wanted)
    document = mig_documents.layouts_document(under, names, maximal=maximal)
    if as_json:
        json_output.print_json(document)
    else:
        mig_text.print_layouts(document)


def _board(name: str) -> Board:
    """By catalogue id, alias or the name that a driver prints; raises UnknownBoard with the nearest ids."""
    catalog = load_catalog()
    return catalog.board_for(name) or catalog.board(name)

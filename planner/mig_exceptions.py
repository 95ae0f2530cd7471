"""What a driver or a machine refuses although the placement table of the board allows it.

The facts are in `planner/data/mig_exceptions.toml`, each with its source. What is not known is never assumed away: a
board whose machine or driver nobody told stays usable, and `Board.cautions` says what may not hold.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt, ValidationError

from planner.catalog_rows import Row, check_sources, read_toml, refused
from planner.errors import CatalogError
from planner.hardware import Board, LayoutExclusion

_DRIVER = re.compile(r"r?(\d{1,5}(?:\.\d{1,5}){0,4})", re.ASCII)
_Version = Annotated[str, Field(pattern=r"^\d{1,5}(\.\d{1,5}){0,4}$")]


def board_under(board: Board, *, driver_version: str | None, product: str | None = None) -> Board:
    """The board as that driver on that machine really allows it; the same object when nothing differs.

    `product` is the name of the machine ("DGX Station GB300"), as DMI, GPU Feature Discovery's `nvidia.com/gpu.machine`
    or people spell it; the name of the GPU says nothing about the machine and counts as not known. A driver version
    that cannot be read counts as not known too; one below the lowest with MIG adds a caution. The outcome depends on
    the arguments only: a board that came from here can be put in again.
    """
    driver = driver_numbers(driver_version)
    if not board.conditional_exclusions and driver is None:
        return board
    return _board_under(board, driver, _machine(board, product))


def driver_numbers(version: str | None) -> tuple[int, ...] | None:
    """A driver version for comparison: (510, 47, 3) for "510.47.03", (510,) for "R510"; None when it is none."""
    found = _DRIVER.fullmatch((version or "").strip().lower())
    return tuple(int(part) for part in found[1].split(".")) if found else None


def exclusion_sentence(board: Board, exclusion: LayoutExclusion) -> str:
    """What cannot exist together, in the profile names of the board, and why."""
    together = " and ".join(
        _counted(count, " or ".join(profile.name for profile in board.profiles if profile.kind in kinds))
        for kinds, count in exclusion.needs
    )
    return f"{together} cannot exist together on this {board.name}: {exclusion.reason}."


def with_conditions(board: Board, exclusions: tuple[LayoutExclusion, ...]) -> Board:
    """The board of the catalogue with what may be refused somewhere, its driver and machine not known."""
    return board_under(replace(board, conditional_exclusions=exclusions), driver_version=None) if exclusions else board


@lru_cache(maxsize=256)
def _board_under(board: Board, driver: tuple[int, ...] | None, machine: str | None) -> Board:
    in_force: list[LayoutExclusion] = []
    cautions = list(_own_cautions(board))
    lowest = driver_numbers(board.minimum_driver)
    if lowest is not None and driver is not None and _reaches(driver, lowest) is False:
        cautions.append(_too_old(board))
    for exclusion in board.conditional_exclusions:
        holds = _holds(exclusion, driver, machine)
        if holds:
            in_force.append(exclusion)
            cautions.append(exclusion_sentence(board, exclusion))
        elif holds is None and exclusion.caution is not None:
            cautions.append(exclusion.caution)
    return _variant(board, tuple(in_force), tuple(cautions))


@lru_cache(maxsize=256)
def _variant(board: Board, exclusions: tuple[LayoutExclusion, ...], cautions: tuple[str, ...]) -> Board:
    """One object for every driver with the same outcome, so that caches keyed by boards find it by identity."""
    if (board.exclusions, board.cautions) == (exclusions, cautions):
        return board
    return replace(board, exclusions=exclusions, cautions=cautions)


def _own_cautions(board: Board) -> Iterable[str]:
    """The cautions of the board that do not come from here."""
    ours = {exclusion.caution for exclusion in board.conditional_exclusions}
    ours |= {_too_old(board), *(exclusion_sentence(board, exclusion) for exclusion in board.conditional_exclusions)}
    return (caution for caution in board.cautions if caution not in ours)


def _holds(exclusion: LayoutExclusion, driver: tuple[int, ...] | None, machine: str | None) -> bool | None:
    """Whether the exclusion is in force; None when that is not known."""
    answers: list[bool | None] = []
    if exclusion.drivers_from is not None:
        answers.append(None if driver is None else _reaches(driver, exclusion.drivers_from))
    if exclusion.drivers_below is not None:
        reached = None if driver is None else _reaches(driver, exclusion.drivers_below)
        answers.append(None if reached is None else not reached)
    if exclusion.products:
        answers.append(None if machine is None else any(f" {words} " in machine for words in exclusion.products))
    if False in answers:
        return False
    return None if None in answers else True


def _reaches(driver: tuple[int, ...], limit: tuple[int, ...]) -> bool | None:
    """Whether the driver is that version or a later one; None when only the branch is told and it is the limit's."""
    if len(driver) < len(limit) and driver == limit[: len(driver)]:
        return None
    return driver >= limit


def _too_old(board: Board) -> str:
    return (
        f"The driver is older than {board.minimum_driver}, the lowest for which NVIDIA's guide lists MIG on "
        f"{board.name}; check with `nvidia-smi mig -lgip` whether it can be cut."
    )


def _machine(board: Board, product: str | None) -> str | None:
    """The machine's name as words between blanks; None when it is not told, or only the GPU's name is."""
    words = _words(product or "")
    gpu_names = {_words(name) for name in (board.name, *board.product_names)}
    return None if not words or words in gpu_names else f" {words} "


def _words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _counted(count: int, name: str) -> str:
    return name if count == 1 else f"{count} of {name}"


class _Need(Row):
    kinds: tuple[str, ...] = Field(min_length=1)
    count: PositiveInt


class _ExclusionRow(Row):
    name: str
    boards: tuple[str, ...] = Field(min_length=1)
    needs: tuple[_Need, ...] = Field(min_length=1)
    drivers_from: _Version | None = None
    drivers_below: _Version | None = None
    products: tuple[str, ...] = ()
    reason: str
    caution: str | None = None
    sources: tuple[str, ...] = Field(min_length=1)


def read_exclusions(
    path: Path, boards: Sequence[Board], sources: Container[str]
) -> Mapping[str, tuple[LayoutExclusion, ...]]:
    """The exclusions of a file like `mig_exceptions.toml` by board; raises CatalogError naming the row."""
    kinds_of = {board.name: {profile.kind for profile in board.profiles} for board in boards}
    found: dict[str, tuple[LayoutExclusion, ...]] = {}
    for number, table in enumerate(read_toml(path).get("exclusion", []), start=1):
        where = f"{path.name}, exclusion {number} ({table.get('name', 'without a name')})"
        try:
            row = _ExclusionRow.model_validate(table)
        except ValidationError as error:
            raise refused(where, error) from error
        check_sources(row.sources, sources, where)
        for name in row.boards:
            if name not in kinds_of:
                raise CatalogError(f"{where}: boards.toml has no board {name!r}.")
            unknown = {kind for need in row.needs for kind in need.kinds} - kinds_of[name]
            if unknown:
                raise CatalogError(f"{where}: {name} has no profile of kind {', '.join(sorted(unknown))}.")
            if any(other.name == row.name for other in found.get(name, ())):
                raise CatalogError(f"{where}: the name {row.name!r} is taken.")
            found[name] = (*found.get(name, ()), _exclusion(row))
    return found


def _exclusion(row: _ExclusionRow) -> LayoutExclusion:
    return LayoutExclusion(
        name=row.name,
        needs=tuple((need.kinds, need.count) for need in row.needs),
        reason=row.reason,
        sources=row.sources,
        drivers_from=driver_numbers(row.drivers_from),
        drivers_below=driver_numbers(row.drivers_below),
        products=tuple(map(_words, row.products)),
        caution=row.caution,
    )

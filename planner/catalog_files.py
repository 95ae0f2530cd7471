"""What the files in `planner/data` look like, row by row, and whether they contradict themselves."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, NonNegativeInt, ValidationError

from planner.catalog_rows import Row, check_sources, read_toml, refused
from planner.errors import CatalogError
from planner.hardware import Board, Evidence, Placement, Profile
from planner.mig_exceptions import read_exclusions, with_conditions
from planner.units import GIB, MIB

EVIDENCE_GROUPS = ("ids", "max_instances", "placements", "memory", "sm", "engines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where catalogue values were read: what it is, where, and which revision of it."""

    key: str
    title: str
    url: str | None
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardEntry:
    """A board and what the catalogue needs to find it by name."""

    board: Board
    aliases: tuple[str, ...]
    ambiguous_names: tuple[str, ...]  # product names of several boards, told apart by memory
    memory_for_matching_bytes: int | None  # the driver's total, else the marketing size


def read_entries(folder: Path) -> tuple[tuple[BoardEntry, ...], dict[str, Source]]:
    """All boards of a folder like `planner/data`, and the sources their rows name; raises CatalogError."""
    sources = _read_sources(folder / "sources.toml")
    profiles = _read_profiles(folder / "mig_profiles.csv", sources)
    entries = tuple(_entry(row, profiles.pop(row.name, ()), sources, where) for where, row in _board_rows(folder))
    if profiles:
        raise CatalogError(f"mig_profiles.csv has rows for boards that boards.toml does not name: {sorted(profiles)}.")
    exclusions = read_exclusions(folder / "mig_exceptions.toml", [entry.board for entry in entries], sources)
    return tuple(
        replace(entry, board=with_conditions(entry.board, exclusions.get(entry.board.name, ()))) for entry in entries
    ), sources


def _words(cell: object) -> object:
    return cell.split() if isinstance(cell, str) else cell


def _blank_is_none(cell: object) -> object:
    return None if cell == "" else cell


_Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
_OptionalInt = Annotated[NonNegativeInt | None, BeforeValidator(_blank_is_none)]


class _SourceRow(Row):
    title: str
    url: str | None = None
    revision: str


class _BoardRow(Row):
    name: str
    aliases: tuple[str, ...] = ()
    architecture: str
    product_names: tuple[str, ...] = Field(min_length=1)
    ambiguous_names: tuple[str, ...] = ()
    memory_total_mib: int | None = Field(default=None, gt=0)
    memory_evidence: Evidence
    nominal_memory_gib: int | None = Field(default=None, gt=0)
    sm_count: int | None = Field(default=None, gt=0)
    compute_slices: int = Field(default=0, ge=0)
    placement_grid: int = Field(default=0, ge=0)
    mig_enable_resets_gpu: bool | None = None
    minimum_driver: str | None = None
    verification: str
    cautions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = Field(min_length=1)


class _ProfileRow(Row):
    board: str
    profile: str
    alternate_names: _Words
    kind: str = Field(pattern=r"^\d+g(2x)?(\+me|\+me\.all|\+gfx|-me)?$")
    profile_id: _OptionalInt
    compute_slices: int = Field(gt=0)
    max_instances: int = Field(gt=0)
    placement_starts: Annotated[tuple[int, ...], BeforeValidator(_words)]
    placement_size: _OptionalInt
    memory_mib: _OptionalInt
    sm_count: _OptionalInt
    copy_engines: _OptionalInt
    decoders: _OptionalInt
    encoders: _OptionalInt
    jpeg_engines: _OptionalInt
    optical_flow_engines: _OptionalInt
    graphics: bool
    media_extensions: bool
    ids_evidence: Evidence
    max_instances_evidence: Evidence
    placements_evidence: Evidence
    memory_evidence: Evidence
    sm_evidence: Evidence
    engines_evidence: Evidence
    sources: _Words = Field(min_length=1)


def _read_sources(path: Path) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for key, table in read_toml(path).items():
        try:
            row = _SourceRow.model_validate(table)
        except ValidationError as error:
            raise refused(f"{path.name}, [{key}]", error) from error
        sources[key] = Source(key=key, title=row.title, url=row.url, revision=row.revision)
    return sources


def _board_rows(folder: Path) -> Iterator[tuple[str, _BoardRow]]:
    path = folder / "boards.toml"
    for number, table in enumerate(read_toml(path).get("board", []), start=1):
        where = f"{path.name}, board {number} ({table.get('name', 'without a name')})"
        try:
            yield where, _BoardRow.model_validate(table)
        except ValidationError as error:
            raise refused(where, error) from error


def _read_profiles(path: Path, sources: dict[str, Source]) -> dict[str, tuple[Profile, ...]]:
    by_board: dict[str, tuple[Profile, ...]] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CatalogError(f"{path.name} cannot be read: {error}") from error
    reader = csv.DictReader(text.splitlines())
    for cells in reader:
        where = f"{path.name}, line {reader.line_num} ({cells.get('board')} {cells.get('profile')})"
        try:
            row = _ProfileRow.model_validate(cells)
        except ValidationError as error:
            raise refused(where, error) from error
        by_board[row.board] = (*by_board.get(row.board, ()), _profile(row, sources, where))
    return by_board


def _profile(row: _ProfileRow, sources: dict[str, Source], where: str) -> Profile:
    check_sources(row.sources, sources, where)
    if bool(row.placement_starts) != bool(row.placement_size):
        raise CatalogError(f"{where}: placement_starts and placement_size must both be given or both be blank.")
    stated = {
        "ids": row.profile_id is not None,
        "placements": bool(row.placement_starts),
        "memory": row.memory_mib is not None,
        "sm": row.sm_count is not None,
    }
    evidence = tuple((group, Evidence(getattr(row, f"{group}_evidence"))) for group in EVIDENCE_GROUPS)
    for group, known_as in evidence:
        if group in stated and stated[group] != (known_as is not Evidence.UNKNOWN):
            raise CatalogError(f"{where}: {group} is {known_as}, which contradicts whether a value is given.")
    return Profile(
        name=row.profile,
        kind=row.kind,
        profile_id=row.profile_id,
        compute_slices=row.compute_slices,
        memory_bytes=None if row.memory_mib is None else row.memory_mib * MIB,
        sm_count=row.sm_count,
        max_instances=row.max_instances,
        placements=tuple(Placement(start, row.placement_size or 0) for start in row.placement_starts),
        copy_engines=row.copy_engines,
        decoders=row.decoders,
        encoders=row.encoders,
        jpeg_engines=row.jpeg_engines,
        optical_flow_engines=row.optical_flow_engines,
        graphics=row.graphics,
        media_extensions=row.media_extensions,
        evidence=evidence,
        sources=row.sources,
        alternate_names=row.alternate_names,
    )


def _entry(row: _BoardRow, profiles: tuple[Profile, ...], sources: dict[str, Source], where: str) -> BoardEntry:
    check_sources(row.sources, sources, where)
    if (row.memory_total_mib is None) != (row.memory_evidence is Evidence.UNKNOWN):
        raise CatalogError(f"{where}: memory_evidence contradicts whether memory_total_mib is given.")
    if bool(row.compute_slices) != bool(profiles):
        raise CatalogError(f"{where}: compute_slices is {row.compute_slices}, but it has {len(profiles)} profiles.")
    for profile in profiles:
        if profile.compute_slices > row.compute_slices:
            raise CatalogError(f"{where}: {profile.name} has more compute slices than the board.")
        for placement in profile.placements:
            if placement.start < 0 or placement.span.stop > row.placement_grid:
                raise CatalogError(f"{where}: {profile.name} at {placement} leaves the grid of {row.placement_grid}.")
    spellings = [name for profile in profiles for name in (profile.name, *profile.alternate_names)]
    if len(set(spellings)) != len(spellings):
        raise CatalogError(f"{where}: two profiles share a name.")
    total_bytes = None if row.memory_total_mib is None else row.memory_total_mib * MIB
    nominal_bytes = None if row.nominal_memory_gib is None else row.nominal_memory_gib * GIB
    board = Board(
        name=row.name,
        architecture=row.architecture,
        product_names=row.product_names,
        memory_total_bytes=total_bytes,
        sm_count=row.sm_count,
        compute_slices=row.compute_slices,
        placement_grid=row.placement_grid,
        mig_enable_resets_gpu=row.mig_enable_resets_gpu,
        profiles=profiles,
        verification=row.verification,
        sources=row.sources,
        memory_evidence=row.memory_evidence,
        minimum_driver=row.minimum_driver,
        cautions=row.cautions,
        notes=row.notes,
    )
    return BoardEntry(
        board=board,
        aliases=row.aliases,
        ambiguous_names=row.ambiguous_names,
        memory_for_matching_bytes=total_bytes or nominal_bytes,
    )

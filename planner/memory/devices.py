"""What CUDA sees of a board or of one of its MIG profiles, and how that is known; never the label.

Order of evidence: what the user states, what a start of an engine measured on such a device of the user's own (the
store), what published start-up logs printed (`planner/data/cuda_memory.toml`), what the driver prints of a GPU instance
(CUDA sees all of it: 20,992 MiB on a B200 1g.23gb), and the driver's total of a whole GPU less what it keeps to itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from pydantic import Field, ValidationError, model_validator

from planner.catalog_rows import Row, check_sources, read_toml, refused
from planner.errors import CatalogError
from planner.hardware import Board, Evidence, Profile
from planner.memory.errors import UnknownMemory
from planner.memory.estimate import Basis, Device
from planner.sentences import spelled_bytes
from planner.units import GIB

DATA: Final = Path(__file__).parent.parent / "data"

DRIVER_RESERVE_BYTES: Final = 3 * GIB // 4
"""Driver's total less CUDA's: 0.33 GiB (L4) to 0.75 GiB (A100-80GB) on the boards that state both; the most counts."""

MEASURED_SHARE: Final = (0.9, 1.1)
"""Of the catalogue's figure: what lies outside was measured on another device, such as a MIG device of that board.

Between boards and drivers one kind of device differs by far less (A10: 21.99 to 22.18 GiB in published logs).
"""

_OVERRIDE: Final = "given as --device-memory-bytes"
_NOTHING_MEASURED: Final[Mapping[str, "MeasuredMemory"]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMemory:
    """What CUDA saw of one device in the user's own runs, by catalogue id of the board and MIG profile."""

    board: str
    profile: str | None
    memory_bytes: int
    source: str  # who printed it, when, and of how many it is the lowest

    @property
    def device(self) -> str:
        """Name of the device."""
        return device_name(self.board, self.profile)


class MemoryRow(Row):
    """One board as CUDA sees it."""

    board: str
    lowest_gib: float = Field(gt=0, allow_inf_nan=False)
    highest_gib: float = Field(gt=0, allow_inf_nan=False)
    source: str

    @model_validator(mode="after")
    def _ends_in_order(self) -> Self:
        if self.lowest_gib > self.highest_gib:
            raise ValueError("lowest_gib is above highest_gib")
        return self


@cache
def measured_memory() -> Mapping[str, MemoryRow]:
    """Rows by catalogue id of the board; raises CatalogError."""
    tables = read_toml(DATA / "cuda_memory.toml")
    rows: dict[str, MemoryRow] = {}
    for table in tables.get("memory", []):
        where = f"cuda_memory.toml, {table.get('board', 'a row without a board')}"
        try:
            row = MemoryRow.model_validate(table)
        except ValidationError as error:
            raise refused(where, error) from error
        check_sources((row.source,), tables.get("sources", {}), where)
        if row.board in rows:
            raise CatalogError(f"{where}: the board stands twice.")
        rows[row.board] = row
    return MappingProxyType(rows)


def device_name(board: str, profile: str | None) -> str:
    """As people write it: the board, and the profile of a MIG device."""
    return board if profile is None else f"{board} {profile}"


def device_of(
    board: Board,
    profile: Profile | None = None,
    *,
    memory_bytes: int | None = None,
    measured: Mapping[str, MeasuredMemory] = _NOTHING_MEASURED,
) -> Device:
    """The whole GPU, or one MIG device; `memory_bytes` replaces what is known. Raises UnknownMemory.

    `measured` is by name of the device, and goes before the evidence of the catalogue.
    """
    name = device_name(board.name, None if profile is None else profile.name)
    if memory_bytes is not None:
        found = (memory_bytes, Basis.MEASURED, _OVERRIDE)
    elif name in measured:
        found = (measured[name].memory_bytes, Basis.MEASURED, measured[name].source)
    else:
        found = _whole(board) if profile is None else _instance(board, profile)
    size, basis, source = found
    return Device(
        name=name,
        memory_bytes=size,
        basis=basis,
        source=source,
        is_mig=profile is not None,
        architecture=board.architecture,
        board=board.name,
    )


def is_plausible(board: Board, profile: Profile | None, memory_bytes: int) -> bool:
    """Whether that much can have been measured on this device; anything can where the catalogue knows nothing."""
    try:
        known = device_of(board, profile).memory_bytes
    except UnknownMemory:
        return True
    low, high = MEASURED_SHARE
    return low * known <= memory_bytes <= high * known


def unlisted_device(memory_bytes: int, name: str | None = None, *, is_mig: bool = False) -> Device:
    """A device of which only the memory is known; without a name it is called by it."""
    return Device(
        name=name or f"device of {memory_bytes / GIB:.2f} GiB",
        memory_bytes=memory_bytes,
        basis=Basis.MEASURED,
        source=_OVERRIDE,
        is_mig=is_mig,
    )


def _whole(board: Board) -> tuple[int, Basis, str]:
    total = board.memory_total_bytes
    row = measured_memory().get(board.name)
    if row is not None:
        lowest = round(row.lowest_gib * GIB)
        return lowest if total is None else min(lowest, total), Basis.MEASURED, _printed(row)
    if total is None:
        raise UnknownMemory(
            f"No source states how much memory CUDA sees on {board.name}. Give --device-memory-bytes, as "
            "`torch.cuda.mem_get_info()` or a start-up log of vLLM prints it."
        )
    kept = spelled_bytes(DRIVER_RESERVE_BYTES)
    source = f"the driver's total of {spelled_bytes(total)} less {kept}, the most that boards with both figures differ"
    return total - min(DRIVER_RESERVE_BYTES, total // 16), Basis.ASSUMED, source


def _instance(board: Board, profile: Profile) -> tuple[int, Basis, str]:
    if profile.memory_bytes is None:
        raise UnknownMemory(
            f"No source states how much memory a {profile.name} of {board.name} has, and its name is no measure of it. "
            "Give --device-memory-bytes, as `nvidia-smi mig -lgip` prints it (in MiB)."
        )
    evidence = profile.evidence_of("memory")
    is_captured = evidence is Evidence.CAPTURED
    how = "printed by a real board (nvidia-smi mig -lgip)" if is_captured else f"{evidence.value} in the MIG catalogue"
    return profile.memory_bytes, Basis.MEASURED if is_captured else Basis.ASSUMED, f"memory of the GPU instance, {how}"


def _printed(row: MemoryRow) -> str:
    if row.lowest_gib == row.highest_gib:
        return f"{row.lowest_gib:g} GiB in start-up logs (planner/data/cuda_memory.toml)"
    return (
        f"the lowest of {row.lowest_gib:g} to {row.highest_gib:g} GiB in start-up logs (planner/data/cuda_memory.toml)"
    )

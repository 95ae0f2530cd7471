"""Which board a driver means by a name, and which profile: lookups in the catalogue of `planner/data`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from planner.catalog_files import BoardEntry, Source, read_entries
from planner.errors import CatalogError, UnknownBoard, UnknownProfile
from planner.hardware import Board, Profile

DATA = Path(__file__).parent / "data"

MEMORY_TOLERANCE_RATIO = 0.12
"""How far a measured total may lie from the catalogue's and still be the same board: drivers differ by up to 10 %
(DGX Station GB300 under driver 61x); the closest pair that must not be confused, H100 with 80 and 94 GB, by 15 %."""

LONGEST_NAME = 80
"""Characters of a name that an error repeats, and that are compared with the known names."""

_GFD_SUFFIX = re.compile(r"[-\s](mig[-\s](\d+c\.)?\d+g\..*|shared)$")  # GPU Feature Discovery: single strategy, sharing
_COMPUTE_INSTANCE_PREFIX = re.compile(r"^\d+c\.")
_RESOURCE_ATTRIBUTE = re.compile(r"(?<=gb)\.(?=me|gfx)")  # Kubernetes writes 1g.10gb+me as 1g.10gb.me


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All boards, ordered as in the file: those with MIG first."""

    boards: tuple[Board, ...]
    sources: Mapping[str, Source]
    _by_name: Mapping[str, Board]  # catalogue ids and aliases
    _by_product: Mapping[str, Board]  # product names that mean one board
    _by_product_and_memory: Mapping[str, tuple[Board, ...]]  # product names that only memory tells apart
    _memory_bytes: Mapping[str, int]

    def board(self, name: str) -> Board:
        """The board of that catalogue id or alias; raises UnknownBoard with the nearest ids."""
        found = self._by_name.get(_normalised(name))
        if found is None:
            ids = [board.name for board in self.boards]
            raise UnknownBoard(f"The catalogue has no board {_quoted(name)}. {_nearest(name, ids)}")
        return found

    def board_for(self, model_name: str | None, memory_total_bytes: float | None = None) -> Board | None:
        """The board that a driver calls `model_name` and that has about that much memory; None when unknown.

        Takes NVML's spelling (`nvidia-smi --query-gpu=name`) and GPU Feature Discovery's, in any case. It does not
        guess: a total that contradicts the board is no match, nor is a name of several sizes without a total.
        """
        if not model_name:
            return None
        key = _normalised(model_name)
        candidates: tuple[Board, ...] = ()
        if key in self._by_product:
            candidates = (self._by_product[key],)
        elif memory_total_bytes is not None:
            candidates = self._by_product_and_memory.get(key, ())
        matching = [board for board in candidates if self._memory_agrees(board, memory_total_bytes)]
        return matching[0] if len(matching) == 1 else None

    def profile(self, board: Board, name: str) -> Profile:
        """The board's profile of that name, whichever driver spelled it; raises UnknownProfile with the nearest names.

        Also takes the spelling of Kubernetes resources (`mig-1g.10gb.me`) and of compute instances (`1c.3g.20gb`,
        which yields the GPU instance's profile).
        """
        found = find_profile(board, name)
        if found is not None:
            return found
        if not board.profiles:
            raise UnknownProfile(f"{board.name} has no MIG profiles, so none is called {_quoted(name)}.")
        names = [spelling for profile in board.profiles for spelling in (profile.name, *profile.alternate_names)]
        raise UnknownProfile(f"{board.name} has no profile {_quoted(name)}. {_nearest(name, names)}")

    def _memory_agrees(self, board: Board, memory_total_bytes: float | None) -> bool:
        expected = self._memory_bytes.get(board.name)
        if memory_total_bytes is None or expected is None:
            return True
        return abs(memory_total_bytes - expected) <= MEMORY_TOLERANCE_RATIO * expected


@lru_cache(maxsize=1)
def load_catalog() -> Catalog:
    """The catalogue that ships with gpufleet; raises CatalogError naming file and row."""
    return read_catalog(DATA)


def read_catalog(folder: Path) -> Catalog:
    """The catalogue in a folder like `planner/data`; raises CatalogError naming file and row."""
    entries, sources = read_entries(folder)
    by_name: dict[str, Board] = {}
    by_product: dict[str, Board] = {}
    by_product_and_memory: dict[str, tuple[Board, ...]] = {}
    memory_bytes: dict[str, int] = {}
    for entry in entries:
        board = entry.board
        _claim(by_name, (board.name, *entry.aliases), entry)
        _claim(by_product, board.product_names, entry)
        for name in map(_normalised, entry.ambiguous_names):
            by_product_and_memory[name] = (*by_product_and_memory.get(name, ()), board)
        if entry.memory_for_matching_bytes is not None:
            memory_bytes[board.name] = entry.memory_for_matching_bytes
    for name, board in by_name.items():  # people and other tools write a catalogue id where a product name belongs
        if by_product.setdefault(name, board) is not board:
            raise CatalogError(
                f"boards.toml: {name!r} is an alias of {board.name} and a product name of another board."
            )
    return Catalog(
        boards=tuple(entry.board for entry in entries),
        sources=MappingProxyType(sources),
        _by_name=MappingProxyType(by_name),
        _by_product=MappingProxyType(by_product),
        _by_product_and_memory=MappingProxyType(by_product_and_memory),
        _memory_bytes=MappingProxyType(memory_bytes),
    )


def find_profile(board: Board, name: str) -> Profile | None:
    """The board's profile that any driver or Kubernetes spells like that; None when there is none."""
    for profile in board.profiles:  # the usual spelling first: this is asked for every instance of a fleet
        if profile.name == name:
            return profile
    spelled = _COMPUTE_INSTANCE_PREFIX.sub("", name.strip().lower().removeprefix("mig-").removeprefix("mig "))
    spelled = _RESOURCE_ATTRIBUTE.sub("+", spelled)
    for profile in board.profiles:
        if spelled == profile.name or spelled in profile.alternate_names:
            return profile
    return None


def _normalised(name: str) -> str:
    """One spelling for all: lower case, without vendor and GFD suffix, words joined by single hyphens."""
    name = _GFD_SUFFIX.sub("", name.strip().lower())
    words = re.findall(r"[a-z0-9.]+", name)
    return "-".join(words[1:] if words[:1] == ["nvidia"] else words)


def _claim(index: dict[str, Board], names: Sequence[str], entry: BoardEntry) -> None:
    for name in sorted({_normalised(name) for name in names}):
        if index.setdefault(name, entry.board) is not entry.board:
            raise CatalogError(f"boards.toml: {entry.board.name} and {index[name].name} both claim the name {name!r}.")


def _quoted(name: str) -> str:
    """The name as it was written, without control characters; names from files can be of any length."""
    return repr(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}...")


def _nearest(name: str, names: Sequence[str]) -> str:
    """The names that begin like that, then those that are spelled alike; all of them when none is near."""
    asked = name[:LONGEST_NAME].lower()
    by_spelling = {known.lower(): known for known in names}
    begun = [known for spelling, known in by_spelling.items() if asked and spelling.startswith(asked)]
    alike = [by_spelling[spelling] for spelling in get_close_matches(asked, list(by_spelling), n=3, cutoff=0.5)]
    close = list(dict.fromkeys([*begun, *alike]))[:3]
    return f"Nearest: {', '.join(close)}." if close else f"Known: {', '.join(names)}."

"""From the text of a series to what it means, remembered: an engine repeats the same text at every scrape.

A thousand scrapes of a server cost its labels once. What is remembered does not depend on the server, so replicas that
serve the same model share it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakValueDictionary

from collectors.exposition import parse_labels, split_line
from collectors.plain_text import plain_text
from collectors.serving.table import EngineTable, Meaning, Part, meanings

MAX_SERIES = 200_000
"""Series remembered at once; 500 vLLM servers with models of their own have about 150,000."""
MAX_SERIES_TEXT = 2_048
"""Longest series that is remembered, in characters."""
MAX_LABEL = 253
"""Longest label value that is kept, in characters."""

PROCESS_START = "process_start_time_seconds"
_BEGINNING = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Cell:
    """One series of a row: everything that tells its values from those of another series.

    `rank` is the data-parallel rank as the engine says it, `worker` a process behind the address; `label` is what our
    metric is split by. `lowest` and `others` hold the labels that are left, see `EngineTable`.
    """

    row_place: int
    model: str
    rank: str
    worker: str
    label: str
    lowest: tuple[str, ...]
    others: frozenset[tuple[str, str]]


_CellKey = tuple[int, str, str, str, str, tuple[str, ...], frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Where one sample belongs. `bound` is the upper bound of a bucket."""

    cell: Cell
    part: Part
    spelling: int
    bound: float


@dataclass(frozen=True, slots=True, eq=False)
class Info:
    """Settings told as labels of a gauge."""

    rank: str
    settings: tuple[tuple[str, str], ...]


Known = tuple[Slot, ...] | Info | str | None
"""What a series means: places for its value, settings, `PROCESS_START`, or nothing that is read."""


class Unreadable(ValueError):
    """A line that cannot be read; the message says why."""


class SeriesBook:
    """Everything known of the series of one engine."""

    def __init__(self, table: EngineTable) -> None:
        self.table = table
        self.known: dict[str, Known] = {}
        self._meanings = meanings(table)
        self._info_names = frozenset(prefix + name for prefix in table.prefixes for name in table.info_names)
        # A cell lives as long as a series or a page that holds it: on one page it is one, whatever is forgotten.
        self._cells: WeakValueDictionary[_CellKey, Cell] = WeakValueDictionary()

    def learn(self, line: str) -> tuple[Known, str]:
        """What a line means that is not known yet, and the text of its value. Raises Unreadable.

        Series are remembered under the text before the last blank, unless a timestamp stands there.
        """
        parts = split_line(line.strip())
        if parts is None:
            raise Unreadable("not of the form name{labels} value")
        name, block, rest = parts
        words = rest.split()
        if len(words) > 2:
            raise Unreadable("more than a value and a time after the labels")
        known = self.of_name(name)
        if known is None and (name in self._meanings or name in self._info_names):
            labels = parse_labels(block)
            if labels is None:
                raise Unreadable("its labels cannot be told apart")
            known = self.of_series(name, labels)
        series, _, last = line.rpartition(" ")
        if last == words[0] and len(words) == 1 and len(series) <= MAX_SERIES_TEXT:
            if len(self.known) >= MAX_SERIES:
                self.known.clear()
            self.known[series] = known
        return known, words[0]

    def of_name(self, name: str) -> Known:
        """What a name alone means."""
        return PROCESS_START if name == PROCESS_START else None

    def lost(self, line: str) -> tuple[str, frozenset[str] | None]:
        """What a line that cannot be read was about: its sample name where it is one that is read, and the metrics.

        None for metrics: nobody knows. A name that breaks off may be any that begins like it.
        """
        match = _BEGINNING.match(line)
        if match is None:
            return "", None
        name = match[1]
        if name in self._meanings:
            return name, frozenset(meaning.row.metric for meaning in self._meanings[name])
        return "", frozenset(
            meaning.row.metric for known, found in self._meanings.items() if known.startswith(name) for meaning in found
        )

    def of_series(self, name: str, labels: Mapping[str, str]) -> Known:
        """What a series of this name with these labels means."""
        if name in self._info_names:
            return self._info(labels)
        for label, wanted in self.table.only.items():
            if labels.get(label, wanted) != wanted:
                return None
        slots = [
            self._slot(meaning, labels) for meaning in self._meanings.get(name, ()) if _has(meaning.row.where, labels)
        ]
        return tuple(slots) or None

    def _info(self, labels: Mapping[str, str]) -> Info:
        settings = {plain_text(key, 64): plain_text(value, MAX_LABEL) for key, value in labels.items()}
        rank = self._first(labels, self.table.rank_labels)
        for label in (*self.table.rank_labels, *self.table.model_labels):
            settings.pop(label, None)
        return Info(rank=rank, settings=tuple(sorted(settings.items())))

    def _slot(self, meaning: Meaning, labels: Mapping[str, str]) -> Slot:
        table, row = self.table, meaning.row
        used = {*table.model_labels, *table.rank_labels, *table.worker_labels, *table.lowest_of, *table.constant}
        used |= {label for label, _ in row.where} | set(table.only)
        bound = 0.0
        if meaning.part is Part.BUCKET:
            used.add("le")
            bound = _bound(labels.get("le"))
        label = ""
        if row.split is not None:
            used.add(row.split)
            label = plain_text(row.label(labels.get(row.split, "")), MAX_LABEL)
        key: _CellKey = (
            meaning.place,
            plain_text(self._first(labels, table.model_labels), MAX_LABEL),
            plain_text(self._first(labels, table.rank_labels), 32),
            plain_text(self._first(labels, table.worker_labels), 64),
            label,
            tuple(labels.get(name, "").zfill(4) for name in sorted(table.lowest_of)),
            frozenset((name, value) for name, value in labels.items() if name not in used),
        )
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = Cell(*key)
        return Slot(cell=cell, part=meaning.part, spelling=meaning.spelling, bound=bound)

    @staticmethod
    def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
        return next((labels[name] for name in names if labels.get(name)), "")


def _has(where: tuple[tuple[str, str], ...], labels: Mapping[str, str]) -> bool:
    return all(labels.get(label) == value for label, value in where)


def _bound(text: str | None) -> float:
    try:
        bound = float(text or "nan")
    except ValueError:
        bound = float("nan")
    if bound != bound:
        raise Unreadable("a bucket without an upper bound")
    return bound

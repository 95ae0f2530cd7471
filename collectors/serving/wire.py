"""One page of an engine's metrics to values by series: a bad line costs itself, order and repetition cost nothing."""

from dataclasses import dataclass, field

from collectors.exposition import MAX_BAD_LINES, MAX_LINE, BadLine
from collectors.serving.series import PROCESS_START, Cell, Info, Known, SeriesBook, Unreadable
from collectors.serving.table import Part

_UNKNOWN: Known = Info(rank="", settings=())


@dataclass(slots=True)
class Values:
    """What one series said. `buckets` are (upper bound, cumulative count) in the order of the page."""

    value: float | None = None
    total: float | None = None
    count: float | None = None
    created: float | None = None
    buckets: list[tuple[float, float]] = field(default_factory=list)
    spelling: int = 0
    is_no_number: bool = False
    is_twice: bool = False


@dataclass(slots=True)
class ReadPage:
    """A page, read. `is_cut` when it ends in the middle of a line, which is then not read.

    `lost` are the metrics of which a line could not be read; `is_torn` when nobody knows what such a line was about.
    The text of a bad line is the name of its sample, where it is one that is read.
    """

    values: dict[Cell, Values] = field(default_factory=dict)
    infos: dict[str, Info] = field(default_factory=dict)  # by rank
    process_started_s: float | None = None
    bad_lines: list[BadLine] = field(default_factory=list)
    bad_line_count: int = 0
    is_cut: bool = False
    lost: set[str] = field(default_factory=set)
    is_torn: bool = False

    def put(self, known: Known, text: str) -> None:
        """Take in one sample."""
        number = _number(text)
        if isinstance(known, tuple):
            for slot in known:
                values = self.values.get(slot.cell)
                if values is None:
                    values = self.values[slot.cell] = Values()
                if number is None:
                    values.is_no_number = True
                elif slot.part is Part.BUCKET:
                    values.buckets.append((slot.bound, number))
                else:
                    _put_single(values, slot.part, slot.spelling, number)
        elif isinstance(known, Info):
            if number:
                self.infos.setdefault(known.rank, known)
        elif known == PROCESS_START:
            self.process_started_s = number


def read_page(text: str, book: SeriesBook) -> ReadPage:
    """Every line that the engine's table reads."""
    page = ReadPage()
    lines = text.replace("\r\n", "\n").split("\n")
    # The format ends every line with a line feed. Without it the last number may have lost its last digits.
    last = lines.pop().strip()
    page.is_cut = bool(last) and last != "# EOF"
    known_series = book.known
    put = page.put
    for number, line in enumerate(lines, start=1):
        if not line or line[0] == "#":
            continue
        series, _, value = line.rpartition(" ")
        known = known_series.get(series, _UNKNOWN)
        if known is None:
            continue
        if known is _UNKNOWN:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                if len(line) > MAX_LINE:
                    raise Unreadable(f"longer than {MAX_LINE} characters")
                known, value = book.learn(line)
            except Unreadable as error:
                _note_bad_line(page, number, line, str(error), book)
                continue
            if known is None:
                continue
        put(known, value)
    return page


def _put_single(values: Values, part: Part, spelling: int, number: float) -> None:
    """One number of a series; of two spellings the better one, of two equal ones the first."""
    if part is Part.CREATED:
        values.created = number
        return
    name = part.value
    before = getattr(values, name)
    if before is None or spelling < values.spelling:
        setattr(values, name, number)
        values.spelling = spelling
    elif spelling == values.spelling and before != number and number == number:
        values.is_twice = True


def _note_bad_line(page: ReadPage, number: int, line: str, reason: str, book: SeriesBook) -> None:
    name, metrics = book.lost(line)
    page.lost |= metrics or frozenset()
    page.is_torn = page.is_torn or metrics is None
    page.bad_line_count += 1
    if len(page.bad_lines) < MAX_BAD_LINES:
        page.bad_lines.append(BadLine(number=number, text=name, reason=reason))


def _number(text: str) -> float | None:
    if "_" in text:  # Python reads 1_000 as a number, Prometheus does not
        return None
    try:
        return float(text)
    except ValueError:
        return None

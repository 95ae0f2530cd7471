"""NVLink: bytes per second from the counters that every link keeps, as field values with the link as scope.

The driver may also tell all links together. Then the sum of the links is held against it: where the sum is much more,
this driver repeats the total for every link, and the total stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from collectors.nvml.devices import Gpu
from collectors.nvml.gaps import GapBook
from collectors.nvml.library import Library
from collectors.nvml.metrics import ALL_LINKS, NVLINK_COUNTERS, NVLINK_LINK_COUNT_FIELD, LinkCounters
from collectors.nvml.refusals import Kind, Refusal
from collectors.nvml.table_reading import Values

MAX_LINKS = 72
"""More links than any GPU has: NVML's names end at link 71."""

REPEATED_TOTAL_RATIO = 1.5
"""From here on the sum of the links is not the total seen a little later, but the total over and over."""

TX, RX = "nvlink_tx_bytes_per_s", "nvlink_rx_bytes_per_s"
BOTH = "nvlink_bytes_per_s"


@dataclass(slots=True, kw_only=True)
class _Counted:
    """The counters of one GPU at one moment, in bytes, by direction and link (ALL_LINKS: together)."""

    at_s: float
    bytes_by_link: Mapping[tuple[str, int], float]


class NvLinks:
    """The counters of the reading before, from which rates are made."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._before: dict[str, _Counted] = {}
        self._links: dict[str, int] = {}
        self._counters: dict[str, LinkCounters | None] = {}

    def rates(self, gpu: Gpu, now_s: float, gaps: GapBook) -> Values:
        """Bytes per second since the reading before; empty the first time, without NVLink, and under MIG.

        `now_s` is a clock that never goes back. Raises GpuLost, CollectorError.
        """
        if gpu.is_cut:  # links cannot be used then, and NVML refuses to speak of them
            self.forget(gpu.uuid)
            return {}
        links = self._link_count(gpu, gaps)
        if not links:
            return {}
        counted = self._count(gpu, links, now_s, gaps)
        if counted is None:
            return {}
        before = self._before.get(gpu.uuid)
        self._before[gpu.uuid] = counted
        if before is None or counted.at_s <= before.at_s:
            return {}
        values: Values = {}
        for metric in (TX, RX):
            rate = _rate(metric, before, counted, links, gpu, gaps)
            if rate is not None:
                values[gpu.whole, metric] = rate
        if len(values) == 2:
            values[gpu.whole, BOTH] = sum(values.values())
        return values

    def gives(self, gpu: Gpu) -> bool:
        """Whether the links of this GPU are counted: then GPM's totals are not needed."""
        return self._counters.get(gpu.uuid) is not None

    def forget(self, uuid: str) -> None:
        """Begin anew with this GPU: it was gone for a while."""
        self._before.pop(uuid, None)

    def _link_count(self, gpu: Gpu, gaps: GapBook) -> int:
        known = self._links.get(gpu.uuid)
        if known is not None:
            return known
        key = (NVLINK_LINK_COUNT_FIELD, 0)
        count = self._library.fields(gpu.handle, [key], about=gpu.uuid)[key]
        if isinstance(count, Refusal):
            if count.kind is not Kind.UNSUPPORTED:  # without NVLink there is nothing to miss
                gaps.note(gpu.whole, BOTH, count.reason)
            return 0
        self._links[gpu.uuid] = min(int(count), MAX_LINKS)
        return self._links[gpu.uuid]

    def _count(self, gpu: Gpu, links: int, now_s: float, gaps: GapBook) -> _Counted | None:
        """The counters of this moment, of the first kind that this GPU has."""
        chosen = self._counters.get(gpu.uuid)
        for counters in NVLINK_COUNTERS if chosen is None else (chosen,):
            scopes = (ALL_LINKS, *range(links))
            asked = [(field, scope) for scope in scopes for field in (counters.tx_field, counters.rx_field)]
            told = self._library.fields(gpu.handle, asked, about=gpu.uuid)
            counted = {
                (TX if field == counters.tx_field else RX, scope): counters.convert(value)
                for (field, scope), value in told.items()
                if not isinstance(value, Refusal)
            }
            if counted:
                self._counters[gpu.uuid] = counters
                return _Counted(at_s=now_s, bytes_by_link=counted)
            for value in told.values():
                if isinstance(value, Refusal) and value.kind is not Kind.UNSUPPORTED:
                    gaps.note(gpu.whole, BOTH, value.reason)
                    break
        self._counters.setdefault(gpu.uuid, None)
        return None


def _rate(metric: str, before: _Counted, now: _Counted, links: int, gpu: Gpu, gaps: GapBook) -> float | None:
    grown: dict[int, float] = {}
    missed = 0
    for (direction, scope), counted in before.bytes_by_link.items():
        if direction != metric:
            continue
        newer = now.bytes_by_link.get((direction, scope))
        if newer is None or newer < counted:  # the link no longer counts, or begins anew
            missed += scope != ALL_LINKS
        else:
            grown[scope] = newer - counted
    total = grown.pop(ALL_LINKS, None)
    summed = sum(grown.values()) if grown else None
    seconds = now.at_s - before.at_s
    if total is not None and (summed is None or missed or summed > REPEATED_TOTAL_RATIO * total):
        return total / seconds
    if summed is None:
        gaps.note(gpu.whole, metric, "no link gave a counter that grew since the reading before")
        return None
    if missed:
        gaps.note(gpu.whole, metric, f"{missed} of {links} links did not count on: their bytes are missing in it")
    return summed / seconds

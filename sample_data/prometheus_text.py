"""Families in the Prometheus text format, as the official Python client writes them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from prometheus_client.utils import floatToGoString

from sample_data.request_shapes import Quantity
from sample_data.serving_state import Work

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Page:
    """A page of metrics being written; `created_at` adds the client's `_created` gauges to counters and histograms."""

    def __init__(self, *, prefix: str = "", created_at: datetime | None = None) -> None:
        self._lines: list[str] = []
        self._prefix = prefix
        self._created = None if created_at is None else go_float(created_at.timestamp())

    def text(self) -> str:
        """Everything written so far."""
        return "".join(self._lines)

    def gauge(self, name: str, help: str, values: Sequence[tuple[str, float]]) -> None:
        """A gauge: label sets as `labels` writes them, each with its value."""
        self._write(name, help, "gauge", values)

    def counter(self, name: str, help: str, values: Sequence[tuple[str, float]]) -> None:
        """A counter, by the name that it bears on the page."""
        self._write(name, help, "counter", values)
        if self._created is not None:
            made = f"{name.removesuffix('_total')}_created"
            self._head(made, help, "gauge")
            self._lines += [f"{self._prefix}{made}{labels} {self._created}\n" for labels, _ in values]

    def histogram(
        self,
        name: str,
        help: str,
        works: Sequence[tuple[Mapping[str, str], Work]],
        quantity: Quantity,
        bounds: tuple[float, ...],
    ) -> None:
        """A histogram of one quantity, one set of buckets per label set."""
        self._head(name, help, "histogram")
        full = self._prefix + name
        for named, work in works:
            buckets = work.histogram(quantity, bounds)
            own = labels(named)
            for prefix, count in zip(_bucket_labels(tuple(named.items()), bounds), buckets.counts, strict=True):
                self._lines.append(f"{full}_bucket{prefix} {go_float(count)}\n")
            infinite = labels({**named, "le": "+Inf"})
            self._lines.append(f"{full}_bucket{infinite} {go_float(buckets.count)}\n")
            self._lines.append(f"{full}_count{own} {go_float(buckets.count)}\n")
            self._lines.append(f"{full}_sum{own} {go_float(buckets.total)}\n")
        if self._created is not None:
            self._head(f"{name}_created", help, "gauge")
            self._lines += [f"{full}_created{labels(named)} {self._created}\n" for named, _ in works]

    def _write(self, name: str, help: str, kind: str, values: Sequence[tuple[str, float]]) -> None:
        self._head(name, help, kind)
        full = self._prefix + name
        self._lines += [f"{full}{labels} {go_float(value)}\n" for labels, value in values]

    def _head(self, name: str, help: str, kind: str) -> None:
        self._lines.append(f"# HELP {self._prefix}{name} {help}\n# TYPE {self._prefix}{name} {kind}\n")


def go_float(value: float) -> str:
    """A number as the client writes it: 13.0, 1.7953102632375655e+09."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def labels(named: Mapping[str, str]) -> str:
    """A label set as it stands on a line; the client sorts by name."""
    return _labels(tuple(named.items()))


@lru_cache(maxsize=65_536)
def _labels(named: tuple[tuple[str, str], ...]) -> str:
    if not named:
        return ""
    told = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(named))
    return f"{{{told}}}"


@lru_cache(maxsize=8_192)
def _bucket_labels(named: tuple[tuple[str, str], ...], bounds: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(_labels((*named, ("le", go_float(bound)))) for bound in bounds)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

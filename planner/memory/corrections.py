"""What measured runs change in an estimate: a factor on single terms, within bounds, each with a sentence that says so.

A factor is the median of measured / predicted over the runs of the same model, engine, version and device, each
predicted with that run's own settings (so it carries over to other settings). It is bounded, because a measurement far
from the law is more often another model, precision or flag than a wrong law; a factor cut at its bound leaves the range
as it was. The estimate is made from the corrected terms (`vllm.py`, `llama_cpp.py`), so the pool, the longest request
and the range of the sum follow by the engine's own rules: vLLM's terms err independently and their ranges add as
squares, of llama.cpp the ends of all ranges are added.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from types import MappingProxyType
from typing import Final

from planner.memory.estimate import Basis, Correction, Term
from planner.sentences import spelled_bytes, spelled_count
from planner.units import GIB

ROUNDING_BYTES: Final = GIB // 200
"""Half of the last digit that vLLM prints, two decimals of a GiB."""

_LEAST_SPREAD: Final = 0.01
_OF_ANY_SETTINGS: Final = frozenset({"weights"})
_REMAINING: Final = 0.5
"""Share of the law's own range that stays around a term that settings change: the run measured had its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How far a factor may go, and why no further."""

    low: float
    high: float
    reason: str


BOUNDS: Final[Mapping[str, Bound]] = MappingProxyType(
    {
        "weights": Bound(low=0.95, high=1.08, reason="weights follow from the checkpoint; more is another one"),
        "kv_cache": Bound(low=0.98, high=1.02, reason="the cache of llama.cpp is exact; more is other settings"),
        "activation": Bound(low=0.4, high=2.5, reason="kernels and samplers differ by build, not by more than this"),
        "non_torch": Bound(low=0.2, high=5.0, reason="NCCL and library buffers differ by driver and by link"),
        "graphs": Bound(low=0.3, high=3.0, reason="captured sizes differ by configuration"),
        "compute": Bound(low=0.4, high=2.5, reason="backends lay out graphs differently"),
    }
)


def correction_of(name: str, factors: Sequence[float]) -> Correction:
    """The correction that these factors, one of each measured run, ask for; `name` is one of `BOUNDS`."""
    bound = BOUNDS[name]
    asked = median(factors)
    factor = min(max(asked, bound.low), bound.high)
    is_cut = factor != asked
    runs = spelled_count(len(factors), "measured run")
    sentence = f"The {name.replace('_', ' ')} is multiplied by {factor:.3f} after {runs}."
    if is_cut:
        sentence += f" They ask for {asked:.3f}, but {bound.reason}; check that the run is the one described."
    return Correction(
        term=name,
        factor=factor,
        asked=asked,
        low=min(factors),
        high=max(factors),
        runs=len(factors),
        is_cut=is_cut,
        sentence=sentence,
    )


def corrected_terms(terms: Iterable[Term], corrections: Iterable[Correction]) -> tuple[Term, ...]:
    """The terms with their factors. A measured factor narrows the range, a cut one does not.

    Weights are narrowed to what was measured; of terms that depend on the settings of the run half of the range stays.
    """
    by_name = {correction.term: correction for correction in corrections}
    return tuple(_corrected(term, by_name[term.name]) if term.name in by_name else term for term in terms)


def _corrected(term: Term, correction: Correction) -> Term:
    middle = round(term.bytes * correction.factor)
    if correction.is_cut:
        low, high = min(term.low, middle), max(term.high, middle)
        basis = term.basis
    else:
        spread = max(_LEAST_SPREAD * middle, ROUNDING_BYTES)
        kept = 0.0 if term.name in _OF_ANY_SETTINGS else _REMAINING * correction.factor
        low = round(min(term.bytes * correction.low, middle - max(spread, kept * (term.bytes - term.low))))
        high = round(max(term.bytes * correction.high, middle + max(spread, kept * (term.high - term.bytes))))
        basis = Basis.MEASURED
    source = f"{correction.sentence} Before that: {spelled_bytes(term.bytes)} by {term.source}"
    return replace(term, bytes=middle, low=max(low, 0), high=high, basis=basis, source=source)

"""Predictions beside measurements, by model, engine version and device, and the corrections that follow from them.

A correction is a factor on one term: the median of measured / predicted over the runs of the same model, engine,
version and device, each predicted with that run's own settings (so it carries over to other settings). It is bounded,
because a measurement far from the law is more often another model, precision or flag than a wrong law; a factor cut at
its bound is said to be so and leaves the range as it was. The KV pool of vLLM is never corrected itself: it is what the
other terms leave.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median
from types import MappingProxyType
from typing import Final

from planner.memory.estimate import Basis, Engine, Estimate, Run, Term, Verdict
from planner.memory.measured import Measured
from planner.sentences import spelled_bytes
from planner.units import GIB, MIB

_ROUNDING: Final = GIB // 200  # vLLM prints two decimals of a GiB
_SMALLEST_TERM: Final = 64 * MIB  # below it, rounding alone makes large factors
_LEAST_SPREAD: Final = 0.01


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationKey:
    """What a measurement speaks for: one model, engine, version and device. Patch releases share their lines."""

    model: str
    engine: Engine
    version: str | None
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TermComparison:
    """One term, predicted and measured, in bytes."""

    name: str
    predicted: int
    low: int
    high: int
    measured: int

    @property
    def factor(self) -> float | None:
        """Measured over predicted; None where nothing was predicted."""
        return self.measured / self.predicted if self.predicted > 0 else None

    @property
    def is_inside(self) -> bool:
        """Whether the measurement lies in the predicted range, give or take what printing rounds off."""
        return self.low - _ROUNDING <= self.measured <= self.high + _ROUNDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One measured run beside its prediction. `measured_at` is when the run was observed, None when unknown."""

    key: CalibrationKey
    terms: tuple[TermComparison, ...]
    measured_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A factor on one term with what it rests on. `is_cut` says that the measurements ask for more than the bound."""

    term: str
    factor: float
    asked: float
    low: float  # smallest and largest factor that was measured
    high: float
    runs: int
    is_cut: bool
    sentence: str


def key_of(run: Run) -> CalibrationKey:
    """The key of a run: the version down to its minor number, a build number of llama.cpp as it is."""
    version = run.engine_version
    if version and (found := re.match(r"v?(\d{1,4})\.(\d{1,4})", version)):
        version = f"{found.group(1)}.{found.group(2)}"
    return CalibrationKey(model=run.model.name, engine=run.engine, version=version, device=run.device.name)


def compare(run: Run, estimate: Estimate, measured: Measured, *, measured_at: datetime | None = None) -> Calibration:
    """Every term that the run measured beside what was predicted for it.

    `estimate` must be that of the measured settings. An estimate of Ollama's scheduler is no measurement of a device
    and gives no terms.
    """
    found = measured_terms(measured) if not measured.is_scheduler_estimate else {}
    terms = [
        TermComparison(name=term.name, predicted=term.bytes, low=term.low, high=term.high, measured=found[term.name])
        for term in estimate.terms
        if term.name in found and term.name != "kv_cache"
    ]
    if "kv_cache" in found:
        terms.append(
            TermComparison(
                name="kv_cache",
                predicted=estimate.kv_cache_bytes,
                low=estimate.kv_cache_low_bytes,
                high=estimate.kv_cache_high_bytes,
                measured=found["kv_cache"],
            )
        )
    return Calibration(key=key_of(run), terms=tuple(terms), measured_at=measured_at)


def measured_terms(measured: Measured) -> dict[str, int]:
    """Measured bytes by the names of the terms; what vLLM prints together is told apart by what it prints alone."""
    non_torch = measured.non_torch_bytes
    if non_torch is None and measured.consumed_bytes is not None and measured.weights_bytes is not None:
        non_torch = measured.consumed_bytes - measured.weights_bytes
    graphs = measured.graph_bytes if measured.graph_bytes is not None else measured.graph_estimate_bytes
    is_llama = measured.engine in (Engine.LLAMA_CPP, Engine.OLLAMA)
    weights, cache, compute = measured.weights_bytes, measured.kv_cache_bytes, measured.activation_bytes
    if is_llama:
        weights = _on_devices(measured.weights_by_device, weights)
        compute = _on_devices(measured.compute_by_device, compute)
    named = {
        "weights": weights,
        "kv_cache": cache,
        "compute" if is_llama else "activation": compute,
        "non_torch": non_torch,
        "graphs": graphs,
    }
    return {name: value for name, value in named.items() if value is not None and value >= 0}


def corrections_for(key: CalibrationKey, history: Iterable[Calibration]) -> tuple[Correction, ...]:
    """What the measured runs of that key ask for, term by term; none without one."""
    factors: dict[str, list[float]] = {}
    for calibration in history:
        if calibration.key != key:
            continue
        for term in calibration.terms:
            if term.name == "kv_cache" and key.engine is Engine.VLLM:
                continue
            is_large = max(term.predicted, term.measured) >= _SMALLEST_TERM
            if term.name in BOUNDS and is_large and (factor := term.factor) is not None:
                factors.setdefault(term.name, []).append(factor)
    return tuple(_correction(name, found) for name, found in sorted(factors.items()))


def corrected_terms(terms: Sequence[Term], corrections: Iterable[Correction]) -> tuple[Term, ...]:
    """The terms with their factors. A measured factor narrows the range to what was measured; a cut one does not."""
    by_name = {correction.term: correction for correction in corrections}
    return tuple(_corrected(term, by_name[term.name]) if term.name in by_name else term for term in terms)


def corrected(estimate: Estimate, corrections: Sequence[Correction]) -> Estimate:
    """The estimate with corrected terms, the pool that they leave, and the verdict for it.

    A refusal that no term explains (heads not divisible, contradictory flags) stays one.
    """
    if not corrections:
        return estimate
    terms = corrected_terms(estimate.terms, corrections)
    notes = (*estimate.assumed, *(correction.sentence for correction in corrections))
    if "compute" in {term.name for term in terms}:
        return _corrected_need(estimate, terms, notes)
    return _corrected_pool(estimate, terms, notes)


def _on_devices(buffers: Mapping[str, int], total: int | None) -> int | None:
    """The largest device of those that are not the host; the total where there is only the host."""
    devices = [size for name, size in buffers.items() if not name.upper().startswith(("CPU", "CUDA_HOST", "ROCM_HOST"))]
    return max(devices) if devices else total


def _correction(name: str, factors: Sequence[float]) -> Correction:
    bound = BOUNDS[name]
    asked = median(factors)
    factor = min(max(asked, bound.low), bound.high)
    is_cut = factor != asked
    runs = f"{len(factors)} measured run{'s' if len(factors) > 1 else ''}"
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


def _corrected(term: Term, correction: Correction) -> Term:
    middle = round(term.bytes * correction.factor)
    if correction.is_cut:
        low, high = min(term.low, middle), max(term.high, middle)
        basis = term.basis
    else:
        spread = max(_LEAST_SPREAD * middle, _ROUNDING)
        low = round(min(term.bytes * correction.low, middle - spread))
        high = round(max(term.bytes * correction.high, middle + spread))
        basis = Basis.MEASURED
    source = f"{correction.sentence} Before that: {spelled_bytes(term.bytes)} by {term.source}"
    return replace(term, bytes=middle, low=max(low, 0), high=high, basis=basis, source=source)


def _corrected_need(estimate: Estimate, terms: tuple[Term, ...], notes: tuple[str, ...]) -> Estimate:
    """llama.cpp: the sum of the terms against the device."""
    low, middle, high = (sum(getattr(term, end) for term in terms) for end in ("low", "bytes", "high"))
    device = estimate.budget_bytes
    verdict = Verdict.FITS if high <= device else Verdict.DOES_NOT_FIT if low > device else Verdict.TIGHT
    cache = next((term for term in terms if term.name == "kv_cache"), None)
    reason = f"It needs {spelled_bytes(middle)} of {spelled_bytes(device)} by what earlier runs measured."
    return replace(
        estimate,
        terms=terms,
        verdict=verdict,
        reasons=(reason, *estimate.reasons),
        kv_cache_bytes=cache.bytes if cache else estimate.kv_cache_bytes,
        kv_cache_low_bytes=cache.low if cache else estimate.kv_cache_low_bytes,
        kv_cache_high_bytes=cache.high if cache else estimate.kv_cache_high_bytes,
        assumed=notes,
    )


def _corrected_pool(estimate: Estimate, terms: tuple[Term, ...], notes: tuple[str, ...]) -> Estimate:
    """vLLM: the pool moves by what the charged terms moved."""
    charged = _charged(estimate)
    before = [term for term in estimate.terms if term.name in charged]
    after = [term for term in terms if term.name in charged]
    pool = estimate.kv_cache_bytes + sum(one.bytes for one in before) - sum(one.bytes for one in after)
    slack_low = sum(one.high - one.bytes for one in after)
    slack_high = sum(one.bytes - one.low for one in after)
    ratio = pool / estimate.kv_cache_bytes if estimate.kv_cache_bytes > 0 else None
    verdict, reasons = estimate.verdict, estimate.reasons
    if ratio is not None and estimate.max_concurrency:
        request = estimate.kv_cache_bytes / estimate.max_concurrency
        is_sure = pool - slack_low >= request
        verdict = Verdict.FITS if is_sure else Verdict.TIGHT if pool + slack_high >= request else Verdict.DOES_NOT_FIT
        reason = f"By what earlier runs measured, {spelled_bytes(max(pool, 0))} are left for the KV cache"
        reasons = (f"{reason}; one request of the longest length takes {spelled_bytes(round(request))}.", *reasons)
    return replace(
        estimate,
        terms=tuple(
            replace(one, bytes=pool, low=pool - slack_low, high=pool + slack_high) if one.name == "kv_cache" else one
            for one in terms
        ),
        verdict=verdict,
        reasons=reasons,
        kv_cache_bytes=pool,
        kv_cache_low_bytes=pool - slack_low,
        kv_cache_high_bytes=pool + slack_high,
        kv_cache_tokens=_scaled(estimate.kv_cache_tokens, ratio),
        max_concurrency=estimate.max_concurrency * ratio if estimate.max_concurrency and ratio else None,
        max_context=_scaled(estimate.max_context, min(ratio, 1.0)) if ratio is not None else estimate.max_context,
        assumed=notes,
    )


def _charged(estimate: Estimate) -> frozenset[str]:
    """Terms that the pool pays for. CUDA graphs are one from vLLM 0.21 on, which the estimate's own sum shows."""
    others = [term for term in estimate.terms if term.name != "kv_cache"]
    names = frozenset(term.name for term in others)
    graphs = sum(term.bytes for term in others if term.name == "graphs")
    rest = estimate.budget_bytes - sum(term.bytes for term in others)
    is_charged = abs(rest - estimate.kv_cache_bytes) <= abs(rest + graphs - estimate.kv_cache_bytes)
    return names if is_charged else names - {"graphs"}


def _scaled(count: int | None, ratio: float | None) -> int | None:
    return None if count is None or ratio is None else max(int(count * ratio), 0)

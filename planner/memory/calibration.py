"""Predictions beside measurements, by model, engine version and device, and what they ask to be corrected.

The KV pool of vLLM is compared and never corrected itself: it is what the other terms leave.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final

from planner.memory.corrections import BOUNDS, ROUNDING_BYTES, correction_of
from planner.memory.estimate import Correction, Engine, Estimate, Run
from planner.memory.measured import Measured
from planner.memory.model_catalogue import model_rows
from planner.sentences import spelled_bytes
from planner.units import MIB

SMALLEST_TERM_BYTES: Final = 64 * MIB
"""Below it, rounding alone makes large factors."""

_RELEASE: Final = re.compile(r"v?(\d{1,4})\.(\d{1,4})")
_BUILD: Final = re.compile(r"b?(\d{3,6})(?:-[0-9a-f]{6,12})?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationKey:
    """What a measurement speaks for: one model, engine, version and device. Patch releases share their lines.

    `ranks` is how many such devices share the model: between several there are buffers that one has not.
    """

    model: str
    engine: Engine
    version: str | None
    device: str
    ranks: int = 1


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
        return self.low - ROUNDING_BYTES <= self.measured <= self.high + ROUNDING_BYTES

    @property
    def outside_bytes(self) -> int:
        """How far the measurement lies outside of the predicted range; 0 within it."""
        return 0 if self.is_inside else max(self.low - self.measured, self.measured - self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One measured run beside its prediction. `measured_at` is when the run was observed, None when unknown."""

    key: CalibrationKey
    terms: tuple[TermComparison, ...]
    measured_at: datetime | None = None

    @property
    def worst(self) -> TermComparison:
        """The term that lies furthest outside of its range, else the one that was missed by most."""
        return max(self.terms, key=lambda one: (one.outside_bytes, abs(one.measured - one.predicted)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TermReview:
    """One term over all runs of a key: the last one, and the correction, or why there is none."""

    name: str
    runs: int
    last: TermComparison
    correction: Correction | None
    reason: str  # "" beside a correction


def key_of(run: Run) -> CalibrationKey:
    """The key of a run: an alias under the catalogue's name, the version down to its minor number, or a build number.

    `build: 6845` of a log and `b6845-1a2b3c4d` are the same build of llama.cpp.
    """
    version = run.engine_version
    if version and (found := _RELEASE.match(version)):
        version = f"{found.group(1)}.{found.group(2)}"
    elif version and run.engine is Engine.LLAMA_CPP and (found := _BUILD.match(version)):
        version = f"b{found.group(1)}"
    model = _catalogue_name(run.model.name)
    ranks = run.tensor_parallel * run.pipeline_parallel
    return CalibrationKey(model=model, engine=run.engine, version=version, device=run.device.name, ranks=ranks)


@cache
def _names() -> Mapping[str, str]:
    return {name.lower(): row.name for row in model_rows().values() for name in (*row.aliases, row.name)}


def _catalogue_name(name: str) -> str:
    """People serve a checkpoint under an alias; what was measured of one is known of the other."""
    return _names().get(name.strip().lower(), name)


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
    compared = _compared(key, history)
    return tuple(
        correction_of(name, factors) for name, found in sorted(compared.items()) if (factors := _factors(key, found))
    )


def review(key: CalibrationKey, history: Iterable[Calibration]) -> tuple[TermReview, ...]:
    """Every term that the runs of that key measured, in the order of the last run, with what follows from it."""
    reviews = []
    for name, found in _compared(key, history).items():
        factors = _factors(key, found)
        reviews.append(
            TermReview(
                name=name,
                runs=len(found),
                last=found[-1],
                correction=correction_of(name, factors) if factors else None,
                reason="" if factors else _uncorrected(key, found[-1]),
            )
        )
    return tuple(reviews)


def _compared(key: CalibrationKey, history: Iterable[Calibration]) -> dict[str, list[TermComparison]]:
    """Comparisons of that key by term, in the order of the history."""
    found: dict[str, list[TermComparison]] = {}
    for calibration in history:
        if calibration.key == key:
            for term in calibration.terms:
                found.setdefault(term.name, []).append(term)
    return found


def _factors(key: CalibrationKey, terms: Sequence[TermComparison]) -> list[float]:
    return [term.factor for term in terms if term.factor is not None and not _uncorrected(key, term)]


def _uncorrected(key: CalibrationKey, term: TermComparison) -> str:
    """Why this measurement asks for no correction; empty where it does."""
    if term.name == "kv_cache" and key.engine is Engine.VLLM:
        return "not corrected itself: it is what the other terms leave"
    if term.name not in BOUNDS:
        return "not corrected: no bound is known for it"
    if max(term.predicted, term.measured) < SMALLEST_TERM_BYTES:
        return f"not corrected: below {spelled_bytes(SMALLEST_TERM_BYTES)}, where rounding alone makes large factors"
    if term.predicted <= 0:
        return "not corrected: nothing was predicted"
    return ""


def _on_devices(buffers: Mapping[str, int], total: int | None) -> int | None:
    """The largest device of those that are not the host; the total where there is only the host."""
    devices = [size for name, size in buffers.items() if not name.upper().startswith(("CPU", "CUDA_HOST", "ROCM_HOST"))]
    return max(devices) if devices else total

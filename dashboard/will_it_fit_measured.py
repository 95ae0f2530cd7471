"""What the page "Will it fit?" says of measured runs: beside their predictions, worst first, and what they correct."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dashboard.formatting import ABSENT, bytes_text
from dashboard.measured_runs import KeptRun
from dashboard.will_it_fit_figures import TERMS
from planner.memory.calibration import CalibrationKey, TermComparison, TermReview, review
from planner.memory.corrections import BOUNDS
from planner.memory.estimate import Engine
from planner.memory.experience import Experience
from planner.memory.learning import Learnt

ENGINES: Final = {Engine.VLLM: "vLLM", Engine.LLAMA_CPP: "llama.cpp", Engine.OLLAMA: "Ollama"}
POOL: Final = "KV cache left"
"""Of vLLM the cache is what the other terms leave, not what all requests need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """One term as predicted and as measured."""

    name: str
    tone: str
    predicted: str
    range_text: str
    measured: str
    factor: str
    is_inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRow:
    """One term of the runs that speak for the option, the last of them in `last`, and what follows from all."""

    last: ComparedRow
    correction: str  # the factor, or the sign for none
    word: str  # "applied", "cut at its bound", "none"
    tone: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One kept run in the table of all of them."""

    run_id: int
    model: str
    engine: str
    device: str
    when: str
    term: str
    numbers: str
    factor: str
    inside: str
    is_outside: bool
    is_asked: bool  # it speaks for the option that is looked at


def compared_rows(learnt: Learnt) -> tuple[ComparedRow, ...]:
    """A log beside its prediction."""
    if learnt.calibration is None:
        return ()
    return tuple(_compared(term, learnt.run.engine) for term in learnt.calibration.terms)


def review_rows(key: CalibrationKey, experience: Experience) -> tuple[ReviewRow, ...]:
    """Term by term what was measured of that model, engine, version and device."""
    return tuple(_reviewed(one, key.engine) for one in review(key, experience.calibrations))


def run_count(key: CalibrationKey, experience: Experience) -> int:
    """Measured runs of that model, engine, version and device."""
    return sum(calibration.key == key for calibration in experience.calibrations)


def run_rows(runs: Iterable[KeptRun], asked: CalibrationKey | None) -> tuple[RunRow, ...]:
    """Every run, the one whose worst term lies furthest outside of its range first."""

    def badness(run: KeptRun) -> tuple[int, int]:
        worst = run.calibration.worst
        return worst.outside_bytes, abs(worst.measured - worst.predicted)

    return tuple(_run_row(run, asked) for run in sorted(runs, key=badness, reverse=True))


def key_text(key: CalibrationKey) -> str:
    """`Qwen/Qwen3-8B with vLLM 0.19 on L4`."""
    return f"{key.model} with {_engine_text(key)} on {_device_text(key)}"


def run_label(row: RunRow) -> str:
    """One run in a list to choose from."""
    return f"{row.run_id}: {row.device}, {row.when}, {row.engine}, {row.model}"


def outside_count(rows: Sequence[RunRow]) -> int:
    """Runs of which a term was measured outside of its predicted range."""
    return sum(row.is_outside for row in rows)


def _engine_text(key: CalibrationKey) -> str:
    return f"{ENGINES[key.engine]} {key.version or 'of unknown version'}"


def _device_text(key: CalibrationKey) -> str:
    return key.device if key.ranks == 1 else f"{key.ranks} x {key.device}"


def _label(name: str, engine: Engine) -> tuple[str, str]:
    label, tone = TERMS.get(name, (name.replace("_", " "), "e"))
    if name != "kv_cache":
        return label, tone
    return (POOL if engine is Engine.VLLM else "KV cache"), tone


def _compared(term: TermComparison, engine: Engine) -> ComparedRow:
    label, tone = _label(term.name, engine)
    low, high = bytes_text(max(term.low, 0)), bytes_text(max(term.high, 0))
    return ComparedRow(
        name=label,
        tone=tone,
        predicted=bytes_text(max(term.predicted, 0)),
        range_text="exact" if low == high else f"{low} to {high}",
        measured=bytes_text(term.measured),
        factor=_factor(term.factor),
        is_inside=term.is_inside,
    )


def _reviewed(one: TermReview, engine: Engine) -> ReviewRow:
    correction = one.correction
    last = _compared(one.last, engine)
    if correction is None:
        return ReviewRow(last=last, correction=ABSENT, word="", tone="", why=_sentence(one.reason))
    spread = f", from {correction.low:.3f} to {correction.high:.3f}" if correction.runs > 1 else ""
    asked = f"Median of {one.runs} runs{spread}." if one.runs > 1 else "One run."
    bound = BOUNDS[correction.term]
    why = f"{asked} Allowed: {bound.low:g} to {bound.high:g}."
    if correction.is_cut:
        why = f"The measurement asks for {correction.asked:.3f}, but {bound.reason}. {why} Check that it is this run."
    return ReviewRow(
        last=last,
        correction=f"× {correction.factor:.3f}",
        word="cut at its bound" if correction.is_cut else "applied",
        tone="close" if correction.is_cut else "good",
        why=why,
    )


def _run_row(run: KeptRun, asked: CalibrationKey | None) -> RunRow:
    calibration = run.calibration
    key, worst, terms = calibration.key, calibration.worst, calibration.terms
    inside = sum(term.is_inside for term in terms)
    return RunRow(
        run_id=run.id,
        model=key.model,
        engine=_engine_text(key),
        device=_device_text(key),
        when=_when(calibration.measured_at, run.kept_at),
        term=_label(worst.name, key.engine)[0],
        numbers=f"{bytes_text(worst.measured)}, not {bytes_text(max(worst.predicted, 0))}",
        factor=_factor(worst.factor),
        inside=f"{inside} of {len(terms)}",
        is_outside=inside < len(terms),
        is_asked=key == asked,
    )


def _when(measured_at: datetime | None, kept_at: datetime) -> str:
    """The day of the run; where no one knows it the day on which it was kept."""
    return f"{measured_at:%Y-%m-%d}" if measured_at is not None else f"kept {kept_at:%Y-%m-%d}"


def _factor(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""

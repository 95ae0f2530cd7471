"""The JSON of `gpufleet memory`, which the terminal and the requests file share; docs/json.md explains the keys."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from planner.errors import PlannerError
from planner.memory.calibration import Calibration
from planner.memory.engines import estimate_run, is_refused_for_ranks
from planner.memory.estimate import Correction, Device, Engine, Estimate, Run, Term, Verdict
from planner.memory.experience import NO_EXPERIENCE, Experience, corrected_run
from planner.memory.options import Need, Option, Search

if TYPE_CHECKING:
    from gpufleet.memory_request import Question

_PART_NAMES: Mapping[str, tuple[str, ...]] = {
    "weights_bytes": ("weights",),
    "activation_bytes": ("activation", "compute"),
    "non_torch_bytes": ("non_torch", "context"),
    "graph_bytes": ("graphs",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An estimate with the corrections in it; `estimate` is None where the engine refuses so many GPUs."""

    run: Run
    estimate: Estimate | None
    refusal: str | None = None
    notes: Sequence[str] = ()


def answer(run: Run, notes: Sequence[str] = (), experience: Experience = NO_EXPERIENCE) -> Answer:
    """Estimate and correct; a division between GPUs that the engine refuses is an answer, other refusals are errors."""
    run = corrected_run(run, experience)
    try:
        estimate = estimate_run(run)
    except PlannerError as error:
        divides_mig = run.device.is_mig and run.tensor_parallel * run.pipeline_parallel > 1
        if divides_mig or is_refused_for_ranks(run):
            return Answer(run=run, estimate=None, refusal=str(error), notes=notes)
        raise
    return Answer(run=run, estimate=estimate, notes=notes)


def answer_document(given: Answer) -> dict[str, Any]:
    """One object per request; numbers are those of one rank."""
    run, estimate = given.run, given.estimate
    return {
        "model": run.model.name,
        "device": run.device.name,
        "engine": run.engine.value,
        "verdict": (estimate.verdict if estimate else Verdict.DOES_NOT_FIT).value,
        "reasons": list(estimate.reasons) if estimate else [given.refusal],
        "per_rank": _per_rank(run, estimate),
        "kv_cache_tokens": estimate.kv_cache_tokens if estimate else None,
        "max_concurrency": estimate.max_concurrency if estimate else None,
        "terms": [_term(term) for term in estimate.terms] if estimate else [],
        "flags": list(estimate.flags) if estimate else [],
        "engine_version": _version(run, estimate),
        "ranks": run.tensor_parallel * run.pipeline_parallel,
        "max_context": estimate.max_context if estimate else None,
        "kv_bytes_per_token": estimate.kv_bytes_per_token if estimate else None,
        "settings": dict(estimate.settings) if estimate else {},
        "launch": launch_command(run, estimate) if estimate else None,
        "device_evidence": _device(run.device),
        "model_source": run.model.source,
        "corrections": _applied(run, estimate),
        "assumed": _assumed(given),
    }


def server_key(question: "Question", given: Answer) -> dict[str, Any]:
    """The key `server` of the answer where a running server was asked, else nothing."""
    if question.server is None:
        return {}
    from gpufleet.model_server_answer import server_document

    return {"server": server_document(question.server, given, question.overridden)}


def _applied(run: Run, estimate: Estimate | None) -> list[dict[str, Any]]:
    """Corrections of terms that are in the estimate."""
    names = {term.name for term in estimate.terms} if estimate else set()
    return [_correction(correction) for correction in run.corrections if correction.term in names]


def _assumed(given: Answer) -> list[str]:
    """Each sentence once."""
    assumed = given.estimate.assumed if given.estimate else given.run.model.assumed
    return list(dict.fromkeys((*given.notes, *assumed)))


def search_document(model: str, need: Need, found: Search, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Options that hold the need, cheapest first, and the rejected ones with their reasons."""
    return {
        "model": model,
        "need": {"context": need.context, "concurrency": need.concurrency},
        "options": [_option(option) for option in found.options],
        "rejected": [_option(option) for option in found.rejected],
        "notes": list(notes),
    }


def comparison_document(calibration: Calibration) -> list[dict[str, Any]]:
    """Every term as predicted and as measured."""
    return [
        {
            "name": term.name,
            "predicted": term.predicted,
            "low": term.low,
            "high": term.high,
            "measured": term.measured,
            "factor": term.factor,
            "inside": term.is_inside,
        }
        for term in calibration.terms
    ]


def corrections_document(corrections: Iterable[Correction]) -> list[dict[str, Any]]:
    """What is multiplied by how much, and after how many runs."""
    return [_correction(correction) for correction in corrections]


def launch_command(run: Run, estimate: Estimate) -> str:
    """What starts the engine so; for Ollama the environment of its server."""
    if run.engine is Engine.OLLAMA:
        return " ".join((*estimate.flags, "ollama serve"))
    start = "vllm serve" if run.engine is Engine.VLLM else "llama-server --model"
    return " ".join((start, shlex.quote(_servable(run)), *(_quoted(flag) for flag in estimate.flags)))


def _servable(run: Run) -> str:
    """What the engine loads: the file or directory that the facts came from, else the name."""
    place = run.model.source.partition(" and ")[0]
    if place.endswith(".gguf"):
        return place
    return str(PurePath(place).parent) if PurePath(place).name == "config.json" else run.model.name


def _quoted(flag: str) -> str:
    return " ".join(shlex.quote(word) for word in flag.split())


def _version(run: Run, estimate: Estimate | None) -> str | None:
    if estimate is None:
        return run.engine_version
    resolved = estimate.settings.get("engine_version")
    return run.engine_version if resolved is None else str(resolved)


def _per_rank(run: Run, estimate: Estimate | None) -> dict[str, int | None]:
    if estimate is None:
        empty = dict.fromkeys(("budget_bytes", *_PART_NAMES, "kv_cache_bytes"))
        return {"device_bytes": run.device.memory_bytes, **empty}
    sizes = {term.name: term.bytes for term in estimate.terms}
    parts = {key: next((sizes[name] for name in names if name in sizes), None) for key, names in _PART_NAMES.items()}
    return {
        "device_bytes": estimate.device_bytes,
        "budget_bytes": estimate.budget_bytes,
        **parts,
        "kv_cache_bytes": max(0, estimate.kv_cache_bytes),
        "kv_cache_low_bytes": max(0, estimate.kv_cache_low_bytes),
        "kv_cache_high_bytes": max(0, estimate.kv_cache_high_bytes),
    }


def _term(term: Term) -> dict[str, Any]:
    return {
        "name": term.name,
        "bytes": term.bytes,
        "low": term.low,
        "high": term.high,
        "basis": term.basis.value,
        "source": term.source,
    }


def _device(device: Device) -> dict[str, Any]:
    return {"basis": device.basis.value, "source": device.source, "mig": device.is_mig}


def _correction(correction: Correction) -> dict[str, Any]:
    return {
        "term": correction.term,
        "factor": correction.factor,
        "asked": correction.asked,
        "runs": correction.runs,
        "cut": correction.is_cut,
        "sentence": correction.sentence,
    }


def _option(option: Option) -> dict[str, Any]:
    run, estimate = option.run, option.estimate
    return {
        "device": option.device,
        "board": option.board,
        "profile": option.profile,
        "gpus": option.gpus,
        "quantization": option.precision.quantization,
        "kv_cache_dtype": option.precision.kv_cache_dtype,
        "gpus_taken": option.gpus_taken,
        "memory_taken_bytes": option.memory_taken_bytes,
        "price_usd_per_hour": option.price_usd_per_hour,
        "verdict": None if option.verdict is None else option.verdict.value,
        "reason": option.reason,
        "per_rank": _per_rank(run, estimate) if run and estimate else None,
        "kv_cache_tokens": estimate.kv_cache_tokens if estimate else None,
        "max_concurrency": estimate.max_concurrency if estimate else None,
        "max_context": estimate.max_context if estimate else None,
        "flags": list(estimate.flags) if estimate else [],
        "launch": launch_command(run, estimate) if run and estimate else None,
        "device_evidence": _device(run.device) if run else None,
        "corrections": _applied(run, estimate) if run else [],
    }

"""The estimate of a run by whichever engine serves it, and which refusals come from dividing it between GPUs."""

from dataclasses import replace

from planner.errors import PlannerError
from planner.memory.estimate import Engine, Estimate, Run, Verdict
from planner.memory.llama_cpp import estimate_llama_cpp
from planner.memory.vllm import estimate_vllm


def estimate_run(run: Run) -> Estimate:
    """Estimate one rank of the run; raises a PlannerError where the engine would refuse the settings.

    Where weights may come on top of what is counted (`ModelFacts.doubts`) no verdict is better than tight.
    """
    estimate = estimate_vllm(run) if run.engine is Engine.VLLM else estimate_llama_cpp(run)
    if run.model.doubts and estimate.verdict is Verdict.FITS:
        return replace(estimate, verdict=Verdict.TIGHT, reasons=(*estimate.reasons, *run.model.doubts))
    return estimate


def is_refused_for_ranks(run: Run) -> bool:
    """Whether only the number of GPUs stands in the way: on one, the engine would take the same settings."""
    if run.tensor_parallel * run.pipeline_parallel <= 1:
        return False
    try:
        estimate_run(replace(run, tensor_parallel=1, pipeline_parallel=1))
    except PlannerError:
        return False
    return True

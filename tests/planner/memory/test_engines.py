"""What holds for every engine."""

from dataclasses import replace

import pytest

from planner.catalog import load_catalog
from planner.memory.devices import device_of
from planner.memory.engines import estimate_run
from planner.memory.estimate import Engine, Run, Verdict
from planner.memory.model_catalogue import find_model


@pytest.mark.parametrize("engine", Engine)
def test_weights_that_may_come_on_top_leave_no_verdict_better_than_tight(engine: Engine) -> None:
    run = Run(
        model=find_model("meta-llama/Llama-3.1-8B"),
        device=device_of(load_catalog().board("H200-141GB")),
        engine=engine,
        max_model_len=4096,
        max_num_seqs=4,
    )
    assert estimate_run(run).verdict is Verdict.FITS
    doubted = estimate_run(replace(run, model=replace(run.model, doubts=("The audio tower is not counted.",))))
    assert doubted.verdict is Verdict.TIGHT
    assert doubted.reasons[-1] == "The audio tower is not counted."
    small = replace(
        run, model=replace(run.model, doubts=("Not counted.",)), device=device_of(load_catalog().board("T4"))
    )
    assert estimate_run(small).verdict is Verdict.DOES_NOT_FIT

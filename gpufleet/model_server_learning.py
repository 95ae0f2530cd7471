"""`gpufleet memory learn URL`: what a running vLLM found room for, beside the prediction, kept as a log's start is."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpufleet.errors import ShellError
from gpufleet.memory_device import device_for
from gpufleet.memory_learning import Said, kept_document
from gpufleet.model_sources import ModelSources
from planner.memory.learning import LogDescription, learn
from planner.memory.vllm_server import measured_pool, with_pool


def learn_from_server(sources: ModelSources, said: Said, store: str | None, config: Path | None) -> dict[str, Any]:
    """Ask the server, compare its cache, keep the run; the JSON of the command.

    Raises ShellError where the server, its model or its device cannot be told.
    """
    if said.gpu is None and said.device_memory_bytes is None:
        raise ShellError("a server does not tell its device; give --gpu BOARD (and --mig PROFILE).")
    found = sources.served(said.model)
    server = found.server
    if server is None:
        raise ShellError("no server is named; give its URL.")
    described = LogDescription(
        model=found.facts,
        device=device_for(said.gpu, said.mig, said.device_memory_bytes),
        tensor_parallel=said.tp,
        quantization=said.quantization,
        kv_cache_dtype=said.kv_cache_dtype,
    )
    measured = server.measured
    predicted = learn(measured, described)
    if predicted.estimate is not None:
        measured = with_pool(measured, measured_pool(predicted.run, predicted.estimate, measured))
    learnt = learn(measured, described, measured_at=datetime.now(UTC))
    notes = list(found.notes)
    if said.tp is None:
        notes.append("The server does not tell its tensor_parallel: one GPU was taken; give --tp where it has more.")
    head = {"log": server.address, "model": server.root}
    return kept_document(head, measured, learnt, notes, store, config)

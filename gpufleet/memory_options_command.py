"""`gpufleet memory options MODEL`: which devices hold a model for a need, cheapest first."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from gpufleet.clear_errors import clear_errors
from gpufleet.errors import ShellError
from gpufleet.memory_commands import experience_of, memory_app, model_sources, print_document
from gpufleet.memory_flags import (
    BatchedOption,
    ConfigOption,
    EagerOption,
    EngineOption,
    HubOption,
    OllamaOption,
    RevisionOption,
    ServerOption,
    StoreOption,
    UtilizationOption,
    VersionOption,
)
from gpufleet.mig_commands import JsonOption

if TYPE_CHECKING:
    from planner.hardware import Board

__all__ = ["memory_app"]


@memory_app.command("options")
@clear_errors
def options(
    context: Annotated[
        int, typer.Option("--context", metavar="C", min=1, help="Tokens of one request, answer included.")
    ],
    concurrency: Annotated[int, typer.Option("--concurrency", metavar="N", min=1, help="Requests at once.")],
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Catalogue name, directory, config.json or .gguf.")
    ] = None,
    boards: Annotated[
        list[str] | None,
        typer.Option("--boards", metavar="BOARD,...", help="Only these; all of the catalogue by default."),
    ] = None,
    engine: EngineOption = None,
    engine_version: VersionOption = None,
    quantization: Annotated[
        list[str] | None,
        typer.Option(
            "--quantization", metavar="Q,...", help="Allowed for the weights; none is as stored, the default."
        ),
    ] = None,
    kv_cache_dtype: Annotated[
        list[str] | None,
        typer.Option("--kv-cache-dtype", metavar="D,...", help="Allowed for the cache; auto by default."),
    ] = None,
    gpu_memory_utilization: UtilizationOption = None,
    max_num_batched_tokens: BatchedOption = None,
    enforce_eager: EagerOption = False,
    price: Annotated[
        list[str] | None,
        typer.Option("--price", metavar="BOARD=USD", help="Of one whole GPU per hour; may be given again."),
    ] = None,
    server: ServerOption = None,
    ollama: OllamaOption = None,
    hub: HubOption = False,
    revision: RevisionOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the devices that hold a model for a need, cheapest first, and why the others do not."""
    from gpufleet import memory_documents
    from gpufleet.memory_request import Request, chosen_engine, completed
    from planner.catalog import load_catalog
    from planner.memory.options import Need, Precision, Terms, search

    sources = model_sources(server, ollama, hub, revision)
    asked = model or sources.server
    if asked is None:
        raise ShellError("no model is named; `gpufleet memory options MODEL --context C --concurrency N`.")
    checked = Request.read(
        {
            "model": asked,
            "engine": None if engine is None else engine.value,
            "gpu_memory_utilization": gpu_memory_utilization,
            "max_num_batched_tokens": max_num_batched_tokens,
            "engine_version": engine_version,
        },
        "the command line",
    )
    model_found = sources.served(model) if server is not None else sources.find(asked)
    checked, _ = completed(checked, model_found)
    facts = model_found.facts
    need = Need(context=context, concurrency=concurrency)
    terms = Terms(
        engine=chosen_engine(checked.engine, facts)[0],
        engine_version=checked.engine_version,
        precisions=tuple(
            Precision(quantization=weights, kv_cache_dtype=cache)
            for weights in _choices(quantization, "none")
            for cache in _choices(kv_cache_dtype, "auto")
        ),
        gpu_memory_utilization=checked.gpu_memory_utilization,
        max_num_batched_tokens=checked.max_num_batched_tokens,
        enforce_eager=enforce_eager,
        prices=_prices(price),
        experience=experience_of(store, config),
    )
    named = [_board(name) for name in _split(boards)]
    found = search(facts, need, dict.fromkeys(named) if named else load_catalog().boards, terms)
    notes = (*terms.experience.notes, *model_found.notes)
    document = memory_documents.search_document(facts.name, need, found, notes)
    if as_json:
        print_document(document)
        return
    from gpufleet import memory_text

    memory_text.print_search(document)


def _split(values: list[str] | None) -> list[str]:
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def _choices(values: list[str] | None, default: str) -> list[str | None]:
    """The default word stands for what the checkpoint says."""
    named = _split(values) or [default]
    return list(dict.fromkeys(None if name.lower() == default else name for name in named))


def _board(name: str) -> "Board":
    from gpufleet.memory_device import board_named

    return board_named(name)


def _prices(values: list[str] | None) -> dict[str, float]:
    prices = {}
    for value in values or ():
        name, _, text = value.rpartition("=")
        try:
            price = float(text)
        except ValueError:
            price = math.nan
        if not name or not math.isfinite(price) or price < 0:
            raise ShellError(f"--price {value!r} is not understood; give BOARD=USD per hour, such as L4=0.7.")
        prices[_board(name).name] = price
    return prices

"""`gpufleet memory MODEL`, `memory options` and `memory learn`: will a model fit, where would it, and what did it take.

`memory` is a group whose commands are `options` and `learn`; anything else after it is a question about a model, and
goes to the command that is named MODEL. A model directory that is called `options` or `learn` is written `./options`.
"""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from gpufleet.clear_errors import clear_errors
from gpufleet.errors import ShellError
from gpufleet.memory_flags import (
    BatchedOption,
    BlockOption,
    ConfigOption,
    DeviceBytesOption,
    EagerOption,
    EngineOption,
    GpuOption,
    HubOption,
    LengthOption,
    MigOption,
    OllamaOption,
    RevisionOption,
    SequencesOption,
    ServerOption,
    StoreOption,
    UtilizationOption,
    VersionOption,
)
from gpufleet.mig_commands import JsonOption

if TYPE_CHECKING:
    from gpufleet.model_sources import ModelSources
    from planner.hardware import Board
    from planner.memory.experience import Experience

QUESTION = "MODEL"


class QuestionGroup(TyperGroup):
    """A group whose first argument may be something else than a command: then it is a question."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front of what is none; help stays that of the group."""
        if args and args[0] not in self.commands and args[0] not in self.get_help_option_names(ctx):
            args = [QUESTION, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Usage and errors of a question speak of `gpufleet memory`, as it was typed."""
        name, command, rest = super().resolve_command(ctx, args)
        return "" if name == QUESTION else name, command, rest


memory_app = typer.Typer(
    cls=QuestionGroup,
    help=(
        "Will it fit? `gpufleet memory MODEL --gpu BOARD` says what a model needs there, and what it leaves. Its "
        "options are listed by `gpufleet memory MODEL --help`: the device (--gpu, --mig, --tp, --device-memory-bytes), "
        "the engine (--engine, --engine-version) and the engine's own settings under their own names."
    ),
    no_args_is_help=True,
)


@memory_app.command(QUESTION)
@clear_errors
def question(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Catalogue name, directory, config.json or .gguf.")
    ] = None,
    gpu: GpuOption = None,
    mig: MigOption = None,
    tp: Annotated[
        int | None, typer.Option("--tp", metavar="N", help="GPUs that share the model (tensor parallel).")
    ] = None,
    engine: EngineOption = None,
    engine_version: VersionOption = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="D", help="auto (the default), bfloat16, float16 or float32.")
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            "--quantization",
            metavar="Q",
            help="At start: fp8 or bitsandbytes; for llama.cpp the file's type, such as Q4_K_M. By default as stored.",
        ),
    ] = None,
    kv_cache_dtype: Annotated[
        str | None,
        typer.Option(
            "--kv-cache-dtype", metavar="D", help="Such as fp8, by default auto; for llama.cpp q8_0, by default f16."
        ),
    ] = None,
    max_model_len: LengthOption = None,
    max_num_seqs: SequencesOption = None,
    max_num_batched_tokens: BatchedOption = None,
    gpu_memory_utilization: UtilizationOption = None,
    device_memory_bytes: DeviceBytesOption = None,
    block_size: BlockOption = None,
    enforce_eager: EagerOption = False,
    requests: Annotated[
        str | None,
        typer.Option("--requests", metavar="FILE", help="Answer every line of JSON; - reads stdin. With --json."),
    ] = None,
    server: ServerOption = None,
    ollama: OllamaOption = None,
    hub: HubOption = False,
    revision: RevisionOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a model needs on a device, term by term, and whether it fits."""
    values = {
        "model": model,
        "gpu": gpu,
        "mig": mig,
        "tp": tp,
        "engine": None if engine is None else engine.value,
        "engine_version": engine_version,
        "dtype": dtype,
        "quantization": quantization,
        "kv_cache_dtype": kv_cache_dtype,
        "max_model_len": max_model_len,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": max_num_batched_tokens,
        "gpu_memory_utilization": gpu_memory_utilization,
        "device_memory_bytes": device_memory_bytes,
        "block_size": block_size,
        "enforce_eager": enforce_eager or None,
    }
    experience = _experience(store, config)
    sources = _sources(server, ollama, hub, revision)
    if requests is not None:
        _refuse_beside_requests(values, as_json=as_json)
        from gpufleet import memory_lines

        for line in memory_lines.answer_lines(requests, experience, sources):
            typer.echo(line)
        return
    values["model"] = model or sources.server
    if values["model"] is None:
        raise ShellError("no model is named; `gpufleet memory MODEL --gpu BOARD`, or --requests FILE.jsonl --json.")
    from gpufleet import memory_documents, memory_request

    request = memory_request.Request.read(values, "the command line")
    through_server = server is not None and model is not None
    question = memory_request.run_of(request, experience, sources, through_server=through_server)
    given = memory_documents.answer(question.run, question.notes, experience)
    document = memory_documents.answer_document(given) | memory_documents.server_key(question, given)
    if as_json:
        _print_json(document)
        return
    from gpufleet import memory_text

    memory_text.print_answer(document)
    if "server" in document:
        from gpufleet.model_server_answer import print_server

        print_server(document["server"])


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

    sources = _sources(server, ollama, hub, revision)
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
        experience=_experience(store, config),
    )
    named = [_board(name) for name in _split(boards)]
    found = search(facts, need, dict.fromkeys(named) if named else load_catalog().boards, terms)
    notes = (*terms.experience.notes, *model_found.notes)
    document = memory_documents.search_document(facts.name, need, found, notes)
    if as_json:
        _print_json(document)
        return
    from gpufleet import memory_text

    memory_text.print_search(document)


@memory_app.command("learn")
@clear_errors
def learn(
    log: Annotated[
        str, typer.Argument(metavar="LOGFILE|URL", help="Start-up log of vLLM, llama.cpp or Ollama, or a running vLLM.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="In place of the name in the log.")
    ] = None,
    gpu: GpuOption = None,
    mig: MigOption = None,
    tp: Annotated[int | None, typer.Option("--tp", metavar="N", min=1, help="Where the log does not say it.")] = None,
    device_memory_bytes: DeviceBytesOption = None,
    quantization: Annotated[
        str | None, typer.Option("--quantization", metavar="Q", help="Where the log does not say it.")
    ] = None,
    kv_cache_dtype: Annotated[
        str | None, typer.Option("--kv-cache-dtype", metavar="D", help="Where the log does not say it.")
    ] = None,
    hub: HubOption = False,
    revision: RevisionOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read what a start of an engine measured, compare it with the prediction, and keep it for later ones."""
    from gpufleet.memory_learning import Said
    from gpufleet.memory_learning import learn as learn_from
    from gpufleet.model_sources import is_address

    if device_memory_bytes is not None and device_memory_bytes < 1:
        raise ShellError(f"--device-memory-bytes {device_memory_bytes} is no memory; give bytes as CUDA sees them.")
    described = Said(
        model=model,
        gpu=gpu,
        mig=mig,
        tp=tp,
        device_memory_bytes=device_memory_bytes,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
    )
    if is_address(log):
        from gpufleet.model_server_learning import learn_from_server

        document = learn_from_server(_sources(log, None, hub, revision), described, store, config)
    else:
        document = learn_from(Path(log), described, store, config, _sources(None, None, hub, revision))
    if as_json:
        _print_json(document)
        return
    from gpufleet import memory_text

    memory_text.print_learnt(document)


def _refuse_beside_requests(values: dict[str, Any], *, as_json: bool) -> None:
    given = [f"--{key.replace('_', '-')}" for key, value in values.items() if value is not None and key != "model"]
    if values["model"] is not None or given:
        raise ShellError(
            f"{', '.join(given) or 'a model'} and --requests contradict each other; write it in the lines."
        )
    if not as_json:
        raise ShellError("--requests answers in JSON only; add --json.")


def _sources(server: str | None, ollama: str | None, hub: bool, revision: str | None) -> "ModelSources":
    from gpufleet.model_sources import ModelSources

    return ModelSources(server=server, ollama=ollama, hub=hub, revision=revision, environ=os.environ)


def _experience(store: str | None, config: Path | None) -> "Experience":
    from gpufleet.memory_store import known_experience

    return known_experience(store, config)


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


def _print_json(document: dict[str, Any]) -> None:
    from gpufleet import json_output

    json_output.print_json(document)

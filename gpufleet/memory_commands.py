"""`gpufleet memory MODEL`, `memory options` and `memory learn`: will a model fit, where would it, and what did it take.

`memory` is a group whose commands are `options` and `learn`; anything else after it is a question about a model, and
goes to the command that is named MODEL. A model directory that is called `options` or `learn` is written `./options`.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from gpufleet.clear_errors import clear_errors
from gpufleet.errors import ShellError
from gpufleet.mig_commands import JsonOption
from planner.memory.estimate import Engine

if TYPE_CHECKING:
    from planner.hardware import Board
    from planner.memory.calibration import Calibration

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
    help="Will it fit? `gpufleet memory MODEL --gpu BOARD` says what a model needs there, and what it leaves.",
    no_args_is_help=True,
)

GpuOption = Annotated[
    str | None, typer.Option("--gpu", metavar="BOARD", help="Id in the catalogue, or the name the driver prints.")
]
MigOption = Annotated[str | None, typer.Option("--mig", metavar="PROFILE", help="A MIG device of that board.")]
EngineOption = Annotated[
    Engine | None, typer.Option("--engine", help="By default vllm, and llama.cpp for a GGUF file.")
]
VersionOption = Annotated[str | None, typer.Option("--engine-version", metavar="V", help="Such as 0.19.0, or b6000.")]
DeviceBytesOption = Annotated[
    int | None,
    typer.Option("--device-memory-bytes", metavar="B", help="Memory that CUDA sees, in place of what is known."),
]
UtilizationOption = Annotated[float | None, typer.Option("--gpu-memory-utilization", metavar="U")]
BatchedOption = Annotated[int | None, typer.Option("--max-num-batched-tokens", metavar="N")]
EagerOption = Annotated[bool, typer.Option("--enforce-eager", help="No CUDA graphs.")]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration", metavar="FILE", help="Measured runs; gpufleet-memory.jsonl of this folder by default."
    ),
]


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
        str | None, typer.Option("--dtype", metavar="D", help="auto, bfloat16, float16 or float32.")
    ] = None,
    quantization: Annotated[
        str | None, typer.Option("--quantization", metavar="Q", help="At start, such as fp8; GGUF type for llama.cpp.")
    ] = None,
    kv_cache_dtype: Annotated[
        str | None, typer.Option("--kv-cache-dtype", metavar="D", help="Such as fp8; q8_0 for llama.cpp.")
    ] = None,
    max_model_len: Annotated[int | None, typer.Option("--max-model-len", metavar="N")] = None,
    max_num_seqs: Annotated[int | None, typer.Option("--max-num-seqs", metavar="N")] = None,
    max_num_batched_tokens: BatchedOption = None,
    gpu_memory_utilization: UtilizationOption = None,
    device_memory_bytes: DeviceBytesOption = None,
    block_size: Annotated[int | None, typer.Option("--block-size", metavar="N")] = None,
    enforce_eager: EagerOption = False,
    requests: Annotated[
        str | None,
        typer.Option("--requests", metavar="FILE.jsonl", help="Answer every line; - reads stdin. With --json."),
    ] = None,
    calibration: CalibrationOption = None,
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
    history = _history(calibration)
    if requests is not None:
        _refuse_beside_requests(values, as_json=as_json)
        from gpufleet import memory_lines

        for line in memory_lines.answer_lines(requests, history):
            typer.echo(line)
        return
    if model is None:
        raise ShellError("no model is named; `gpufleet memory MODEL --gpu BOARD`, or --requests FILE.jsonl --json.")
    from gpufleet import memory_documents, memory_request

    run, notes = memory_request.run_of(memory_request.Request.read(values, "the command line"))
    document = memory_documents.answer_document(memory_documents.answer(run, notes, history))
    if as_json:
        _print_json(document)
        return
    from gpufleet import memory_text

    memory_text.print_answer(document)


@memory_app.command("options")
@clear_errors
def options(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Catalogue name, directory, config.json or .gguf.")],
    context: Annotated[
        int, typer.Option("--context", metavar="C", min=1, help="Tokens of one request, answer included.")
    ],
    concurrency: Annotated[int, typer.Option("--concurrency", metavar="N", min=1, help="Requests at once.")],
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
    as_json: JsonOption = False,
) -> None:
    """List the devices that hold a model for a need, cheapest first, and why the others do not."""
    from gpufleet import memory_documents
    from gpufleet.memory_request import Request, chosen_engine
    from gpufleet.model_files import load_model
    from planner.catalog import load_catalog
    from planner.memory.options import Need, Precision, Terms, search

    checked = Request.read(
        {
            "model": model,
            "engine": None if engine is None else engine.value,
            "gpu_memory_utilization": gpu_memory_utilization,
            "max_num_batched_tokens": max_num_batched_tokens,
            "engine_version": engine_version,
        },
        "the command line",
    )
    facts = load_model(checked.model)
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
    )
    named = [_board(name) for name in _split(boards)]
    found = search(facts, need, dict.fromkeys(named) if named else load_catalog().boards, terms)
    document = memory_documents.search_document(facts.name, need, found)
    if as_json:
        _print_json(document)
        return
    from gpufleet import memory_text

    memory_text.print_search(document)


@memory_app.command("learn")
@clear_errors
def learn(
    log: Annotated[Path, typer.Argument(metavar="LOGFILE", help="Start-up log of vLLM, llama.cpp or Ollama.")],
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="In place of the name in the log.")
    ] = None,
    gpu: GpuOption = None,
    mig: MigOption = None,
    tp: Annotated[int | None, typer.Option("--tp", metavar="N", min=1, help="Where the log does not say it.")] = None,
    device_memory_bytes: DeviceBytesOption = None,
    quantization: Annotated[str | None, typer.Option("--quantization", metavar="Q")] = None,
    kv_cache_dtype: Annotated[str | None, typer.Option("--kv-cache-dtype", metavar="D")] = None,
    calibration: CalibrationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read what a start of an engine measured, compare it with the prediction, and keep it for later ones."""
    from gpufleet.memory_learning import LogDescription
    from gpufleet.memory_learning import learn as learn_from

    if device_memory_bytes is not None and device_memory_bytes < 1:
        raise ShellError(f"--device-memory-bytes {device_memory_bytes} is no memory; give bytes as CUDA sees them.")
    described = LogDescription(
        model=model,
        gpu=gpu,
        mig=mig,
        tp=tp,
        device_memory_bytes=device_memory_bytes,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
    )
    document = learn_from(log, described, calibration)
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


def _history(given: Path | None) -> "tuple[Calibration, ...]":
    from gpufleet.memory_history import read_history

    return tuple(row.calibration() for row in read_history(given))


def _split(values: list[str] | None) -> list[str]:
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def _choices(values: list[str] | None, default: str) -> list[str | None]:
    """The default word stands for what the checkpoint says."""
    named = _split(values) or [default]
    return list(dict.fromkeys(None if name.lower() == default else name for name in named))


def _board(name: str) -> "Board":
    from gpufleet.memory_request import board_named

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

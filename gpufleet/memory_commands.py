"""`gpufleet memory MODEL` and `memory learn LOGFILE`: will a model fit on a device, and what did it take there.

`memory` is a group whose commands are `options` and `learn`; anything else after it is a question about a model, and
goes to the command that is named MODEL. A model directory that is called `options` or `learn` is written `./options`.
`memory_app` is the group; `options` registers on it in `memory_options_command.py`.
"""

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
    experience = experience_of(store, config)
    sources = model_sources(server, ollama, hub, revision)
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
        print_document(document)
        return
    from gpufleet import memory_text

    memory_text.print_answer(document)
    if "server" in document:
        from gpufleet.model_server_answer import print_server

        print_server(document["server"])


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

        document = learn_from_server(model_sources(log, None, hub, revision), described, store, config)
    else:
        document = learn_from(Path(log), described, store, config, model_sources(None, None, hub, revision))
    if as_json:
        print_document(document)
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


def model_sources(server: str | None, ollama: str | None, hub: bool, revision: str | None) -> "ModelSources":
    """Where the flags say that models are looked for."""
    from gpufleet.model_sources import ModelSources

    return ModelSources(server=server, ollama=ollama, hub=hub, revision=revision, environ=os.environ)


def experience_of(store: str | None, config: Path | None) -> "Experience":
    """The measured runs of that store, by which predictions are corrected."""
    from gpufleet.memory_store import known_experience

    return known_experience(store, config)


def print_document(document: dict[str, Any]) -> None:
    """The answer as JSON (docs/json.md)."""
    from gpufleet import json_output

    json_output.print_json(document)

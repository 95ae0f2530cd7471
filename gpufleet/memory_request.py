"""One question to `gpufleet memory`, from the command line or from a line of `--requests`, as a run of the planner."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gpufleet.errors import ShellError
from gpufleet.model_files import load_model
from planner.catalog import LONGEST_NAME, find_profile, load_catalog
from planner.errors import UnknownBoard, UnknownProfile
from planner.hardware import Board
from planner.memory.devices import device_of, unlisted_device
from planner.memory.errors import UnknownMemory
from planner.memory.estimate import Device, Engine, Run
from planner.memory.facts import ModelFacts, WeightFormat

_LARGEST = 1 << 50
_VENDOR_WORDS = frozenset({"nvidia", "geforce", "tesla"})
_ENGINES = {"llamacpp": Engine.LLAMA_CPP, "llama_cpp": Engine.LLAMA_CPP, "llama-cpp": Engine.LLAMA_CPP}
_OF_VLLM = ("gpu_memory_utilization", "block_size", "enforce_eager", "dtype", "expert_parallel")
_OF_LLAMA = ("n_ctx", "n_batch", "n_ubatch", "n_parallel", "flash_attention", "gpu_layers")


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")  # pydantic turns only these around
    return value


def _engine(value: Any) -> Any:
    return _ENGINES.get(value.strip().lower(), value.strip().lower()) if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1, le=_LARGEST)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


def _named(*names: str) -> Any:
    return AliasChoices(*names)


class Request(BaseModel):
    """The options with underscores; vLLM's own long names are taken too. null is the same as leaving it out."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    model: Text
    id: str | int | None = None
    gpu: Text | None = None
    mig: Text | None = None
    tp: Count | None = Field(None, validation_alias=_named("tp", "tensor_parallel", "tensor_parallel_size"))
    pp: Count | None = Field(None, validation_alias=_named("pp", "pipeline_parallel", "pipeline_parallel_size"))
    dp: Count | None = Field(None, validation_alias=_named("dp", "data_parallel", "data_parallel_size"))
    expert_parallel: bool | None = Field(None, validation_alias=_named("expert_parallel", "enable_expert_parallel"))
    engine: Annotated[Engine, BeforeValidator(_engine)] | None = None
    engine_version: Text | None = None
    dtype: Text | None = None
    quantization: Text | None = None
    kv_cache_dtype: Text | None = None
    max_model_len: Count | None = None
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    gpu_memory_utilization: Annotated[
        float | None, BeforeValidator(_no_truth_value), Field(gt=0, le=1, allow_inf_nan=False)
    ] = None
    device_memory_bytes: Count | None = None
    block_size: Count | None = None
    enforce_eager: bool | None = None
    n_ctx: Count | None = None
    n_parallel: Count | None = None
    n_batch: Count | None = None
    n_ubatch: Count | None = None
    flash_attention: bool | None = None
    gpu_layers: Annotated[int | None, BeforeValidator(_no_truth_value), Field(ge=-1, le=10**6)] = None

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> Self:
        """Raises ShellError with every mistake in one sentence."""
        given = {key: value for key, value in values.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ShellError(f"{where} cannot be used: {'; '.join(map(_mistake, error.errors()))}.") from error


def _mistake(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])[:LONGEST_NAME] or "the request"
    if error["type"] == "extra_forbidden":
        return f"{key!r} is no option; docs/memory.md lists them"
    if error["type"] == "missing":
        return f"{key!r} is missing"
    given = repr(error["input"])
    shown = given if len(given) <= LONGEST_NAME else f"{given[:LONGEST_NAME]}..."
    return f"{key} is {shown}: {error['msg'].removeprefix('Value error, ').rstrip('.')}"


def run_of(request: Request) -> tuple[Run, tuple[str, ...]]:
    """The run, and what was decided or left out of account on the way, as sentences."""
    model = load_model(request.model)
    engine, notes = chosen_engine(request.engine, model)
    is_vllm = engine is Engine.VLLM
    foreign = [name for name in (_OF_LLAMA if is_vllm else _OF_VLLM) if getattr(request, name) not in (None, False)]
    if foreign:
        notes.append(f"{engine.value} has no {', '.join(foreign)}; left out of account.")
    longest = model.max_positions
    if request.max_model_len is not None and longest is not None and request.max_model_len > longest:
        notes.append(
            f"{model.name} is made for {longest:,} tokens; {request.max_model_len:,} need another rope scaling."
        )
    run = Run(
        model=model,
        device=device_for(request.gpu, request.mig, request.device_memory_bytes),
        engine=engine,
        engine_version=request.engine_version,
        tensor_parallel=request.tp or 1,
        pipeline_parallel=request.pp or 1,
        data_parallel=request.dp or 1,
        expert_parallel=is_vllm and bool(request.expert_parallel),
        dtype=request.dtype if is_vllm and request.dtype != "auto" else None,
        quantization=request.quantization,
        kv_cache_dtype=None if not is_vllm and request.kv_cache_dtype == "auto" else request.kv_cache_dtype,
        max_model_len=request.max_model_len,
        max_num_seqs=request.max_num_seqs,
        max_num_batched_tokens=request.max_num_batched_tokens if is_vllm else None,
        gpu_memory_utilization=request.gpu_memory_utilization if is_vllm else None,
        block_size=request.block_size if is_vllm else None,
        enforce_eager=is_vllm and bool(request.enforce_eager),
        n_ctx=None if is_vllm else request.n_ctx,
        n_parallel=None if is_vllm else request.n_parallel,
        n_batch=None if is_vllm else request.n_batch or request.max_num_batched_tokens,
        n_ubatch=None if is_vllm else request.n_ubatch,
        flash_attention=None if is_vllm else request.flash_attention,
        gpu_layers=None if is_vllm else request.gpu_layers,
    )
    return run, tuple(notes)


def device_for(gpu: str | None, mig: str | None, memory_bytes: int | None) -> Device:
    """The device of these options; one that the catalogue does not know needs its memory stated."""
    if gpu is None:
        if memory_bytes is None:
            raise ShellError("no device is named; give --gpu BOARD, or --device-memory-bytes for one of any name.")
        if mig is not None:
            raise ShellError(f"--mig {mig!r} says nothing without its board; give --gpu BOARD too.")
        return unlisted_device(memory_bytes)
    try:
        return _catalogued(board_named(gpu, memory_bytes), mig, memory_bytes)
    except UnknownBoard:
        alike = _boards_with_words_of(gpu)
        devices = [] if memory_bytes is not None else _all_catalogued(alike, mig)
        if devices and len({device.memory_bytes for device in devices}) == 1:
            names = " or ".join(device.name for device in devices)
            return replace(devices[0], source=f"{devices[0].source}; {gpu[:LONGEST_NAME]!r} may be {names}")
        if memory_bytes is None:
            raise
    architectures = {board.architecture for board in alike}
    device = unlisted_device(memory_bytes, gpu if mig is None else f"{gpu} {mig}", is_mig=mig is not None)
    return replace(device, architecture=architectures.pop() if len(architectures) == 1 else "")


def _catalogued(board: Board, mig: str | None, memory_bytes: int | None) -> Device:
    if mig is None:
        return device_of(board, memory_bytes=memory_bytes)
    profile = find_profile(board, mig) or load_catalog().profile(board, mig)
    return device_of(board, profile, memory_bytes=memory_bytes)


def _all_catalogued(boards: Sequence[Board], mig: str | None) -> list[Device]:
    """The device on each of these boards; none where one of them has no such profile or no known memory."""
    try:
        return [_catalogued(board, mig, None) for board in boards]
    except (UnknownProfile, UnknownMemory):
        return []


def _boards_with_words_of(name: str) -> tuple[Board, ...]:
    """Boards whose id holds every word of the name: "NVIDIA H100 80GB" is one of two, and both have the same memory."""
    words = {word for word in re.findall(r"[a-z0-9]+", name[:LONGEST_NAME].lower()) if word not in _VENDOR_WORDS}
    return tuple(
        board for board in load_catalog().boards if words and words <= set(re.findall(r"[a-z0-9]+", board.name.lower()))
    )


def board_named(name: str, memory_bytes: int | None = None) -> Board:
    """By the name that a driver prints, catalogue id or alias; raises UnknownBoard with the nearest ids."""
    catalog = load_catalog()
    return catalog.board_for(name) or catalog.board_for(name, memory_bytes) or catalog.board(name)


def chosen_engine(asked: Engine | None, model: ModelFacts) -> tuple[Engine, list[str]]:
    """The engine asked for, else llama.cpp for a GGUF file, with a sentence, and vLLM for the rest."""
    if asked is not None:
        return asked, []
    if model.quantisation is not None and model.quantisation.format is WeightFormat.GGUF:
        return Engine.LLAMA_CPP, ["No engine was given: llama.cpp, as the model is a GGUF file."]
    return Engine.VLLM, []

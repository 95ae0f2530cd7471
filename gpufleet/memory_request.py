"""One question to `gpufleet memory`, from the command line or from a line of `--requests`, as a run of the planner."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gpufleet.errors import ShellError
from gpufleet.memory_device import device_for
from gpufleet.model_sources import FoundModel, ModelSources
from planner.catalog import LONGEST_NAME
from planner.memory.estimate import Engine, Run
from planner.memory.experience import NO_EXPERIENCE, Experience
from planner.memory.facts import ModelFacts, WeightFormat

if TYPE_CHECKING:
    from gpufleet.model_servers import RunningVllm

_LARGEST = 1 << 50
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A run, and what was decided or left out of account on the way, as sentences.

    `server` is the running vLLM that was asked, `overridden` the keys in which the request differs from it.
    """

    run: Run
    notes: tuple[str, ...]
    server: "RunningVllm | None" = None
    overridden: tuple[str, ...] = ()


def run_of(
    request: Request,
    experience: Experience = NO_EXPERIENCE,
    sources: ModelSources | None = None,
    *,
    through_server: bool = False,
) -> Question:
    """The request as a run. The memory of its device is what measured runs saw of it, where there are any.

    `through_server`: the model is to be run as the server of `sources` runs its own.
    """
    sources = sources or ModelSources()
    found = sources.served(request.model) if through_server else sources.find(request.model)
    request, overridden = completed(request, found)
    model = found.facts
    engine, notes = chosen_engine(request.engine, model)
    notes = [*found.notes, *notes]
    if missing := [name for name in found.untold if getattr(request, name) is None]:
        notes.append(f"The server does not tell its {', '.join(missing)}: name them where they are not the default.")
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
        device=device_for(request.gpu, request.mig, request.device_memory_bytes, experience.memory),
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
    if overridden:
        notes.append(
            f"Asked for with another {', '.join(overridden)} than the server has: nothing is compared with it."
        )
    return Question(run=run, notes=(*experience.notes, *notes), server=found.server, overridden=overridden)


def completed(request: Request, found: FoundModel) -> tuple[Request, tuple[str, ...]]:
    """The request with what the source says where the user said nothing; and the keys that differ from a server's."""
    if found.engine is None:
        return request, ()
    if found.server is not None and request.engine not in (None, found.engine):
        raise ShellError(f"the server is a {found.engine.value}, and --engine {request.engine} is asked for.")
    if request.engine not in (None, found.engine):
        return request, ()  # another engine is to run the model: what its own says about running it does not count
    given = {key: getattr(request, key) for key in found.settings if getattr(request, key) is not None}
    said = {key: value for key, value in found.settings.items() if key not in given}
    if request.max_model_len is not None:
        said.pop("n_ctx", None)
    overridden = [key for key, value in given.items() if value != found.settings[key]] if found.server else []
    return request.model_copy(update={"engine": found.engine, **said}), tuple(overridden)


def chosen_engine(asked: Engine | None, model: ModelFacts) -> tuple[Engine, list[str]]:
    """The engine asked for, else llama.cpp for a GGUF file, with a sentence, and vLLM for the rest."""
    if asked is not None:
        return asked, []
    if model.quantisation is not None and model.quantisation.format is WeightFormat.GGUF:
        return Engine.LLAMA_CPP, ["No engine was given: llama.cpp, as the model is a GGUF file."]
    return Engine.VLLM, []

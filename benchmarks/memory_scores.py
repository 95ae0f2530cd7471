"""What the vLLM memory model says of recorded runs beside what was measured, term by term."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.memory_rows import RecordedRun, with_run
from planner.memory.estimate import Estimate, Run
from planner.memory.facts import LayerKind, WeightFormat
from planner.memory.vllm import estimate_vllm
from planner.memory.vllm_activation import activation_of
from planner.memory.vllm_formats import SIXTEEN_BIT, stored_format
from planner.memory.vllm_kv_cache import kv_plan
from planner.memory.vllm_settings import settings_of
from planner.memory.vllm_versions import ContradictoryRun
from planner.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One measurement beside its estimate."""

    recorded: RecordedRun
    term: str
    measured: float
    estimated: float
    low: float | None = None
    high: float | None = None

    @property
    def error(self) -> float:
        """Signed share of what was measured."""
        return self.estimated / self.measured - 1

    @property
    def is_in_range(self) -> bool:
        """Whether the measurement lies in the stated range; a printed number is exact to half its last digit."""
        if self.low is None or self.high is None:
            return False
        return self.low - 0.005 <= self.measured <= self.high + 0.005


def scores_of(runs: Sequence[RecordedRun]) -> list[Score]:
    """Every measurement of every run that the model speaks about."""
    found: list[Score] = []
    for recorded, run in with_run(runs):
        try:
            estimate = estimate_vllm(run)
        except ContradictoryRun:
            continue
        found += _scores(recorded, run, estimate)
    return found


def is_stated(recorded: RecordedRun, run: Run) -> bool:
    """Whether configuration and flags are known: version, device, ranks and share, on a CUDA device."""
    row = recorded.row
    share = run.gpu_memory_utilization is not None or "default" in (row["notes"] or "")
    ranks = row["tensor_parallel_size"] is not None
    return (
        recorded.device_known
        and settings_of(run).version.stated
        and ranks
        and share
        and run.device.architecture != "other"
    )


def _scores(recorded: RecordedRun, run: Run, estimate: Estimate) -> list[Score]:
    row = recorded.row
    terms = {term.name: term for term in estimate.terms}
    found: list[Score] = []

    def add(
        name: str, measured: float | None, estimated: float, low: float | None = None, high: float | None = None
    ) -> None:
        if measured is not None and measured > 0:
            found.append(
                Score(recorded=recorded, term=name, measured=measured, estimated=estimated, low=low, high=high)
            )

    weights, lora = terms["weights"], terms.get("lora")
    extra = lora.bytes if lora else 0
    plain = stored_format(run) in SIXTEEN_BIT
    known = not (row["quantization"] or "").startswith("exl3") and row["tensor_parallel_size"] is not None
    if known and stored_format(run) is not WeightFormat.GGUF:
        add(
            "weights, 16 or 32 bit" if plain else "weights, quantised",
            row["weights_gib"],
            (weights.bytes + extra) / GIB,
            (weights.low + (lora.low if lora else 0)) / GIB,
            (weights.high + (lora.high if lora else 0)) / GIB,
        )
    settings = settings_of(run)
    if settings.version.stated and run.device.architecture != "other" and recorded.device_known:
        measured = row["activation_peak_gib"]
        if measured is not None and settings.version.charges_graphs:
            measured -= row["graph_gib"] or 0  # from 0.21 the printed peak includes them
        activation = activation_of(run, settings, last_stage=run.pipeline_parallel == 1)
        add("activation", measured, activation.total / GIB, activation.low / GIB, activation.high / GIB)
        non_torch = terms["non_torch"]
        add("non-torch", row["non_torch_gib"], non_torch.bytes / GIB, non_torch.low / GIB, non_torch.high / GIB)
    found += _layout_scores(recorded, run)
    if row["outcome"] == "ok" and is_stated(recorded, run) and "dummy" not in str(row["notes"]):
        low, high = estimate.kv_cache_low_bytes / GIB, estimate.kv_cache_high_bytes / GIB
        add("KV pool", row["kv_cache_gib"], estimate.kv_cache_bytes / GIB, low, high)
        add("concurrency", row["max_concurrency"], estimate.max_concurrency or 0)
    return found


def _layout_scores(recorded: RecordedRun, run: Run) -> list[Score]:
    """The layout alone: bytes per token and concurrency from the pool that the log prints.

    Rounding of the printed pool is allowed for: the estimate is taken where it comes nearest within that rounding.
    """
    row = recorded.row
    pool, tokens = row["kv_cache_gib"], row["kv_cache_tokens"]
    if not pool or pool <= 0 or row["tensor_parallel_size"] is None or row["outcome"] != "ok":
        return []
    settings = settings_of(run)
    plan = kv_plan(run, settings)
    length = row["concurrency_ctx"] or settings.max_model_len
    hybrid = len({(layers.kind, layers.window) for layers in run.model.layers}) > 1 and len(plan.groups) > 1
    ends = [int((pool + half) * GIB) for half in (-0.005, 0.005)]
    found: list[Score] = []
    if tokens and not hybrid and len(plan.groups) == 1 and run.model.layers[0].kind is not LayerKind.MLA:
        near = min(max(tokens * plan.bytes_per_token, ends[0]), ends[1])
        found.append(
            Score(
                recorded=recorded,
                term="KV bytes per token",
                measured=near / tokens,
                estimated=plan.bytes_per_token,
            )
        )
    concurrency = row["max_concurrency"] or (tokens / length if tokens and hybrid and settings.version.stated else None)
    if hybrid and concurrency:
        ranged = [plan.concurrency(end, length) or 0 for end in ends]
        near = min(max(concurrency, ranged[0]), ranged[1])
        if abs(near - concurrency) <= 0.005:
            near = concurrency
        found.append(Score(recorded=recorded, term="hybrid concurrency", measured=concurrency, estimated=near))
    return found

"""Whether vLLM holds a model on a device: the cache that is left, what fits into it, and the verdict.

budget = gpu_memory_utilization x memory that CUDA sees; cache = budget - weights - activation - non-torch
[- CUDA graphs from 0.21] (vllm/v1/worker/gpu_worker.py, `determine_available_memory`).
"""

from collections.abc import Mapping

from planner.memory.corrections import corrected_terms
from planner.memory.estimate import Basis, Estimate, Run, Term
from planner.memory.facts import LayerKind, Layers
from planner.memory.vllm_activation import activation_of, old_encoder_peak
from planner.memory.vllm_dtypes import cache_dtype
from planner.memory.vllm_formats import quantization_flag
from planner.memory.vllm_kv_cache import KvPlan, kv_plan
from planner.memory.vllm_overheads import graphs_of, lora_of, non_torch_of
from planner.memory.vllm_padding import padded_vocabulary
from planner.memory.vllm_settings import Settings, settings_of
from planner.memory.vllm_verdict import Room, judge, smallest_share
from planner.memory.vllm_versions import ContradictoryRun
from planner.memory.vllm_weights import Weights, weights_of
from planner.sentences import spelled_bytes


def estimate_vllm(run: Run) -> Estimate:
    """Estimate one rank; raises ContradictoryRun where the settings exclude each other."""
    settings = settings_of(run)
    _refuse(run)
    weights = weights_of(run, settings)
    plan = kv_plan(run, settings)
    room = Room(
        run=run,
        settings=settings,
        terms=corrected_terms(_terms(run, settings, weights, plan), run.corrections),
        plan=plan,
    )
    verdict, reasons = judge(room)
    cache = Term(
        name="kv_cache",
        bytes=max(0, room.pool),
        low=max(0, room.low),
        high=max(0, room.high),
        basis=Basis.FORMULA if plan.known else Basis.ASSUMED,
        source="what the other terms leave of the budget (vllm/v1/worker/gpu_worker.py)",
    )
    left = max(0, room.pool)
    return Estimate(
        verdict=verdict,
        reasons=reasons,
        device_bytes=run.device.memory_bytes,
        budget_bytes=room.budget,
        terms=(*room.terms, cache),
        kv_cache_bytes=room.pool,
        kv_cache_low_bytes=room.low,
        kv_cache_high_bytes=room.high,
        kv_bytes_per_token=plan.bytes_per_token or None,
        kv_cache_tokens=plan.tokens(left, settings.max_model_len),
        max_concurrency=plan.concurrency(left, settings.max_model_len),
        max_context=plan.longest(left, run.model.max_positions or settings.max_model_len),
        settings=_resolved(run, settings, plan, smallest_share(room)),
        flags=_flags(run, settings),
        assumed=_assumed(run, settings, plan, weights),
    )


def _refuse(run: Run) -> None:
    if not run.model.is_text:
        raise ContradictoryRun(
            f"{run.model.name} does not generate text ({run.model.architecture}); its memory follows other rules. "
            "Choose a language model."
        )
    if run.device.is_mig and run.tensor_parallel * run.pipeline_parallel > 1:
        raise ContradictoryRun(
            f"{run.device.name} is a MIG device and cannot exchange data with others, but "
            f"{run.tensor_parallel * run.pipeline_parallel} ranks are asked for. Use one rank, or whole GPUs."
        )
    _refuse_uneven_ranks(run)
    if run.pipeline_parallel > max(1, run.model.layer_count):
        raise ContradictoryRun(
            f"{run.model.name} has {run.model.layer_count} layers, fewer than {run.pipeline_parallel} pipeline stages."
        )


def _refuse_uneven_ranks(run: Run) -> None:
    """Query heads and vocabulary rows must divide by the ranks; key-value heads may also be copied evenly."""
    tp = run.tensor_parallel
    for what, count, may_copy in (
        *((f"{layers.heads} attention heads", layers.heads, False) for layers in run.model.layers if layers.heads),
        *((f"{one.kv_heads} key-value heads", one.kv_heads, True) for one in run.model.layers if _divides_heads(one)),
        (f"{padded_vocabulary(run.model):,} rows of the vocabulary", padded_vocabulary(run.model), False),
    ):
        if count and count % tp and not (may_copy and tp % count == 0):
            ranks = ", ".join(str(size) for size in (1, 2, 4, 8, 16, 32) if count % size == 0)
            raise ContradictoryRun(
                f"The {what} of {run.model.name} do not divide between {tp} ranks. Use --tensor-parallel-size {ranks}."
            )


def _divides_heads(layers: Layers) -> bool:
    return layers.kv_heads is not None and layers.kind in (LayerKind.FULL, LayerKind.SLIDING)


def _terms(run: Run, settings: Settings, weights: Weights, plan: KvPlan) -> tuple[Term, ...]:
    activation = activation_of(run, settings)
    non_torch, lora = non_torch_of(run, settings), lora_of(run, settings)
    source = run.model.source or "the model's configuration"
    terms = [
        Term(
            name="weights",
            bytes=weights.total,
            low=weights.low,
            high=weights.high,
            basis=Basis.MEASURED if run.model.stored_bytes else Basis.FORMULA,
            source=f"{source}, rotary table and allocator pages included",
        ),
        Term(
            name="activation",
            bytes=activation.total,
            low=min(activation.low, activation.total),
            high=max(activation.high, activation.total),
            basis=Basis.FORMULA,
            source=f"buffers of the profiling step, {activation.decided_by} decides (vLLM {settings.version.text})",
        ),
        Term(
            name="non_torch",
            bytes=non_torch.total,
            low=non_torch.low,
            high=non_torch.high,
            basis=Basis.ASSUMED,
            source=non_torch.source,
        ),
    ]
    if settings.version.charges_graphs:
        graphs = graphs_of(run, settings)
        terms.append(
            Term(
                name="graphs",
                bytes=graphs.total,
                low=graphs.low,
                high=graphs.high,
                basis=Basis.ASSUMED,
                source=graphs.source,
            )
        )
    if lora.total:
        terms.append(
            Term(name="lora", bytes=lora.total, low=lora.low, high=lora.high, basis=Basis.FORMULA, source=lora.source)
        )
    if plan.state_bytes:
        states = plan.state_bytes * settings.max_num_seqs
        terms.append(
            Term(
                name="states",
                bytes=states,
                low=states,
                high=round(1.1 * states),
                basis=Basis.FORMULA,
                source="one state per sequence outside the cache (vllm/model_executor/models/mamba_cache.py)",
            )
        )
    return tuple(terms)


def _resolved(run: Run, settings: Settings, plan: KvPlan, share: float | None) -> Mapping[str, str | int | float]:
    resolved: dict[str, str | int | float] = {
        "engine_version": settings.version.text,
        "gpu_memory_utilization": settings.utilization,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "tensor_parallel_size": run.tensor_parallel,
        "block_size": plan.groups[0].block_size if plan.groups else settings.block_size,
        "block_bytes": plan.block_bytes,
    }
    if share is not None:
        resolved["smallest_gpu_memory_utilization"] = share
    return resolved


def _flags(run: Run, settings: Settings) -> tuple[str, ...]:
    """Every setting spelled out: vLLM's defaults depend on what it takes the device for."""
    flags = [
        f"--max-model-len {settings.max_model_len}",
        f"--max-num-seqs {settings.max_num_seqs}",
        f"--max-num-batched-tokens {settings.max_num_batched_tokens}",
        f"--gpu-memory-utilization {settings.utilization:g}",
        f"--tensor-parallel-size {run.tensor_parallel}",
        f"--kv-cache-dtype {cache_dtype(run)}",
    ]
    for name, value in (
        ("--pipeline-parallel-size", run.pipeline_parallel if run.pipeline_parallel > 1 else None),
        ("--data-parallel-size", run.data_parallel if run.data_parallel > 1 else None),
        ("--dtype", settings.dtype),
        ("--quantization", quantization_flag(run)),
        ("--block-size", run.block_size),
        ("--max-loras", run.max_loras or None),
        ("--max-lora-rank", run.max_lora_rank if run.max_loras else None),
    ):
        if value is not None:
            flags.append(f"{name} {value}")
    if run.expert_parallel:
        flags.append("--enable-expert-parallel")
    if run.enforce_eager:
        flags.append("--enforce-eager")
    if settings.needs_chunked_prefill:
        flags.append("--enable-chunked-prefill")
    return tuple(flags)


def _assumed(run: Run, settings: Settings, plan: KvPlan, weights: Weights) -> tuple[str, ...]:
    sentences = [*run.model.assumed, *weights.notes]
    if not settings.version.stated:
        sentences.append(f"No version of vLLM was given: {settings.version.text} assumed.")
    sentences.extend(settings.notes)
    if settings.defaults:
        sentences.append(f"vLLM's own defaults hold for {', '.join(settings.defaults)}.")
    if images := old_encoder_peak(run, settings):
        sentences.append(
            f"V0 profiles the image encoder with one image for each sequence: up to {spelled_bytes(images)}, which is "
            "in the upper end of the activation. Lower --max-num-seqs."
        )
    if not plan.known:
        sentences.append(f"The compressed cache of {run.model.architecture} is estimated from its entries alone.")
    return tuple(sentences)

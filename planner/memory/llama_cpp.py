"""Will it fit under llama.cpp or Ollama? The terms of one device, their ranges, and the longest context it holds.

llama.cpp has no share of the device to stay within: it takes what it needs, and fails to start where that is missing.
"""

from dataclasses import dataclass, replace

from planner.memory.corrections import corrected_terms
from planner.memory.estimate import Basis, Engine, Estimate, Run, Term, Verdict
from planner.memory.llama_compute import compute_need
from planner.memory.llama_kv_cache import CacheNeed, cache_need, padded_context
from planner.memory.llama_settings import LlamaSettings, settings_of
from planner.memory.llama_versions import LatentCache, version_of
from planner.memory.llama_weights import weight_need
from planner.sentences import spelled_bytes
from planner.units import MIB

_CONTEXT_BYTES = 310 * MIB
_CONTEXT_LOW = 150 * MIB
_CONTEXT_HIGH = 600 * MIB
_FIT_MARGIN = 1024 * MIB  # --fit-target of llama.cpp (PR 16653)
_SMALLEST_FITTED = 4096  # --fit-ctx
_STEP = 256
_CELL_SOURCE = "cells x layers x (keys + values) by llama-kv-cache.cpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    terms: tuple[Term, ...]
    cache: CacheNeed
    assumed: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(term.bytes for term in self.terms)

    @property
    def low(self) -> int:
        return sum(term.low for term in self.terms)

    @property
    def high(self) -> int:
        return sum(term.high for term in self.terms)


def estimate_llama_cpp(run: Run) -> Estimate:
    """The estimate of one device under llama.cpp, ik_llama.cpp (engine version "ik -mla 3") or Ollama.

    Raises ContradictorySettings where the engine would refuse the settings. A default context is lowered to what fits
    where the version does so itself.
    """
    settings = settings_of(run)
    if settings.is_context_default and settings.rules.fits_context:
        settings = _fitted(run, settings)
    need = _need(run, settings)
    verdict, reasons = _verdict(run, settings, need)
    per_token = _bytes_per_token(run, settings)
    longest = _longest_context(run, settings)
    request = run.max_model_len or (settings.context if settings.is_shared else settings.context // settings.sequences)
    cache = next(term for term in need.terms if term.name == "kv_cache")
    return Estimate(
        verdict=verdict,
        reasons=reasons,
        device_bytes=run.device.memory_bytes,
        budget_bytes=run.device.memory_bytes,
        terms=need.terms,
        kv_cache_bytes=cache.bytes,
        kv_cache_low_bytes=cache.low,
        kv_cache_high_bytes=cache.high,
        kv_bytes_per_token=per_token,
        kv_cache_tokens=need.cache.cells or settings.context,
        max_concurrency=min((need.cache.cells or settings.context) / max(request, 1), float(settings.sequences)),
        max_context=longest,
        settings={
            "engine": settings.rules.label,
            "engine_version": version_of(run.engine, run.engine_version),
            "n_ctx": settings.context,
            "n_parallel": settings.sequences,
            "kv_unified": int(settings.is_shared),
            "n_ubatch": settings.micro_batch,
            "flash_attention": int(settings.flash_attention),
            "cache_type_k": settings.key_type,
            "cache_type_v": settings.value_type,
            "gpu_layers": settings.gpu_layers + int(settings.has_output_layer),
        },
        flags=_flags(run, settings),
        assumed=(*run.model.assumed, *settings.assumed, *need.assumed),
    )


def _need(run: Run, settings: LlamaSettings) -> _Need:
    weights = weight_need(run, settings)
    share = settings.gpu_layers / max(run.model.layer_count, 1)
    ranks = max(run.tensor_parallel * run.pipeline_parallel, 1)
    share = -(-settings.gpu_layers // ranks) / max(run.model.layer_count, 1) if ranks > 1 else share
    cache = cache_need(
        run.model, settings, is_swa_full=run.swa_full, share_of_layers=share, extra_layers=run.speculative_layers
    )
    compute = compute_need(run.model, settings)
    low, high = _cache_range(run, settings, cache, share)
    assumed = list(weights.assumed)
    basis = Basis.FORMULA
    if cache.unknown_layers:
        assumed.append(f"{cache.unknown_layers} layers of unknown sizes are left out of the KV cache.")
        basis = Basis.ASSUMED
        high = round(high * 1.5) + 64 * MIB
    terms = [
        Term(
            name="weights",
            bytes=weights.bytes,
            low=weights.low,
            high=weights.high,
            basis=weights.basis,
            source=weights.source,
        ),
        Term(
            name="kv_cache",
            bytes=cache.total_bytes,
            low=low,
            high=high,
            basis=basis,
            source=f"{_CELL_SOURCE}, {settings.rules.label}",
        ),
        Term(
            name="compute",
            bytes=compute.bytes,
            low=compute.low,
            high=compute.high,
            basis=Basis.FORMULA,
            source=f"{compute.decided_by} of one micro-batch of {settings.micro_batch} tokens in 32 bits",
        ),
        Term(
            name="context",
            bytes=_CONTEXT_BYTES,
            low=_CONTEXT_LOW,
            high=_CONTEXT_HIGH,
            basis=Basis.ASSUMED,
            source="driver's total less the engine's buffers: 309 MiB on one measured run; CUDA contexts of 150 to 600",
        ),
    ]
    return _Need(terms=corrected_terms(terms, run.corrections), cache=cache, assumed=tuple(assumed))


def _cache_range(run: Run, settings: LlamaSettings, cache: CacheNeed, share: float) -> tuple[int, int]:
    """The cache is exact where the version is known; without one the layouts of neighbouring versions span it."""
    if run.engine_version is not None:
        return cache.total_bytes, round(cache.total_bytes * 1.001)
    other = replace(settings, is_shared=not settings.is_shared)
    neighbours = [
        cache_need(
            run.model, one, is_swa_full=run.swa_full, share_of_layers=share, extra_layers=run.speculative_layers
        ).total_bytes
        for one in (settings, other)
    ]
    return min(neighbours), max(neighbours)


def _verdict(run: Run, settings: LlamaSettings, need: _Need) -> tuple[Verdict, tuple[str, ...]]:
    device = run.device.memory_bytes
    parts = ", ".join(f"{term.name.replace('_', ' ')} {spelled_bytes(term.bytes)}" for term in need.terms)
    text = f"needs {spelled_bytes(need.bytes)} of {spelled_bytes(device)} on {run.device.name}: {parts}"
    span = f"between {spelled_bytes(need.low)} and {spelled_bytes(need.high)}"
    if need.high <= device:
        return Verdict.FITS, (f"It {text}.",)
    if need.low > device:
        layers = _layers_that_fit(run, settings)
        rest = f"{layers} of {run.model.layer_count} layers fit; the rest would stay on the host."
        return Verdict.DOES_NOT_FIT, (f"It {text}.", rest)
    return Verdict.TIGHT, (f"It {text}.", f"The need lies {span}, and the device lies inside that range.")


def _layers_that_fit(run: Run, settings: LlamaSettings) -> int:
    """Most layers whose upper need stays below the device."""
    best, low, high = 0, 1, settings.gpu_layers
    while low <= high:
        middle = (low + high) // 2
        if _need(run, replace(settings, gpu_layers=middle, has_output_layer=False)).high <= run.device.memory_bytes:
            best, low = middle, middle + 1
        else:
            high = middle - 1
    return best


def _fitted(run: Run, settings: LlamaSettings) -> LlamaSettings:
    """The context that llama.cpp's --fit chooses: the model's own, or the largest that leaves its margin."""
    longest = _largest(run, settings, run.device.memory_bytes - _FIT_MARGIN, settings.context)
    context = min(settings.context, max(longest, _SMALLEST_FITTED))
    if context == settings.context:
        return settings
    note = f"Context lowered to {context} tokens, as {settings.rules.label} does to leave 1 GiB of the device free."
    micro_batch = min(settings.largest_micro_batch, context)
    return replace(settings, context=context, micro_batch=micro_batch, assumed=(*settings.assumed, note))


def _longest_context(run: Run, settings: LlamaSettings) -> int | None:
    """The longest single request that the device would hold by the expected need, up to the model's own limit."""
    limit = run.model.max_positions or 1 << 20
    longest = _largest(run, replace(settings, sequences=1, is_shared=True), run.device.memory_bytes, limit)
    return longest or None


def _largest(run: Run, settings: LlamaSettings, budget: int, limit: int) -> int:
    """Largest context whose expected need stays within the budget; 0 when none does."""
    low, high = 0, limit // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        context = middle * _STEP
        candidate = replace(settings, context=context, micro_batch=min(settings.largest_micro_batch, context))
        if _need(run, candidate).bytes <= budget:
            low = middle
        else:
            high = middle - 1
    return low * _STEP


def _bytes_per_token(run: Run, settings: LlamaSettings) -> float | None:
    """Growth of the cache with one more token of context, in the layers that see it all."""
    cells = padded_context(settings)
    longer = replace(settings, context=cells + _STEP * settings.sequences)
    growth = (
        cache_need(run.model, longer, is_swa_full=run.swa_full).attention_bytes
        - cache_need(run.model, replace(settings, context=cells), is_swa_full=run.swa_full).attention_bytes
    )
    added = padded_context(longer) - cells
    return growth / added if growth and added else None


def _flags(run: Run, settings: LlamaSettings) -> tuple[str, ...]:
    """The settings as the engine takes them: flags of llama-server, environment and options of Ollama."""
    if run.engine is Engine.OLLAMA:
        each = settings.context // settings.sequences
        return (
            f"OLLAMA_NUM_PARALLEL={settings.sequences}",
            f"OLLAMA_CONTEXT_LENGTH={each}",
            f"OLLAMA_FLASH_ATTENTION={int(settings.flash_attention)}",
            f"OLLAMA_KV_CACHE_TYPE={settings.key_type}",
        )
    flags = [
        f"--ctx-size {settings.context}",
        f"--parallel {settings.sequences}",
        f"--ubatch-size {settings.micro_batch}",
        f"--flash-attn {'on' if settings.flash_attention else 'off'}",
        f"--cache-type-k {settings.key_type}",
        f"--cache-type-v {settings.value_type}",
        f"--n-gpu-layers {settings.gpu_layers + int(settings.has_output_layer)}",
    ]
    if settings.rules.has_streams and settings.is_shared and settings.sequences > 1:
        flags.append("--kv-unified")
    if run.swa_full:
        flags.append("--swa-full")
    if run.cpu_expert_layers:
        flags.append(f"--n-cpu-moe {run.cpu_expert_layers}")
    if settings.rules.label.startswith("ik_"):
        flags.append("-mla 3" if settings.rules.latent is LatentCache.ONCE else "-mla 1")
    return tuple(flags)

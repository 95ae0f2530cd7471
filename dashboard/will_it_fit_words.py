"""What the page "Will it fit?" says beside its numbers: the launch command, what it needs, and a model's layers."""

import shlex
from dataclasses import replace
from typing import Final

from dashboard.formatting import ABSENT, bytes_text, number
from dashboard.will_it_fit_answer import OptionBar
from dashboard.will_it_fit_figures import usd_per_hour
from dashboard.will_it_fit_question import Question
from planner.memory.estimate import Engine, Run
from planner.memory.facts import LayerKind, Layers, ModelFacts, WeightFormat
from planner.units import KIB

_MADE_AT_START: Final = ("fp8", "bitsandbytes")
"""What vLLM makes of a 16-bit checkpoint at start (--quantization); the others need a checkpoint stored so."""


def launch_command(bar: OptionBar) -> str:
    """What starts the engine as it was estimated, with every setting spelled out."""
    run, estimate = bar.option.run, bar.option.estimate
    if run is None or estimate is None:
        return ""
    visible = ['CUDA_VISIBLE_DEVICES="$MIG_UUID"'] if run.device.is_mig else []
    if run.engine is Engine.OLLAMA:
        head = [*visible, *estimate.flags, "ollama serve"]
    elif run.engine is Engine.LLAMA_CPP:
        model = run.model.name if run.model.dtype is WeightFormat.GGUF or run.model.stored_bytes else "model"
        head = [*visible, f"llama-server --model {shlex.quote(model + '.gguf')}", *_llama_flags(estimate.flags, run)]
    else:
        head = [*visible, f"vllm serve {shlex.quote(run.model.name)}", *estimate.flags]
    return " \\\n  ".join(head)


def _llama_flags(flags: tuple[str, ...], run: Run) -> list[str]:
    several = [f"--split-mode layer --tensor-split {','.join(['1'] * run.tensor_parallel)}"]
    return [*flags, *(several if run.tensor_parallel > 1 else [])]


def launch_notes(bar: OptionBar) -> tuple[str, ...]:
    """What the command takes for granted."""
    run = bar.option.run
    if run is None:
        return ()
    notes = ["MIG_UUID is the instance's own, as `nvidia-smi -L` prints it."] if run.device.is_mig else []
    asked = f" in {run.quantization}" if run.quantization else ""
    if run.engine is Engine.VLLM:
        is_made = any(word in asked.lower() for word in _MADE_AT_START)
        if asked and run.model.quantisation is None and not is_made:
            notes.append(
                f"vLLM does not make {run.quantization} at start: put a checkpoint of {run.model.name} that is stored "
                "so in place of the name."
            )
    elif run.engine is Engine.OLLAMA:
        notes.append(f"Then `ollama run` {run.model.name}{asked}.")
    elif not run.model.stored_bytes:
        notes.append(f"model.gguf is {run.model.name}{asked}.")
    return tuple(notes)


def layers_text(model: ModelFacts) -> str:
    """The layers by kind, as people say it: `16 of full attention (8 KV heads of 128), 48 of 1,024 tokens`."""
    return ", ".join(_layer_text(layers) for layers in _merged(model.layers))


def _merged(layers: tuple[Layers, ...]) -> list[Layers]:
    found: list[Layers] = []
    for one in layers:
        same = next((k for k, other in enumerate(found) if replace(other, count=0) == replace(one, count=0)), None)
        if same is None:
            found.append(one)
        else:
            found[same] = replace(found[same], count=found[same].count + one.count)
    return found


def _layer_text(layers: Layers) -> str:
    heads = f" ({layers.kv_heads} KV heads of {layers.key_size})" if layers.kv_heads and layers.key_size else ""
    if layers.kind is LayerKind.FULL:
        return f"{layers.count} full attention{heads}"
    if layers.kind is LayerKind.SLIDING:
        return f"{layers.count} sliding window of {layers.window or 0:,} tokens{heads}"
    if layers.kind is LayerKind.MLA:
        size = (layers.latent_size or 0) + (layers.rope_size or 0)
        return f"{layers.count} MLA ({size} elements a token for all heads)"
    if layers.kind is LayerKind.STATE:
        return f"{layers.count} state-space or linear (a state of fixed size per request)"
    return f"{layers.count} without a cache of their own"


def parameters_text(count: int) -> str:
    """`8.03 B`, below a billion `494 M`."""
    return f"{count / 1e9:.3g} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def cards(bar: OptionBar) -> tuple[tuple[str, str], ...]:
    """What follows from the terms of one option, by what it is called."""
    estimate, run = bar.option.estimate, bar.option.run
    if estimate is None or run is None:
        return ()
    found = []
    price = price_text(bar)
    if price is not None:
        found.append(("Price", price))
    found.append(
        ("Longest single request", ABSENT if estimate.max_context is None else f"{estimate.max_context:,} tokens")
    )
    if run.engine is Engine.VLLM:
        found.append(("KV cache left", bytes_text(max(estimate.kv_cache_bytes, 0))))
        at_once = estimate.max_concurrency
        found.append(("Requests at once", ABSENT if at_once is None else f"{at_once:,.2f}"))
    per_token = estimate.kv_bytes_per_token
    found.append(("KV cache per token", ABSENT if per_token is None else f"{per_token / KIB:,.1f} KiB"))
    if estimate.kv_cache_tokens is not None:
        found.append(("Tokens in the cache", number(estimate.kv_cache_tokens)))
    share = estimate.settings.get("smallest_gpu_memory_utilization")
    if share is not None:
        found.append(("Least utilization for one request", f"{share}"))
    return tuple(found)


def price_text(bar: OptionBar) -> str | None:
    """What the option costs, where its board has a price."""
    price = bar.option.price_usd_per_hour
    return None if price is None else usd_per_hour(price)


def order_text(question: Question) -> str:
    """How the options are ordered."""
    if not question.prices:
        return "least GPU memory first"
    rest = "; boards without a price after them" if len(question.prices) < len(question.boards) else ""
    return f"lowest price first{rest}"


def assumed(bar: OptionBar) -> tuple[str, ...]:
    """What nobody stated, the engine's version first."""
    run, estimate = bar.option.run, bar.option.estimate
    if run is None or estimate is None:
        return ()
    if run.engine is Engine.VLLM or run.engine_version is not None:
        return estimate.assumed
    return (f"No version was given: {estimate.settings.get('engine')} assumed.", *estimate.assumed)

"""Scores the llama.cpp model on the measured runs in `memory/llamacpp_runs.jsonl`: KV cache, compute buffer, weights.

Architecture comes from what the run's own log printed (n_layer, n_embd_k_gqa, ...); a log that printed none is scored
with the sizes of the model's public config.json, listed here. Nothing in the model was fitted to the KV rows.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from planner.memory.estimate import Basis, Device, Engine, Estimate, Run
from planner.memory.facts import Experts, LayerKind, Layers, ModelFacts, Parameters, Quantisation, WeightFormat
from planner.memory.ggml_types import file_type_bits
from planner.memory.llama_cpp import estimate_llama_cpp
from planner.units import GIB, MIB

_BIG_DEVICE = Device(name="any", memory_bytes=4096 * GIB, basis=Basis.ASSUMED, source="room for every run")


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaScore:
    """One run: what was measured and predicted, in bytes, and the error as a share of the measurement."""

    row: str
    model: str
    term: str  # "kv_cache", "compute", "file"
    measured: float
    predicted: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Signed, relative to what was measured."""
        return self.predicted / self.measured - 1

    @property
    def is_in_range(self) -> bool:
        """Whether the measurement lies between the ends of the range (1 % of slack for rounding)."""
        return self.low * 0.99 <= self.measured <= self.high * 1.01


def plain(count: int, kv_heads: int, size: int, *, heads: int = 32, window: int | None = None) -> Layers:
    """`count` layers of ordinary attention; sliding when a window is given."""
    kind = LayerKind.SLIDING if window else LayerKind.FULL
    return Layers(kind=kind, count=count, heads=heads, kv_heads=kv_heads, key_size=size, value_size=size, window=window)


def state(count: int, inner: int, state_size: int, groups: int, kernel: int = 4) -> Layers:
    """`count` Mamba layers: conv (kernel - 1) x (inner + 2 groups x state), state inner x state (llama-hparams.cpp)."""
    return Layers(
        kind=LayerKind.STATE,
        count=count,
        state_elements=inner * state_size,
        conv_elements=(kernel - 1) * (inner + 2 * groups * state_size),
        state_bits=32,
    )


_NAMED: Mapping[str, tuple[Layers, ...]] = {  # sizes from the models' public config.json
    "gpt-oss:120b": (plain(18, 8, 64, heads=64), plain(18, 8, 64, heads=64, window=128)),
    "gpt-oss-20b": (plain(12, 8, 64, heads=64), plain(12, 8, 64, heads=64, window=128)),
    "qwen3:30b-a3b-2507 Q8_0": (plain(48, 4, 128),),
    "gemma3:1b class (27 layers)": (plain(4, 1, 256, heads=4), plain(22, 1, 256, heads=4, window=512)),
    "mistral-small-2409-22b (Q6_K per 17.3 GiB on 57 layers)": (plain(56, 8, 128, heads=48),),
    "qwen2.5:7b": (plain(28, 4, 128, heads=28),),
    "Qwen2.5-1.5B": (plain(28, 2, 128, heads=12),),
    "Falcon-H1-1.5B-Instruct": (plain(24, 2, 128, heads=8), state(24, 3072, 256, 1)),
    "Mamba-1.4B": (state(48, 4096, 16, 0),),
    "bge-small (BERT 33M) f16": (plain(12, 12, 32, heads=12),),
    "Qwen1.5-32B-Chat": (plain(64, 8, 128, heads=40),),
    "Yi-1.5-34B-Chat": (plain(60, 8, 128, heads=56),),
}
_CONTEXTS = {"gemma3:1b class (27 layers)": 4096}  # Ollama's default, which that log does not repeat


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the reference file."""
    text = (folder / "memory" / "llamacpp_runs.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def run_of(row: Mapping[str, Any]) -> Run | None:
    """The row as a run; None when neither its log nor the list above says what the model is made of."""
    layers = _layers(row)
    context = row["n_ctx"] or _CONTEXTS.get(row["model"])
    if not layers or context is None:
        return None
    engine = Engine.OLLAMA if row["engine"] == "ollama" else Engine.LLAMA_CPP
    sequences = row["n_seq_max"] or 1
    types = [row["type_k"] or "f16", row["type_v"] or ("f16" if row["type_v"] is None else row["type_v"])]
    if row["type_v"] is None and row["type_k"]:
        types[1] = types[0]
    is_flash = {"0": False, "1": True}.get(str(row["flash_attn"]), True)
    if not is_flash and types[1] != "f16":
        is_flash = True
    unified = "kv_unified)" in (row["kv_detail"] or "")
    return Run(
        model=_facts(row, layers),
        device=_BIG_DEVICE,
        engine=engine,
        engine_version=_version(row),
        n_ctx=context // sequences if engine is Engine.OLLAMA else context,
        n_parallel=sequences,
        kv_unified=unified or sequences == 1,
        n_ubatch=int(row["n_ubatch"]) if row["n_ubatch"] else None,
        n_batch=int(row["n_batch"]) if row["n_batch"] else None,
        flash_attention=is_flash,
        kv_cache_dtype="/".join(types),
        quantization=row["quantization"],
    )


def kv_scores(rows: Iterable[Mapping[str, Any]]) -> list[LlamaScore]:
    """KV cache of every row that measured one and names its model."""
    found = []
    for row in rows:
        run = run_of(row) if row["kv_self_mib"] and row["kind"] == "engine_allocated" else None
        if run is None:
            continue
        estimate = estimate_llama_cpp(run)
        predicted = float(estimate.kv_cache_bytes)
        states = 72.98 if row["model"].startswith("Falcon-H1") else 0.0  # its log prints the states apart
        found.append(_score(row, "kv_cache", (row["kv_self_mib"] + states) * MIB, predicted, estimate))
    return found


def compute_scores(rows: Iterable[Mapping[str, Any]]) -> list[LlamaScore]:
    """Compute buffer of rows with every layer and every expert on one CUDA device, and of rows without a device."""
    found = []
    for row in rows:
        buffers = row["compute_buffers_mib"] or {}
        devices = [name for name in buffers if name.startswith(("CUDA", "MTL")) and name != "CUDA_Host"]
        run = run_of(row) if row["n_embd"] else None
        if run is None or len(devices) > 1 or not buffers:
            continue
        offloaded = row["offloaded_layers"]
        if devices and (offloaded is None or offloaded[0] != offloaded[1]):
            continue
        measured = buffers[devices[0]] if devices else max(buffers.values())
        found.append(_score(row, "compute", measured * MIB, math.nan, estimate_llama_cpp(run)))
    return found


def file_scores(rows: Iterable[Mapping[str, Any]]) -> list[LlamaScore]:
    """File size from the parameter count and the named file type (not the ones that state their own bits)."""
    found = []
    for row in rows:
        bits = file_type_bits(row["quantization"] or "")
        if (
            bits is None
            or "bpw" in row["quantization"]
            or not row["file_size_gib"]
            or " B" not in (row["params"] or "")
        ):
            continue
        predicted = float(row["params"].split()[0]) * 1e9 * bits / 8
        measured = row["file_size_gib"] * GIB
        low, high = (0.995, 1.01) if bits >= 16 else (0.93, 1.06)
        found.append(
            LlamaScore(
                row=row["id"],
                model=row["model"],
                term="file",
                measured=measured,
                predicted=predicted,
                low=predicted * low,
                high=predicted * high,
            )
        )
    return found


def summary(scores: Sequence[LlamaScore], within: float) -> dict[str, float]:
    """Count, median and mean absolute error, share within that error, share inside the range."""
    errors = [abs(score.error) for score in scores]
    return {
        "rows": len(scores),
        "median": median(errors),
        "mean": sum(errors) / len(errors),
        "within": sum(error <= within for error in errors) / len(errors),
        "in_range": sum(score.is_in_range for score in scores) / len(scores),
    }


def _score(row: Mapping[str, Any], term: str, measured: float, predicted: float, estimate: Estimate) -> LlamaScore:
    part = next(one for one in estimate.terms if one.name == term)
    return LlamaScore(
        row=row["id"],
        model=row["model"],
        term=term,
        measured=measured,
        predicted=part.bytes if math.isnan(predicted) else predicted,
        low=part.low,
        high=part.high,
    )


def _version(row: Mapping[str, Any]) -> str | None:
    if row["engine"] == "ik_llama.cpp":
        return f"ik -mla {row['mla_attn'] or 0}"
    return "0.30.0" if row["engine"] == "ollama" else "v0.5.0"


def _layers(row: Mapping[str, Any]) -> tuple[Layers, ...]:
    if row["model"] in _NAMED:
        return _NAMED[row["model"]]
    if not row["n_layer"] or not row["n_embd_k_gqa"]:
        return ()
    if row["n_lora_kv"] and str(row["mla_attn"] or "0") != "0":
        latent = Layers(
            kind=LayerKind.MLA,
            count=row["n_layer"],
            heads=row["n_head"],
            latent_size=row["n_lora_kv"],
            rope_size=64,
            key_size=row["n_embd_head_k"],
            value_size=row["n_embd_head_v"],
        )
        return (latent,)
    keys, values = _sizes(row["n_embd_k_gqa"], row["n_layer"]), _sizes(row["n_embd_v_gqa"], row["n_layer"])
    pairs = list(zip(keys, values, strict=True))
    return tuple(
        Layers(
            kind=LayerKind.FULL if pair[0] else LayerKind.NONE,
            count=pairs.count(pair),
            heads=row["n_head"],
            kv_heads=pair[0] // row["n_embd_head_k"],
            key_size=row["n_embd_head_k"],
            value_size=pair[1] * row["n_embd_head_k"] // pair[0] if pair[0] else 0,
        )
        for pair in sorted(set(pairs))
    )


def _sizes(text: str, layers: int) -> list[int]:
    parsed = json.loads(text)
    return parsed if isinstance(parsed, list) else [parsed] * layers


def _facts(row: Mapping[str, Any], layers: tuple[Layers, ...]) -> ModelFacts:
    hidden = row["n_embd"] or 4096
    has_experts = bool(row["n_expert"])
    return ModelFacts(
        name=row["model"],
        architecture=row["arch"] or "",
        model_type=row["arch"] or "",
        hidden_size=hidden,
        intermediate_size=None,
        vocab_size=row["n_vocab"] or 32000,
        max_positions=1 << 20,
        tied_embeddings=False,
        dtype=WeightFormat.GGUF,
        layers=layers,
        parameters=Parameters(
            embedding=0,
            head=0,
            attention=0,
            mlp=0,
            experts=0,
            shared_experts=0,
            router=0,
            norms=0,
        ),
        experts=Experts(layers=row["n_layer"], total=row["n_expert"], active=8, shared=0, intermediate_size=2048)
        if has_experts
        else None,
        quantisation=Quantisation(format=WeightFormat.GGUF, bits=4.0),
    )


def main() -> None:
    """Prints the scores; the rows are beside the checkout."""
    rows = read_rows(Path(__file__).resolve().parents[2] / "shared" / "reference")
    for scores, within in ((kv_scores(rows), 0.02), (compute_scores(rows), 0.1), (file_scores(rows), 0.05)):
        print(scores[0].term, {name: round(value, 4) for name, value in summary(scores, within).items()})
        for score in sorted(scores, key=lambda one: -abs(one.error))[:10]:
            print(
                f"  {score.row} {score.model[:40]:40} {score.measured / MIB:10.1f} {score.predicted / MIB:10.1f} MiB",
                end="",
            )
            print(f" {score.error:+.1%} {'' if score.is_in_range else 'outside its range'}")


if __name__ == "__main__":
    main()

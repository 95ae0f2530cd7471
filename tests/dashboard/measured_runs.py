"""Measured runs for the page: logs in vLLM's words with chosen numbers, kept as `gpufleet memory learn` keeps them."""

from datetime import datetime

from planner.catalog import load_catalog
from planner.memory.devices import device_of
from planner.memory.learning import Learnt, LogDescription, learn, read_start_log
from planner.memory.model_catalogue import find_model
from store.database import open_engine
from store.memory_runs import keep_run

MODEL = "meta-llama/Llama-3.1-8B"
H100 = "H100-80GB-SXM"
_SETTINGS = (
    "dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1, quantization=None, enforce_eager=False, "
    "kv_cache_dtype=auto"
)


def log_text(*, total: str = "79.05", weights: str = "15.20", activation: str = "1.50", model: str = MODEL) -> str:
    """Weights of the model are 15.0 GiB by its configuration."""
    lines = (
        f"Initializing a V1 LLM engine (v0.31.0) with config: model='{model}', {_SETTINGS}",
        f"Free memory on device ({float(total) - 0.5:.2f}/{total} GiB) on startup.",
        f"Model loading took {weights} GiB and 3.1 seconds",
        f"{activation} GiB for peak activation",
        "Available KV cache memory: 51.30 GiB",
    )
    return "".join(f"INFO 11-01 10:00:0{number} [engine.py:1] {line}\n" for number, line in enumerate(lines))


def learnt(text: str, *, board: str = H100, profile: str | None = None, at: datetime | None = None) -> Learnt:
    """What the log teaches of that device."""
    catalog = load_catalog()
    found = catalog.board(board)
    device = device_of(found, None if profile is None else catalog.profile(found, profile))
    described = LogDescription(model=find_model(MODEL), device=device)
    return learn(read_start_log(text, "a log"), described, measured_at=at)


def write_runs(url: str, now: datetime) -> None:
    """Two runs on a whole H100, and one on a MIG device whose weights ask for more than the bound."""
    engine = open_engine(url)
    for one in (
        learnt(log_text(), at=now),
        learnt(log_text(total="79.20", weights="15.40"), at=now),
        learnt(log_text(total="39.38", weights="19.40"), profile="3g.40gb"),
    ):
        keep_run(engine, one, now=now)
    engine.dispose()

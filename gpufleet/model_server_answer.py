"""What a running vLLM measured of its cache, beside what is predicted for it: for JSON and for people."""

from collections.abc import Sequence
from typing import Any

from dashboard.formatting import ABSENT, bytes_text, number
from gpufleet.memory_documents import Answer, comparison_document
from gpufleet.model_servers import RunningVllm
from gpufleet.text_output import literal, new_console, new_table
from planner.memory.calibration import compare
from planner.memory.vllm_server import measured_pool, with_pool


def server_document(server: RunningVllm, given: Answer, overridden: Sequence[str]) -> dict[str, Any]:
    """The key `server` of an answer; `comparison` is empty where something else was asked than the server runs."""
    cache = server.cache
    told = {
        "address": server.address,
        "models": list(server.names),
        "root": server.root,
        **{
            key: server.settings.get(key)
            for key in ("engine_version", "max_model_len", "block_size", "gpu_memory_utilization", "kv_cache_dtype")
        },
        "gpu_blocks": cache.gpu_blocks if cache else None,
        "overridden": list(overridden),
    }
    return told | _compared(server, given, overridden)


def _compared(server: RunningVllm, given: Answer, overridden: Sequence[str]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"comparison": [], "measured_tokens": None, "predicted_tokens": None}
    if given.estimate is None or overridden:
        return nothing
    measured = server.measured
    pool = measured_pool(given.run, given.estimate, measured)
    if pool is None:
        return nothing
    comparison = compare(given.run, given.estimate, with_pool(measured, pool))
    return {
        "comparison": comparison_document(comparison),
        "measured_tokens": pool.tokens,
        "predicted_tokens": given.estimate.kv_cache_tokens,
    }


def print_server(document: dict[str, Any]) -> None:
    """The measured cache beside the predicted one."""
    console = new_console()
    if not document["comparison"] and document["measured_tokens"] is None:
        return
    console.print(f"Measured by the server at {literal(document['address'])}:")
    table = new_table("", "Measured", "Predicted", "Low", "High", "Measured / predicted", "In range")
    for term in document["comparison"]:
        table.add_row(
            term["name"].replace("_", " "),
            *(bytes_text(term[key]) for key in ("measured", "predicted", "low", "high")),
            ABSENT if term["factor"] is None else f"{term['factor']:.3f}",
            "yes" if term["inside"] else "no",
        )
    measured, predicted = document["measured_tokens"], document["predicted_tokens"]
    factor = f"{measured / predicted:.3f}" if measured and predicted else ABSENT
    table.add_row("tokens", number(measured), number(predicted), ABSENT, ABSENT, factor, ABSENT)
    console.print(table)

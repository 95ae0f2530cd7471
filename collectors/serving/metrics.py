"""Every engine's table, and which engine a page of metrics belongs to."""

import re
from collections.abc import Iterable, Mapping

from collectors.serving import llama_cpp, nim, sglang, tensorrt_llm, tgi, triton, vllm
from collectors.serving.table import EngineTable
from planner.serving_readings import ServingEngine

TABLES: Mapping[ServingEngine, EngineTable] = {
    table.engine: table
    for table in (
        vllm.TABLE,
        sglang.TABLE,
        llama_cpp.TABLE,
        tgi.TABLE,
        nim.TABLE,
        triton.TABLE,
        tensorrt_llm.TABLE,
    )
}
"""By engine. Ollama has no metrics of its own and is a source of its own."""

_SIGNS: tuple[tuple[ServingEngine, tuple[re.Pattern[str], ...]], ...] = tuple(
    (engine, tuple(re.compile(f"^{sign}", re.MULTILINE) for sign in signs))
    for engine, signs in (
        # In this order: Triton's vLLM backend gives vLLM's names beside Triton's, and these tell more.
        (ServingEngine.VLLM, ("(?:ray_)?vllm[:_]",)),
        (ServingEngine.SGLANG, ("sglang[:_]",)),
        (ServingEngine.TENSORRT_LLM, ("trtllm[:_]",)),
        (ServingEngine.LLAMA_CPP, ("llamacpp:",)),
        (ServingEngine.TGI, ("tgi_(?:queue|batch|request)_",)),
        (ServingEngine.TRITON, ("nv_(?:inference|trt_llm)_",)),
        # Without a prefix: these two together are nobody else's.
        (ServingEngine.NIM, ("num_requests_running[{ ]", "gpu_cache_usage_perc[{ ]")),
    )
)


def engine_of(text: str) -> ServingEngine | None:
    """Whose metrics a page holds, by their names; None when they are no serving engine's."""
    return next((engine for engine, signs in _SIGNS if all(sign.search(text) for sign in signs)), None)


def engine_of_names(names: Iterable[str]) -> ServingEngine | None:
    """As `engine_of`, for sample names."""
    return engine_of("".join(f"{name} \n" for name in names))


def generation_of(engine: ServingEngine, text: str) -> str | None:
    """Which releases use the names of this page; None where they do not tell."""
    if engine is not ServingEngine.VLLM:
        return None
    return next((words for name, words in vllm.GENERATIONS if name in text), None)


def version_numbers(version: str | None) -> tuple[int, ...] | None:
    """`0.11.0rc2` as (0, 11, 0), for comparison; None where there are no such numbers."""
    match = re.match(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?", version or "")
    return None if match is None else tuple(int(part) for part in match.groups(default="0"))

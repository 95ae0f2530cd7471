"""The widgets of "Will it fit?": each shows one part of the question and leaves it as it was chosen."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard.html_parts import will_it_fit_part
from dashboard.model_upload import UPLOAD_LIMIT_MIB, facts_from_upload
from dashboard.views import will_it_fit_state as state
from dashboard.will_it_fit_question import (
    MODEL_LIMIT,
    MOST_BOARDS,
    MOST_REQUESTS,
    MOST_TOKENS,
    MOST_USD_PER_HOUR,
    Question,
    model_names,
    pack_facts,
    unpack_facts,
)
from planner.catalog import load_catalog
from planner.errors import PlannerError
from planner.memory.estimate import Engine
from planner.memory.ggml_types import BLOCKS, FILE_TYPE_BITS
from planner.memory.options import RANKS

ENGINES: Mapping[Engine, str] = {Engine.VLLM: "vLLM", Engine.LLAMA_CPP: "llama.cpp", Engine.OLLAMA: "Ollama"}
VERSIONS: Mapping[Engine, tuple[str, ...]] = {
    Engine.VLLM: ("0.31.0", "0.22.0", "0.21.0", "0.19.0", "0.17.0", "0.16.0", "0.11.0", "0.8.5", "0.6.6"),
    Engine.LLAMA_CPP: ("v0.5.0", "b8179", "b7836", "b7347", "b6431", "b5590", "b4753"),
    Engine.OLLAMA: ("0.30.0", "0.20.0", "0.15.5", "0.13.0", "0.9.6", "0.6.7"),
}
"""Offered versions: one of each band whose memory differs; any other can be typed."""

WEIGHTS: Mapping[Engine, tuple[str, ...]] = {
    Engine.VLLM: ("fp8", "bitsandbytes"),  # other formats are those of a checkpoint, not asked for at start
    Engine.LLAMA_CPP: tuple(FILE_TYPE_BITS),
    Engine.OLLAMA: tuple(FILE_TYPE_BITS),
}
CACHES: Mapping[Engine, tuple[str, ...]] = {
    Engine.VLLM: ("fp8", "bfloat16"),
    Engine.LLAMA_CPP: tuple(name for name in BLOCKS if name != "q6_0"),
    Engine.OLLAMA: ("f16", "q8_0", "q4_0"),
}
_UPLOAD = "fit-upload-read"


def edited(question: Question) -> Question:
    """The question as the widgets have it now."""
    base = state.base(question)
    with st.container(border=True, key="fit-question"):
        question = _model(base, question)
        question = _precision(base, question)
        return _devices(base, question)


def _model(base: Question, question: Question) -> Question:
    left, middle, right = st.columns([5, 3, 2], gap="small", vertical_alignment="bottom")
    packed = _uploaded(base.packed)
    names = list(model_names())
    if base.model not in names:
        names.insert(0, base.model)
    with left, st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if packed is None:
            model = st.selectbox(
                "Model",
                names,
                index=names.index(base.model),
                key=state.key("model"),
                accept_new_options=True,
                help="Type to search. A copy that is not listed can be typed too: `Qwen/Qwen3-8B-AWQ`.",
            )
        else:
            model = base.model
            st.text_input("Model", value=unpack_facts(packed).name, disabled=True, key=state.key("uploaded", packed))
        with st.popover("Upload", help="A config.json, an answer of Ollama's /api/show, or a GGUF header"):
            packed = _upload(packed)
    engine = middle.segmented_control(
        "Engine",
        list(ENGINES),
        format_func=ENGINES.__getitem__,
        default=base.engine,
        required=True,
        key=state.key("engine"),
        width="stretch",
    )
    version = _choice(
        right,
        "Version",
        VERSIONS[engine],
        base.engine_version if engine is base.engine else None,
        key=state.key("version", engine),
        nothing="newest known",
    )
    return replace(
        question, model=(model or base.model)[:MODEL_LIMIT], packed=packed, engine=engine, engine_version=version
    )


def _uploaded(packed: str | None) -> str | None:
    """The model that the upload of this question left, else the one of the address."""
    read: tuple[str, str | None, str] | None = st.session_state.get(_UPLOAD)
    if read is not None and read[0] == state.key("file") and read[1] is not None:
        return read[1]
    return packed


def _upload(packed: str | None) -> str | None:
    file = st.file_uploader(
        "config.json or the beginning of a .gguf file",
        type=["json", "gguf"],
        max_upload_size=UPLOAD_LIMIT_MIB,
        key=state.key("file"),
    )
    st.html(
        will_it_fit_part(
            "hint",
            text=f"At most {UPLOAD_LIMIT_MIB} MiB: of a GGUF file only the header is needed, "
            f"`head -c {UPLOAD_LIMIT_MIB}M model.gguf > header.gguf`. It is read here and not stored; its sizes go "
            "into the address of this page.",
        )
    )
    if file is not None and st.session_state.get("fit-upload-file") != (state.generation(), file.file_id):
        st.session_state["fit-upload-file"] = (state.generation(), file.file_id)
        st.session_state[_UPLOAD] = (state.key("file"), *_read(file.name, file.getvalue()))
        st.rerun()
    read: tuple[str, str | None, str] | None = st.session_state.get(_UPLOAD)
    if file is not None and read is not None and read[0] == state.key("file") and read[2]:
        st.html(will_it_fit_part("problem", title="This file cannot be used", text=read[2]))
    if packed is not None and st.button("Back to the catalogue", key=state.key("catalogue")):
        state.adopt(replace(state.current(), packed=None))
        st.rerun()
    return packed


def _read(name: str, content: bytes) -> tuple[str | None, str]:
    try:
        return pack_facts(facts_from_upload(name, content)), ""
    except PlannerError as error:
        return None, str(error)


def _precision(base: Question, question: Question) -> Question:
    same = question.engine is base.engine
    weights, cache, context, concurrency = st.columns(4, gap="small", vertical_alignment="bottom")
    quantization = _choice(
        weights,
        "Weights",
        WEIGHTS[question.engine],
        base.quantization if same else None,
        key=state.key("weights", question.engine),
        nothing="as the checkpoint stores them",
    )
    kv_cache_dtype = _choice(
        cache,
        "KV cache",
        CACHES[question.engine],
        base.kv_cache_dtype if same else None,
        key=state.key("kv", question.engine),
        nothing="auto" if question.engine is Engine.VLLM else "f16",
    )
    tokens = context.number_input(
        "Tokens of a request",
        1,
        MOST_TOKENS,
        base.context,
        1024,
        key=state.key("context"),
        help="Prompt and answer together.",
    )
    requests = concurrency.number_input(
        "Requests at once", 1, MOST_REQUESTS, base.concurrency, 1, key=state.key("concurrency")
    )
    return replace(
        question,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        context=int(tokens),
        concurrency=int(requests),
    )


def _devices(base: Question, question: Question) -> Question:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        boards = st.multiselect(
            "Boards to look at",
            [board.name for board in load_catalog().boards],
            default=list(base.boards),
            max_selections=MOST_BOARDS,
            key=state.key("boards"),
        )
        with st.popover("Prices", disabled=not boards):
            prices = _prices(base, boards)
    left, middle, right = st.columns([5, 3, 2], gap="small", vertical_alignment="bottom")
    gpus = left.pills(
        "GPUs together",
        list(RANKS),
        default=list(base.gpus),
        selection_mode="multi",
        key=state.key("gpus"),
        help="Ranks of tensor parallelism (vLLM), or GPUs that share the layers (llama.cpp).",
    )
    with middle:
        profiles = st.toggle("MIG profiles", value=base.with_profiles, key=state.key("profiles"))
    question = replace(question, boards=tuple(boards), gpus=tuple(sorted(gpus)), with_profiles=profiles, prices=prices)
    if question.engine is not Engine.VLLM:
        return question
    with right, st.popover("More settings", width="stretch"):
        return _more(base, question)


def _prices(base: Question, boards: list[str]) -> tuple[tuple[str, float], ...]:
    """Of a whole GPU; a MIG profile costs its share of the memory slices."""
    st.html(will_it_fit_part("hint", text="USD per hour of one whole GPU. A MIG device costs its share of the memory."))
    known = dict(base.prices)
    found = [
        (
            board,
            st.number_input(
                board,
                0.0,
                MOST_USD_PER_HOUR,
                None,
                0.1,
                format="%.2f",
                key=_begun(state.key("price", board), known.get(board)),
                placeholder="no price",
            ),
        )
        for board in boards
    ]
    return tuple((board, price) for board, price in found if price is not None)


def _more(base: Question, question: Question) -> Question:
    share = st.number_input(
        "--gpu-memory-utilization",
        0.01,
        1.0,
        None,
        0.01,
        key=_begun(state.key("utilization"), base.gpu_memory_utilization),
        placeholder="the version's default",
    )
    batched = st.number_input(
        "--max-num-batched-tokens",
        1,
        MOST_TOKENS,
        None,
        1024,
        key=_begun(state.key("batched"), base.max_num_batched_tokens),
        placeholder="the device's default",
    )
    eager = st.toggle("--enforce-eager", value=base.enforce_eager, key=state.key("eager"))
    return replace(
        question,
        gpu_memory_utilization=share,
        max_num_batched_tokens=None if batched is None else int(batched),
        enforce_eager=eager,
    )


def _begun(key: str, value: float | None) -> str:
    """The key of a number box that begins with that value; one given to the box itself could not be cleared."""
    if value is not None and key not in st.session_state:
        st.session_state[key] = value
    return key


def _choice(
    place: Any, label: str, options: tuple[str, ...], chosen: str | None, *, key: str, nothing: str
) -> str | None:
    """One of the offered or any other that is typed; None where nothing is chosen."""
    listed = list(options) if chosen is None or chosen in options else [chosen, *options]
    found = place.selectbox(
        label,
        listed,
        index=None if chosen is None else listed.index(chosen),
        key=key,
        placeholder=nothing,
        accept_new_options=True,
    )
    text = "" if found is None else str(found).strip()[:60]
    return text or None

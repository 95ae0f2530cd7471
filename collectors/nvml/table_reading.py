"""The tables of `metrics.py`, asked of one GPU: each function once, each field with its own return code."""

from typing import Any

from collectors.nvml.devices import Gpu, Instance
from collectors.nvml.gaps import GapBook
from collectors.nvml.library import Library
from collectors.nvml.metrics import (
    CALLS,
    FIELDS,
    MEMORY,
    MEMORY_V2,
    NOT_UNDER_MIG,
    PCIE_THROUGHPUT,
    REMAP_PENDING_PICK,
    REMAPPED_ROWS,
    CallRow,
    Convert,
    Implausible,
    as_is,
    plausible,
)
from collectors.nvml.refusals import Kind, Refusal
from planner.readings import Subject

Values = dict[tuple[Subject, str], float]

REMAP_PENDING = (
    "memory rows wait to be remapped, and row_remap_failed is only settled by the next reset: drain the GPU and run "
    "`nvidia-smi --gpu-reset`"
)
UNDER_MIG = "not available under MIG"
UNIFIED_MEMORY = "a GPU that shares the memory of its CPU (GB10, Jetson) has no framebuffer of its own"
RESERVED_WITHIN_USED = "this driver does not tell the reserve apart (before R510): memory_used_bytes holds it as well"


def read_tables(library: Library, gpu: Gpu, gaps: GapBook, *, pcie_throughput: bool) -> Values:
    """The values of the whole GPU; raises GpuLost, CollectorError.

    `pcie_throughput` asks for the throughput of PCIe too, which takes 20 ms for each direction.
    """
    rows = [*CALLS, *(PCIE_THROUGHPUT if pcie_throughput else ())]
    values: Values = {}
    answers: dict[tuple[tuple[str, ...], tuple[int, ...]], Any] = {}
    for row in rows:
        if gpu.is_cut and not row.under_mig:
            continue
        question = (row.functions, row.arguments)
        if question not in answers:
            answers[question] = _ask(library, gpu, row)
        answer = answers[question]
        if isinstance(answer, Refusal):
            gaps.note(gpu.whole, row.metric, answer.reason)
        else:
            put(values, gpu.whole, row.metric, _part(answer, row.pick), row.convert, gaps)
    if gpu.is_cut:
        for metric in NOT_UNDER_MIG:
            gaps.note(gpu.whole, metric, UNDER_MIG)
    remapped = answers.get(((REMAPPED_ROWS,), ()))
    if not isinstance(remapped, Refusal) and remapped is not None and remapped[REMAP_PENDING_PICK] == 1:
        gaps.note(gpu.whole, None, REMAP_PENDING)
    _read_fields(library, gpu, values, gaps)
    return values


def read_memory(library: Library, gpu: Gpu, subject: Subject, instance: Instance | None, gaps: GapBook) -> Values:
    """Framebuffer of the GPU or of one GPU instance: once, however many compute instances share it.

    Version 2 of the struct has `used` without the driver's reserve and the reserve apart; version 1 has both in `used`.
    The total is used + free + reserved, as everywhere here; without the reserve it is what the driver says.
    """
    handles = [gpu.handle] if instance is None else [device.handle for device in instance.devices]
    memory: Any = None
    for handle in handles:
        memory = _memory(library, handle, str(subject))
        if not isinstance(memory, Refusal):
            break
    values: Values = {}
    if isinstance(memory, Refusal):
        unified = f" ({UNIFIED_MEMORY})" if memory.kind is Kind.UNSUPPORTED and instance is None else ""
        for metric in MEMORY:
            gaps.note(subject, metric, f"{memory.reason}{unified}")
        return values
    if memory.total == 0:
        for metric in MEMORY:
            gaps.note(subject, metric, "the driver says that this device has 0 bytes of memory")
        return values
    parts = {"memory_used_bytes": memory.used, "memory_free_bytes": memory.free}
    if hasattr(memory, "reserved"):
        parts["memory_reserved_bytes"] = memory.reserved
    else:
        gaps.note(subject, "memory_reserved_bytes", RESERVED_WITHIN_USED)
    for metric, value in parts.items():
        put(values, subject, metric, value, as_is, gaps)
    is_whole = "memory_reserved_bytes" in parts and len(values) == len(parts)
    put(values, subject, "memory_total_bytes", sum(values.values()) if is_whole else memory.total, as_is, gaps)
    return values


def put(values: Values, subject: Subject, metric: str, raw: Any, convert: Convert, gaps: GapBook) -> None:
    """Take the value in, in base units, unless it cannot be one; then a gap says why."""
    try:
        values[subject, metric] = convert(plausible(float(raw)))
    except Implausible as error:
        gaps.note(subject, metric, str(error))
    except (TypeError, ValueError):
        gaps.note(subject, metric, "the answer is not a number")


def _ask(library: Library, gpu: Gpu, row: CallRow) -> Any:
    answer: Any = None
    for function in row.functions:
        answer = library.call(function, gpu.handle, *row.arguments, about=gpu.uuid)
        if not (isinstance(answer, Refusal) and answer.kind is Kind.UNSUPPORTED):
            break
    return answer


def _part(answer: Any, pick: str | int | None) -> Any:
    if pick is None:
        return answer
    return getattr(answer, pick, None) if isinstance(pick, str) else answer[pick]


def _read_fields(library: Library, gpu: Gpu, values: Values, gaps: GapBook) -> None:
    found = library.fields(gpu.handle, [(row.field_id, 0) for row in FIELDS], about=gpu.uuid)
    for row in FIELDS:
        value = found[row.field_id, 0]
        if isinstance(value, Refusal):
            gaps.note(gpu.whole, row.metric, value.reason)
        else:
            put(values, gpu.whole, row.metric, value, row.convert, gaps)


def _memory(library: Library, handle: Any, about: str) -> Any:
    memory = library.call("nvmlDeviceGetMemoryInfo", handle, MEMORY_V2, about=about)
    if isinstance(memory, Refusal) and memory.kind is Kind.UNSUPPORTED:
        return library.call("nvmlDeviceGetMemoryInfo", handle, about=about)
    return memory

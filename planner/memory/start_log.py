"""Reads the start-up log of vLLM, llama.cpp or Ollama into what it measured.

A log may hold several starts (restarts of a pod): the last one counts, wherever it stands. It is foreign text: cut,
binary, hostile or empty input gives a `Measured` with less in it, never an error and never a number that was not
printed.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from planner.memory import llama_log, vllm_log
from planner.memory.estimate import Engine
from planner.memory.log_lines import MAX_CHARS, MAX_LINE, bytes_of, count_of, lines_of, ratio_of
from planner.memory.measured import Measured, StartFailure

_Patterns = Sequence[tuple[re.Pattern[str], tuple[str, ...]]]
_SMALLEST: Final = frozenset(
    {
        "kv_cache_bytes",
        "kv_cache_tokens",
        "gpu_blocks",
        "max_concurrency",
        "estimated_max_model_len",
        "free_at_start_bytes",
    }
)
_LAST: Final = frozenset({"n_ctx", "n_parallel", "n_ubatch", "layers_offloaded", "layers_total"})
_TRUE: Final = frozenset({"True", "true", "enabled", "Enabled", "1"})
_FALSE: Final = frozenset({"False", "false", "disabled", "Disabled", "0"})
_SWITCHES: Final = frozenset({"enforce_eager", "flash_attention", "kv_unified"})
_MAX_FAILURE_TEXT: Final = 400
_HEAD: Final = 4 << 20  # the engine is mostly told by it
_PREAMBLE: Final = 1 << 20  # what may stand before the first banner and belong to it


@dataclass(slots=True)
class _Found:
    """What the lines of one start gave so far."""

    numbers: dict[str, list[float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    buffers: dict[str, dict[str, int]] = field(default_factory=dict)
    failure: StartFailure | None = None
    failure_text: str | None = None
    has_buffers_of_ollama: bool = False
    has_closed_round: bool = False
    has_scheduler_estimate: bool = False

    def has_ended(self) -> bool:
        """Whether a further start banner begins another start."""
        known = ("weights_bytes", "kv_cache_bytes", "kv_cache_tokens", "gpu_blocks", "max_concurrency")
        return self.failure is not None or any(name in self.numbers for name in known) or bool(self.buffers)

    @property
    def is_empty(self) -> bool:
        """Whether no number was found."""
        return not self.numbers and not self.buffers

    def add(self, name: str, value: float | None) -> None:
        if value is not None and name:
            values = self.numbers.setdefault(name, [])
            if len(values) < 4096:
                values.append(value)


def parse_start_log(text: str) -> Measured:
    """What the last start in this log printed about memory."""
    engine = _engine_of(text[:_HEAD]) or (_engine_of(text) if len(text) > _HEAD else None)
    if engine is None:
        return Measured()
    is_vllm = engine is Engine.VLLM
    start = _last_start(text, is_vllm)
    found = _read(text, start, None, is_vllm)
    if start == 0 and len(text) > MAX_CHARS and found.is_empty:
        start = text.rfind("\n", 0, len(text) - MAX_CHARS) + 1  # no start was found: what was printed last may tell
        found = _read(text, start, None, is_vllm)
    if "engine_version" not in found.texts and (version := _version_before(text, start, engine)):
        found.texts["engine_version"] = version
    if is_vllm and found.is_empty and not any(mark in text for mark in vllm_log.SURE_MARKS):
        found.failure = found.failure_text = None  # another program that ran out of memory
    return _measured(found, engine)


def _engine_of(text: str) -> Engine | None:
    if any(mark in text for mark in llama_log.OLLAMA_MARKS):
        return Engine.OLLAMA
    if "load_tensors:" not in text and any(mark in text for mark in vllm_log.MARKS):
        return Engine.VLLM
    return Engine.LLAMA_CPP if any(mark in text for mark in llama_log.MARKS) else None


def _last_start(text: str, is_vllm: bool) -> int:
    """Where the last start begins: at the last banner before which another start had said something; else at 0.

    Every rank and every engine of one start has its banner, so most banners begin none.
    """
    banner = vllm_log.START if is_vllm else llama_log.START
    starts = [0, *(text.rfind("\n", 0, match.start()) + 1 for match in banner.finditer(text))]
    for before, start in zip(starts[-2::-1], starts[:0:-1], strict=True):
        if start > before and _read(text, before, start, is_vllm).has_ended():
            return start
    return starts[1] if len(starts) > 1 and starts[1] > _PREAMBLE else 0


def _version_before(text: str, position: int, engine: Engine) -> str | None:
    """The version, which a server prints once for all the models that it starts."""
    marks = llama_log.VERSION_MARKS.get(engine, ())
    at = max((text.rfind(mark, 0, position) for mark in marks), default=-1)
    if at < 0:
        return None
    found = _Found()
    for line in lines_of(text, text.rfind("\n", 0, at) + 1, at + MAX_LINE):
        _read_texts(found, line, llama_log.TEXTS)
        break
    return found.texts.get("engine_version")


def _read(text: str, start: int, end: int | None, is_vllm: bool) -> _Found:
    """What the lines between two places say."""
    found = _Found()
    words, read = (vllm_log.WORDS, _read_vllm) if is_vllm else (llama_log.WORDS, _read_llama)
    for line in lines_of(text, start, end):
        if any(word in line for word in words):
            read(found, line)
    return found


def _read_vllm(found: _Found, line: str) -> None:
    _read_sizes(found, line, vllm_log.SIZES)
    _read_numbers(found, line, vllm_log.COUNTS, count_of)
    _read_numbers(found, line, vllm_log.RATIOS, ratio_of)
    _read_texts(found, line, vllm_log.TEXTS)
    _read_failure(found, line, vllm_log.FAILURES)


def _read_llama(found: _Found, line: str) -> None:
    for patterns in (llama_log.BUFFERS, llama_log.OLLAMA_BUFFERS):
        for pattern, name in patterns:
            if (match := pattern.search(line)) and (size := bytes_of(match.group(2), match.group(3))) is not None:
                if patterns is llama_log.OLLAMA_BUFFERS:
                    _begin_round(found)
                elif found.has_buffers_of_ollama:
                    continue  # Ollama's engine sums up what its runner printed before
                devices = found.buffers.setdefault(name, {})
                if match.group(1) in devices or len(devices) < 256:
                    adds = name in ("weights_by_device", "kv_cache_by_device", "state_by_device")
                    devices[match.group(1)] = (devices.get(match.group(1), 0) if adds else 0) + size
    found.has_closed_round |= 'msg="total memory"' in line
    found.has_scheduler_estimate |= "memory.required.kv=" in line
    _read_sizes(found, line, llama_log.SIZES)
    _read_numbers(found, line.rstrip(), llama_log.COUNTS, count_of)
    _read_texts(found, line.rstrip(), llama_log.TEXTS)
    _read_failure(found, line, llama_log.FAILURES)


def _begin_round(found: _Found) -> None:
    """Ollama sums up in rounds while it searches a split, each closed by its total: the last round counts."""
    if not found.has_buffers_of_ollama or found.has_closed_round:
        found.buffers.clear()
        found.has_buffers_of_ollama = True
        found.has_closed_round = False


def _read_sizes(found: _Found, line: str, patterns: _Patterns) -> None:
    """Sizes take two groups, number and unit; a field with ":GiB" takes the number alone, and so do plain ratios."""
    for pattern, fields in patterns:
        match = pattern.search(line)
        if match is None:
            continue
        groups = list(match.groups())
        for name in fields:
            bare, _, unit = name.partition(":")
            number = groups.pop(0)
            if name.endswith("_bytes"):
                found.add(bare, bytes_of(number, groups.pop(0)))
            elif unit:
                found.add(bare, bytes_of(number, unit))
            elif bare:
                found.add(bare, ratio_of(number))


def _read_numbers(found: _Found, line: str, patterns: _Patterns, read: Callable[[str], float | None]) -> None:
    for pattern, fields in patterns:
        if match := pattern.search(line):
            for name, group in zip(fields, match.groups(), strict=True):
                found.add(name, read(group))


def _read_texts(found: _Found, line: str, patterns: _Patterns) -> None:
    for pattern, (name,) in patterns:
        if match := pattern.search(line):
            value = match.group(1).strip()
            if value and value not in ("None", "auto", "n/a"):
                found.texts.setdefault(name, value)


def _read_failure(found: _Found, line: str, patterns: Iterable[tuple[re.Pattern[str], StartFailure]]) -> None:
    """The first failure is the cause; what follows it are its consequences."""
    if found.failure is not None:
        return
    for pattern, failure in patterns:
        if pattern.search(line):
            found.failure = failure
            found.failure_text = line.strip()[:_MAX_FAILURE_TEXT]
            return


def _measured(found: _Found, engine: Engine | None) -> Measured:
    values: dict[str, Any] = {}
    for name, numbers in found.numbers.items():
        chosen = min(numbers) if name in _SMALLEST else numbers[-1] if name in _LAST else max(numbers)
        values[name] = chosen if name in ("max_concurrency", "gpu_memory_utilization") else int(chosen)
    for name, text in found.texts.items():
        if name not in _SWITCHES:
            values[name] = text
        elif text in _TRUE or text in _FALSE:
            values[name] = text in _TRUE
    for name, devices in found.buffers.items():
        values[name] = MappingProxyType(dict(devices))
    if engine in (Engine.LLAMA_CPP, Engine.OLLAMA):
        _sum_devices(found, values)
    return Measured(engine=engine, failure=found.failure, failure_text=found.failure_text, **values)


def _sum_devices(found: _Found, values: dict[str, Any]) -> None:
    """Totals over devices where buffers were printed; the scheduler's estimates stay only where none was."""
    kv_cache = found.buffers.get("kv_cache_by_device", {})
    states = found.buffers.get("state_by_device", {})
    if kv_cache or states:
        values["kv_cache_bytes"] = sum(kv_cache.values()) + sum(states.values())
    if weights := found.buffers.get("weights_by_device"):
        values["weights_bytes"] = sum(weights.values())
    if compute := found.buffers.get("compute_by_device"):
        values["activation_bytes"] = max(compute.values())
    elif found.has_scheduler_estimate and not kv_cache:
        values["is_scheduler_estimate"] = True
    if "n_ctx" in values:
        values["kv_cache_tokens"] = values["n_ctx"]

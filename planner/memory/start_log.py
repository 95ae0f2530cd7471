"""Reads the start-up log of vLLM, llama.cpp or Ollama into what it measured.

A log may hold several starts (restarts of a pod): the last one counts. It is foreign text: cut, binary, hostile or
empty input gives a `Measured` with less in it, never an error and never a number that was not printed.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from planner.memory import llama_log, vllm_log
from planner.memory.estimate import Engine
from planner.memory.log_lines import bytes_of, count_of, lines_of, ratio_of
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

    def add(self, name: str, value: float | None) -> None:
        if value is not None and name:
            values = self.numbers.setdefault(name, [])
            if len(values) < 4096:
                values.append(value)


def parse_start_log(text: str) -> Measured:
    """What the last start in this log printed about memory."""
    head = text[: 4 << 20]
    is_ollama = any(mark in head for mark in llama_log.OLLAMA_MARKS)
    is_llama = is_ollama or any(mark in head for mark in llama_log.MARKS)
    is_vllm = any(mark in head for mark in vllm_log.MARKS) and not ("load_tensors:" in head or is_ollama)
    found = _Found()
    identity: dict[str, str] = {}
    words = vllm_log.WORDS if is_vllm else llama_log.WORDS
    for line in lines_of(text) if is_vllm or is_llama else ():
        if not any(word in line for word in words):
            continue
        if is_vllm:
            found = _restarted(found, line, vllm_log.START, identity)
            _read_vllm(found, line)
        else:
            found = _restarted(found, line, llama_log.START, identity)
            _read_llama(found, line)
    engine = Engine.VLLM if is_vllm else Engine.OLLAMA if is_ollama else Engine.LLAMA_CPP if is_llama else None
    found.texts = {**identity, **found.texts}
    return _measured(found, engine)


def _restarted(found: _Found, line: str, banner: re.Pattern[str], identity: dict[str, str]) -> _Found:
    """A new collection where another start begins; the version is printed once for all of them."""
    if banner.search(line) is None or not found.has_ended():
        return found
    if version := found.texts.get("engine_version"):
        identity["engine_version"] = version
    return _Found()


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

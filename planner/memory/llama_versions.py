"""What llama.cpp, ik_llama.cpp and Ollama do with memory, by version, and which defaults they fill in.

The bands of llama.cpp were found by starting releases b3889, b4753, b5590, b5640, b6133, b6431, b6845, b7347, b7698,
b7836, b8095, b8179, b10361 and v0.5.0 on header-only models and reading what each printed: a rule changes somewhere
between two neighbours of that list, and the pull request that made it is named where it is known.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from planner.memory.estimate import Engine
from planner.units import GIB

_SLIDING_CACHE: Final = 5427  # PR 13194 (May 2025)
_LATENT_CACHE: Final = 5139  # PR 12801 (April 2025): one latent per token instead of keys and values of every head
_STREAMS: Final = 5913  # PR 14363; measured between b5640 and b6133
_AUTO_FLASH: Final = 6325  # PR 15434: "-fa auto"
_FOUR_SLOTS: Final = 6924  # PR 16736 (November 2025): 4 slots and one shared cache unless told otherwise
_PADDED_SEQUENCES: Final = 7347  # measured: not in b6845, in b7347
_FITTED_CONTEXT: Final = 7407  # PR 16653: "--fit on", context of the model unless it does not fit
_NO_VALUES: Final = 7836  # PR 19067 (January 2026): with MLA no values are stored; measured: not in b7698
_WIDE_FEED_FORWARD: Final = 7347  # measured: two in b6845, three in b7347
_SHORT_MASK: Final = 10361  # measured: not in b8179, in b10361
_LATEST: Final = 1_000_000
NEWEST_RELEASE: Final = "v0.5.0"
"""Of llama.cpp: the last that was measured, and the one that a run without a version is taken for."""
NEWEST_OLLAMA: Final = "0.30.0"
"""The first of the newest band, which a run of Ollama without a version is taken for."""

_BUILD: Final = re.compile(r"^b?(\d{3,6})(?:[-+].*)?$")
_RELEASE: Final = re.compile(r"^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")
_IK: Final = re.compile(r"^ik(?:_llama(?:\.cpp)?)?(?:[ /,;_-]+mla ?=? ?(\d))?(?![a-z])", re.IGNORECASE)


class LatentCache(StrEnum):
    """What a layer with multi-head latent attention keeps per token."""

    EXPANDED = "keys and values of every head"
    KEYS_AND_VALUES = "the latent twice, once as keys with the rotary part, once as values"
    TWICE = "the latent with the rotary part, and the latent transposed"  # ik_llama.cpp -mla 1
    ONCE = "the latent with the rotary part"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRules:
    """How one version lays out its cache, and the defaults of its server.

    `shares_cache` is the default of kv_unified: one cache for all sequences, or a part for each.
    `default_context` 0 is the model's own context; `fits_context` says that it is lowered to what the device holds.
    """

    label: str
    knows_windows: bool
    has_streams: bool
    pads_sequences: bool
    latent: LatentCache
    shares_cache: bool
    default_slots: int
    default_context: int
    fits_context: bool
    flash_by_default: bool | None  # None: depends on the model
    mask_bytes: int  # of one token and cell under flash attention: a 32-bit mask with its 16-bit copy, or the latter
    feed_forward_copies: int  # of the widest activation that are alive at once
    micro_batch: int = 512


def rules_for(engine: Engine, version: str | None, device_bytes: int) -> CacheRules:
    """The rules of that engine version; without a version those of the latest release that was measured."""
    if engine is Engine.OLLAMA:
        return _ollama_rules(version, device_bytes)
    text = (version or "").strip()
    if fork := _IK.match(text):
        return _ik_rules(fork.group(1))
    build = _build_number(text)
    label = f"llama.cpp {text}" if build is not None else f"llama.cpp {NEWEST_RELEASE}"
    return _llama_cpp_rules(build or _LATEST, label)


def is_version(engine: Engine, text: str) -> bool:
    """Whether this names a version of the engine: a release, of llama.cpp also a build or the fork ("ik -mla 3")."""
    text = text.strip()
    if engine is Engine.OLLAMA:
        return _RELEASE.match(text) is not None
    return _build_number(text) is not None or _IK.match(text) is not None


def version_of(engine: Engine, text: str | None) -> str:
    """The version as given, else the one that is assumed."""
    return (text or "").strip() or (NEWEST_OLLAMA if engine is Engine.OLLAMA else NEWEST_RELEASE)


def _build_number(text: str) -> int | None:
    if found := _BUILD.match(text):
        return int(found.group(1))
    return _LATEST if _RELEASE.match(text) else None  # releases got version numbers after build 10361


def _llama_cpp_rules(build: int, label: str) -> CacheRules:
    if build >= _NO_VALUES:
        latent = LatentCache.ONCE
    else:
        latent = LatentCache.KEYS_AND_VALUES if build >= _LATENT_CACHE else LatentCache.EXPANDED
    return CacheRules(
        label=label,
        knows_windows=build >= _SLIDING_CACHE,
        has_streams=build >= _STREAMS,
        pads_sequences=build >= _PADDED_SEQUENCES,
        latent=latent,
        shares_cache=build < _STREAMS,
        default_slots=4 if build >= _FOUR_SLOTS else 1,
        default_context=0 if build >= _FITTED_CONTEXT else 4096,
        fits_context=build >= _FITTED_CONTEXT,
        flash_by_default=build >= _AUTO_FLASH,
        mask_bytes=2 if build >= _SHORT_MASK else 6,
        feed_forward_copies=3 if build >= _WIDE_FEED_FORWARD else 2,
    )


def _ik_rules(mode: str | None) -> CacheRules:
    """ik_llama.cpp: every layer at full length; -mla 3 is its default since 2025."""
    latent = {"0": LatentCache.EXPANDED, "1": LatentCache.TWICE}.get(mode or "3", LatentCache.ONCE)
    return CacheRules(
        label=f"ik_llama.cpp -mla {mode or 3}",
        knows_windows=False,
        has_streams=False,
        pads_sequences=False,
        latent=latent,
        shares_cache=True,
        default_slots=1,
        default_context=4096,
        fits_context=False,
        flash_by_default=True,
        mask_bytes=6,
        feed_forward_copies=2,
    )


def _ollama_rules(version: str | None, device_bytes: int) -> CacheRules:
    """Ollama: context 2048; 4096 from 0.6.7; by device memory from 0.15.5. Slots 4 until 0.9.6 (PR 11330), then 1.

    Its runner is built on llama.cpp; from 0.30 its log shows a cache with a part for each sequence.
    """
    found = _RELEASE.match((version or "").strip())
    number = tuple(int(part or 0) for part in found.groups()) if found else (_LATEST, 0, 0)
    if number >= (0, 15, 5):
        context = 4096 if device_bytes < 24 * GIB else 32768 if device_bytes < 48 * GIB else 262144
    else:
        context = 4096 if number >= (0, 6, 7) else 2048
    flash: bool | None = True if number >= (0, 13, 0) else (None if number >= (0, 11, 8) else False)
    return CacheRules(
        label=f"Ollama {version}" if found else "Ollama (latest)",
        knows_windows=number >= (0, 6, 0),
        has_streams=number >= (0, 30, 0),
        pads_sequences=number >= (0, 30, 0),
        latent=LatentCache.ONCE if number >= (0, 20, 0) else LatentCache.KEYS_AND_VALUES,
        shares_cache=number < (0, 30, 0),
        default_slots=1 if number >= (0, 9, 7) else 4,
        default_context=context,
        fits_context=False,
        flash_by_default=flash,
        mask_bytes=6,
        feed_forward_copies=3,
    )

"""What the labels of `cache_config_info` say beyond themselves."""

from collections.abc import Mapping


def cache_tokens(settings: Mapping[str, str]) -> float | None:
    """How many tokens the KV cache holds: told as such (vLLM 0.33), or as blocks of so many tokens; None if neither."""
    told = _count(settings.get("kv_cache_size_tokens"))
    if told is not None:
        return told
    blocks, tokens_per_block = _count(settings.get("num_gpu_blocks")), _count(settings.get("block_size"))
    return None if blocks is None or tokens_per_block is None else blocks * tokens_per_block


def _count(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 15 else None

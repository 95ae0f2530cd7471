"""How vLLM lays out its key-value cache: pages, groups of layers, blocks per request.

The rules are those of vllm/v1/core/kv_cache_utils.py and vllm/v1/kv_cache_interface.py (0.10 to 0.31), the pages of
state-space layers those of vllm/platforms/interface.py (`_align_hybrid_block_size`, 0.28). One block covers
`block_size` tokens of one layer of every group member; all groups draw on one pool of blocks.
"""

from dataclasses import dataclass, replace
from math import ceil

from planner.memory.estimate import Run
from planner.memory.facts import LayerKind, Layers
from planner.memory.vllm_dtypes import cache_element_bytes
from planner.memory.vllm_settings import Settings

# MLA entry of the sparse-attention kernels under fp8: 512 latent + 16 scale + 128 rope bytes
# (vllm/v1/attention/backends/mla/flashmla_sparse.py); its indexer keeps one FP8 key and a float32 scale.
_SPARSE_LATENT_BYTES = 656


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that share one table of blocks."""

    kind: LayerKind
    layers: int
    block_size: int  # tokens; of a state group without meaning
    page_bytes: int  # of one layer
    window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KvPlan:
    """The layout of one rank's cache and what one request takes of it."""

    groups: tuple[Group, ...]
    block_bytes: int  # one block of the pool, all layers of a group
    bytes_per_token: float  # that a long request adds for each token
    state_bytes: int  # per sequence, outside of the pool (V0 only)
    max_num_batched_tokens: int
    state_blocks: int
    whole_blocks: bool
    concurrency_printed: bool
    known: bool = True  # False where no published rule covers the layout

    def blocks_per_request(self, length: int) -> int:
        """Blocks that a request of this length holds at its longest."""
        total = 0
        for group in self.groups:
            if group.kind is LayerKind.STATE:
                total += self.state_blocks
            elif group.kind is LayerKind.SLIDING and group.window is not None:
                seen = min(group.window - 1 + self.max_num_batched_tokens, length)
                total += ceil(seen / group.block_size) + 1
            else:
                total += ceil(length / group.block_size)
        return total

    def bytes_per_request(self, length: int) -> int:
        """What admission asks of the pool for one request."""
        return self.blocks_per_request(length) * self.block_bytes

    def blocks(self, pool_bytes: int) -> int:
        """Blocks in a pool."""
        return max(0, pool_bytes) // self.block_bytes if self.block_bytes else 0

    def concurrency(self, pool_bytes: int, length: int) -> float | None:
        """Requests of this length that the pool holds at once; None where the model keeps no cache."""
        if not self.groups:
            return None
        blocks = self.blocks(pool_bytes)
        if self.whole_blocks:
            return blocks / self.blocks_per_request(length)
        return blocks * self.groups[0].block_size / length

    def tokens(self, pool_bytes: int, length: int) -> int | None:
        """Tokens as vLLM prints them."""
        concurrency = self.concurrency(pool_bytes, length)
        if concurrency is None:
            return None
        if self.concurrency_printed:
            return int(concurrency * length)
        return self.blocks(pool_bytes) // len(self.groups) * min(group.block_size for group in self.groups)

    def longest(self, pool_bytes: int, limit: int, requests: int = 1) -> int:
        """Longest context of which `requests` fit at once; 0 where not one token does."""
        if not self.groups:
            return limit

        def fits(length: int) -> bool:
            return requests * self.blocks_per_request(length) <= self.blocks(pool_bytes)

        if not fits(1):
            return 0
        low, high = 1, limit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low


def kv_plan(run: Run, settings: Settings) -> KvPlan:
    """Lay out the cache of one rank (the fullest stage under pipeline parallelism)."""
    element = cache_element_bytes(run, settings.version)
    specs = _attention_groups(run, settings, element)
    states = _state_groups(run, settings)
    known = all(layers.tokens_per_entry == 1 for layers in run.model.layers)
    state_bytes = 0
    if settings.version.is_v0 and states:
        state_bytes = sum(group.layers * group.page_bytes for group in states)
        states = []
    if states and specs:
        specs, states = _align_states(specs, states)
    groups = specs + states
    # Chunked attention (Llama 4) runs without groups unless VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE is set.
    if not settings.version.groups_layers or "llama4" in run.model.model_type:
        groups = [
            replace(group, kind=LayerKind.FULL, window=None) if group.kind is LayerKind.SLIDING else group
            for group in groups
        ]
    merged = _merge(groups)
    uniform = {(group.kind, group.window) for group in merged}
    if len(uniform) <= 1:
        block_bytes = sum(group.layers * group.page_bytes for group in merged)
        final = [replace(merged[0], layers=sum(group.layers for group in merged))] if merged else []
    else:
        merged = _merge(_unify_pages(merged))
        size = _group_size(merged)
        final = [replace(group, layers=size) for group in merged for _ in range(ceil(group.layers / size))]
        block_bytes = size * max(group.page_bytes for group in merged)
    growing = [group for group in final if group.kind in (LayerKind.FULL, LayerKind.MLA)] or [
        group for group in final if group.kind is LayerKind.SLIDING
    ]
    return KvPlan(
        groups=tuple(final),
        block_bytes=block_bytes,
        bytes_per_token=sum(block_bytes / group.block_size for group in growing),
        state_bytes=state_bytes,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        state_blocks=settings.version.state_blocks + run.speculative_tokens,
        whole_blocks=settings.version.rounds_requests_to_blocks,
        concurrency_printed=settings.version.prints_concurrency_times_length,
        known=known,
    )


def _attention_groups(run: Run, settings: Settings, element: float) -> list[Group]:
    per_head_scales = "per_token_head" in (run.kv_cache_dtype or "")
    groups: list[Group] = []
    for layers in run.model.layers:
        count = ceil(layers.count / run.pipeline_parallel)
        if layers.kind in (LayerKind.FULL, LayerKind.SLIDING):
            heads = kv_heads_per_rank(layers, run.tensor_parallel)
            width = (layers.key_size or 0) + (layers.value_size or layers.key_size or 0)
            row = heads * width * element + (heads * 8 if per_head_scales else 0)
        elif layers.kind is LayerKind.MLA:
            row = _latent_row(run, settings, layers, element)
        else:
            continue
        if layers.kind is LayerKind.FULL or (layers.kind is LayerKind.MLA and layers.window is None):
            count += run.speculative_layers
        groups.append(
            Group(
                kind=layers.kind,
                layers=count,
                block_size=settings.block_size,
                page_bytes=round(row * settings.block_size),
                window=layers.window if layers.kind is LayerKind.SLIDING else None,
            )
        )
    return groups


def kv_heads_per_rank(layers: Layers, tp: int) -> int:
    """Key-value heads of one rank: never less than one, so that more ranks than heads hold copies."""
    return max(1, ceil((layers.kv_heads or layers.heads or 1) / tp))


def _latent_row(run: Run, settings: Settings, layers: Layers, element: float) -> float:
    """Bytes per token of one latent layer: the same on every rank, the heads share it."""
    if not settings.version.has_latent_cache:
        # Expanded heads, key and value padded to 256 elements (vLLM 0.5 to 0.7.0, deepseek_v2.py).
        return ceil((layers.heads or 1) / run.tensor_parallel) * 2 * 256 * element
    width = (layers.latent_size or 0) + (layers.rope_size or 0)
    row = float(_SPARSE_LATENT_BYTES) if layers.index_size and element == 1 else width * element
    if layers.index_size:
        row += layers.index_size + 4
    return row / layers.tokens_per_entry


def _state_groups(run: Run, settings: Settings) -> list[Group]:
    groups: list[Group] = []
    for layers in run.model.layers:
        if layers.kind is not LayerKind.STATE:
            continue
        # Drafted tokens need their own columns of the convolution: one per token beside kernel - 1 = 3.
        columns = (layers.conv_elements or 0) * (1 + run.speculative_tokens / 3)
        page = columns / run.tensor_parallel * settings.element_bytes
        page += (layers.state_elements or 0) / run.tensor_parallel * layers.state_bits / 8
        count = ceil(layers.count / run.pipeline_parallel)
        groups.append(Group(kind=LayerKind.STATE, layers=count, block_size=settings.block_size, page_bytes=ceil(page)))
    return groups


def _align_states(attention: list[Group], states: list[Group]) -> tuple[list[Group], list[Group]]:
    """Enlarge the attention block, by 16 tokens, until its page holds a state; pad the states to that page."""
    state_page = max(group.page_bytes for group in states)
    per_token = max(group.page_bytes / group.block_size for group in attention)
    block = max(attention[0].block_size, 16 * ceil(state_page / (16 * per_token)))
    enlarged = [
        replace(group, block_size=block, page_bytes=round(group.page_bytes / group.block_size * block))
        for group in attention
    ]
    page = max(group.page_bytes for group in enlarged)
    return enlarged, [replace(group, page_bytes=page, block_size=block) for group in states]


def _merge(groups: list[Group]) -> list[Group]:
    """One entry for each kind of page."""
    merged: dict[tuple[object, ...], Group] = {}
    for group in groups:
        key = (group.kind, group.window, group.page_bytes, group.block_size)
        known = merged.get(key)
        merged[key] = replace(group, layers=group.layers + (known.layers if known else 0))
    return [group for group in merged.values() if group.layers]


def _unify_pages(groups: list[Group]) -> list[Group]:
    """Give all layers the largest page: blocks as many times longer as go into it, and padding for the rest."""
    page = max(group.page_bytes for group in groups)
    unified = []
    for group in groups:
        ratio = max(1, page // max(1, group.page_bytes))
        unified.append(replace(group, page_bytes=page, block_size=group.block_size * ratio))
    return unified


def _group_size(groups: list[Group]) -> int:
    """Layers per group: the rarest kind's count, or the commonest's where they are near (less than 1.5 times)."""
    least, most = min(group.layers for group in groups), max(group.layers for group in groups)
    return most if most < 1.5 * least else least

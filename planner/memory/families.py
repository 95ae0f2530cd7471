"""What each architecture family leaves unsaid in its configuration, as read from `planner/data/model_families.toml`."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from planner.catalog_rows import Row, read_toml, refused
from planner.errors import CatalogError
from planner.memory.config_fields import ConfigFields

DATA = Path(__file__).parent.parent / "data"
Decision = bool | str  # yes, no, or the configuration field that says


class Family(Row):
    """One architecture family; the defaults are those of a Llama decoder without any bias."""

    tied: bool = False
    kv_heads: Literal["stated", "heads", "one", "falcon"] = "stated"
    qkv_bias: Decision = False
    out_bias: Decision = False
    mlp_bias: Decision = False
    head_bias: Decision = False
    gated: bool = True  # gate, up and down matrices, rather than two
    layer_norms: int = 2
    final_norms: int = 1
    norm_size: int = 1
    embedding_norm: bool = False
    inner_norms: bool = False  # a norm inside attention and one inside the feed-forward part (BitNet)
    qk_norm: Literal["none", "head", "projection", "heads"] = "none"
    qk_norm_flag: str | None = None
    query_gate: bool = False  # the query projection also makes an output gate of its own size
    head_gate: bool = False  # one output gate for each head
    ffn_ratio: int | None = None  # inner size in hidden sizes, where the file states none
    activation_scalars: int = 0  # learned numbers of each layer's activation function
    pooler: bool = False
    first_norm: bool = True
    sinks: Literal["none", "all", "sliding"] = "none"
    positions: int = -1  # rows of learned positions beyond max_position_embeddings; -1: none are learned
    windows: str = "none"
    linear: Literal["none", "gated_delta", "kimi_delta", "mamba1", "mamba2", "short_conv"] = "none"
    linear_norms: bool = False
    shared_gate: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    encoder: bool = False
    defaults: dict[str, Any] = Field(default_factory=dict)
    source: str = "transformers 5.23.0"

    def decides(self, decision: Decision, fields: ConfigFields) -> bool:
        """What a decision comes to for one configuration."""
        return fields.flag(decision) if isinstance(decision, str) else decision


@cache
def families() -> Mapping[str, Family]:
    """All families by `model_type`; raises CatalogError."""
    tables = read_toml(DATA / "model_families.toml")
    return {name: _family(name, tables) for name in tables}


def _family(name: str, tables: Mapping[str, dict[str, Any]]) -> Family:
    table = dict(tables[name])
    seen = {name}
    while like := table.pop("like", None):
        if like in seen or like not in tables:
            raise CatalogError(f"model_families.toml, [{name}]: like = {like!r} names no other table.")
        seen.add(like)
        table = tables[like] | table
    try:
        return Family.model_validate(table)
    except ValidationError as error:
        raise refused(f"model_families.toml, [{name}]", error) from error

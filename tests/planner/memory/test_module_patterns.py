"""Foreign patterns: the same answer as Python's own engine where both read them, and none that takes for ever."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.module_patterns import NotUnderstood, read_pattern

NAMES = (
    "lm_head",
    "model.layers.0.self_attn.q_proj",
    "model.layers.17.mlp.gate",
    "model.layers.3.mlp.experts.12.down_proj",
    "model.layers.41.mlp.shared_experts.up_proj",
    "model.visual.blocks.3.attn.proj",
    "mtp.layers.0.mlp.gate",
)
WRITTEN = (  # as published checkpoints write them
    ".*lm_head",
    ".*mlp.gate$",
    r".*mlp\.gate\.",
    ".*self_attn.*",
    "visual.*",
    r"model\.layers\.(0|1|2|17)\..*",
    r".*\.mlp\.experts\..*\.(gate|down)_proj$",
    r".*layers\.[0-9]+\.mlp\.shared_experts.*",
    r"^model\.layers\.\d+\.self_attn",
    ".*shared_expert_gate$|.*lm_head",
    r"model.layers.\d\d.mlp",
)


@pytest.mark.parametrize("pattern", WRITTEN)
def test_what_quantisers_write_means_what_it_means_to_python(pattern: str) -> None:
    read = read_pattern(pattern)
    assert [read.matches(name) for name in NAMES] == [re.match(pattern, name) is not None for name in NAMES]


PIECES = st.sampled_from([".*", "a", "b", r"\.", "[ab]", "(a|b.)", "a*", "[a-c]+", "b?", "x", "."])


@given(st.lists(PIECES, max_size=7), st.booleans(), st.text(alphabet="ab.x", max_size=12))
def test_every_pattern_that_is_read_agrees_with_python(pieces: list[str], end: bool, name: str) -> None:
    pattern = "".join(pieces) + ("$" if end else "")
    try:
        read = read_pattern(pattern)
    except NotUnderstood:
        return
    assert read.matches(name) == (re.match(pattern, name) is not None)


@pytest.mark.parametrize(
    "pattern",
    [r"(\w+\.?)+X", "(.*)*X", "(a|aa)+$", "a{2,300}", r"(?=x)", r"(a)\1", "[a-z]*[a-z]*[a-z]*X", "(((a", "x" * 301],
)
def test_what_could_take_for_ever_is_not_read(pattern: str) -> None:
    with pytest.raises(NotUnderstood):
        read_pattern(pattern)


def test_many_gaps_cost_no_more_than_a_few() -> None:
    """A pattern for which Python's own engine would need years ends at once, since every piece is looked for once."""
    name = "a" * 200
    read = read_pattern(".*a" * 90 + "X")
    assert not read.matches(name)
    assert read_pattern(".*a" * 90).matches(name)

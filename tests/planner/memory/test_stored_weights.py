"""Weight files beside the configuration: what is in the files counts, and what should be and is not, is told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.errors import UnreadableModel
from planner.memory.facts import Parameters, Quantisation, WeightFormat
from planner.memory.safetensors_header import StoredTensors
from planner.memory.stored_weights import Reconciled, reconcile

PARAMETERS = Parameters(
    embedding=1000, head=1000, attention=4000, mlp=8000, experts=0, shared_experts=0, router=0, norms=100
)
WHOLE = {"embedding": 2000, "head": 2000, "attention": 8000, "mlp": 16000, "norms": 200}


def both(held: dict[str, int], *, layers: int | None = 4, quantisation: Quantisation | None = None) -> Reconciled:
    stored = StoredTensors(bytes_by_part=held, layers=layers)
    return reconcile(
        stored, PARAMETERS, layers=4, dtype=WeightFormat.BF16, quantisation=quantisation, tied=False, name="model"
    )


def test_whole_files_change_nothing() -> None:
    assert both(WHOLE) == Reconciled(parameters=PARAMETERS, held=WHOLE, prediction_bytes=0)


def test_what_the_configuration_does_not_count_is_loaded_all_the_same() -> None:
    """6,000 bytes of a tower, and 500 of something that no name tells."""
    found = both({**WHOLE, "tower": 6000, "other": 500})
    assert found.held["tower"] == 6500
    assert found.parameters == replace(PARAMETERS, tower=3250)


def test_tensors_of_unknown_names_are_not_counted_beside_what_they_are() -> None:
    """Everything lies in tensors whose names say nothing: the counted parts and the rest make the whole."""
    found = both({"other": 30_000})
    assert sum(found.held.values()) + 2 * PARAMETERS.total == 30_000


@pytest.mark.parametrize("share", [0.1, 0.5, 0.89])
def test_files_that_hold_too_little_are_refused(share: float) -> None:
    with pytest.raises(UnreadableModel, match="missing"):
        both({part: int(size * share) for part, size in WHOLE.items()})


def test_a_quantised_checkpoint_may_be_that_much_smaller_and_no_more() -> None:
    four = Quantisation(format=WeightFormat.GPTQ, bits=4, group_size=128)
    small = {**WHOLE, "attention": 2100, "mlp": 4200}
    assert both(small, quantisation=four).held == small
    with pytest.raises(UnreadableModel, match="missing"):
        both({part: size // 5 for part, size in small.items()}, quantisation=four)


def test_files_of_more_layers_are_of_another_model() -> None:
    assert both(WHOLE, layers=5).held == WHOLE  # one layer for speculative decoding
    with pytest.raises(UnreadableModel, match="not of one checkpoint"):
        both(WHOLE, layers=32)


@given(
    st.dictionaries(
        st.sampled_from([*WHOLE, "tower", "other", "experts"]), st.integers(min_value=0, max_value=10**9), min_size=1
    )
)
def test_nothing_that_is_stored_gets_lost(beside: dict[str, int]) -> None:
    held = {part: max(beside.get(part, 0), WHOLE.get(part, 0)) for part in {*WHOLE, *beside}}
    found = both(held)
    assert sum(found.held.values()) == sum(held.values())

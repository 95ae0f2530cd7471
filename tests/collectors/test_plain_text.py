from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.plain_text import plain_text


@settings(deadline=None)
@given(st.text(), st.integers(1, 50))
def test_plain_text_is_printable_and_never_longer_than_the_limit(text: str, limit: int) -> None:
    kept = plain_text(text, limit)
    assert len(kept) <= limit
    assert kept.isprintable()


def test_control_characters_and_direction_overrides_are_taken_out() -> None:
    assert plain_text("a\x00b\n\x1b[31mc\u202ed", 50) == "a b [31mc d"


def test_ordinary_names_stay_as_they_are() -> None:
    assert plain_text("vllm-llama-70b-7d9c5", 50) == "vllm-llama-70b-7d9c5"

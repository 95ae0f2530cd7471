"""Ollama's words: sizes, names, and times with Go's habits."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.ollama.wire import ListedModel, Malformed, RunningModel, expiry, read_entry, trained_context_tokens

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("told", "at", "for_ever"),
    [
        ("2025-10-17T16:47:07.93355-07:00", datetime(2025, 10, 17, 23, 47, 7, 933550, tzinfo=UTC), False),
        ("2025-10-17T16:47:07.933550123+02:00", datetime(2025, 10, 17, 14, 47, 7, 933550, tzinfo=UTC), False),
        ("2025-10-17T16:47:07Z", datetime(2025, 10, 17, 16, 47, 7, tzinfo=UTC), False),
        ("2318-03-01T12:00:00.123456789+01:00", None, True),  # keep_alive -1: 292 years
        ("9999-12-31T23:59:59-07:00", None, True),
        ("0001-01-01T00:00:00Z", None, False),  # Go's zero time: not decided yet
        ("0001-01-01T00:00:00+07:00", None, False),
        ("2025-10-17T16:47:07", None, False),  # no zone: not Ollama's
        ("soon", None, False),
        ("", None, False),
        (None, None, False),
    ],
)
def test_when_a_model_is_let_go(told: str | None, at: datetime | None, for_ever: bool) -> None:
    assert expiry(told) == (at, for_ever)


def test_a_loaded_model_as_the_server_writes_it() -> None:
    model = read_entry(
        RunningModel,
        {
            "name": "llama3.1:8b",
            "model": "llama3.1:8b",
            "size": 6_654_289_920,
            "digest": "46e0c10c039e019119339687c3c1757cc81b9da49709a3b3924863ba87ca666e",
            "details": {"family": "llama", "families": None, "quantization_level": "Q4_K_M"},
            "expires_at": "2026-11-16T12:30:00+01:00",
            "size_vram": 5_333_539_264,
            "context_length": 4096,
        },
    )
    assert (model.name, model.size, model.size_vram, model.context_length) == (
        "llama3.1:8b",
        6654289920,
        5333539264,
        4096,
    )
    assert model.details.quantization_level == "Q4_K_M"


@pytest.mark.parametrize("size", [None, "6 GB", -1, 1.5, True, 2**64, [6]])
def test_a_size_that_is_none_is_unknown_and_not_zero(size: object) -> None:
    model = read_entry(RunningModel, {"name": "m", "size": size, "size_vram": size})
    assert (model.size, model.size_vram) == (None, None)


def test_nothing_on_the_device_is_zero_and_not_unknown() -> None:
    assert read_entry(RunningModel, {"name": "m", "size": 5, "size_vram": 0}).size_vram == 0


@pytest.mark.parametrize("entry", [None, 7, "m", [], {}, {"name": ""}, {"name": 7}, {"name": "\u202e"}])
def test_an_entry_without_a_name_is_none(entry: object) -> None:
    with pytest.raises(Malformed):
        read_entry(RunningModel, entry)


def test_either_of_the_two_names_will_do() -> None:
    assert read_entry(ListedModel, {"model": "m:1b"}).name == "m:1b"


def test_hostile_names_are_kept_on_one_line() -> None:
    assert read_entry(ListedModel, {"name": "a\n\u202eb" + "x" * 999}).name.startswith("a b")
    assert len(read_entry(ListedModel, {"name": "x" * 999}).name) <= 253


@pytest.mark.parametrize(
    ("entry", "elsewhere"),
    [
        ({"name": "m"}, False),
        ({"name": "m", "remote_host": "https://ollama.com:443", "remote_model": "m"}, True),
        ({"name": "m", "remote_host": ""}, False),
        ({"name": "m", "remote_model": "other"}, True),
    ],
)
def test_models_of_the_cloud_run_elsewhere(entry: dict[str, str], elsewhere: bool) -> None:
    assert read_entry(ListedModel, entry).runs_elsewhere is elsewhere


@pytest.mark.parametrize(
    ("shown", "tokens"),
    [
        ({"model_info": {"general.architecture": "llama", "llama.context_length": 131_072}}, 131_072),
        ({"model_info": {"general.architecture": "llama"}}, None),
        ({"model_info": {"general.architecture": None}}, None),
        ({"model_info": {"general.architecture": "llama", "llama.context_length": "many"}}, None),
        ({"model_info": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_context_that_a_model_was_trained_for(shown: object, tokens: int | None) -> None:
    assert trained_context_tokens(shown) == tokens


@given(JSON)
def test_no_answer_brings_it_down(told: object) -> None:
    trained_context_tokens(told)
    for kind in (RunningModel, ListedModel):
        try:
            model = read_entry(kind, told)
        except Malformed:
            continue
        assert model.name


@given(st.text(max_size=40))
def test_no_time_brings_it_down(text: str) -> None:
    at, for_ever = expiry(text)
    assert at is None or (at.tzinfo is UTC and not for_ever)


@given(
    st.integers(min_value=946_771_200, max_value=7_289_568_000),  # 2000-01-02 to 2200-12-30
    st.integers(min_value=-14 * 60, max_value=14 * 60),
)
def test_any_time_with_an_offset_is_found_again_in_utc(seconds: int, offset_minutes: int) -> None:
    at = datetime.fromtimestamp(seconds, timezone(timedelta(minutes=offset_minutes)))
    assert expiry(at.isoformat()) == (datetime.fromtimestamp(seconds, UTC), False)

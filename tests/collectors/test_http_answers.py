"""How long a server wants to be left alone, in every form that servers and proxies write (RFC 9110, 10.2.3), and what a
compressed body holds (RFC 1952, 2.2)."""

import gzip
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.http_answers import (
    LONGEST_RETRY_AFTER,
    MAX_MEMBERS,
    MAX_PADDING_BYTES,
    Unpacker,
    retry_after,
    retry_moment,
    server_time,
)

NOW = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", 0),
        ("1.5", 1.5),
        ("Mon, 16 Nov 2026 10:31:00 GMT", 60),
        ("Mon, 16 Nov 2026 11:31:00 +0100", 60),
        ("Mon, 16 Nov 2026 10:00:00 GMT", 0),  # already over
        (str(int(NOW.timestamp()) + 90), 90),
        ("86400", LONGEST_RETRY_AFTER.total_seconds()),
        ("9999999999", LONGEST_RETRY_AFTER.total_seconds()),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER.total_seconds()),
    ],
)
def test_a_server_is_left_alone_for_as_long_as_it_asks(status: int, header: str, wait_s: float) -> None:
    assert retry_after(status, header, NOW) == timedelta(seconds=wait_s)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "soon",
        "-5",
        "+5",
        "1e3",
        "0x10",
        "12 s",
        "99999999999",
        "\u0661\u0662",
        "NaN",
        "Mon, 16 Nov 2026 10:31:00",
        "Mon, 36 Nov 2026 10:31:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2300",
    ],
)
def test_garbage_asks_for_nothing(header: str | None) -> None:
    assert retry_after(503, header, NOW) is None


@pytest.mark.parametrize("status", [200, 301, 401, 404, 500, 502])
def test_other_answers_ask_for_nothing(status: int) -> None:
    assert retry_after(status, "120", NOW) is None


@given(st.text(max_size=60))
def test_no_header_brings_it_down_or_silences_for_long(header: str) -> None:
    wait = retry_after(429, header, NOW)
    assert wait is None or timedelta(0) <= wait <= LONGEST_RETRY_AFTER


@given(st.integers(0, 4_000_000_000))
def test_every_http_date_is_read_to_the_second(epoch_s: int) -> None:
    at = datetime.fromtimestamp(epoch_s, UTC)
    header = at.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert server_time(header) == retry_moment(header, NOW) == at


# --- compression


def unpacked(*chunks: bytes, limit: int = 10_000) -> bytes:
    unpacker = Unpacker("gzip", limit=limit)
    body = b"".join(unpacker.take(chunk) for chunk in chunks)
    unpacker.end()
    return body


MEMBERS = gzip.compress(b"first\n") + gzip.compress(b"") + gzip.compress(b"second\n")


def test_all_members_of_a_gzip_body_are_read() -> None:
    assert unpacked(MEMBERS) == b"first\nsecond\n"


@given(st.integers(0, len(MEMBERS)), st.integers(0, len(MEMBERS)))
def test_they_are_read_wherever_the_body_is_cut_into_chunks(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert unpacked(MEMBERS[:low], MEMBERS[low:high], MEMBERS[high:]) == b"first\nsecond\n"


def test_zeros_after_a_member_are_padding() -> None:
    assert unpacked(gzip.compress(b"first\n") + b"\0" * 512, b"\0" * 512) == b"first\n"
    assert unpacked(gzip.compress(b"first\n"), b"\0" * 3, gzip.compress(b"second\n")) == b"first\nsecond\n"


@pytest.mark.parametrize("after", [b"junk that is no gzip", b"\0\0junk", b"\x1f\x8b\x09" + b"\0" * 7])
def test_anything_else_after_a_member_is_an_error(after: bytes) -> None:
    with pytest.raises(httpx.DecodingError):
        unpacked(gzip.compress(b"first\n"), after)


def test_a_second_member_that_ends_too_early_is_an_error() -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        unpacked(MEMBERS[:-4])


def test_what_follows_the_end_has_a_bound() -> None:
    unpacker = Unpacker("gzip", limit=10_000)
    unpacker.take(gzip.compress(b"first\n"))
    assert unpacker.take(b"\0" * MAX_PADDING_BYTES) == b""
    with pytest.raises(httpx.DecodingError, match="zeros"):
        unpacker.take(b"\0")
    with pytest.raises(httpx.DecodingError, match="members"):
        unpacked(gzip.compress(b"") * (MAX_MEMBERS + 1))


def test_the_members_together_are_bounded_as_one_is() -> None:
    unpacker = Unpacker("gzip", limit=10_000)
    assert len(unpacker.take(gzip.compress(b"a" * 9_000) * 100)) == 10_001

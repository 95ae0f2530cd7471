"""How long a Langfuse that said 429 wants to be left alone.

Langfuse Cloud writes `Retry-After` in seconds and `X-RateLimit-Reset` as JavaScript prints a date; proxies in front of
it write an HTTP date or seconds since the epoch. Source: web/src/features/public-api/server/RateLimitService.ts.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from collectors.http_answers import retry_moment

UNTOLD = timedelta(seconds=60)
"""How long to wait where the server does not say; its shortest limits are per minute."""
LONGEST = timedelta(hours=25)
"""Limits are per day at most; whoever asks for more is not believed."""

_JAVASCRIPT_DATE = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2} \d{2} \d{4} \d{2}:\d{2}:\d{2}) GMT([+-]\d{4})")


def silent_until(headers: Mapping[str, str], now: datetime) -> datetime:
    """When to ask again, by the headers (names in lower case) of an answer with status 429."""
    for name in ("retry-after", "x-ratelimit-reset"):
        told = _moment(headers.get(name, "").strip(), now)
        if told is not None:
            return min(max(told, now), now + LONGEST)
    return now + UNTOLD


def _moment(text: str, now: datetime) -> datetime | None:
    javascript = _JAVASCRIPT_DATE.match(text)
    if javascript is None:
        return retry_moment(text, now)
    try:
        return datetime.strptime(" ".join(javascript.groups()), "%b %d %Y %H:%M:%S %z").astimezone(UTC)
    except (ValueError, OverflowError):
        return None

"""What to do about what a Langfuse does not give."""

from collectors.diagnosis import Remedy
from collectors.errors import CollectorError, Unauthorized, Unsupported
from planner.diagnosis import Lack
from planner.readings import Gap

_NEWER = (
    "Update the Langfuse server: version 3 has /api/public/metrics, and version 4 /api/public/v2/metrics "
    "(self-hosted before 4: LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN=true)."
)
_RULES: tuple[tuple[str, str], ...] = (
    ("metrics/daily", _NEWER),
    ("observations of the first API", _NEWER),
    ("this server has no", _NEWER),
    ("is deprecated and may go", _NEWER),
    (
        "calls of the day are used up",
        "Raise max_calls_per_day in the source's table, if the plan of Langfuse has more.",
    ),
    (
        "Langfuse gives",
        "Leave that dimension out of dimensions, or read single observations: roads = ['v2/observations'].",
    ),
    ("their traces are not in this span", "Read it through the second API (roads), which knows users without traces."),
)
_LACKS: tuple[tuple[str, Lack], ...] = (
    ("use by ", Lack.OWNERS),
    ("are given to no ", Lack.OWNERS),
    (" are not known", Lack.USAGE_DETAILS),
    ("is deprecated and may go", Lack.LATER),
    ("calls of the day are used up", Lack.NEWEST_USAGE),
)


def remedy(gap: Gap) -> Remedy:
    """What brings the missing figures, word for word."""
    return Remedy(
        fix=next((fix for words, fix in _RULES if words in gap.reason), None),
        lack=next((lack for words, lack in _LACKS if words in gap.reason), Lack.PART_OF_USAGE),
    )


def error_fix(error: CollectorError) -> str | None:
    """What to do where the project cannot be read at all."""
    if isinstance(error, Unauthorized):
        return (
            "Make a pair of API keys in the settings of the Langfuse project; in the source's table: "
            'public_key = "pk-lf-..." and secret_key_file = "FILE" with the secret key in it.'
        )
    return _NEWER if isinstance(error, Unsupported) else None

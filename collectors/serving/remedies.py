"""What to do about what a server of models does not give: its own flags and versions, word for word."""

from collectors.diagnosis import Remedy
from collectors.serving.metrics import TABLES
from planner.diagnosis import Lack
from planner.readings import Gap

_FLAGS: tuple[tuple[str, str], ...] = (
    # a word of the reason, and the fix
    ("--disable-log-stats", "Start vLLM without --disable-log-stats."),
    ("with --metrics", "Start the server with: llama-server ... --metrics"),
    ("--enable-metrics", "Start the server with: python -m sglang.launch_server ... --enable-metrics"),
    (
        "enable_iter_perf_stats",
        "In the file given as --extra_llm_api_options: enable_iter_perf_stats: true, return_perf_metrics: true",
    ),
    ("return_perf_metrics", "In the file given as --extra_llm_api_options: return_perf_metrics: true"),
    ("update vLLM", "Update vLLM to 0.6.5 or later."),
    ("vLLM 0.9 or later with its V1 engine", "Update vLLM to 0.9 or later, whose V1 engine counts tokens."),
    ("exists from Triton 24.04 on", "Update Triton to 24.04 or later."),
    ("wants an API key", "Put the server's key into a file and name it as bearer_token_file in the source's table."),
    (
        "no pod to scrape was found",
        'Annotate the pods of the engines (by = "annotations"): prometheus.io/scrape: "true".',
    ),
    (
        "this server has no series of a serving engine",
        "Add the engines to this Prometheus (a PodMonitor or a scrape job), or scrape them directly.",
    ),
    (
        "several processes answer at this address",
        "Name each replica by its own address in targets, or find the pods by [sources.serving.kubernetes].",
    ),
    (
        "several scrape targets are called",
        "Give each server an instance label of its own; with Thanos, name the replica label by --query.replica-label.",
    ),
    ("which ports does not allow", "Add the port to ports in [sources.serving.kubernetes]."),
)
_FROM_FIRST_REQUEST = "from the first"
_NO_SERVER = "not a server of models"

_LACKS: tuple[tuple[str, Lack], ...] = (
    ("not scraped:", Lack.SERVERS),
    ("no pod to scrape was found", Lack.SERVERS),
    ("this server has no series of a serving engine", Lack.SERVERS),
    ("it names more than", Lack.SERVERS),
    ("several processes answer at this address", Lack.SERVERS),
    ("several scrape targets are called", Lack.SERVERS),
    (" unknown: ", Lack.SERVER_FACTS),
)


def remedy(gap: Gap) -> Remedy:
    """What brings the missing metric; what an engine never gives, and what comes by itself, wants nothing."""
    lack = next((lack for word, lack in _LACKS if word in gap.reason), None if gap.metric else Lack.LINES)
    if gap.reason.startswith(_NO_SERVER):
        return Remedy(is_natural=True)
    fix = next((fix for word, fix in _FLAGS if word in gap.reason), None)
    if fix is not None:
        return Remedy(fix=fix, lack=lack)
    is_known = gap.metric is not None and any(gap.reason == table.missing.get(gap.metric) for table in TABLES.values())
    return Remedy(is_natural=is_known or _FROM_FIRST_REQUEST in gap.reason, lack=lack)

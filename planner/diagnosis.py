"""What an examination of one target of one source found: what works, what does not, what that costs, and the fix."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended; `WARNING` is for what works and lacks something."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


class Check(StrEnum):
    """What is looked at, in the order in which it can be looked at."""

    REACHABLE = "reachable"
    AUTHORISED = "authorised"
    UNDERSTOOD = "understood"
    VERSION = "version"
    CLOCK = "clock"
    AGE = "age of the last sample"
    FIELDS = "fields"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: what was seen, what it costs the user, and what to do, word for word where that is possible.

    A finding about a gap has its `reason`, and its `metric` where it is about one.
    """

    check: Check
    outcome: Outcome
    text: str
    cost: str | None = None
    fix: str | None = None
    metric: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that one look at one target found; `present` are the metrics that it gives, by our names."""

    cluster: str
    source: str
    kind: str
    target: str
    taken_at: datetime
    seconds: float
    findings: tuple[Finding, ...]
    present: tuple[str, ...] = ()
    version: str | None = None
    clock_skew_s: float | None = None  # positive: the source is ahead
    newest_sample_age_s: float | None = None

    @property
    def outcome(self) -> Outcome:
        """The worst of all checks that were made."""
        made = {finding.outcome for finding in self.findings}
        return next((one for one in (Outcome.FAILED, Outcome.WARNING, Outcome.OK) if one in made), Outcome.NOT_CHECKED)


def joined_fixes(fixes: Iterable[str]) -> tuple[str, ...]:
    """Fixes that begin with the same line as one: below it each other line once, under the `#` line it stood under.

    So the lines that a counter list lacks become one list, and rules that a role lacks one role.
    """
    by_head: dict[str, dict[str, dict[str, None]]] = {}
    for fix in fixes:
        head, *lines = fix.splitlines() or [""]
        sections, section = by_head.setdefault(head, {}), ""
        for line in lines:
            if line.startswith("#"):
                section = line
                sections.setdefault(section, {})
            else:
                sections.setdefault(section, {})[line] = None
    return tuple(
        "\n".join(
            (head, *(line for title, lines in sections.items() for line in ([title] if title else []) + [*lines]))
        )
        for head, sections in by_head.items()
    )


METRIC_LOSSES = {
    "gr_engine_active_ratio": "MIG devices cannot be told working from idle, and no profile can be advised for them.",
    "sm_active_ratio": "How many SMs the work needs is unknown: profiles are advised from engine activity alone.",
    "dram_active_ratio": "The need of memory bandwidth is unknown: work that waits for memory may be cut too small.",
    "tensor_active_ratio": "Whether the tensor cores work is not shown.",
    "sm_occupancy_ratio": "How full the SMs are is not shown.",
    "gpu_busy_ratio": "Whole GPUs are judged by profiling fields alone; without those too, as not measurable.",
    "memory_busy_ratio": "The share of time in which memory was used is not shown.",
    "memory_used_bytes": "What lies in memory is unknown: a loaded model cannot be told from an empty device.",
    "memory_free_bytes": "The memory of a device cannot be summed up from its parts.",
    "memory_reserved_bytes": "Memory that the driver holds is counted as free.",
    "memory_total_bytes": "A board is told by its name alone, and the catalogue's memory is used.",
    "power_watts": "Power is not shown, and cost by energy not counted.",
    "energy_joules": "Energy is not shown; sums of power over time are less exact.",
    "xid_code": "Errors of the driver (Xid) are not seen.",
    "temperature_celsius": "Temperature is not shown.",
    "nvlink_bytes_per_s": "Traffic between GPUs is unknown: work that spans GPUs is taken for single.",
    "remapped_rows_uncorrectable": "GPUs whose memory fails are not seen.",
    "row_remap_failed": "GPUs whose memory fails for good are not seen.",
    "row_remap_pending": "GPUs that need a reset before their memory is whole again are not seen.",
    "clock_event_reasons": "Why clocks are held down is not shown.",
}
"""What a user loses without a metric of a device; metrics that are not here are shown and decide nothing."""

SERVING_LOSSES = {
    "requests_running": "How busy the engine is can only be told from tokens.",
    "requests_waiting": "Starved models are not seen: nothing says that requests queue.",
    "kv_cache_used_ratio": "Whether the KV cache is the limit is unknown.",
    "preemptions": "Requests that were thrown out of the KV cache are not seen.",
    "prompt_tokens": "Cost per token and the state `serving` rest on generated tokens alone.",
    "generation_tokens": "Devices cannot be called serving or loaded-idle by tokens, and no cost per token is known.",
    "requests_finished": "Requests cannot be counted.",
    "ttft_s": "Time to the first token is not shown, and starved models are found later.",
    "itl_s": "The gaps between tokens are not shown.",
    "e2e_latency_s": "Latency is not shown.",
    "queue_time_s": "Waiting time cannot be told from working time.",
    "prefix_cache_hit_tokens": "What the prefix cache saves is unknown.",
}
"""What a user loses without a metric of a serving engine."""

SPEND_LOSSES = {
    "requests": "Requests through the gateway cannot be counted by team and model.",
    "input_tokens": "Tokens that were read in are missing in use and cost by team and model.",
    "output_tokens": "Tokens that were generated are missing in use and cost by team and model.",
    "cost_usd": "What the same tokens cost by API price is unknown, and nothing stands beside our own cost.",
}
"""What a user loses without a quantity of a gateway."""


class Lack(StrEnum):
    """What is missing where a gap is not about one metric."""

    PODS = "pods"
    NODES = "nodes"
    QUOTAS = "quotas"
    POD_OWNERS = "owners of pods"
    CLAIMS = "claimed devices"
    NODE_LABELS = "labels of nodes"
    CLUSTER_VERSION = "version of the cluster"
    OBJECTS = "single objects"
    OWNERS = "owners of use"
    USAGE_DETAILS = "details of use"
    PART_OF_USAGE = "a part of use"
    NEWEST_USAGE = "the newest use"
    COUNTED_BEFORE = "what was counted before a restart"
    LATER = "the endpoint that is read"
    SERVER_FACTS = "model, version and settings of a server"
    LOADED_CONTEXT = "context of loaded models"
    SERVERS = "single servers"
    LINES = "single lines"
    GPU = "a whole GPU"
    GPU_DETAILS = "what a GPU is"
    PROCESSES = "processes"
    PROCESS_DETAILS = "owners of processes"
    POD_NAMES = "names of pods"
    LAYOUT = "where GPU instances lie"
    CATALOGUE = "agreement with the catalogue"
    ROW_REMAP = "repair of memory"


LACK_LOSSES: Mapping[str, str] = {
    Lack.PODS: "Which pod holds which GPU, and what waits for one, is not known from Kubernetes.",
    Lack.NODES: "Nodes and what they could hold are not known from Kubernetes.",
    Lack.QUOTAS: "Limits of namespaces are not shown, and plans do not heed them.",
    Lack.POD_OWNERS: "Pods are shown by their replica set instead of their deployment.",
    Lack.CLAIMS: "GPUs that were given out by resource claims look free.",
    Lack.NODE_LABELS: "What a node's GPUs are is not known from Kubernetes.",
    Lack.CLUSTER_VERSION: "The version of the cluster is not shown.",
    Lack.OBJECTS: "What was left out is missing on every page.",
    Lack.OWNERS: "Use and cost cannot be divided among teams, users or keys; the totals are right.",
    Lack.USAGE_DETAILS: "Cached and reasoning tokens cannot be told from others; the totals are right.",
    Lack.PART_OF_USAGE: "Use and cost are shown too low by what was left out.",
    Lack.NEWEST_USAGE: "The newest use and cost are missing for now.",
    Lack.COUNTED_BEFORE: "After a restart of gpufleet, use and cost since then can be counted too low.",
    Lack.LATER: "After an update of the server this source may give nothing any more.",
    Lack.SERVER_FACTS: "Which model and version answers there, and with what settings, is not fully known.",
    Lack.LOADED_CONTEXT: "Whether the memory of a loaded model fits its context cannot be checked.",
    Lack.SERVERS: "Those servers are not measured, and their GPUs cannot be called serving by tokens.",
    Lack.LINES: "What these lines say is missing.",
    Lack.GPU: "Nothing of this GPU is measured; it stays as it was last seen.",
    Lack.GPU_DETAILS: "The GPU is measured, and shown with less about it.",
    Lack.PROCESSES: "Devices that are allocated without a process cannot be told from devices with one.",
    Lack.PROCESS_DETAILS: "Whose the processes are is not shown.",
    Lack.POD_NAMES: "Work cannot be given to pods and teams by this source.",
    Lack.LAYOUT: "Plans for this GPU start from an assumed layout.",
    Lack.CATALOGUE: "Plans for this kind of board may ask for what its driver does not make.",
    Lack.ROW_REMAP: "Rows of its memory stay broken until the GPU is reset.",
}
"""What a user loses by a gap that is not about one metric, by its `Lack`."""

"""Every reason for a gap that a source can give has a remedy, or is listed here as one that deliberately has none."""

import re
from typing import NamedTuple

import pytest

from collectors import SOURCES, remedy_of
from collectors.dcgm.gaps import GIVEN_FOR_OTHERS, UNREPORTED_UNDER_MIG
from collectors.kubernetes.cluster_view import BY_ANNOTATION, NO_LABELS
from collectors.kubernetes.collector import OTHER_NAMESPACES
from collectors.kubernetes.resources import RESOURCES
from collectors.kubernetes_errors import Right, error_of_answer
from collectors.litellm.scrape import CUT, NOBODY_ASKED, REMOVED
from collectors.nvml.gpm import NEEDS_HOPPER
from collectors.nvml.processes import NO_POD_NAME, NOBODY_SEEN, NOT_IN_PROC, ONLY_PODS_AT_WORK
from collectors.nvml.reader import EMPTY_MIG
from collectors.nvml.refusals import refusal
from collectors.nvml.table_reading import REMAP_PENDING, RESERVED_WITHIN_USED, UNDER_MIG, UNIFIED_MEMORY
from collectors.ollama.collector import OLD_CONTEXT_REASON, UNCOUNTED_REASON
from collectors.serving.processes import REASON as PROCESSES
from gpufleet.doctor import LOSSES
from planner.diagnosis import Lack
from planner.readings import Gap
from tests.collectors.gap_reasons import said

NATURAL = "natural"
"""Nothing is to be done: such a device or such a state cannot have it."""
NO_FIX = "no fix"
"""Deliberately: it was one odd answer, or passes by itself, and nothing in a configuration would help."""


class Case(NamedTuple):
    """A reason as the code spells it, one as a user reads it, and what is to be said about it."""

    source: str
    pattern: str
    reason: str
    says: str  # a part of the fix, NATURAL or NO_FIX
    metric: str | None = None
    lack: Lack | None = None


def _right(resource: str) -> str:
    right = Right(verb="list", verbs=("list", "watch"), resource=resource)
    return str(error_of_answer(403, b"", {}, source="main", target="api:6443", right=right))


def _lines(source: str, *patterns: str, lack: Lack = Lack.LINES) -> list[Case]:
    """Reasons with nothing to fill in that have no fix."""
    return [Case(source, pattern, pattern, NO_FIX, lack=lack) for pattern in patterns]


_CUT = "the answer ends in the middle of a line, which was left out"
_MORE = "there are more unreadable lines than are listed here"
_LINE = "line not read ({}): {}"

DCGM = [
    Case("dcgm", UNDER_MIG, UNDER_MIG, NATURAL, "gpu_busy_ratio"),
    Case("dcgm", "{} ({} devices)", f"{UNDER_MIG} (8 devices)", NATURAL, "gpu_busy_ratio"),
    Case("dcgm", EMPTY_MIG, EMPTY_MIG, NATURAL, "memory_used_bytes"),
    Case("dcgm", GIVEN_FOR_OTHERS, GIVEN_FOR_OTHERS, NO_FIX, "power_watts"),
    Case("dcgm", UNREPORTED_UNDER_MIG, UNREPORTED_UNDER_MIG, "Update the driver", "memory_used_bytes"),
    Case(
        "dcgm",
        "the exporter calls its node {}, which is its own pod: set node in its table, or NODE_NAME in its container",
        "the exporter calls its node 'dcgm-x7k2p', which is its own pod: set node in its table, or NODE_NAME in its "
        "container",
        'node = "NAME"',
        lack=Lack.GPU_DETAILS,
    ),
    Case(
        "dcgm",
        "the exporter has no GPU to speak of: DCGM may not be running on its node",
        "the exporter has no GPU to speak of: DCGM may not be running on its node",
        "nvidia-smi",
        lack=Lack.GPU,
    ),
    Case(
        "dcgm",
        "this server has no DCGM series: is a dcgm-exporter among its scrape targets?",
        "this server has no DCGM series: is a dcgm-exporter among its scrape targets?",
        "ServiceMonitor",
        lack=Lack.GPU,
    ),
    Case("dcgm", _LINE, "line not read (no value): DCGM_FI_DEV_POWER_USAGE{", NO_FIX, lack=Lack.LINES),
    Case("dcgm", "a line was left out: {}", "a line was left out: no UUID", NO_FIX, "power_watts"),
    Case(
        "dcgm",
        "{} carries a time that is still to come; it was left out",
        "DCGM_FI_DEV_POWER_USAGE carries a time that is still to come; it was left out",
        NO_FIX,
        lack=Lack.LINES,
    ),
    Case(
        "dcgm",
        "{} is given twice with different values; the larger is kept",
        "DCGM_FI_DEV_POWER_USAGE is given twice with different values; the larger is kept",
        NO_FIX,
        "power_watts",
    ),
    *_lines("dcgm", _CUT, _MORE),
]

KUBERNETES = [
    *(
        Case(
            "kubernetes",
            "{} cannot be read: {} {}",
            f"{row.kind} cannot be read: {_right(row.kind)} {row.loss}",
            f'"resources": ["{row.kind}"]',
            lack=lack,
        )
        for row, lack in zip(
            RESOURCES,
            (Lack.NODES, Lack.PODS, Lack.QUOTAS, Lack.POD_OWNERS, Lack.CLAIMS, Lack.CLAIMS),
            strict=True,
        )
    ),
    *(
        Case("kubernetes", "{} {}: {}.", f"pods {words}: {_right('pods')}.", '"resources": ["pods"]', lack=Lack.PODS)
        for words in ("are listed again and again", "are soon unknown")
    ),
    Case(
        "kubernetes",
        "{} cannot be read: {}. {}{}",
        f"pods cannot be read: {_right('pods')}. Pods are unknown.{OTHER_NAMESPACES}",
        '"resources": ["pods"]',
        lack=Lack.PODS,
    ),
    Case(
        "kubernetes",
        "{} cannot be read: {} {}",
        "nodes cannot be read: api:6443 did not answer within 30 s. Nodes are unknown.",
        NO_FIX,
        lack=Lack.NODES,
    ),
    Case(
        "kubernetes",
        "the version cannot be read: {}. {}",
        "the version cannot be read: api:6443 did not answer within 30 s. The version is not shown.",
        NO_FIX,
        lack=Lack.CLUSTER_VERSION,
    ),
    Case("kubernetes", NO_LABELS, NO_LABELS, "gfd.enabled=true", lack=Lack.NODE_LABELS),
    Case("kubernetes", "{} ({} {})", f"{NO_LABELS} (5 nodes)", "gfd.enabled=true", lack=Lack.NODE_LABELS),
    Case("kubernetes", BY_ANNOTATION, BY_ANNOTATION, NATURAL),
    Case(
        "kubernetes",
        "left out, it is not understood: {}",
        "left out, it is not understood: spec: Field required",
        NO_FIX,
        lack=Lack.OBJECTS,
    ),
    *_lines("kubernetes", "left out: the API does not say when it was created", lack=Lack.OBJECTS),
]

LANGFUSE = [
    Case(
        "langfuse",
        "use by {} is not known: metrics/daily totals days and models only",
        "use by user is not known: metrics/daily totals days and models only",
        "Update the Langfuse server",
        lack=Lack.OWNERS,
    ),
    Case(
        "langfuse",
        "use by {} is not known: observations of the first API name no {}",
        "use by user is not known: observations of the first API name no user",
        "Update the Langfuse server",
        lack=Lack.OWNERS,
    ),
    Case(
        "langfuse",
        "use by environment is not known: this server has no dimension environment",
        "use by environment is not known: this server has no dimension environment",
        "Update the Langfuse server",
        lack=Lack.OWNERS,
    ),
    Case(
        "langfuse",
        "{} are not known: this server has no measure {}",
        "cached tokens are not known: this server has no measure inputCachedTokens",
        "Update the Langfuse server",
        lack=Lack.USAGE_DETAILS,
    ),
    Case(
        "langfuse",
        "the server says that {} is deprecated and may go{}",
        "the server says that metrics is deprecated and may go after 2026-11-16",
        "Update the Langfuse server",
        lack=Lack.LATER,
    ),
    Case(
        "langfuse",
        "the calls of the day are used up until {} UTC; what is not read yet comes then. Raise max_calls_per_day if "
        "the plan allows more",
        "the calls of the day are used up until 14:05 UTC; what is not read yet comes then. Raise max_calls_per_day if "
        "the plan allows more",
        "max_calls_per_day",
        lack=Lack.NEWEST_USAGE,
    ),
    Case(
        "langfuse",
        "of {} requests, {} are given to no {}: their traces are not in this span",
        "of 12 requests, 3 are given to no user: their traces are not in this span",
        "second API",
        lack=Lack.OWNERS,
    ),
    Case(
        "langfuse",
        "use by {} is not known: {}",
        "use by user is not known: Langfuse gives 1000 rows at most, and 10:00 to 10:01 has as many or more.",
        "dimensions",
        lack=Lack.OWNERS,
    ),
    Case(
        "langfuse",
        "use by {} is not known for {}: {}",
        "use by user is not known for 2026-03-01 10:00: langfuse:3000 did not answer within 60 s.",
        NO_FIX,
        lack=Lack.OWNERS,
    ),
    Case(
        "langfuse",
        "{} are not known for {}: {}",
        "cached tokens are not known for 2026-03-01 10:00: langfuse:3000 did not answer within 60 s.",
        NO_FIX,
        lack=Lack.USAGE_DETAILS,
    ),
    *(
        Case("langfuse", pattern, pattern.replace("{}", "x"), NO_FIX, lack=Lack.PART_OF_USAGE)
        for pattern in (
            "a day was left out: {}",
            "a model of {} was left out: {}",
            "a row without a readable hour was left out",
            "an observation was left out: its startTime is no time",
            "an observation was left out: {}",
            "{} of a row is no number: {}",
            "{} of an observation is no number",
            "{} of a model of {} is no number",
            "a sum was left out: it is larger than anything that is counted",
        )
    ),
]

LITELLM = [
    Case("litellm", NOBODY_ASKED, NOBODY_ASKED, NATURAL),
    Case(
        "litellm",
        "{} is not exported: LiteLLM's prometheus_metrics_config leaves it out",
        "litellm_spend_metric_total is not exported: LiteLLM's prometheus_metrics_config leaves it out",
        "litellm_spend_metric",
        "cost_usd",
    ),
    Case(
        "litellm",
        REMOVED,
        REMOVED,
        "Remove prometheus_metrics_ttl_seconds",
        lack=Lack.COUNTED_BEFORE,
    ),
    Case(
        "litellm",
        "{} series, of which only the first {} were read: drop labels of persons by prometheus_metrics_config of "
        "LiteLLM",
        "90000 series, of which only the first 50000 were read: drop labels of persons by prometheus_metrics_config of "
        "LiteLLM",
        "include_labels",
        lack=Lack.PART_OF_USAGE,
    ),
    Case(
        "litellm",
        "more than {} names of models and owners: the use of any other is left out (see prometheus_metrics_config of "
        "LiteLLM)",
        "more than 100000 names of models and owners: the use of any other is left out (see prometheus_metrics_config "
        "of LiteLLM)",
        "include_labels",
        lack=Lack.PART_OF_USAGE,
    ),
    Case(
        "litellm",
        "only the {} of {} {}s with the highest spend are read; raise max_owners",
        "only the 50 of 80 teams with the highest spend are read; raise max_owners",
        "Raise max_owners",
        lack=Lack.OWNERS,
    ),
    Case(
        "litellm",
        "the days have more than {} pages of {} rows; they were read in one piece",
        "the days have more than 20 pages of 1000 rows; they were read in one piece",
        "Raise max_pages",
        lack=Lack.OWNERS,
    ),
    Case(
        "litellm",
        "use by {} is not known: {}",
        "use by key is not known: the gateway lists only the keys with the highest spend; 5 are left out. Raise "
        "max_pages, so that the figures are read page by page.",
        "Raise max_pages",
        lack=Lack.OWNERS,
    ),
    Case(
        "litellm",
        "a {} whose name holds a comma cannot be asked for by itself and is left out",
        "a team whose name holds a comma cannot be asked for by itself and is left out",
        NO_FIX,
        lack=Lack.OWNERS,
    ),
    Case(
        "litellm",
        "the gateway does not say which Ollama server answered",
        "the gateway does not say which Ollama server answered",
        NO_FIX,
        "generation_tokens",
    ),
    Case(
        "litellm",
        "{} Ollama servers share the work, and the gateway does not split tokens by server",
        "2 Ollama servers share the work, and the gateway does not split tokens by server",
        NO_FIX,
        "generation_tokens",
    ),
    *(
        Case("litellm", pattern, pattern.replace("{}", "x"), NO_FIX, lack=Lack.PART_OF_USAGE)
        for pattern in (
            "a day that nobody asked for was left out: {}",
            "a day was left out: {}",
            "a part of a day ({}) was left out: {}",
            "{} of a part of a day ({}) is no number",
            "a value of {} is no count",
            "a sum was left out: it is larger than anything that is counted",
        )
    ),
    Case("litellm", "line not read ({})", "line not read (no value)", NO_FIX, lack=Lack.LINES),
    *_lines("litellm", CUT),
]

_NOT_SUPPORTED = refusal("nvmlDeviceGetTemperature", 3).reason
_ROOT = refusal("nvmlDeviceGetGpuInstanceById", 4).reason
_GPM_RIGHT = refusal("nvmlGpmSampleGet", 4).reason
_NO_FUNCTION = refusal("nvmlGpmQueryDeviceSupport", 13).reason
_TIMEOUT = refusal("nvmlDeviceGetPowerUsage", 10).reason
_BY_DRIVER = "{}"  # what the driver refused, in the words of collectors/nvml/refusals.py

NVML = [
    Case("nvml", UNDER_MIG, UNDER_MIG, NATURAL, "gpu_busy_ratio"),
    Case("nvml", "{} ({} devices)", f"{UNDER_MIG} (8 devices)", NATURAL, "gpu_busy_ratio"),
    Case("nvml", EMPTY_MIG, EMPTY_MIG, NATURAL, "memory_used_bytes"),
    Case("nvml", "{}{}", f"nvmlDeviceGetMemoryInfo: not supported ({UNIFIED_MEMORY})", NATURAL, "memory_used_bytes"),
    Case("nvml", _BY_DRIVER, _NOT_SUPPORTED, NATURAL, "temperature_celsius"),
    Case("nvml", _BY_DRIVER, _GPM_RIGHT, "options nvidia NVreg_RestrictProfilingToAdminUsers=0", "sm_active_ratio"),
    Case("nvml", _BY_DRIVER, f"{_NO_FUNCTION}; {NEEDS_HOPPER}", "dcgm-exporter", "sm_active_ratio"),
    Case("nvml", _BY_DRIVER, NEEDS_HOPPER, "dcgm-exporter", "sm_active_ratio"),
    Case("nvml", _BY_DRIVER, _NO_FUNCTION, "Update the driver", "memory_used_bytes"),
    Case("nvml", _BY_DRIVER, _TIMEOUT, NO_FIX, "power_watts"),
    Case("nvml", RESERVED_WITHIN_USED, RESERVED_WITHIN_USED, "R510", "memory_reserved_bytes"),
    Case("nvml", REMAP_PENDING, REMAP_PENDING, "nvidia-smi --gpu-reset", lack=Lack.ROW_REMAP),
    Case("nvml", NOBODY_SEEN, NOBODY_SEEN, "hostPID: true", lack=Lack.PROCESSES),
    Case("nvml", NOT_IN_PROC, NOT_IN_PROC, "hostPID: true", lack=Lack.PROCESS_DETAILS),
    Case("nvml", NO_POD_NAME, NO_POD_NAME, "log_directory", lack=Lack.POD_NAMES),
    Case("nvml", ONLY_PODS_AT_WORK, ONLY_PODS_AT_WORK, "[[sources.kubernetes]]", lack=Lack.POD_NAMES),
    Case(
        "nvml",
        "its {} processes are not known: {}",
        f"its compute processes are not known: {refusal('nvmlDeviceGetComputeRunningProcesses', 4).reason}",
        "NVIDIA_MIG_MONITOR_DEVICES=all",
        lack=Lack.PROCESSES,
    ),
    Case("nvml", "MIG mode is not known: {}", f"MIG mode is not known: {_ROOT}", "privileged", lack=Lack.LAYOUT),
    Case(
        "nvml",
        "where this GPU instance lies is not known: {}",
        f"where this GPU instance lies is not known: {_ROOT}",
        "privileged",
        lack=Lack.LAYOUT,
    ),
    Case(
        "nvml", "this MIG device is left out: {}", f"this MIG device is left out: {_TIMEOUT}", NO_FIX, lack=Lack.LAYOUT
    ),
    *_lines(
        "nvml", "which profile this GPU instance has is not known: no name and no profile is told", lack=Lack.LAYOUT
    ),
    *(
        Case("nvml", pattern, reason, "dmesg", lack=Lack.GPU)
        for pattern, reason in (
            ("nothing of this GPU is read: {}", "nothing of this GPU is read: the GPU is lost"),
            ("nothing of this GPU is read: {}{}", "nothing of this GPU is read: the GPU is lost (Xid 79)"),
            (
                "nothing of this GPU is read, as nobody could tell later which it was: {}",
                "nothing of this GPU is read, as nobody could tell later which it was: unknown error",
            ),
        )
    ),
    Case(
        "nvml",
        "NVML knows no GPU on this machine (in a container: NVIDIA_VISIBLE_DEVICES=all)",
        "NVML knows no GPU on this machine (in a container: NVIDIA_VISIBLE_DEVICES=all)",
        "NVIDIA_VISIBLE_DEVICES=all",
        lack=Lack.GPU,
    ),
    Case(
        "nvml",
        "this driver does not offer {} on {}, which plans may use: exclude them",
        "this driver does not offer 1g.10gb+me on H100, which plans may use: exclude them",
        "Exclude these profiles",
        lack=Lack.CATALOGUE,
    ),
    *(
        Case("nvml", reason, reason, says, lack=Lack.CATALOGUE)
        for reason, says in (
            ("the driver offers 5g.50gb on H100, which the catalogue does not have: no plan uses it", NO_FIX),
            (
                "the driver lets 3g.40gb of H100 lie at 0:4, the catalogue says 0:3: plans for this board may be wrong",
                NO_FIX,
            ),
            (f"the catalogue's placements of H100 could not be held against the driver's: {_ROOT}", "privileged"),
        )
    ),
    Case(
        "nvml",
        "its PCI address is not known: {}",
        f"its PCI address is not known: {_TIMEOUT}",
        NO_FIX,
        lack=Lack.GPU_DETAILS,
    ),
    Case("nvml", "{} is not known: {}", f"its node's driver is not known: {_TIMEOUT}", NO_FIX, lack=Lack.GPU_DETAILS),
    Case("nvml", "Xid errors may be missed: {}", "Xid errors may be missed: timeout", NO_FIX, "xid_code"),
    Case(
        "nvml",
        "{} Xid events came faster than they were read; the newest are kept",
        "40 Xid events came faster than they were read; the newest are kept",
        NO_FIX,
        "xid_code",
    ),
    *(
        Case("nvml", pattern, pattern.replace("{}", "2"), NO_FIX, metric)
        for pattern, metric in (
            ("no link gave a counter that grew since the reading before", "nvlink_bytes_per_s"),
            ("{} of {} links did not count on: their bytes are missing in it", "nvlink_bytes_per_s"),
            ("the answer is not a number", "power_watts"),
            ("the driver says that this device has 0 bytes of memory", "memory_used_bytes"),
        )
    ),
]

OLLAMA = [
    Case("ollama", UNCOUNTED_REASON, UNCOUNTED_REASON, "[[sources.litellm]]", "generation_tokens"),
    Case("ollama", OLD_CONTEXT_REASON, OLD_CONTEXT_REASON, "July 2025", lack=Lack.LOADED_CONTEXT),
    Case(
        "ollama",
        "{} in /api/ps is no number of bytes",
        "size in /api/ps is no number of bytes",
        NO_FIX,
        "model_loaded_bytes",
    ),
    *(
        Case("ollama", pattern, pattern.replace("{}", "x"), NO_FIX, lack=Lack.SERVER_FACTS)
        for pattern in (
            "a model ({}) was left out: {}",
            "its version is not known: {}",
            "models that are not loaded are not known: {}",
            "only the first {} models were looked at",
        )
    ),
]

_SEVERAL_TARGETS = (
    "several scrape targets are called {} and differ in {}; nobody can tell whether they are one server, so they were "
    "not read: give each its own instance label, or leave out the label of Prometheus' replicas (Thanos: "
    "--query.replica-label)"
)

SERVING = [
    Case("serving", PROCESSES, PROCESSES, "Name each replica by its own address", lack=Lack.SERVERS),
    Case(
        "serving",
        _SEVERAL_TARGETS.format("{}", "{}"),
        _SEVERAL_TARGETS.format("node-a:8000", "shard"),
        "an instance label of its own",
        lack=Lack.SERVERS,
    ),
    Case(
        "serving",
        "not scraped: {}: {}",
        "not scraped: team-a/llm-0: it asks for port 8001, which ports does not allow",
        "Add the port to ports",
        lack=Lack.SERVERS,
    ),
    Case(
        "serving",
        "{} unknown: {}",
        "the models it serves are unknown: /v1/models wants an API key (401); give it as bearer_token_file",
        "bearer_token_file",
        lack=Lack.SERVER_FACTS,
    ),
    Case(
        "serving",
        "this server has no series of a serving engine: is one among its scrape targets?",
        "this server has no series of a serving engine: is one among its scrape targets?",
        "scrape job",
        lack=Lack.SERVERS,
    ),
    Case(
        "serving", "no pod to scrape was found", "no pod to scrape was found", "prometheus.io/scrape", lack=Lack.SERVERS
    ),
    Case("serving", "not a server of models: {}", "not a server of models: pod:9100 answered with others", NATURAL),
    Case(
        "serving",
        "it names more than {} models or ranks; the others were left out",
        "it names more than 256 models or ranks; the others were left out",
        NO_FIX,
        lack=Lack.SERVERS,
    ),
    Case("serving", _LINE, "line not read (no value): vllm:num_requests_running{", NO_FIX, lack=Lack.LINES),
    *_lines("serving", _CUT, _MORE),
    *(
        Case("serving", pattern, pattern.replace("{}", "x"), NO_FIX, "ttft_s")
        for pattern in (
            "it is split by labels nobody knows here ({}); added up",
            "its parts have different buckets and cannot be added up",
            "{} is given twice with different values; the first is kept",
            "{} is not a number",
            "{}: {}",
            "{}: {}; it was left out",
            "{}; it was left out",
            "a part of it cannot be read; the sum was left out",
        )
    ),
]

CASES = [*DCGM, *KUBERNETES, *LANGFUSE, *LITELLM, *NVML, *OLLAMA, *SERVING]
HANDED_ON = {"dcgm": {"{} ({} devices)"}, "nvml": {"GPU {}", "nvlink_bytes_per_s"}}
"""What the search takes for a reason and is none: subjects and metrics."""


@pytest.mark.parametrize("source", sorted(SOURCES.keys() - {"prometheus"}))
def test_every_reason_in_the_code_is_listed_here(source: str) -> None:
    listed = {case.pattern for case in CASES if case.source == source} | HANDED_ON.get(source, set())
    assert said(source) - listed == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.source}: {case.reason[:60]}")
def test_every_reason_is_remedied_or_deliberately_not(case: Case) -> None:
    assert re.fullmatch(".*".join(re.escape(part) for part in case.pattern.split("{}")), case.reason)
    found = remedy_of(case.source)(Gap(subject="x", metric=case.metric, reason=case.reason))
    assert found.is_natural is (case.says == NATURAL)
    if case.says in (NATURAL, NO_FIX):
        assert found.fix is None
    else:
        assert case.says in (found.fix or "")
    if case.says != NATURAL:
        assert found.lack == case.lack


@pytest.mark.parametrize("lack", Lack)
def test_every_lack_has_its_cost(lack: Lack) -> None:
    assert LOSSES[lack]

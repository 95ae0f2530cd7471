"""What to do about what a dcgm-exporter does not give: the lines of its counter list, the values of its charts."""

from collectors.dcgm.gaps import NOT_LISTED, UNREPORTED_UNDER_MIG
from collectors.dcgm.metrics import source_names
from collectors.diagnosis import Remedy
from planner.diagnosis import Lack
from planner.metrics import BY_NAME
from planner.readings import Gap

_CSV_PLACE = (
    "Add to the exporter's counter list (dcgm-exporter chart: value `customMetrics`; GPU Operator: a ConfigMap with "
    "key dcgm-metrics.csv, named in `dcgmExporter.config.name`):"
)
_PROFILING = (
    "Profiling fields need the capability SYS_ADMIN (chart: `securityContext.capabilities.add: [SYS_ADMIN]`), no other "
    "profiler on the node (`dcgmi profile --resume` after `dcgmi profile --pause`), and a GPU from Volta on."
)
_OLD_DRIVER = "Update the driver: NVIDIA/dcgm-exporter#380 names the versions that give no framebuffer under MIG."


_NODE = "Name the node in the source's table (`node = \"NAME\"`), or set NODE_NAME in the exporter's container."
_NO_GPU = "Look at the exporter's log and at `nvidia-smi` on its node: DCGM (nv-hostengine) may not be running there."
_NO_SERIES = "Add the dcgm-exporters to this Prometheus (a ServiceMonitor or a scrape job), or scrape them directly."
_BY_WORDS: tuple[tuple[str, str, Lack], ...] = (
    ("the exporter calls its node", _NODE, Lack.GPU_DETAILS),
    ("the exporter has no GPU", _NO_GPU, Lack.GPU),
    ("this server has no DCGM series", _NO_SERIES, Lack.GPU),
)
_BY_NATURE = ("not available under MIG", "MIG mode is on and no GPU instance is made")
_NO_SENSOR = "0 means that this board has no"


def remedy(gap: Gap) -> Remedy:
    """What brings the missing field, word for word."""
    if gap.reason.startswith(_BY_NATURE) or _NO_SENSOR in gap.reason:
        return Remedy(is_natural=True)
    for words, fix, lack in _BY_WORDS:
        if gap.reason.startswith(words):
            return Remedy(fix=fix, lack=lack)
    if gap.metric is None:
        return Remedy(lack=Lack.LINES)
    if gap.reason.startswith(UNREPORTED_UNDER_MIG):
        return Remedy(fix=_OLD_DRIVER)
    if NOT_LISTED not in gap.reason:
        return Remedy()
    names = source_names(gap.metric)
    if not names:
        return Remedy()
    needs = f"\n# {_PROFILING}" if any(name.startswith("DCGM_FI_PROF_") for name in names) else ""
    return Remedy(fix="\n".join((_CSV_PLACE, *_csv_lines(gap.metric, names))) + needs)


def _csv_lines(metric: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Field, Prometheus type, help, as in etc/default-counters.csv of dcgm-exporter; names of 1.x are in no list."""
    current = [name for name in names if name.startswith("DCGM_FI_")][:2]
    known = BY_NAME[metric]
    lines = [f"{name}, {known.kind.value}, {known.help.rstrip('.').replace(',', ';')}" for name in current]
    if len(lines) == 2:
        return ("# dcgm-exporter 4.9.0 and later", lines[0], "# before 4.9.0", lines[1])
    return tuple(lines)

"""Write docs/metrics.md from the tables: what each metric means and which source fields it is read from.

`python -m scripts.write_metrics_page` writes it; with --check it only says whether the page is up to date.
"""

import sys
from pathlib import Path

from collectors.dcgm.metrics import ROWS
from planner.metrics import METRICS, Metric

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

HEAD = """# Metrics

Written by `make docs` from `planner/metrics.py` and the `metrics.py` of each source. The name carries the unit; ratios
run from 0 to 1. A metric of level *gpu* describes the whole GPU, also where an exporter repeats it for every GPU
instance; one of level *device* describes the GPU, or the GPU instance it is reported for. Counters are kept as the
source counts them: they start again at 0 when the driver or the exporter does.

| metric | kind | level | meaning |
|---|---|---|---|
"""

FIELDS = """
## Fields of dcgm-exporter

All generations of its names are read, whichever an exporter uses.

| metric | field | read in |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    order = {metric.name: number for number, metric in enumerate(METRICS)}
    fields = [
        f"| `{row.metric}` | `{row.source_name}` | {row.source} |\n"
        for row in sorted(ROWS, key=lambda row: order[row.metric])
    ]
    return HEAD + "".join(_line(metric) for metric in METRICS) + FIELDS + "".join(fields)


def _line(metric: Metric) -> str:
    return f"| `{metric.name}` | {metric.kind.value} | {metric.level.value} | {metric.help} |\n"


def main() -> int:
    """0 when the page is (now) up to date."""
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        sys.stderr.write("docs/metrics.md is not what the tables say; write it with `make docs`\n")
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

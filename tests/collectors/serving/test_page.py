"""The page about this source says what its tables say."""

from pathlib import Path

from collectors.serving.metrics import TABLES
from planner.serving_metrics import SERVING_METRICS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_the_page_has_every_metric_of_every_engine() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith(("| `", "| metric"))]
    rows = [line.strip("|").split("|") for line in lines]
    table = {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}
    engines = table.pop("metric")
    assert set(engines) == {engine.value for engine in TABLES}
    for metric in SERVING_METRICS:
        read = {engine.value for engine, own in TABLES.items() if any(row.metric == metric.name for row in own.rows)}
        if not read:
            assert metric.name not in table  # Ollama's
            continue
        marks = dict(zip(engines, table[metric.name], strict=True))
        assert {engine for engine, mark in marks.items() if mark == "x"} == read, metric.name

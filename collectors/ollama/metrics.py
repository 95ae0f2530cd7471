"""What Ollama calls each of our metrics; adding a metric is adding a row."""

from collections.abc import Callable
from dataclasses import dataclass

from collectors.ollama.wire import RunningModel

OPENAPI = "ollama/ollama docs/openapi.yaml (0.33), GET /api/ps"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """One field of a loaded model: our metric, how to get it in base units, and where field and unit were read."""

    source_name: str
    metric: str
    value: Callable[[RunningModel], int | None]
    source: str

    def why_absent(self, model: RunningModel) -> str:
        """The reason of the gap where there is no value."""
        if model.is_more_than_all:
            return "size_vram in /api/ps is more than size, of which it is a part: one of them is wrong"
        return f"{self.source_name} in /api/ps is no number of bytes"


ROWS: tuple[MetricRow, ...] = (
    MetricRow(
        source_name="size",
        metric="model_loaded_bytes",
        value=lambda model: model.size,
        source=OPENAPI,
    ),
    MetricRow(
        source_name="size_vram",
        metric="model_device_bytes",
        value=lambda model: model.device_bytes,
        source=OPENAPI,
    ),
)

UNCOUNTED = ("requests_finished", "prompt_tokens", "generation_tokens")
"""What no version of Ollama counts; a gateway in front of it may."""

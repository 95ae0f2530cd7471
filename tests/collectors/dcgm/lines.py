"""How the tests spell exporter lines, read them, and look at what was read."""

from datetime import UTC, datetime

from collectors.dcgm.collector import read_exposition
from planner.readings import Batch, Gap

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TARGET = "gpu-a:9400"
UUID = "GPU-11111111-2222-3333-4444-555555555555"
OTHER = "GPU-99999999-2222-3333-4444-555555555555"


def read(text: str, *, node: str | None = None, target: str = TARGET) -> Batch:
    """What a text yields, scraped at a fixed time."""
    return read_exposition(text, observed_at=AT, source="test", target=target, node=node)


def line(
    name: str, value: object, *, uuid: str = UUID, gi: int | None = None, profile: str = "1g.5gb", **more: str | None
) -> str:
    """One line of an exporter of generation 4.8; a label that is None is left out."""
    labels = {
        "gpu": "0",
        "UUID": uuid,
        "pci_bus_id": "00000000:31:00.0",
        "device": "nvidia0",
        "modelName": "NVIDIA A100-SXM4-40GB",
        **({} if gi is None else {"GPU_I_PROFILE": profile, "GPU_I_ID": str(gi)}),
        "Hostname": "gpu-a",
        "DCGM_FI_DRIVER_VERSION": "580.105.08",
        **more,
    }
    block = ",".join(f'{key}="{text}"' for key, text in labels.items() if text is not None)
    return f"{name}{{{block}}} {value}\n"


def readings(batch: Batch) -> dict[tuple[str, str], float]:
    """Value by (subject, metric)."""
    found = {(str(reading.subject), reading.metric): reading.value for reading in batch.readings}
    assert len(found) == len(batch.readings), "a value was told twice"
    return found


def reasons(batch: Batch, metric: str | None) -> list[str]:
    """Why a metric is missing."""
    return [gap.reason for gap in batch.gaps if gap.metric == metric]


def gaps_of(batch: Batch, subject: str) -> list[Gap]:
    """What a device or target lacks."""
    return [gap for gap in batch.gaps if gap.subject == subject]

"""How numbers are spelled in the reasons that the planner gives, which are sentences for people.

Values in types stay in base units; views spell them with `dashboard/formatting.py`.
"""

from collections.abc import Sequence
from datetime import datetime

from planner.fleet import Pod
from planner.units import GIB, MIB


def spelled_bytes(value: float) -> str:
    """A number of bytes in GiB, or in MiB below one GiB."""
    return f"{value / GIB:.1f} GiB" if value >= GIB else f"{value / MIB:.0f} MiB"


def spelled_window(start: datetime, end: datetime) -> str:
    """A span of time that ends now."""
    minutes = round((end - start).total_seconds() / 60)
    return f"the last {minutes} minutes" if minutes <= 180 else f"the last {minutes / 60:.0f} hours"


def spelled_pods(pods: Sequence[Pod]) -> str:
    """Pods by namespace and name."""
    return ", ".join(f"{pod.namespace}/{pod.name}" for pod in pods)


def spelled_count(count: int, noun: str) -> str:
    """A number and its noun, with a plural s when it is not one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

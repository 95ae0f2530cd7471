"""Where GPU instances lie: `gpufleet agent` says it in a family of its own; DCGM has no field for it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from collectors.dcgm.wire import Line
from planner.readings import Subject

DEVICES_FAMILY = "gpufleet_device"
"""A line for every GPU and GPU instance, with `placement_start` where the agent knows it."""
PODS_FAMILY = "gpufleet_pod_on_device"
"""A line for each of several pods on one device."""


def placement_starts(
    lines: Iterable[tuple[Line, Sequence[tuple[str, float | None, str]]]],
) -> dict[Subject, int]:
    """The first placement unit of each GPU instance of which the agent tells it, in units of the board's grid.

    The label counts on the agent's own family alone: elsewhere it may be a label of somebody's pod. Of an instance with
    two starts neither is taken, as only one of them can be true.
    """
    told: dict[Subject, set[int]] = defaultdict(set)
    for line, values in lines:
        start = line.labels.placement_start
        if (
            start is not None
            and line.subject.gi_id is not None
            and any(name == DEVICES_FAMILY for name, _, _ in values)
        ):
            told[line.subject].add(start)
    return {subject: starts.pop() for subject, starts in told.items() if len(starts) == 1}

"""What an exporter does not give, said once: per device where few lack it, per exporter where many or all do."""

from collections import defaultdict

from collectors.dcgm.metrics import source_names
from planner.readings import Gap, Subject

MAX_LISTED = 3
"""Devices named one by one for one reason; what more of them lack is a trait of the node and said once."""
MAX_DEVICES_COUNTED = 4096
"""Devices remembered for one reason; hostile input must not grow without end."""

FRAMEBUFFER = ("memory_used_bytes", "memory_free_bytes")
ABSENT_UNDER_EMPTY_MIG = ("gpu_busy_ratio", *FRAMEBUFFER)
UNREPORTED_UNDER_MIG = "no framebuffer for this GPU instance: older drivers give none (NVIDIA/dcgm-exporter#380)"
NOT_LISTED = "in this exporter's counter list"
GIVEN_FOR_OTHERS = "given for other devices of this exporter and not for this one"


class GapBook:
    """Collects gaps of one target over one or many scrapes, and sums them up."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._noted: dict[tuple[str | None, str], set[str]] = defaultdict(set)
        self._missing: dict[str, set[Subject]] = defaultdict(set)
        self._given: dict[str, set[Subject]] = defaultdict(set)

    def note(self, subject: Subject | None, metric: str | None, reason: str) -> None:
        """This device (None: the target itself) lacks this metric, for this reason."""
        subjects = self._noted[metric, reason]
        if len(subjects) < MAX_DEVICES_COUNTED:
            subjects.add(self._target if subject is None else str(subject))

    def expect(self, subject: Subject, metric: str, *, is_given: bool) -> None:
        """This device should have this metric, and does or does not."""
        (self._given if is_given else self._missing)[metric].add(subject)

    def gaps(self) -> tuple[Gap, ...]:
        """Everything noted, in a stable order."""
        found = []
        for (metric, reason), subjects in self._noted.items():
            found += self._listed(metric, reason, subjects)
        for metric, missing in self._missing.items():
            missing -= self._given[metric]
            unreported = {subject for subject in missing if metric in FRAMEBUFFER and subject.gi_id is not None}
            others = missing - unreported
            found += self._listed(metric, UNREPORTED_UNDER_MIG, {str(subject) for subject in unreported})
            if others and not self._given[metric]:
                found.append(Gap(subject=self._target, metric=metric, reason=_never_given(metric)))
            else:
                found += self._listed(metric, GIVEN_FOR_OTHERS, {str(subject) for subject in others})
        return tuple(sorted(found, key=lambda gap: (gap.subject, gap.metric or "", gap.reason)))

    def _listed(self, metric: str | None, reason: str, subjects: set[str]) -> list[Gap]:
        if len(subjects) <= MAX_LISTED:
            return [Gap(subject=subject, metric=metric, reason=reason) for subject in subjects]
        return [Gap(subject=self._target, metric=metric, reason=f"{reason} ({len(subjects)} devices)")]


def _never_given(metric: str) -> str:
    if metric == "memory_total_bytes":
        return "neither a total nor used, free and reserved together are in this exporter's counter list"
    newest, *older = source_names(metric)
    names = f"{older[0]} (from 4.9.0 {newest})" if older else newest
    if newest.startswith("DCGM_FI_PROF_"):
        return f"{names} is not in this exporter's counter list, or profiling is not possible on this node"
    if metric in ABSENT_UNDER_EMPTY_MIG:
        return f"{names} is not in this exporter's counter list, or MIG mode is on without a GPU instance"
    return f"{names} is not in this exporter's counter list"

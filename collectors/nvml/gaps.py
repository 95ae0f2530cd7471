"""What a machine's GPUs do not give, said once: per device where few lack it, for the machine where many do."""

from collections import defaultdict

from planner.readings import Gap, Subject

MAX_LISTED = 3
"""Devices named one by one for one reason; what more of them lack is a trait of the machine and said once."""


class GapBook:
    """Collects gaps of one reading of one machine."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._noted: dict[tuple[str | None, str], dict[str, None]] = defaultdict(dict)

    def note(self, subject: Subject | str | None, metric: str | None, reason: str) -> None:
        """This device (None: the machine) lacks this metric, for this reason; noting it twice changes nothing."""
        self._noted[metric, reason][self._target if subject is None else str(subject)] = None

    def gaps(self) -> tuple[Gap, ...]:
        """Everything noted, in a stable order."""
        found = []
        for (metric, reason), subjects in self._noted.items():
            if len(subjects) <= MAX_LISTED:
                found += [Gap(subject=subject, metric=metric, reason=reason) for subject in subjects]
            else:
                found.append(Gap(subject=self._target, metric=metric, reason=f"{reason} ({len(subjects)} devices)"))
        return tuple(sorted(found, key=lambda gap: (gap.subject, gap.metric or "", gap.reason)))

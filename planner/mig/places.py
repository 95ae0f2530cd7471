"""GPU instances as places, and the workloads that go from one to another together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """One GPU instance, now or in the target."""

    gpu: str
    profile: str
    start: int
    compute_instances: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Workloads that go together from one GPU instance to another; `old` is None for those that do not run yet."""

    workloads: tuple[str, ...]
    old: Place | None
    kind: int  # units of one kind can take each other's slots

    @property
    def weight(self) -> int:
        """How many workloads are down while the unit is."""
        return 0 if self.old is None else len(self.workloads)

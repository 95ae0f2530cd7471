"""A stand-in for one MIG GPU under its driver: what it does when told to, and what it refuses.

Written from the documentation alone and apart from the planner, so that it can judge plans: MIG User Guide (r580 and
r590: placement, order of destruction, GPU reset on Ampere), nvml.h 13 (possible placements, media engines) and the
messages of `nvidia-smi mig`. It knows the lowest level only; `planner/mig/driver.py` runs whole plans on it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from planner.errors import DriverRefusal
from planner.hardware import Board, Placement, Profile

_COMPUTE_SLICES = re.compile(r"^(\d+)c\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceState:
    """One GPU instance at one moment. `compute_instances` as it was created: empty for one over all of it."""

    profile: str
    start: int
    compute_instances: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """One GPU at one moment; instances by start."""

    id: str
    node: str
    board: str
    mig_enabled: bool
    instances: tuple[InstanceState, ...]


@dataclass(slots=True, kw_only=True)
class _ComputeInstance:
    profile: str
    workload: str | None = None


@dataclass(slots=True, kw_only=True)
class _GpuInstance:
    profile: Profile
    placement: Placement
    created_with: tuple[str, ...] = ()
    compute_instances: list[_ComputeInstance] = field(default_factory=list)

    @property
    def workloads(self) -> tuple[str, ...]:
        return tuple(one.workload for one in self.compute_instances if one.workload is not None)


class SimulatedGpu:
    """One GPU under a driver. Every method is one thing that a driver is told to do; it raises DriverRefusal."""

    def __init__(self, id: str, node: str, board: Board, *, mig_enabled: bool, is_occupied_whole: bool = False) -> None:
        self.id = id
        self.node = node
        self.board = board
        self.mig_enabled = mig_enabled
        self._is_occupied_whole = is_occupied_whole
        self._instances: dict[int, _GpuInstance] = {}  # by start: no two can share one

    def state(self) -> GpuState:
        """A snapshot."""
        return GpuState(
            id=self.id,
            node=self.node,
            board=self.board.name,
            mig_enabled=self.mig_enabled,
            instances=tuple(
                InstanceState(
                    profile=one.profile.name,
                    start=start,
                    compute_instances=one.created_with,
                    workloads=one.workloads,
                )
                for start, one in sorted(self._instances.items())
            ),
        )

    def check(self, expected: Iterable[tuple[str, int]]) -> None:
        """Compare the placements with what is expected: (profile, start) of every instance."""
        wanted = sorted(expected, key=lambda one: (one[1], one[0]))
        found = [(one.profile.name, start) for start, one in sorted(self._instances.items())]
        if wanted != found:
            raise self._refusal("check the instances", f"{_listed(wanted)} should be there, but {_listed(found)} is")

    def enable_mig(self) -> None:
        """Switch MIG mode on; Ampere resets the GPU for it."""
        if self.mig_enabled:
            return
        if not self.board.profiles:
            raise self._refusal("enable MIG mode", f"{self.board.name} has none")
        self._switch_mode("enable MIG mode")
        self.mig_enabled = True

    def disable_mig(self) -> None:
        """Switch MIG mode off; Ampere resets the GPU for it, which destroys its instances."""
        if not self.mig_enabled:
            return
        if self.board.mig_enable_resets_gpu is False and self._instances:
            raise self._refusal("disable MIG mode", "GPU instances exist: In use by another client")
        self._switch_mode("disable MIG mode")
        self.mig_enabled = False

    def create_gpu_instance(self, profile_name: str, start: int) -> None:
        """A GPU instance at that very start."""
        asked = f"create {profile_name} at {start}"
        if not self.mig_enabled:
            raise self._refusal(asked, "MIG mode is off")
        profile = next((one for one in self.board.profiles if one.name == profile_name), None)
        if profile is None:
            raise self._refusal(asked, f"{self.board.name} has no such profile")
        placement = next((one for one in profile.placements if one.start == start), None)
        if placement is None:
            starts = ", ".join(str(one.start) for one in profile.placements)
            raise self._refusal(asked, f"its starts on {self.board.name} are {starts or 'not known'}")
        for other in self._instances.values():
            if set(other.placement.span) & set(placement.span):
                what = f"{other.profile.name} at {other.placement}"
                raise self._refusal(asked, f"it overlaps {what}: Insufficient Resources")
        there = [one.profile for one in self._instances.values()]
        if sum(one.name == profile_name for one in there) >= profile.max_instances:
            raise self._refusal(asked, f"the board allows {profile.max_instances} of them: Insufficient Resources")
        for one in there:
            if _claim_same_engines(one, profile):
                raise self._refusal(asked, f"{one.name} holds media engines that it needs: Insufficient Resources")
        for exclusion in self.board.exclusions:
            if exclusion.excludes([*(one.kind for one in there), profile.kind]):
                raise self._refusal(asked, f"{exclusion.reason}: Insufficient Resources")
        self._instances[start] = _GpuInstance(profile=profile, placement=placement)

    def create_compute_instances(self, start: int, names: tuple[str, ...] = ()) -> None:
        """Compute instances inside the GPU instance at `start`; without names one over all of it."""
        asked = f"create compute instances at {start}"
        instance = self._instance(asked, start)
        wanted = [(name, _compute_slices(name, instance.profile)) for name in names or (instance.profile.name,)]
        taken = sum(_compute_slices(one.profile, instance.profile) for one in instance.compute_instances)
        if taken + sum(slices for _, slices in wanted) > instance.profile.compute_slices:
            room = instance.profile.compute_slices - taken
            raise self._refusal(asked, f"{instance.profile.name} has {room} free compute slices")
        instance.compute_instances += [_ComputeInstance(profile=name) for name, _ in wanted]
        instance.created_with = (*instance.created_with, *names)

    def destroy_compute_instance(self, start: int) -> None:
        """The last of the compute instances in the GPU instance at `start`."""
        asked = f"destroy a compute instance at {start}"
        instance = self._instance(asked, start)
        if not instance.compute_instances:
            raise self._refusal(asked, f"{instance.profile.name} has none")
        workload = instance.compute_instances[-1].workload
        if workload is not None:
            raise self._refusal(asked, f"{workload} runs on it: In use by another client")
        instance.compute_instances.pop()
        instance.created_with = instance.created_with[:-1]

    def destroy_gpu_instance(self, profile_name: str, start: int) -> None:
        """The GPU instance at `start`, once it has no compute instances."""
        asked = f"destroy {profile_name} at {start}"
        instance = self._instance(asked, start, profile_name)
        if instance.compute_instances:
            raise self._refusal(asked, "it has compute instances: In use by another client")
        del self._instances[start]

    def compute_instance_count(self, profile_name: str, start: int) -> int:
        """How many compute instances the GPU instance has."""
        return len(self._instance(f"look at {profile_name} at {start}", start, profile_name).compute_instances)

    def start_workload(self, workload: str, profile_name: str, start: int) -> None:
        """Run the workload on a vacant compute instance of the GPU instance."""
        asked = f"start {workload} on {profile_name} at {start}"
        instance = self._instance(asked, start, profile_name)
        if workload in instance.workloads:
            raise self._refusal(asked, "it already runs there")
        vacant = next((one for one in instance.compute_instances if one.workload is None), None)
        if vacant is None:
            users = ", ".join(instance.workloads)
            raise self._refusal(asked, f"{users} runs there" if users else "it has no compute instance")
        vacant.workload = workload

    def stop_workload(self, workload: str, profile_name: str, start: int) -> None:
        """End the workload there."""
        asked = f"stop {workload} on {profile_name} at {start}"
        instance = self._instance(asked, start, profile_name)
        running = next((one for one in instance.compute_instances if one.workload == workload), None)
        if running is None:
            raise self._refusal(asked, "it does not run there")
        running.workload = None

    def _switch_mode(self, asked: str) -> None:
        """A reset where the board needs one for the switch; one that is not known counts as needed."""
        running = [workload for one in self._instances.values() for workload in one.workloads]
        if self._is_occupied_whole:
            raise self._refusal(asked, "something holds the whole GPU: In use by another client")
        if running:
            raise self._refusal(asked, f"{', '.join(running)} runs on it: In use by another client")
        if self.board.mig_enable_resets_gpu is not False:
            self._instances.clear()

    def _instance(self, asked: str, start: int, profile_name: str | None = None) -> _GpuInstance:
        instance = self._instances.get(start)
        if instance is None or profile_name not in (None, instance.profile.name):
            there = f"{instance.profile.name} is there" if instance else "no GPU instance starts there"
            raise self._refusal(asked, there)
        return instance

    def _refusal(self, asked: str, why: str) -> DriverRefusal:
        return DriverRefusal(f"GPU {self.id} of node {self.node} refuses to {asked}: {why}.")


def _compute_slices(name: str, profile: Profile) -> int:
    found = _COMPUTE_SLICES.match(name)
    return int(found[1]) if found else profile.compute_slices


def _claim_same_engines(first: Profile, second: Profile) -> bool:
    """`+me.all` takes every media engine, and only `-me` needs none of them; two `+me` need the one OFA engine."""
    marks = [first.variant, second.variant]
    if marks[0] == "+me.all":
        return marks[1] != "-me"
    if marks[1] == "+me.all":
        return marks[0] != "-me"
    return marks == ["+me", "+me"]


def _listed(instances: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{profile} at {start}" for profile, start in instances) or "nothing"

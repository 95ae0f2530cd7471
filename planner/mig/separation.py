"""Replicas that must lie on distinct GPUs, where alike GPUs are only counted: what the counts must obey for that."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from planner.mig.columns import Row
from planner.mig.model import GpuClass, Model
from planner.solve import Solution


def minimise_separated(
    model: Model,
    cost: Mapping[int, float],
    *,
    is_whole: bool,
    time_limit_s: float,
    stopping: Callable[[], bool] | None,
) -> Solution | None:
    """The best solution whose replicas can be told apart; None when there is none.

    Solutions in which they cannot are cut off one by one, which leaves every possible plan. Raises as
    `Programme.minimise` does.
    """
    ends_at = time.monotonic() + time_limit_s
    while True:
        left = max(0.1, ends_at - time.monotonic())
        solution = model.programme.minimise(cost, is_whole=is_whole, time_limit_s=left, stopping=stopping)
        if solution is None or not _separate(model, solution.values):
            return solution


def _separate(model: Model, values: Sequence[int]) -> bool:
    """Cut off a solution in which services ask for more distinct GPUs of a class than can hold them; whether one was.

    For one profile, replicas fit on distinct GPUs exactly if for every set T of services their requests are no more
    than the sum over GPUs of min(|T|, instances there) (Gale 1957, Ryser 1957); the set that breaks it is among the
    most numerous. Over all profiles together the same is necessary, though not sufficient.
    """
    by_profile: dict[tuple[int, str, str], dict[Row, list[int]]] = defaultdict(lambda: defaultdict(list))
    for (number, row, profile), variable in model.named.items():
        if values[variable] and model.classes[number].limit > 1:
            service = replace(row, profile="")
            by_profile[number, row.tenant, profile][service].append(variable)
            by_profile[number, row.tenant, ""][service].append(variable)
    found = False
    for (number, tenant, profile), requests in by_profile.items():
        supply = _supply(model.classes[number], profile, tenant)
        amounts = sorted(((sum(values[v] for v in vs), vs) for vs in requests.values()), key=lambda a: (-a[0], a[1]))
        total = 0
        for size, (amount, _) in enumerate(amounts, 1):
            total += amount
            if total > sum(values[variable] * min(size, count) for variable, count in supply.items()):
                cut = {variable: float(min(size, count)) for variable, count in supply.items()}
                cut.update({variable: -1.0 for _, variables in amounts[:size] for variable in variables})
                model.programme.row(cut, at_least=0)
                found = True
                break
    return found


def _supply(gpu_class: GpuClass, profile: str, tenant: str) -> dict[int, int]:
    """Instances that each column offers: of the profile, or of any."""
    found: dict[int, int] = {}
    for variable, column in gpu_class.variables():
        if column.tenant == tenant:
            found[variable] = column.extra[gpu_class.names.index(profile)] if profile else sum(column.extra)
    return {variable: count for variable, count in found.items() if count}

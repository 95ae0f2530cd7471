"""The rules beside geometry and demand, each as constraints of the programme."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from planner.mig.model import Model
from planner.mig.problem import Spread
from planner.mig.state import State


def unit_conflict(state: State) -> str | None:
    """Why one GPU instance alone breaks a rule, as its workloads cannot be parted; None when none does."""
    for present in state.gpus:
        for kind, instance in present.units:
            where = f"{kind.profile} at {kind.start} of {present.gpu.id}"
            if kind.row.is_mixed:
                return f"{where} holds work of tenants that must not share a GPU, on compute instances of one instance."
            ruled = [state.ruled_service[name] for name in instance.workloads if name in state.ruled_service]
            if len(set(ruled)) < len(ruled):
                return f"{where} holds replicas that must be spread, on compute instances of one instance."
    return None


def frozen_conflict(state: State) -> str | None:
    """Why what must stay as it is already breaks a rule; None when it does not."""
    seen: Counter[tuple[str, str]] = Counter()
    for present in state.gpus:
        if not present.is_frozen:
            continue
        tenants = {kind.row.tenant for kind, _ in present.units}
        if len(tenants) > 1:
            return f"{present.gpu.id} must stay as it is and holds work of tenants that must not share a GPU."
        for service in (service for kind, _ in present.units for service in kind.row.services):
            place = present.gpu.id if state.spread[service] is Spread.GPU else present.gpu.node
            seen[service, place] += 1
            if seen[service, place] > 1:
                return f"{place} must stay as it is and holds two replicas of {service}, which must be spread."
    return None


def keep_single(model: Model) -> None:
    """All GPUs of a node with strategy `single` end with the profile that was chosen for the node."""
    for single in model.singles:
        choices = [*single.profiles, *([""] if single.may_be_without_mig else [])]
        if not choices:
            model.impossible = f"No one profile fits all GPUs of {single.nodes[0]}, whose MIG strategy is single."
            continue
        single.chosen = {choice: model.programme.variable(single.limit) for choice in choices}
        number = dict.fromkeys(single.chosen.values(), 1.0)
        if single.nodes:
            model.programme.row(number, at_least=single.limit, at_most=single.limit)
        else:
            model.programme.row(number, at_most=single.limit)
    for gpu_class in model.classes:
        if gpu_class.single is None or not gpu_class.single.chosen:
            continue
        for choice, chosen in gpu_class.single.chosen.items():
            coefficients = {v: 1.0 for v, column in gpu_class.variables() if column.only == choice}
            model.programme.row({**coefficients, chosen: -float(gpu_class.per_node)}, at_least=0, at_most=0)


def keep_spread(model: Model) -> None:
    """At most one replica of a service on a GPU that is in use, or on a node."""
    state = model.state
    sums: dict[tuple[str, object], dict[int, float]] = defaultdict(dict)
    for number, gpu_class in enumerate(model.classes):
        for variable, column in gpu_class.variables():
            for index in column.kept:
                for service in gpu_class.units[index].row.services:
                    by_gpu = state.spread[service] is Spread.GPU
                    sums[service, number if by_gpu else gpu_class.node][variable] = 1.0
    for (number, row, _), variable in model.named.items():
        for service in row.services:
            by_gpu = state.spread[service] is Spread.GPU
            sums[service, number if by_gpu else model.classes[number].node][variable] = 1.0
    taken = {
        (service, present.gpu.node)
        for present in state.gpus
        if present.is_frozen
        for kind, _ in present.units
        for service in kind.row.services
        if state.spread[service] is Spread.NODE
    }
    for (service, place), coefficients in sums.items():
        if isinstance(place, int):
            for variable, column in model.classes[place].variables():
                if column.used:
                    coefficients[variable] = coefficients.get(variable, 0.0) - 1.0
            model.programme.row({v: amount for v, amount in coefficients.items() if amount}, at_most=0)
        else:
            model.programme.row(coefficients, at_most=0 if (service, place) in taken else 1)


def keep_reserves(model: Model) -> None:
    state = model.state
    for reserve in sorted(state.problem.rules.reserves, key=lambda reserve: (reserve.profile, reserve.count)):
        frozen = sum(
            1
            for present in state.gpus
            if present.is_frozen
            for instance in present.instances
            if instance.profile == reserve.profile and not instance.workloads
        )
        coefficients: dict[int, float] = {}
        for gpu_class in model.classes:
            if reserve.profile in gpu_class.names:
                position = gpu_class.names.index(reserve.profile)
                for variable, column in gpu_class.variables():
                    if column.extra[position]:
                        coefficients[variable] = float(column.extra[position])
        for (_, profile, _), variable in model.pooled.items():
            if profile == reserve.profile:
                coefficients[variable] = -1.0
        for (_, _, profile), variable in model.named.items():
            if profile == reserve.profile:
                coefficients[variable] = -1.0
        if coefficients:
            model.programme.row(coefficients, at_least=reserve.count - frozen)
        elif reserve.count > frozen:
            model.impossible = f"No GPU can hold the {reserve.count} free {reserve.profile} that must be kept."


def survive_node_loss(model: Model) -> None:
    """For every node and profile: instances elsewhere are at least as many as workloads sit on that profile at all."""
    state = model.state
    profiles = {name for gpu_class in model.classes for name in gpu_class.names}
    frozen_instances: Counter[tuple[str, str]] = Counter()
    frozen_work: Counter[str] = Counter()
    for present in state.gpus:
        if present.is_frozen:
            for instance in present.instances:
                profiles.add(instance.profile)
                frozen_instances[present.gpu.node, instance.profile] += 1
                frozen_work[instance.profile] += bool(instance.workloads)
    nodes = dict.fromkeys([*(present.gpu.node for present in state.gpus), *(c.node for c in model.classes if c.node)])
    for profile in sorted(profiles):
        held: dict[int, float] = {}  # workloads on that profile
        room: dict[str, dict[int, float]] = defaultdict(dict)
        for gpu_class in model.classes:
            position = gpu_class.names.index(profile) if profile in gpu_class.names else None
            for variable, column in gpu_class.variables():
                kept = sum(gpu_class.units[index].profile == profile for index in column.kept)
                extra = column.extra[position] if position is not None else 0
                if kept:
                    held[variable] = float(kept)
                if kept + extra:
                    room[gpu_class.node or ""][variable] = float(kept + extra)
        for (_, served, _), variable in model.pooled.items():
            if served == profile:
                held[variable] = 1.0
        for (_, _, served), variable in model.named.items():
            if served == profile:
                held[variable] = 1.0
        if not room:
            if frozen_work[profile]:
                _survive_frozen(model, profile, nodes, frozen_instances, frozen_work)
            continue
        # One variable for what there is more than work in all keeps the row of each node short.
        everywhere: dict[int, float] = defaultdict(float)
        for amounts in room.values():
            for variable, amount in amounts.items():
                everywhere[variable] += amount
        for variable, amount in held.items():
            everywhere[variable] -= amount
        spare = model.programme.variable()
        in_all = sum(count for (_, name), count in frozen_instances.items() if name == profile)
        constant = frozen_work[profile] - in_all
        balance = {variable: amount for variable, amount in everywhere.items() if amount}
        model.programme.row({**balance, spare: -1.0}, at_least=constant, at_most=constant)
        for node in nodes:
            own = {variable: -amount for variable, amount in room.get(node, {}).items()}
            model.programme.row({**own, spare: 1.0}, at_least=frozen_instances[node, profile])


def _survive_frozen(
    model: Model,
    profile: str,
    nodes: Iterable[str],
    frozen_instances: Mapping[tuple[str, str], int],
    frozen_work: Mapping[str, int],
) -> None:
    """The same where nothing of the profile may change."""
    in_all = sum(count for (_, name), count in frozen_instances.items() if name == profile)
    for node in nodes:
        if in_all - frozen_instances.get((node, profile), 0) < frozen_work[profile]:
            model.impossible = f"Work on {profile} that must stay as it is cannot survive the loss of {node}."

"""From counts to names: the layout of every GPU that a solution stands for, with its workloads."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.errors import PlanContradiction
from planner.hardware import PlacedInstance
from planner.mig.arrange import Spot, arrange, not_in_the_way
from planner.mig.filling import fill_named, fill_pooled, hold_for_node_loss, hold_reserves, items_of
from planner.mig.model import Model
from planner.mig.open_gpus import OpenGpu, name_elastic, open_gpus
from planner.mig.order import natural_key
from planner.mig.plan import TargetGpu, TargetInstance
from planner.mig.state import PresentGpu, PresentInstance
from planner.mig_geometry import is_legal, maximal_layouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Realised:
    """The target GPUs in the order of the problem, then elastic ones; who was left out; who may change places."""

    gpus: tuple[TargetGpu, ...]
    unplaced: tuple[str, ...]
    groups: dict[str, int]


def realise(model: Model, values: Sequence[int]) -> Realised:
    """Names for a solution; raises PlanContradiction when its counts do not tell spread replicas apart."""
    gpus = list(open_gpus(model, values))
    items, unplaced, groups = items_of(model, values, gpus)
    fill_named(model, values, gpus, items)
    fill_pooled(model, values, gpus, items)
    left = sum(map(len, items.values()))
    if left:
        raise PlanContradiction(f"{left} requests found no instance, though the counts have one for each.")
    hold_reserves(model, gpus)
    if model.state.problem.rules.survive_node_loss:
        hold_for_node_loss(model, gpus)
    name_elastic(model, gpus)
    single = model.state.problem.rules.is_single
    by_id = {gpu.id: gpu for gpu in gpus}
    targets = []
    for present in model.state.gpus:
        gpu = by_id.get(present.gpu.id)
        is_open = gpu is not None and gpu.present is not None
        targets.append(_target(gpu, single(present.gpu.node)) if gpu and is_open else _unchanged(present))
    elastic = [gpu for gpu in gpus if gpu.present is None and gpu.placed]
    elastic.sort(key=lambda gpu: (natural_key(gpu.node), natural_key(gpu.id)))
    targets += [_target(gpu, single(gpu.node)) for gpu in elastic]
    return Realised(gpus=tuple(targets), unplaced=unplaced, groups=groups)


def _unchanged(present: PresentGpu) -> TargetGpu:
    instances = tuple(
        TargetInstance(profile=i.profile, start=i.start, workloads=i.workloads, compute_instances=i.compute_instances)
        for i in present.instances
    )
    return TargetGpu(id=present.gpu.id, node=present.gpu.node, board=present.gpu.board, instances=instances)


def unchanged(model_gpus: Sequence[PresentGpu]) -> tuple[TargetGpu, ...]:
    """The present state as a target."""
    return tuple(_unchanged(present) for present in model_gpus)


def _target(gpu: OpenGpu, is_single: bool) -> TargetGpu:
    kept = tuple((instance.profile, instance.start) for instance in gpu.kept)
    was_free = [i for i in gpu.present.instances if not i.workloads] if gpu.present else []
    existing = tuple((i.profile, i.start) for i in was_free)
    placed = sorted(gpu.placed, key=lambda entry: entry[0])
    spots = arrange(gpu.board, kept, tuple(profile for profile, _ in placed), existing)
    instances = [
        TargetInstance(profile=i.profile, start=i.start, workloads=i.workloads, compute_instances=i.compute_instances)
        for i in gpu.kept
    ]
    for (_, item), (profile, start) in zip(placed, spots, strict=True):
        instances.append(
            TargetInstance(
                profile=profile,
                start=start,
                workloads=item.workloads if item else (),
                compute_instances=item.compute_instances if item else (),
                is_reserve=item is None,
            )
        )
    instances += _free_instances(gpu, [*kept, *spots], was_free, is_single)
    instances.sort(key=lambda instance: (instance.start, instance.profile))
    return TargetGpu(id=gpu.id, node=gpu.node, board=gpu.board, instances=tuple(instances), is_new=gpu.present is None)


def _free_instances(
    gpu: OpenGpu, spots: list[Spot], was_free: Sequence[PresentInstance], is_single: bool
) -> list[TargetInstance]:
    """Free instances that may stay: a vacated GPU is cleared, and a `single` node has no empty GPU and one profile."""
    only = gpu.column.only
    if is_single:
        if not only:
            return []
        was_free = [i for i in was_free if i.profile == only]
    elif gpu.present is not None and gpu.present.units and not spots:
        return []
    by_spot = {(i.profile, i.start): i for i in was_free}
    free = list(not_in_the_way(gpu.board, spots, [spot for spot in by_spot if spot not in spots]))
    while free and not is_legal(gpu.board, [_placed(gpu, spot) for spot in (*spots, *free)]):
        free.pop()  # counts or media engines do not allow all of them beside what is new
    if is_single and only and not spots and not free:
        layout = max(maximal_layouts(gpu.board, [only]), key=len)
        free = [(instance.profile, instance.placement.start) for instance in layout]
    return [
        TargetInstance(
            profile=profile,
            start=start,
            compute_instances=by_spot[profile, start].compute_instances if (profile, start) in by_spot else (),
        )
        for profile, start in free
    ]


def _placed(gpu: OpenGpu, spot: Spot) -> PlacedInstance:
    for profile in gpu.board.profiles:
        if profile.name == spot[0]:
            return PlacedInstance(profile.name, next(p for p in profile.placements if p.start == spot[1]))
    raise AssertionError(f"{gpu.board.name} has no profile {spot[0]}")  # spots come from the board

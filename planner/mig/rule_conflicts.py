"""Rules that name what is not there, contradict each other, or what is pinned: no plan could ever obey them.

That a plan cannot be found for lack of GPUs is no conflict; the planner answers that, with what would help.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from planner.hardware import Board, Profile
from planner.mig.file_shape import nearest, shortened
from planner.mig.problem import EVERY, Problem, ProblemGpu, RunningInstance, Spread, Workload

Conflict = tuple[str, str]
"""Where, and what."""


def rule_conflicts(problem: Problem) -> Iterator[Conflict]:
    """Every conflict, with its place in the problem file."""
    rules = problem.rules
    workloads = [*problem.workloads, *problem.new]
    nodes = {gpu.node for gpu in problem.gpus}
    yield from _unknown("rules.single_nodes", rules.single_nodes, nodes, "node of a GPU")
    yield from _unknown("rules.untouchable_nodes", rules.untouchable_nodes, nodes, "node of a GPU", every=False)
    gpus = {gpu.id for gpu in problem.gpus}
    yield from _unknown("rules.untouchable_gpus", rules.untouchable_gpus, gpus, "GPU", every=False)
    services = {workload.service for workload in workloads if workload.service is not None}
    yield from _unknown("rules.spread", rules.spread, services, "service of a workload")
    tenants = {workload.tenant for workload in workloads if workload.tenant is not None}
    yield from _unknown("rules.isolated_tenants", rules.isolated_tenants, tenants, "tenant of a workload")
    yield from _repeated("reserve", [reserve.profile for reserve in rules.reserves])
    yield from _repeated("upsize", [upsize.profile for upsize in rules.upsizes])
    yield from _upsizes_that_are_not_larger(problem)
    if rules.spread or rules.isolated_tenants or rules.single_nodes:
        yield from _conflicts_with_what_stays(problem)


def _unknown(
    place: str, named: Collection[str], known: Collection[str], what: str, *, every: bool = True
) -> Iterator[Conflict]:
    for name in sorted(named):
        if name not in known and not (every and name == EVERY):
            yield place, f"{shortened(name)} is no {what} in this problem.{nearest(name, sorted(known))}"


def _repeated(rule: str, profiles: Sequence[str]) -> Iterator[Conflict]:
    for index, profile in enumerate(profiles):
        first = profiles.index(profile)
        if first != index:
            yield f"rules.{rule}[{index}].profile", f"rules.{rule}[{first}] is for {profile} too; make them one entry."


def _upsizes_that_are_not_larger(problem: Problem) -> Iterator[Conflict]:
    if not problem.rules.upsizes:
        return
    boards = {gpu.board for gpu in problem.gpus} | set(problem.elastic.boards if problem.elastic else ())
    for index, upsize in enumerate(problem.rules.upsizes):
        for number, name in enumerate(upsize.to):
            if name in upsize.to[:number]:
                yield f"rules.upsize[{index}].to[{number}]", f"{name} is named twice."
            elif not _is_larger(boards, upsize.profile, name):
                yield (
                    f"rules.upsize[{index}].to[{number}]",
                    f"{name} does not provide everything that {upsize.profile} does; name a larger profile.",
                )


def _is_larger(boards: Collection[Board], smaller: str, larger: str) -> bool:
    """Whether it provides at least as much of everything, on each board that has both; else on any two boards."""
    if smaller == larger:
        return False
    pairs: list[tuple[Profile, Profile]] = []
    across: list[tuple[Profile, Profile]] = []
    for one in boards:
        for other in boards:
            asked = next((profile for profile in one.profiles if profile.name == smaller), None)
            given = next((profile for profile in other.profiles if profile.name == larger), None)
            if asked is not None and given is not None:
                (pairs if one is other else across).append((asked, given))
    if pairs:  # bytes differ a little from place to place on one GPU, slices do not
        return all(
            _provides(given, asked) and (given.memory_slices or 0) >= (asked.memory_slices or 0)
            for asked, given in pairs
        )
    return all(
        _provides(given, asked) and _is_enough(given.memory_bytes, asked.memory_bytes) for asked, given in across
    )


def _provides(given: Profile, asked: Profile) -> bool:
    if asked.graphics and not given.graphics:
        return False
    engines = ("decoders", "encoders", "jpeg_engines", "optical_flow_engines")
    if asked.media_extensions and not given.media_extensions and any(getattr(given, name) is None for name in engines):
        return False
    enough = all(_is_enough(getattr(given, name), getattr(asked, name)) for name in ("sm_count", *engines))
    return enough and given.compute_slices >= asked.compute_slices


def _is_enough(given: int | None, asked: int | None) -> bool:
    """What is not known of one of them is not held against it."""
    return given is None or asked is None or given >= asked


def _conflicts_with_what_stays(problem: Problem) -> Iterator[Conflict]:
    """What is pinned or untouchable stays where it is, and what shares an instance stays together."""
    by_id = {workload.id: workload for workload in problem.workloads}
    nodes: dict[str, list[Workload]] = defaultdict(list)
    single: dict[str, list[tuple[ProblemGpu, RunningInstance]]] = defaultdict(list)
    for gpu in problem.gpus:
        is_untouchable = problem.rules.is_untouchable(gpu)
        staying: list[Workload] = []
        for instance in gpu.instances:
            held = [by_id[name] for name in instance.workloads if name in by_id]
            stays = is_untouchable or any(workload.pinned for workload in held)
            if stays:
                staying += held
            elif len(held) > 1:
                place = f"the compute instances of one {instance.profile} on GPU {shortened(gpu.id)}"
                yield from _shared_gpu(problem, held, place)
            if stays and problem.rules.is_single(gpu.node):
                single[gpu.node].append((gpu, instance))
        yield from _shared_gpu(problem, staying, f"GPU {shortened(gpu.id)}, where they are pinned or untouchable")
        nodes[gpu.node] += staying
    for node, staying in nodes.items():
        yield from _shared_node(problem, staying, node)
    for node, fixed in single.items():
        yield from _single_node(problem, node, fixed)


def _shared_gpu(problem: Problem, together: Sequence[Workload], where: str) -> Iterator[Conflict]:
    if len(together) < 2:
        return
    seen: dict[str, Workload] = {}
    for workload in together:
        service = workload.service
        if service is None or problem.rules.spread_of(service) is None:
            continue
        if service in seen:
            both = f"{shortened(seen[service].id)} and {shortened(workload.id)}"
            yield "rules.spread", f"{both} of service {shortened(service)} stay together on {where}."
        seen[service] = workload
    kinds = {problem.rules.isolation_of(workload.tenant) for workload in together}
    if len(kinds) > 1:
        names = ", ".join(sorted({"none" if one.tenant is None else shortened(one.tenant) for one in together}))
        yield "rules.isolated_tenants", f"work of different tenants ({names}) stays together on {where}."


def _shared_node(problem: Problem, staying: Sequence[Workload], node: str) -> Iterator[Conflict]:
    seen: dict[str, Workload] = {}
    for workload in staying:
        service = workload.service
        if service is None or problem.rules.spread_of(service) is not Spread.NODE:
            continue
        if service in seen:
            both = f"{shortened(seen[service].id)} and {shortened(workload.id)}"
            where = f"node {shortened(node)}, where they are pinned or untouchable"
            yield "rules.spread", f"{both} of service {shortened(service)} stay together on {where}."
        seen[service] = workload


def _single_node(
    problem: Problem, node: str, fixed: Sequence[tuple[ProblemGpu, RunningInstance]]
) -> Iterator[Conflict]:
    profiles = sorted({instance.profile for _, instance in fixed})
    if len(profiles) > 1:
        kept = f"{' and '.join(profiles)}, which are pinned or untouchable"
        sentence = f"node {shortened(node)} keeps {kept}; strategy `single` allows one profile on all its GPUs."
        yield "rules.single_nodes", sentence
    for gpu in problem.gpus:
        if gpu.node != node or (not gpu.occupied_whole and (gpu.instances or not problem.rules.is_untouchable(gpu))):
            continue
        why = "is held without MIG" if gpu.occupied_whole else "is untouchable and not cut"
        sentence = f"GPU {shortened(gpu.id)} {why}, and other GPUs of its node {shortened(node)} keep instances; "
        yield "rules.single_nodes", sentence + "strategy `single` needs all of them cut alike."

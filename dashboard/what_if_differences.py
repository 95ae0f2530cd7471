"""Two answers side by side: what went in and what came out, line by line."""

from collections.abc import Iterator
from dataclasses import dataclass

from dashboard.formatting import number
from dashboard.what_if_figures import gpu_changes, headline
from dashboard.what_if_plan import Answer
from planner.mig.plan import Status
from planner.sentences import spelled_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One line of a comparison."""

    name: str
    a: str
    b: str

    @property
    def is_different(self) -> bool:
        """Whether the two say different things."""
        return self.a != self.b


def differences(a: Answer, b: Answer) -> tuple[Difference, ...]:
    """What goes in and what comes out of both, line by line."""
    one, other = dict(_lines(a)), dict(_lines(b))
    return tuple(Difference(name=name, a=text, b=other[name]) for name, text in one.items())


def _lines(answer: Answer) -> Iterator[tuple[str, str]]:
    scenario, target = answer.scenario, answer.target
    changes = gpu_changes(answer)
    numbers = headline(answer, changes)
    gpus: dict[str, int] = {}
    for gpu in answer.problem.gpus:
        gpus[gpu.board.name] = gpus.get(gpu.board.name, 0) + 1
    wanted: dict[str, int] = {}
    for request in scenario.requests:
        wanted[request.profile] = wanted.get(request.profile, 0) + request.count
    elastic = f", as many {' or '.join(scenario.elastic_boards)} as needed" if scenario.elastic_boards else ""
    yield "GPUs", (", ".join(f"{count} × {name}" for name, count in sorted(gpus.items())) or "none") + elastic
    yield "Requests", ", ".join(f"{count} × {name}" for name, count in wanted.items() if count) or "none"
    yield "Running workloads", f"{len(answer.problem.running_ids())}, {scenario.demand.value.replace('-', ' ')}"
    yield "Mode", scenario.mode.value
    yield "Rules", "; ".join(rule_lines(answer)) or "none"
    yield "Result", numbers.status
    yield "GPUs used", f"{numbers.gpus_after} (bound {numbers.gpus_bound})"
    yield "Cost per hour", "–" if numbers.cost_after is None else f"${numbers.cost_after:,.2f}"
    yield "Not placed", number(numbers.unplaced)
    yield "Moves", number(numbers.moves)
    yield "Interrupted", f"{number(numbers.down)}, at most {numbers.max_down} at once"
    yield "Stranded memory slices", number(numbers.stranded_after)
    yield "Larger than asked for", number(numbers.upsized)
    yield "Steps", number(len(answer.change.steps))
    yield "GPUs in no use", number(sum(not c.is_used for c in changes if c.before is not None))
    yield "Proof", "every level proven" if target.status is Status.OPTIMAL else numbers.gap or "not proven"


def rule_lines(answer: Answer) -> Iterator[str]:
    """The rules of the scenario, each in few words."""
    rules = answer.scenario.rules
    if rules.single_nodes:
        yield f"one profile on {_some(rules.single_nodes, 'node')}"
    if rules.spread:
        yield "replicas apart: " + ", ".join(
            f"{'every service' if service == '*' else service} by {spread.value}"
            for service, spread in rules.spread.items()
        )
    if rules.isolated_tenants:
        yield f"GPUs not shared by {_some(rules.isolated_tenants, 'tenant')}"
    for reserve in rules.reserves:
        yield f"{reserve.count} × {reserve.profile} free"
    if rules.survive_node_loss:
        yield "room for the loss of any node"
    for upsize in rules.upsizes:
        yield f"{upsize.profile} may be {' or '.join(upsize.to)} at {upsize.price:g}"
    if rules.untouchable_nodes or rules.untouchable_gpus:
        count = len(rules.untouchable_nodes)
        yield f"untouched: {spelled_count(count, 'node')}, {spelled_count(len(rules.untouchable_gpus), 'GPU')}"
    if answer.scenario.pinned:
        yield f"{spelled_count(len(answer.scenario.pinned), 'workload')} pinned"
    if rules.stay_on_board:
        yield "running work stays on its board"
    if rules.max_moves is not None:
        yield f"at most {spelled_count(rules.max_moves, 'move')}"


def _some(names: frozenset[str], noun: str) -> str:
    return f"every {noun}" if "*" in names else spelled_count(len(names), noun)

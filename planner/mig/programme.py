"""The integer programme of a planning problem: classes of alike GPUs, their columns, and what these must serve.

ARCHITECTURE.md ("The MIG planner") writes the same inequalities in symbols. A column's variable says how many GPUs of
its class end that way; requests that are alike are counted, not named. Only where a rule tells GPUs or nodes apart is
a class split, and only as far as the rule needs.
"""

from collections import defaultdict
from collections.abc import Mapping

from planner.mig.columns import Row
from planner.mig.gpu_classes import add_classes
from planner.mig.model import Model
from planner.mig.rule_rows import (
    frozen_conflict,
    keep_reserves,
    keep_single,
    keep_spread,
    survive_node_loss,
    unit_conflict,
)
from planner.mig.state import State
from planner.solve import Programme


def build(state: State, *, split: bool = False) -> Model:
    """The programme of a state: geometry, demand and every rule; with `split` every GPU is a class of its own."""
    model = Model(state=state, programme=Programme())
    model.impossible = unit_conflict(state) or frozen_conflict(state)
    served = _served_by(state)
    add_classes(model, served, split=split)
    _add_requests(model, served)
    _serve_requests(model)
    _limit_supply(model)
    _limit_classes(model)
    keep_single(model)
    keep_spread(model)
    keep_reserves(model)
    if state.problem.rules.survive_node_loss:
        survive_node_loss(model)
    if state.problem.rules.max_moves is not None:
        model.programme.row(model.moves(), at_most=state.problem.rules.max_moves)
    return model


def served_by(state: State, row: Row) -> tuple[str, ...]:
    """Profiles whose instances may serve a request of the row, its own first."""
    larger = [to for upsize in state.problem.rules.upsizes if upsize.profile == row.profile for to in upsize.to]
    return tuple(dict.fromkeys((row.profile, *larger)))


def _served_by(state: State) -> dict[Row, tuple[str, ...]]:
    return {row: served_by(state, row) if not row.compute_instances else (row.profile,) for row in state.rows}


def _add_requests(model: Model, served: Mapping[Row, tuple[str, ...]]) -> None:
    for row, profiles in served.items():
        demand = model.state.demand(row)
        waiting = len(model.state.waiting.get(row, ()))
        if waiting:
            model.unplaced[row] = model.programme.variable(waiting)
        for profile in profiles:
            able = [
                (n, c) for n, c in enumerate(model.classes) if profile in c.names and row.board in ("", c.board.name)
            ]
            for board in sorted({gpu_class.board.name for _, gpu_class in able}):
                if not row.services:
                    model.pooled[row, profile, board] = model.programme.variable(demand)
            for number, gpu_class in able:
                if row.services:
                    upper = min(demand, gpu_class.limit)
                    model.named[number, row, profile] = model.programme.variable(upper)


def _serve_requests(model: Model) -> None:
    """Every request of a row stays where it runs, is served elsewhere, or (if it waits) is left out."""
    sums: dict[Row, dict[int, float]] = {row: {} for row in model.state.rows}
    for gpu_class in model.classes:
        for variable, column in gpu_class.variables():
            for index in column.kept:
                row = gpu_class.units[index].row
                sums[row][variable] = sums[row].get(variable, 0.0) + 1
    for (row, _, _), variable in model.pooled.items():
        sums[row][variable] = 1.0
    for (_, row, _), variable in model.named.items():
        sums[row][variable] = 1.0
    for row, variable in model.unplaced.items():
        sums[row][variable] = 1.0
    for row, coefficients in sums.items():
        demand = model.state.demand(row)
        if coefficients:
            model.programme.row(coefficients, at_least=demand, at_most=demand)
        elif demand:
            model.impossible = f"Nothing can hold {row.profile}."


def _limit_supply(model: Model) -> None:
    """No more is served than instances are created, by profile, tenant and board; per class where one is named."""
    supply: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for gpu_class in model.classes:
        for variable, column in gpu_class.variables():
            for name, count in zip(gpu_class.names, column.extra, strict=True):
                if count:
                    supply[name, column.tenant, gpu_class.board.name][variable] = float(count)
    uses: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for (row, profile, board), variable in model.pooled.items():
        uses[profile, row.tenant, board][variable] = -1.0
    by_class: dict[tuple[int, str, str], dict[int, float]] = defaultdict(dict)
    for (number, row, profile), variable in model.named.items():
        uses[profile, row.tenant, model.classes[number].board.name][variable] = -1.0
        by_class[number, profile, row.tenant][variable] = -1.0
    for key, used in uses.items():
        model.programme.row({**supply.get(key, {}), **used}, at_least=0)
    for (number, profile, tenant), used in by_class.items():
        gpu_class = model.classes[number]
        position = gpu_class.names.index(profile)
        offers = ((v, c.extra[position]) for v, c in gpu_class.variables() if c.tenant == tenant)
        own = {variable: float(count) for variable, count in offers if count}
        model.programme.row({**own, **used}, at_least=0)


def _limit_classes(model: Model) -> None:
    for gpu_class in model.classes:
        everything = {variable: 1.0 for variable, _ in gpu_class.variables()}
        if not everything:
            model.impossible = f"{gpu_class.gpus[0].gpu.id} has no layout that respects the rules."
        elif gpu_class.single is None and not gpu_class.is_elastic:
            model.programme.row(everything, at_least=gpu_class.limit, at_most=gpu_class.limit)
        elif gpu_class.single is None:
            model.programme.row(everything, at_most=gpu_class.limit)

"""Which GPUs are alike: one class for all between which neither the present layout nor a rule makes a difference."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from planner.hardware import Board
from planner.mig.columns import ColumnSettings, Row, columns, single_columns
from planner.mig.model import GpuClass, Model, SingleNodes
from planner.mig.problem import Elastic, Spread
from planner.mig.state import PresentGpu

ELASTIC_NODES = 64
"""Where nodes are told apart each elastic one costs a class: so many, and more only where the work needs them."""


def add_classes(model: Model, served: Mapping[Row, tuple[str, ...]], *, split: bool) -> None:
    """All classes of the state: GPUs that exist, then elastic ones; with `split` every GPU is one of its own."""
    state = model.state
    rules = state.problem.rules
    by_node = rules.survive_node_loss or Spread.NODE in state.spread.values()
    wanted = {profile for profiles in served.values() for profile in profiles}
    wanted |= {reserve.profile for reserve in rules.reserves}
    for present in state.gpus:  # what cannot move is in demand only where room must be held for it elsewhere
        if rules.survive_node_loss or not present.is_frozen:
            wanted |= {kind.profile for kind, _ in present.units}
    tenants = tuple(sorted({row.tenant for row in state.rows} | ({""} if rules.reserves else set()))) or ("",)
    settings = ColumnSettings(mode=state.mode, tenants=tenants, is_plain=not rules.upsizes and not state.spread)
    adding = _Adding(model=model, wanted=frozenset(wanted), settings=settings)
    singles = _single_nodes(model, wanted, by_node)
    groups: dict[tuple[object, ...], list[PresentGpu]] = defaultdict(list)
    for present in state.gpus:
        if present.is_frozen:
            continue
        kinds = tuple(kind for kind, _ in present.units)
        single = singles.get(present.gpu.node)
        is_alone = split or any(kind.row.services for kind in kinds)
        groups[
            present.gpu.board.name,
            present.gpu.board.exclusions,
            kinds,
            present.gpu.node if by_node else "",
            id(single) if single else 0,
            present.gpu.id if is_alone else "",
        ].append(present)
    for gpus in groups.values():
        node = gpus[0].gpu.node
        single = singles.get(node)
        same_node = sum(present.gpu.node == node for present in gpus)
        adding.add(gpus[0].gpu.board, gpus, node if by_node else None, single, len(gpus), same_node)
    if state.problem.elastic is not None:
        _add_elastic(adding, state.problem.elastic, by_node=by_node, split=split)


def _add_elastic(adding: "_Adding", elastic: Elastic, *, by_node: bool, split: bool) -> None:
    model = adding.model
    requests = sum(map(model.state.demand, model.state.rows))
    requests += sum(reserve.count for reserve in model.state.problem.rules.reserves)
    most = 2 * requests + 1  # GPUs; no plan needs more
    size = elastic.gpus_per_node
    for board in elastic.boards:
        is_single = model.state.problem.rules.is_single(f"elastic-{board.name}-node-0")
        if by_node or (split and is_single):
            nodes = min(most, max(ELASTIC_NODES, math.ceil(most / size)))
            model.is_cut_short = model.is_cut_short or nodes < most
            for number in range(nodes):
                single = adding.elastic_single(board, 1) if is_single else None
                adding.add(board, (), f"elastic-{board.name}-node-{number}", single, size, size)
        elif split:
            nodes = min(most, ELASTIC_NODES)
            model.is_cut_short = model.is_cut_short or nodes < most
            for _ in range(nodes):
                adding.add(board, (), None, None, 1, 1)
        else:
            single = adding.elastic_single(board, most) if is_single else None
            adding.add(board, (), None, single, most * size if is_single else most, size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adding:
    """What every class of one model is made with."""

    model: Model
    wanted: frozenset[str]
    settings: ColumnSettings

    def names(self, board: Board) -> tuple[str, ...]:
        """Profiles in demand that the board has, in its order."""
        return tuple(profile.name for profile in board.profiles if profile.name in self.wanted)

    def elastic_single(self, board: Board, limit: int) -> SingleNodes:
        """Elastic nodes with strategy `single`."""
        single = SingleNodes(nodes=(), limit=limit, profiles=self.names(board), may_be_without_mig=True)
        self.model.singles.append(single)
        return single

    def add(
        self,
        board: Board,
        gpus: Sequence[PresentGpu],
        node: str | None,
        single: SingleNodes | None,
        limit: int,
        per_node: int,
    ) -> None:
        """One class with its columns and their variables."""
        names = self.names(board)
        kinds = tuple(kind for kind, _ in gpus[0].units) if gpus else ()
        if single is None:
            found = columns(board, kinds, names, self.settings)
        else:
            choices = {*single.profiles, *([""] if single.may_be_without_mig else [])}
            found = single_columns(board, kinds, names, self.settings, single.profiles)
            found = [column for column in found if column.only in choices]
        first = self.model.programme.variables
        for _ in found:
            self.model.programme.variable(limit)
        self.model.classes.append(
            GpuClass(
                board=board,
                units=kinds,
                gpus=tuple(gpus),
                node=node,
                single=single,
                per_node=per_node,
                limit=limit,
                names=names,
                columns=tuple(found),
                first=first,
            )
        )


def _single_nodes(model: Model, wanted: Iterable[str], by_node: bool) -> dict[str, SingleNodes]:
    """Nodes with strategy `single`, those that hold the same together, by node name."""
    state = model.state
    rules = state.problem.rules
    by_name: dict[str, list[PresentGpu]] = defaultdict(list)
    for present in state.gpus:
        if rules.is_single(present.gpu.node):
            by_name[present.gpu.node].append(present)
    groups: dict[object, list[str]] = defaultdict(list)
    for node, gpus in by_name.items():
        contents = Counter(
            (g.gpu.board.name, g.gpu.board.exclusions, tuple(kind for kind, _ in g.units))
            for g in gpus
            if not g.is_frozen
        )
        frozen = tuple(
            sorted((g.gpu.occupied_whole, tuple(sorted({i.profile for i in g.instances}))) for g in gpus if g.is_frozen)
        )
        named = node if by_node or any(k.row.services for g in gpus for k, _ in g.units) else ""
        groups[frozenset(contents.items()), frozen, named].append(node)
    found: dict[str, SingleNodes] = {}
    for nodes in groups.values():
        gpus = by_name[nodes[0]]
        names = set.intersection(*({p.name for p in g.gpu.board.profiles if p.placements} for g in gpus))
        held = {i.profile for present in gpus if present.is_frozen for i in present.instances}
        allowed = names & (set(wanted) | held)
        may_be_without = True
        for present in gpus:
            if present.is_frozen:
                profiles = {instance.profile for instance in present.instances}
                if len(profiles) > 1:
                    model.impossible = f"{present.gpu.id} must stay as it is, but its node may have one profile only."
                may_be_without = may_be_without and not profiles
                allowed = allowed & profiles if profiles else set()
        single = SingleNodes(
            nodes=tuple(nodes),
            limit=len(nodes),
            profiles=tuple(sorted(allowed)),
            may_be_without_mig=may_be_without,
        )
        model.singles.append(single)
        found.update(dict.fromkeys(nodes, single))
    return found

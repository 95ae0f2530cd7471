"""What a problem file means: names looked up in the catalogue, layouts checked, references resolved."""

from collections.abc import Iterable, Mapping

from planner.errors import InvalidProblem
from planner.hardware import Board
from planner.mig.file_shape import Mistakes, nearest, shortened
from planner.mig.problem import (
    EVERY,
    Elastic,
    Problem,
    ProblemGpu,
    Reserve,
    Rules,
    RunningInstance,
    Spread,
    Upsize,
    Workload,
)
from planner.mig.problem_boards import Boards
from planner.mig.problem_rows import GpuRow, InstanceRow, ProblemRow, RulesRow, WorkloadRow
from planner.mig.rule_conflicts import rule_conflicts


def problem_from_row(row: ProblemRow) -> Problem:
    """The problem of a file whose shape is checked; raises InvalidProblem."""
    problem = _Reader().problem(row)
    mistakes = Mistakes(InvalidProblem)
    for place, sentence in rule_conflicts(problem):
        mistakes.add(place, sentence)
    mistakes.raise_if_any()
    return problem


class _Reader:
    """Builds one problem, collecting mistakes on the way."""

    def __init__(self) -> None:
        self.mistakes = Mistakes(InvalidProblem)
        self.boards = Boards(self.mistakes)

    def problem(self, row: ProblemRow) -> Problem:
        gpus = self._gpus(row.gpus)
        elastic = self._elastic(row)
        if not row.gpus and row.elastic is None and (row.workloads or row.new):
            self.mistakes.add("", "it has requests and no GPU; list `gpus`, or name a board in `elastic`.")
        self.mistakes.raise_if_any()  # a board that is not known would make every profile unknown too
        workloads = self._workloads("workloads", row.workloads)
        new = self._workloads("new", row.new)
        self._references(row, gpus, workloads, new)
        problem = Problem(
            gpus=gpus,
            elastic=elastic,
            workloads=workloads,
            new=new,
            rules=self._rules(row.rules),
            prices=self.boards.prices(row.prices),
        )
        self.mistakes.raise_if_any()
        return problem

    def _gpus(self, rows: list[GpuRow]) -> tuple[ProblemGpu, ...]:
        seen: dict[str, int] = {}
        indexes: dict[tuple[str, int], int] = {}
        gpus = []
        for number, row in enumerate(rows):
            place = f"gpus[{number}]"
            if seen.setdefault(row.id, number) != number:
                first = seen[row.id]
                self.mistakes.add(f"{place}.id", f"{shortened(row.id)} is the id of gpus[{first}] too; ids are unique.")
            if row.index is not None and indexes.setdefault((row.node, row.index), number) != number:
                other = indexes[row.node, row.index]
                self.mistakes.add(f"{place}.index", f"gpus[{other}] of the same node has the index {row.index} too.")
            self.boards.check_driver(f"{place}.driver", row.driver)
            board = self.boards.board(f"{place}.board", row.board, row.driver, row.product)
            if board is None:
                continue
            gpus.append(
                ProblemGpu(
                    id=row.id,
                    node=row.node,
                    board=board,
                    instances=self._instances(place, row, board),
                    mig_enabled=row.mig_enabled,
                    occupied_whole=row.occupied_whole,
                    driver=row.driver,
                    product=row.product,
                    index=row.index,
                )
            )
        return tuple(gpus)

    def _instances(self, place: str, row: GpuRow, board: Board) -> tuple[RunningInstance, ...]:
        if not row.instances:
            return ()
        if row.occupied_whole:
            self.mistakes.add(f"{place}.occupied_whole", "a GPU that is held without MIG has no instances.")
        if row.mig_enabled is False:
            self.mistakes.add(f"{place}.mig_enabled", "a GPU with instances is in MIG mode; drop one or the other.")
        instances = []
        for index, one in enumerate(row.instances):
            profile = self.boards.instance_profile(f"{place}.instances[{index}].profile", board, one.profile)
            if profile is None:
                return ()
            instances.append(self._instance(f"{place}.instances[{index}]", one, board, profile))
        self.boards.check_layout(f"{place}.instances", board, tuple((one.profile, one.start) for one in instances))
        return tuple(instances)

    def _instance(self, place: str, row: InstanceRow, board: Board, profile: str) -> RunningInstance:
        if not row.compute_instances:
            held = (row.workload,) if row.workload is not None else ()
            return RunningInstance(profile=profile, start=row.start, workloads=held)
        if row.workload is not None:
            self.mistakes.add(f"{place}.workload", "name it in the compute instance that it runs on.")
        names = self.boards.compute_instances(
            f"{place}.compute_instances", board, profile, tuple(one.profile for one in row.compute_instances)
        )
        return RunningInstance(
            profile=profile,
            start=row.start,
            workloads=tuple(one.workload for one in row.compute_instances if one.workload is not None),
            compute_instances=() if names == (profile,) else names,
        )

    def _elastic(self, row: ProblemRow) -> Elastic | None:
        if row.elastic is None:
            return None
        if (row.elastic.board is None) == (row.elastic.boards is None):
            self.mistakes.add("elastic", "give either `board` or `boards`.")
            return None
        self.boards.check_driver("elastic.driver", row.elastic.driver)
        names = row.elastic.boards if row.elastic.boards is not None else [row.elastic.board or ""]
        found: dict[str, Board] = {}
        for index, name in enumerate(names):
            place = "elastic.board" if row.elastic.boards is None else f"elastic.boards[{index}]"
            board = self.boards.elastic_board(place, name, row.elastic.driver)
            if board is not None and found.setdefault(board.name, board) is board and len(found) <= index:
                self.mistakes.add(place, f"{board.name} is named twice.")
        return Elastic(boards=tuple(found.values()), gpus_per_node=row.elastic.gpus_per_node, driver=row.elastic.driver)

    def _workloads(self, key: str, rows: list[WorkloadRow]) -> tuple[Workload, ...]:
        names = {}
        for number, row in enumerate(rows):
            if row.profile not in names:
                names[row.profile] = self.boards.request_profile(f"{key}[{number}].profile", row.profile)
        return tuple(
            Workload(
                id=row.id,
                profile=names[row.profile] or row.profile,
                service=row.service,
                tenant=row.tenant,
                pinned=row.pinned,
            )
            for row in rows
        )

    def _references(
        self,
        row: ProblemRow,
        gpus: tuple[ProblemGpu, ...],
        workloads: tuple[Workload, ...],
        new: tuple[Workload, ...],
    ) -> None:
        """Ids of workloads are unique, and every instance names at most one that exists and that no other names."""
        places: dict[str, tuple[str, int]] = {}
        for key, listed in (("workloads", workloads), ("new", new)):
            for number, workload in enumerate(listed):
                first = places.setdefault(workload.id, (key, number))
                if first != (key, number):
                    other = f"{first[0]}[{first[1]}]"
                    sentence = f"{shortened(workload.id)} is the id of {other} too; ids are unique."
                    self.mistakes.add(f"{key}[{number}].id", sentence)
        holders: dict[str, str] = {}
        by_id = {workload.id: workload for workload in workloads}
        larger = _upsizes(self.boards, row.rules)
        for number, gpu in enumerate(gpus):
            for index, instance in enumerate(gpu.instances):
                for name in instance.workloads:
                    held = by_id.get(name)
                    fits = held is not None and (
                        held.profile == instance.profile or instance.profile in larger.get(held.profile, ())
                    )
                    if fits and name not in holders:
                        holders[name] = f"gpus[{number}].instances[{index}]"
                        continue
                    place = f"gpus[{number}].instances[{index}].workload"
                    self.mistakes.add(place, _wrong_reference(name, instance, held, holders, places))

    def _rules(self, row: RulesRow) -> Rules:
        reserves = tuple(
            Reserve(profile=self._rule_profile(f"rules.reserve[{index}].profile", one.profile), count=one.count)
            for index, one in enumerate(row.reserve)
        )
        upsizes = tuple(
            Upsize(
                profile=self._rule_profile(f"rules.upsize[{index}].profile", one.profile),
                to=tuple(
                    self._rule_profile(f"rules.upsize[{index}].to[{number}]", name)
                    for number, name in enumerate(one.to)
                ),
                price=one.price,
            )
            for index, one in enumerate(row.upsize)
        )
        return Rules(
            single_nodes=_names_or_all(row.single_nodes),
            spread={service: Spread(what) for service, what in row.spread.items()},
            isolated_tenants=_names_or_all(row.isolated_tenants),
            reserves=reserves,
            survive_node_loss=row.survive_node_loss,
            upsizes=upsizes,
            untouchable_gpus=frozenset(row.untouchable_gpus),
            untouchable_nodes=frozenset(row.untouchable_nodes),
            stay_on_board=row.stay_on_board,
            max_moves=row.max_moves,
        )

    def _rule_profile(self, place: str, name: str) -> str:
        return self.boards.request_profile(place, name) or name


def _upsizes(boards: Boards, row: RulesRow) -> dict[str, frozenset[str]]:
    """By requested profile, what may serve it; unknown names are reported where the rules are read."""
    found: dict[str, frozenset[str]] = {}
    for one in row.upsize:
        profile = boards.spelled(one.profile) or one.profile
        found[profile] = found.get(profile, frozenset()) | {boards.spelled(name) or name for name in one.to}
    return found


def _names_or_all(names: Iterable[str]) -> frozenset[str]:
    return frozenset({EVERY}) if names == "all" else frozenset(names)


def _wrong_reference(
    name: str,
    instance: RunningInstance,
    workload: Workload | None,
    holders: Mapping[str, str],
    places: Mapping[str, tuple[str, int]],
) -> str:
    if name in holders:
        return f"{shortened(name)} runs on {holders[name]} already; a workload has one instance."
    if workload is None:
        if name in places:
            return f"{shortened(name)} is listed under `new`, but it runs; list it under `workloads`."
        return f"no entry of `workloads` has the id {shortened(name)}.{nearest(name, list(places))}"
    return (
        f"{shortened(name)} asks for {workload.profile} and runs on {instance.profile}; correct one of them, or "
        f"allow it with an `upsize` rule from {workload.profile} to {instance.profile}."
    )

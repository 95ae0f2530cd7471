"""The best plan of a tiny problem by trying everything: no solver, no columns, no symmetry but equal empty GPUs.

Every GPU is filled in every possible way (which workloads stay, which come, on which profile, what else is cut), the
GPUs of a node are combined in every way, then the nodes. States that nothing tells apart are merged, keeping all that
are not worse in every objective. An unknown start must have been filled in before (`with_known_starts`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

from planner.hardware import Board
from planner.mig.plan import Mode
from planner.mig.problem import Problem, ProblemGpu, Spread, Workload
from tests.planner.mig.placement_table import arrangements, room_beside

WITHOUT_MOVES = (Mode.INITIAL, Mode.ADD_WITHOUT_MOVES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """Values of the levels, in their order."""

    unplaced: int
    spent: Fraction  # GPUs, or US dollars per hour, with the prices of upsizing
    moves: int
    upsized: int


Cost = tuple[Fraction, int, int]
"""Spent, moves, upsized."""

Vector = tuple[int, ...]

MOST_PAIRS = 400_000
"""Pairs of states that one step of the search may look at; the worst of them takes a few seconds."""


class TooManyStates(Exception):
    """The problem is too large to try everything."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """Workloads that live on one instance; `gpu` is None when they wait."""

    members: tuple[Workload, ...]
    gpu: str | None
    profile: str | None
    start: int | None
    options: tuple[tuple[str, Fraction, int], ...]  # profile, price of upsizing, workloads upsized

    @property
    def pinned(self) -> bool:
        return any(one.pinned for one in self.members)


@dataclass(frozen=True, slots=True)
class _Choice:
    """One way to leave a GPU, a node or the fleet: who is there, what exists by profile, what is free."""

    mask: int
    existing: Vector  # instances by tracked profile
    busy: Vector  # workloads by tracked profile of the instance they sit on
    free: Vector  # free instances by reserved profile
    most_in_a_node: Vector


def with_known_starts(problem: Problem) -> Iterator[Problem]:
    """The problem once for every way in which its GPUs can be arranged."""
    ways = []
    for gpu in problem.gpus:
        found = arrangements(gpu.board, tuple((one.profile, one.start) for one in gpu.instances))
        ways.append(
            [
                replace(
                    gpu,
                    instances=tuple(
                        replace(one, start=start) for one, start in zip(gpu.instances, starts, strict=True)
                    ),
                )
                for starts in found
            ]
        )
    for gpus in product(*ways):
        yield replace(problem, gpus=gpus)


def best(problem: Problem, mode: Mode) -> Best | None:
    """The values of the best plan; None when even what runs cannot stay under the rules; raises TooManyStates."""
    search = _Search(problem, mode)
    costs = {(search.unplaced(choice), *cost) for choice, front in search.complete() for cost in front}
    if not costs:
        return None
    unplaced, spent, moves, upsized = min(costs)
    return Best(unplaced=unplaced, spent=spent, moves=moves, upsized=upsized)


def fewest_moves(problem: Problem, mode: Mode) -> dict[int, int]:
    """For each number of GPUs that is enough, without prices: the fewest moves, falling as GPUs rise."""
    search = _Search(problem, mode)
    found: dict[int, int] = {}
    for choice, front in search.complete(every_price=True):
        if search.unplaced(choice) == 0:
            for spent, moves, _ in front:
                gpus = int(spent)
                found[gpus] = min(moves, found.get(gpus, moves))
    falling: dict[int, int] = {}
    for gpus in sorted(found):
        if not falling or found[gpus] < min(falling.values()):
            falling[gpus] = found[gpus]
    return falling


class _Search:
    def __init__(self, problem: Problem, mode: Mode) -> None:
        self.problem, self.mode, self.rules = problem, mode, problem.rules
        self.units = _units(problem, mode)
        self.running = sum(1 << i for i, unit in enumerate(self.units) if unit.gpu is not None)
        wanted = [name for unit in self.units for name, _, _ in unit.options]
        held = [one.profile for gpu in problem.gpus for one in gpu.instances]
        reserved = [reserve.profile for reserve in self.rules.reserves]
        self.names = tuple(sorted({*wanted, *held, *reserved}))
        self.tracked = tuple(sorted(set(wanted))) if self.rules.survive_node_loss else ()
        self.reserved = {
            name: max(reserve.count for reserve in self.rules.reserves if reserve.profile == name) for name in reserved
        }
        self.spare_names = tuple(sorted({*self.tracked, *self.reserved}))

    # -- what one GPU can become -------------------------------------------------------------------------------------

    def of_gpu(self, gpu: ProblemGpu | None, board: Board, only: str | None = None) -> Iterable[tuple[_Choice, Cost]]:
        """Every way to leave the GPU (None: an elastic one); `only`: all its instances have that profile."""
        if gpu is not None and gpu.occupied_whole:
            return [(self.nothing(), (self.price(board), 0, 0))] if only is None else []
        if gpu is not None and self.rules.is_untouchable(gpu):
            return self.as_it_is(gpu, only)
        return list(self.in_every_way(gpu, board, only))

    def as_it_is(self, gpu: ProblemGpu, only: str | None) -> list[tuple[_Choice, Cost]]:
        if only is not None and (not gpu.instances or any(one.profile != only for one in gpu.instances)):
            return []
        mine = [i for i, unit in enumerate(self.units) if unit.gpu == gpu.id]
        free = Counter(one.profile for one in gpu.instances if not one.workloads)
        spent, upsized = self.kept_price(mine)
        if mine:
            spent += self.price(gpu.board)
        choice = self.choice(mine, [self.units[i].profile for i in mine], free)
        return [(choice, (spent, 0, upsized))] if self.may_share_a_gpu(mine) else []

    def in_every_way(self, gpu: ProblemGpu | None, board: Board, only: str | None) -> Iterator[tuple[_Choice, Cost]]:
        mine = [] if gpu is None else [i for i, unit in enumerate(self.units) if unit.gpu == gpu.id]
        for kept in _subsets(mine):
            gone = [i for i in mine if i not in kept]
            if any(self.units[i].pinned for i in gone):
                continue
            if gone and (self.mode in WITHOUT_MOVES or (self.mode is Mode.COMPACT and kept)):
                continue
            if only is not None and any(self.units[i].profile != only for i in kept):
                continue
            fixed = frozenset((self.units[i].profile, self.units[i].start) for i in kept)
            vectors = room_beside(board, self.names, fixed)
            is_vacated = self.mode is Mode.COMPACT and bool(gone)
            guests = [
                i
                for i, unit in enumerate(self.units)
                if i not in kept and not is_vacated and not (unit.gpu and not self.may_move_to(unit, board))
            ]
            for came in self.company(guests, vectors, (0,) * len(self.names), only):
                here = [*kept, *(i for i, _ in came)]
                if not self.may_share_a_gpu(here):
                    continue
                moves = sum(len(self.units[i].members) for i, _ in came if self.units[i].gpu)
                spent, upsized = self.kept_price(kept)
                spent += sum((option[1] for _, option in came), Fraction(0))
                upsized += sum(option[2] for _, option in came)
                profiles = [*(self.units[i].profile for i in kept), *(option[0] for _, option in came)]
                if here:
                    spent += self.price(board)
                for free in self.spare(vectors, Counter(option[0] for _, option in came), only):
                    if here or (not free.total() and only is None):
                        yield self.choice(here, profiles, free), (spent, moves, upsized)
                    elif free.total() and not is_vacated:  # held for a reserve, or for the loss of a node
                        yield self.choice(here, profiles, free), (self.price(board), 0, 0)
                if not here and only is not None and self.fits(vectors, only):
                    yield self.nothing(), (Fraction(0), 0, 0)  # one free instance, so that the node is of one profile

    def may_move_to(self, unit: _Unit, board: Board) -> bool:
        now = next(gpu.board.name for gpu in self.problem.gpus if gpu.id == unit.gpu)
        return self.mode not in WITHOUT_MOVES and (not self.rules.stay_on_board or now == board.name)

    def company(
        self, guests: list[int], vectors: frozenset[Vector], held: Vector, only: str | None
    ) -> Iterator[list[tuple[int, tuple[str, Fraction, int]]]]:
        """Every choice of further units and their profiles that has room."""
        if not guests:
            yield []
            return
        first, rest = guests[0], guests[1:]
        yield from self.company(rest, vectors, held, only)
        for option in self.units[first].options:
            if only is not None and option[0] != only:
                continue
            at = self.names.index(option[0])
            more = (*held[:at], held[at] + 1, *held[at + 1 :])
            if more in vectors:
                for others in self.company(rest, vectors, more, only):
                    yield [(first, option), *others]

    def spare(self, vectors: frozenset[Vector], came: Counter[str], only: str | None) -> Iterator[Counter[str]]:
        """What else can be cut beside them: nothing, or as much as possible in every way; one more never hurts."""
        yield Counter()
        if not self.spare_names:
            return
        taken = tuple(came[name] for name in self.names)
        at = [self.names.index(name) for name in self.spare_names if only in (None, name)]
        left = {tuple(vector[i] - taken[i] for i in at) for vector in vectors if _covers(vector, taken)}
        names = [self.names[i] for i in at]
        for vector in left:
            if any(vector) and not any(other != vector and _covers(other, vector) for other in left):
                yield Counter(dict(zip(names, vector, strict=True)))

    def fits(self, vectors: frozenset[Vector], name: str) -> bool:
        return tuple(int(name == one) for one in self.names) in vectors

    def may_share_a_gpu(self, here: list[int]) -> bool:
        members = [one for i in here for one in self.units[i].members]
        services = Counter(one.service for one in members if self.rules.spread_of(one.service) is not None)
        if any(count > 1 for count in services.values()):
            return False
        isolated = {self.rules.isolation_of(one.tenant) for one in members} - {None}
        return not isolated or len({one.tenant for one in members}) == 1

    def may_share_a_node(self, mask: int) -> bool:
        members = [one for i, unit in enumerate(self.units) if mask >> i & 1 for one in unit.members]
        services = Counter(one.service for one in members if self.rules.spread_of(one.service) is Spread.NODE)
        return all(count <= 1 for count in services.values())

    def kept_price(self, kept: Iterable[int]) -> tuple[Fraction, int]:
        price, count = Fraction(0), 0
        for i in kept:
            for name, extra, upsized in self.units[i].options:
                if name == self.units[i].profile:
                    price, count = price + extra, count + upsized
        return price, count

    def price(self, board: Board) -> Fraction:
        return Fraction(self.problem.prices[board.name]) if self.problem.prices else Fraction(1)

    def choice(self, here: list[int], profiles: list[str | None], free: Counter[str]) -> _Choice:
        busy, existing = Counter[str](), Counter(free)
        for i, profile in zip(here, profiles, strict=True):
            busy[str(profile)] += len(self.units[i].members)
            existing[str(profile)] += 1
        vectors = [tuple(counts[name] for name in self.tracked) for counts in (existing, busy)]
        kept = tuple(min(free[name], most) for name, most in self.reserved.items())
        return _Choice(sum(1 << i for i in here), *vectors, kept, (0,) * len(self.tracked))

    def nothing(self) -> _Choice:
        return self.choice([], [], Counter())

    # -- what a node and the fleet can become ------------------------------------------------------------------------

    def of_node(self, node: str, gpus: list[ProblemGpu]) -> dict[_Choice, set[Cost]]:
        found: dict[_Choice, set[Cost]] = {}
        if not self.rules.is_single(node):
            _add_all(found, _combined(self.of_gpu(gpu, gpu.board) for gpu in gpus))
        else:
            if all(self.can_be_bare(gpu) for gpu in gpus):
                occupied = sum((self.price(gpu.board) for gpu in gpus if gpu.occupied_whole), Fraction(0))
                held = [(i, unit) for i, unit in enumerate(self.units) if any(unit.gpu == gpu.id for gpu in gpus)]
                if not held or self.mode not in WITHOUT_MOVES:
                    found[self.nothing()] = {(occupied, 0, 0)}
            for name in self.names:
                _add_all(found, _combined(self.of_gpu(gpu, gpu.board, name) for gpu in gpus))
        return {
            replace(choice, most_in_a_node=choice.existing): costs
            for choice, costs in found.items()
            if self.may_share_a_node(choice.mask)
        }

    def can_be_bare(self, gpu: ProblemGpu) -> bool:
        """Whether the GPU may end without any instance."""
        if self.rules.is_untouchable(gpu):
            return not gpu.instances
        return not any(unit.gpu == gpu.id and unit.pinned for unit in self.units)

    def of_elastic(self, board: Board) -> dict[_Choice, set[Cost]]:
        """A node of its own for every elastic GPU: no rule is easier to keep in a fuller node."""
        found: dict[_Choice, set[Cost]] = {}
        if self.rules.is_single("a node that does not exist yet"):
            for name in self.names:
                _add_all(found, _combined([self.of_gpu(None, board, name)]))
        else:
            _add_all(found, _combined([self.of_gpu(None, board)]))
        nothing = self.nothing()
        return {
            replace(choice, most_in_a_node=choice.existing): costs
            for choice, costs in found.items()
            if choice != nothing
        }

    def complete(self, *, every_price: bool = False) -> list[tuple[_Choice, set[Cost]]]:
        """Every state of the fleet in which all rules hold and everything that runs has its place.

        Without `every_price`, elastic GPUs are added only as long as that can still be the cheapest.
        """
        nodes = sorted({gpu.node for gpu in self.problem.gpus})
        fleet: dict[_Choice, set[Cost]] = {self.nothing(): {(Fraction(0), 0, 0)}}
        for node in nodes:
            fleet = self.joined(fleet, self.of_node(node, [gpu for gpu in self.problem.gpus if gpu.node == node]))
        if self.problem.elastic is not None:
            fleet = self.with_elastic(fleet, self.problem.elastic.boards, every_price=every_price)
        return self.allowed(fleet)

    def allowed(self, fleet: dict[_Choice, set[Cost]]) -> list[tuple[_Choice, set[Cost]]]:
        return [
            (choice, kept)
            for choice, front in fleet.items()
            if choice.mask & self.running == self.running
            and self.keeps_reserves(choice)
            and (kept := {cost for cost in front if self.within_moves(cost)})
        ]

    def with_elastic(
        self, fleet: dict[_Choice, set[Cost]], boards: tuple[Board, ...], *, every_price: bool
    ) -> dict[_Choice, set[Cost]]:
        """One more elastic GPU at a time, until more of them than any need could name were tried."""
        more: dict[_Choice, set[Cost]] = {}
        for board in boards:
            _add_all(more, self.of_elastic(board))
        most = len(self.units) + sum(reserve.count for reserve in self.rules.reserves)
        most *= 2 if self.rules.survive_node_loss else 1
        names = {one.name for board in (*boards, *(gpu.board for gpu in self.problem.gpus)) for one in board.profiles}
        hopeless = sum(1 for unit in self.units if not any(name in names for name, _, _ in unit.options))
        everything, newest = dict(fleet), fleet
        for _ in range(most):
            found = [(self.unplaced(choice), *cost) for choice, front in self.allowed(everything) for cost in front]
            dear = min(found)[1] if found and min(found)[0] == hopeless and not every_price else None
            newest = {
                choice: kept
                for choice, front in newest.items()
                if (kept := {cost for cost in front & everything[choice] if dear is None or cost[0] < dear})
            }
            newest = self.joined(newest, more)
            _add_all(everything, newest)
        return everything

    def joined(self, one: dict[_Choice, set[Cost]], other: dict[_Choice, set[Cost]]) -> dict[_Choice, set[Cost]]:
        """Both at once; more free instances than are asked for make no difference."""
        found: dict[_Choice, set[Cost]] = {}
        for choice, costs in _joined(one, other).items():
            free = tuple(map(min, choice.free, self.reserved.values()))
            _add_all(found, {replace(choice, free=free): costs})
        return found

    def keeps_reserves(self, choice: _Choice) -> bool:
        if any(free < least for free, least in zip(choice.free, self.reserved.values(), strict=True)):
            return False
        if not self.rules.survive_node_loss:
            return True
        rows = zip(choice.existing, choice.most_in_a_node, choice.busy, strict=True)
        return all(existing - lost >= busy for existing, lost, busy in rows)

    def within_moves(self, cost: Cost) -> bool:
        return self.rules.max_moves is None or cost[1] <= self.rules.max_moves

    def unplaced(self, choice: _Choice) -> int:
        return sum(len(unit.members) for i, unit in enumerate(self.units) if not choice.mask >> i & 1)


def _units(problem: Problem, mode: Mode) -> list[_Unit]:
    known = {one.id: one for one in (*problem.workloads, *problem.new)}
    running = problem.running_ids()
    found = []
    for gpu in problem.gpus:
        for one in gpu.instances:
            if one.workloads:
                members = tuple(known[who] for who in one.workloads)
                whole = bool(one.compute_instances) or len(members) > 1
                options = ((one.profile, Fraction(0), 0),) if whole else _options(problem, members[0])
                found.append(_Unit(members, gpu.id, one.profile, one.start, options))
    if mode.places_new:
        waiting = [one for one in (*problem.workloads, *problem.new) if one.id not in running]
        found += [_Unit((one,), None, None, None, _options(problem, one)) for one in waiting]
    return found


def _options(problem: Problem, workload: Workload) -> tuple[tuple[str, Fraction, int], ...]:
    prices: dict[str, Fraction] = {}
    for upsize in problem.rules.upsizes:
        if upsize.profile == workload.profile:
            for name in upsize.to:
                prices[name] = min(Fraction(upsize.price), prices.get(name, Fraction(upsize.price)))
    prices.pop(workload.profile, None)
    return ((workload.profile, Fraction(0), 0), *((name, price, 1) for name, price in sorted(prices.items())))


def _subsets(items: list[int]) -> Iterator[list[int]]:
    for bits in range(1 << len(items)):
        yield [item for at, item in enumerate(items) if bits >> at & 1]


def _covers(more: Vector, less: Vector) -> bool:
    return all(a >= b for a, b in zip(more, less, strict=True))


def _plus(one: Vector, other: Vector) -> Vector:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _add(found: dict[_Choice, set[Cost]], choice: _Choice, cost: Cost) -> None:
    """Keep the cost unless another of the same state is as good in every objective; drop those it beats."""
    front = found.setdefault(choice, set())
    if any(all(a <= b for a, b in zip(other, cost, strict=True)) for other in front):
        return
    front.difference_update([other for other in front if all(a <= b for a, b in zip(cost, other, strict=True))])
    front.add(cost)


def _add_all(found: dict[_Choice, set[Cost]], more: dict[_Choice, set[Cost]]) -> None:
    for choice, costs in more.items():
        for cost in costs:
            _add(found, choice, cost)


def _combined(gpus: Iterable[Iterable[tuple[_Choice, Cost]]]) -> dict[_Choice, set[Cost]]:
    """All ways to leave several GPUs at once; empty when one of them has none."""
    found: dict[_Choice, set[Cost]] | None = None
    for ways in gpus:
        front: dict[_Choice, set[Cost]] = {}
        for choice, cost in ways:
            _add(front, choice, cost)
        found = front if found is None else _joined(found, front)
    return found or {}


def _joined(one: dict[_Choice, set[Cost]], other: dict[_Choice, set[Cost]]) -> dict[_Choice, set[Cost]]:
    found: dict[_Choice, set[Cost]] = {}
    if len(one) * len(other) > MOST_PAIRS:
        raise TooManyStates
    for a, costs_a in one.items():
        for b, costs_b in other.items():
            if a.mask & b.mask:
                continue
            choice = _Choice(
                a.mask | b.mask,
                _plus(a.existing, b.existing),
                _plus(a.busy, b.busy),
                _plus(a.free, b.free),
                tuple(map(max, a.most_in_a_node, b.most_in_a_node)),
            )
            for cost_a in costs_a:
                for cost_b in costs_b:
                    _add(found, choice, (cost_a[0] + cost_b[0], cost_a[1] + cost_b[1], cost_a[2] + cost_b[2]))
    return found

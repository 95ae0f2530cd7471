"""The boards of one problem file, and every name in it that the catalogue has to know; each is looked up once."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from planner.catalog import Catalog, find_profile, load_catalog
from planner.compute_instances import find_compute_profile, why_illegal_compute
from planner.errors import IllegalLayout, UnknownBoard, UnknownProfile
from planner.hardware import Board, PlacedInstance
from planner.mig.file_shape import Mistakes, nearest, shortened
from planner.mig_exceptions import board_under, driver_numbers
from planner.mig_geometry import assume_arrangement, planning_obstacle, why_illegal

_COMPUTE_INSTANCE = re.compile(r"\s*(mig[- ])?\d+c\.", re.IGNORECASE)


class Boards:
    """Names of boards and profiles, spelled as the catalogue spells them; what is not known becomes a mistake."""

    def __init__(self, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._catalog: Catalog = load_catalog()
        self._known: dict[tuple[str, str | None, str | None], Board | None] = {}
        self._usable: dict[str, Board] = {}
        self._drivers: set[str] = set()
        self._spelled: dict[str, str | None] = {}
        self._profiles: dict[tuple[int, str], str | None] = {}
        self._layouts: dict[tuple[int, tuple[tuple[str, int | None], ...]], str | None] = {}
        self._compute: dict[tuple[int, str, tuple[str, ...]], tuple[str, ...]] = {}

    def check_driver(self, place: str, driver: str | None) -> None:
        """Whether the version can be read; one that cannot is said where it comes first."""
        if driver is not None and driver not in self._drivers:
            self._drivers.add(driver)
            if driver_numbers(driver) is None:
                sentence = f"{shortened(driver)} is no driver version; give it as nvidia-smi does, like 535.104.05."
                self._mistakes.add(place, sentence)

    def board(self, place: str, name: str, driver: str | None, product: str | None) -> Board | None:
        """The board as its driver allows it."""
        key = (name, driver, product)
        if key not in self._known:
            try:
                board = self._catalog.board(name)
            except UnknownBoard as error:
                self._known[key] = None
                self._mistakes.add(place, _continued(error))
                return None
            self._known[key] = board_under(board, driver_version=driver, product=product)
            self._usable[board.name] = board
        return self._known[key]  # what is not known was said where it came first

    def elastic_board(self, place: str, name: str, driver: str | None) -> Board | None:
        """A board on which a plan may put more GPUs."""
        board = self.board(place, name, driver, None)
        obstacle = planning_obstacle(board) if board is not None else None
        if obstacle is not None:
            self._mistakes.add(place, f"{obstacle} Name another board.")
        return board

    def instance_profile(self, place: str, board: Board, name: str) -> str | None:
        """The profile of an instance that exists on that board."""
        key = (id(board), name)
        if key not in self._profiles:
            self._profiles[key] = None
            try:
                profile = self._catalog.profile(board, name)
            except UnknownProfile as error:
                self._mistakes.add(place, str(error))
                return None
            if _COMPUTE_INSTANCE.match(name):
                sentence = (
                    f"{shortened(name)} is a compute instance: list it in `compute_instances` of a {profile.name}."
                )
                self._mistakes.add(place, sentence)
            else:
                self._profiles[key] = profile.name
        return self._profiles[key]

    def check_layout(self, place: str, board: Board, layout: tuple[tuple[str, int | None], ...]) -> None:
        """Whether these instances can exist together; a start of None is any that is free."""
        key = (id(board), layout)
        if key not in self._layouts:
            self._layouts[key] = _why_impossible(board, layout)
        wrong = self._layouts[key]
        if wrong is not None:
            self._mistakes.add(place, f"this layout cannot exist: {wrong}")

    def compute_instances(self, place: str, board: Board, profile: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """The compute instances of one GPU instance."""
        key = (id(board), profile, names)
        if key not in self._compute:
            wrong = why_illegal_compute(board, profile, names)
            found = [find_compute_profile(board, name) for name in names]
            self._compute[key] = tuple(one.name for one in found if one is not None)
            if wrong is not None:
                self._mistakes.add(place, wrong)
        return self._compute[key]

    def request_profile(self, place: str, name: str) -> str | None:
        """A profile that is asked for. Where no board of the problem has it, the planner answers that."""
        spelled = self.spelled(name)
        if spelled is None:
            if _COMPUTE_INSTANCE.match(name):
                whole = _COMPUTE_INSTANCE.sub("", name)
                sentence = (
                    f"{shortened(name)} is a compute instance, which shares the memory of its GPU instance; ask for "
                    f"the GPU instance, {shortened(whole)}."
                )
            else:
                known = sorted({profile.name for board in self._usable.values() for profile in board.profiles})
                sentence = f"no board has a profile {shortened(name)}.{nearest(name, known)}"
            self._mistakes.add(place, sentence)
        return spelled

    def spelled(self, name: str) -> str | None:
        """How the catalogue spells a profile of the boards of the problem, or else of any; None when it has none."""
        if name not in self._spelled:
            self._spelled[name] = None
            if not _COMPUTE_INSTANCE.match(name):
                here = _spellings(self._usable.values(), name)
                self._spelled[name] = here or _spellings(self._catalog.boards, name)
        return self._spelled[name]

    def prices(self, given: Mapping[str, float]) -> dict[str, float]:
        """Prices by catalogue id: none at all, or one for every board of the problem."""
        prices: dict[str, float] = {}
        spellings: dict[str, list[str]] = defaultdict(list)
        for name, price in given.items():
            try:
                board = self._catalog.board(name)
            except UnknownBoard as error:
                self._mistakes.add("prices", _continued(error))
                continue
            prices[board.name] = price
            spellings[board.name].append(name)
        for board_name, names in spellings.items():
            if len(names) > 1:
                listed = ", ".join(map(shortened, names))
                self._mistakes.add("prices", f"{listed} are all {board_name}; give one price.")
        missing = [name for name in self._usable if name not in prices]
        if given and missing:
            self._mistakes.add("prices", f"there is none for {', '.join(missing)}; price every board, or none.")
        return prices


def _spellings(boards: Iterable[Board], name: str) -> str | None:
    """Two boards may call different things the same by older drivers' names; the exact name goes first."""
    found = {profile.name for profile in (find_profile(board, name) for board in boards) if profile is not None}
    return name if name in found else min(found, default=None)


def _why_impossible(board: Board, layout: tuple[tuple[str, int | None], ...]) -> str | None:
    obstacle = planning_obstacle(board)
    if obstacle is not None:
        return obstacle
    placed = []
    for name, start in layout:
        if start is None:
            continue
        profile = find_profile(board, name)
        placements = profile.placements if profile else ()
        placement = next((one for one in placements if one.start == start), None)
        if placement is None:
            allowed = ", ".join(str(one.start) for one in placements)
            return f"{name} cannot start at {start} on {board.name}; its starts are {allowed}."
        placed.append(PlacedInstance(name, placement))
    wrong = why_illegal(board, placed)
    if wrong is not None or len(placed) == len(layout):
        return wrong
    try:
        assume_arrangement(board, [name for name, start in layout if start is None], known=placed)
    except IllegalLayout as error:
        return str(error)
    return None


def _continued(error: Exception) -> str:
    """The sentence of the error, after a place and a colon."""
    return str(error).replace("The catalogue", "the catalogue", 1)

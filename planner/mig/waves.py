"""When each step happens: an order of hand-overs becomes waves in which GPUs work side by side.

A wave never relies on what another GPU does in the same wave. Within one, each GPU stops, destroys, creates and starts,
in this order. Whoever is down is down for as short as the waves allow: nobody stops for a downtime before everything
else that his restart waits for is done, and no more are down at once than in the order that was found.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.mig.differences import Differences
from planner.mig.handover import Event
from planner.mig.places import Place


@dataclass(slots=True)
class GpuWork:
    """What one GPU does in one wave. Units are numbers of `Differences.units`."""

    stopped: list[tuple[int, Place, bool]] = field(default_factory=list)  # unit, where, whether it is down then
    destroyed: list[Place] = field(default_factory=list)
    created: list[Place] = field(default_factory=list)
    started: list[tuple[int, Place, bool]] = field(default_factory=list)  # unit, where, whether it was down


Wave = dict[str, GpuWork]
"""By GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The waves, the most workloads down at any moment of them, and the units that are down at some time."""

    waves: tuple[Wave, ...]
    max_down: int
    interrupted: frozenset[int]


@dataclass(slots=True)
class _Episode:
    """Part of the order from the first stop until nobody is down any more."""

    number: int
    events: list[Event]
    peak: int
    waits_for: set[int]  # units of other parts that must have left before it is worth to begin
    done: int = 0


def schedule(found: Differences, events: Sequence[Event], peak: int) -> Schedule:
    """The waves of the order; `peak` is the most weight that may be down at once."""
    return _Scheduler(found, events, peak).run()


class _Scheduler:
    """Goes from wave to wave: whatever the waves before allow is done at once, except to stop for a downtime."""

    def __init__(self, found: Differences, events: Sequence[Event], peak: int) -> None:
        self._found = found
        self._peak = peak
        self._slot_of = {unit: slot for unit, slot in events if slot is not None}
        self._breaks = {unit for unit, slot in events if slot is None}  # that are still meant to be down
        self._waits = {slot: len(found.slots[slot].blockers) for slot in range(len(found.slots))}
        self._place_waits = {place: len(blockers) for place, blockers in found.creations.items()}
        self._opens: dict[int, list[int]] = defaultdict(list)
        for slot, meant in enumerate(found.slots):
            for unit in meant.blockers:
                self._opens[unit].append(slot)
        self._makes_room: dict[int, list[Place]] = defaultdict(list)
        for place, blockers in found.creations.items():
            for unit in blockers:
                self._makes_room[unit].append(place)
        self._unit_in = {slot: unit for unit, slot in self._slot_of.items()}
        self._doomed = {place for gpu in found.gpus.values() for place in gpu.destroyed}
        self._users: dict[Place, int] = defaultdict(int)
        for one in found.units:
            if one.old is not None:
                self._users[one.old] += 1
        self._left: set[int] = set()
        self._started: set[int] = set()
        self._down: set[int] = set()
        self._interrupted: set[int] = set()
        self._handing_over: list[int] = []  # run twice; stop on the old instance in the next wave
        self._restarts_due: list[int] = []  # found their slot in the wave in which they stopped elsewhere
        self._idle, self._waiting_for = _episodes(found, events)
        self._active: list[_Episode] = []
        self._ready: deque[_Episode] = deque()
        self._wave: Wave = {}
        self._stopped_now: set[int] = set()  # of those that are down
        self._down_before = 0  # weight when the wave begins

    def run(self) -> Schedule:
        waves: list[Wave] = []
        max_down = 0
        while (wave := self._next_wave(is_first=not waves)) is not None:
            waves.append(wave)
            max_down = max(max_down, self._down_before + sum(map(self._weight, self._stopped_now)))
        if len(self._started) != len(self._found.units):
            raise AssertionError("the order of hand-overs cannot be carried out")  # each event only needs earlier ones
        return Schedule(waves=tuple(waves), max_down=max_down, interrupted=frozenset(self._interrupted))

    def _next_wave(self, *, is_first: bool) -> Wave | None:
        self._wave = {}
        self._stopped_now = set()
        self._down_before = sum(self._weight(unit) for unit in self._down)
        open_slots: list[int] = []
        places: list[Place] = []
        if is_first:
            open_slots += [slot for slot, count in self._waits.items() if not count]
            places += [place for place, count in self._place_waits.items() if not count]
            for place in sorted(self._doomed, key=lambda place: (place.gpu, place.start)):
                if not self._users.get(place):
                    self._work(place).destroyed.append(place)
            self._ready.extend(episode for episode in self._idle if not episode.waits_for)
        handing_over, self._handing_over = self._handing_over, []
        restarts, self._restarts_due = self._restarts_due, []
        to_stop = [*((unit, False) for unit in handing_over), *((unit, True) for unit in self._choose_breaks())]
        for unit, is_down in to_stop:
            self._stop(unit, is_down, open_slots, places)
        for place in places:
            self._work(place).created.append(place)
        for unit in restarts:
            self._start(unit)
        for slot in open_slots:
            unit = self._unit_in[slot]
            elsewhere = unit in self._stopped_now and self._old(unit).gpu != self._found.slots[slot].place.gpu
            if elsewhere:
                self._restarts_due.append(unit)
            else:
                self._start(unit)
        self._advance()
        return self._wave or None

    def _stop(self, unit: int, is_down: bool, open_slots: list[int], places: list[Place]) -> None:
        old = self._old(unit)
        work = self._work(old)
        work.stopped.append((unit, old, is_down))
        if is_down:
            self._breaks.discard(unit)
            self._down.add(unit)
            self._interrupted.add(unit)
            self._stopped_now.add(unit)
        self._left.add(unit)
        self._users[old] -= 1
        if not self._users[old] and old in self._doomed:
            work.destroyed.append(old)
        for slot in self._opens[unit]:
            self._waits[slot] -= 1
            if not self._waits[slot]:
                open_slots.append(slot)
        for place in self._makes_room[unit]:
            self._place_waits[place] -= 1
            if not self._place_waits[place]:
                places.append(place)
        for episode in self._waiting_for.pop(unit, ()):
            episode.waits_for.discard(unit)
            if not episode.waits_for:
                self._ready.append(episode)

    def _start(self, unit: int) -> None:
        """Start it in its slot. Meant to be down but not yet stopped, it need not be any more."""
        place = self._found.slots[self._slot_of[unit]].place
        self._work(place).started.append((unit, place, unit in self._down))
        self._started.add(unit)
        self._breaks.discard(unit)
        if unit in self._down:
            self._down.remove(unit)
        elif self._found.units[unit].old is not None:
            self._handing_over.append(unit)

    def _choose_breaks(self) -> list[int]:
        """Begin episodes as far as the peak allows; of those under way, whoever is next to stop."""
        in_use = sum(episode.peak for episode in self._active)
        later: deque[_Episode] = deque()
        for episode in sorted(self._ready, key=lambda episode: episode.number):
            self._pass(episode)
            if episode.done == len(episode.events):
                continue
            if in_use + episode.peak <= self._peak:
                in_use += episode.peak
                self._active.append(episode)
            else:
                later.append(episode)
        self._ready = later
        chosen: list[int] = []
        for episode in self._active:
            for unit, slot in episode.events[episode.done :]:
                if slot is not None:
                    break
                if unit in self._breaks:
                    chosen.append(unit)
                episode.done += 1
        return chosen

    def _advance(self) -> None:
        """An episode whose last unit has started is over."""
        for episode in self._active:
            self._pass(episode)
        self._active = [episode for episode in self._active if episode.done < len(episode.events)]

    def _pass(self, episode: _Episode) -> None:
        """Leave behind what is done, and stops that turned out to be needless."""
        while episode.done < len(episode.events):
            unit, slot = episode.events[episode.done]
            if unit in self._breaks if slot is None else unit not in self._started:
                return
            episode.done += 1

    def _old(self, unit: int) -> Place:
        old = self._found.units[unit].old
        if old is None:
            raise AssertionError("a unit that did not run cannot stop")
        return old

    def _work(self, place: Place) -> GpuWork:
        return self._wave.setdefault(place.gpu, GpuWork())

    def _weight(self, unit: int) -> int:
        return self._found.units[unit].weight


def _episodes(found: Differences, events: Sequence[Event]) -> tuple[list[_Episode], dict[int, list[_Episode]]]:
    """The parts of the order in which somebody is down, and by unit those that wait for it to leave."""
    episodes: list[_Episode] = []
    down: set[int] = set()
    weight = 0
    for unit, slot in events:
        if slot is None:
            if not down:
                episodes.append(_Episode(number=len(episodes), events=[], peak=0, waits_for=set()))
            down.add(unit)
            weight += found.units[unit].weight
            episodes[-1].peak = max(episodes[-1].peak, weight)
        if down:
            episodes[-1].events.append((unit, slot))
        if slot is not None and unit in down:
            down.remove(unit)
            weight -= found.units[unit].weight
    waiting: dict[int, list[_Episode]] = defaultdict(list)
    for episode in episodes:
        inside = {unit for unit, _ in episode.events}
        for _, slot in episode.events:
            if slot is not None:
                episode.waits_for.update(set(found.slots[slot].blockers) - inside)
        for unit in episode.waits_for:
            waiting[unit].append(episode)
    return episodes, waiting


def inverse(waves: Sequence[Wave]) -> tuple[Wave, ...]:
    """The way back: every wave undone, the last one first. Where nobody was down on the way, nobody is on the way back.

    What did not run before stops, and its stop is no downtime.
    """
    return tuple(
        {
            gpu: GpuWork(
                stopped=list(work.started),
                destroyed=list(work.created),
                created=list(work.destroyed),
                started=list(work.stopped),
            )
            for gpu, work in wave.items()
        }
        for wave in reversed(waves)
    )

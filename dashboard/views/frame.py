"""What every view stands in: cached reads of the store, the freshness banner, and words for a store in trouble."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import streamlit as st
from sqlalchemy import Engine

from dashboard import data
from dashboard.data import AdviceFigures
from dashboard.html_parts import part
from dashboard.overview_figures import Freshness, Overview, SourceRow
from dashboard.source_reading import SourcesRead, read_sources
from planner.fleet import Fleet
from store.errors import StoreError
from store.fleet_snapshot import JoinedFleet
from store.location import store_url

REFRESH_S = 15
"""How often live parts look for new data; the collectors' default interval is 30 s."""

_SNAPSHOT_S = 30  # a snapshot is computed anew after this long even when nothing was written: states age
_ADVICE_S = 300  # a plan that changes while it is read helps nobody

WINDOWS: dict[str, timedelta] = {
    "1 h": timedelta(hours=1),
    "6 h": timedelta(hours=6),
    "24 h": timedelta(hours=24),
    "7 d": timedelta(days=7),
}
"""What a window can be chosen from, by its name on the page."""


def now() -> datetime:
    """The moment of this run of the page."""
    return datetime.now(UTC)


def engine() -> Engine:
    """The store of this process's environment and folder, opened for reading only. Raises StoreError."""
    return _engine(store_url(os.environ, Path.cwd()))


@st.cache_resource(show_spinner=False, max_entries=4)
def _engine(url: str) -> Engine:
    return data.open_store(url)


def fleet(window: timedelta) -> Fleet:
    """The newest snapshot."""
    return joined(window).fleet


def joined(window: timedelta) -> JoinedFleet:
    """The same with the join behind it, computed once for all sessions: it is frozen, so it is shared as it is."""
    store = engine()
    return _joined(str(store.url), data.version(store), _bucket(_SNAPSHOT_S), window)


@st.cache_resource(show_spinner=False, max_entries=6, ttl=600)
def _joined(url: str, version: str, moment: datetime, window: timedelta) -> JoinedFleet:
    return data.joined(engine(), now(), window)


def sources() -> tuple[SourceRow, ...]:
    """Health of every target."""
    store = engine()
    return _sources(str(store.url), data.version(store), _bucket(_SNAPSHOT_S))


@st.cache_resource(show_spinner=False, max_entries=6, ttl=600)
def _sources(url: str, version: str, moment: datetime) -> tuple[SourceRow, ...]:
    return data.sources(engine(), now())


def source_details() -> SourcesRead:
    """Every source with what it lacks, what that costs and what to do."""
    store = engine()
    return _source_details(str(store.url), data.version(store), _bucket(_SNAPSHOT_S))


@st.cache_resource(show_spinner=False, max_entries=4, ttl=600)
def _source_details(url: str, version: str, moment: datetime) -> SourcesRead:
    return read_sources(engine(), now())


def overview(window: timedelta) -> Overview:
    """What the overview shows of the newest snapshot."""
    return data.overview(joined(window), sources(), freshness(), window)


def freshness() -> Freshness:
    """How old the store's newest reading is, and how many targets answer."""
    return data.freshness(engine(), sources(), now())


def advice(window: timedelta) -> AdviceFigures:
    """The advice from a window, looked at anew every few minutes."""
    gpus = sum(1 for _ in fleet(WINDOWS["1 h"]).gpus())  # a fleet that has just appeared does not wait for its advice
    return _advice(str(engine().url), gpus, _bucket(_ADVICE_S), window)


@st.cache_resource(show_spinner="Packing the work onto fewer GPUs …", max_entries=6, ttl=600)
def _advice(url: str, gpus: int, moment: datetime, window: timedelta) -> AdviceFigures:
    return data.advice(engine(), now(), window)


def _bucket(seconds: int) -> datetime:
    return datetime.fromtimestamp(now().timestamp() // seconds * seconds, UTC)


def page(title: str, show: Callable[[], None]) -> None:
    """A page with its title; a store that is missing, outdated or damaged gets words on what to do instead."""
    st.title(title, anchor=False)

    def body() -> None:
        data.version(engine())  # a store in trouble is told once, not by every part of the page
        show()

    if not guarded(body):
        _run_again_once(_can_be_read)


def guarded(show: Callable[[], None]) -> bool:
    """Run `show`; where the store cannot be read, say why and what to do. Whether it could be read."""
    try:
        show()
    except StoreError as error:
        problem = data.store_problem(error)
        st.html(part("notice", title=problem.title, lines=problem.lines, command=problem.command))
        return False
    return True


def _run_again_once(ready: Callable[[], bool]) -> None:
    """Look now and then whether what the page lacks has come, and show the page then: nobody has to reload it."""

    def look() -> None:
        if ready():
            st.rerun()

    st.fragment(look, run_every=REFRESH_S)()


def _can_be_read() -> bool:
    try:
        data.version(engine())
    except StoreError:
        return False
    return True


def _has_gpus() -> bool:
    try:
        return any(True for _ in fleet(WINDOWS["1 h"]).gpus())
    except StoreError:
        return False


def live(show: Callable[[], None], *, every_s: int = REFRESH_S) -> None:
    """Show a part that refreshes on its own while the page stays."""

    def run() -> None:
        guarded(show)

    st.fragment(run, run_every=every_s)()


def banner() -> None:
    """As of when, and how many targets answer."""
    st.html(part("banner", freshness=freshness(), now=now()))


def nothing_seen_yet() -> None:
    """For a store that is there and has no GPU in it."""
    problem = data.no_gpus_yet(sources())
    st.html(part("notice", title=problem.title, lines=problem.lines, command=problem.command))


def wait_for_gpus() -> None:
    """The same on a page that is not live: it comes back by itself when a GPU is seen."""
    nothing_seen_yet()
    _run_again_once(_has_gpus)


def wait_for_store() -> None:
    """For a page that can do without a store for now: it is shown anew once the store can be read."""
    _run_again_once(_can_be_read)


def measured_key(name: str) -> str:
    """Key of a container of measured values; the style sheet greys what is in a stale one."""
    return f"measured-stale-{name}" if freshness().is_stale else f"measured-{name}"

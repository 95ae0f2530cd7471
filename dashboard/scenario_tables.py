"""The tables in which a scenario is edited: its parts as frames, and edited rows back into the scenario.

Rows that are not filled in yet are passed over; what is filled in wrongly is told by whoever plans the scenario.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from dashboard.scenario import NodeGroup, Request, Scenario, boards_of
from planner.mig.order import natural_key
from planner.mig.problem import EVERY, Reserve, Upsize

Row = Mapping[str, Any]

_MOST = 100_000


def rows_in(frame: pd.DataFrame) -> list[Row]:
    """The rows of an edited table, with None for what is not filled in."""
    return [
        {str(name): None if value is None or pd.isna(value) else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def requests_frame(scenario: Scenario) -> pd.DataFrame:
    """Profile, count, service and tenant of everything that is asked for."""
    rows = [(one.profile, one.count, one.service, one.tenant) for one in scenario.requests]
    return _typed(rows, {"Profile": "str", "Count": "Int64", "Service": "str", "Tenant": "str"})


def with_requests(scenario: Scenario, rows: Iterable[Row]) -> Scenario:
    """The scenario that asks for these rows."""
    return replace(
        scenario,
        requests=tuple(
            Request(
                profile=str(row["Profile"]),
                count=_count(row["Count"], 1),
                service=_text(row["Service"]),
                tenant=_text(row["Tenant"]),
            )
            for row in rows
            if _text(row["Profile"])
        ),
    )


def nodes_frame(scenario: Scenario) -> pd.DataFrame:
    """Measured nodes: what they have, whether they are used, untouched, of one profile."""
    rules = scenario.rules
    rows = [
        (
            node,
            boards,
            gpus,
            node not in scenario.without_nodes,
            node in rules.untouchable_nodes,
            rules.is_single(node),
        )
        for node, boards, gpus in _measured_nodes(scenario)
    ]
    types = {"Node": "str", "Board": "str", "GPUs": "Int64", "Use": "bool", "Untouched": "bool", "One profile": "bool"}
    return _typed(rows, types)


def _measured_nodes(scenario: Scenario) -> Iterator[tuple[str, str, int]]:
    boards: dict[str, Counter[str]] = {}
    for gpu in scenario.fleet.gpus if scenario.fleet else ():
        boards.setdefault(gpu.node, Counter())[gpu.board.name] += 1
    for node in sorted(boards, key=natural_key):
        yield node, ", ".join(sorted(boards[node])), sum(boards[node].values())


def with_nodes(scenario: Scenario, rows: Iterable[Row]) -> Scenario:
    """The scenario with these choices for its measured nodes; rules for other nodes stay as they are."""
    rows = list(rows)
    measured = {str(row["Node"]) for row in rows}

    def chosen(column: str, before: frozenset[str]) -> frozenset[str]:
        return frozenset(str(row["Node"]) for row in rows if row[column]) | (before - measured)

    rules = scenario.rules
    single = chosen("One profile", rules.single_nodes)
    if EVERY in rules.single_nodes and measured <= single:
        single = rules.single_nodes
    elif EVERY in single:
        single -= {EVERY}
    return replace(
        scenario,
        without_nodes=frozenset(str(row["Node"]) for row in rows if not row["Use"]),
        rules=replace(rules, untouchable_nodes=chosen("Untouched", rules.untouchable_nodes), single_nodes=single),
    )


def groups_frame(scenario: Scenario) -> pd.DataFrame:
    """Added nodes."""
    rows = [
        (one.name, one.board, one.nodes, one.gpus_per_node, _group_is_single(scenario, one)) for one in scenario.groups
    ]
    types = {"Name": "str", "Board": "str", "Nodes": "Int64", "GPUs each": "Int64", "One profile": "bool"}
    return _typed(rows, types)


def _group_is_single(scenario: Scenario, group: NodeGroup) -> bool:
    return group.nodes > 0 and all(scenario.rules.is_single(name) for name in _node_names(group))


def _node_names(group: NodeGroup) -> list[str]:
    return [f"{group.name}-{number}" for number in range(1, min(group.nodes, _MOST) + 1)]


def with_groups(scenario: Scenario, rows: Iterable[Row]) -> Scenario:
    """The scenario with these added nodes; a row without a name gets one."""
    groups: list[NodeGroup] = []
    was_single = scenario.rules.single_nodes
    single = set(was_single) - {name for group in scenario.groups for name in _node_names(group)}
    taken = {str(row["Name"]) for row in rows if _text(row["Name"])}
    for row in rows:
        if not _text(row["Board"]):
            continue
        name = _text(row["Name"]) or _free_name("node", taken)
        taken.add(name)
        group = NodeGroup(
            name=name,
            board=str(row["Board"]),
            nodes=_count(row["Nodes"], 1),
            gpus_per_node=max(1, _count(row["GPUs each"], 8)),
        )
        groups.append(group)
        if row["One profile"]:
            single.update(() if EVERY in was_single else _node_names(group))
        elif _group_is_single(scenario, group):
            single.discard(EVERY)
        else:  # some of its nodes may be, which one box cannot show
            single.update(was_single.intersection(_node_names(group)))
    return replace(scenario, groups=tuple(groups), rules=replace(scenario.rules, single_nodes=frozenset(single)))


def _free_name(stem: str, taken: set[str]) -> str:
    return next(name for number in range(1, _MOST) if (name := stem if number == 1 else f"{stem}{number}") not in taken)


def reserves_frame(scenario: Scenario) -> pd.DataFrame:
    """Free instances to keep."""
    return _typed(
        [(one.profile, one.count) for one in scenario.rules.reserves], {"Profile": "str", "Keep free": "Int64"}
    )


def with_reserves(scenario: Scenario, rows: Iterable[Row]) -> Scenario:
    """The scenario with these reserves; rows of one profile add up."""
    counts: dict[str, int] = {}
    for row in rows:
        if _text(row["Profile"]):
            name = str(row["Profile"])
            counts[name] = counts.get(name, 0) + _count(row["Keep free"], 1)
    reserves = tuple(Reserve(profile=name, count=count) for name, count in counts.items())
    return replace(scenario, rules=replace(scenario.rules, reserves=reserves))


def upsizes_frame(scenario: Scenario) -> pd.DataFrame:
    """Which larger profiles may serve a request, and at what price; one row per pair."""
    rows = [(one.profile, to, one.price) for one in scenario.rules.upsizes for to in one.to]
    return _typed(rows, {"Asked for": "str", "May get": "str", "Price": "Float64"})


def with_upsizes(scenario: Scenario, rows: Iterable[Row]) -> Scenario:
    """The scenario with these upsize rules; pairs of one profile and one price are one rule."""
    found: dict[tuple[str, float], list[str]] = {}
    for row in rows:
        if _text(row["Asked for"]) and _text(row["May get"]):
            key = (str(row["Asked for"]), max(0.0, float(row["Price"] or 0.0)))
            found.setdefault(key, []).append(str(row["May get"]))
    upsizes = tuple(
        Upsize(profile=profile, to=tuple(dict.fromkeys(to)), price=price) for (profile, price), to in found.items()
    )
    return replace(scenario, rules=replace(scenario.rules, upsizes=upsizes))


def prices_frame(scenario: Scenario) -> pd.DataFrame:
    """US dollars per hour of every board that occurs."""
    rows = [(board.name, scenario.prices.get(board.name)) for board in boards_of(scenario)]
    return _typed(rows, {"Board": "str", "USD per GPU and hour": "Float64"})


def with_prices(scenario: Scenario, rows: Iterable[Row]) -> Scenario:
    """The scenario with these prices; a price of nothing is no price."""
    prices = {str(row["Board"]): float(row["USD per GPU and hour"]) for row in rows if row["USD per GPU and hour"]}
    return replace(scenario, prices=prices)


def prices_missing(scenario: Scenario) -> tuple[str, ...]:
    """Boards without a price where others have one: cost can only be planned with all of them."""
    if not scenario.prices:
        return ()
    return tuple(board.name for board in boards_of(scenario) if board.name not in scenario.prices)


def _typed(rows: Iterable[tuple[Any, ...]], types: Mapping[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(types))
    return frame.astype({name: "object" if kind == "str" else kind for name, kind in types.items()})


def _text(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _count(value: Any, default: int) -> int:
    return default if value is None else max(0, min(_MOST, int(value)))

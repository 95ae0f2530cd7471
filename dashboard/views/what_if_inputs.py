"""The editors of a scenario: mode, demand, inventory, rules and prices; each returns the scenario as edited."""

from dataclasses import replace

import streamlit as st

from dashboard import scenario_tables
from dashboard.demand_text import read_requests
from dashboard.html_parts import what_if_part
from dashboard.scenario import TIME_LIMITS_S, Scenario, ScenarioInvalid, boards_of, plannable_boards, profiles_of
from dashboard.scenario_tables import prices_missing
from dashboard.views import what_if_state
from dashboard.views.what_if_state import key, table
from planner.mig.fleet_problem import FleetDemand
from planner.mig.order import natural_key
from planner.mig.plan import Mode
from planner.mig.problem import EVERY, Spread

_COLUMN = st.column_config

MODES: dict[Mode, tuple[str, str]] = {
    Mode.INITIAL: ("Place", "Places what waits in the room that is free; what runs stays where it is."),
    Mode.COMPACT: ("Compact", "Empties whole GPUs; a GPU that stays in use keeps everything it runs where it is."),
    Mode.RECONFIGURE: ("Reconfigure", "Fewest GPUs for what runs, then fewest moves; new requests are left out."),
    Mode.ADD: ("Add", "Places what waits; what runs may move to make room."),
    Mode.ADD_WITHOUT_MOVES: ("Add, no moves", "Places what waits; nothing that runs moves."),
}

NODES_PER_SCREEN = 8

_DEMANDS = {FleetDemand.AS_IT_RUNS: "as it runs", FleetDemand.AS_MEASURED: "as measured"}
_APART: dict[str, Spread | None] = {
    "may share a GPU": None,
    "on different GPUs": Spread.GPU,
    "on different nodes": Spread.NODE,
}
_EVERY_TENANT = "every tenant"


def edited(scenario: Scenario) -> Scenario:
    """The scenario after what was changed in its editors."""
    with st.container(border=True, key="what-if-inputs"):
        scenario = _mode(scenario)
        demand, inventory, rules, prices = st.tabs(["Demand", "Inventory", "Rules", "Prices"], key=key("tabs"))
        with inventory:
            scenario = _inventory(scenario)
        with demand:
            scenario = _demand(scenario)
        with rules:
            scenario = _rules(scenario)
        with prices:
            scenario = _prices(scenario)
    return scenario


def _mode(scenario: Scenario) -> Scenario:
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        mode = st.segmented_control(
            "What may be done",
            list(MODES),
            default=scenario.mode,
            format_func=lambda one: MODES[one][0],
            required=True,
            key=key("mode"),
        )
        demand = scenario.demand
        if scenario.fleet is not None:
            demand = st.segmented_control(
                "What runs asks for",
                list(_DEMANDS),
                default=scenario.demand,
                format_func=lambda one: _DEMANDS[one],
                required=True,
                key=key("demand"),
                help="As it runs: the profile it has. As measured: the smallest profile that provides what was "
                "measured over 24 h, with headroom; the MIG advice shows the numbers.",
            )
    st.html(what_if_part("mode_hint", text=MODES[mode][1]))
    return replace(scenario, mode=mode, demand=demand)


def _demand(scenario: Scenario) -> Scenario:
    profiles = profiles_of(scenario)
    offered = [*profiles, *sorted({one.profile for one in scenario.requests} - set(profiles))]
    with st.container(key="stacked-demand"):
        left, right = st.columns([3, 2], gap="medium")
    with left:
        st.html(what_if_part("label", text="New requests", sub="beside what runs" if scenario.fleet else ""))
        rows = table(
            "requests",
            scenario_tables.requests_frame(scenario),
            {
                "Profile": _COLUMN.SelectboxColumn(options=offered, required=True, width="medium"),
                "Count": _COLUMN.NumberColumn(min_value=0, max_value=50_000, step=1, default=1, width="small"),
                "Service": _COLUMN.TextColumn(max_chars=100, help="Replicas of one service can be spread by a rule."),
                "Tenant": _COLUMN.TextColumn(max_chars=100, help="Tenants can be kept apart by a rule."),
            },
            depends=offered,
        )
    scenario = scenario_tables.with_requests(scenario, rows)
    with right:
        with st.form(key("typed-form"), border=False, clear_on_submit=False):
            typed = st.text_input(
                "Or type a list", placeholder="3 x 3g.40gb, 1g.10gb*4", key=key("typed"), max_chars=4_000
            )
            with st.container(horizontal=True, gap="small"):
                is_added = st.form_submit_button("Add to the requests")
                is_replaced = st.form_submit_button("Replace them")
        if is_added or is_replaced:
            _take_typed(scenario, typed or "", replaces=is_replaced, profiles=profiles)
        if not profiles:
            st.html(what_if_part("muted", text="Profiles come with the boards: add nodes under Inventory."))
        elif scenario.requests and not scenario.mode.places_new:
            st.html(
                what_if_part(
                    "muted", text=f"{MODES[scenario.mode][0]} leaves new requests out: choose Add to place them."
                )
            )
    return scenario


def _take_typed(scenario: Scenario, typed: str, *, replaces: bool, profiles: tuple[str, ...]) -> None:
    try:
        found = read_requests(typed, profiles)
    except ScenarioInvalid as error:
        st.html(what_if_part("message", text=str(error), is_bad=True))
        return
    requests = found if replaces else (*scenario.requests, *found)
    mode = scenario.mode if scenario.mode.places_new else Mode.ADD
    what_if_state.adopt(replace(scenario, requests=requests, mode=mode))
    st.rerun()


def _inventory(scenario: Scenario) -> Scenario:
    if scenario.fleet is not None:
        st.html(what_if_part("label", text="Measured nodes", sub="a node taken out: what runs there waits"))
        frame = scenario_tables.nodes_frame(scenario)
        rows = table(
            "nodes",
            frame,
            {
                "GPUs": _COLUMN.NumberColumn(width="small"),
                "Use": _COLUMN.CheckboxColumn(width="small", help="Off: plan as if the node were gone."),
                "Untouched": _COLUMN.CheckboxColumn(width="small", help="Nothing is changed or placed there."),
                "One profile": _COLUMN.CheckboxColumn(
                    width="small", help="MIG strategy single: all GPU instances of the node have one profile."
                ),
            },
            rows="fixed",
            disabled=("Node", "Board", "GPUs"),
            height="auto" if len(frame) <= NODES_PER_SCREEN else 300,
        )
        scenario = scenario_tables.with_nodes(scenario, rows)
    with st.container(key="stacked-inventory"):
        left, right = st.columns([3, 2], gap="medium")
    with left:
        st.html(what_if_part("label", text="Added nodes", sub="empty, MIG mode off"))
        rows = table(
            "groups",
            scenario_tables.groups_frame(scenario),
            {
                "Name": _COLUMN.TextColumn(max_chars=60, help="Nodes are called name-1, name-2, …", width="small"),
                "Board": _COLUMN.SelectboxColumn(
                    options=[board.name for board in plannable_boards()], required=True, width="medium"
                ),
                "Nodes": _COLUMN.NumberColumn(min_value=0, max_value=20_000, step=1, default=1, width="small"),
                "GPUs each": _COLUMN.NumberColumn(min_value=1, max_value=72, step=1, default=8, width="small"),
                "One profile": _COLUMN.CheckboxColumn(width="small", default=False),
            },
        )
    scenario = scenario_tables.with_groups(scenario, rows)
    with right:
        elastic = st.multiselect(
            "As many more as needed of",
            [board.name for board in plannable_boards()],
            default=list(scenario.elastic_boards),
            key=key("elastic"),
            placeholder="no further GPUs",
        )
        per_node = scenario.elastic_gpus_per_node
        if elastic:
            per_node = st.number_input(
                "GPUs in each of those nodes", 1, 72, scenario.elastic_gpus_per_node, key=key("elastic-nodes")
            )
    return replace(scenario, elastic_boards=tuple(elastic), elastic_gpus_per_node=int(per_node))


def _rules(scenario: Scenario) -> Scenario:
    with st.container(key="stacked-rules"):
        left, middle, right = st.columns(3, gap="medium")
    with left:
        scenario = _apart(scenario)
    with middle:
        scenario = _stays(scenario)
    with right:
        return _room(scenario)


def _apart(scenario: Scenario) -> Scenario:
    rules = scenario.rules
    everywhere = st.selectbox(
        "Replicas of every service",
        list(_APART),
        index=list(_APART.values()).index(rules.spread.get(EVERY)),
        key=key("spread"),
    )
    spread = {service: how for service, how in rules.spread.items() if service != EVERY}
    how = _APART[everywhere]
    if how is not None:
        spread[EVERY] = how
    tenants = sorted(_tenants(scenario) | (rules.isolated_tenants - {EVERY}))
    told = [_EVERY_TENANT if EVERY in rules.isolated_tenants else "", *sorted(rules.isolated_tenants - {EVERY})]
    isolated = st.multiselect(
        "Tenants that share no GPU",
        [_EVERY_TENANT, *tenants],
        default=[name for name in told if name],
        key=key("tenants", tenants),
        placeholder="all may share",
    )
    names = frozenset(EVERY if name == _EVERY_TENANT else name for name in isolated)
    return replace(scenario, rules=replace(rules, spread=spread, isolated_tenants=names))


def _tenants(scenario: Scenario) -> set[str]:
    measured = {w.tenant for w in scenario.fleet.workloads} if scenario.fleet else set()
    return {name for name in measured | {one.tenant for one in scenario.requests} if name}


def _stays(scenario: Scenario) -> Scenario:
    rules = scenario.rules
    fleet = scenario.fleet
    gpus = [gpu.id for gpu in fleet.gpus] if fleet else []
    running = sorted((w.id for w in fleet.workloads if w.profile), key=natural_key) if fleet else []
    pinned, untouched = scenario.pinned, rules.untouchable_gpus
    if fleet is not None:
        offered = [*gpus, *sorted(untouched - set(gpus))]
        untouched = frozenset(
            st.multiselect(
                "GPUs that are not touched", offered, default=sorted(untouched), key=key("gpus"), placeholder="none"
            )
        )
        pinned = frozenset(
            st.multiselect(
                "Workloads that stay",
                running,
                default=sorted(pinned & set(running)),
                key=key("pinned"),
                placeholder="none",
            )
        )
        rules = replace(
            rules,
            stay_on_board=st.checkbox(
                "Running work stays on its kind of board",
                rules.stay_on_board,
                key=key("stay-on-board"),
                help="Boards of different sizes have profiles of the same name: 1g.10gb is not the same on all.",
            ),
        )
    most = st.number_input(
        "Most moves", 0, 1_000_000, rules.max_moves, key=key("max-moves"), placeholder="no limit", step=1
    )
    limits = list(dict.fromkeys((*TIME_LIMITS_S, scenario.time_limit_s)))
    limit = st.selectbox(
        "Time for the plan",
        sorted(limits),
        index=sorted(limits).index(scenario.time_limit_s),
        format_func=lambda seconds: f"{seconds:.0f} s at most",
        key=key("time-limit"),
    )
    rules = replace(rules, untouchable_gpus=untouched, max_moves=None if most is None else int(most))
    return replace(scenario, rules=rules, pinned=pinned, time_limit_s=limit)


def _room(scenario: Scenario) -> Scenario:
    profiles = list(profiles_of(scenario))
    survives = st.toggle(
        "Survive the loss of any one node",
        value=scenario.rules.survive_node_loss,
        key=key("node-loss"),
        help="Free instances elsewhere can take the work of any one node, profile by profile.",
    )
    scenario = replace(scenario, rules=replace(scenario.rules, survive_node_loss=survives))
    st.html(what_if_part("label", text="Keep free", sub="instances ready to be taken"))
    reserves = table(
        "reserves",
        scenario_tables.reserves_frame(scenario),
        {
            "Profile": _COLUMN.SelectboxColumn(options=profiles, required=True),
            "Keep free": _COLUMN.NumberColumn(min_value=0, max_value=50_000, step=1, default=1, width="small"),
        },
        depends=profiles,
    )
    scenario = scenario_tables.with_reserves(scenario, reserves)
    unit = "US dollars per hour" if scenario.prices else "GPUs"
    st.html(what_if_part("label", text="A larger profile may serve", sub=f"priced in {unit}"))
    upsizes = table(
        "upsizes",
        scenario_tables.upsizes_frame(scenario),
        {
            "Asked for": _COLUMN.SelectboxColumn(options=profiles, required=True),
            "May get": _COLUMN.SelectboxColumn(options=profiles, required=True),
            "Price": _COLUMN.NumberColumn(min_value=0.0, step=0.05, default=0.0, width="small"),
        },
        depends=profiles,
    )
    return scenario_tables.with_upsizes(scenario, upsizes)


def _prices(scenario: Scenario) -> Scenario:
    boards = [board.name for board in boards_of(scenario)]
    if not boards:
        st.html(what_if_part("muted", text="Boards come with nodes: add some under Inventory."))
        return scenario
    left, right = st.columns([2, 3], gap="medium")
    with left:
        rows = table(
            "prices",
            scenario_tables.prices_frame(scenario),
            {"USD per GPU and hour": _COLUMN.NumberColumn(min_value=0.0, max_value=1e6, format="%.2f")},
            depends=boards,
            rows="fixed",
            disabled=("Board",),
        )
    scenario = scenario_tables.with_prices(scenario, rows)
    missing = prices_missing(scenario)
    text = "With a price for every board the plan costs least, instead of using fewest GPUs. No price is built in."
    with right:
        st.html(what_if_part("muted", text=text))
        if missing:
            st.html(what_if_part("message", text=f"No price yet for {', '.join(missing)}.", is_bad=True))
    return scenario

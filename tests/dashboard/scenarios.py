"""Scenarios for the tests of the what-if page: one measured by hand, one of everything that can be set."""

from dataclasses import replace

from dashboard.scenario import NodeGroup, Request, Scenario, live_scenario
from planner.fleet import DeviceState
from planner.hardware import PlacedInstance, Placement
from planner.mig.fleet_problem import FleetDemand
from planner.mig.measured_fleet import MeasuredFleet, measured_fleet
from planner.mig.plan import Mode
from planner.mig.problem import Reserve, Rules, Spread, Upsize
from tests.dashboard.fleets import fleet, gpu, instance, pod

FREE = DeviceState.FREE


def small_fleet() -> MeasuredFleet:
    """Three A100 on two nodes, half empty: the work of two fits on one."""
    return measured_fleet(
        fleet(
            gpu(0, instances=(instance(1, "3g.20gb", pods=(pod("chat-0"),)), instance(2, "3g.20gb", state=FREE))),
            gpu(1, instances=(instance(1, "3g.20gb", pods=(pod("chat-1"),)), instance(2, "3g.20gb", state=FREE))),
            gpu(0, node="node-b", pods=(pod("llama-70b-0", "research"),)),
            gpu(7, node="node-b", board="L40S", pods=(pod("other-0"),)),
        )
    )


def live() -> Scenario:
    return live_scenario(small_fleet())


def full() -> Scenario:
    """Every field away from its default."""
    return Scenario(
        title="zehn mehr <b>ä</b>",
        mode=Mode.ADD,
        fleet=small_fleet(),
        demand=FleetDemand.AS_MEASURED,
        without_nodes=frozenset({"node-b"}),
        groups=(NodeGroup(name="new", board="H100-80GB-SXM", nodes=2, gpus_per_node=4),),
        elastic_boards=("A30-24GB",),
        elastic_gpus_per_node=4,
        requests=(
            Request(profile="1g.10gb", count=5, service="embed", tenant="search"),
            Request(profile="3g.40gb", count=1),
        ),
        by_hand={"node-a/1": (PlacedInstance("3g.20gb", Placement(4, 4)),)},
        pinned=frozenset({"llm/chat-0"}),
        rules=Rules(
            single_nodes=frozenset({"new-1"}),
            spread={"*": Spread.GPU, "embed": Spread.NODE},
            isolated_tenants=frozenset({"search"}),
            reserves=(Reserve(profile="1g.10gb", count=2),),
            survive_node_loss=False,
            upsizes=(Upsize(profile="1g.10gb", to=("1g.20gb", "2g.20gb"), price=0.25),),
            untouchable_gpus=frozenset({"node-a/0"}),
            untouchable_nodes=frozenset({"node-x"}),
            max_moves=3,
        ),
        prices={"A100-40GB": 1.5, "H100-80GB-SXM": 3.0, "A30-24GB": 0.5},
        time_limit_s=10.0,
    )


def empty(*requests: Request, nodes: int = 1, board: str = "A100-40GB", gpus: int = 2, **more: object) -> Scenario:
    """Added nodes and requests, nothing measured."""
    group = NodeGroup(name="node", board=board, nodes=nodes, gpus_per_node=gpus)
    return replace(Scenario(groups=(group,), requests=requests), **more)

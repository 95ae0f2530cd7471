"""Fleets with the join behind them, from facts made by hand; GPUs are those of `tests.planner.joins`."""

from dataclasses import replace

from planner.attribution import attribute
from planner.cost_attribution import attribute_costs
from planner.fleet import Fleet, Node
from planner.join_facts import JoinFacts
from planner.units import GpuUuid, NodeName
from store.fleet_snapshot import JoinedFleet
from store.join import JoinedCluster
from tests.dashboard import fleets


def joined(facts: JoinFacts) -> JoinedFleet:
    """One cluster whose node has every GPU of the facts, uncut."""
    work = attribute(facts)
    gpus = tuple(
        replace(
            fleets.gpu(number),
            uuid=GpuUuid(one.subject.gpu_uuid),
            node=one.node,
            engines=work.devices[one.subject].engines,
            not_attributable=work.devices[one.subject].not_attributable,
        )
        for number, one in enumerate(facts.devices)
    )
    node = Node(name=NodeName("node-a"), cluster="default", gpus=gpus)
    return JoinedFleet(
        fleet=Fleet(taken_at=facts.end, nodes=(node,)),
        clusters=(JoinedCluster(cluster="default", work=work, costs=attribute_costs(facts, work)),),
    )

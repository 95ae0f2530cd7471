"""A store with a past: what the collector would have stored, had it scraped the simulated cluster all along."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby

from collectors.config import DEFAULT_CLUSTER, target_name
from collectors.dcgm.collector import read_exposition
from planner.readings import Batch
from sample_data.cluster import SimulatedCluster, simulated_cluster
from sample_data.dcgm_exporter import exposition
from sample_data.identity import fraction
from sample_data.service_discovery import metrics_path
from store.database import open_engine
from store.schema import migrate
from store.writes import register_source, write_batch

SOURCE_NAME = "simulated"

_WINDOW_S = 3600
"""What is written in one transaction and shows as one attempt, as when a collector catches up with Prometheus."""


def build_demo_store(
    url: str,
    *,
    nodes: int = 6,
    seed: int = 1,
    until: datetime,
    hours: float = 24,
    step_s: float = 300,
    address: str = "127.0.0.1:9400",
    interval_s: float = 30.0,
) -> int:
    """Fill the store at `url` with the `hours` before `until`, one scrape per node and `step_s`; returns how many.

    The scrapes lie on multiples of `step_s` and, the last one, at `until`; doing it again changes nothing. `address`
    and `interval_s` are those of a `[[sources.dcgm]]` table named SOURCE_NAME that may go on from there. Raises
    StoreError.
    """
    if until.tzinfo is None:
        raise ValueError("`until` needs a time zone.")
    cluster = simulated_cluster(nodes, seed)
    targets = {node.name: target_name(f"http://{address}{metrics_path(node.name)}") for node in cluster.nodes}
    scrapes = 0
    engine = open_engine(url)
    try:
        migrate(engine)
        source_id = register_source(
            engine, cluster=DEFAULT_CLUSTER, name=SOURCE_NAME, kind="dcgm", interval_s=interval_s, now=until
        )
        for _, window in groupby(_moments(until, hours, step_s), key=lambda at: at.timestamp() // _WINDOW_S):
            moments = tuple(window)
            for node_name, target in targets.items():
                write_batch(
                    engine,
                    source_id=source_id,
                    target=target,
                    started_at=moments[-1],
                    seconds=0.02 + 0.05 * fraction(seed, node_name, moments[-1]),  # simulated like the rest
                    batch=_batch(cluster, node_name, target, moments),
                )
                scrapes += len(moments)
    finally:
        engine.dispose()
    return scrapes


def _batch(cluster: SimulatedCluster, node_name: str, target: str, moments: Sequence[datetime]) -> Batch:
    """All that one exporter said at these moments; the gaps are those of the last."""
    batches = [
        read_exposition(exposition(cluster, node_name, at), observed_at=at, source=SOURCE_NAME, target=target)
        for at in moments
    ]
    return Batch(
        readings=tuple(reading for batch in batches for reading in batch.readings),
        facts=tuple(fact for batch in batches for fact in batch.facts),
        gaps=batches[-1].gaps,
        nodes_complete=batches[-1].nodes_complete,
    )


def _moments(until: datetime, hours: float, step_s: float) -> Iterator[datetime]:
    end_s = until.timestamp()
    step = math.ceil((end_s - 3600 * hours) / step_s)
    while step * step_s < end_s:
        yield datetime.fromtimestamp(step * step_s, UTC)
        step += 1
    yield until.astimezone(UTC)

"""What facts about servers make of the inventory: rows of servers and of the models they offer, with their times.

A fact that lists all models of its server also ends those that it does not name. What a fact is silent about stays as
another road to the same server told it: one that reads metrics only, as through Prometheus, knows no adapter that was
never asked for. Nobody tells that a server is gone: its row stays open, and old.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from planner.device_state import STALE_AFTER
from planner.serving_readings import ServingFact
from store.cluster_tables import ServedModelRecord, ServerRecord
from store.interval_rows import Children, IntervalTable, Key, load_intervals, save_intervals, take_in, timeline_of
from store.intervals import FLAP_GRACE, Timeline

_SERVERS = IntervalTable(
    model=ServerRecord,
    scope="endpoint",
    key=(),
    values=("engine", "version", "settings", "pod_namespace", "pod_name", "pod_ip", "node", "gpu_uuids"),
    identity=frozenset({"engine", "version", "pod_namespace", "pod_name", "pod_ip", "node", "gpu_uuids"}),
)
_MODELS = IntervalTable(
    model=ServedModelRecord,
    scope="endpoint",
    key=("name",),
    values=(
        "root",
        "parent",
        "max_model_len",
        "is_loaded",
        "size_bytes",
        "device_bytes",
        "context_tokens",
        "expires_at",
        "quantization",
        "digest",
    ),
    # Ollama moves the expiry with every request, and sizes with the context: those are kept as last told.
    identity=frozenset({"root", "parent", "max_model_len", "is_loaded", "quantization", "digest"}),
)


def write_servers(connection: Connection, cluster_id: int, facts: Sequence[ServingFact]) -> None:
    """Take facts about servers into the inventory."""
    if not facts:
        return
    endpoints = sorted({fact.endpoint for fact in facts})
    oldest = min(fact.observed_at for fact in facts) - FLAP_GRACE
    servers: dict[str, Timeline] = {endpoint: _SERVERS.timeline() for endpoint in endpoints}
    models: dict[str, dict[Key, Timeline]] = {endpoint: {} for endpoint in endpoints}
    for endpoint, _, interval in load_intervals(connection, _SERVERS, cluster_id, among=endpoints, not_before=oldest):
        servers[endpoint].intervals.append(interval)
    for endpoint, key, interval in load_intervals(connection, _MODELS, cluster_id, among=endpoints, not_before=oldest):
        timeline_of(models[endpoint], key, _MODELS).intervals.append(interval)
    for fact in sorted(facts, key=lambda one: one.observed_at):
        offered: dict[Key, dict[str, Any]] = {
            (model.name,): {name: getattr(model, name) for name in _MODELS.values} for model in fact.models
        }
        known = models[fact.endpoint]
        children = [Children(kind=_MODELS, timelines=known, seen=offered, spared=_spared(fact, known))]
        take_in(servers[fact.endpoint], fact.observed_at, _server_values(fact), children)
    save_intervals(connection, _SERVERS, cluster_id, ((name, (), one) for name, one in servers.items()))
    save_intervals(
        connection,
        _MODELS,
        cluster_id,
        ((endpoint, key, one) for endpoint, found in models.items() for key, one in found.items()),
    )


def _spared(fact: ServingFact, known: Mapping[Key, Timeline]) -> frozenset[Key]:
    """Models that a fact which lists not all of them does not end: another road told of them not long ago."""
    if fact.lists_models:
        return frozenset()
    at = fact.observed_at
    spared: set[Key] = set()
    for key, timeline in known.items():
        interval = timeline.covering(at)
        if interval is None or at - interval.last_seen > STALE_AFTER:
            continue
        # Metrics tell the name and nothing else; what more is known comes from a list.
        is_from_list = any(interval.values[name] is not None for name in _MODELS.values if name != "is_loaded")
        if is_from_list or not fact.models:
            spared.add(key)
    return frozenset(spared)


def _server_values(fact: ServingFact) -> dict[str, Any]:
    return {
        "engine": fact.engine.value,
        "version": fact.version,
        "settings": _text(fact.settings),
        "pod_namespace": fact.pod_namespace,
        "pod_name": fact.pod_name,
        "pod_ip": fact.pod_ip,
        "node": fact.node,
        "gpu_uuids": _text(fact.gpu_uuids),
    }


def _text(values: Sequence[Any]) -> str | None:
    """As JSON; nothing told is unknown."""
    return json.dumps(values, separators=(",", ":")) if values else None

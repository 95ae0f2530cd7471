"""Servers and their models over time: what changed, what two roads tell, and who has fallen silent."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Engine

from planner.readings import Batch
from planner.serving_readings import ServedModel, ServingEngine
from planner.units import GpuUuid, NodeName
from store.cluster_queries import servers
from tests.store.batches import NOW, after, everything, rows, spans, write
from tests.store.serving_batches import ENDPOINT, MODEL, server


def tell(engine: Engine, source_id: int, *facts: object, at: float = 0) -> None:
    write(engine, source_id, Batch(servers=tuple(facts)), at=after(at))  # type: ignore[arg-type]


def test_a_server_comes_back_as_it_was_told(engine: Engine, source_id: int) -> None:
    model = ServedModel(
        name="llama3:8b",
        root="llama",
        parent="base",
        max_model_len=8192,
        is_loaded=True,
        size_bytes=5 * 10**9,
        device_bytes=4 * 10**9,
        context_tokens=4096,
        expires_at=after(300),
        quantization="Q4_K_M",
        digest="sha256:1",
    )
    told = server(
        0,
        engine=ServingEngine.OLLAMA,
        models=[model],
        pod=("inference", "a-0"),
        settings=(("block_size", "16"), ("dtype", "auto")),
        pod_ip="10.0.0.7",
        node=NodeName("node-a"),
        gpu_uuids=(GpuUuid("GPU-1"),),
    )
    tell(engine, source_id, told)
    [known] = servers(engine, NOW)
    assert (known.fact, known.since, known.cluster) == (told, NOW, "default")


def test_what_one_road_leaves_out_the_other_tells(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, server(0, pod=("inference", "a-0"), version=None))
    tell(engine, source_id, server(10, node=NodeName("node-a")), at=10)
    tell(engine, source_id, server(30, pod=("inference", "a-0"), version=None), at=30)
    [known] = servers(engine, after(30))
    assert (known.fact.version, known.fact.pod_name, known.fact.node) == ("0.33.0", "a-0", "node-a")
    assert known.fact.observed_at == after(30)
    assert len(rows(engine, "server_record")) == 1


def test_another_version_is_another_row(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, server(0, version="0.20.2"))
    tell(engine, source_id, server(3600, version="0.33.0"), at=3600)
    assert spans(engine, "server_record", "version") == [("0.20.2", 0, 3600), ("0.33.0", 3600, None)]
    [known] = servers(engine, after(60))
    assert known.fact.version == "0.20.2"


def test_a_model_that_is_not_offered_any_more_has_ended(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, server(0, models=["base", "adapter"]))
    tell(engine, source_id, server(600, models=["base"]), at=600)
    assert spans(engine, "served_model_record", "name") == [("base", 0, None), ("adapter", 0, 600)]


def test_a_road_that_reads_metrics_only_ends_no_model_that_the_server_lists(engine: Engine, source_id: int) -> None:
    # the metrics of vLLM name the base model; its adapters are in /v1/models alone
    listed = (ServedModel(name="base", root="org/base", is_loaded=True), ServedModel(name="sql", parent="base"))
    named = (ServedModel(name="base", is_loaded=True),)
    for at in range(0, 1800, 60):
        tell(engine, source_id, server(at, models=listed), at=at)
        tell(engine, source_id, server(at + 10, version=None, models=named, lists_models=False), at=at + 10)
    assert spans(engine, "served_model_record", "name") == [("base", 0, None), ("sql", 0, None)]
    # Once nobody has listed them for 15 minutes (since 1740), metrics are all there is: those of 2650 are the first.
    for at in range(1800, 3600, 60):
        tell(engine, source_id, server(at + 10, version=None, models=named, lists_models=False), at=at + 10)
    assert spans(engine, "served_model_record", "name") == [("base", 0, None), ("sql", 0, 2650)]


def test_metrics_without_a_name_end_no_model(engine: Engine, source_id: int) -> None:
    # llama.cpp: /v1/models tells the model, no metric does
    tell(engine, source_id, server(0, engine=ServingEngine.LLAMA_CPP, models=[ServedModel(name="q", is_loaded=True)]))
    tell(engine, source_id, server(10, engine=ServingEngine.LLAMA_CPP, models=[], lists_models=False), at=10)
    assert spans(engine, "served_model_record", "name") == [("q", 0, None)]


def test_a_model_that_metrics_alone_know_ends_with_them(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, server(0, models=[ServedModel(name="a", is_loaded=True)], lists_models=False))
    tell(engine, source_id, server(60, models=[ServedModel(name="b", is_loaded=True)], lists_models=False), at=60)
    assert spans(engine, "served_model_record", "name") == [("a", 0, 60), ("b", 60, None)]


def test_ollama_moves_the_expiry_and_unloads(engine: Engine, source_id: int) -> None:
    loaded = ServedModel(name="llama3:8b", is_loaded=True, expires_at=after(300), device_bytes=5)
    for at in (0.0, 60.0):
        moved = replace(loaded, expires_at=after(at + 300))
        tell(engine, source_id, server(at, engine=ServingEngine.OLLAMA, models=[moved]), at=at)
    unloaded = ServedModel(name="llama3:8b", is_loaded=False)
    tell(engine, source_id, server(600, engine=ServingEngine.OLLAMA, models=[unloaded]), at=600)
    assert spans(engine, "served_model_record", "is_loaded", "expires_at", "device_bytes") == [
        (True, after(360), 5, 0, 600),
        (False, None, None, 600, None),
    ]


def test_a_server_that_fell_silent_is_not_there_any_more(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, server(0))
    assert len(servers(engine, after(600))) == 1
    assert servers(engine, after(3600)) == ()
    assert len(servers(engine, after(3600), seen_within=timedelta(hours=2))) == 1
    assert servers(engine, after(60), cluster="nowhere") == ()


def test_facts_that_come_late_do_not_change_what_is_now(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, server(600, models=["new"]), at=600)
    tell(engine, source_id, server(0, models=["old"], version="0.20.2"), at=601)
    [known] = servers(engine, after(600))
    assert ([one.name for one in known.fact.models], known.fact.version) == (["new"], "0.33.0")
    [before] = servers(engine, after(60))
    assert ([one.name for one in before.fact.models], before.fact.version) == (["old"], "0.20.2")


def test_another_pod_at_the_same_address_is_another_row(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, server(0, pod=("inference", "a-0")))
    tell(engine, source_id, server(600, pod=("inference", "b-0")), at=600)
    assert spans(engine, "server_record", "pod_name") == [("a-0", 0, 600), ("b-0", 600, None)]


def test_telling_a_server_twice_changes_nothing(engine: Engine, source_id: int) -> None:
    told = (server(0), server(0, "10.0.0.8:8000", models=[MODEL, "other"]))
    tell(engine, source_id, *told)
    before = everything(engine)
    tell(engine, source_id, *told)
    assert everything(engine) == before
    assert [row["endpoint"] for row in rows(engine, "server_record")] == [ENDPOINT, "10.0.0.8:8000"]

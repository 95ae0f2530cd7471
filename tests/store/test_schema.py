"""The tables: what migrations make is what the code expects, and one column per metric."""

import importlib.resources
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

import store
from planner.metrics import METRICS
from planner.readings import Batch
from store.database import open_engine
from store.errors import StoreOutdated
from store.fleet_snapshot import take_snapshot
from store.samples import to_ms
from store.schema import SchemaState, migrate, schema_state
from store.serving_queries import counted
from store.tables import METADATA, Sample, table_of
from store.writes import register_source
from tests.store.batches import NOW, after, write
from tests.store.serving_batches import counter, server


def test_samples_have_one_column_per_metric() -> None:
    columns = [column.name for column in table_of(Sample).columns]
    assert columns == ["device_id", "observed_at_ms", *(metric.name for metric in METRICS)]


def test_migrations_make_the_tables_that_the_code_has(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_migrations_make_the_indexes_and_constraints_that_the_code_has(engine: Engine, tmp_path: Path) -> None:
    direct = open_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    METADATA.create_all(direct)
    migrated, created = inspect(engine), inspect(direct)
    for table in METADATA.tables:
        for question in ("get_unique_constraints", "get_foreign_keys", "get_indexes", "get_pk_constraint"):
            answers = [sorted(map(str, getattr(one, question)(table))) for one in (migrated, created)]
            assert answers[0] == answers[1], (table, question)
    with engine.connect() as one, direct.connect() as other:
        statement = text("SELECT name, wr FROM pragma_table_list WHERE type = 'table' AND name IN ('sample', 'source')")
        assert sorted(map(tuple, one.execute(statement))) == sorted(map(tuple, other.execute(statement)))
    direct.dispose()


def test_a_new_file_goes_from_missing_to_current(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'new.db'}")
    assert schema_state(engine) is SchemaState.MISSING
    migrate(engine)
    assert schema_state(engine) is SchemaState.CURRENT
    engine.dispose()


def test_migrating_twice_changes_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO cluster (name) VALUES ('kept')"))
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM cluster")).scalars().all() == ["kept"]


def test_migrations_can_be_taken_back_and_made_again(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    assert schema_state(engine) is SchemaState.MISSING
    migrate(engine)
    assert schema_state(engine) is SchemaState.CURRENT


def test_a_store_of_an_older_version_keeps_what_it_holds(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'old.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    lasting = ("2026-11-22 11:00:00.000000", None, "2026-11-22 11:59:30.000000")
    # What gpufleet wrote before it knew of engines, gateways and Kubernetes.
    old_rows = {
        "cluster": [(1, "default")],
        "source": [(1, 1, "dcgm", "dcgm", 30.0, "2026-11-22 11:00:00.000000")],
        "gpu_record": [(1, 1, "GPU-1", "node-a", 0, "NVIDIA H100 80GB HBM3", None, "580.1", "disabled", *lasting)],
        "pod_record": [(1, 1, "GPU-1", -1, "inference", "a-0", "vllm", None, 0, *lasting)],
        "device_key": [(1, 1, "GPU-1", -1)],
        "scenario": [("ten more", "2026-11-22 10:00:00.000000", 1, "{}")],
    }
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for table, told in old_rows.items():
            for row in told:
                marks = ", ".join("?" * len(row))
                connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks})", row)
        connection.exec_driver_sql(
            "INSERT INTO sample (device_id, observed_at_ms, power_watts) VALUES (1, ?, 300.0)", (to_ms(after(-30)),)
        )
    assert schema_state(engine) is SchemaState.OUTDATED
    migrate(engine)
    assert schema_state(engine) is SchemaState.CURRENT
    with engine.connect() as connection:
        for table, told in old_rows.items():
            assert [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")] == told
    [gpu] = take_snapshot(engine, NOW).gpus()
    assert (gpu.metrics["power_watts"].value, [pod.name for pod in gpu.pods]) == (300.0, ["a-0"])
    # And it takes what is new now, under the source it had.
    source_id = register_source(engine, cluster="default", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
    write(engine, source_id, Batch(counters=(counter(0, 5.0, started=-60),), servers=(server(0),)))
    assert [one.increment for one in counted(engine, after(-60), NOW)] == [5.0]
    engine.dispose()


def test_a_store_of_a_newer_gpufleet_is_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert schema_state(engine) is SchemaState.NEWER
    with pytest.raises(StoreOutdated, match="update gpufleet"):
        migrate(engine)


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'half.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE sample (mine INTEGER)"))  # in the way of the last table that is made
    with pytest.raises(Exception, match="already exists"):
        migrate(engine)
    assert inspect(engine).get_table_names() == ["sample"]
    engine.dispose()


def test_migrations_travel_with_the_package() -> None:
    files = {file.name for file in (importlib.resources.files("store") / "migrations").iterdir()}
    assert {"env.py", "script.py.mako", "versions"} <= files

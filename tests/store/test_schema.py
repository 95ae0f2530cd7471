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
from store.database import open_engine
from store.errors import StoreOutdated
from store.schema import SchemaState, migrate, schema_state
from store.tables import METADATA, Sample, table_of


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

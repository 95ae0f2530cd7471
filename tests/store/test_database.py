"""Opening the store: how it is set up, who may write, and what is said when it is not there."""

import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

import store
from store.database import open_engine, reading, writing
from store.errors import (
    StoreCorrupt,
    StoreMissing,
    StoreOutdated,
    StoreReadOnly,
    StoreUnavailable,
    StoreUrlInvalid,
)
from store.schema import migrate
from tests.store.batches import NOW, batch, readings, rows, source_of_new_cluster, write


def pragma(engine: Engine, name: str) -> object:
    with engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def test_the_collector_writes_ahead_with_foreign_keys_and_patience(engine: Engine) -> None:
    told = {name: pragma(engine, name) for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")}
    assert told == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 10_000}


def test_foreign_keys_are_held(engine: Engine) -> None:
    with pytest.raises(StoreUnavailable, match="FOREIGN KEY"), writing(engine) as connection:
        connection.execute(text("INSERT INTO sample (device_id, observed_at_ms) VALUES (99, 1)"))


def test_a_reader_cannot_write(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}", read_only=True)
    assert pragma(engine, "query_only") == 1
    with pytest.raises(StoreReadOnly, match="may not be written"), reading(engine) as connection:
        connection.execute(text("INSERT INTO cluster (name) VALUES ('x')"))
    engine.dispose()


def test_a_reader_sees_the_last_commit_while_a_writer_is_in_the_middle(engine: Engine, path: Path) -> None:
    reader = open_engine(f"sqlite:///{path}", read_only=True)
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO cluster (name) VALUES ('half')"))
        assert rows(reader, "cluster") == []
    assert [row["name"] for row in rows(reader, "cluster")] == ["half"]
    reader.dispose()


def test_a_reader_works_while_no_writer_has_the_store_open(path: Path) -> None:
    assert not path.with_name("gpufleet.db-wal").exists()
    reader = open_engine(f"sqlite:///{path}", read_only=True)
    assert rows(reader, "cluster") == []
    reader.dispose()


def test_a_reader_notices_that_the_file_was_replaced(path: Path, empty_store: Path) -> None:
    reader = open_engine(f"sqlite:///{path}", read_only=True)
    other = open_engine(f"sqlite:///{path.with_name('other.db')}")
    with other.begin() as connection:
        connection.execute(text("CREATE TABLE cluster (id INTEGER PRIMARY KEY, name TEXT)"))
        connection.execute(text("INSERT INTO cluster (name) VALUES ('replaced')"))
    other.dispose()
    path.with_name("other.db").replace(path)
    assert [row["name"] for row in rows(reader, "cluster")] == ["replaced"]
    path.unlink()
    with pytest.raises(StoreMissing), reading(reader) as connection:
        connection.execute(text("SELECT 1 FROM cluster"))
    reader.dispose()


@pytest.mark.parametrize("name", ["plain.db", "with space.db", "50%.db", "hash#tag.db", "ümlaut.db"])
def test_any_file_name_can_be_opened_by_both(tmp_path: Path, name: str) -> None:
    writer = open_engine(f"sqlite:///{tmp_path / name}")
    migrate(writer)
    reader = open_engine(f"sqlite:///{tmp_path / name}", read_only=True)
    assert rows(reader, "cluster") == []
    assert (tmp_path / name).is_file()
    reader.dispose()
    writer.dispose()


def test_a_missing_file_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="start the collector"):
        open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'gpufleet.db'}", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_tables_is_called_missing(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreMissing, match="no tables yet"):
        open_engine(f"sqlite:///{tmp_path / 'empty.db'}", read_only=True)


def test_tables_of_a_newer_version_are_refused(engine: Engine, path: Path) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreOutdated, match="update gpufleet"):
        open_engine(f"sqlite:///{path}", read_only=True)


def test_tables_of_an_older_version_are_refused_with_what_to_do(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alembic.script.ScriptDirectory.get_current_head", lambda self: "9999")
    with pytest.raises(StoreOutdated, match="it migrates"):
        open_engine(f"sqlite:///{path}", read_only=True)


def test_a_store_in_memory_is_refused() -> None:
    with pytest.raises(StoreUrlInvalid, match="is a file"):
        open_engine("sqlite://")


@pytest.mark.parametrize("url", ["gpufleet.db", "", "carrierpigeon://user:s3cret@host/db", "sqlite+nothing:///x.db"])
def test_a_url_that_cannot_be_a_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreUrlInvalid) as caught:
        open_engine(url)
    assert "sqlite:///gpufleet.db" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_an_error_of_the_driver_names_the_store(tmp_path: Path) -> None:
    path = tmp_path / "100 % mine.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreCorrupt, match=re.escape(f"{path}: the file is not an SQLite database")):
        open_engine(f"sqlite:///{path}", read_only=True)


def test_the_folder_of_a_new_store_is_made(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'a' / 'b' / 'gpufleet.db'}")
    with reading(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreMissing, match="cannot be made"):
        open_engine(f"sqlite:///{tmp_path / 'file' / 'gpufleet.db'}")


def test_threads_write_through_one_engine_without_losing_anything(engine: Engine) -> None:
    source_id, _ = source_of_new_cluster(engine)

    def work(number: int) -> None:
        for _ in range(5):
            write(engine, source_id, batch(readings=readings(NOW, {"power_watts": 1.0}, number)), target=f"t{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(engine, "sample")) == 6
    assert len(rows(engine, "collection_attempt")) == 6


def test_processes_that_start_together_all_find_the_tables_made(tmp_path: Path) -> None:
    program = (
        "import sys; from store.database import open_engine; from store.schema import migrate;"
        "engine = open_engine(sys.argv[1]); migrate(engine); engine.dispose()"
    )
    url = f"sqlite:///{tmp_path / 'together.db'}"
    started = [subprocess.Popen([sys.executable, "-W", "error", "-c", program, url]) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    with sqlite3.connect(tmp_path / "together.db") as connection:
        newest = max(file.name for file in (Path(store.__file__).parent / "migrations" / "versions").glob("0*.py"))
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest[:4],)]
    connection.close()

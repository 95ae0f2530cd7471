"""What happens to the store when the machine fails: killed writers, full disks, files that may not be written."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text

from store import database
from store.database import open_engine, reading, writing
from store.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreMissing, StoreReadOnly, StoreUnavailable
from store.queries import data_version
from store.schema import migrate
from tests.store.batches import NOW, after, batch, everything, fact, pod, readings, rows, write

_WRITER = """
import sys
from store.database import open_engine
from store.writes import register_source
from tests.store.batches import NOW, after, batch, fact, pod, readings, write

engine = open_engine(sys.argv[1])
source_id = register_source(engine, cluster="default", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
for step in range(1_000_000):
    at = after(30 * step)
    told = batch(
        *(fact(at, number, pods=[pod(f"p{step}")]) for number in range(8)),
        readings=[
            one for number in range(8) for moment in range(50)
            for one in readings(after(30 * step + moment / 10), {"power_watts": 1.0, "energy_joules": 2.0}, number)
        ],
        watermark=at,
    )
    write(engine, source_id, told, at=at)
    print(step, flush=True)
"""
_SAMPLES_PER_BATCH = 8 * 50


@pytest.mark.parametrize("wait_lines", [1, 4, 9])
def test_a_killed_writer_loses_at_most_the_batch_in_flight(path: Path, wait_lines: int) -> None:
    url = f"sqlite:///{path}"
    program = [sys.executable, "-c", _WRITER, url]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as writer:
        assert writer.stdout is not None
        for _ in range(wait_lines):
            assert writer.stdout.readline()
        # The log grows while a batch is being written: kill in the middle of one, not between two.
        log = path.with_name(path.name + "-wal")
        before = log.stat()
        while (log.stat().st_size, log.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns):
            pass
        writer.send_signal(signal.SIGKILL)
        said = wait_lines + len(writer.stdout.readlines())
    assert writer.returncode == -signal.SIGKILL

    engine = open_engine(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    attempts = rows(engine, "collection_attempt")
    # What was said to be written is there; one more may be, killed between its commit and saying so.
    assert said <= len(attempts) <= said + 1
    assert len(rows(engine, "sample")) == _SAMPLES_PER_BATCH * len(attempts)
    assert len(rows(engine, "pod_record")) == 8 * len(attempts)
    assert {row["last_seen"] for row in rows(engine, "gpu_record")} == {attempts[-1]["started_at"]}
    assert [row["read_until"] for row in rows(engine, "watermark")] == [attempts[-1]["started_at"]]
    write(engine, attempts[0]["source_id"], batch(fact(after(9_999))), at=after(9_999))
    engine.dispose()


@contextmanager
def no_room_left(engine: Engine) -> Iterator[None]:
    """Allow the file no page more than it has: SQLite then reports what it reports on a full disk."""

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")

    def lift(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA max_page_count=1073741823")

    engine.dispose()
    event.listen(engine, "checkout", limit)
    yield
    event.remove(engine, "checkout", limit)
    event.listen(engine, "checkout", lift)


def test_a_full_disk_refuses_the_whole_batch_and_recovers(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW), readings=readings(NOW, {"power_watts": 1.0})))
    before = everything(engine)
    large = batch(
        *(fact(after(30), number, pods=[pod("a")]) for number in range(200)),
        readings=[
            one for number in range(200) for one in readings(after(30), {"power_watts": 1.0, "xid_code": 0.0}, number)
        ],
        watermark=after(30),
    )
    with no_room_left(engine):
        for _ in range(2):
            with pytest.raises(StoreFull, match="no space left"):
                write(engine, source_id, large, at=after(30))
            assert everything(engine) == before
    write(engine, source_id, large, at=after(30))
    assert len(rows(engine, "gpu_record")) == 200
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_a_locked_store_is_busy_and_then_works(
    engine: Engine, source_id: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    impatient = open_engine(f"sqlite:///{path}")
    with writing(engine) as connection:
        connection.execute(text("UPDATE source SET interval_s = 31"))
        with pytest.raises(StoreBusy, match="try again"):
            write(impatient, source_id, batch(fact(NOW)))
    write(impatient, source_id, batch(fact(NOW)))
    assert len(rows(engine, "gpu_record")) == 1
    impatient.dispose()


def test_writing_through_a_reader_is_refused(engine: Engine, source_id: int, path: Path) -> None:
    reader = open_engine(f"sqlite:///{path}", read_only=True)
    before = everything(engine)
    with pytest.raises(StoreReadOnly, match="write access"):
        write(reader, source_id, batch(fact(NOW)))
    assert everything(engine) == before
    reader.dispose()


def test_without_the_right_to_write_the_store_is_read_only_and_can_still_be_read(
    engine: Engine, source_id: int, path: Path
) -> None:
    write(engine, source_id, batch(fact(NOW)))
    before = everything(engine)
    engine.dispose()  # the last writer takes the log with it
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        # Root may write everything: become nobody, who owns nothing here.
        answer = _said_as_nobody(path) if os.geteuid() == 0 else _said_when_writing_and_reading(path)
    finally:
        path.parent.chmod(0o755)
        path.chmod(0o644)
    assert answer == ["StoreReadOnly", "1"]
    assert everything(engine) == before


def _said_when_writing_and_reading(path: Path) -> list[str]:
    said = []
    writer = open_engine(f"sqlite:///{path}")
    try:
        write(writer, 1, batch(fact(NOW)))
    except StoreError as error:
        said.append(type(error).__name__)
    writer.dispose()
    reader = open_engine(f"sqlite:///{path}", read_only=True)
    said.append(data_version(reader))
    reader.dispose()
    return said


def _said_as_nobody(path: Path) -> list[str]:
    """The same in a fork without rights; a new interpreter would not be allowed to read the project."""
    for folder in path.parent.parents:
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)  # pytest keeps its folders to their owner
    lines_read, lines_written = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(lines_read)
            os.setgid(65534)
            os.setuid(65534)
            os.write(lines_written, "\n".join(_said_when_writing_and_reading(path)).encode())
        finally:
            os._exit(0)
    os.close(lines_written)
    with os.fdopen(lines_read) as pipe:
        answer = pipe.read().splitlines()
    os.waitpid(child, 0)
    return answer


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"this is not a database, however long it may be" * 100)
    with pytest.raises(StoreCorrupt, match="not an SQLite database"):
        open_engine(f"sqlite:///{tmp_path / 'no.db'}", read_only=True)
    engine = open_engine(f"sqlite:///{tmp_path / 'no.db'}")
    with pytest.raises(StoreCorrupt):
        migrate(engine)
    engine.dispose()


def test_a_damaged_file_is_corrupt(engine: Engine, source_id: int, path: Path) -> None:
    told = [one for number in range(300) for one in readings(NOW, {"power_watts": 1.0, "xid_code": 0.0}, number)]
    write(engine, source_id, batch(readings=told))
    engine.dispose()
    content = bytearray(path.read_bytes())
    page = 4096
    content[page * 20 :] = b"\x7f" * (len(content) - page * 20)
    path.write_bytes(content)
    damaged = open_engine(f"sqlite:///{path}")
    with pytest.raises(StoreCorrupt, match="damaged"), reading(damaged) as connection:
        connection.execute(text("SELECT sum(power_watts) FROM sample")).scalar_one()
    damaged.dispose()


def test_an_unreachable_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    engine = open_engine(f"sqlite:///{tmp_path / 'folder.db'}")
    with pytest.raises((StoreUnavailable, StoreMissing)), reading(engine) as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()


def test_an_error_in_the_middle_of_a_batch_leaves_nothing_of_it(
    engine: Engine, source_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    before = everything(engine)
    with monkeypatch.context() as patch:
        patch.setattr("store.writes._write_attempt", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            write(engine, source_id, batch(fact(NOW), readings=readings(NOW, {"power_watts": 1.0})))
    assert everything(engine) == before

"""What-if scenarios by name: saved, listed, loaded and deleted; what their text means is the dashboard's business."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, delete, func, select

from store.database import reading, upsert, writing
from store.errors import ScenarioMissing, ScenarioRefused
from store.tables import ScenarioRecord, table_of

NAME_LIMIT = 80
BODY_LIMIT_BYTES = 4 * 1024 * 1024
COUNT_LIMIT = 500
"""Scenarios in one store: enough for people, and no way to fill the disk from a page."""

_TABLE = table_of(ScenarioRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedScenario:
    """One scenario in the list of them."""

    name: str
    saved_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioText:
    """A scenario as it was saved."""

    name: str
    saved_at: datetime
    version: int
    body: str


def save_scenario(engine: Engine, *, name: str, version: int, body: str, now: datetime, replace: bool = False) -> str:
    """Keep the scenario; returns its name without surrounding blanks.

    Raises ScenarioRefused, also for a name that is taken unless `replace`.
    """
    name = checked_name(name)
    size = len(body.encode("utf-8", "surrogatepass"))
    if size > BODY_LIMIT_BYTES:
        raise ScenarioRefused(
            f"the scenario takes {size / 1e6:.1f} MB, more than the {BODY_LIMIT_BYTES / 1e6:.1f} MB that are kept: "
            "plan fewer GPUs in one scenario"
        )
    with writing(engine) as connection:
        is_known = connection.execute(select(_TABLE.c.name).where(_TABLE.c.name == name)).first() is not None
        if is_known and not replace:
            raise ScenarioRefused(f"a scenario {name!r} is saved already: choose another name, or replace it")
        if not is_known and connection.execute(select(func.count()).select_from(_TABLE)).scalar_one() >= COUNT_LIMIT:
            raise ScenarioRefused(f"{COUNT_LIMIT} scenarios are saved already: delete one first")
        row = {"name": name, "saved_at": now, "version": version, "body": body}
        statement = upsert(connection, _TABLE).values(row)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name"],
                set_={column: statement.excluded[column] for column in ("saved_at", "version", "body")},
            )
        )
    return name


def saved_scenarios(engine: Engine) -> tuple[SavedScenario, ...]:
    """Every saved scenario, the newest first."""
    with reading(engine) as connection:
        rows = connection.execute(select(_TABLE.c.name, _TABLE.c.saved_at).order_by(_TABLE.c.saved_at.desc()))
        return tuple(SavedScenario(name=row.name, saved_at=row.saved_at) for row in rows)


def load_scenario(engine: Engine, name: str) -> ScenarioText:
    """The scenario of that name; raises ScenarioMissing."""
    with reading(engine) as connection:
        row = connection.execute(select(_TABLE).where(_TABLE.c.name == name)).mappings().first()
    if row is None:
        raise ScenarioMissing(f"no scenario {name!r} is saved in this store: it may have been deleted or renamed")
    return ScenarioText(**row)


def delete_scenario(engine: Engine, name: str) -> None:
    """Forget the scenario; raises ScenarioMissing."""
    with writing(engine) as connection:
        if connection.execute(delete(_TABLE).where(_TABLE.c.name == name)).rowcount == 0:
            raise ScenarioMissing(f"no scenario {name!r} is saved in this store: it may have been deleted already")


def checked_name(name: str) -> str:
    """The name without surrounding blanks; raises ScenarioRefused for one that cannot be shown on one line."""
    name = unicodedata.normalize("NFC", name).strip()
    if not name:
        raise ScenarioRefused("a scenario needs a name")
    if len(name) > NAME_LIMIT:
        raise ScenarioRefused(f"the name has {len(name)} characters; at most {NAME_LIMIT} are kept")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for character in name):
        raise ScenarioRefused("the name holds characters that cannot be seen: write it with letters, digits and signs")
    return name

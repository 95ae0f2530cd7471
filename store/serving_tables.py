"""The tables of what serving engines said: rows only, no rules. Times are integer milliseconds since the epoch, UTC.

Counters and histograms are stored as what was added between two readings, `since_ms` to `observed_at_ms`; stretches of
one series never overlap. The state tables hold the last cumulative value, from which the next increment is made, and
with `quiet_since_ms` the stretch up to `observed_at_ms` in which nothing was added and for which there is no row yet.
"""

from sqlalchemy import BigInteger, Column, ForeignKey, UniqueConstraint
from sqlmodel import Field, SQLModel

NO_ROWID = {"sqlite_with_rowid": False}


def _milliseconds(*, nullable: bool = False) -> Column[int]:
    return Column(BigInteger, nullable=nullable)


def _moment() -> Column[int]:
    return Column(BigInteger, primary_key=True, autoincrement=False)


def _owner(key: str) -> Column[int]:
    return Column(ForeignKey(key), primary_key=True, autoincrement=False)


class ServingKey(SQLModel, table=True):
    """A small number for (cluster, endpoint, model, rank), so that readings stay narrow."""

    __tablename__ = "serving_key"
    __table_args__ = (UniqueConstraint("cluster_id", "endpoint", "model", "rank"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    endpoint: str
    model: str = ""
    rank: str = ""


class ServingSample(SQLModel, table=True):
    """Gauges of one subject at one moment: a column per gauge of `planner.serving_metrics` that has no label."""

    __tablename__ = "serving_sample"
    __table_args__ = (NO_ROWID,)

    serving_id: int = Field(sa_column=_owner("serving_key.id"))
    observed_at_ms: int = Field(sa_column=_moment())
    requests_running: float | None = None
    requests_waiting: float | None = None
    requests_swapped: float | None = None
    requests_limit: float | None = None
    kv_cache_used_ratio: float | None = None
    kv_cache_tokens: float | None = None
    model_loaded_bytes: float | None = None
    model_device_bytes: float | None = None


class ServingSeries(SQLModel, table=True):
    """A small number for (subject, metric, label) of counters, and of gauges with a label."""

    __tablename__ = "serving_series"
    __table_args__ = (UniqueConstraint("serving_id", "metric", "label"),)

    id: int | None = Field(default=None, primary_key=True)
    serving_id: int = Field(foreign_key="serving_key.id")
    metric: str
    label: str = ""


class ServingLabelSample(SQLModel, table=True):
    """One value of a gauge with a label."""

    __tablename__ = "serving_label_sample"
    __table_args__ = (NO_ROWID,)

    series_id: int = Field(sa_column=_owner("serving_series.id"))
    observed_at_ms: int = Field(sa_column=_moment())
    value: float


class CounterState(SQLModel, table=True):
    """The last cumulative value of a counter."""

    __tablename__ = "counter_state"
    __table_args__ = (NO_ROWID,)

    series_id: int = Field(sa_column=_owner("serving_series.id"))
    value: float
    observed_at_ms: int = Field(sa_column=_milliseconds())
    started_at_ms: int | None = Field(default=None, sa_column=_milliseconds(nullable=True))
    quiet_since_ms: int | None = Field(default=None, sa_column=_milliseconds(nullable=True))


class CounterIncrement(SQLModel, table=True):
    """What a counter added from `since_ms` to `observed_at_ms`."""

    __tablename__ = "counter_increment"
    __table_args__ = (NO_ROWID,)

    series_id: int = Field(sa_column=_owner("serving_series.id"))
    observed_at_ms: int = Field(sa_column=_moment())
    since_ms: int = Field(sa_column=_milliseconds())
    increment: float


class CounterReset(SQLModel, table=True):
    """A counter that began anew; `value_before` is the last one seen of the former count."""

    __tablename__ = "counter_reset"
    __table_args__ = (NO_ROWID,)

    series_id: int = Field(sa_column=_owner("serving_series.id"))
    observed_at_ms: int = Field(sa_column=_moment())
    value_before: float


class HistogramBounds(SQLModel, table=True):
    """Finite upper bounds of buckets in rising order, as a JSON list; stored once for all histograms that have them."""

    __tablename__ = "histogram_bounds"

    id: int | None = Field(default=None, primary_key=True)
    bounds: str = Field(unique=True)


class HistogramSeries(SQLModel, table=True):
    """A small number for (subject, metric, bounds): other bounds are another series."""

    __tablename__ = "histogram_series"
    __table_args__ = (UniqueConstraint("serving_id", "metric", "bounds_id"),)

    id: int | None = Field(default=None, primary_key=True)
    serving_id: int = Field(foreign_key="serving_key.id")
    metric: str
    bounds_id: int = Field(foreign_key="histogram_bounds.id")


class HistogramState(SQLModel, table=True):
    """The last cumulative counts of a histogram: a JSON list, one per bound, and last the count of all values."""

    __tablename__ = "histogram_state"
    __table_args__ = (NO_ROWID,)

    series_id: int = Field(sa_column=_owner("histogram_series.id"))
    counts: str
    total: float
    observed_at_ms: int = Field(sa_column=_milliseconds())
    started_at_ms: int | None = Field(default=None, sa_column=_milliseconds(nullable=True))
    quiet_since_ms: int | None = Field(default=None, sa_column=_milliseconds(nullable=True))


class HistogramIncrement(SQLModel, table=True):
    """What a histogram added from `since_ms` to `observed_at_ms`.

    `buckets` names the buckets in which values fell: number of the bucket (0 is up to the first bound, the last lies
    above all bounds), how many, and so on, separated by commas. `total` is the sum of these values.
    """

    __tablename__ = "histogram_increment"
    __table_args__ = (NO_ROWID,)

    series_id: int = Field(sa_column=_owner("histogram_series.id"))
    observed_at_ms: int = Field(sa_column=_moment())
    since_ms: int = Field(sa_column=_milliseconds())
    buckets: str
    total: float


class HistogramReset(SQLModel, table=True):
    """A histogram that began anew; `count_before` is how many values the former one had when it was last seen."""

    __tablename__ = "histogram_reset"
    __table_args__ = (NO_ROWID,)

    series_id: int = Field(sa_column=_owner("histogram_series.id"))
    observed_at_ms: int = Field(sa_column=_moment())
    count_before: float


class RolledUp(SQLModel, table=True):
    """Up to when the increments of a table have been merged into longer stretches."""

    __tablename__ = "rolled_up"

    name: str = Field(primary_key=True)
    until_ms: int = Field(sa_column=_milliseconds())


class CounterBeginning(SQLModel, table=True):
    """How far back a counter is followed, for readings that come in late from before its first sight.

    `first` is the oldest reading. `head` and `until` are the ends of a stretch that late readings may still divide.
    Each is a JSON list: moment, cumulative counts, sum, start. `until_ms` is the moment of the last of them.
    """

    __tablename__ = "counter_beginning"
    __table_args__ = (NO_ROWID,)

    series_id: int = Field(sa_column=_owner("serving_series.id"))
    until_ms: int = Field(sa_column=_milliseconds())
    first: str
    head: str | None = None
    until: str | None = None


class HistogramBeginning(SQLModel, table=True):
    """The same for a histogram."""

    __tablename__ = "histogram_beginning"
    __table_args__ = (NO_ROWID,)

    series_id: int = Field(sa_column=_owner("histogram_series.id"))
    until_ms: int = Field(sa_column=_milliseconds())
    first: str
    head: str | None = None
    until: str | None = None

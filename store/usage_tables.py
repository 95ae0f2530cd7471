"""The tables of what gateways and trace stores say about use and cost: rows only, no rules."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKey, Index, UniqueConstraint
from sqlmodel import Field, SQLModel


class TokenUsageRecord(SQLModel, table=True):
    """Use and cost of a model in one span of time, as its source told it last; null is what it does not say.

    What is told before the end of the span counts up to `told_at`.
    """

    __tablename__ = "token_usage"
    __table_args__ = (
        UniqueConstraint("source_id", "start_at", "end_at", "model", "provider", "dimension", "owner"),
        Index("ix_token_usage_end_at", "end_at"),
    )

    id: int | None = Field(default=None, primary_key=True)
    source_id: int = Field(foreign_key="source.id")
    start_at: datetime
    end_at: datetime
    model: str
    provider: str = ""
    dimension: str = ""
    owner: str = ""
    requests: int | None = Field(default=None, sa_column=Column(BigInteger))
    input_tokens: int | None = Field(default=None, sa_column=Column(BigInteger))
    output_tokens: int | None = Field(default=None, sa_column=Column(BigInteger))
    total_tokens: int | None = Field(default=None, sa_column=Column(BigInteger))
    cost_usd: float | None = None
    usage_details: str
    cost_details: str
    told_at: datetime


class SpendSeries(SQLModel, table=True):
    """One counter of a gateway with its last cumulative value, from which the next increment is made.

    `since_ms` is the moment from which its increments count: its start or its first sight; null where it was forgotten.
    """

    __tablename__ = "spend_series"
    __table_args__ = (UniqueConstraint("cluster_id", "gateway", "model", "provider", "dimension", "owner", "quantity"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    gateway: str
    model: str
    provider: str = ""
    dimension: str = ""
    owner: str = ""
    quantity: str
    value: float
    observed_at_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    started_at_ms: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    resets: int = 0
    last_reset_ms: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    since_ms: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))


class SpendHour(SQLModel, table=True):
    """What a counter of a gateway added in one hour, which begins at `hour_ms` after the epoch."""

    __tablename__ = "spend_hour"
    __table_args__ = ({"sqlite_with_rowid": False},)

    series_id: int = Field(sa_column=Column(ForeignKey("spend_series.id"), primary_key=True, autoincrement=False))
    hour_ms: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    increment: float

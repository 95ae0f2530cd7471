"""The table of what was found wrong with each target last: rows only, no rules."""

from datetime import datetime

from sqlmodel import Field, SQLModel


class SourceDiagnosis(SQLModel, table=True):
    """The newest diagnosis of one target; `body` is JSON (`store/diagnoses.py`)."""

    __tablename__ = "source_diagnosis"

    source_id: int = Field(foreign_key="source.id", primary_key=True)
    target: str = Field(primary_key=True)
    taken_at: datetime
    seconds: float
    body: str

"""First tables: clusters, sources and their attempts, inventory with validity intervals, wide samples."""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Spelled out, not read from planner.metrics: a migration says what was true when it was written.
_SAMPLE_METRICS = (
    "gpu_busy_ratio",
    "memory_busy_ratio",
    "encoder_busy_ratio",
    "decoder_busy_ratio",
    "memory_used_bytes",
    "memory_free_bytes",
    "memory_reserved_bytes",
    "memory_total_bytes",
    "gr_engine_active_ratio",
    "sm_active_ratio",
    "sm_occupancy_ratio",
    "tensor_active_ratio",
    "dram_active_ratio",
    "fp64_active_ratio",
    "fp32_active_ratio",
    "fp16_active_ratio",
    "sm_clock_hertz",
    "memory_clock_hertz",
    "temperature_celsius",
    "memory_temperature_celsius",
    "power_watts",
    "energy_joules",
    "pcie_tx_bytes_per_s",
    "pcie_rx_bytes_per_s",
    "nvlink_tx_bytes_per_s",
    "nvlink_rx_bytes_per_s",
    "nvlink_bytes_per_s",
    "pcie_replays",
    "xid_code",
    "clock_event_reasons",
    "power_throttle_s",
    "thermal_throttle_s",
    "ecc_uncorrectable",
    "ecc_correctable",
    "remapped_rows_uncorrectable",
    "remapped_rows_correctable",
    "row_remap_failed",
)


def upgrade() -> None:
    op.create_table(
        "cluster",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", AutoString(), nullable=False),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "source",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("cluster_id", sa.Integer(), sa.ForeignKey("cluster.id"), nullable=False),
        sa.Column("name", AutoString(), nullable=False),
        sa.Column("kind", AutoString(), nullable=False),
        sa.Column("interval_s", sa.Float(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.UniqueConstraint("cluster_id", "name"),
    )
    _create_collection_tables()
    _create_inventory_tables()
    op.create_table(
        "device_key",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("cluster_id", sa.Integer(), sa.ForeignKey("cluster.id"), nullable=False),
        sa.Column("gpu_uuid", AutoString(), nullable=False),
        sa.Column("gi_id", sa.Integer(), nullable=False),
        sa.UniqueConstraint("cluster_id", "gpu_uuid", "gi_id"),
    )
    op.create_table(
        "sample",
        sa.Column("device_id", sa.Integer(), sa.ForeignKey("device_key.id"), primary_key=True),
        sa.Column("observed_at_ms", sa.BigInteger(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Float(), nullable=True) for name in _SAMPLE_METRICS),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in (
        "sample",
        "device_key",
        "pod_record",
        "instance_record",
        "gpu_record",
        "source_gap",
        "watermark",
        "collection_attempt",
        "source",
        "cluster",
    ):
        op.drop_table(table)


def _create_collection_tables() -> None:
    op.create_table(
        "collection_attempt",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("source_id", sa.Integer(), sa.ForeignKey("source.id"), nullable=False),
        sa.Column("target", AutoString(), nullable=False),
        sa.Column("started_at", UTCDateTime(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("readings", sa.Integer(), nullable=False),
        sa.Column("facts", sa.Integer(), nullable=False),
        sa.Column("gaps", sa.Integer(), nullable=False),
        sa.Column("last_observed_at", UTCDateTime(), nullable=True),
        sa.Column("error_kind", AutoString(), nullable=True),
        sa.Column("error", AutoString(), nullable=True),
        sa.Column("permanent", sa.Boolean(), nullable=True),
        sa.UniqueConstraint("source_id", "target", "started_at"),
    )
    op.create_index("ix_collection_attempt_started_at", "collection_attempt", ["started_at"])
    op.create_index("ix_collection_attempt_last_observed_at", "collection_attempt", ["last_observed_at"])
    op.create_index(
        "ix_collection_attempt_last_success", "collection_attempt", ["source_id", "target", "ok", "started_at"]
    )
    op.create_table(
        "watermark",
        sa.Column("source_id", sa.Integer(), sa.ForeignKey("source.id"), primary_key=True),
        sa.Column("target", AutoString(), primary_key=True),
        sa.Column("read_until", UTCDateTime(), nullable=False),
    )
    op.create_table(
        "source_gap",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("source_id", sa.Integer(), sa.ForeignKey("source.id"), nullable=False),
        sa.Column("target", AutoString(), nullable=False),
        sa.Column("subject", AutoString(), nullable=False),
        sa.Column("metric", AutoString(), nullable=False),
        sa.Column("reason", AutoString(), nullable=False),
        sa.Column("first_seen", UTCDateTime(), nullable=False),
        sa.Column("last_seen", UTCDateTime(), nullable=False),
        sa.UniqueConstraint("source_id", "target", "subject", "metric", "reason"),
    )


def _create_inventory_tables() -> None:
    op.create_table(
        "gpu_record",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("cluster_id", sa.Integer(), sa.ForeignKey("cluster.id"), nullable=False),
        sa.Column("gpu_uuid", AutoString(), nullable=False),
        sa.Column("node", AutoString(), nullable=False),
        sa.Column("gpu_index", sa.Integer(), nullable=True),
        sa.Column("model_name", AutoString(), nullable=True),
        sa.Column("pci_bus_id", AutoString(), nullable=True),
        sa.Column("driver_version", AutoString(), nullable=True),
        sa.Column("mig_mode", AutoString(), nullable=True),
        *_interval_columns(),
        sa.UniqueConstraint("cluster_id", "gpu_uuid", "valid_from"),
    )
    op.create_index("ix_gpu_record_node", "gpu_record", ["node"])
    op.create_table(
        "instance_record",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("cluster_id", sa.Integer(), sa.ForeignKey("cluster.id"), nullable=False),
        sa.Column("gpu_uuid", AutoString(), nullable=False),
        sa.Column("gi_id", sa.Integer(), nullable=False),
        sa.Column("profile", AutoString(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=True),
        *_interval_columns(),
        sa.UniqueConstraint("cluster_id", "gpu_uuid", "gi_id", "valid_from"),
    )
    op.create_table(
        "pod_record",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("cluster_id", sa.Integer(), sa.ForeignKey("cluster.id"), nullable=False),
        sa.Column("gpu_uuid", AutoString(), nullable=False),
        sa.Column("gi_id", sa.Integer(), nullable=False),
        sa.Column("namespace", AutoString(), nullable=False),
        sa.Column("name", AutoString(), nullable=False),
        sa.Column("container", AutoString(), nullable=False),
        sa.Column("uid", AutoString(), nullable=True),
        sa.Column("shared", sa.Boolean(), nullable=False),
        *_interval_columns(),
        sa.UniqueConstraint("cluster_id", "gpu_uuid", "gi_id", "namespace", "name", "container", "valid_from"),
    )
    for table in ("gpu_record", "instance_record", "pod_record"):
        op.create_index(f"ix_{table}_gpu_uuid", table, ["gpu_uuid"])
        op.create_index(f"ix_{table}_valid_to", table, ["valid_to"])


def _interval_columns() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("valid_from", UTCDateTime(), nullable=False),
        sa.Column("valid_to", UTCDateTime(), nullable=True),
        sa.Column("last_seen", UTCDateTime(), nullable=False),
    )

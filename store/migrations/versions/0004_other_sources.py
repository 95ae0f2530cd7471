"""What serving engines, Kubernetes and gateways say: gauges, increments, servers, cluster objects, usage and cost."""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Spelled out, not read from planner.serving_metrics: a migration says what was true when it was written.
_GAUGES = (
    "requests_running",
    "requests_waiting",
    "requests_swapped",
    "requests_limit",
    "kv_cache_used_ratio",
    "kv_cache_tokens",
    "model_loaded_bytes",
    "model_device_bytes",
)
_INTERVALS = (
    "compute_instance_record",
    "process_record",
    "server_record",
    "served_model_record",
    "node_record",
    "kubernetes_pod_record",
    "quota_record",
    "claimed_device_record",
)


def upgrade() -> None:
    _create_gauges()
    _create_counters()
    _create_histograms()
    _create_roll_up()
    _create_gpu_details()
    _create_servers()
    _create_cluster_objects()
    _create_usage()


def downgrade() -> None:
    for table in (
        "spend_hour",
        "spend_series",
        "token_usage",
        "cluster_look",
        "source_found",
        *reversed(_INTERVALS),
        "rolled_up",
        "histogram_reset",
        "histogram_increment",
        "histogram_state",
        "histogram_series",
        "histogram_bounds",
        "counter_reset",
        "counter_increment",
        "counter_state",
        "serving_label_sample",
        "serving_series",
        "serving_sample",
        "serving_key",
    ):
        op.drop_table(table)


def _create_gauges() -> None:
    op.create_table(
        "serving_key",
        _id(),
        _foreign("cluster_id", "cluster.id"),
        *_texts("endpoint", "model", "rank"),
        sa.UniqueConstraint("cluster_id", "endpoint", "model", "rank"),
    )
    op.create_table(
        "serving_sample",
        *_moment_of("serving_id", "serving_key.id"),
        *(sa.Column(name, sa.Float(), nullable=True) for name in _GAUGES),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "serving_series",
        _id(),
        _foreign("serving_id", "serving_key.id"),
        *_texts("metric", "label"),
        sa.UniqueConstraint("serving_id", "metric", "label"),
    )
    op.create_table(
        "serving_label_sample",
        *_moment_of("series_id", "serving_series.id"),
        sa.Column("value", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )


def _create_counters() -> None:
    op.create_table(
        "counter_state",
        _state_of("serving_series.id"),
        sa.Column("value", sa.Float(), nullable=False),
        *_state_times(),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "counter_increment",
        *_moment_of("series_id", "serving_series.id"),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("increment", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "counter_reset",
        *_moment_of("series_id", "serving_series.id"),
        sa.Column("value_before", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )


def _create_histograms() -> None:
    op.create_table("histogram_bounds", _id(), *_texts("bounds"), sa.UniqueConstraint("bounds"))
    op.create_table(
        "histogram_series",
        _id(),
        _foreign("serving_id", "serving_key.id"),
        *_texts("metric"),
        _foreign("bounds_id", "histogram_bounds.id"),
        sa.UniqueConstraint("serving_id", "metric", "bounds_id"),
    )
    op.create_table(
        "histogram_state",
        _state_of("histogram_series.id"),
        *_texts("counts"),
        sa.Column("total", sa.Float(), nullable=False),
        *_state_times(),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "histogram_increment",
        *_moment_of("series_id", "histogram_series.id"),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        *_texts("buckets"),
        sa.Column("total", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "histogram_reset",
        *_moment_of("series_id", "histogram_series.id"),
        sa.Column("count_before", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )


def _create_roll_up() -> None:
    op.create_table(
        "rolled_up",
        sa.Column("name", AutoString(), primary_key=True),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
    )


def _create_gpu_details() -> None:
    _create_intervals(
        "compute_instance_record",
        ("gpu_uuid",),
        sa.Column("gi_id", sa.Integer(), nullable=False),
        sa.Column("ci_id", sa.Integer(), nullable=False),
        *_texts("profile", "mig_uuid", nullable=True),
        unique=("gpu_uuid", "gi_id", "ci_id"),
    )
    _create_intervals(
        "process_record",
        ("gpu_uuid",),
        sa.Column("gi_id", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        *_texts("kind"),
        *_texts("name", nullable=True),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        *_texts("user", "pod_uid", "container_id", nullable=True),
        unique=("gpu_uuid", "gi_id", "pid"),
    )
    for table in ("compute_instance_record", "process_record"):
        op.create_index(f"ix_{table}_gpu_uuid", table, ["gpu_uuid"])
    op.create_table(
        "source_found",
        sa.Column("source_id", sa.Integer(), sa.ForeignKey("source.id"), primary_key=True),
        sa.Column("target", AutoString(), primary_key=True),
        sa.Column("name", AutoString(), primary_key=True),
        *_texts("value"),
        sa.Column("last_seen", UTCDateTime(), nullable=False),
    )


def _create_servers() -> None:
    _create_intervals(
        "server_record",
        ("endpoint",),
        *_texts("engine"),
        *_texts("version", "settings", "pod_namespace", "pod_name", "pod_ip", "node", "gpu_uuids", nullable=True),
    )
    _create_intervals(
        "served_model_record",
        ("endpoint", "name"),
        *_texts("root", "parent", nullable=True),
        sa.Column("max_model_len", sa.Integer(), nullable=True),
        sa.Column("is_loaded", sa.Boolean(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("device_bytes", sa.BigInteger(), nullable=True),
        sa.Column("context_tokens", sa.Integer(), nullable=True),
        sa.Column("expires_at", UTCDateTime(), nullable=True),
        *_texts("quantization", "digest", nullable=True),
    )
    for table in ("server_record", "served_model_record"):
        op.create_index(f"ix_{table}_endpoint", table, ["endpoint"])


def _create_cluster_objects() -> None:
    op.create_table(
        "cluster_look",
        sa.Column("cluster_id", sa.Integer(), sa.ForeignKey("cluster.id"), primary_key=True),
        sa.Column("observed_at", UTCDateTime(), nullable=False),
        *_texts("version", nullable=True),
        *_texts("details"),
        *(sa.Column(name, UTCDateTime(), nullable=True) for name in ("nodes_at", "pods_at", "quotas_at", "claims_at")),
    )
    _create_intervals(
        "node_record",
        ("name",),
        *_texts("uid", "labels", "capacity", "allocatable", "taints"),
        sa.Column("unschedulable", sa.Boolean(), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=True),
        *_texts("product", nullable=True),
        sa.Column("gpu_count", sa.Integer(), nullable=True),
        sa.Column("replicas", sa.Integer(), nullable=True),
        *_texts("sharing", "mig_strategy", "mig_config", "mig_config_state", nullable=True),
        *_texts("addresses"),
        *_texts("driver_version", nullable=True),
    )
    _create_intervals(
        "kubernetes_pod_record",
        ("uid",),
        *_texts("namespace", "name"),
        *_texts("node", nullable=True),
        *_texts("phase"),
        *_texts("owner_kind", "owner_name", nullable=True),
        sa.Column("priority", sa.Integer(), nullable=True),
        *_texts("priority_class", nullable=True),
        *_texts("requests", "containers"),
        *_texts("pod_ip", "host_ip", nullable=True),
        *_texts("labels", "claims"),
        *_texts("pending_reason", nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("started_at", UTCDateTime(), nullable=True),
    )
    _create_intervals("quota_record", ("namespace", "name"), *_texts("hard", "used"))
    _create_intervals(
        "claimed_device_record",
        ("claim_namespace", "claim_name", "driver", "pool", "device"),
        *_texts("pods"),
        *_texts("node", "gpu_uuid", "mig_uuid", "profile", "pci_bus_id", nullable=True),
    )


def _create_usage() -> None:
    op.create_table(
        "token_usage",
        _id(),
        _foreign("source_id", "source.id"),
        sa.Column("start_at", UTCDateTime(), nullable=False),
        sa.Column("end_at", UTCDateTime(), nullable=False),
        *_texts("model", "provider", "dimension", "owner"),
        *(
            sa.Column(name, sa.BigInteger(), nullable=True)
            for name in ("requests", "input_tokens", "output_tokens", "total_tokens")
        ),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        *_texts("usage_details", "cost_details"),
        sa.Column("told_at", UTCDateTime(), nullable=False),
        sa.UniqueConstraint("source_id", "start_at", "end_at", "model", "provider", "dimension", "owner"),
    )
    op.create_index("ix_token_usage_end_at", "token_usage", ["end_at"])
    op.create_table(
        "spend_series",
        _id(),
        _foreign("cluster_id", "cluster.id"),
        *_texts("gateway", "model", "provider", "dimension", "owner", "quantity"),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("observed_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("resets", sa.Integer(), nullable=False),
        sa.Column("last_reset_ms", sa.BigInteger(), nullable=True),
        sa.UniqueConstraint("cluster_id", "gateway", "model", "provider", "dimension", "owner", "quantity"),
    )
    op.create_table(
        "spend_hour",
        _state_of("spend_series.id"),
        sa.Column("hour_ms", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("increment", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )


def _create_intervals(
    table: str, key: tuple[str, ...], *columns: sa.Column[object], unique: tuple[str, ...] = ()
) -> None:
    op.create_table(
        table,
        _id(),
        _foreign("cluster_id", "cluster.id"),
        *_texts(*key),
        *columns,
        sa.Column("valid_from", UTCDateTime(), nullable=False),
        sa.Column("valid_to", UTCDateTime(), nullable=True),
        sa.Column("last_seen", UTCDateTime(), nullable=False),
        sa.UniqueConstraint("cluster_id", *(unique or key), "valid_from"),
    )
    op.create_index(f"ix_{table}_valid_to", table, ["valid_to"])


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Integer(), primary_key=True)


def _foreign(name: str, key: str) -> sa.Column[object]:
    return sa.Column(name, sa.Integer(), sa.ForeignKey(key), nullable=False)


def _texts(*names: str, nullable: bool = False) -> tuple[sa.Column[object], ...]:
    return tuple(sa.Column(name, AutoString(), nullable=nullable) for name in names)


def _state_of(key: str) -> sa.Column[object]:
    return sa.Column("series_id", sa.Integer(), sa.ForeignKey(key), primary_key=True, autoincrement=False)


def _state_times() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("observed_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("quiet_since_ms", sa.BigInteger(), nullable=True),
    )


def _moment_of(name: str, key: str) -> tuple[sa.Column[object], ...]:
    return (
        sa.Column(name, sa.Integer(), sa.ForeignKey(key), primary_key=True, autoincrement=False),
        sa.Column("observed_at_ms", sa.BigInteger(), primary_key=True, autoincrement=False),
    )

"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "detections",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("received_ns", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("detections_time", "detections", ["time_ns"])
    op.create_index("detections_received", "detections", ["received_ns"])
    op.create_table(
        "events",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("lat", sa.Float(53), nullable=False),
        sa.Column("lon", sa.Float(53), nullable=False),
        sa.Column("probability", sa.Float(53), nullable=False),
        sa.Column("semi_major_m", sa.Float(53), nullable=False),
        sa.Column("label", sa.String(256)),
        sa.Column("incident", sa.String(160)),
        sa.Column("verdict", sa.String(16)),
        sa.Column("note", sa.Text),
        sa.Column("reviewer", sa.String(128)),
        sa.Column("reviewed_ns", sa.BigInteger),
        sa.Column("payload", sa.Text, nullable=False),
    )
    op.create_index("events_time", "events", ["time_ns", "id"])
    op.create_index("events_incident", "events", ["incident"])
    op.create_table(
        "revisions",
        sa.Column("event", sa.String(128), primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("told_ns", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
    )
    op.create_table(
        "arrivals",
        sa.Column("event", sa.String(128), primary_key=True),
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("detection", sa.String(128), primary_key=True),
    )
    op.create_index("arrivals_detection", "arrivals", ["node", "detection"])
    op.create_table(
        "incidents",
        sa.Column("id", sa.String(160), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("start_ns", sa.BigInteger, nullable=False),
        sa.Column("end_ns", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
    )
    op.create_index("incidents_start", "incidents", ["start_ns", "id"])
    op.create_table(
        "clips",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("detection", sa.String(128), primary_key=True),
        sa.Column("received_ns", sa.BigInteger, nullable=False),
        sa.Column("start_ns", sa.BigInteger, nullable=False),
        sa.Column("sample_rate_hz", sa.Integer, nullable=False),
        sa.Column("flac", sa.LargeBinary, nullable=False),
    )
    op.create_index("clips_received", "clips", ["received_ns"])
    op.create_table(
        "statuses",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("received_ns", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("payload", sa.Text, nullable=False),
    )
    op.create_index("statuses_received", "statuses", ["received_ns"])
    op.create_table(
        "log",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(160), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("log_subject", "log", ["subject"])

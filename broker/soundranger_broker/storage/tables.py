"""The tables, as they are at the newest schema version; `migrations` brings a database there.

Messages are kept as they were on the wire (`payload`); the columns beside it are what they are searched by. Times are
integer nanoseconds since 1970 UTC.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

METADATA: Final = MetaData()

# Reported by nodes. Bytes, for a signature is over bytes.
DETECTIONS: Final = Table(
    "detections",
    METADATA,
    Column("node", String(64), primary_key=True),
    Column("id", String(128), primary_key=True),
    Column("time_ns", BigInteger, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("detections_time", "time_ns"),
    Index("detections_received", "received_ns"),
)

# Each event once: its newest revision, and what people say of it (`verdict`, null until it is reviewed).
EVENTS: Final = Table(
    "events",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("lat", Float(53), nullable=False),
    Column("lon", Float(53), nullable=False),
    Column("probability", Float(53), nullable=False),
    Column("semi_major_m", Float(53), nullable=False),
    Column("label", String(256)),
    Column("incident", String(160)),
    Column("verdict", String(16)),
    Column("note", Text),
    Column("reviewer", String(128)),
    Column("reviewed_ns", BigInteger),
    Column("payload", Text, nullable=False),
    Index("events_time", "time_ns", "id"),
    Index("events_incident", "incident"),
)

# All that was ever told of an event.
REVISIONS: Final = Table(
    "revisions",
    METADATA,
    Column("event", String(128), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("told_ns", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
)

# Which detections the newest revision of an event names.
ARRIVALS: Final = Table(
    "arrivals",
    METADATA,
    Column("event", String(128), primary_key=True),
    Column("node", String(64), primary_key=True),
    Column("detection", String(128), primary_key=True),
    Index("arrivals_detection", "node", "detection"),
)

INCIDENTS: Final = Table(
    "incidents",
    METADATA,
    Column("id", String(160), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("end_ns", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    Index("incidents_start", "start_ns", "id"),
)

# Sound around a detection, as FLAC.
CLIPS: Final = Table(
    "clips",
    METADATA,
    Column("node", String(64), primary_key=True),
    Column("detection", String(128), primary_key=True),
    Column("received_ns", BigInteger, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("sample_rate_hz", Integer, nullable=False),
    Column("flac", LargeBinary, nullable=False),
    Index("clips_received", "received_ns"),
)

STATUSES: Final = Table(
    "statuses",
    METADATA,
    Column("node", String(64), primary_key=True),
    Column("received_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("payload", Text, nullable=False),
    Index("statuses_received", "received_ns"),
)

# Append-only: each entry carries the hash of the one before.
LOG: Final = Table(
    "log",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject", String(160), nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("log_subject", "subject"),
)

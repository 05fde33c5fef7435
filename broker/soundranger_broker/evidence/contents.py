"""What is in a bundle: its files and their forms, for who writes them and for who checks them."""

from typing import Final

import msgspec

from soundranger_broker.storage.chain import Entry, sha256
from soundranger_broker.storage.store import Verdict
from soundranger_node.messages import ClipHeader, NodeName

# What a reader of another version cannot know.
FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
EVENT_FILE: Final = "event.json"
REVISIONS: Final = "revisions.jsonl"
DETECTIONS: Final = "detections.jsonl"
STATUSES: Final = "statuses.jsonl"
CLIPS: Final = "clips.jsonl"
SETTINGS: Final = "settings.json"
REVIEW: Final = "review.json"
LOG: Final = "log.jsonl"
REPORT: Final = "report.html"
# All but the clips themselves.
ALWAYS: Final = (EVENT_FILE, REVISIONS, DETECTIONS, STATUSES, CLIPS, SETTINGS, REVIEW, REPORT, LOG)
# What the log's entry on the bundle covers: the log itself can hardly be part of it.
COVERED_BUT: Final = (MANIFEST, LOG)
# Of each byte one letter: a payload need not be UTF-8 where nobody reads it.
BYTES: Final = "latin-1"
# What the log's entry on the bundle is of.
EXPORT_KIND: Final = "export"
EXPORT_FORMAT: Final = "bundle"


class Part(msgspec.Struct, frozen=True):
    """One file of a bundle, as its manifest lists it."""

    sha256: str
    size: int

    @classmethod
    def of(cls, content: bytes) -> "Part":
        """Return the part that some content is."""
        return cls(sha256(content), len(content))


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle is of, when and by which version it was made, the log's newest entry then, and every file."""

    format: int
    software: str
    event: str
    made_ns: int
    head_seq: int
    head_hash: str
    files: dict[str, Part]


class RevisionLine(msgspec.Struct, frozen=True):
    """A revision and when it was told; the event as the bytes that were told."""

    told_ns: int
    event: msgspec.Raw


class StatusLine(msgspec.Struct, frozen=True):
    """What a node said of itself, and when that came in."""

    received_ns: int
    status: msgspec.Raw


class ClipLine(msgspec.Struct, frozen=True):
    """The file of a clip, whose it is, when it came in, and the header that came before it."""

    file: str
    node: NodeName
    received_ns: int
    header: ClipHeader


class ReviewFile(msgspec.Struct, frozen=True):
    """What a person said of the event, last."""

    verdict: Verdict | None = None
    reviewer: str | None = None
    note: str | None = None
    reviewed_ns: int | None = None


class SettingsFile(msgspec.Struct, frozen=True, kw_only=True):
    """The version that located, its settings, the weather that it used, and the newest settings that were logged."""

    software: str
    least_nodes: int
    most_range_m: float
    speed_of_sound_mps: float
    wind_mps: tuple[float, float] | None
    temperatures_c: dict[str, float]
    logged: list[Entry]


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of a bundle: the SHA-256 of all that is in it but of the log.

    `only` are the numbers of the entries, beside this, that the bundle holds of the log; none where it leaves none out.
    """

    format: str
    software: str
    files: dict[str, str]
    only: list[int]


def encoded(item: object) -> bytes:
    """Return an item as JSON that is the same everywhere."""
    return msgspec.json.encode(item, order="deterministic")


def line_of(payload: bytes) -> bytes:
    """Return a payload as a line: as it is, or, where there are line breaks in it, as a string of JSON."""
    return msgspec.json.encode(payload.decode(BYTES)) if b"\n" in payload else payload


def payload_of(line: bytes) -> bytes:
    """Return the payload that a line stands for.

    Raises:
        ValueError: it is none.
    """
    if not line.startswith(b'"'):
        return line
    return msgspec.json.decode(line, type=str).encode(BYTES)


def lines_of(content: bytes) -> list[bytes]:
    """Return the lines of a file."""
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def joined_lines(lines: list[bytes]) -> bytes:
    """Return a file of lines."""
    return b"".join(line + b"\n" for line in lines)


def export_of(entry: Entry) -> Export | None:
    """Return what an entry says of a bundle; None where it is of something else."""
    try:
        said = msgspec.json.decode(entry.body, type=Export) if entry.kind == EXPORT_KIND else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return said if said is not None and said.format == EXPORT_FORMAT else None

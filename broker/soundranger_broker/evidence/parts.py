"""The parts of a bundle, read: what cannot be read is told, and the rest is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from soundranger_broker.evidence.contents import (
    CLIPS,
    DETECTIONS,
    EVENT_FILE,
    LOG,
    REVIEW,
    REVISIONS,
    SETTINGS,
    STATUSES,
    ClipLine,
    ReviewFile,
    RevisionLine,
    SettingsFile,
    StatusLine,
    lines_of,
    payload_of,
)
from soundranger_broker.evidence.finding import Finding
from soundranger_broker.storage.chain import Entry
from soundranger_node.errors import MessageError
from soundranger_node.messages import DETECTION, EVENT, STATUS, Detection, Event, NodeStatus

T = TypeVar("T")
# What decoding raises for content that is none of its kind.
UNREADABLE = (msgspec.DecodeError, MessageError, ValueError, RecursionError)


@dataclass
class Parts:
    """What a bundle says, as far as it can be read; `unread` tells what cannot."""

    event: Event | None = None
    revisions: list[tuple[bytes, Event]] = field(default_factory=list)
    detections: list[tuple[bytes, Detection]] = field(default_factory=list)
    statuses: list[tuple[int, NodeStatus]] = field(default_factory=list)
    clips: list[ClipLine] = field(default_factory=list)
    settings: SettingsFile | None = None
    review: ReviewFile | None = None
    log: list[Entry] = field(default_factory=list)
    unread: list[Finding] = field(default_factory=list)


def read_parts(files: Mapping[str, bytes]) -> Parts:
    """Return what the files of a bundle say."""
    parts = Parts()

    def whole(name: str, decode: Callable[[bytes], T]) -> T | None:
        try:
            return decode(files[name]) if name in files else None
        except UNREADABLE as error:
            parts.unread.append(_unreadable(name, error))
            return None

    def each(name: str, decode: Callable[[bytes], T]) -> list[T]:
        read: list[T] = []
        for number, line in enumerate(lines_of(files.get(name, b"")), start=1):
            try:
                read.append(decode(line))
            except UNREADABLE as error:
                parts.unread.append(_unreadable(f"{name}, line {number},", error))
        return read

    parts.event = whole(EVENT_FILE, EVENT.decode)
    parts.revisions = each(REVISIONS, _revision)
    parts.detections = each(DETECTIONS, _detection)
    parts.statuses = each(STATUSES, _status)
    parts.clips = each(CLIPS, msgspec.json.Decoder(ClipLine).decode)
    parts.settings = whole(SETTINGS, msgspec.json.Decoder(SettingsFile).decode)
    parts.review = whole(REVIEW, msgspec.json.Decoder(ReviewFile).decode)
    parts.log = each(LOG, msgspec.json.Decoder(Entry).decode)
    return parts


def _unreadable(name: str, error: Exception) -> Finding:
    # A message of a library may show what the file holds.
    return Finding("files", name, f"cannot be read ({ascii(str(error))[1:-1][:200]})")


def _revision(line: bytes) -> tuple[bytes, Event]:
    told = bytes(msgspec.json.decode(line, type=RevisionLine).event)
    return told, EVENT.decode(told)


def _detection(line: bytes) -> tuple[bytes, Detection]:
    payload = payload_of(line)
    return payload, DETECTION.decode(payload)


def _status(line: bytes) -> tuple[int, NodeStatus]:
    read = msgspec.json.decode(line, type=StatusLine)
    return read.received_ns, STATUS.decode(bytes(read.status))

"""The evidence bundle: one ZIP file with all that an outsider needs to compute anew how an event came about.

docs/evidence.md says what each file holds. The same store and the same time give the same bytes.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy.engine import Connection

from soundranger_broker.bang import MIN_NODES
from soundranger_broker.evidence.archive import pack
from soundranger_broker.evidence.case import Case, LatLon, Record, Trace
from soundranger_broker.evidence.contents import (
    CLIPS,
    DETECTIONS,
    EVENT_FILE,
    EXPORT_FORMAT,
    EXPORT_KIND,
    FORMAT,
    LOG,
    MANIFEST,
    REPORT,
    REVIEW,
    REVISIONS,
    SETTINGS,
    STATUSES,
    ClipLine,
    Export,
    Manifest,
    Part,
    ReviewFile,
    SettingsFile,
    encoded,
    joined_lines,
    line_of,
)
from soundranger_broker.evidence.gather import Material, about, gather, newest
from soundranger_broker.evidence.report import report
from soundranger_broker.evidence.signatures import signatures
from soundranger_broker.evidence.sound import trace_of
from soundranger_broker.storage import reading
from soundranger_broker.storage.chain import Entry, sha256
from soundranger_broker.storage.store import Store, append
from soundranger_broker.window import MAX_RANGE_M
from soundranger_node import __version__
from soundranger_node.errors import InputError
from soundranger_node.messages import DETECTION, EVENT

# Entries of these kinds are shown whole; of what else is about others, only the hash is the reader's business.
SHOWN_KINDS: Final = {"retention", "settings"}
# How often a bundle is begun anew because more became known of its event meanwhile.
ATTEMPTS: Final = 5
# As many entries of the log, some MB, go into a bundle to show that they hold together; of an event of long ago, only
# those about it, and that of its bundle.
MOST_ENTRIES: Final = 10_000


def bundle(store: Store, event_id: str, now_ns: int) -> bytes:
    """Return the bundle of an event, as of now; the log notes that it was made, and of what.

    Raises:
        NoEventError: there is no such event.
        InputError: more and more is told of it just now.
    """
    for _ in range(ATTEMPTS):
        with store.engine.begin() as connection:
            material = gather(connection, event_id)
        files = _files(material)
        entry = _noted(store, material, files, now_ns)
        if entry is None:
            continue
        files[LOG] = joined_lines([encoded(one) for one in _log(store, material, entry)])
        return pack({MANIFEST: _manifest(event_id, files, entry, now_ns), **files})
    raise InputError(f"event {event_id}", "changes all the time", "try again in a minute")


class _ChangedError(Exception):
    """More was logged of the event while its bundle was made."""


def _noted(store: Store, material: Material, files: Mapping[str, bytes], now_ns: int) -> Entry | None:
    """Append to the log of what a bundle is made, and return the entry; None where that is not all any more."""
    covered = {name: sha256(content) for name, content in files.items()}
    try:
        with store.writing() as connection:
            only = _only(material, newest(connection))
            said = Export(format=EXPORT_FORMAT, software=__version__, files=covered, only=only)
            return _appended(connection, material, (now_ns, EXPORT_KIND, material.event.id, said))
    except _ChangedError:
        return None


def _appended(connection: Connection, material: Material, item: tuple[int, str, str, object]) -> Entry:
    """Append an entry to the log, and return it.

    Raises:
        _ChangedError: the material is out of date.
    """
    (entry,) = append(connection, [item])
    # Whoever has more to log waits for us now.
    if [one for one in about(connection, material.event) if one.seq < entry.seq] != list(material.log):
        raise _ChangedError
    return entry


def _only(material: Material, newest_seq: int) -> list[int]:
    """Return the numbers of the entries about the event where others have to be left out, being too many; else none."""
    if not material.log or newest_seq - material.log[0].seq < MOST_ENTRIES:
        return []
    return [one.seq for one in material.log]


def _log(store: Store, material: Material, last: Entry) -> list[Entry]:
    """Return what of the log belongs into a bundle, of which the last entry tells."""
    if _only(material, last.seq - 1):
        return [*material.log, last]
    first = min((one.seq for one in material.log), default=last.seq)
    own = {one.seq for one in [*material.log, last]}
    with store.engine.begin() as connection:
        return [
            one if one.seq in own or one.kind in SHOWN_KINDS else one.without_body()
            for one in reading.entries(connection, between=(first, last.seq))
        ]


def _files(material: Material) -> dict[str, bytes]:
    """Return all files but the log and the manifest."""
    clips = [
        (f"clips/{place:03}-{one.node}.flac", one)
        for place, one in enumerate(sorted(material.clips, key=lambda one: (one.node, one.header.detection)), start=1)
    ]
    lines = [encoded(ClipLine(name, one.node, one.received_ns, one.header)) for name, one in clips]
    review = material.stored.review
    return {
        REPORT: report(_case(material)).encode(),
        EVENT_FILE: bytes(material.revisions[-1].event) if material.revisions else EVENT.encode(material.event),
        REVISIONS: joined_lines([encoded(one) for one in material.revisions]),
        DETECTIONS: joined_lines([line_of(one.payload) for one in material.reports]),
        STATUSES: joined_lines([encoded(one) for one in material.statuses]),
        SETTINGS: encoded(_settings(material)),
        REVIEW: encoded(ReviewFile(review.verdict, review.reviewer, review.note, review.reviewed_ns)),
        CLIPS: joined_lines(lines),
        **{name: one.flac for name, one in clips},
    }


def _settings(material: Material) -> SettingsFile:
    detections = [DETECTION.decode(one.payload) for one in material.reports]
    return SettingsFile(
        software=__version__,
        least_nodes=MIN_NODES,
        most_range_m=MAX_RANGE_M,
        speed_of_sound_mps=material.event.speed_of_sound_mps,
        wind_mps=material.event.wind_mps,
        temperatures_c={one.node: one.temperature_c for one in detections if one.temperature_c is not None},
        logged=list(material.settings),
    )


def _case(material: Material) -> Case:
    statuses = material.said()
    places: dict[str, LatLon] = {one.node: (one.lat, one.lon) for one in statuses}
    detections = [(one.payload, DETECTION.decode(one.payload)) for one in material.reports]
    signed = signatures(detections, statuses)
    return Case(
        event=material.event,
        source="From the memory of the centre that located it, with all that others need to compute it anew.",
        detections=[one for _, one in detections],
        silent={name: places[name] for name in material.event.silent if name in places},
        traces=_traces(material),
        signatures={(one.node, one.detection): one.verdict for one in signed},
        record=Record(
            revisions=[reading.Revision(one.told_ns, EVENT.decode(bytes(one.event))) for one in material.revisions],
            review=material.stored.review,
            log=material.log,
        ),
    )


def _traces(material: Material) -> list[Trace]:
    traces = []
    for one in material.clips:
        try:
            traces.append(trace_of(one.node, one.header, one.flac))
        except InputError:
            # The clip is in the bundle as it came; a picture without it is better than none.
            continue
    return traces


def _manifest(event_id: str, files: Mapping[str, bytes], newest: Entry, now_ns: int) -> bytes:
    return encoded(
        Manifest(
            format=FORMAT,
            software=__version__,
            event=event_id,
            made_ns=now_ns,
            head_seq=newest.seq,
            head_hash=newest.hash,
            files={name: Part.of(content) for name, content in sorted(files.items())},
        )
    )

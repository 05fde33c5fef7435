"""Examining others' recordings: impulses found, bangs located, and the same report of each as of our own events."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from soundranger_broker.evidence.case import Case, Trace
from soundranger_broker.evidence.index_page import Source, index_page
from soundranger_broker.evidence.report import report
from soundranger_broker.evidence.section_picture import record_section
from soundranger_broker.evidence.sound import trace_in
from soundranger_broker.locator import locate_all
from soundranger_broker.words import counted
from soundranger_node.errors import InputError, SoundrangerError
from soundranger_node.evidence import read_evidence
from soundranger_node.messages import DETECTION, EVENT, Detection, Event
from soundranger_node.offline import recording_rows
from soundranger_node.recordings import Recording, read_recordings

TABLE: Final = "recordings.csv"
SUFFIXES: Final = (".wav", ".flac")
EVENTS: Final = "events.jsonl"
DETECTIONS: Final = "detections.jsonl"
INDEX: Final = "index.html"
WANTED: Final = f"name a folder of ShotSpotter evidence WAVs, or one with a {TABLE}"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Listened:
    """A recording, and the detections in it."""

    recording: Recording
    detections: list[Detection]


def recordings_in(folder: Path) -> tuple[list[Recording], list[SoundrangerError]]:
    """Return the recordings of a folder, by its table or by what its files carry, and what cannot be used.

    Raises:
        InputError: there is none.
    """
    if (folder / TABLE).is_file():
        recordings, problems = read_recordings(folder / TABLE)
    else:
        recordings, problems = _carried(folder)
    if not recordings:
        raise problems[0] if problems else InputError(str(folder), "holds no recording of known place and time", WANTED)
    return recordings, problems


def listen(recordings: Iterable[Recording], say: Say) -> list[Listened]:
    """Return what the node's detector hears in recordings; what cannot be heard is said and left out."""
    listened = []
    for one in recordings:
        try:
            rows = list(recording_rows(one, lambda _samples: None))
        except InputError as error:
            say(str(error))
        else:
            listened.append(Listened(one, [msgspec.convert(row, Detection) for row in rows]))
    return listened


def examine(listened: Sequence[Listened], folder: str) -> list[Case]:
    """Return the bangs that recordings hold, each as a case, in the order of time."""
    owners = {(one.node, one.id): heard.recording for heard in listened for one in heard.detections}
    detections = sorted((one for heard in listened for one in heard.detections), key=lambda one: (one.time_ns, one.id))
    if not detections:
        return []
    events, _ = locate_all((DETECTION.encode(one) for one in detections), detections[-1].time_ns)
    return [_case(event, detections, owners, folder) for event in events]


def write(out: Path, listened: Sequence[Listened], cases: Sequence[Case], folder: str) -> Path:
    """Write everything into a folder, and return the page to begin with.

    Raises:
        InputError: it holds such files already, or cannot be written.
    """
    if (out / EVENTS).exists():
        raise InputError(str(out), "holds the files of another examination", "name a new folder by --out")
    detections = [one for heard in listened for one in heard.detections]
    sources = [Source(heard.recording, len(heard.detections)) for heard in listened]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for case in cases:
            _file_of(out, case.event, "html").write_text(report(case), encoding="utf-8")
            _file_of(out, case.event, "svg").write_text(record_section(case), encoding="utf-8")
        (out / DETECTIONS).write_bytes(b"".join(DETECTION.encode(one) + b"\n" for one in detections))
        (out / EVENTS).write_bytes(b"".join(EVENT.encode(case.event) + b"\n" for case in cases))
        (out / INDEX).write_text(index_page(folder, sources, [case.event for case in cases]), encoding="utf-8")
    except OSError as error:
        raise InputError(str(out), f"cannot be written ({error.strerror})", "name another folder by --out") from None
    return out / INDEX


def summary(listened: Sequence[Listened], cases: Sequence[Case]) -> str:
    """Return what came out, in a sentence."""
    nodes = {heard.recording.node for heard in listened if heard.detections}
    impulses = sum(len(heard.detections) for heard in listened)
    heard = f"{counted(impulses, 'impulse')} at {counted(len(nodes), 'node')}"
    if not cases:
        return f"{heard}; no bang was located: that takes four nodes which heard the same one"
    return f"{heard}; {counted(len(cases), 'bang')} located"


def _carried(folder: Path) -> tuple[list[Recording], list[SoundrangerError]]:
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise InputError(str(folder), f"cannot be read ({error.strerror})", WANTED) from None
    recordings, problems = list[Recording](), list[SoundrangerError]()
    for path in files:
        try:
            found = read_evidence(path)
        except InputError as error:
            problems.append(error)
            continue
        if found is not None:
            recordings.append(found)
        else:
            problems.append(InputError(str(path), "carries neither place nor time (chunk smj0)", WANTED))
    return recordings, problems


def _case(event: Event, detections: Sequence[Detection], owners: dict[tuple[str, str], Recording], folder: str) -> Case:
    named = {(one.node, one.detection) for one in event.arrivals}
    own = [one for one in detections if (one.node, one.id) in named]
    places = {one.node: (one.lat, one.lon) for one in owners.values()}
    traces = (_trace(owners[one.node, one.id], one) for one in own)
    return Case(
        event=event,
        source=f"Found and located anew in the recordings of {folder}, by nothing but their sound, places and times.",
        detections=own,
        silent={name: places[name] for name in event.silent if name in places},
        traces=[trace for trace in traces if trace is not None],
    )


def _trace(recording: Recording, detection: Detection) -> Trace | None:
    try:
        return trace_in(recording, detection)
    except InputError:
        # The file was there a moment ago; the report shows the arrival without its sound.
        return None


def _file_of(out: Path, event: Event, suffix: str) -> Path:
    return out / f"{event.id}.{suffix}"

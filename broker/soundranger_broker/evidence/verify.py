"""The check of a bundle: whether it is as it was made, and whether its arrivals and its sound say what it states."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from soundranger_broker.evidence.archive import NotABundleError, unpack
from soundranger_broker.evidence.case import Trace
from soundranger_broker.evidence.check_event import check_event, check_places
from soundranger_broker.evidence.check_files import check_files
from soundranger_broker.evidence.check_log import check_log
from soundranger_broker.evidence.contents import FORMAT, MANIFEST, Manifest
from soundranger_broker.evidence.finding import Check, Finding
from soundranger_broker.evidence.parts import UNREADABLE, Parts, read_parts
from soundranger_broker.evidence.relocate import Relocation, check_clips, from_arrivals, from_sound, hear
from soundranger_broker.evidence.signatures import Signed, check_signatures, signatures
from soundranger_broker.evidence.sound import trace_of
from soundranger_broker.storage.chain import Head
from soundranger_node.errors import InputError
from soundranger_node.messages import Ellipse, Event


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle states of where and when."""

    lat: float
    lon: float
    time_ns: int
    ellipse95: Ellipse
    status: str
    probability: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the check of a bundle found; `agree` says that nothing is wrong and that all three locations agree.

    `entries` are the first and the last entry of the log in the bundle, `left_out` counts those between them that are
    not in it; `clips` counts those that can be heard.
    """

    agree: bool
    event: str
    software: str
    made_ns: int
    files: int
    entries: tuple[int, int] | None
    left_out: int
    head: str
    stated: Stated | None
    arrivals: Relocation | None
    sound: Relocation | None
    clips: int
    signatures: list[Signed]
    problems: list[Finding]


def verify(path: Path, noted: Head | None = None) -> Outcome:
    """Return what the check of a bundle finds; nothing but the file is needed.

    `noted` is an entry of the centre's log that somebody wrote down elsewhere.

    Raises:
        NotABundleError: it is no bundle, or one that cannot be read.
    """
    files = unpack(path)
    return verify_files(files, manifest_of(files, str(path)), noted)


def manifest_of(files: Mapping[str, bytes], subject: str) -> Manifest:
    """Return the manifest of a bundle.

    Raises:
        NotABundleError: there is none that can be read.
    """
    if MANIFEST not in files:
        raise NotABundleError(subject, f"holds no {MANIFEST}", "name a bundle")
    try:
        manifest = msgspec.json.decode(files[MANIFEST], type=Manifest)
    except UNREADABLE:
        raise NotABundleError(subject, f"holds a {MANIFEST} that cannot be read", "name a bundle") from None
    if manifest.format != FORMAT:
        raise NotABundleError(subject, f"is of format {manifest.format}, and this version knows {FORMAT}", "update it")
    return manifest


def verify_files(files: Mapping[str, bytes], manifest: Manifest, noted: Head | None = None) -> Outcome:
    """Return what the check of the files of a bundle finds."""
    parts = read_parts(files)
    statuses = [one for _, one in parts.statuses]
    signed = signatures(parts.detections, statuses)
    traces, problems = _traces(files, parts)
    clips = hear(traces, [one for _, one in parts.detections])
    problems = [
        *check_files(files, manifest, parts),
        *check_event(files, manifest, parts),
        *check_log(files, parts, noted),
        *check_signatures(signed, statuses),
        *check_places(parts),
        *problems,
        *check_clips(clips),
    ]
    arrivals = sound = None
    if parts.event is not None:
        arrivals, found = _relocated("arrivals", from_arrivals(parts.event, _payloads(parts)))
        problems += found
        sound, found = _relocated("sound", from_sound(parts.event, clips))
        problems += found
    return Outcome(
        agree=not problems,
        event=manifest.event,
        software=manifest.software,
        made_ns=manifest.made_ns,
        files=len(files),
        entries=(parts.log[0].seq, parts.log[-1].seq) if parts.log else None,
        left_out=max(0, parts.log[-1].seq - parts.log[0].seq + 1 - len(parts.log)) if parts.log else 0,
        head=str(Head(parts.log[-1].seq, parts.log[-1].hash)) if parts.log else "",
        stated=_stated(parts.event),
        arrivals=arrivals,
        sound=sound,
        clips=len(traces),
        signatures=signed,
        problems=_once(problems),
    )


def _payloads(parts: Parts) -> list[bytes]:
    return [payload for payload, _ in parts.detections]


def _traces(files: Mapping[str, bytes], parts: Parts) -> tuple[list[Trace], list[Finding]]:
    """Return the clips as sound, and what is wrong with those that are none."""
    traces, problems = list[Trace](), list[Finding]()
    for one in parts.clips:
        try:
            traces.append(trace_of(one.node, one.header, files.get(one.file, b"")))
        except InputError as error:
            problems.append(Finding("sound", one.file, error.problem))
    return traces, problems


def _relocated(check: Check, found: Relocation | None) -> tuple[Relocation | None, list[Finding]]:
    """Return a relocation, and what is wrong with it."""
    subject = "The arrivals" if check == "arrivals" else "The clips"
    if found is None:
        return None, [Finding(check, subject, "alone give no location at the stated time")]
    if not found.agrees:
        problem = f"alone give a place {found.distance_m:.1f} m from the stated one: outside of the ellipses"
        return found, [Finding(check, subject, problem)]
    return found, []


def _stated(event: Event | None) -> Stated | None:
    if event is None:
        return None
    return Stated(
        lat=event.lat,
        lon=event.lon,
        time_ns=event.time_ns,
        ellipse95=event.ellipse95,
        status=event.status,
        probability=event.probability,
    )


def _once(problems: Sequence[Finding]) -> list[Finding]:
    """Return findings in their order, each once."""
    return list(dict.fromkeys(problems))

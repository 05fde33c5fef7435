"""The check against the log: that its entries hold together, and that the bundle holds what they say was there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from soundranger_broker.evidence.contents import LOG, REVIEW, SETTINGS, ReviewFile, export_of
from soundranger_broker.evidence.finding import Finding
from soundranger_broker.evidence.parts import UNREADABLE, Parts
from soundranger_broker.storage.chain import Entry, Head, broken, sha256
from soundranger_node.messages import EVENT

# The SHA-256 of a clip, when its sound begins, and its sample rate.
LoggedClip = tuple[str, int, int]


@dataclass
class _Account:
    """What the entries say of one event: hashes by revision, detection and clip, and its last review."""

    event: str
    revisions: dict[int, tuple[str, int]] = field(default_factory=dict)
    detections: dict[str, tuple[str, int]] = field(default_factory=dict)
    clips: dict[str, tuple[LoggedClip, int]] = field(default_factory=dict)
    review: ReviewFile = field(default_factory=ReviewFile)
    forgotten_ns: dict[str, int] = field(default_factory=dict)

    def take(self, entry: Entry) -> None:
        """Take in an entry; what its kind does not allow was changed, which its hash says."""
        try:
            body = msgspec.json.decode(entry.body)
            match entry.kind:
                case "event" if entry.subject == self.event:
                    self._event(entry, body)
                case "clip":
                    self.clips.setdefault(entry.subject, (_clip(body), entry.time_ns))
                case "review" if entry.subject == self.event:
                    self.review = ReviewFile(body["verdict"], body["reviewer"], body["note"], entry.time_ns)
                case "retention":
                    before_ns = int(body["before_ns"])
                    self.forgotten_ns[entry.subject] = max(before_ns, self.forgotten_ns.get(entry.subject, 0))
        except (*UNREADABLE, KeyError, TypeError, AttributeError):
            return

    def _event(self, entry: Entry, body: Mapping[str, Any]) -> None:
        self.revisions[int(body["revision"])] = (str(body["sha256"]), entry.time_ns)
        if body.get("detections"):
            self.detections = {name: (str(one), entry.time_ns) for name, one in body["detections"].items()}

    def may_be_gone(self, kind: str, time_ns: int) -> bool:
        """Return whether retention, which is logged too, may have taken away what was there at a time."""
        return time_ns < self.forgotten_ns.get(kind, 0)


def _clip(body: Mapping[str, Any]) -> LoggedClip:
    return str(body["sha256"]), int(body["start_ns"]), int(body["sample_rate_hz"])


def check_log(files: Mapping[str, bytes], parts: Parts, noted: Head | None) -> Iterator[Finding]:
    """Yield what is wrong with the log, and what of the bundle is not as it was logged.

    `noted` is an entry of the centre's log that somebody wrote down.
    """
    entries = parts.log
    only = _only(entries)
    for seq in sorted(set(only) - {entry.seq for entry in entries}):
        yield Finding("log", LOG, f"does not hold: entry {seq}, which was there when the bundle was made, is missing")
    for run in _runs(entries, only):
        for sentence in broken(run, Head(run[0].seq - 1, run[0].previous)):
            yield Finding("log", LOG, f"does not hold: {sentence.removesuffix('.')}")
    yield from _noted(entries, noted)
    for one in parts.settings.logged if parts.settings else []:
        if not one.is_whole():
            yield Finding("log", SETTINGS, f"holds entry {one.seq} of the log, which was changed after it was written")
    if parts.event is None:
        return
    account = _Account(parts.event.id)
    for entry in entries:
        account.take(entry)
    yield from _withheld(parts, entries)
    yield from _revisions(parts, account)
    yield from _detections(parts, account)
    yield from _clips(files, parts, account)
    if parts.review is not None and parts.review != account.review:
        yield Finding("log", REVIEW, "holds another review than was logged last")


def _withheld(parts: Parts, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Yield the entries about the event itself of which the contents were left out: they are its reader's business."""
    event = parts.event
    own = {event.id, *(f"{one.node}/{one.detection}" for one in event.arrivals)} if event else set()
    for entry in entries:
        if entry.withheld is not None and (entry.subject in own or entry.kind == "retention"):
            yield Finding("log", LOG, f"holds entry {entry.seq}, which is about the event, without its contents")


def _only(entries: Sequence[Entry]) -> list[int]:
    """Return the numbers of the entries that a bundle was made with where it was made without others."""
    said = export_of(entries[-1]) if entries else None
    return [] if said is None else said.only


def _runs(entries: Sequence[Entry], only: Sequence[int]) -> Iterator[Sequence[Entry]]:
    """Yield the stretches of a log that follow one another without a gap that the making of the bundle left."""
    first = 0
    for place in range(1, len(entries) + 1):
        if place == len(entries) or (only and entries[place].seq > entries[place - 1].seq + 1):
            yield entries[first:place]
            first = place


def _noted(entries: list[Entry], noted: Head | None) -> Iterator[Finding]:
    if noted is None:
        return
    there = {entry.seq: entry.hash for entry in entries}
    if noted.seq not in there:
        span = f"from entry {entries[0].seq} to {entries[-1].seq}" if entries else "empty"
        problem = f"cannot be compared with the noted entry {noted.seq}: the log in the bundle is {span}"
        yield Finding("log", LOG, problem)
    elif there[noted.seq] != noted.hash:
        problem = f"has another entry {noted.seq} than was noted: the log was written anew, and nothing in it holds"
        yield Finding("log", LOG, problem)


def _revisions(parts: Parts, account: _Account) -> Iterator[Finding]:
    held = {event.revision: sha256(told) for told, event in parts.revisions}
    if parts.event is not None:
        # The newest one is there twice; where the two differ, that is said elsewhere.
        held.setdefault(parts.event.revision, sha256(EVENT.encode(parts.event)))
    for revision in sorted(account.revisions.keys() | held.keys()):
        logged = account.revisions.get(revision, ("", 0))[0]
        subject = f"Revision {revision} of event {account.event}"
        if not logged:
            yield Finding("log", subject, "is in the bundle and not in the log")
        elif revision not in held:
            yield Finding("log", subject, "is in the log and was left out of the bundle")
        elif held[revision] != logged:
            yield Finding("log", subject, "was changed after it was logged")


def _detections(parts: Parts, account: _Account) -> Iterator[Finding]:
    held = {f"{one.node}/{one.id}": sha256(payload) for payload, one in parts.detections}
    final = account.detections or (parts.event is not None and parts.event.status == "final")
    for name in sorted(account.detections.keys() | held.keys()):
        node, _, detection = name.partition("/")
        logged, time_ns = account.detections.get(name, ("", 0))
        subject = f"Detection {detection} of node {node}"
        if name not in held:
            if not account.may_be_gone("detections", time_ns):
                yield Finding("log", subject, "is in the log and was left out of the bundle")
        elif not logged:
            # Only of what a final event was made from, the log has the hashes.
            if final:
                yield Finding("log", subject, "is not among those that the log says the event was made from")
        elif held[name] != logged:
            yield Finding("log", subject, "was changed after it was logged")


def _clips(files: Mapping[str, bytes], parts: Parts, account: _Account) -> Iterator[Finding]:
    held = {
        f"{one.node}/{one.header.detection}": (
            sha256(files.get(one.file, b"")),
            one.header.start_ns,
            one.header.sample_rate_hz,
        )
        for one in parts.clips
    }
    nothing = ("", 0, 0)
    own = {f"{one.node}/{one.detection}" for one in parts.event.arrivals} if parts.event else set()
    for name in sorted((account.clips.keys() & own) | held.keys()):
        node, _, detection = name.partition("/")
        logged, time_ns = account.clips.get(name, (nothing, 0))
        subject = f"The clip of detection {detection} of node {node}"
        if name not in held:
            if not account.may_be_gone("clips", time_ns):
                yield Finding("log", subject, "is in the log and was left out of the bundle")
        elif logged == nothing:
            yield Finding("log", subject, "is in the bundle and not in the log")
        elif held[name] != logged:
            yield Finding("log", subject, "is not the sound that was logged: it was changed or exchanged")

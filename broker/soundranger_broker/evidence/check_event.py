"""The check of what the parts of a bundle say of one another: the event, its detections, the nodes' places."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from soundranger_broker.evidence.contents import CLIPS, DETECTIONS, EVENT_FILE, REVISIONS, Manifest
from soundranger_broker.evidence.finding import Finding
from soundranger_broker.evidence.parts import Parts
from soundranger_broker.geodesy import Frame

# Where a detection and a status place a node differently by more than this, and by more standard deviations than
# this, one of them is not true.
PLACE_M: Final = 0.1
PLACE_SIGMAS: Final = 3.0
# Of a distance that the event states: what the height of the source, and a node known to be off, may make of it.
DISTANCE_M: Final = 30.0


def check_event(files: Mapping[str, bytes], manifest: Manifest, parts: Parts) -> Iterator[Finding]:
    """Yield where the event, its revisions, its detections and its clips do not fit one another."""
    event = parts.event
    if event is None:
        return
    if event.id != manifest.event:
        yield Finding("event", EVENT_FILE, f"is of event {event.id}, and the manifest says {manifest.event}")
    if {one.id for _, one in parts.revisions} - {event.id}:
        yield Finding("event", REVISIONS, "holds a revision of another event")
    newest = max(parts.revisions, key=lambda one: one[1].revision, default=None)
    if newest is not None and newest[0] != files.get(EVENT_FILE):
        yield Finding("event", EVENT_FILE, f"is not the newest revision that {REVISIONS} holds")
    arrivals = {(one.node, one.detection): one for one in event.arrivals}
    counts = Counter((one.node, one.id) for _, one in parts.detections)
    for name in sorted(counts.keys() - arrivals.keys()):
        yield Finding("event", f"Detection {name[1]} of node {name[0]}", "is of no arrival of the event")
    for name in sorted(arrivals.keys() - counts.keys()):
        yield Finding("event", f"Detection {name[1]} of node {name[0]}", "is of an arrival of the event, and not there")
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield Finding("event", f"Detection {name[1]} of node {name[0]}", f"is in {DETECTIONS} more than once")
    for one in parts.clips:
        if (one.node, one.header.detection) not in arrivals or one.file not in files:
            yield Finding("event", f"{one.file} in {CLIPS}", "is of no arrival of the event, or not there")
    yield from _distances(parts)


def _distances(parts: Parts) -> Iterator[Finding]:
    """Yield the arrivals whose stated distance is not that from the event's place to the node's."""
    event = parts.event
    if event is None:
        return
    frame = Frame(event.lat, event.lon)
    stated = {(one.node, one.detection): one.distance_m for one in event.arrivals}
    for _, one in parts.detections:
        there_m = float(np.linalg.norm(frame.to_enu(one.lat, one.lon)[:2]))
        said_m = stated.get((one.node, one.id), there_m)
        if abs(there_m - said_m) > DISTANCE_M:
            subject = f"Detection {one.id} of node {one.node}"
            yield Finding("event", subject, f"is from {there_m:.0f} m away, and the event says {said_m:.0f} m")


def check_places(parts: Parts) -> Iterator[Finding]:
    """Yield the nodes that their statuses place elsewhere than their detections do."""
    for _, one in parts.detections:
        for _, status in parts.statuses:
            if status.node != one.node:
                continue
            apart_m = float(np.linalg.norm(Frame(one.lat, one.lon).to_enu(status.lat, status.lon)[:2]))
            sigma_m = math.hypot(one.position_sigma_m, status.position_sigma_m)
            if apart_m > max(PLACE_M, PLACE_SIGMAS * sigma_m):
                problem = f"is placed {apart_m:.1f} m apart by its status and by its detection {one.id}"
                yield Finding("places", f"Node {one.node}", problem)
                break

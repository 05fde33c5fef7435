"""Relocation: where the same bang is found from a bundle's arrivals alone, and from its clips alone."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from soundranger_broker.evidence.case import Trace
from soundranger_broker.evidence.finding import Finding
from soundranger_broker.geodesy import Floats, Frame
from soundranger_broker.location import CHI2_95_2D
from soundranger_broker.locator import locate_all
from soundranger_node.audiofile import FileTimebase
from soundranger_node.blocks import Block
from soundranger_node.detector import Detector
from soundranger_node.errors import MessageError
from soundranger_node.messages import DETECTION, Detection, Event
from soundranger_node.pipeline import ONSET_TERM, Pipeline, Place
from soundranger_node.utc import NS_PER_S

# The detector takes sound in pieces, as a node hears it.
BLOCK_S: Final = 0.25
# Another bang than this, however near: rounds are 50 ms apart at the least.
SAME_BANG_NS: Final = 50_000_000
# Of one impulse, found twice in the same sound: onset and peak. Sixteen bits hold a peak to far less.
SAME_IMPULSE_NS: Final = 3_000_000
SAME_PEAK_DB: Final = 0.5
# An onset's own error is added to what is known of the time: never nothing.
LEAST_SIGMA_S: Final = 1e-6


class Relocation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bang was found anew: how far from the stated place, and whether both are within their ellipses.

    `other_place` says that it is at another of the places that the event itself names.
    """

    lat: float
    lon: float
    time_ns: int
    semi_major_m: float
    semi_minor_m: float
    bearing_deg: float
    arrivals: int
    distance_m: float
    later_s: float
    agrees: bool
    other_place: bool = False


def from_arrivals(stated: Event, payloads: Sequence[bytes]) -> Relocation | None:
    """Return where the arrivals alone put the event; None where they make none."""
    return _nearest(stated, payloads)


def from_sound(stated: Event, clips: Iterable["HeardClip"]) -> Relocation | None:
    """Return where the sound alone puts the event; None where it makes none."""
    return _nearest(stated, [payload for clip in clips for payload in clip.payloads()])


@dataclass(frozen=True)
class HeardClip:
    """A clip, the detection that it is of, and what the node's own detector finds in it now."""

    trace: Trace
    detection: Detection
    heard: list[Detection]

    def payloads(self) -> Iterator[bytes]:
        """Yield what was heard as a node would send it; a clip whose time is none that can be gives nothing."""
        for one in self.heard:
            with suppress(MessageError):
                yield DETECTION.encode(one)


def hear(traces: Iterable[Trace], detections: Iterable[Detection]) -> list[HeardClip]:
    """Return what is heard in clips.

    Of the detections only what no sound holds is taken: the nodes' places, and how well their clocks knew the time.
    """
    known = {(one.node, one.id): one for one in detections}
    found = ((trace, known.get((trace.node, trace.detection))) for trace in traces)
    return [HeardClip(trace, one, heard_in(trace, one)) for trace, one in found if one is not None]


def check_clips(clips: Iterable[HeardClip]) -> Iterator[Finding]:
    """Yield the clips in which the impulse is not as loud as the detection, which is signed, says.

    The same detector on the same sound finds the same peak. A clip in which it finds none says nothing: it is short,
    and there the detector does not know how quiet the place is.
    """
    for clip in clips:
        said_db, node, name = clip.detection.peak_dbfs, clip.detection.node, clip.detection.id
        near = [one for one in clip.heard if abs(one.time_ns - clip.detection.time_ns) < SAME_IMPULSE_NS]
        for one in near[:1]:
            if said_db is not None and one.peak_dbfs is not None and abs(one.peak_dbfs - said_db) > SAME_PEAK_DB:
                problem = (
                    f"peaks at {one.peak_dbfs:.1f} dBFS, and the detection says {said_db:.1f}: it is another sound"
                )
                yield Finding("sound", f"The clip of detection {name} of node {node}", problem)


def heard_in(trace: Trace, known: Detection) -> list[Detection]:
    """Return what the node's own detector finds in a clip."""
    terms_s = known.sigma_terms_s or {"time": known.time_sigma_s}
    sigma_s = math.hypot(*(term for name, term in terms_s.items() if name != ONSET_TERM))
    pipeline = Pipeline(
        node=trace.node,
        boot=known.id[-32:],
        place=Place(known.lat, known.lon, known.alt_m, known.position_sigma_m),
        timebase=FileTimebase(trace.start_ns, trace.sample_rate_hz, max(sigma_s, LEAST_SIGMA_S), known.clock or "free"),
        detector=Detector(trace.sample_rate_hz),
        temperature_c=known.temperature_c,
    )
    size = round(BLOCK_S * trace.sample_rate_hz)
    found = []
    for first in range(0, len(trace.samples), size):
        found += pipeline.push(Block(trace.samples[first : first + size], first))
    return [one.detection for one in [*found, *pipeline.flush()]]


def _nearest(stated: Event, payloads: Sequence[bytes]) -> Relocation | None:
    """Return the event that a set of detections makes and that is nearest in time to a stated one."""
    if not payloads:
        return None
    latest_ns = max(DETECTION.decode(payload).time_ns for payload in payloads)
    events, _ = locate_all(payloads, latest_ns)
    found = min(events, key=lambda one: abs(one.time_ns - stated.time_ns), default=None)
    if found is None or abs(found.time_ns - stated.time_ns) > _most_apart_ns(stated, found):
        return None
    return _compared(stated, found)


def _most_apart_ns(stated: Event, found: Event) -> int:
    """Return how far apart in time two locations of one bang can be."""
    sigma_s = math.hypot(stated.time_sigma_s, found.time_sigma_s)
    return SAME_BANG_NS + round(math.sqrt(CHI2_95_2D) * sigma_s * NS_PER_S)


def _compared(stated: Event, found: Event) -> Relocation:
    apart_m = _apart_m(stated, found.lat, found.lon)
    others = [_apart_m(stated, one.lat, one.lon) - apart_m for one in stated.alternatives or []]
    near = _near(stated, found, apart_m)
    elsewhere = not near and any(_near(stated, found, other) for other in others)
    return Relocation(
        lat=found.lat,
        lon=found.lon,
        time_ns=found.time_ns,
        semi_major_m=found.ellipse95.semi_major_m,
        semi_minor_m=found.ellipse95.semi_minor_m,
        bearing_deg=found.ellipse95.bearing_deg,
        arrivals=sum(one.used for one in found.arrivals),
        distance_m=float(np.linalg.norm(apart_m)),
        later_s=(found.time_ns - stated.time_ns) / NS_PER_S,
        agrees=near or elsewhere,
        other_place=elsewhere,
    )


def _apart_m(stated: Event, lat: float, lon: float) -> Floats:
    offset: Floats = Frame(stated.lat, stated.lon).to_enu(lat, lon)[:2]
    return offset


def _near(stated: Event, found: Event, apart_m: Floats) -> bool:
    """Return whether two places are as near as their errors together let them be, 19 times of 20."""
    covariance = np.array(stated.covariance_en_m2) + np.array(found.covariance_en_m2)
    try:
        return bool(apart_m @ np.linalg.solve(covariance, apart_m) <= CHI2_95_2D)
    except np.linalg.LinAlgError:
        return False

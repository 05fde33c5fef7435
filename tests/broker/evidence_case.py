"""A bang as the centre's memory holds it: signed detections, statuses, clips with its sound, revisions, a review."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import soundfile
from nacl.signing import SigningKey
from tests.broker.conftest import EPOCH_NS, Town

from soundranger_broker.locator import locate_all
from soundranger_broker.storage.store import Batch, Clip, Report, Store
from soundranger_node.clips import Clip as Cut
from soundranger_node.clips import to_pcm
from soundranger_node.messages import (
    DETECTION,
    ClipHeader,
    ClockStatus,
    Detection,
    Event,
    NodeStatus,
    decode_clip,
)
from soundranger_node.signing import public_key, sign

RATE_HZ = 16_000
BEFORE_NS = 500_000_000
CLIP_S = 2.0
MADE_NS = EPOCH_NS + 3_600_000_000_000
NOISE = 3e-4


def key_of(node: str) -> SigningKey:
    """Return the key of a node, the same each time."""
    return SigningKey(node.encode().ljust(32, b"\0"))


def sound_of(detection: Detection, rng: np.random.Generator) -> tuple[Detection, Clip]:
    """Return a clip in which a blast begins at the very time of a detection, and the detection with its peak."""
    start_ns = detection.time_ns - BEFORE_NS
    since = np.arange(round(CLIP_S * RATE_HZ)) - BEFORE_NS / 1e9 * RATE_HZ
    wave = np.exp(-np.maximum(since, 0) / (0.002 * RATE_HZ)) * np.cos(2 * np.pi * 600 * np.maximum(since, 0) / RATE_HZ)
    level = min(0.5, NOISE * 10 ** ((detection.snr_db + 12) / 20))
    samples = rng.normal(0, NOISE, len(since)) + level * np.where(since >= 0, wave, 0)
    header = ClipHeader(detection=detection.id, start_ns=start_ns, sample_rate_hz=RATE_HZ)
    _, flac = decode_clip(Cut(header, to_pcm(samples.astype(np.float32))).encode())
    peak_dbfs = round(20 * float(np.log10(np.abs(samples).max())), 2)
    clip = Clip(detection.node, header, detection.time_ns + 5_000_000_000, flac)
    return msgspec.structs.replace(detection, clock="ntp", peak_dbfs=peak_dbfs), clip


def status_of(detection: Detection, *, with_key: bool = True) -> NodeStatus:
    """Return what a node says of itself around a detection."""
    return NodeStatus(
        node=detection.node,
        online=True,
        time_ns=EPOCH_NS,
        version="0.1.0",
        lat=detection.lat,
        lon=detection.lon,
        alt_m=detection.alt_m,
        position_sigma_m=detection.position_sigma_m,
        clock=ClockStatus(tier="ntp", bound_s=0.002),
        public_key=public_key(key_of(detection.node)) if with_key else None,
    )


@dataclass(frozen=True)
class Kept:
    """A store that holds an event, and what is in it of that event."""

    store: Store
    event: Event
    detections: list[Detection]
    clips: list[Clip]


def keep_a_bang(
    store: Store, town: Town, *, signed: bool = True, clips: bool = True, at_m: tuple[float, float] = (50.0, -80.0)
) -> Kept:
    """Let a store live through a bang: detections, a first look, the final event, its clips and a review."""
    rng = np.random.default_rng(3)
    heard = [sound_of(one, rng) for one in town.hear(*at_m, 1.0, rng)]
    detections, cut = [one for one, _ in heard], [clip for _, clip in heard if clips]
    payloads = [DETECTION.encode(one) for one in detections]
    if signed:
        payloads = [sign(payload, key_of(one.node)) for payload, one in zip(payloads, detections, strict=True)]
    (event,), _ = locate_all(payloads, detections[-1].time_ns)
    store.keep(Batch(statuses=[(EPOCH_NS, status_of(one, with_key=signed)) for one in detections]))
    reports = [
        Report(one.node, one.id, one.time_ns, one.time_ns + 100_000_000, payload)
        for one, payload in zip(detections, payloads, strict=True)
    ]
    store.log("settings", "centre", {"tiles": None}, EPOCH_NS)
    store.keep(Batch(reports=reports))
    first = msgspec.structs.replace(event, status="preliminary", probability=0.9)
    final = msgspec.structs.replace(event, revision=1)
    store.keep(Batch(told=[(event.time_ns + 3_000_000_000, first)]))
    store.keep(Batch(told=[(event.time_ns + 9_000_000_000, final)]))
    store.log("settings", "centre", {"tiles": "none"}, EPOCH_NS + 30_000_000_000)
    store.keep(Batch(clips=cut))
    store.review(event.id, "gunshot", "Ann", "three rounds <b>", EPOCH_NS + 60_000_000_000)
    return Kept(store, final, detections, cut)


def write_sound(path: Path, clip: Clip) -> None:
    """Write a clip as a WAV file."""
    flac = path.with_suffix(".flac")
    flac.write_bytes(clip.flac)
    samples, rate_hz = soundfile.read(flac, dtype="int16")
    soundfile.write(path, samples, rate_hz)
    flac.unlink()

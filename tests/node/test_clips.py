"""Clips: two minutes of sound in memory, and what leaves of it only on request."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from soundranger_node.blocks import Block, Moment, Timing
from soundranger_node.clips import HOUR_S, KEPT_S, MAX_REQUESTS, MAX_S_PER_HOUR, Clips, SoundRing, to_pcm
from soundranger_node.detector import Detector
from soundranger_node.link import Link, LinkSettings
from soundranger_node.messages import (
    CLIP_REQUEST,
    DETECTION,
    ClipRequest,
    ClockStatus,
    Detection,
    NodeStatus,
    decode_clip,
)
from soundranger_node.outbox import Outbox
from soundranger_node.pipeline import Pipeline, Place
from soundranger_node.runtime import Node
from soundranger_node.topics import node_topic

if TYPE_CHECKING:
    from tests.conftest import Mosquitto

RATE_HZ = 8000
START_NS = 1_700_000_000_000_000_000
PATIENCE_S = 15.0
LAT, LON = 48.1, 11.5
RNG = np.random.default_rng(1)
NOISE = RNG.uniform(-1, 1, round(200 * RATE_HZ)).astype(np.float32)


@dataclass(frozen=True)
class Onset:
    id: str
    sample: float


@dataclass(frozen=True)
class SteadyClock:
    """A timebase without error; `undated` from its start where it is not set."""

    undated: Moment | None = None

    def timing(self, sample: float) -> Timing:
        return Timing(START_NS + round(sample / RATE_HZ * 1e9), {"clock": 1e-3}, "ntp", self.undated)


@pytest.fixture
def clips() -> Clips:
    return Clips(RATE_HZ, SteadyClock())


def hear(clips: Clips, first: int, end: int, *onsets: Onset, size: int = 4000) -> None:
    """Let the clips hear the noise from one sample to another; the onsets are told with the first block."""
    for start in range(first, end, size):
        clips.hear(Block(NOISE[start : min(end, start + size)], start), onsets if start == first else ())


def request(detection: str = "n-1", before_s: float = 0.5, after_s: float = 1.5) -> ClipRequest:
    return ClipRequest(detection=detection, before_s=before_s, after_s=after_s)


def reasons(clips: Clips) -> list[str]:
    return list(clips.refused)


def test_a_clip_is_the_sound_around_the_onset_with_the_time_of_its_first_sample(clips: Clips) -> None:
    hear(clips, 0, 80_000, Onset("n-1", 40_000.4))
    clips.ask(request())
    (clip,) = clips.cut()
    assert np.array_equal(clip.pcm, to_pcm(NOISE[36_000:52_000]))
    assert clip.header.detection == "n-1"
    assert clip.header.start_ns == START_NS + 4_500_000_000
    assert clip.header.sample_rate_hz == RATE_HZ
    assert clips.given == 1


def test_a_clip_travels_as_flac_without_loss(clips: Clips) -> None:
    hear(clips, 0, 80_000, Onset("n-1", 40_000.0))
    clips.ask(request())
    (clip,) = clips.cut()
    header, flac = decode_clip(clip.encode())
    pcm, rate_hz = soundfile.read(io.BytesIO(flac), dtype="int16")
    assert header == clip.header
    assert rate_hz == RATE_HZ
    assert np.array_equal(pcm, clip.pcm)


def test_a_request_without_lengths_is_for_half_a_second_before_and_one_and_a_half_after() -> None:
    assert CLIP_REQUEST.decode(b'{"detection": "n-1"}') == request("n-1", 0.5, 1.5)


def test_a_clip_whose_end_is_still_to_come_waits_for_it(clips: Clips) -> None:
    hear(clips, 0, 41_000, Onset("n-1", 40_000.0))
    clips.ask(request())
    assert clips.cut() == []
    hear(clips, 41_000, 51_999)
    assert clips.cut() == []
    hear(clips, 51_999, 52_000)
    (clip,) = clips.cut()
    assert len(clip.pcm) == 16_000


def test_only_own_detections_are_given_and_each_only_once(clips: Clips) -> None:
    hear(clips, 0, 80_000, Onset("n-1", 40_000.0))
    clips.ask(request("somebody-elses"))
    clips.ask(request())
    clips.ask(request())
    assert len(clips.cut()) == 1
    clips.ask(request())
    assert clips.cut() == []
    assert clips.refused.total() == 3


def test_a_clip_is_no_longer_than_four_seconds(clips: Clips) -> None:
    hear(clips, 0, 80_000, Onset("n-1", 40_000.0))
    clips.ask(request(before_s=2.0, after_s=2.1))
    assert clips.cut() == []
    assert reasons(clips) == ["is for more than 4 s"]
    clips.ask(request(before_s=2.0, after_s=2.0))
    assert len(clips.cut()[0].pcm) == 4 * RATE_HZ


def test_after_two_minutes_the_sound_is_gone(clips: Clips) -> None:
    hear(clips, 0, 41_000, Onset("n-1", 40_000.0))
    hear(clips, 41_000, 40_000 + round(KEPT_S * RATE_HZ) + 8)
    clips.ask(request())
    assert clips.cut() == []
    assert reasons(clips) == ["is for no detection of the last two minutes, or for one whose clip was given"]


def test_a_request_that_still_waits_when_the_sound_is_gone_is_refused(clips: Clips) -> None:
    hear(clips, 0, 41_000, Onset("n-1", 40_000.0))
    clips.ask(request(after_s=3.0))
    assert clips.cut() == []
    clips.hear(Block(NOISE[:10], 10_000_000), ())
    assert clips.cut() == []
    assert reasons(clips) == ["is for sound that is gone"]


def test_no_more_than_two_minutes_of_sound_leave_within_an_hour(clips: Clips) -> None:
    most = round(MAX_S_PER_HOUR / 4)
    onsets = [Onset(f"n-{number}", 40_000.0 + number) for number in range(most + 2)]
    hear(clips, 0, 80_000, *onsets)
    for onset in onsets[: most + 1]:
        clips.ask(request(onset.id, 2.0, 2.0))
    assert len(clips.cut()) == most
    assert reasons(clips) == ["would make more than 120 s of sound leave within an hour"]
    later = 80_000 + round(HOUR_S * RATE_HZ)
    for first in range(80_000, later, len(NOISE)):
        clips.hear(Block(NOISE[: later - first], first), ())
    clips.hear(Block(NOISE[:80_000], later), [Onset("later", later + 40_000.0)])
    clips.ask(request("later", 2.0, 2.0))
    assert len(clips.cut()) == 1


def test_a_flood_of_requests_is_bounded(clips: Clips) -> None:
    for number in range(2 * MAX_REQUESTS):
        clips.ask(request(f"x-{number}"))
    clips.cut()
    assert clips.refused.total() == 2 * MAX_REQUESTS


def test_a_clip_ends_at_a_gap_in_the_sound(clips: Clips) -> None:
    hear(clips, 0, 38_000)
    hear(clips, 39_000, 44_000, Onset("n-1", 40_000.0))
    hear(clips, 45_000, 80_000)
    clips.ask(request())
    (clip,) = clips.cut()
    assert np.array_equal(clip.pcm, to_pcm(NOISE[39_000:44_000]))
    assert clip.header.start_ns == START_NS + round(39_000 / RATE_HZ * 1e9)


def test_sound_that_cannot_be_dated_does_not_leave() -> None:
    clips = Clips(RATE_HZ, SteadyClock(Moment("boot", 1, 1.0)))
    hear(clips, 0, 80_000, Onset("n-1", 40_000.0))
    clips.ask(request())
    assert clips.cut() == []
    assert reasons(clips) == ["is for sound that cannot be dated"]


def test_a_stream_that_begins_anew_forgets_the_old_one(clips: Clips) -> None:
    hear(clips, 0, 80_000, Onset("n-1", 40_000.0))
    hear(clips, 0, 8_000)
    clips.ask(request())
    assert clips.cut() == []


def test_sixteen_bits_are_the_nearest_and_full_scale_is_kept() -> None:
    steps = np.arange(-32_768, 32_768)
    assert np.array_equal(to_pcm((steps / 32_768).astype(np.float32)), steps)
    assert to_pcm(np.array([-1.5, 1.0, 1.5, 0.4 / 32_768, 0.6 / 32_768], np.float32)).tolist() == [
        -32_768,
        32_767,
        32_767,
        0,
        1,
    ]


def test_two_minutes_at_48_khz_take_less_than_12_mb() -> None:
    assert SoundRing(48_000)._pcm.nbytes < 12e6


@given(
    st.lists(st.tuples(st.integers(0, 150), st.sampled_from([0, 0, 0, 5, 130])), min_size=1, max_size=20),
    st.integers(0, 1000),
    st.integers(0, 60),
)
def test_what_the_ring_gives_is_always_the_sound_of_those_samples(
    pieces: list[tuple[int, int]], at: int, reach: int
) -> None:
    ring = SoundRing(10.0, kept_s=10.0)
    there: set[int] = set()
    sample = 0
    for size, gap in pieces:
        sample += gap
        ring.push(Block(NOISE[sample : sample + size], sample))
        there |= set(range(sample, sample + size))
        sample += size
    first, pcm = ring.around(at, at - reach, at + reach + 1)
    assert np.array_equal(pcm, to_pcm(NOISE[first : first + len(pcm)]))
    given = set(range(first, first + len(pcm)))
    assert given <= there
    expected = {one for one in range(max(0, at - reach), at + reach + 1) if one in there and one >= sample - 100}
    if at in expected:
        before = next((one for one in range(at, -1, -1) if one not in expected), -1)
        after = next(one for one in range(at, at + reach + 2) if one not in expected)
        assert given == set(range(before + 1, after))
    else:
        assert not given


class Playing:
    """A source that plays samples at about the speed of sound, and then is silent until it is closed."""

    sample_rate_hz = float(RATE_HZ)

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self._samples = samples
        self._closed = threading.Event()

    @property
    def timebase(self) -> SteadyClock:
        return SteadyClock()

    def blocks(self) -> Iterator[Block]:
        size = 400
        for first in range(0, len(self._samples), size):
            if self._closed.wait(0.002):
                return
            yield Block(self._samples[first : first + size], first)
        self._closed.wait()

    def close(self) -> None:
        self._closed.set()


class Asking:
    """A centre that asks for a clip of the first detection that it hears, and notes what comes."""

    def __init__(self, mosquitto: "Mosquitto") -> None:
        self.detections: list[Detection] = []
        self.clips: list[tuple[bytes, bool]] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._on_message
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect(mosquitto.host, mosquitto.port)
        self._client.subscribe("soundranger/1/node/#", qos=1)
        self._client.loop_start()
        assert ready.wait(PATIENCE_S)

    def ask(self, wanted: bytes) -> None:
        self._client.publish(node_topic(LAT, LON, "roof", "request"), wanted, qos=1).wait_for_publish(PATIENCE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        if message.topic.endswith("/clip"):
            self.clips.append((payload, message.retain))
        elif message.topic.endswith("/detection"):
            self.detections.append(DETECTION.decode(payload))
            wanted = CLIP_REQUEST.encode(request(self.detections[-1].id))
            client.publish(node_topic(LAT, LON, "roof", "request"), wanted, qos=1)


def bang(*at_s: float) -> NDArray[np.float32]:
    """Return 6 s of faint noise with clicks, in steps of 16 bits."""
    samples = 1e-3 * NOISE[: 6 * RATE_HZ].astype(np.float64)
    for second in at_s:
        samples[round(second * RATE_HZ) :][:100] += 0.5 * np.exp(-np.arange(100) / 20) * np.cos(np.arange(100) / 2)
    return (np.rint(samples * 32_768) / 32_768).astype(np.float32)


Run = Callable[..., Clips]


@pytest.fixture
def run(mosquitto: "Mosquitto", tmp_path: Path) -> Iterator[Run]:
    """Give a function that runs a node on a bang, with or without clips."""
    nodes: list[tuple[Node, threading.Thread]] = []

    def start(*at_s: float, allowed: bool = True) -> Clips:
        source = Playing(bang(*at_s))
        clips = Clips(RATE_HZ, source.timebase)
        outbox = Outbox(tmp_path / "outbox.sqlite")
        clock = ClockStatus(tier="ntp")
        place = {"lat": LAT, "lon": LON, "alt_m": 520.0, "position_sigma_m": 5.0}
        status = msgspec.convert(
            {"node": "roof", "online": True, "time_ns": START_NS, "version": "1", "clock": clock, **place}, NodeStatus
        )
        settings = LinkSettings(mosquitto.host, mosquitto.port, delivery="broker")
        link = Link(settings, outbox, status, clips.ask if allowed else None)
        pipeline = Pipeline(
            node="roof",
            boot="b",
            place=Place(LAT, LON, 520.0, 5.0),
            timebase=source.timebase,
            detector=Detector(RATE_HZ),
        )
        node = Node(source, pipeline, outbox, link, lambda: status, clips=clips if allowed else None)
        thread = threading.Thread(target=node.run)
        thread.start()
        nodes.append((node, thread))
        return clips

    yield start
    for node, thread in nodes:
        node.close()
        thread.join()


def wait_until(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.slow
def test_the_broker_asks_and_gets_exactly_the_sound_around_the_onset(mosquitto: "Mosquitto", run: Run) -> None:
    centre = Asking(mosquitto)
    clips = run(3.0)
    wait_until(lambda: centre.clips)
    payload, retained = centre.clips[0]
    header, flac = decode_clip(payload)
    samples, rate_hz = soundfile.read(io.BytesIO(flac), dtype="float32")
    (detection,) = centre.detections
    assert header.detection == detection.id
    assert rate_hz == header.sample_rate_hz == RATE_HZ
    # The picker is within two milliseconds of the click; the clip begins half a second before it.
    first = round((header.start_ns - START_NS) / 1e9 * RATE_HZ)
    assert abs(first - 2.5 * RATE_HZ) < 0.002 * RATE_HZ
    assert len(samples) == 2 * RATE_HZ
    assert np.array_equal(samples, bang(3.0)[first : first + len(samples)])
    assert not retained
    assert clips.given == 1
    for refused in (b"nonsense", CLIP_REQUEST.encode(request(detection.id)), CLIP_REQUEST.encode(request("other"))):
        centre.ask(refused)
    time.sleep(0.3)
    assert len(centre.clips) == 1
    centre.close()


@pytest.mark.slow
def test_each_round_of_a_burst_may_have_its_clip(mosquitto: "Mosquitto", run: Run) -> None:
    centre = Asking(mosquitto)
    run(*np.arange(2.0, 4.0, 0.1))
    wait_until(lambda: len(centre.clips) >= 20)
    headers = [decode_clip(payload)[0] for payload, _ in centre.clips]
    assert {header.detection for header in headers} == {detection.id for detection in centre.detections}
    centre.close()


@pytest.mark.slow
def test_where_clips_are_not_allowed_no_request_is_heard(mosquitto: "Mosquitto", run: Run) -> None:
    centre = Asking(mosquitto)
    clips = run(3.0, allowed=False)
    wait_until(lambda: centre.detections)
    centre.ask(CLIP_REQUEST.encode(request(centre.detections[0].id)))
    time.sleep(0.5)
    assert not centre.clips
    assert clips.given == clips.refused.total() == 0
    centre.close()

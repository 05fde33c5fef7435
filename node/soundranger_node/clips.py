"""Clips: the last two minutes of sound, in memory only, and what of it leaves when the broker asks."""

import io
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from soundranger_node.blocks import Block, Samples, Timebase
from soundranger_node.messages import ClipHeader, ClipRequest, encode_clip

# Long enough for a bang to be located and asked about over a slow network.
KEPT_S = 120.0
# The most that one clip shows, before and after the onset together.
MAX_CLIP_S = 4.0
# What may leave in any hour of sound: 60 clips of the usual 2 s. A node is no microphone for its network to listen by.
MAX_S_PER_HOUR = 120.0
HOUR_S = 3_600.0
# Requests that wait for their sound; more at once than a broker has reason for.
MAX_REQUESTS = 100
# 16 bits span 96 dB, more than the 60 to 70 dB between the noise of a microphone and its loudest; 24 would take twice
# the memory, 23 MB at 48 kHz, for the noise's sake.
FULL_SCALE = 32_768

_LOG = logging.getLogger(__name__)

Pcm = NDArray[np.int16]


class Onset(Protocol):
    """What the clips need to know of a detection: its id, and the sample of the stream where its onset is."""

    @property
    def id(self) -> str:
        """The detection's id."""
        ...

    @property
    def sample(self) -> float:
        """The sample of the onset."""
        ...


class SoundRing:
    """The last seconds of one stream, as 16 bits: 11.5 MB for 120 s at 48 kHz.

    `start` and `end` are counts of samples of the stream; what lies between them is there, but for the gaps.
    """

    def __init__(self, sample_rate_hz: float, kept_s: float = KEPT_S) -> None:
        self.start = 0
        self.end = 0
        self._pcm: Pcm = np.zeros(round(kept_s * sample_rate_hz), np.int16)
        # Stretches that were lost, as (first, end).
        self._gaps: deque[tuple[int, int]] = deque()

    def push(self, block: Block) -> None:
        """Take the next block; one that does not come after all others begins the ring anew."""
        size = len(self._pcm)
        if block.first < self.end or block.first >= self.end + size:
            self.start = self.end = block.first
            self._gaps.clear()
        elif block.first > self.end:
            self._gaps.append((self.end, block.first))
        pcm = to_pcm(block.samples)[-size:]
        end = block.first + len(block.samples)
        at = np.arange(end - len(pcm), end) % size
        self._pcm[at] = pcm
        self.end = end
        self.start = max(self.start, end - size)
        while self._gaps and self._gaps[0][1] <= self.start:
            self._gaps.popleft()

    def around(self, sample: int, first: int, end: int) -> tuple[int, Pcm]:
        """Return the first sample and the sound from `first` to `end`, but only up to gaps on both sides of `sample`.

        The sound is empty where `sample` itself is not there.
        """
        nothing = sample, self._pcm[:0].copy()
        if not self.start <= sample < self.end:
            return nothing
        first, end = max(first, self.start), min(end, self.end)
        for gap_first, gap_end in self._gaps:
            if gap_end <= sample:
                first = max(first, gap_end)
            elif gap_first > sample:
                end = min(end, gap_first)
            else:
                return nothing
        return first, self._pcm[np.arange(first, end) % len(self._pcm)]


@dataclass(frozen=True)
class Clip:
    """The sound around one detection; `pcm` has shape (n,), full scale at 2^15."""

    header: ClipHeader
    pcm: Pcm

    def encode(self) -> bytes:
        """Return the payload: a line of JSON and a FLAC file.

        Raises:
            MessageError: it breaks a rule of the contract.
        """
        file = io.BytesIO()
        soundfile.write(file, self.pcm, self.header.sample_rate_hz, format="FLAC", subtype="PCM_16")
        return encode_clip(self.header, file.getvalue())


class Clips:
    """Keeps the sound of one stream and cuts clips out of it on request; used by one thread, but for `ask`.

    A request is met once, for a detection of this stream whose sound is still there, of 4 s at the most, and as long
    as no more than MAX_S_PER_HOUR have left; `refused` counts the others by reason. `given` counts clips.
    """

    def __init__(self, sample_rate_hz: float, timebase: Timebase) -> None:
        self.given = 0
        self.refused: Counter[str] = Counter()
        self._rate_hz = sample_rate_hz
        self._timebase = timebase
        self._ring = SoundRing(sample_rate_hz)
        self._onsets: OrderedDict[str, float] = OrderedDict()
        # Both ends of a deque may be used by threads of their own.
        self._asked: deque[ClipRequest] = deque()
        self._waiting: list[ClipRequest] = []
        # What has left within the last hour of sound: (samples heard until it was cut, seconds).
        self._left: deque[tuple[int, float]] = deque()
        self._heard = 0

    def ask(self, request: ClipRequest) -> None:
        """Take a request, to be met by `cut`; from any thread."""
        if len(self._asked) < MAX_REQUESTS:
            self._asked.append(request)
        else:
            self._refuse(request, "came with too many others")

    def hear(self, block: Block, onsets: Iterable[Onset]) -> None:
        """Take the next block, and the onsets that were found with it."""
        if block.first < self._ring.end:
            self._onsets.clear()
        self._ring.push(block)
        self._heard += len(block.samples)
        for onset in onsets:
            self._onsets[onset.id] = onset.sample
        while self._onsets and next(iter(self._onsets.values())) < self._ring.start:
            self._onsets.popitem(last=False)

    def cut(self) -> list[Clip]:
        """Return the clips that were asked for and are complete by now."""
        while self._asked:
            self._accept(self._asked.popleft())
        ready = [request for request in self._waiting if self._end(request) <= self._ring.end]
        self._waiting = [request for request in self._waiting if request not in ready]
        return [clip for request in ready if (clip := self._clip(request)) is not None]

    def _accept(self, request: ClipRequest) -> None:
        if request.before_s + request.after_s > MAX_CLIP_S:
            self._refuse(request, f"is for more than {MAX_CLIP_S:g} s")
        elif request.detection not in self._onsets:
            self._refuse(request, "is for no detection of the last two minutes, or for one whose clip was given")
        elif any(request.detection == other.detection for other in self._waiting):
            self._refuse(request, "came twice")
        else:
            self._waiting.append(request)

    def _end(self, request: ClipRequest) -> float:
        """Return the sample after the clip's last; at once where the onset has left the ring meanwhile."""
        return self._onsets.get(request.detection, -np.inf) + request.after_s * self._rate_hz

    def _clip(self, request: ClipRequest) -> Clip | None:
        onset = self._onsets.pop(request.detection, None)
        if onset is None:
            self._refuse(request, "is for sound that is gone")
            return None
        wanted_s = request.before_s + request.after_s
        if not self._may_leave(wanted_s):
            self._refuse(request, f"would make more than {MAX_S_PER_HOUR:g} s of sound leave within an hour")
            return None
        first = round(onset - request.before_s * self._rate_hz)
        first, pcm = self._ring.around(int(onset), first, round(onset + request.after_s * self._rate_hz))
        timing = self._timebase.timing(first)
        if not len(pcm) or timing.undated is not None:
            self._refuse(request, "is for sound that cannot be dated")
            return None
        self._left.append((self._heard, wanted_s))
        self.given += 1
        header = ClipHeader(detection=request.detection, start_ns=timing.time_ns, sample_rate_hz=round(self._rate_hz))
        return Clip(header, pcm)

    def _may_leave(self, wanted_s: float) -> bool:
        while self._left and self._left[0][0] < self._heard - HOUR_S * self._rate_hz:
            self._left.popleft()
        return sum(seconds for _, seconds in self._left) + wanted_s <= MAX_S_PER_HOUR

    def _refuse(self, request: ClipRequest, reason: str) -> None:
        self.refused[reason] += 1
        if self.refused[reason] == 1:
            _LOG.warning("the request for a clip of %s %s; it is ignored", request.detection, reason)


def to_pcm(samples: Samples) -> Pcm:
    """Return samples as 16-bit integers, the nearest; what is beyond full scale is at it."""
    scaled = np.rint(samples * np.float32(FULL_SCALE))
    pcm: Pcm = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return pcm

"""The sample clock: dates the samples of a sound card from the times at which its blocks came.

A block is never early but often late, so the true relation of sample count to UTC is the line that touches the times
from below: their lower convex hull (Moon, Skelly, Towsley 1999, "Estimation and removal of clock skew from network
delay measurements", INFOCOM; as a hull by Zhang, Liu, Xia 2002).
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Timing
from soundranger_node.messages import ClockTier

# Long enough that a hull over it gives the rate to a few ppm, short enough to follow a crystal's temperature.
WINDOW_S = 60
# Sound cards' crystals are within 100 ppm; cheap USB ones have been seen at 300.
MAX_RATE_ERROR = 500e-6
# Far above the lateness of a whole second's most punctual block, far below what a step of the clock usually is.
JUMP_S = 5e-3
# A jump can only be told from noise once the line rests on a few seconds.
MIN_SECONDS_FOR_JUMP = 3
# The line over a settled window was within this in simulation with 1 ms of mean lateness.
FIT_SIGMA_S = 1e-4
# A line over the first seconds, or right after a jump, may sit on a late block.
UNSETTLED_FIT_SIGMA_S = 1e-3
# Detections are dated within seconds of their sound; a few segments back is ample.
MAX_SEGMENTS = 8


def lower_envelope(x: NDArray[np.float64], y: NDArray[np.float64], max_slope: float) -> tuple[float, float]:
    """Return (offset, slope) of the line below all points that is closest to them on average.

    `x` and `y` have shape (n,), n >= 1, `x` increasing. It is the edge of the lower convex hull at the mean of `x`;
    the slope is held within `max_slope`, the offset is the largest that keeps the line below all points.
    """
    hull: list[int] = []
    for point in range(len(x)):
        while len(hull) > 1 and not _turns_left(x, y, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    slope = 0.0
    if len(hull) > 1:
        edge = int(np.clip(np.searchsorted(x[hull], x.mean()), 1, len(hull) - 1))
        left, right = hull[edge - 1], hull[edge]
        slope = float(np.clip((y[right] - y[left]) / (x[right] - x[left]), -max_slope, max_slope))
    return float(np.min(y - slope * x)), slope


def _turns_left(x: NDArray[np.float64], y: NDArray[np.float64], a: int, b: int, c: int) -> bool:
    return bool((x[b] - x[a]) * (y[c] - y[a]) > (y[b] - y[a]) * (x[c] - x[a]))


@dataclass
class _Segment:
    """A stretch without a jump. A second of it is its most punctual block: seconds of samples, and its excess of UTC.

    `x` counts nominal seconds since the segment's first sample; `y` is (UTC - origin) - x, in seconds.
    """

    first: int
    origin_ns: int
    x: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_S))
    y: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_S))

    def closed(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the seconds that are over; the first one already while it runs."""
        end = max(1, len(self.x) - 1)
        return np.array(self.x)[:end], np.array(self.y)[:end]


class SampleClock:
    """Dates samples: feed it the time of each block's first sample, ask it for the UTC of any sample.

    `clock_sigma_s` and `tier` describe the system clock; `latency_s` is how long the microphone itself delays sound.
    """

    def __init__(self, sample_rate_hz: float, clock_sigma_s: float, tier: ClockTier, latency_s: float = 0.0) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._clock_sigma_s = clock_sigma_s
        self._tier: ClockTier = tier
        self._latency_s = latency_s
        self._segments: deque[_Segment] = deque(maxlen=MAX_SEGMENTS)
        self._restart = True

    @property
    def ppm(self) -> float:
        """How many millionths the samples come slower than their nominal rate; 0 before there is a fit."""
        return self._line(self._segments[-1])[1] * 1e6 if self._segments else 0.0

    def restart(self) -> None:
        """Begin a new segment with the next block: samples were lost."""
        self._restart = True

    def add(self, sample: int, time_ns: int) -> None:
        """Take the UTC at which a sample (the first of a block) was recorded, as far as the system knows: or later."""
        if self._restart:
            self._segments.append(_Segment(sample, time_ns))
            self._restart = False
        segment = self._segments[-1]
        x = (sample - segment.first) / self._sample_rate_hz
        y = (time_ns - segment.origin_ns) * 1e-9 - x
        if segment.x and int(segment.x[-1]) == int(x):
            if y < segment.y[-1]:
                segment.x[-1], segment.y[-1] = x, y
            return
        if self._has_jumped(segment):
            self._split(segment)
            self.add(sample, time_ns)
            return
        segment.x.append(x)
        segment.y.append(y)

    def timing(self, sample: float) -> Timing:
        """Return the UTC of a sample; the segment that it fell into is the one that counts.

        Raises:
            ValueError: no block has come yet.
        """
        if not self._segments:
            raise ValueError("no block has come yet")
        started = [segment for segment in self._segments if segment.first <= sample]
        segment = started[-1] if started else self._segments[0]
        offset, slope, fit_sigma_s = self._line(segment)
        x = (sample - segment.first) / self._sample_rate_hz
        seconds = x + offset + slope * x - self._latency_s
        terms_s = {"clock": self._clock_sigma_s, "fit": fit_sigma_s}
        return Timing(segment.origin_ns + round(seconds * 1e9), terms_s, self._tier)

    def _line(self, segment: _Segment) -> tuple[float, float, float]:
        x, y = segment.closed()
        offset, slope = lower_envelope(x, y, MAX_RATE_ERROR)
        floor_s = FIT_SIGMA_S if len(x) >= MIN_SECONDS_FOR_JUMP else UNSETTLED_FIT_SIGMA_S
        return offset, slope, max(floor_s, float(np.median(y - offset - slope * x)))

    def _has_jumped(self, segment: _Segment) -> bool:
        if len(segment.x) <= MIN_SECONDS_FOR_JUMP:
            return False
        offset, slope, _ = self._line(segment)
        return abs(segment.y[-1] - offset - slope * segment.x[-1]) > JUMP_S

    def _split(self, segment: _Segment) -> None:
        """Move the last second of a segment into a new one."""
        x, y = segment.x.pop(), segment.y.pop()
        first = segment.first + round(x * self._sample_rate_hz)
        self._segments.append(_Segment(first, segment.origin_ns + round((x + y) * 1e9)))
        self._segments[-1].x.append(0.0)
        self._segments[-1].y.append(0.0)

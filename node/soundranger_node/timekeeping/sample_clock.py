"""The sample clock: which monotonic time a sample of a sound card was taken at, from the times that its blocks bear.

Monotonic, because the system clock's steps do not show in it: what `date` says holds whatever becomes of UTC. Its slews
do, as changes of the card's rate: slew.py tells of these.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace
from math import ceil, floor, hypot

import numpy as np
from numpy.typing import NDArray

from soundranger_node.timekeeping.bus import FULL_SPEED_FRAME_S
from soundranger_node.timekeeping.envelope import MIN_POINTS, Floats
from soundranger_node.timekeeping.lateness import FEW_SIGMA_S, RMS_PER_WHOLE, WINDOW_S, Fit, Prior, fit

# For questions about the past, and for teeth that are too long for a window.
KEEP_S = 240.0
# Far above the lateness of a whole second's most punctual block, far below a loss of samples that matters.
JUMP_S = 5e-3
# A starved computer can be late for whole seconds; after this many it is the samples that are fewer.
LATE_SECONDS = 3
# The most punctual block of a second is compared with those of the last few.
LEVEL_SECONDS = 5
# A new segment has a fit at every question until this much of it is there, then one a second.
YOUNG_S = 2.0
# Over a restart, a crystal's rate may have wandered this far.
RATE_WANDER = 2e-6
# Detections are dated within seconds of their sound; a few segments back is ample.
MAX_SEGMENTS = 8
# Questions come about the same few seconds again and again.
MAX_FITS = 8


@dataclass
class _Segment:
    """A stretch without a jump: its blocks' nominal seconds `x` since its first sample, and the excess `y` of time.

    `block_s` is a block's length, `level` holds the least excess of the last seconds, `second` is the first point of
    the running second, `late` the first of those that wait for a verdict.
    """

    number: int
    first: int
    origin_ns: int
    prior: Prior
    x: Floats = field(default_factory=lambda: np.empty(1024))
    y: Floats = field(default_factory=lambda: np.empty(1024))
    count: int = 0
    second: int = 0
    late: list[int] = field(default_factory=list)
    block_s: float = np.inf
    level: deque[float] = field(default_factory=lambda: deque(maxlen=LEVEL_SECONDS))

    def append(self, x: float, y: float) -> None:
        if self.count == len(self.x):
            self._make_room()
        if self.count:
            self.block_s = min(self.block_s, x - float(self.x[self.count - 1]))
        self.x[self.count], self.y[self.count] = x, y
        self.count += 1

    def _make_room(self) -> None:
        """Forget what is too old, and make the arrays longer where that is not enough."""
        old = min(int(np.searchsorted(self.x, self.x[-1] - KEEP_S)), self.second, *self.late)
        size = len(self.x) if old > len(self.x) // 2 else 2 * len(self.x)
        for name in ("x", "y"):
            grown = np.empty(size)
            grown[: self.count - old] = getattr(self, name)[old:]
            setattr(self, name, grown)
        self.count -= old
        self.second -= old
        self.late = [start - old for start in self.late]

    def drop(self, points: NDArray[np.intp]) -> None:
        """Remove points of the running second."""
        for name in ("x", "y"):
            values = getattr(self, name)
            kept = np.delete(values[: self.count], points)
            values[: len(kept)] = kept
        self.count -= len(points)


class SampleClock:
    """Dates samples: feed it the monotonic time of each block's first sample, ask it for that of any sample.

    `frame_s` is the frame of the bus that the card is on (see bus.py): the longest that there is, where it is not
    known, and 0 where it has none.
    """

    def __init__(self, sample_rate_hz: float, frame_s: float = FULL_SPEED_FRAME_S) -> None:
        self._prior = _prior(frame_s)
        self._sample_rate_hz = sample_rate_hz
        self._segments: deque[_Segment] = deque(maxlen=MAX_SEGMENTS)
        self._fits: OrderedDict[tuple[int, float], Fit] = OrderedDict()
        self._restart = True
        self._known = False

    @property
    def ppm(self) -> float:
        """How many millionths the samples come slower than their nominal rate; 0 before there is a fit."""
        return self._rate(self._segments[-1]) * 1e6 if self._segments else 0.0

    def restart(self, frame_s: float | None = None) -> None:
        """Begin a new segment with the next block: samples were lost, or a card was opened.

        Where one was opened, `frame_s` is the frame of its bus; it may be another card than before.
        """
        if frame_s is not None:
            self._prior, self._known = _prior(frame_s), False
        self._restart = True

    def forget(self) -> None:
        """Begin a new segment with the next block, and know nothing of the card: the monotonic clock was slewed."""
        self.restart(self._prior.frame_s)

    def add(self, sample: int, monotonic_ns: int) -> None:
        """Take the monotonic time at which a sample (the first of a block) was taken, as far as is known: or later.

        Samples only ever count up.
        """
        if self._restart:
            self._begin(sample, monotonic_ns)
            self._restart = False
        segment = self._segments[-1]
        x = (sample - segment.first) / self._sample_rate_hz
        y = (monotonic_ns - segment.origin_ns) * 1e-9 - x
        if segment.count and int(x) > int(segment.x[segment.second]):
            self._close_second(segment)
            if segment is not self._segments[-1]:
                self.add(sample, monotonic_ns)
                return
            segment.second = segment.count
        segment.append(x, y)

    def date(self, sample: float) -> tuple[int, float]:
        """Return the monotonic time of a sample, ns, and one standard deviation of it, seconds.

        The segment that the sample fell into is the one that counts.

        Raises:
            ValueError: no block has come yet.
        """
        if not self._segments:
            raise ValueError("no block has come yet")
        started = [segment for segment in self._segments if segment.first <= sample]
        segment = started[-1] if started else self._segments[0]
        x = (sample - segment.first) / self._sample_rate_hz
        found = self._fit(segment, x)
        if found is None:
            excess_s, sigma_s = float(segment.y[: segment.count].min()), FEW_SIGMA_S
        else:
            excess_s, sigma_s = found.at(x)
            # A block is dated back from its end at the nominal rate: a microsecond in 20 ms at 50 ppm.
            excess_s -= found.line.slope * segment.block_s
        return segment.origin_ns + round((x + excess_s) * 1e9), sigma_s

    def _fit(self, segment: _Segment, x: float) -> Fit | None:
        """Return the fit for a time of a segment: to a window with it in the middle or near the end; None if young."""
        points = segment.x[: segment.count]
        last = float(points[-1])
        end = last if last < YOUNG_S else min(floor(last), max(ceil(x + WINDOW_S / 2), floor(points[0] + WINDOW_S)))
        key = (segment.number, end)
        if key not in self._fits:
            if np.searchsorted(points, end, side="right") < MIN_POINTS:
                return None
            self._fits[key] = fit(points, segment.y[: segment.count], end, segment.prior)
            if len(self._fits) > MAX_FITS:
                self._fits.popitem(last=False)
        return self._fits[key]

    def _rate(self, segment: _Segment) -> float:
        found = self._fit(segment, float(segment.x[segment.count - 1]))
        return segment.prior.rate if found is None else found.line.slope

    def _close_second(self, segment: _Segment) -> None:
        """Judge the second that is over: a jump ends the segment, a few times too early are no times."""
        above = segment.y[segment.second : segment.count] - min(segment.level, default=-np.inf)
        early = np.flatnonzero(above < -JUMP_S)
        if early.size and 2 * early.size > len(above) - early[0]:
            self._split(segment, segment.second + int(early[0]))
        elif segment.level and above.min() > JUMP_S:
            segment.late.append(segment.second)
            if len(segment.late) == LATE_SECONDS:
                self._split(segment, segment.late[0])
        else:
            if early.size:
                segment.drop(segment.second + early)
            segment.late.clear()
            segment.level.append(float(segment.y[segment.second : segment.count].min()))

    def _split(self, segment: _Segment, start: int) -> None:
        """Move the points from `start` on into a new segment."""
        points = list(zip(segment.x[start : segment.count], segment.y[start : segment.count], strict=True))
        segment.count = start
        for x, y in points:
            sample = segment.first + round(x * self._sample_rate_hz)
            monotonic_ns = segment.origin_ns + round((x + y) * 1e9)
            if segment is self._segments[-1]:
                self._begin(sample, monotonic_ns)
            begun = self._segments[-1]
            x_begun = (sample - begun.first) / self._sample_rate_hz
            begun.append(x_begun, (monotonic_ns - begun.origin_ns) * 1e-9 - x_begun)

    def _begin(self, sample: int, monotonic_ns: int) -> None:
        """Begin a segment; where the card stays the same, so does what is known of it."""
        if self._segments and self._known:
            self._prior = self._learnt(self._segments[-1])
        number = self._segments[-1].number + 1 if self._segments else 0
        self._segments.append(_Segment(number, sample, monotonic_ns, self._prior))
        self._known = True

    def _learnt(self, segment: _Segment) -> Prior:
        """Return what is known of the card after a segment of it."""
        prior, last = segment.prior, float(segment.x[segment.count - 1])
        found = self._fit(segment, last)
        if found is None or last - segment.x[0] < WINDOW_S:
            return prior
        return replace(
            prior,
            rate=found.line.slope,
            rate_sigma=hypot(found.line.slope_sigma, RATE_WANDER),
            hidden_s=min(found.spread_s, prior.frame_s * RMS_PER_WHOLE),
        )


def _prior(frame_s: float) -> Prior:
    """Return what is known of a card on a bus with such frames."""
    return Prior(hidden_s=frame_s * RMS_PER_WHOLE, frame_s=frame_s)

"""The pulse per second of a GPS on a second channel of the sound card: samples dated with the pulse as their clock.

A pulse rises at the whole second of UTC. An AC-coupled input makes a spike of its rise and an opposite one of its fall,
a swapped pair of wires turns both round: so an edge is a sudden change that stands out from the noise, and the rise is
the edge that the opposite one follows sooner.
"""

from collections import deque
from collections.abc import Callable
from math import exp, hypot, sqrt

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Samples
from soundranger_node.utc import NS_PER_S

# A step is over within this many samples, whatever the filter before the converter.
EDGE_SAMPLES = 4
# How many samples before an edge its foot is measured in.
FOOT_SAMPLES = 8
# One edge has ripples; the fall of the shortest usual pulse comes after 1 ms or more.
DEAD_S = 8e-4
# An edge stands out from the noise's median change by this factor, and is no less than this part of the strongest.
EDGE_OVER_NOISE = 20.0
EDGE_OVER_STRONGEST = 0.4
# What is weaker than this (-60 dBFS) is hum or crosstalk, not a wire.
MIN_EDGE = 1e-3
# The strongest edge is forgotten with this time constant: a gain may be turned down, a click may have been louder.
STRONGEST_FADES_S = 5.0
# Of a pulse as long as its pause, rise and fall cannot be told apart.
MAX_PULSE_S = 0.45
# Receivers' pulses are 1 ms at least; a click's two sides are closer together.
MIN_PULSE_S = 9e-4
# Two rises are a second apart: to the 500 ppm of a card's rate and then some.
SECOND_TOLERANCE_S = 1e-3
# The clock must say which second it is.
MAX_LABEL_ERROR_S = 0.4
# Long enough to average the edges' noise, short enough for the line to follow the crystal.
WINDOW_S = 30
# A line, and enough points over to know how well it fits.
MIN_PULSES = 5
# Pulses further than this from the line are something else.
MAX_MISFIT_S = 1e-4
# After this many of them it is the line that is wrong.
MAX_MISFITS = 5
# A receiver's pulse is within 0.1 us; the middle of its edge, through a card's filter, within a tenth of a sample.
PULSE_SIGMA_SAMPLES = 0.1
# The middle of an edge.
HALF = 0.5
# A crystal in a box whose temperature drifts: its rate's change, 1/s; what a line over the window cannot follow,
RATE_DRIFT_PER_S = 2e-8
# and its rate, however long the pulses are gone: 2 ppm.
RATE_WANDER = 2e-6
# The second that a sample falls into is known that long without a pulse, and the time far better than by most clocks.
MAX_HOLDOVER_S = 300.0


class EdgeFinder:
    """Finds the rises of pulses in a stream of blocks of `sample_rate_hz`."""

    def __init__(self, sample_rate_hz: float) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._margin = EDGE_SAMPLES + FOOT_SAMPLES
        self._held = np.empty(0, np.float32)
        self._held_first = 0
        self._strongest = 0.0
        self._edge: tuple[float, float] | None = None

    def push(self, samples: Samples, first: int) -> list[float]:
        """Return the samples (with fractions) at which pulses rose, once their falls have shown them to be pulses.

        `samples` has shape (n,), the first of them is number `first` of the stream; after a gap all begins anew.
        """
        if first != self._held_first + len(self._held):
            self._held, self._held_first, self._edge = np.empty(0, np.float32), first, None
        self._strongest *= exp(-len(samples) / (STRONGEST_FADES_S * self._sample_rate_hz))
        signal = np.concatenate([self._held, samples]).astype(np.float64)
        if len(signal) <= 2 * self._margin:
            self._held = signal.astype(np.float32)
            return []
        rises = [rise for edge in self._edges(signal) if (rise := self._rise(*edge)) is not None]
        kept = 2 * self._margin
        self._held_first += len(signal) - kept
        self._held = signal[-kept:].astype(np.float32)
        return rises

    def _edges(self, signal: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Return (sample, height with sign) of the edges whose surroundings are all in the signal."""
        change = signal[EDGE_SAMPLES:] - signal[:-EDGE_SAMPLES]
        size = np.abs(change)
        least = max(MIN_EDGE, EDGE_OVER_NOISE * float(np.median(size)), EDGE_OVER_STRONGEST * self._strongest)
        # Every edge is in the middle part of one signal, whose last part is the first one of the next.
        found = np.flatnonzero(size[self._margin : len(signal) - self._margin] > least) + self._margin
        edges: list[tuple[float, float]] = []
        dead = round(DEAD_S * self._sample_rate_hz)
        for group in np.split(found, np.flatnonzero(np.diff(found) > dead) + 1) if found.size else []:
            at = int(group[np.argmax(size[group[group <= group[0] + dead]])])
            edge, height = _crossing(signal, at)
            if self._edge is None or edge + self._held_first > self._edge[0] + dead:
                edges.append((edge + self._held_first, height))
                self._strongest = max(self._strongest, abs(height))
        return edges

    def _rise(self, sample: float, height: float) -> float | None:
        """Return the edge before this one if it was a pulse's rise, and this its fall."""
        before, self._edge = self._edge, (sample, height)
        if before is None or before[1] * height > 0:
            return None
        length_s = (sample - before[0]) / self._sample_rate_hz
        return before[0] if MIN_PULSE_S <= length_s <= MAX_PULSE_S else None


def _crossing(signal: NDArray[np.float64], at: int) -> tuple[float, float]:
    """Return where the step that is steepest between `at` and EDGE_SAMPLES later is half done, and its height."""
    foot = float(np.mean(signal[at - FOOT_SAMPLES : at]))
    step = signal[at : at + EDGE_SAMPLES + 1] - foot
    top = float(step[np.argmax(np.abs(step))])
    share = step / top
    above = int(np.argmax(share >= HALF))
    if above == 0:
        return float(at), top
    return at + above - 1 + (HALF - share[above - 1]) / (share[above] - share[above - 1]), top


class PpsClock:
    """Dates samples by the pulses of a GPS; `rough_utc_ns` says which second it is, or None while nobody knows."""

    def __init__(self, sample_rate_hz: float, rough_utc_ns: Callable[[float], int | None]) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._pulse_sigma_s = PULSE_SIGMA_SAMPLES / sample_rate_hz
        self._rough_utc_ns = rough_utc_ns
        self._finder = EdgeFinder(sample_rate_hz)
        self._pulses: deque[tuple[float, int]] = deque(maxlen=WINDOW_S)
        self._misfits = 0

    def restart(self) -> None:
        """Forget the pulses: samples were lost, nobody knows exactly how many."""
        self._pulses.clear()
        self._misfits = 0

    def add(self, samples: Samples, first: int) -> None:
        """Take a block of the channel with the pulses, shape (n,); its first sample is number `first` of the stream."""
        for rise in self._finder.push(samples, first):
            second = self._label(rise)
            if second is not None:
                self._take(rise, second)

    def date(self, sample: float) -> tuple[int, float] | None:
        """Return the UTC of a sample, ns, and one standard deviation, s; None where the pulses do not tell it."""
        if len(self._pulses) < MIN_PULSES:
            return None
        at, second = self._pulses[-1]
        since_s = (sample - at) / self._sample_rate_hz
        if since_s > MAX_HOLDOVER_S:
            return None
        x, y = self._excess()
        center, slope, noise_s = _line(x, y)
        noise_s = max(noise_s, self._pulse_sigma_s)
        spread = float(np.sum((x - x.mean()) ** 2))
        reach = since_s - float(x.mean())
        sigma_s = hypot(
            noise_s * sqrt(1 / len(x) + reach**2 / spread),
            # The filter before the converter moves all edges alike, by less than an edge's own noise.
            self._pulse_sigma_s,
            RATE_DRIFT_PER_S * _bend(reach, float(x[-1] - x[0])),
            min(RATE_WANDER, RATE_DRIFT_PER_S * max(0.0, since_s)) * max(0.0, since_s),
        )
        return second * NS_PER_S + round((since_s + center + slope * reach) * NS_PER_S), sigma_s

    @property
    def pulses(self) -> int:
        """How many pulses of the last half minute the dates rest on."""
        return len(self._pulses)

    def _label(self, rise: float) -> int | None:
        utc_ns = self._rough_utc_ns(rise)
        if utc_ns is None:
            return None
        second = round(utc_ns / NS_PER_S)
        return second if abs(utc_ns - second * NS_PER_S) < MAX_LABEL_ERROR_S * NS_PER_S else None

    def _take(self, rise: float, second: int) -> None:
        """Take a pulse that fits the others; where the others are contradicted, begin anew with it."""
        if self._pulses:
            last, last_second = self._pulses[-1]
            passed_s = (rise - last) / self._sample_rate_hz
            whole = round(passed_s)
            if whole == 0 or abs(passed_s - whole) > SECOND_TOLERANCE_S * max(1, whole) or self._misfit(rise, second):
                self._misfits += 1
                if self._misfits < MAX_MISFITS:
                    return
                self.restart()
            elif second - last_second != whole:
                # The system clock has changed its mind about the second.
                self.restart()
        self._misfits = 0
        self._pulses.append((rise, second))
        while rise - self._pulses[0][0] > WINDOW_S * self._sample_rate_hz:
            self._pulses.popleft()

    def _misfit(self, rise: float, second: int) -> bool:
        dated = self.date(rise)
        if dated is None:
            return False
        off_s = (dated[0] - second * NS_PER_S) / NS_PER_S
        # A whole second off is another matter: the label's.
        return abs(off_s - round(off_s)) > MAX_MISFIT_S + 3 * dated[1]

    def _excess(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each pulse's nominal seconds since the last pulse, and the excess of UTC over them."""
        last, last_second = self._pulses[-1]
        x = np.array([(rise - last) / self._sample_rate_hz for rise, _ in self._pulses])
        return x, np.array([float(second - last_second) for _, second in self._pulses]) - x


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return (height at the mean of x, slope, noise) of the least-squares line."""
    slope, height = np.polyfit(x - x.mean(), y, 1)
    left_over = y - height - slope * (x - x.mean())
    noise_s = sqrt(float(left_over @ left_over) / (len(x) - 2))
    return float(height), float(slope), noise_s


def _bend(reach_s: float, length_s: float) -> float:
    """Return what a line over a length cannot follow of a parabola with a second derivative of 1."""
    return abs(reach_s**2 / 2 - length_s**2 / 24)

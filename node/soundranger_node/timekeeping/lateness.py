"""What blocks' times say about the sample clock: the envelope of a window, with a crystal that wanders and USB frames.

Times of a USB card are late by up to a frame, and by the same saw-tooth again and again where the block's length is a
multiple of the frame's: then only the bottoms of the teeth lie on the true line. Between two bottoms the times look
perfectly straight, at the rate of the frames. So a jump of the envelope is looked for, and where there are too few to
find the bottoms by, the sigma says so.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from soundranger_node.timekeeping.bus import FULL_SPEED_FRAME_S
from soundranger_node.timekeeping.envelope import (
    MIN_POINTS,
    Floats,
    Line,
    lower_envelope,
    lowest_of_parts,
    support_line,
)

# Nominal seconds, and the excess of time over them.
Window = tuple[Floats, Floats]

# Long enough for the bottoms of a saw-tooth and for a rate to a fraction of a ppm, short enough for a crystal's wander.
WINDOW_S = 60.0
# Where the line is better known than this many times what wander makes of it, the wander is what counts.
SMALL_OVER_WANDER = 2.0
SHORT_WINDOW_S = 20.0
# Where teeth are too long for the window, wander is the smaller evil.
LONG_WINDOW_S = 120.0
# A crystal in a box whose temperature drifts changes by 1-2 ppm over minutes: the spread of its rate's change, 1/s,
WANDER_PER_S = 1.8e-8
# and of the change's change, 1/s^2.
WANDER_PER_S2 = 1e-9
# A curve shows in the lowest points of this many parts of a window.
CURVE_PARTS = 12
# Before that a curve is not worth looking for.
MIN_CURVED_S = 10.0
# A part this long holds enough blocks that its lowest is steady, and is a small part of any tooth that matters.
PART_S = 2.0
# A jump stands out from the other differences between neighbouring parts by this factor,
JUMP_FACTOR = 15.0
# and is half a high-speed frame at least; a wandering crystal makes far less of them.
MIN_JUMP_S = 5e-5
MIN_PARTS = 8
# Blocks may all be late by the same part of a frame until a tooth is over: for most crystals it is within this.
SETTLED_S = 57.0
# Nothing is taken off for what may hide so: it is this much on the root of the mean square, for a uniform law,
RMS_PER_WHOLE = 1 / sqrt(3)
# whose whole is twice its median.
RMS_PER_MEDIAN = 2 * RMS_PER_WHOLE
# A single jump upwards is the end of a tooth, or of samples that were lost unnoticed: as likely as not.
TOOTH_CHANCE = 0.5
# Where even the lowest point of a part lies higher than by chance, the part was late as a whole: so rare is chance.
MISFIT_CHANCE = 1e-4
# A part later than this is one of a starved computer, and says nothing of the rest.
STARVED_S = 5e-3
# Times that are less scattered than this part of a frame may lie along one tooth,
STRAIGHT_SHARE = 0.45
# whose rate is then that of the frames: the computer's, before its daemon corrects it.
MAX_FRAME_RATE = 3e-5
# Before there are points for a fit: how late the most punctual of a handful of blocks may be.
FEW_SIGMA_S = 1e-3
# Crystals' rates: nearly all are within 100 ppm.
RATE_SIGMA = 6e-5


@dataclass(frozen=True)
class Prior:
    """What is known of a card before a block comes: its rate error, and how late all of its blocks may be unnoticed.

    `hidden_s` is that in the first minute, on the root of the mean square; `frame_s` is the frame of the card's bus,
    whose teeth may be longer than any window.
    """

    rate: float = 0.0
    rate_sigma: float = RATE_SIGMA
    hidden_s: float = FULL_SPEED_FRAME_S * RMS_PER_WHOLE
    frame_s: float = FULL_SPEED_FRAME_S


@dataclass(frozen=True)
class Jump:
    """A jump of the envelope: at `x` nominal seconds, upwards where `height_s` is positive."""

    x: float
    height_s: float


@dataclass(frozen=True)
class Fit:
    """The excess of true time over nominal time: a line, a curve on top of it, and the sigmas of what they leave out.

    `curvature` is the second derivative, 1/s, about the middle of the line. `hidden_s` is what a lateness that does
    not show may hide here, `spread_s` what it could hide in a few seconds of this window, and `misfit_s` how far off
    the line whole stretches of the envelope lie.
    """

    line: Line
    curvature: float = 0.0
    curvature_sigma: float = 0.0
    hidden_s: float = 0.0
    spread_s: float = 0.0
    misfit_s: float = 0.0

    def at(self, x: float) -> tuple[float, float]:
        """Return the excess at `x`, and one standard deviation of it; seconds."""
        half = (self.line.x1 - self.line.x0) / 2
        u = x - (self.line.x0 + half)
        # What a straight line cannot follow of a parabola and of a cubic (Legendre's polynomials).
        bend = u**2 / 2 - half**2 / 6
        twist = u**3 / 6 - u * half**2 / 10
        variance = self.line.variance_at(x) + (self.curvature_sigma * bend) ** 2 + (WANDER_PER_S2 * twist) ** 2
        return self.line.at(x) + self.curvature * u**2 / 2, sqrt(variance + self.hidden_s**2)


def fit(x: Floats, y: Floats, end_s: float, prior: Prior) -> Fit:
    """Return the fit to the window of points that ends at `end_s`, or where they end.

    `x` counts nominal seconds, increasing; `y` is the excess of time over them, shape (n,), n >= MIN_POINTS.
    """
    end = int(np.searchsorted(x, end_s, side="right"))
    long = _window(x, y, end, LONG_WINDOW_S)
    usual = _window(x, y, end, WINDOW_S)
    jumps = envelope_jumps(*long)
    if jumps and prior.hidden_s:
        return _toothed(usual, long, jumps, prior)
    if jumps:
        # A bus without frames makes no teeth: samples were lost.
        usual = _window(x, y, end, min(WINDOW_S, x[end - 1] - jumps[-1].x - PART_S))
    found = _curved(*usual, prior)
    seen_s = float(usual[0][-1] - usual[0][0])
    hidden_s = _hidden_s(found, seen_s, prior)
    if seen_s > SETTLED_S and sqrt(found.line.variance_at(found.line.x1)) < SMALL_OVER_WANDER * _twist_s(WINDOW_S):
        found = _curved(*_window(x, y, end, SHORT_WINDOW_S), prior)
    return replace(found, hidden_s=hidden_s)


def _hidden_s(found: Fit, seen_s: float, prior: Prior) -> float:
    """Return the sigma of what lateness may hide in a window without jumps."""
    fading_s = prior.hidden_s * max(0.0, 1 - seen_s / SETTLED_S)
    straight = found.spread_s < STRAIGHT_SHARE * prior.frame_s and abs(found.line.slope) < MAX_FRAME_RATE
    return max(fading_s, prior.frame_s * RMS_PER_WHOLE if straight else 0.0, found.misfit_s)


def _window(x: Floats, y: Floats, end: int, length_s: float) -> Window:
    # Blocks may be so long that a window holds too few.
    start = min(int(np.searchsorted(x, x[end - 1] - length_s)), max(0, end - MIN_POINTS))
    return x[start:end], y[start:end]


def _twist_s(length_s: float) -> float:
    """Return what wander adds at the end of a window after a line and a curve are taken out."""
    return WANDER_PER_S2 * (length_s / 2) ** 3 / 15


def envelope_jumps(x: Floats, y: Floats) -> list[Jump]:
    """Return where the envelope of the points jumps, in order."""
    parts = int((x[-1] - x[0]) / PART_S)
    if parts < MIN_PARTS:
        return []
    offset, slope = support_line(x, y)
    level = y - offset - slope * x
    if level[lowest_of_parts(level, parts)].max() < MIN_JUMP_S:
        return []
    # Between jumps it is the times as they are that are straight, at a rate which is not the hull's.
    lowest = lowest_of_parts(y, parts)
    steps = np.diff(y[lowest])
    steps -= np.median(steps)
    size = np.abs(steps)
    if size.max() < max(MIN_JUMP_S, JUMP_FACTOR * float(np.median(size))):
        return []
    at = np.flatnonzero(size > size.max() / 2)
    # A jump within a part shows as two steps.
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    middles = (x[lowest][1:] + x[lowest][:-1]) / 2
    return [Jump(float(middles[run].mean()), float(steps[run].sum())) for run in runs]


def _toothed(usual: Window, long: Window, jumps: list[Jump], prior: Prior) -> Fit:
    """Return the fit to the shortest window whose envelope has bottoms of teeth, else what a jump tells."""
    for window in (usual, long):
        start_s, stop_s = window[0][[0, -1]]
        inside = [jump for jump in jumps if start_s + PART_S < jump.x < stop_s - PART_S]
        # The envelope is the edge at the middle of the window: it needs a bottom on either side.
        if inside and inside[0].x + PART_S < (start_s + stop_s) / 2 < inside[-1].x - PART_S:
            return _curved(*window, prior)
    return _beside_jump(*long, jumps)


def _curved(x: Floats, y: Floats, prior: Prior) -> Fit:
    """Return the envelope of points on a curve that is nearly a line."""
    curvature, curvature_sigma = 0.0, 0.0
    if x[-1] - x[0] > MIN_CURVED_S:
        curvature, curvature_sigma = _curvature(x, y)
    u = x - (x[0] + x[-1]) / 2
    straight = y - curvature * u**2 / 2
    line = lower_envelope(x, straight, prior.rate, prior.rate_sigma)
    above = straight - np.interp(x, [line.x0, line.x1], [line.left, line.right])
    spread_s = float(np.median(above)) * RMS_PER_MEDIAN
    return Fit(line, curvature, curvature_sigma, spread_s=spread_s, misfit_s=_misfit_s(above, x[-1] - x[0]))


def _misfit_s(above: Floats, length_s: float) -> float:
    """Return how far whole stretches of points lie above their envelope, on the root of the mean square; else 0."""
    parts = int(length_s / PART_S)
    if parts < MIN_PARTS:
        return 0.0
    lowest = above[lowest_of_parts(above, parts)]
    lowest = lowest[lowest < STARVED_S]
    by_chance_s = float(np.quantile(above, 1 - MISFIT_CHANCE ** (parts / len(above))))
    if lowest.max(initial=0.0) < max(MIN_JUMP_S, by_chance_s):
        return 0.0
    return float(lowest.max()) * RMS_PER_WHOLE


def _curvature(x: Floats, y: Floats) -> tuple[float, float]:
    """Return the second derivative of the envelope and its sigma: the parts' lowest points, and what crystals do."""
    _, slope = support_line(x, y)
    level = y - slope * x
    lowest = lowest_of_parts(level, CURVE_PARTS)
    u = x[lowest] - (x[0] + x[-1]) / 2
    shapes = np.stack([np.ones_like(u), u, u**2 / 2], axis=1)
    solution = np.linalg.lstsq(shapes, level[lowest])[0]
    left_over = level[lowest] - shapes @ solution
    noise = left_over @ left_over / (len(lowest) - shapes.shape[1]) * np.linalg.inv(shapes.T @ shapes)[2, 2]
    trust = WANDER_PER_S**2 / (WANDER_PER_S**2 + noise)
    return float(solution[2] * trust), sqrt(noise * trust)


def _beside_jump(x: Floats, y: Floats, jumps: list[Jump]) -> Fit:
    """Return what can be said where the envelope jumps, but too seldom to know its bottoms.

    A tooth is as long as the time between two jumps at least, so lateness has changed since the last one by its share
    of that at most. It has fallen where the jump was upwards, and else risen from nothing.
    """
    jump = jumps[-1]
    before_s = jump.x - (jumps[-2].x if len(jumps) > 1 else x[0])
    after_s = x[-1] - jump.x
    after = x >= min(jump.x + min(PART_S, after_s / 2), x[-MIN_POINTS])
    before = (x > jump.x - before_s + PART_S) & (x < jump.x - PART_S)
    known, shift_s = (before, jump.height_s) if before_s > after_s and before.sum() >= MIN_POINTS else (after, 0.0)
    flat = lower_envelope(x[known], y[known], 0.0, RATE_SIGMA)
    tooth_s = max(before_s, after_s)
    size_s = abs(jump.height_s)
    change_s = size_s * after_s / tooth_s
    chance = TOOTH_CHANCE if len(jumps) == 1 and jump.height_s > 0 else 1.0
    late_s = chance * max(jump.height_s, 0.0)
    left = flat.at(jump.x) + shift_s - late_s
    right = flat.at(x[-1]) + shift_s - late_s + chance * np.sign(jump.height_s) * change_s / 2
    variance = np.array([(size_s * PART_S / tooth_s) ** 2, change_s**2]) / 12 + chance * (1 - chance) * size_s**2
    variance += [flat.variance_at(jump.x), flat.variance_at(x[-1])]
    return Fit(
        Line(jump.x, float(x[-1]), float(left), float(right), np.diag(variance)), spread_s=size_s * RMS_PER_WHOLE
    )

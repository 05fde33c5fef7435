"""The lower envelope: the line that times which are never early, but often late, lie above; and how sure it is.

The line closest below all points is an edge of their lower convex hull (Moon, Skelly, Towsley 1999, "Estimation and
removal of clock skew from network delay measurements", INFOCOM; as a hull: Zhang, Liu, Xia 2002). The truth is a
little lower still: how much, the points just above the line tell. Near zero, the density of lateness is either flat
(an exponential or a uniform law), or a ramp (the sum of two such), or a ramp that flattens; points above a line are
then a Poisson process, and the line's posterior is averaged over these laws on a grid.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Sound cards' crystals are within 100 ppm; cheap USB ones have been seen at 300.
MAX_SLOPE = 500e-6
# Enough points to find the line's edge at their middle; more only cost time.
HULL_POINTS = 60
# The points nearest the line say what the law of lateness is like there; more would reach beyond "there".
NEAREST = 40
# Where a third of the points is less than that, the law near zero is a third of the law.
NEAREST_SHARE = 3
# Fewer points than this can not carry a line and a law.
MIN_POINTS = 9
# Lengths of the ramp, in widths of the zone that holds the nearest points; a flat density and a pure ramp besides.
RAMPS = (0.3, 1.0)
# The posterior's grid has this many lines a side, and is laid anew around what the last one found.
GRID = 17
PASSES = 3
GRID_SIGMAS = 4.0
# Where along the zone its area is measured.
_NODES = (np.arange(8) + 0.5) / 8


@dataclass(frozen=True)
class Line:
    """A straight line by its ends: (x0, left), (x1, right), and the covariance of left and right."""

    x0: float
    x1: float
    left: float
    right: float
    covariance: Floats

    @property
    def slope(self) -> float:
        """Its rise."""
        return (self.right - self.left) / (self.x1 - self.x0)

    @property
    def slope_sigma(self) -> float:
        """One standard deviation of its rise."""
        return sqrt(self._variance(-1.0, 1.0)) / (self.x1 - self.x0)

    def at(self, x: float) -> float:
        """Return its height."""
        share = (x - self.x0) / (self.x1 - self.x0)
        return (1 - share) * self.left + share * self.right

    def variance_at(self, x: float) -> float:
        """Return the variance of its height."""
        share = (x - self.x0) / (self.x1 - self.x0)
        return self._variance(1 - share, share)

    def _variance(self, of_left: float, of_right: float) -> float:
        weights = np.array([of_left, of_right])
        # Rounding makes the nothing of a perfect line a little less than that.
        return max(0.0, float(weights @ self.covariance @ weights))


def lowest_of_parts(y: Floats, parts: int) -> NDArray[np.intp]:
    """Return the index of the lowest point of each of `parts` (at most len(y)) equal parts of `y`, in order."""
    edges = np.linspace(0, len(y), min(parts, len(y)) + 1).astype(int)
    return np.array([start + int(np.argmin(y[start:end])) for start, end in pairwise(edges)])


def support_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Return (offset, slope) of the line below all points that is closest to them on average.

    `x` and `y` have shape (n,), n >= 1, `x` increasing. The slope is held within MAX_SLOPE, the offset is the largest
    that keeps the line below all points.
    """
    slope = 0.0
    # The lowest point of a part depends on the slope a little: the second time it is known.
    for _ in range(2):
        lowest = lowest_of_parts(y - slope * x, HULL_POINTS)
        slope = float(np.clip(slope + _hull_slope(x[lowest], (y - slope * x)[lowest]), -MAX_SLOPE, MAX_SLOPE))
    return float(np.min(y - slope * x)), slope


def _hull_slope(x: Floats, y: Floats) -> float:
    """Return the slope of the lower convex hull at the mean of `x`; 0 for a single point."""
    hull: list[int] = []
    for point in range(len(x)):
        while len(hull) > 1 and not _turns_left(x, y, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    if len(hull) == 1:
        return 0.0
    edge = int(np.clip(np.searchsorted(x[hull], x.mean()), 1, len(hull) - 1))
    left, right = hull[edge - 1], hull[edge]
    return float((y[right] - y[left]) / (x[right] - x[left]))


def _turns_left(x: Floats, y: Floats, a: int, b: int, c: int) -> bool:
    return bool((x[b] - x[a]) * (y[c] - y[a]) > (y[b] - y[a]) * (x[c] - x[a]))


def lower_envelope(x: Floats, y: Floats, slope: float, slope_sigma: float) -> Line:
    """Return the line that the points are late upon: the mean of its posterior, and its covariance.

    `x` and `y` have shape (n,), n >= MIN_POINTS, `x` increasing; `slope` and its sigma are what is known beforehand.
    """
    offset, rise = support_line(x, y)
    above = y - offset - rise * x
    count = int(np.clip(len(x) // NEAREST_SHARE, NEAREST_SHARE, NEAREST))
    order = np.argpartition(above, count)
    length = float(x[-1] - x[0])
    # Twice the smallest float that seconds can be told apart by: points on one line have no zone.
    width = max(float(above[order[count]]), 1e-12)
    share = (x[order[:count]] - x[0]) / length
    near = above[order[:count]]

    center, spread = np.zeros(2), np.full(2, width / sqrt(count))
    for number in range(PASSES):
        # Of the first grid, only the support line itself is sure to have all points above it: it is one of the grid's.
        steps = np.linspace(-GRID_SIGMAS, GRID_SIGMAS, GRID)
        left, right = (grid.ravel() for grid in np.meshgrid(*(center[:, None] + spread[:, None] * steps)))
        slopes = rise + (right - left) / length
        log_weight = _log_likelihood(near, share, width, left, right) - 0.5 * ((slopes - slope) / slope_sigma) ** 2
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        center = np.array([weight @ left, weight @ right])
        offsets = np.stack([left, right]) - center[:, None]
        covariance = (weight * offsets) @ offsets.T
        if number < PASSES - 1:
            spread = np.maximum(np.sqrt(np.diag(covariance)), spread / 2)
    ends = offset + rise * x[[0, -1]] + center
    return Line(float(x[0]), float(x[-1]), float(ends[0]), float(ends[1]), covariance)


def _log_likelihood(near: Floats, share: Floats, width: float, left: Floats, right: Floats) -> Floats:
    """Return the log-likelihood of each line, given the points of the zone, averaged over the laws of lateness.

    The lines are `left` and `right` above the support line at its ends; the points are `near` above it at `share` of
    its length, and the zone is all within `width` above it. The density itself is integrated out.
    """
    height = (near - np.outer(left, 1 - share) - np.outer(right, share)) / width
    depth = 1.0 - (np.outer(left, 1 - _NODES) + np.outer(right, _NODES)) / width
    possible = (height.min(axis=1) >= 0) & (depth.min(axis=1) > 0)
    # Keeps the logarithm finite on the line itself.
    height, depth = np.maximum(height[possible], 1e-12), depth[possible]
    count = len(near)
    laws = [-count * np.log(depth.mean(axis=1))]
    laws.append(np.log(height).sum(axis=1) - count * np.log((depth**2).mean(axis=1) / 2))
    for ramp in RAMPS:
        area = (depth + ramp * np.expm1(-depth / ramp)).mean(axis=1)
        laws.append(np.log(-np.expm1(-height / ramp)).sum(axis=1) - count * np.log(area))
    log_likelihood = np.full(len(left), -np.inf)
    log_likelihood[possible] = np.logaddexp.reduce(laws, axis=0)
    return log_likelihood

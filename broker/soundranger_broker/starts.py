"""Where to start looking for a bang: places and times that some of its arrivals fit exactly, the likeliest first.

Compiled. Two closed forms: the linear least squares of all arrivals (Mathias, Leonardi, Galati 2008), which is the only
start needed where they agree; and the one or two places that three arrivals fit (the crossings of two hyperbolas, by a
quadratic for the distance to the first node as in Bancroft 1985), from many threes, so that several arrivals may be
wrong and that no mirror image is missed.
"""

import math

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats
from soundranger_broker.solver import Problem, factorise, solve_factorised

# Threes of nine nodes are all tried; of more nodes, as many as this.
MOST_THREES = 84
# Places this far off (m) are as good as any farther.
FARTHEST_M = 10_000.0
# Nodes closer than this (m) are one; sound between them says nothing.
ONE_PLACE_M = 1.0
# Nodes are never taken to lie straighter than this on a line (sine of the angle): a start need not be better.
STRAIGHTEST = 1e-3
# The path errors that a start may be off by (s), ...
START_SIGMA_S = 0.016
# ... and how much an arrival that is off by more can speak against it (log): it may be an outlier.
START_MISFIT = 7.0
# Of several places, one outside the nodes that heard it is less likely: by e in this distance.
OUTSIDE_FALL_M = 300.0
# Where no hill is known: the slope of the ground that nodes stand on, and how far they stand off it (m), worth as much
# as two nodes. No height above the ground is known better than to the least.
GROUND_SLOPE, OFF_GROUND_M, OFF_GROUND_WORTH, LEAST_OFF_GROUND_M = 0.05, 5.0, 2.0, 2.0
# Heights further from the middle one than this many median distances are cut: of a Gaussian's, one in a thousand.
MOST_SPREADS = 5.0


@njit(cache=True, error_model="numpy")
def height_prior(nodes: Floats) -> Floats:
    """Return what nodes (n, 3) say of a source's height: a plane (3,) as in `Problem`, and how far off it (m).

    Heights far from all others are cut: a height that is mistyped tilts no ground.
    """
    count = len(nodes)
    middle = np.median(nodes[:, 2])
    most = OFF_GROUND_M + MOST_SPREADS * np.median(np.abs(nodes[:, 2] - middle))
    heights = np.minimum(np.maximum(nodes[:, 2], middle - most), middle + most)
    east, north, up = nodes[:, 0].mean(), nodes[:, 1].mean(), heights.mean()
    ee = nn = (OFF_GROUND_M / GROUND_SLOPE) ** 2
    en = eu = nu = uu = 0.0
    for i in range(count):
        e, n, u = nodes[i, 0] - east, nodes[i, 1] - north, heights[i] - up
        ee, nn, en = ee + e * e, nn + n * n, en + e * n
        eu, nu, uu = eu + e * u, nu + n * u, uu + u * u
    det = ee * nn - en * en
    to_east, to_north = (nn * eu - en * nu) / det, (ee * nu - en * eu) / det
    squares = max(uu - to_east * eu - to_north * nu, 0.0) + OFF_GROUND_WORTH * OFF_GROUND_M**2
    sigma = math.sqrt(squares / (OFF_GROUND_WORTH + max(count - 3, 0)))
    return np.array([up - to_east * east - to_north * north, to_east, to_north, max(sigma, LEAST_OFF_GROUND_M)])


@njit(cache=True, error_model="numpy")
def closed_form(nodes: Floats, times_s: Floats, speed_mps: float) -> Floats:
    """Return (east, north, time) of the linear least-squares solution (Mathias, Leonardi, Galati 2008)."""
    count = len(times_s)
    east, north, time = nodes[:, 0].mean(), nodes[:, 1].mean(), times_s.mean()
    normal, right, row, factor, solved = np.zeros((4, 4)), np.zeros(4), np.ones(4), np.zeros((4, 4)), np.empty(4)
    # A little ridge keeps nodes on a line from being singular; at hundreds of metres it moves nothing.
    normal[0, 0] = normal[1, 1] = normal[2, 2] = 1e-3
    normal[3, 3] = 1e-9
    for i in range(count):
        e, n, path = nodes[i, 0] - east, nodes[i, 1] - north, speed_mps * (times_s[i] - time)
        row[0], row[1], row[2] = 2.0 * e, 2.0 * n, -2.0 * path
        square = e * e + n * n - path * path
        for a in range(4):
            right[a] += row[a] * square
            for b in range(a + 1):
                normal[a, b] += row[a] * row[b]
    if not factorise(normal, factor):
        return np.array([east, north, times_s.min()])
    solve_factorised(factor, right, solved)
    reach = math.hypot(solved[0], solved[1])
    shrink = min(1.0, FARTHEST_M / max(reach, ONE_PLACE_M))
    return np.array([shrink * solved[0] + east, shrink * solved[1] + north, shrink * solved[2] / speed_mps + time])


@njit(cache=True, error_model="numpy")
def fitting_three(problem: Problem, three: tuple[int, int, int], points: Floats, count: int) -> int:
    """Append to the first `count` of `points` (k, 3) those (east, north, time) that three arrivals fit exactly.

    Return how many there are then.
    """
    i, j, k = three
    nodes, times_s, speed = problem.nodes, problem.times_s, problem.medium[0]
    je, jn = nodes[j, 0] - nodes[i, 0], nodes[j, 1] - nodes[i, 1]
    ke, kn = nodes[k, 0] - nodes[i, 0], nodes[k, 1] - nodes[i, 1]
    to_j, to_k = math.hypot(je, jn), math.hypot(ke, kn)
    if min(to_j, to_k, math.hypot(je - ke, jn - kn)) < ONE_PLACE_M:
        return count
    if abs(je * kn - jn * ke) < STRAIGHTEST * to_j * to_k:
        ke, kn = ke - STRAIGHTEST * to_k * jn / to_j, kn + STRAIGHTEST * to_k * je / to_j
    det = je * kn - jn * ke
    later_j, later_k = speed * (times_s[j] - times_s[i]), speed * (times_s[k] - times_s[i])
    free_j, free_k = 0.5 * (to_j * to_j - later_j * later_j), 0.5 * (to_k * to_k - later_k * later_k)
    # The place is `free` and, for every metre from the first node, `along`; that it is that far is a quadratic.
    free_e, free_n = (kn * free_j - jn * free_k) / det, (je * free_k - ke * free_j) / det
    along_e, along_n = (jn * later_k - kn * later_j) / det, (ke * later_j - je * later_k) / det
    a = along_e * along_e + along_n * along_n - 1.0
    half_b = free_e * along_e + free_n * along_n
    c = free_e * free_e + free_n * free_n
    root = math.sqrt(max(half_b * half_b - a * c, 0.0))
    stable = -(half_b + math.copysign(root, half_b))
    for top, bottom in ((stable, a), (c, stable)):
        if top * bottom > 0.0 and abs(top) < FARTHEST_M * abs(bottom):
            away = top / bottom
            points[count, 0] = nodes[i, 0] + free_e + along_e * away
            points[count, 1] = nodes[i, 1] + free_n + along_n * away
            points[count, 2] = times_s[i] - away / speed
            count += 1
    return count


@njit(cache=True, error_model="numpy")
def misfit(problem: Problem, point: Floats, most: float) -> float:
    """Return how badly arrivals fit (east, north, time), with outliers (log, from 0); past `most`, not all of it."""
    height, speed = problem.height, problem.medium[0]
    up = height[0] + height[1] * point[0] + height[2] * point[1]
    total = 0.0
    for i in range(len(problem.times_s)):
        east, north = problem.nodes[i, 0] - point[0], problem.nodes[i, 1] - point[1]
        distance = math.sqrt(east * east + north * north + (problem.nodes[i, 2] - up) ** 2)
        off_s = problem.times_s[i] - point[2] - distance / speed
        variance = problem.sigmas_s[i] * problem.sigmas_s[i] + START_SIGMA_S * START_SIGMA_S
        total += min(0.5 * off_s * off_s / variance, START_MISFIT)
        if total > most:
            break
    return total


@njit(cache=True, error_model="numpy")
def mirrored(nodes: Floats, point: Floats) -> Floats:
    """Return (east, north, time) on the other side of the line that nodes (n, 3) follow best."""
    east, north = nodes[:, 0].mean(), nodes[:, 1].mean()
    ee = nn = en = 0.0
    for i in range(len(nodes)):
        e, n = nodes[i, 0] - east, nodes[i, 1] - north
        ee, nn, en = ee + e * e, nn + n * n, en + e * n
    angle = 0.5 * math.atan2(2.0 * en, ee - nn)
    along_e, along_n = math.cos(angle), math.sin(angle)
    across = -(point[0] - east) * along_n + (point[1] - north) * along_e
    return np.array([point[0] + 2.0 * across * along_n, point[1] - 2.0 * across * along_e, point[2]])


@njit(cache=True, error_model="numpy")
def candidates(problem: Problem, first: Floats, slack: float) -> tuple[Floats, Floats]:
    """Return points (k, 3), east, north, time, and their misfits (k,), right for those within `slack` of the least.

    They are `first` (3,), the earliest node, and what three arrivals fit.
    """
    count = len(problem.times_s)
    threes = count * (count - 1) * (count - 2) // 6
    points = np.empty((2 * min(threes, MOST_THREES) + 2, 3))
    earliest = np.argmin(problem.times_s)
    points[0] = first
    points[1, 0], points[1, 1] = problem.nodes[earliest, 0], problem.nodes[earliest, 1]
    points[1, 2] = problem.times_s[earliest]
    found = 2
    if threes <= MOST_THREES:
        for i in range(count):
            for j in range(i):
                for k in range(j):
                    found = fitting_three(problem, (i, j, k), points, found)
    else:
        for number in range(MOST_THREES):
            found = fitting_three(problem, _some_three(number, count), points, found)
    misfits = np.empty(found)
    least = np.inf
    for k in range(found):
        misfits[k] = misfit(problem, points[k], least + slack)
        least = min(least, misfits[k])
    return points[:found], misfits


@njit(cache=True, error_model="numpy")
def _some_three(number: int, count: int) -> tuple[int, int, int]:
    """Return three different numbers below `count`, others for every `number`: far apart in the order of nodes."""
    i = number % count
    j = (i + 1 + (number * 7 + number // count) % (count - 1)) % count
    k = (i + 1 + (number * 11 + number // count * 5 + 3) % (count - 1)) % count
    while k in (i, j):
        k = (k + 1) % count
    return i, j, k


@njit(cache=True, error_model="numpy")
def outside_m(nodes: Floats, point: Floats) -> float:
    """Return how far outside the box of nodes (n, 3) a point lies, metres."""
    east_m = max(nodes[:, 0].min() - point[0], point[0] - nodes[:, 0].max(), 0.0)
    north_m = max(nodes[:, 1].min() - point[1], point[1] - nodes[:, 1].max(), 0.0)
    return math.hypot(east_m, north_m)


@njit(cache=True, error_model="numpy")
def outside_fall_m(nodes: Floats) -> float:
    """Return the distance outside of nodes (n, 3) in which a place gets less likely by e, metres.

    Sound that reached across the nodes reaches as far beyond them.
    """
    east_m, north_m = nodes[:, 0].max() - nodes[:, 0].min(), nodes[:, 1].max() - nodes[:, 1].min()
    return max(OUTSIDE_FALL_M, 0.5 * math.hypot(east_m, north_m))

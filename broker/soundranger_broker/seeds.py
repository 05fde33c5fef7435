"""Seeds: places and times worth refining, found from the arrivals themselves rather than by looking everywhere.

Compiled. Whatever bang an arrival is the first of, the next nodes heard it soon after. So an arrival makes threes with
later ones at the nodes nearest to it; where and when three arrivals fit exactly is a closed form, and the bound on the
score around there says whether the other nodes agree. That costs a few microseconds a three, however large the country
is. A bang of which the nearest nodes missed most has no seed: the search that leaves out nothing is for those.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from soundranger_broker.backprojection import Region
from soundranger_broker.geodesy import Floats
from soundranger_broker.scoring import Arrivals, Evidence, Ints, Scene, bound, first_after
from soundranger_broker.solver import FLOOR_HZ, Problem
from soundranger_broker.starts import fitting_three

# Threes are made with arrivals at this many of the nearest nodes: two of them will have heard what the first did, even
# where half the nodes are deaf.
NEAREST = 6
# Sound may come from a neighbour this much later (s) than the straight way takes: bent paths, and wind.
BENT_S = 0.03
# Three arrivals that are each off by some 8 ms place a bang amid their nodes to about this (m).
SEED_M = 4.0
# The best seeds of an arrival are refined, so many of them.
MOST_SEEDS = 3


class Ground(NamedTuple):
    """What seeds are sown in: arrivals (m,) with the node of each, `owners`, and `problem`, the same as a location.

    Seeds lie in the `region`, or come after it. `near` (n, `NEAREST`) are the nodes nearest to each that have arrivals,
    -1 where there are no more.
    """

    arrivals: Arrivals
    owners: Ints
    near: Ints
    problem: Problem
    region: Region


@njit(cache=True)
def ground_of(scene: Scene, arrivals: Arrivals, evidence: Evidence, region: Region) -> Ground:
    """Return what the seeds of a search are sown in."""
    owners = np.empty(len(arrivals.times_s), dtype=np.int64)
    for n in range(len(scene.nodes)):
        owners[arrivals.starts[n] : arrivals.starts[n + 1]] = n
    near = np.full((len(scene.nodes), NEAREST), -1, dtype=np.int64)
    heard = np.flatnonzero(arrivals.starts[1:] > arrivals.starts[:-1])
    for node in heard:
        east, north = scene.nodes[heard, 0] - scene.nodes[node, 0], scene.nodes[heard, 1] - scene.nodes[node, 1]
        nearest = heard[np.argsort(east * east + north * north)]
        nearest = nearest[nearest != node][:NEAREST]
        near[node, : len(nearest)] = nearest
    problem = Problem(
        evidence.places,
        arrivals.times_s,
        evidence.sigmas_s,
        np.zeros(4),
        evidence.medium,
        evidence.precision,
        evidence.log_shares,
        evidence.late_shares,
        np.full(len(arrivals.times_s), FLOOR_HZ),
    )
    return Ground(arrivals, owners, near, problem, region)


@njit(cache=True)
def seeds_of(scene: Scene, ground: Ground, first: int, floor: float) -> tuple[Floats, int]:
    """Return the best points (k, 3), east, north, time, of bangs that `first` is the first arrival of, and how many.

    The bound of the score around each is above `floor`.
    """
    best, values, fits = np.zeros((MOST_SEEDS, 3)), np.full(MOST_SEEDS, floor), np.empty((2, 3))
    near = ground.near[ground.owners[first]]
    for a in range(NEAREST):
        for b in range(a):
            if near[a] < 0:
                break
            low_a, high_a = _later(scene, ground, first, near[a])
            low_b, high_b = _later(scene, ground, first, near[b])
            for i in range(low_a, high_a):
                for j in range(low_b, high_b):
                    if ground.arrivals.alive[i] and ground.arrivals.alive[j]:
                        for k in range(fitting_three(ground.problem, (first, i, j), fits, 0)):
                            if _is_sown(ground.region, fits[k]):
                                point = (fits[k, 0], fits[k, 1], fits[k, 2])
                                _keep(best, values, fits[k], bound(scene, ground.arrivals, point, SEED_M)[0])
    return best, int((values > floor).sum())


@njit(cache=True)
def _is_sown(region: Region, point: Floats) -> bool:
    """Say whether a point (3,) is where and when seeds may be."""
    off = point - region.corner
    return bool(0.0 <= off[0] <= region.extent[0] and 0.0 <= off[1] <= region.extent[1] and off[2] >= 0.0)


@njit(cache=True)
def _later(scene: Scene, ground: Ground, first: int, node: int) -> tuple[int, int]:
    """Return the first and past the last arrival of a node that can be of the same bang as an earlier one."""
    here, arrivals = ground.owners[first], ground.arrivals
    away_m = math.hypot(scene.nodes[node, 0] - scene.nodes[here, 0], scene.nodes[node, 1] - scene.nodes[here, 1])
    since_s, end = arrivals.times_s[first], arrivals.starts[node + 1]
    low = first_after(arrivals.times_s, arrivals.starts[node], end, since_s)
    return low, first_after(arrivals.times_s, low, end, since_s + away_m / scene.speed_mps + BENT_S)


@njit(cache=True)
def _keep(best: Floats, values: Floats, point: Floats, value: float) -> None:
    """Put a point among the best (k, 3), which are in descending order of their values (k,), if it belongs there.

    Of points within one seed of each other, only the better stays.
    """
    last = len(values) - 1
    for k in range(len(values)):
        if math.hypot(best[k, 0] - point[0], best[k, 1] - point[1]) < 2.0 * SEED_M:
            last = k
            break
    if value <= values[last]:
        return
    k = last
    while k > 0 and values[k - 1] < value:
        values[k], best[k] = values[k - 1], best[k - 1]
        k -= 1
    values[k], best[k] = value, point

"""Back-projection: where and when a bang may have been, by letting every arrival vote for all places at once.

Compiled. An arrival and a place give a firing time. So for one square of ground, every arrival votes, with its gain,
for the bins of firing time that it may come from; a node's best vote in a bin counts. The sum, with what hearing and
silence are worth, bounds the score of everything in the square and bin, and costs a few nanoseconds a vote. Squares
that hold a bin above the floor are split into four, down to the leaves that refinement starts from.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundranger_broker.geodesy import Floats
from soundranger_broker.scoring import (
    LEAF_M,
    MOST_EARLY_S,
    MOST_LATE_S,
    TABLE_STEP_M,
    Arrivals,
    Ints,
    Scene,
    first_after,
    late_offset,
)
from soundranger_broker.solver import LATE_MEAN_S

Singles = NDArray[np.float32]
# A bound, east and north (m), half the side (m), and the first and last firing time (s).
Block = tuple[float, float, float, float, float, float]

# Half the side of the squares that a projection starts with: large enough that empty country costs nothing, small
# enough that in quiet times most of them are empty.
ROOT_M = 8.0 * LEAF_M
# Classes of loudness are summed side by side in one vector register of this many single floats.
LANES = 8
# So many bins of firing time stay together when a block is split.
MOST_BINS = 6
# Single floats sum up to so much less than they should.
ROUNDING = 1e-3


class Region(NamedTuple):
    """Where and when to search: the lowest (east m, north m, firing time s) and how far it goes, (3,) each."""

    corner: Floats
    extent: Floats


class Votes(NamedTuple):
    """The arrivals that may count as voters, (m,) each, those of node n from `starts[n]` to `starts[n + 1]`.

    `early_s` and `late_s`: how far off a vote can be and still count; `tails`:
    what being late costs beside the exponential; `most_early_s` and `most_late_s`: the largest of those.
    """

    times_s: Floats
    gains: Floats
    per_sigma: Floats
    early_s: Floats
    late_s: Floats
    tails: Floats
    starts: Ints
    most_early_s: float
    most_late_s: float


class Tables(NamedTuple):
    """Hearing and silence by distance, for all classes of loudness side by side: (bins, LANES), (2, bins, LANES)."""

    hear: Singles
    silent: Singles


class Scratch(NamedTuple):
    """What a projection works in: sums (bins, LANES), a node's best vote and the number of votes (bins,), and lanes."""

    sums: Singles
    best: Singles
    votes: Ints
    base: Singles
    change: Singles


@njit(cache=True)
def votes_of(arrivals: Arrivals) -> Votes:
    """Return the votes of what is alive and likelier than clutter at least when it is on time."""
    able = np.flatnonzero(arrivals.alive & (arrivals.gains > 0.0))
    gains, sigmas_s = arrivals.gains[able], arrivals.sigmas_s[able]
    core_s = sigmas_s * np.sqrt(2.0 * gains)
    tails = np.empty(len(able))
    for i in range(len(able)):
        tails[i] = late_offset(sigmas_s[i])
    late_s = np.minimum(np.maximum(np.maximum(core_s, sigmas_s), (gains - tails) * LATE_MEAN_S), MOST_LATE_S)
    early_s = np.minimum(core_s, MOST_EARLY_S)
    return Votes(
        arrivals.times_s[able],
        gains,
        1.0 / sigmas_s,
        early_s,
        late_s,
        tails,
        np.searchsorted(able, arrivals.starts),
        early_s.max() if len(able) > 0 else 0.0,
        late_s.max() if len(able) > 0 else 0.0,
    )


@njit(cache=True)
def tables_of(scene: Scene) -> Tables:
    """Return the hearing tables of a scene, lane by lane; what goes beyond its classes never wins."""
    classes, bins = scene.log_hear.shape
    hear = np.full((bins, LANES), -np.inf, dtype=np.float32)
    # One bin more: a node that is too far away is silent for nothing.
    silent = np.zeros((2, bins + 1, LANES), dtype=np.float32)
    for k in range(classes):
        for b in range(bins):
            hear[b, k] = scene.log_hear[k, b]
            for doubtful in range(2):
                silent[doubtful, b, k] = scene.log_silent[doubtful, k, b]
    return Tables(hear, silent)


@njit(cache=True, fastmath=True)
def _vote(votes: Votes, node: int, near_s: float, far_s: float, width_s: float, best: Singles) -> tuple[int, int]:
    """Raise `best` (bins,) to the votes of a node whose first bin is heard from `near_s` to `far_s`.

    Bins are `width_s` wide. Returns the first and the last bin touched.
    """
    bins = len(best)
    first, last = bins, -1
    per_s = 1.0 / width_s
    end = votes.starts[node + 1]
    for i in range(first_after(votes.times_s, votes.starts[node], end, near_s - votes.most_early_s), end):
        if votes.times_s[i] > far_s + bins * width_s + votes.most_late_s:
            break
        # Fired between these two, the sound comes neither early nor late.
        since, until = votes.times_s[i] - far_s, votes.times_s[i] - near_s
        low = max(math.floor((since - votes.late_s[i]) * per_s), 0)
        high = min(math.floor((until + votes.early_s[i]) * per_s), bins - 1)
        gain = votes.gains[i]
        for b in range(low, high + 1):
            late_s, early_s = since - (b + 1) * width_s, b * width_s - until
            off = max(late_s, early_s, 0.0) * votes.per_sigma[i]
            cost = 0.5 * off * off
            if late_s > 0.0:
                cost = min(cost, max(late_s * (1.0 / LATE_MEAN_S) + votes.tails[i], 0.5))
            value = np.float32(gain - cost)
            best[b] = max(best[b], value)
        first, last = min(first, low), max(last, high)
    return first, last


@njit(cache=True, fastmath=True)
def _add(scratch: Scratch, first: int, last: int) -> None:
    """Add the best votes of a node to the sums of the bins that it touched, and forget them."""
    for b in range(first, last + 1):
        value = scratch.best[b]
        if value > 0.0:
            scratch.votes[b] += 1
            for k in range(LANES):
                more = value + scratch.change[k]
                scratch.sums[b, k] += more if more > 0.0 else np.float32(0.0)
        scratch.best[b] = 0.0


@njit(cache=True)
def _project(
    scene: Scene,
    tables: Tables,
    votes: Votes,
    square: tuple[float, float, float],
    start_s: float,
    scratch: Scratch,
) -> None:
    """Fill the sums of a square (east, north, half its side) for the bins of firing time from `start_s` on."""
    east, north, half_m = square
    reach_m = half_m * math.sqrt(2.0)
    width_s = 2.0 * half_m / scene.speed_mps
    bins = len(tables.hear)
    scratch.base[:] = -math.log(scene.log_hear.shape[0])
    for n in range(len(scene.nodes)):
        distance = math.hypot(scene.nodes[n, 0] - east, scene.nodes[n, 1] - north)
        near_m, far_m = max(distance - reach_m, 0.0), distance + reach_m
        near_bin, far_bin = int(near_m / TABLE_STEP_M), min(math.ceil(far_m / TABLE_STEP_M), bins)
        if near_bin >= bins:
            continue
        silent, hear = tables.silent[scene.doubtful[n], far_bin], tables.hear[near_bin]
        for k in range(LANES):
            scratch.base[k] += silent[k]
            scratch.change[k] = hear[k] - silent[k]
        near_s, far_s = start_s + near_m / scene.speed_mps, start_s + far_m / scene.speed_mps
        first, last = _vote(votes, n, near_s, far_s, width_s, scratch.best)
        _add(scratch, first, last)
    for b in range(len(scratch.best)):
        for k in range(scene.log_hear.shape[0]):
            scratch.sums[b, k] += scratch.base[k]


@njit(cache=True)
def roots(region: Region) -> list[Block]:
    """Return the blocks that cover a region; nothing is known of them yet."""
    half_m = LEAF_M
    while half_m < ROOT_M and half_m < max(region.extent[0], region.extent[1]) / 2.0:
        half_m *= 2.0
    columns, rows = math.ceil(region.extent[0] / half_m / 2.0), math.ceil(region.extent[1] / half_m / 2.0)
    return [
        (
            np.inf,
            region.corner[0] + (2 * column + 1) * half_m,
            region.corner[1] + (2 * row + 1) * half_m,
            half_m,
            region.corner[2],
            region.corner[2] + region.extent[2],
        )
        for column in range(columns)
        for row in range(rows)
        if region.extent[2] > 0.0
    ]


@njit(cache=True)
def parts(block: Block) -> list[Block]:
    """Return the four parts of a block, of as many firing times."""
    bound, east, north, half_m, start_s, end_s = block
    quarter = half_m / 2.0
    return [
        (bound, east + side * quarter, north + other * quarter, quarter, start_s, end_s)
        for side in (-1.0, 1.0)
        for other in (-1.0, 1.0)
    ]


@njit(cache=True)
def runs(scene: Scene, tables: Tables, votes: Votes, block: Block, floor: float, min_nodes: int) -> list[Block]:
    """Return the runs of bins of a block that may hold a score above a floor, with that bound; the bins of a leaf.

    `min_nodes` nodes may have heard what is in them.
    """
    bound, east, north, half_m, start_s, end_s = block
    width_s = 2.0 * half_m / scene.speed_mps
    bins = max(math.ceil((end_s - start_s) / width_s - 1e-6), 1)
    scratch = Scratch(
        np.zeros((bins, LANES), dtype=np.float32),
        np.zeros(bins, dtype=np.float32),
        np.zeros(bins, dtype=np.int64),
        np.empty(LANES, dtype=np.float32),
        np.empty(LANES, dtype=np.float32),
    )
    _project(scene, tables, votes, (east, north, half_m), start_s, scratch)
    most = 1 if half_m <= LEAF_M else MOST_BINS
    found = [block for _ in range(0)]
    first, best = 0, -np.inf
    for b in range(bins + 1):
        value = -np.inf
        if b < bins and scratch.votes[b] >= min_nodes:
            for k in range(scene.log_hear.shape[0]):
                value = max(value, scratch.sums[b, k] + ROUNDING)
        if best > floor and (value <= floor or b - first >= most):
            found.append((min(best, bound), east, north, half_m, start_s + first * width_s, start_s + b * width_s))
            best = -np.inf
        if value > floor:
            first = b if best == -np.inf else first
            best = max(best, value)
    return found

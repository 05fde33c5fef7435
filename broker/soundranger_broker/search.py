"""The search: the bangs of a window in one pass, the best first, each without the arrivals of those before it.

Compiled. Best-first search with lazy re-evaluation (Minoux 1978). One heap holds blocks of places and times, with
the bound of back-projection; blocks at the top are looked into, down to the leaves, which are refined to solutions.
Another holds the solutions, with their scores; solutions at the top are weighed. Once nothing is left that could be
better than the likeliest of those, that is a bang, and its arrivals are taken out. That only lowers bounds and scores,
so what was valued before is valued again only when it comes to the top, and nothing starts anew.

There are several kinds of hypotheses: a bang anywhere, and one more round from each place where there was a bang. They
differ in how likely they are beforehand, and in what levels say; a rank is a score with the former added.
"""

import heapq
import math
from typing import NamedTuple

import numpy as np
from numba import njit

from soundranger_broker.backprojection import Block, Region, Tables, Votes, parts, roots, runs, tables_of, votes_of
from soundranger_broker.geodesy import Floats
from soundranger_broker.levels import MEASURES, level_ratio
from soundranger_broker.scoring import LEAF_M, Arrivals, Evidence, Ints, Scene, refine, weigh

# Rank (negative), kind, how many bangs had been taken when it was valued, and a block (see `backprojection`).
Open = tuple[float, int, int, Block]
# Rank (negative) and number of a solution.
Solved = tuple[float, int]

# Leaves this close to where a solution was found, or looked for, lead to that solution: metres, and seconds, which are
# fewer than between two rounds.
SAME_SOLUTION_M, SAME_SOLUTION_S = 30.0, 0.035
# Score and log odds rank hypotheses alike to within this.
SCORE_SLACK = 4.0
# After so many refinements for every second of firing time that led to nothing, what is left is a plateau of noise.
FRUITLESS_PER_S = 75.0
# Log odds of the best refused hypotheses are kept for this many.
MOST_REFUSED = 5
# After a bang, one more from the same place within the next seconds is as likely as not: so many a second ...
AGAIN_HZ = 0.1
# ... for so long, before and after ...
AGAIN_S = 10.0
# ... from a place whose chance falls by e in this distance: other arrivals put the same place elsewhere ...
AGAIN_FALL_M = 15.0
# ... and is not looked for further away than this.
AGAIN_MARGIN_M = 40.0


class Known(NamedTuple):
    """Bangs that may be followed by more: places (k, 2), firing times (k,), levels at the nodes (k, n, `MEASURES`)."""

    places: Floats
    times_s: Floats
    levels_db: Floats


class Task(NamedTuple):
    """What to search: a span of firing times, how many nodes make a bang, and the least scores worth pursuing.

    `least_score` of a bang anywhere, and `least_score_again` of one more round from a place.
    """

    region: Region
    min_nodes: int
    least_score: float
    least_score_again: float


class Found(NamedTuple):
    """Hypotheses, (k,): log odds, points (k, 3) as east m, north m, firing time s, and arrivals (k, n; -1: silent)."""

    log_odds: Floats
    points: Floats
    chosen: Ints


class Kind(NamedTuple):
    """One kind of hypotheses: arrivals and evidence as it sees them, where it looks, and its least score."""

    arrivals: Arrivals
    evidence: Evidence
    region: Region
    least_score: float


class Solution(NamedTuple):
    """What a leaf was refined to: kind, score, hearing (see `scoring.refine`), point (3,) and arrivals (n,).

    `place` (2,), east and north (m), is where a bang would be, once the solution was weighed.
    """

    kind: int
    score: float
    hearing: float
    point: Floats
    chosen: Ints
    place: Floats


class State(NamedTuple):
    """A search on its way.

    `blocks` and `solved` are heaps: of what is still to be looked into, and of solutions that are still to be weighed.
    `votes`: for each kind, of what is alive. `visits`: points that were refined, or the
    result of it, with the number of the solution, in a list for every `SAME_SOLUTION_S` of firing time. `parked`:
    leaves that lead to a solution, with its number. `pool`: log odds and number of solutions that are likely enough.
    `taken` and `refused`: the same of those that became bangs, and that were not likely enough.
    """

    blocks: list[Open]
    solved: list[Solved]
    kinds: list[Kind]
    votes: list[Votes]
    solutions: list[Solution]
    visits: list[list[tuple[float, float, float, int]]]
    parked: list[tuple[Open, int]]
    pool: list[tuple[float, int]]
    taken: list[tuple[float, int]]
    refused: list[tuple[float, int]]


@njit(cache=True)
def find_bangs(
    scene: Scene, arrivals: Arrivals, evidence: Evidence, levels_db: Floats, known: Known, task: Task
) -> tuple[Found, Found]:
    """Return the bangs of a window, in the order in which they were taken, and the best of what was refused.

    `levels_db` (m, `MEASURES`) of the arrivals, see `levels.level_ratio`. The arrivals of the bangs are no more alive
    afterwards.
    """
    anywhere = Kind(arrivals, evidence, task.region, task.least_score)
    state, tables = _start(anywhere), tables_of(scene)
    places = [known.places[0] for _ in range(0)]
    for k in range(len(known.places)):
        places.append(known.places[k])
        state.kinds.append(_again(anywhere, levels_db, known.levels_db[k], places[k], known.times_s[k], task))
        state.votes.append(votes_of(state.kinds[-1].arrivals))
    for k in range(len(state.kinds)):
        _push_roots(state, k)
    fruitless, most = 0, math.ceil(FRUITLESS_PER_S * task.region.extent[2])
    while True:
        best = _likeliest(state)
        limit = _rank(state, best) - SCORE_SLACK if best >= 0 else -np.inf
        hope = -state.blocks[0][0] if len(state.blocks) > 0 and fruitless < most else -np.inf
        next_best = -state.solved[0][0] if len(state.solved) > 0 else -np.inf
        if max(hope, next_best) > limit:
            if hope > next_best:
                fruitless += _look(scene, tables, state, task.min_nodes)
            else:
                fruitless += _weigh_next(scene, state, task.min_nodes)
            continue
        if best < 0:
            break
        place = _take(state, arrivals, best)
        fruitless = 0
        if _is_new(places, place):
            places.append(place)
            solution = state.solutions[state.taken[-1][1]]
            levels = _levels_at_nodes(levels_db, solution.chosen)
            state.kinds.append(_again(anywhere, levels_db, levels, place, solution.point[2], task))
            state.votes.append(votes_of(state.kinds[-1].arrivals))
            _push_roots(state, len(state.kinds) - 1)
    return _gather(state, state.taken, len(scene.nodes)), _gather(state, _best_refused(state), len(scene.nodes))


@njit(cache=True)
def _start(anywhere: Kind) -> State:
    """Return a search that has done nothing yet."""
    no_block = (0.0, 0, 0, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    visits = [
        [(0.0, 0.0, 0.0, 0) for _ in range(0)]
        for _ in range(max(math.ceil(anywhere.region.extent[2] / SAME_SOLUTION_S), 1) + 2)
    ]
    return State(
        [no_block for _ in range(0)],
        [(0.0, 0) for _ in range(0)],
        [anywhere],
        [votes_of(anywhere.arrivals)],
        [Solution(0, 0.0, 0.0, np.zeros(3), np.zeros(0, dtype=np.int64), np.zeros(2)) for _ in range(0)],
        visits,
        [(no_block, 0) for _ in range(0)],
        [(0.0, 0) for _ in range(0)],
        [(0.0, 0) for _ in range(0)],
        [(0.0, 0) for _ in range(0)],
    )


@njit(cache=True)
def _again(anywhere: Kind, levels_db: Floats, before_db: Floats, place: Floats, at_s: float, task: Task) -> Kind:
    """Return the hypotheses of one more round from a place, about as loud at every node as `before_db` (n, ...)."""
    arrivals, evidence = anywhere.arrivals, anywhere.evidence
    ratios = np.empty(len(arrivals.times_s))
    for n in range(len(before_db)):
        for i in range(arrivals.starts[n], arrivals.starts[n + 1]):
            ratios[i] = level_ratio(before_db[n], levels_db[i])
    corner, extent = task.region.corner, task.region.extent
    since_s, until_s = max(corner[2], at_s - AGAIN_S), min(corner[2] + extent[2], at_s + AGAIN_S)
    return Kind(
        Arrivals(arrivals.times_s, arrivals.sigmas_s, arrivals.gains + ratios, arrivals.alive, arrivals.starts),
        Evidence(
            evidence.places,
            evidence.sigmas_s,
            evidence.log_clutter - ratios,
            evidence.snr_db,
            evidence.medium,
            evidence.precision,
            evidence.log_shares,
            math.log(AGAIN_HZ / (2.0 * math.pi * AGAIN_FALL_M**2)),
            place,
            place,
            AGAIN_FALL_M,
            evidence.least_log_odds,
        ),
        Region(
            np.array((place[0] - AGAIN_MARGIN_M, place[1] - AGAIN_MARGIN_M, since_s)),
            np.array((2.0 * AGAIN_MARGIN_M, 2.0 * AGAIN_MARGIN_M, max(until_s - since_s, 0.0))),
        ),
        task.least_score_again,
    )


@njit(cache=True)
def _levels_at_nodes(levels_db: Floats, chosen: Ints) -> Floats:
    """Return the levels (n, `MEASURES`) of a bang's arrivals, NaN at nodes that did not hear it."""
    levels = np.full((len(chosen), MEASURES), np.nan)
    for n in range(len(chosen)):
        if chosen[n] >= 0:
            levels[n] = levels_db[chosen[n]]
    return levels


@njit(cache=True)
def _is_new(places: list[Floats], place: Floats) -> bool:
    """Say whether a place is none of those known; half of what is searched around each makes the difference."""
    nearest_m = np.inf
    for other in places:
        nearest_m = min(nearest_m, math.hypot(other[0] - place[0], other[1] - place[1]))
    return nearest_m > AGAIN_MARGIN_M / 2.0


@njit(cache=True)
def _push_roots(state: State, number: int) -> None:
    """Put all of a kind's region on the heap, to be looked at first of all."""
    for block in roots(state.kinds[number].region):
        heapq.heappush(state.blocks, (-np.inf, number, len(state.taken), block))


@njit(cache=True)
def _open(scene: Scene, tables: Tables, state: State, number: int, block: Block, min_nodes: int) -> None:
    """Put what may hold a bang of one block, as it is now, on the heap."""
    kind = state.kinds[number]
    for run in runs(scene, tables, state.votes[number], block, kind.least_score, min_nodes):
        heapq.heappush(state.blocks, (-run[0] - kind.evidence.log_prior, number, len(state.taken), run))


@njit(cache=True)
def _rank(state: State, number: int) -> float:
    """Return the rank of a solution."""
    solution = state.solutions[number]
    return solution.score + state.kinds[solution.kind].evidence.log_prior


@njit(cache=True)
def _is_intact(state: State, number: int) -> bool:
    """Say whether no arrival of a solution was taken."""
    alive, intact = state.kinds[0].arrivals.alive, True
    for i in state.solutions[number].chosen:
        intact = intact and (i < 0 or alive[i])
    return intact


@njit(cache=True)
def _likeliest(state: State) -> int:
    """Return the number of the likeliest solution of the pool, or -1."""
    best, odds = -1, -np.inf
    for log_odds, number in state.pool:
        if log_odds > odds:
            best, odds = number, log_odds
    return best


@njit(cache=True)
def _weigh_next(scene: Scene, state: State, min_nodes: int) -> int:
    """Weigh the best solution, or find what is left of it without arrivals that were taken; return the refinements."""
    _, number = heapq.heappop(state.solved)
    if _is_intact(state, number):
        _weigh(state, number)
        return 0
    solution = state.solutions[number]
    return _refine(scene, state, solution.kind, solution.point.copy(), min_nodes)


@njit(cache=True)
def _look(scene: Scene, tables: Tables, state: State, min_nodes: int) -> int:
    """Look into the best block; return the number of refinements that took."""
    entry = heapq.heappop(state.blocks)
    _, number, valued, block = entry
    value, east, north, half_m, start_s, end_s = block
    if value == np.inf:
        _open(scene, tables, state, number, block, min_nodes)
    elif half_m > LEAF_M:
        for part in parts(block):
            _open(scene, tables, state, number, part, min_nodes)
    elif valued < len(state.taken):
        _open(scene, tables, state, number, block, min_nodes)
    else:
        point = np.array((east, north, 0.5 * (start_s + end_s)))
        leads_to = _visited(state, number, point[0], point[1], point[2])
        if leads_to < 0:
            return _refine(scene, state, number, point, min_nodes)
        state.parked.append((entry, leads_to))
    return 0


@njit(cache=True)
def _slot(state: State, moment: float) -> int:
    """Return the list of visits for a firing time."""
    slot = int((moment - state.kinds[0].region.corner[2]) / SAME_SOLUTION_S) + 1
    return min(max(slot, 0), len(state.visits) - 1)


@njit(cache=True)
def _visited(state: State, kind: int, east: float, north: float, moment: float) -> int:
    """Return the number of an intact solution of a kind that a point leads to, or -1."""
    slot = _slot(state, moment)
    for near in range(max(slot - 1, 0), min(slot + 2, len(state.visits))):
        for other_east, other_north, other_moment, number in state.visits[near]:
            if (
                abs(other_moment - moment) < SAME_SOLUTION_S
                and math.hypot(other_east - east, other_north - north) < SAME_SOLUTION_M
                and state.solutions[number].kind == kind
                and _is_intact(state, number)
            ):
                return number
    return -1


@njit(cache=True)
def _visit(state: State, point: Floats, number: int) -> None:
    """Remember that what is near a point leads to a solution."""
    state.visits[_slot(state, point[2])].append((point[0], point[1], point[2], number))


@njit(cache=True)
def _refine(scene: Scene, state: State, number: int, point: Floats, min_nodes: int) -> int:
    """Refine a point to a solution of a kind and put that on the heap, if it may be a bang; return 1."""
    kind = state.kinds[number]
    start, chosen = point.copy(), np.empty(len(scene.nodes), dtype=np.int64)
    value, hearing = refine(scene, kind.arrivals, point, chosen)
    same = _visited(state, number, point[0], point[1], point[2])
    if same >= 0 and np.array_equal(state.solutions[same].chosen, chosen):
        _visit(state, start, same)
        return 1
    state.solutions.append(Solution(number, value, hearing, point, chosen, np.zeros(2)))
    this = len(state.solutions) - 1
    _visit(state, start, this)
    _visit(state, point, this)
    region = kind.region
    inside = region.corner[2] <= point[2] < region.corner[2] + region.extent[2]
    if inside and value > kind.least_score and (chosen >= 0).sum() >= min_nodes:
        heapq.heappush(state.solved, (-_rank(state, this), this))
    return 1


@njit(cache=True)
def _weigh(state: State, number: int) -> None:
    """Put a solution into the pool if it is likely enough."""
    solution = state.solutions[number]
    kind = state.kinds[solution.kind]
    log_odds, place = weigh(kind.evidence, kind.arrivals, solution.point, solution.chosen, solution.hearing)
    solution.place[:] = place
    if log_odds >= kind.evidence.least_log_odds:
        state.pool.append((log_odds, number))
    else:
        state.refused.append((log_odds, number))


@njit(cache=True)
def _take(state: State, arrivals: Arrivals, number: int) -> Floats:
    """Make a solution of the pool a bang; return its place (2,)."""
    for i in state.solutions[number].chosen:
        if i >= 0:
            arrivals.alive[i] = False
    for k in range(len(state.kinds)):
        state.votes[k] = votes_of(state.kinds[k].arrivals)
    others = state.pool.copy()
    state.pool.clear()
    for log_odds, other in others:
        if other == number:
            state.taken.append((log_odds, other))
        elif _is_intact(state, other):
            state.pool.append((log_odds, other))
        else:
            heapq.heappush(state.solved, (-_rank(state, other), other))
    parked = state.parked.copy()
    state.parked.clear()
    for entry, leads_to in parked:
        if _is_intact(state, leads_to):
            state.parked.append((entry, leads_to))
        else:
            heapq.heappush(state.blocks, entry)
    return state.solutions[number].place


@njit(cache=True)
def _best_refused(state: State) -> list[tuple[float, int]]:
    """Return the likeliest of the refused solutions whose arrivals went into no bang and no likelier one of these."""
    kept = [(0.0, 0) for _ in range(0)]
    if len(state.refused) == 0:
        return kept
    claimed = np.zeros(len(state.kinds[0].arrivals.alive), dtype=np.bool_)
    for k in np.argsort(-np.array([log_odds for log_odds, _ in state.refused])):
        log_odds, number = state.refused[k]
        free = _is_intact(state, number)
        for i in state.solutions[number].chosen:
            free = free and (i < 0 or not claimed[i])
        if free and len(kept) < MOST_REFUSED:
            kept.append((log_odds, number))
            for i in state.solutions[number].chosen:
                if i >= 0:
                    claimed[i] = True
    return kept


@njit(cache=True)
def _gather(state: State, which: list[tuple[float, int]], nodes: int) -> Found:
    """Return solutions as arrays."""
    log_odds, points = np.empty(len(which)), np.empty((len(which), 3))
    chosen = np.empty((len(which), nodes), dtype=np.int64)
    for k in range(len(which)):
        log_odds[k] = which[k][0]
        solution = state.solutions[which[k][1]]
        points[k], chosen[k] = solution.point, solution.chosen
    return Found(log_odds, points, chosen)

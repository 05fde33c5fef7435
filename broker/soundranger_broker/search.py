"""The search: the bangs of a window in one pass, the best first, each without the arrivals of those before it.

Compiled. Best-first search with lazy re-evaluation (Minoux 1978). One heap holds blocks of places and times, with
the bound of back-projection; blocks at the top are looked into, down to the leaves, which are refined to solutions.
Another holds the solutions, with their scores; solutions at the top are weighed. Once nothing is left that could be
better than the likeliest of those, that is a bang, and its arrivals are taken out. That only lowers bounds and scores,
so what was valued before is valued again only when it comes to the top, and nothing starts anew.

Most bangs need no such proof: seeds (see `seeds`) lead to them at once, and what is likely beyond doubt is taken before
any block is looked into. The blocks of what is left then have low bounds. What is only to compete for arrivals, or to
be looked at again in a moment, is left to seeds.

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
from soundranger_broker.scoring import LEAF_M, Arrivals, Evidence, Flags, Ints, Scene, refine, weigh
from soundranger_broker.seeds import ground_of, seeds_of

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
# A seed with these log odds or more is a bang, if no other seed makes a likelier one of its arrivals: e^10 outweighs
# the thousands of other ways to put the arrivals of a window together.
SURE_LOG_ODDS = 10.0
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

    Nothing is left out in the first `thorough_s` of the region. Seeds come of the arrivals that are `fresh` (m,);
    `drafts` (k, 3), points as in `Found`, are refined before. `least_score` of a bang anywhere, and
    `least_score_again` of one more round from a place.
    """

    region: Region
    thorough_s: float
    drafts: Floats
    fresh: Flags
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
    `taken` and `refused`: the same of those that became bangs, and that were not likely enough. `places` (2,) that may
    be followed by more rounds.
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
    places: list[Floats]


@njit(cache=True, nogil=True)
def find_bangs(
    scene: Scene, arrivals: Arrivals, evidence: Evidence, levels_db: Floats, known: Known, task: Task
) -> tuple[Found, Found]:
    """Return the bangs of a window, in the order in which they were taken, and the best of what was refused.

    `levels_db` (m, `MEASURES`) of the arrivals, see `levels.level_ratio`. The arrivals of the bangs are no more alive
    afterwards.
    """
    anywhere = Kind(arrivals, evidence, task.region, task.least_score)
    state, tables = _start(anywhere), tables_of(scene)
    for k in range(len(known.places)):
        _expect_more(state, levels_db, known.levels_db[k], known.places[k], known.times_s[k], task)
    for point in task.drafts:
        _refine(scene, state, 0, point.copy(), task.min_nodes)
    _sow(scene, tables, state, levels_db, task)
    _push_roots(state, 0, task)
    most = math.ceil(FRUITLESS_PER_S * task.thorough_s)
    while _take_next(scene, tables, state, levels_db, task, most, evidence.least_log_odds):
        pass
    return _gather(state, _inside(state), len(scene.nodes)), _gather(state, _best_refused(state), len(scene.nodes))


@njit(cache=True)
def _sow(scene: Scene, tables: Tables, state: State, levels_db: Floats, task: Task) -> None:
    """Take the bangs beyond doubt that seeds lead to, until what is left yields no more of them.

    Those fired after the region count: their arrivals are no evidence of anything earlier. An arrival is tried as the
    first of a bang once: what was taken since has only made its seeds worse.
    """
    anywhere, min_nodes = state.kinds[0], task.min_nodes
    ground = ground_of(scene, anywhere.arrivals, anywhere.evidence, task.region)
    order = np.argsort(anywhere.arrivals.times_s)
    untried, before = task.fresh.copy(), -1
    while len(state.taken) > before:
        before = len(state.taken)
        explained = _explained(state)
        for first in order:
            if anywhere.arrivals.alive[first] and untried[first] and not explained[first]:
                untried[first] = False
                points, count = seeds_of(scene, ground, first, anywhere.least_score)
                for k in range(count):
                    if _visited(state, 0, points[k, 0], points[k, 1], points[k, 2]) < 0:
                        _refine(scene, state, 0, points[k].copy(), min_nodes)
                        _mark(state, len(state.solutions) - 1, explained)
        while _take_next(scene, tables, state, levels_db, task, 0, SURE_LOG_ODDS):
            pass


@njit(cache=True)
def _explained(state: State) -> Flags:
    """Return which arrivals (m,) have their place in a solution that may well be beyond doubt."""
    explained = np.zeros(len(state.kinds[0].arrivals.alive), dtype=np.bool_)
    for number in range(len(state.solutions)):
        if _is_intact(state, number):
            _mark(state, number, explained)
    return explained


@njit(cache=True)
def _mark(state: State, number: int, explained: Flags) -> None:
    """Set the flags (m,) of the arrivals of a solution that may well be beyond doubt."""
    if number >= 0 and _rank(state, number) >= SURE_LOG_ODDS + SCORE_SLACK:
        for i in state.solutions[number].chosen:
            if i >= 0:
                explained[i] = True


@njit(cache=True)
def _take_next(
    scene: Scene, tables: Tables, state: State, levels_db: Floats, task: Task, most: int, least_log_odds: float
) -> bool:
    """Take the likeliest bang that there is; say whether there was one.

    No block is looked into after `most` refinements that led to nothing.
    """
    fruitless = 0
    while True:
        best, log_odds = _likeliest(state)
        limit = _rank(state, best) - SCORE_SLACK if best >= 0 else -np.inf
        hope = -state.blocks[0][0] if len(state.blocks) > 0 and fruitless < most else -np.inf
        next_best = -state.solved[0][0] if len(state.solved) > 0 else -np.inf
        if max(hope, next_best) <= limit:
            break
        if hope > next_best:
            fruitless += _look(scene, tables, state, task.min_nodes)
        else:
            fruitless += _weigh_next(scene, state, task.min_nodes)
    if best < 0 or log_odds < least_log_odds:
        return False
    place = _take(state, best)
    solution = state.solutions[best]
    if _is_inside(state.kinds[0].region, solution.point) and _is_new(state.places, place):
        levels = _levels_at_nodes(levels_db, solution.chosen)
        _expect_more(state, levels_db, levels, place, solution.point[2], task)
    return True


@njit(cache=True)
def _expect_more(state: State, levels_db: Floats, before_db: Floats, place: Floats, at_s: float, task: Task) -> None:
    """Look for more rounds from a place, about as loud at the nodes as `before_db` (n, `MEASURES`)."""
    state.places.append(place)
    if task.thorough_s > 0.0:
        state.kinds.append(_again(state.kinds[0], levels_db, before_db, place, at_s, task))
        state.votes.append(votes_of(state.kinds[-1].arrivals))
        _push_roots(state, len(state.kinds) - 1, task)


@njit(cache=True)
def _start(anywhere: Kind) -> State:
    """Return a search that has done nothing yet."""
    no_block = (0.0, 0, 0, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    span_s = anywhere.region.extent[2]
    if len(anywhere.arrivals.times_s) > 0:
        span_s = max(span_s, anywhere.arrivals.times_s.max() - anywhere.region.corner[2])
    visits = [[(0.0, 0.0, 0.0, 0) for _ in range(0)] for _ in range(max(math.ceil(span_s / SAME_SOLUTION_S), 1) + 2)]
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
        [np.zeros(2) for _ in range(0)],
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
            evidence.late_shares,
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
def _push_roots(state: State, number: int, task: Task) -> None:
    """Put what is to be searched thoroughly of a kind's region on the heap, to be looked at first of all."""
    corner, extent = state.kinds[number].region
    until_s = min(corner[2] + extent[2], task.region.corner[2] + task.thorough_s)
    for block in roots(Region(corner, np.array((extent[0], extent[1], until_s - corner[2])))):
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
def _likeliest(state: State) -> tuple[int, float]:
    """Return the number of the likeliest solution of the pool, or -1, and its log odds."""
    best, odds = -1, -np.inf
    for log_odds, number in state.pool:
        if log_odds > odds:
            best, odds = number, log_odds
    return best, odds


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
    # What is fired after the region is of interest if it is beyond doubt.
    inside = _is_inside(kind.region, point) or (number == 0 and point[2] >= kind.region.corner[2])
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
    inside = _is_inside(kind.region, solution.point)
    if log_odds >= (kind.evidence.least_log_odds if inside else SURE_LOG_ODDS):
        state.pool.append((log_odds, number))
    elif inside:
        state.refused.append((log_odds, number))


@njit(cache=True)
def _is_inside(region: Region, point: Floats) -> bool:
    """Say whether a firing time lies in a region."""
    return bool(region.corner[2] <= point[2] < region.corner[2] + region.extent[2])


@njit(cache=True)
def _inside(state: State) -> list[tuple[float, int]]:
    """Return the bangs that were taken and fired in the region."""
    region = state.kinds[0].region
    return [(odds, number) for odds, number in state.taken if _is_inside(region, state.solutions[number].point)]


@njit(cache=True)
def _take(state: State, number: int) -> Floats:
    """Make a solution of the pool a bang; return its place (2,)."""
    alive = state.kinds[0].arrivals.alive
    for i in state.solutions[number].chosen:
        if i >= 0:
            alive[i] = False
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

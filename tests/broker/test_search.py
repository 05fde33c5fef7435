"""The search: it finds what was planted, and nothing in clutter; in one pass what many searches would find."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from soundranger_broker import scoring, search
from soundranger_broker.backprojection import Region, parts, roots, runs, tables_of, votes_of
from soundranger_broker.levels import MEASURES
from soundranger_broker.location import ANY_LATE, ANY_PATH, Medium
from soundranger_broker.seeds import ground_of, seeds_of

Floats = NDArray[np.float64]
SPEED_MPS = 340.0
MAX_RANGE_M = 2000.0
SIGMA_S = 0.008
CLUTTER_HZ = 1 / 60
MEDIUM = Medium(SPEED_MPS, 1.8, 2.5)
LEAST_SCORE = 15.0


def grid(rng: np.random.Generator, columns: int = 4, side_m: float = 1500.0) -> Floats:
    cells = np.arange(columns**2)
    jitter = rng.uniform(0.2, 0.8, (columns**2, 2))
    places: Floats = (np.c_[cells % columns, cells // columns] + jitter) * side_m / columns
    return places


def arrivals_of(
    by_node: list[list[float]], sigma_s: float = SIGMA_S, clutter_hz: float = CLUTTER_HZ
) -> scoring.Arrivals:
    """Return arrivals from the times at each node."""
    counts = [len(times) for times in by_node]
    times = np.array([time for times in by_node for time in sorted(times)], dtype=np.float64)
    sigmas = np.full(len(times), sigma_s)
    gains = scoring.gain(sigmas, np.full(len(times), clutter_hz))
    return scoring.Arrivals(times, sigmas, gains, np.ones(len(times), dtype=bool), np.cumsum([0, *counts]))


def evidence_of(nodes: Floats, arrivals: scoring.Arrivals, least_log_odds: float = 2.0) -> scoring.Evidence:
    owner = np.searchsorted(arrivals.starts, np.arange(len(arrivals.times_s)), side="right") - 1
    return scoring.Evidence(
        places=np.c_[nodes[owner], np.zeros(len(owner))],
        sigmas_s=np.full(len(owner), 0.002),
        log_clutter=np.full(len(owner), math.log(CLUTTER_HZ)),
        snr_db=np.full(len(owner), 20.0),
        medium=MEDIUM.mean,
        precision=MEDIUM.precision,
        log_shares=np.log(ANY_PATH),
        late_shares=np.array(ANY_LATE),
        log_prior=math.log(4.0 / 3600 / 1e6),
        low=nodes.min(axis=0),
        high=nodes.max(axis=0),
        fall_m=300.0,
        least_log_odds=least_log_odds,
    )


def region_of(nodes: Floats, span_s: float = 1.6) -> Region:
    low, extent = nodes.min(axis=0) - 500, np.ptp(nodes, axis=0) + 1000
    return Region(np.array([*low, 0.0]), np.array([*extent, span_s]))


def task_of(
    nodes: Floats, arrivals: scoring.Arrivals, min_nodes: int = 4, span_s: float = 1.6, least_again: float = LEAST_SCORE
) -> search.Task:
    """Return the task of searching all of a region, all arrivals being new."""
    fresh = np.ones(len(arrivals.times_s), dtype=bool)
    region = region_of(nodes, span_s)
    return search.Task(region, span_s, np.zeros((0, 3)), fresh, min_nodes, LEAST_SCORE, least_again)


def nothing_known(nodes: Floats) -> search.Known:
    return search.Known(np.zeros((0, 2)), np.zeros(0), np.zeros((0, len(nodes), MEASURES)))


def bangs(
    nodes: Floats, arrivals: scoring.Arrivals, span_s: float = 1.6, min_nodes: int = 4
) -> list[tuple[float, Floats, scoring.Ints]]:
    """Return log odds, point and arrivals of the bangs in the order in which they were taken."""
    levels_db = np.full((len(arrivals.times_s), MEASURES), np.nan)
    task = task_of(nodes, arrivals, min_nodes, span_s)
    evidence = evidence_of(nodes, arrivals)
    found, _ = search.find_bangs(scene_of(nodes), arrivals, evidence, levels_db, nothing_known(nodes), task)
    return list(zip(found.log_odds.tolist(), found.points, found.chosen, strict=True))


def scene_of(nodes: Floats, max_range_m: float = MAX_RANGE_M) -> scoring.Scene:
    """Return a scene of nodes that are surely awake."""
    return scoring.make_scene(nodes, np.zeros(len(nodes), dtype=np.int64), SPEED_MPS, max_range_m, math.inf)


def heard_by(
    nodes: Floats, place_m: Floats, at_s: float, rng: np.random.Generator, range_m: float = 1000.0
) -> list[list[float]]:
    distances = np.hypot(*(nodes - place_m).T)
    return [
        [at_s + distance / SPEED_MPS + rng.normal(0, 0.002)] if distance < range_m else []
        for distance in distances.tolist()
    ]


def together(*parts: list[list[float]]) -> list[list[float]]:
    return [[time for part in node for time in part] for node in zip(*parts, strict=True)]


def scattered(rng: np.random.Generator, count: int, per_node: float, span_s: float = 6.0) -> list[list[float]]:
    return [rng.uniform(0, span_s, rng.poisson(per_node)).tolist() for _ in range(count)]


@given(st.integers(0, 100_000), st.floats(1.0, 400.0), st.floats(1e-3, 0.5))
@settings(max_examples=300, deadline=None)
def test_the_bound_of_a_cube_is_above_the_score_of_every_point_in_it(seed: int, half_m: float, sigma_s: float) -> None:
    rng = np.random.default_rng(seed)
    nodes, place = grid(rng, 3), rng.uniform(0, 1500, 2)
    heard = together(heard_by(nodes, place, 0.8, rng), scattered(rng, len(nodes), 2.0))
    arrivals = arrivals_of(heard, sigma_s)
    scene = scene_of(nodes, 900.0)
    centre = np.array([*place, 0.8]) + rng.uniform(-1.5, 1.5, 3) * np.array([half_m, half_m, half_m / SPEED_MPS])
    upper, can_hear = scoring.bound(scene, arrivals, (centre[0], centre[1], centre[2]), half_m)
    chosen = np.empty(len(nodes), dtype=np.int64)
    corners = rng.choice([-1.0, 1.0], (20, 3))
    for inside in (*rng.uniform(-1, 1, (20, 3)), *corners, np.zeros(3)):
        point = centre + inside * np.array([half_m, half_m, half_m / SPEED_MPS])
        scoring.assign(scene, arrivals, point, 1.0, chosen)
        value, _ = scoring.score(scene, arrivals, point, chosen)
        assert value <= upper + 1e-9
        assert int((chosen >= 0).sum()) <= can_hear


@pytest.mark.slow
@given(st.integers(0, 100_000), st.floats(20.0, 400.0), st.floats(0.003, 0.05))
@settings(max_examples=60, deadline=None)
def test_back_projection_leaves_out_no_point_with_a_score_above_the_floor(
    seed: int, range_m: float, sigma_s: float
) -> None:
    rng = np.random.default_rng(seed)
    nodes, place = grid(rng, 3), rng.uniform(0, 1500, 2)
    arrivals = arrivals_of(together(heard_by(nodes, place, 0.8, rng), scattered(rng, len(nodes), 3.0)), sigma_s)
    scene, floor = scene_of(nodes, 900.0 + range_m), 8.0
    tables, votes = tables_of(scene), votes_of(arrivals)
    stack, leaves = roots(region_of(nodes)), list[tuple[float, ...]]()
    while stack:
        block = stack.pop()
        for part in [block] if block[0] == math.inf else parts(block):
            found = runs(scene, tables, votes, part, floor, 4)
            leaves += [run for run in found if run[3] <= scoring.LEAF_M]
            stack += [run for run in found if run[3] > scoring.LEAF_M]
    chosen = np.empty(len(nodes), dtype=np.int64)
    half_s = scoring.LEAF_M / SPEED_MPS
    for off in (*rng.uniform(-20, 20, (200, 3)), np.zeros(3)):
        point = np.array([*place, 0.8]) + off / np.array([1.0, 1.0, SPEED_MPS])
        scoring.assign(scene, arrivals, point, 1.0, chosen)
        value, _ = scoring.score(scene, arrivals, point, chosen)
        if value > floor and (chosen >= 0).sum() >= 4 and 0.0 <= point[2] < 1.6:
            around = [
                bound
                for bound, east, north, half_m, start_s, end_s in leaves
                if max(abs(point[0] - east), abs(point[1] - north)) <= half_m + 1e-6
                and abs(point[2] - (start_s + end_s) / 2) <= half_s + 1e-9
            ]
            assert around
            assert value <= max(around) + 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_one_pass_finds_what_searches_started_anew_after_every_bang_find(seed: int) -> None:
    rng = np.random.default_rng([seed, 9])
    nodes = grid(rng)
    shots = [heard_by(nodes, rng.uniform(100, 1400, 2), rng.uniform(0.2, 1.4), rng, 900) for _ in range(3)]
    heard = together(*shots, scattered(rng, len(nodes), 0.3))
    at_once, one_by_one = bangs(nodes, arrivals_of(heard)), list[Floats]()
    arrivals = arrivals_of(heard)
    while left := bangs(nodes, arrivals):
        arrivals.alive[:] = True
        one_by_one.append(left[0][1])
        for _, _, chosen in at_once[: len(one_by_one)]:
            arrivals.alive[chosen[chosen >= 0]] = False
    assert len(at_once) == len(one_by_one)
    for (_, point, _), alone in zip(at_once, one_by_one, strict=True):
        assert np.hypot(*(point[:2] - alone[:2])) < 1.0


def test_rounds_that_follow_one_another_as_fast_as_guns_fire_are_told_apart() -> None:
    rng = np.random.default_rng(12)
    nodes, place = grid(rng), np.array([700.0, 600.0])
    moments = [0.2, 0.25, 0.3]
    found = bangs(nodes, arrivals_of(together(*(heard_by(nodes, place, at_s, rng) for at_s in moments))))
    assert sorted(float(point[2]) for _, point, _ in found) == pytest.approx(moments, abs=0.01)


def test_one_more_round_from_a_place_needs_fewer_nodes_than_the_first() -> None:
    rng = np.random.default_rng(13)
    nodes, place = grid(rng), np.array([700.0, 600.0])
    heard = heard_by(nodes, place, 0.8, rng)
    nearest = np.argsort(np.hypot(*(nodes - place).T))
    for node in nearest[4:]:
        heard[node] = []
    levels_db = np.full((4, MEASURES), 40.0)
    known = search.Known(place[None], np.array([-2.0]), np.full((1, len(nodes), MEASURES), 40.0))
    for before, expected in ((nothing_known(nodes), 0), (known, 1)):
        arrivals = arrivals_of(heard, clutter_hz=0.3)
        evidence = evidence_of(nodes, arrivals)
        task = task_of(nodes, arrivals, least_again=8.0)
        found, refused = search.find_bangs(scene_of(nodes), arrivals, evidence, levels_db, before, task)
        assert len(found.log_odds) == expected
        assert len(refused.log_odds) <= 1


@given(st.integers(0, 100_000), st.floats(5.0, 400.0), st.floats(0.1, 1.0))
@settings(max_examples=100, deadline=None)
def test_the_bound_of_a_part_is_not_above_that_of_the_whole(seed: int, half_m: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    nodes = grid(rng, 3)
    arrivals = arrivals_of(scattered(rng, len(nodes), 3.0))
    scene = scene_of(nodes)
    centre = np.array([*rng.uniform(0, 1500, 2), 1.0])
    inner = centre + rng.uniform(-1, 1, 3) * (1 - share) * np.array([half_m, half_m, half_m / SPEED_MPS])
    whole, _ = scoring.bound(scene, arrivals, (centre[0], centre[1], centre[2]), half_m)
    part, _ = scoring.bound(scene, arrivals, (inner[0], inner[1], inner[2]), half_m * share)
    assert part <= whole + 1e-9


@given(st.floats(1e-3, 0.5), st.floats(-1, 1), st.floats(0, 1))
def test_the_further_off_the_worse_and_early_is_no_better_than_late(
    sigma_s: float, residual_s: float, more: float
) -> None:
    here = scoring.misfit(residual_s, sigma_s)
    assert here >= 0.0
    assert scoring.misfit(residual_s * (1 + more), sigma_s) >= here - 1e-12
    assert scoring.misfit(-abs(residual_s), sigma_s) >= scoring.misfit(abs(residual_s), sigma_s) - 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_the_planted_bang_is_found_among_clutter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, place = grid(rng), rng.uniform(200, 1300, 2)
    shot = heard_by(nodes, place, 0.7, rng)
    arrivals = arrivals_of(together(shot, scattered(rng, len(nodes), 0.5)))
    (odds, point, chosen), *_ = bangs(nodes, arrivals)
    assert odds > 10.0
    assert np.hypot(*(point[:2] - place)) < 5.0
    assert point[2] == pytest.approx(0.7, abs=0.02)
    times = {round(time, 9) for node in shot for time in node}
    picked = [round(float(arrivals.times_s[index]), 9) for index in chosen[chosen >= 0]]
    assert len(times.intersection(picked)) >= 0.8 * len(times)


@pytest.mark.parametrize("seed", range(4))
def test_of_two_bangs_the_better_comes_first_and_the_other_without_its_arrivals(seed: int) -> None:
    rng = np.random.default_rng([seed, 2])
    nodes = grid(rng)
    near, far = np.array([400.0, 500.0]), np.array([1000.0, 1000.0])
    shots = together(heard_by(nodes, near, 0.3, rng, 1400), heard_by(nodes, far, 0.5, rng, 700))
    arrivals = arrivals_of(shots)
    (_, first, chosen), (_, second, rest) = bangs(nodes, arrivals)
    assert np.hypot(*(first[:2] - near)) < 5.0
    assert np.hypot(*(second[:2] - far)) < 8.0
    assert not set(rest[rest >= 0]) & set(chosen[chosen >= 0])


@pytest.mark.parametrize("seed", range(6))
def test_the_first_arrival_of_a_bang_has_a_seed_where_the_bang_was(seed: int) -> None:
    rng = np.random.default_rng([seed, 21])
    nodes, place = grid(rng), rng.uniform(300, 1200, 2)
    heard = heard_by(nodes, place, 0.7, rng)
    arrivals = arrivals_of(together(heard, scattered(rng, len(nodes), 0.5)))
    first = int(np.searchsorted(np.sort(arrivals.times_s), min(time for node in heard for time in node)))
    first = int(np.argsort(arrivals.times_s)[first])
    ground = ground_of(scene_of(nodes), arrivals, evidence_of(nodes, arrivals), region_of(nodes))
    points, count = seeds_of(scene_of(nodes), ground, first, LEAST_SCORE)
    assert count > 0
    assert np.hypot(*(points[:count, :2] - place).T).min() < scoring.LEAF_M


def test_a_bang_beyond_doubt_after_the_span_lends_its_arrivals_to_nothing_before() -> None:
    rng = np.random.default_rng(22)
    nodes = grid(rng)
    arrivals = arrivals_of(heard_by(nodes, np.array([700.0, 600.0]), 2.5, rng))
    assert bangs(nodes, arrivals) == []
    assert not arrivals.alive.any()


def test_nothing_is_found_in_pure_clutter() -> None:
    rng = np.random.default_rng(3)
    nodes = grid(rng)
    found = 0
    for _ in range(60):
        arrivals = arrivals_of(scattered(rng, len(nodes), 6 * CLUTTER_HZ))
        found += len(bangs(nodes, arrivals))
    assert found == 0


def test_nothing_is_found_where_nothing_was_heard() -> None:
    nodes = grid(np.random.default_rng(4))
    assert bangs(nodes, arrivals_of([[]] * len(nodes))) == []


def test_three_nodes_make_no_event() -> None:
    rng = np.random.default_rng(5)
    nodes, place = grid(rng), np.array([700.0, 700.0])
    heard = heard_by(nodes, place, 0.5, rng)
    nearest = np.argsort(np.hypot(*(nodes - place).T))
    for node in nearest[3:]:
        heard[node] = []
    assert bangs(nodes, arrivals_of(heard)) == []


def test_the_best_hypothesis_is_no_worse_than_any_point_of_a_fine_grid() -> None:
    rng = np.random.default_rng(6)
    nodes, place = grid(rng, 3), np.array([640.0, 810.0])
    arrivals = arrivals_of(together(heard_by(nodes, place, 0.6, rng), scattered(rng, 9, 1.0)))
    scene = scene_of(nodes)
    (_, point, chosen), *_ = bangs(nodes, arrivals)
    arrivals.alive[:] = True
    value, _ = scoring.score(scene, arrivals, point, chosen.copy())
    other = np.empty(len(nodes), dtype=np.int64)
    for east in np.arange(0, 1500, 25.0):
        for north in np.arange(0, 1500, 25.0):
            for moment in np.arange(0.0, 1.6, 0.05):
                somewhere = np.array([east, north, moment])
                scoring.assign(scene, arrivals, somewhere, 1.0, other)
                assert scoring.score(scene, arrivals, somewhere, other)[0] <= value + 0.5


def test_refinement_ends_on_the_bang_from_anywhere_in_a_leaf() -> None:
    rng = np.random.default_rng(7)
    nodes, place = grid(rng), np.array([640.0, 810.0])
    arrivals = arrivals_of(heard_by(nodes, place, 0.6, rng))
    scene = scene_of(nodes)
    chosen = np.empty(len(nodes), dtype=np.int64)
    for _ in range(50):
        off = rng.uniform(-1, 1, 3) * scoring.LEAF_M / np.array([1, 1, SPEED_MPS])
        point = np.array([*place, 0.6]) + off
        scoring.refine(scene, arrivals, point, chosen)
        assert np.hypot(*(point[:2] - place)) < 5.0


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_nodes_that_should_have_heard_are_near_and_did_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, place = grid(rng), rng.uniform(0, 1500, 3)
    distances = np.hypot(*(nodes - place[:2]).T)
    heard = distances < 800
    deaf = int(rng.integers(len(nodes)))
    assume(distances[deaf] < 500)
    heard[deaf] = False
    missed = scoring.should_have_heard(scene_of(nodes), place, heard)
    assert missed[deaf]
    assert not (missed & heard).any()
    assert distances[missed].max() < 1300

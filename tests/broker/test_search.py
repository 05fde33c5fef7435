"""The search: its bound is a bound, it finds what was planted, and nothing in clutter."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from soundranger_broker import search
from soundranger_broker.location import Medium

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
) -> search.Arrivals:
    """Return arrivals from the times at each node."""
    counts = [len(times) for times in by_node]
    times = np.array([time for times in by_node for time in sorted(times)], dtype=np.float64)
    sigmas = np.full(len(times), sigma_s)
    gains = search.gain(sigmas, np.full(len(times), clutter_hz))
    return search.Arrivals(times, sigmas, gains, np.ones(len(times), dtype=bool), np.cumsum([0, *counts]))


def evidence_of(nodes: Floats, arrivals: search.Arrivals, least_log_odds: float = 2.0) -> search.Evidence:
    owner = np.searchsorted(arrivals.starts, np.arange(len(arrivals.times_s)), side="right") - 1
    return search.Evidence(
        places=np.c_[nodes[owner], np.zeros(len(owner))],
        sigmas_s=np.full(len(owner), 0.002),
        log_clutter=np.full(len(owner), math.log(CLUTTER_HZ)),
        snr_db=np.full(len(owner), 20.0),
        medium=MEDIUM.mean,
        precision=MEDIUM.precision,
        log_prior=math.log(4.0 / 3600 / 1e6),
        low=nodes.min(axis=0),
        high=nodes.max(axis=0),
        fall_m=300.0,
        least_log_odds=least_log_odds,
    )


def best(
    nodes: Floats, arrivals: search.Arrivals, span_s: float = 1.6, min_nodes: int = 4
) -> tuple[float, Floats, search.Ints]:
    region = search.Region(
        np.array([*(nodes.min(axis=0) - 500), 0.0]), np.array([*(np.ptp(nodes, axis=0) + 1000), span_s])
    )
    scene = scene_of(nodes)
    return search.best_hypothesis(scene, arrivals, evidence_of(nodes, arrivals), region, min_nodes, LEAST_SCORE)


def scene_of(nodes: Floats, max_range_m: float = MAX_RANGE_M) -> search.Scene:
    """Return a scene of nodes that are surely awake."""
    return search.make_scene(nodes, np.zeros(len(nodes), dtype=np.int64), SPEED_MPS, max_range_m)


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
    upper, can_hear = search.bound(scene, arrivals, (centre[0], centre[1], centre[2]), half_m)
    chosen = np.empty(len(nodes), dtype=np.int64)
    corners = rng.choice([-1.0, 1.0], (20, 3))
    for inside in (*rng.uniform(-1, 1, (20, 3)), *corners, np.zeros(3)):
        point = centre + inside * np.array([half_m, half_m, half_m / SPEED_MPS])
        search._assign(scene, arrivals, point, 1.0, chosen)
        value, _ = search.score(scene, arrivals, point, chosen)
        assert value <= upper + 1e-9
        assert int((chosen >= 0).sum()) <= can_hear


@given(st.integers(0, 100_000), st.floats(5.0, 400.0), st.floats(0.1, 1.0))
@settings(max_examples=100, deadline=None)
def test_the_bound_of_a_part_is_not_above_that_of_the_whole(seed: int, half_m: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    nodes = grid(rng, 3)
    arrivals = arrivals_of(scattered(rng, len(nodes), 3.0))
    scene = scene_of(nodes)
    centre = np.array([*rng.uniform(0, 1500, 2), 1.0])
    inner = centre + rng.uniform(-1, 1, 3) * (1 - share) * np.array([half_m, half_m, half_m / SPEED_MPS])
    whole, _ = search.bound(scene, arrivals, (centre[0], centre[1], centre[2]), half_m)
    part, _ = search.bound(scene, arrivals, (inner[0], inner[1], inner[2]), half_m * share)
    assert part <= whole + 1e-9


@given(st.floats(1e-3, 0.5), st.floats(-1, 1), st.floats(0, 1))
def test_the_further_off_the_worse_and_early_is_no_better_than_late(
    sigma_s: float, residual_s: float, more: float
) -> None:
    here = search._misfit(residual_s, sigma_s)
    assert here >= 0.0
    assert search._misfit(residual_s * (1 + more), sigma_s) >= here - 1e-12
    assert search._misfit(-abs(residual_s), sigma_s) >= search._misfit(abs(residual_s), sigma_s) - 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_the_planted_bang_is_found_among_clutter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, place = grid(rng), rng.uniform(200, 1300, 2)
    shot = heard_by(nodes, place, 0.7, rng)
    arrivals = arrivals_of(together(shot, scattered(rng, len(nodes), 0.5)))
    odds, point, chosen = best(nodes, arrivals)
    assert odds > 10.0
    assert np.hypot(*(point[:2] - place)) < 5.0
    assert point[2] == pytest.approx(0.7, abs=0.02)
    times = {round(time, 9) for node in shot for time in node}
    picked = [round(float(arrivals.times_s[index]), 9) for index in chosen[chosen >= 0]]
    assert len(times.intersection(picked)) >= 0.8 * len(times)


@pytest.mark.parametrize("seed", range(4))
def test_of_two_bangs_the_better_comes_first_and_the_other_when_it_is_taken(seed: int) -> None:
    rng = np.random.default_rng([seed, 2])
    nodes = grid(rng)
    near, far = np.array([400.0, 500.0]), np.array([1000.0, 1000.0])
    shots = together(heard_by(nodes, near, 0.3, rng, 1400), heard_by(nodes, far, 0.5, rng, 700))
    arrivals = arrivals_of(shots)
    _, first, chosen = best(nodes, arrivals)
    assert np.hypot(*(first[:2] - near)) < 5.0
    arrivals.alive[chosen[chosen >= 0]] = False
    odds, second, rest = best(nodes, arrivals)
    assert math.isfinite(odds)
    assert np.hypot(*(second[:2] - far)) < 8.0
    assert not set(rest[rest >= 0]) & set(chosen[chosen >= 0])


def test_nothing_is_found_in_pure_clutter() -> None:
    rng = np.random.default_rng(3)
    nodes = grid(rng)
    found = 0
    for _ in range(60):
        arrivals = arrivals_of(scattered(rng, len(nodes), 6 * CLUTTER_HZ))
        found += math.isfinite(best(nodes, arrivals)[0])
    assert found == 0


def test_nothing_is_found_where_nothing_was_heard() -> None:
    nodes = grid(np.random.default_rng(4))
    odds, _, chosen = best(nodes, arrivals_of([[]] * len(nodes)))
    assert odds == -math.inf
    assert (chosen == -1).all()


def test_three_nodes_make_no_event() -> None:
    rng = np.random.default_rng(5)
    nodes, place = grid(rng), np.array([700.0, 700.0])
    heard = heard_by(nodes, place, 0.5, rng)
    nearest = np.argsort(np.hypot(*(nodes - place).T))
    for node in nearest[3:]:
        heard[node] = []
    assert best(nodes, arrivals_of(heard))[0] == -math.inf


def test_the_best_hypothesis_is_no_worse_than_any_point_of_a_fine_grid() -> None:
    rng = np.random.default_rng(6)
    nodes, place = grid(rng, 3), np.array([640.0, 810.0])
    arrivals = arrivals_of(together(heard_by(nodes, place, 0.6, rng), scattered(rng, 9, 1.0)))
    scene = scene_of(nodes)
    _, point, chosen = best(nodes, arrivals)
    value, _ = search.score(scene, arrivals, point, chosen.copy())
    other = np.empty(len(nodes), dtype=np.int64)
    for east in np.arange(0, 1500, 25.0):
        for north in np.arange(0, 1500, 25.0):
            for moment in np.arange(0.0, 1.6, 0.05):
                somewhere = np.array([east, north, moment])
                search._assign(scene, arrivals, somewhere, 1.0, other)
                assert search.score(scene, arrivals, somewhere, other)[0] <= value + 0.5


@given(st.lists(st.tuples(st.floats(10, 60), st.floats(30, 2000)), min_size=4, max_size=12), st.floats(-1, 1))
def test_levels_are_weighed_as_gaussians_with_one_source(heard: list[tuple[float, float]], more: float) -> None:
    snr_db, distances = (np.array(part) for part in zip(*heard, strict=True))
    mean = search.SOURCE_SNR_DB[0] - 20 * np.log10(np.maximum(distances, search.NEAREST_M))
    mean = mean - search.AIR_DB_PER_M * distances
    snr_db = mean + np.clip(snr_db - mean, -10, 10) + more
    covariance = np.eye(len(heard)) * search.NODE_SNR_SIGMA_DB**2 + search.SOURCE_SNR_DB[1] ** 2
    expected = multivariate_normal(mean, covariance).logpdf(snr_db) + len(heard) * math.log(search.CHANCE_SNR_RANGE_DB)
    assert search.level_evidence(snr_db, distances) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.floats(-400, 400))
def test_no_single_level_speaks_without_bounds(snr_db: float) -> None:
    distances = np.array([100.0, 200.0, 300.0, 400.0, 500.0])
    levels = 78.0 - 20 * np.log10(distances) - search.AIR_DB_PER_M * distances
    plausible = search.level_evidence(levels, distances)
    levels[2] = snr_db
    assert plausible - 5.0 < search.level_evidence(levels, distances) <= plausible + 1.0


def test_refinement_ends_on_the_bang_from_anywhere_in_a_leaf() -> None:
    rng = np.random.default_rng(7)
    nodes, place = grid(rng), np.array([640.0, 810.0])
    arrivals = arrivals_of(heard_by(nodes, place, 0.6, rng))
    scene = scene_of(nodes)
    chosen = np.empty(len(nodes), dtype=np.int64)
    for _ in range(50):
        off = rng.uniform(-1, 1, 3) * search.LEAF_M / np.array([1, 1, SPEED_MPS])
        point = np.array([*place, 0.6]) + off
        search.refine(scene, arrivals, point, chosen)
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
    missed = search.should_have_heard(scene_of(nodes), place, heard)
    assert missed[deaf]
    assert not (missed & heard).any()
    assert distances[missed].max() < 1300

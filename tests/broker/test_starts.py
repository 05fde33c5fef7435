"""Where location starts from, against exact arrivals."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from soundranger_broker.geodesy import Floats
from soundranger_broker.location import ANY_LATE
from soundranger_broker.solver import FLOOR_HZ, Problem
from soundranger_broker.starts import (
    LEAST_OFF_GROUND_M,
    candidates,
    closed_form,
    fitting_three,
    height_prior,
    mirrored,
    misfit,
)

SPEED_MPS = 340.0


def exact(nodes: Floats, place: Floats, time_s: float = 0.4) -> Problem:
    """Return the arrivals of a bang on level ground, without noise."""
    times = time_s + np.linalg.norm(nodes[:, :2] - place, axis=1) / SPEED_MPS
    height = np.array([0.0, 0.0, 0.0, 2.0])
    medium, floors = np.array([SPEED_MPS, 0.0, 0.0]), np.full(len(nodes), FLOOR_HZ)
    sigmas = np.full(len(nodes), 1e-3)
    return Problem(nodes, times, sigmas, height, medium, np.eye(3), np.zeros(1), np.array(ANY_LATE), floors)


def a_network(seed: int, count: int) -> tuple[Floats, Floats]:
    """Return level nodes (n, 3) in a square kilometre and a place (2,) in it or near it."""
    rng = np.random.default_rng(seed)
    return np.c_[rng.uniform(0, 1000, (count, 2)), np.zeros(count)], rng.uniform(-200, 1200, 2)


@given(st.integers(0, 10_000), st.integers(5, 12))
@settings(deadline=None)
def test_the_closed_form_is_exact_on_exact_arrivals(seed: int, count: int) -> None:
    nodes, place = a_network(seed, count)
    problem = exact(nodes, place)
    centred = nodes[:, :2] - nodes[:, :2].mean(axis=0)
    paths = SPEED_MPS * (problem.times_s - problem.times_s.mean())
    # The ridge bends what the nodes themselves hardly determine.
    assume(np.linalg.svd(np.c_[2 * centred, 2 * paths, np.ones(count)], compute_uv=False)[-2] > 10.0)
    assert closed_form(nodes, problem.times_s, SPEED_MPS) == pytest.approx([*place, 0.4], abs=0.5)


@given(st.integers(0, 10_000))
@settings(deadline=None)
def test_one_of_the_places_that_three_arrivals_fit_is_the_true_one_and_all_fit(seed: int) -> None:
    nodes, place = a_network(seed, 3)
    sides = nodes[1:, :2] - nodes[0, :2]
    assume(abs(np.linalg.det(sides)) > 0.05 * np.prod(np.linalg.norm(sides, axis=1)))
    assume(np.linalg.norm(sides[0] - sides[1]) > 1.0)
    problem, points = exact(nodes, place), np.empty((2, 3))
    found = points[: fitting_three(problem, (0, 1, 2), points, 0)]
    assert 1 <= len(found) <= 2
    assert min(math.hypot(*(point[:2] - place)) for point in found) < 0.1
    for point in found:
        ranges = SPEED_MPS * (problem.times_s - point[2])
        # The square root has two signs: sound that would have to run backwards fits too, and is refused by its misfit.
        assert np.abs(ranges) == pytest.approx(np.linalg.norm(nodes[:, :2] - point[:2], axis=1), abs=1e-2, rel=1e-4)


def test_three_nodes_on_a_line_leave_two_mirror_images() -> None:
    nodes, place = np.array([[0.0, 0, 0], [500, 0, 0], [1000, 0, 0]]), np.array([300.0, 400.0])
    points = np.empty((2, 3))
    assert fitting_three(exact(nodes, place), (0, 1, 2), points, 0) == 2
    assert sorted(points[:, 1]) == pytest.approx([-400.0, 400.0], abs=5.0)
    assert points[:, 0] == pytest.approx([300.0, 300.0], abs=5.0)


def test_two_nodes_at_one_place_are_no_three() -> None:
    nodes = np.array([[0.0, 0, 0], [0.5, 0, 0], [1000, 300, 0]])
    assert fitting_three(exact(nodes, np.array([300.0, 400.0])), (0, 1, 2), np.empty((2, 3)), 0) == 0


@pytest.mark.parametrize(("count", "late"), [(6, 1), (8, 2), (12, 4), (40, 12)])
def test_the_best_candidate_is_near_the_place_though_arrivals_are_late(count: int, late: int) -> None:
    near = 0
    for seed in range(100):
        nodes, place = a_network(seed, count)
        problem = exact(nodes, place)
        problem.times_s[np.random.default_rng(seed).choice(count, late, replace=False)] += 0.3
        points, misfits = candidates(problem, np.zeros(3), 8.0)
        near += math.hypot(*(points[misfits.argmin(), :2] - place)) < 10.0
    # Outside the network, or with a neighbour late as well, another place may fit exactly.
    assert near >= 90


@given(st.integers(0, 10_000))
@settings(deadline=None)
def test_nothing_fits_better_than_the_truth(seed: int) -> None:
    nodes, place = a_network(seed, 7)
    problem = exact(nodes, place)
    assert misfit(problem, np.array([*place, 0.4]), np.inf) == pytest.approx(0.0, abs=1e-9)
    points, misfits = candidates(problem, np.zeros(3), 8.0)
    for point, stated in zip(points, misfits, strict=True):
        full = misfit(problem, point, np.inf)
        assert 0.0 <= stated <= full
        assert stated == full or stated > misfits.min() + 8.0


@given(st.floats(0, math.pi), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
@settings(deadline=None)
def test_the_mirror_image_is_on_the_other_side_of_the_line(angle: float, along_m: float, across_m: float) -> None:
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    nodes = np.c_[np.outer([-500.0, 100.0, 400.0], along), np.zeros(3)]
    image = mirrored(nodes, np.array([*(along_m * along + across_m * across), 7.0]))
    assert image == pytest.approx([*(along_m * along - across_m * across), 7.0], abs=1e-6)


def test_nodes_on_a_hillside_put_the_source_on_it() -> None:
    rng = np.random.default_rng(3)
    flat = rng.uniform(-500, 500, (12, 2))
    height = height_prior(np.c_[flat, 30.0 + 0.08 * flat[:, 0] - 0.03 * flat[:, 1] + rng.normal(0, 3.0, 12)])
    assert height[:3] == pytest.approx([30.0, 0.08, -0.03], abs=0.02 * 500 / 4)
    assert height[1:3] == pytest.approx([0.08, -0.03], abs=0.015)
    assert 2.0 < height[3] < 5.0


def test_level_nodes_know_the_height_to_a_little_and_scattered_ones_to_their_scatter() -> None:
    rng = np.random.default_rng(4)
    flat = rng.uniform(-500, 500, (30, 2))
    assert height_prior(np.c_[flat, np.full(30, 8.0)]) == pytest.approx([8.0, 0.0, 0.0, LEAST_OFF_GROUND_M], abs=0.01)
    assert height_prior(np.c_[flat, rng.normal(8.0, 40.0, 30)])[3] == pytest.approx(40.0, rel=0.3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_nodes_or_one_place_still_say_something_of_the_height(count: int) -> None:
    height = height_prior(np.tile([100.0, -50.0, 12.0], (count, 1)))
    assert height[0] == pytest.approx(12.0)
    assert height[3] > LEAST_OFF_GROUND_M

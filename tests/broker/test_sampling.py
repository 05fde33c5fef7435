"""Sampling the posterior: what Laplace's method says where that is exact, and more where arrivals may be late."""

import math

import numpy as np
import pytest

from soundranger_broker.acoustics import travel_time_s
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import ANY_LATE, ANY_PATH, CHI2_95_2D, Medium, average, locate
from soundranger_broker.sampling import DESIGN, PLACE_TIME, ambiguous, moments
from soundranger_broker.solver import FLOOR_HZ, Problem, scratch
from soundranger_broker.starts import height_prior

AIR = Medium(340.0, 0.6, 1.0)
NOWHERE = np.empty((0, 3))
ANY = np.log(ANY_PATH)


def a_bang(rng: np.random.Generator, count: int, late_s: float = 0.0) -> tuple[Problem, Floats]:
    """Return arrivals of a bang amid nodes on a square kilometre, one of them late, and its place."""
    nodes = np.c_[rng.uniform(0.0, 1000.0, (count, 2)), rng.uniform(0.0, 10.0, count)]
    place = np.array([*rng.uniform(200.0, 800.0, 2), 5.0])
    times_s = travel_time_s(nodes - place, AIR.speed_mps, 0.0, 0.0) + rng.normal(0.0, 0.001, count)
    times_s[0] += late_s
    sigmas, floors, lates = np.full(count, 0.001), np.full(count, FLOOR_HZ), np.array(ANY_LATE)
    ground = height_prior(nodes)
    return Problem(nodes, times_s, sigmas, ground, AIR.mean, AIR.precision, ANY, lates, floors), place


def test_the_design_is_centred_and_the_air_in_it_is_normal() -> None:
    assert np.abs(np.median(DESIGN, axis=0)).max() < 0.05
    air = DESIGN[:, PLACE_TIME:]
    assert np.cov(air.T) == pytest.approx(np.eye(air.shape[1]), abs=0.1)
    assert np.std(DESIGN[:, :PLACE_TIME]) > 1.1


def test_with_arrivals_to_spare_sampling_says_what_laplaces_method_says() -> None:
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(40):
        problem, place = a_bang(rng, 14)
        mean, covariance, path_sigma_s, *_ = average(problem, np.array([*place[:2], 0.0]))
        sampled = moments(problem, mean, covariance, path_sigma_s, NOWHERE, scratch())[0]
        ratios.append((np.linalg.det(sampled[:2, :2]) / np.linalg.det(covariance[:2, :2])) ** 0.25)
    assert float(np.median(ratios)) == pytest.approx(1.0, abs=0.1)


def test_clean_arrivals_to_spare_are_not_ambiguous_and_few_or_one_a_little_late_are() -> None:
    rng = np.random.default_rng(2)
    for count, late_s, expected in ((12, 0.0, False), (12, 0.3, False), (12, 0.03, True), (5, 0.0, True)):
        said = []
        for _ in range(30):
            problem, place = a_bang(rng, count, late_s)
            mean, _, path_sigma_s, *_ = average(problem, np.array([*place[:2], 0.0]))
            said.append(ambiguous(problem, mean, path_sigma_s, scratch()))
        assert np.mean(said) > 0.9 if expected else np.mean(said) < 0.2


def test_what_is_nearer_to_another_place_widens_no_ellipse() -> None:
    """Nodes on a line: the mirror image is another place."""
    nodes = np.c_[np.linspace(0.0, 1000.0, 6), np.zeros(6), np.full(6, 5.0)]
    times_s = travel_time_s(nodes - np.array([430.0, 150.0, 5.0]), AIR.speed_mps, 0.0, 0.0)
    found = locate(nodes, times_s, np.full(6, 0.001), AIR)
    assert len(found.alternatives) == 1
    assert math.sqrt(found.covariance[1, 1]) < 50.0


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, 10])
def test_in_a_town_where_a_quarter_of_the_arrivals_is_late_the_ellipse_holds_the_truth(count: int) -> None:
    rng = np.random.default_rng([3, count])
    held = 0
    for _ in range(300):
        problem, place = a_bang(rng, count)
        late_s = (rng.random(count) < 0.25) * rng.exponential(0.030, count)
        found = locate(problem.nodes, problem.times_s + late_s, problem.sigmas_s, AIR)
        off = found.theta[:2] - place[:2]
        held += float(off @ np.linalg.solve(found.covariance[:2, :2], off)) <= CHI2_95_2D
    # Two standard deviations of a count of 300 are 2.5 %; Laplace's method alone holds 84 %.
    assert held / 300 > 0.89

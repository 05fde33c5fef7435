"""The numerics of location, against numerical integrals and differences."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import exponnorm

from soundranger_broker.geodesy import Floats
from soundranger_broker.location import ANY_LATE
from soundranger_broker.solver import (
    CLOCK_S,
    FLOOR_DENSITY_HZ,
    FLOOR_HZ,
    FLOOR_SHARE,
    LATE_MEAN_S,
    UNKNOWNS,
    Problem,
    arrival_log_density,
    invert,
    late_density,
    log_determinant,
    log_posterior,
    maximise,
    path_time_s,
    scratch,
)

sigmas_s = st.floats(1e-4, 0.5)
residuals_s = st.floats(-1.0, 1.0)
metres = st.floats(-1_500, 1_500)
thetas = st.builds(
    lambda *parts: np.array(parts),
    metres,
    metres,
    st.floats(-5, 5),
    st.floats(315, 360),
    st.floats(-10, 10),
    st.floats(-10, 10),
    st.floats(-20, 40),
)
NODES = np.array([[0.0, 0, 5], [1000, 30, 2], [-20, 900, 8], [870, 1010, 3], [420, -300, 12], [-500, 400, 1]])


PATH_SIGMA_S = 0.001
# A hillside, and how well a source's height on it is known.
HEIGHT = np.array([2.0, 0.01, -0.005, 3.0])


def predict(theta: Floats) -> tuple[Floats, Floats]:
    """Return the arrival times (n,) at NODES and their slopes (n, 7)."""
    slopes = np.empty((len(NODES), UNKNOWNS))
    return np.array([path_time_s(theta, NODES, node, slopes[node]) for node in range(len(NODES))]), slopes


def posterior(problem: Problem, theta: Floats) -> tuple[float, Floats, Floats]:
    """Return the log posterior, its gradient and its information."""
    gradient, information = np.empty(UNKNOWNS), np.empty((UNKNOWNS, UNKNOWNS))
    value = log_posterior(problem, PATH_SIGMA_S, theta, gradient, information, np.empty(UNKNOWNS))
    return value, gradient, information


def a_problem(seed: int, sigma_s: float = 0.002) -> tuple[Problem, Floats]:
    """Return arrivals of a bang at a random place with Gaussian errors, and the truth."""
    rng = np.random.default_rng(seed)
    truth = np.array([*rng.uniform(0, 900, 2), 0.3, 341.0, 1.0, -2.0, 2.0])
    times = predict(truth)[0] + rng.normal(0, sigma_s, len(NODES))
    medium, precision = np.array([340.0, 0.0, 0.0]), np.diag([0.25, 0.16, 0.16])
    sigmas, floors = np.full(len(NODES), sigma_s), np.full(len(NODES), FLOOR_HZ)
    return Problem(NODES, times, sigmas, HEIGHT, medium, precision, np.zeros(1), np.array(ANY_LATE), floors), truth


def gaussian_hz(residual_s: float, sigma_s: float) -> float:
    return math.exp(-0.5 * (residual_s / sigma_s) ** 2) / (math.sqrt(2 * math.pi) * sigma_s)


@pytest.mark.parametrize("sigma_s", [1e-4, 1e-3, 0.01, 0.1, 0.5])
def test_the_late_tail_is_a_density(sigma_s: float) -> None:
    edges = [-12 * sigma_s, 0, 3 * sigma_s, 8 * sigma_s + 2 * LATE_MEAN_S, 12 * sigma_s + 40 * LATE_MEAN_S]
    mass = sum(
        quad(lambda r: late_density(r, sigma_s, gaussian_hz(r, sigma_s)), low, high, epsabs=1e-10)[0]
        for low, high in pairwise(edges)
    )
    assert mass == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("sigma_s", [1e-4, 1e-3, 0.01, 0.1, 0.5])
def test_all_arrivals_that_are_no_chance_make_one(sigma_s: float) -> None:
    floor = FLOOR_SHARE * FLOOR_DENSITY_HZ
    early = [-40 * CLOCK_S - 12 * sigma_s, -CLOCK_S - 12 * sigma_s, -12 * sigma_s, 0]
    edges = [*early, 3 * sigma_s, 8 * sigma_s + 2 * LATE_MEAN_S, 12 * sigma_s + 40 * LATE_MEAN_S]
    mass = sum(
        quad(lambda r: math.exp(arrival_log_density(r, sigma_s)[0]) - floor, low, high, epsabs=1e-10)[0]
        for low, high in pairwise(edges)
    )
    assert mass == pytest.approx(1.0 - FLOOR_SHARE, abs=1e-4)


@given(sigmas_s, residuals_s)
def test_the_late_tail_is_the_exponentially_modified_gaussian(sigma_s: float, residual_s: float) -> None:
    assume(residual_s > -6 * sigma_s)
    expected = exponnorm.logpdf(residual_s, LATE_MEAN_S / sigma_s, scale=sigma_s)
    found = late_density(residual_s, sigma_s, gaussian_hz(residual_s, sigma_s))
    # The asymptotic series is cut after its fourth term, where it takes over.
    assert found == pytest.approx(math.exp(expected), rel=1e-4, abs=1e-300)


@given(sigmas_s, residuals_s)
def test_slope_and_curvature_of_the_density_are_those_of_differences(sigma_s: float, residual_s: float) -> None:
    step = 1e-4 * sigma_s
    low, here, high = (arrival_log_density(residual_s + move, sigma_s) for move in (-step, 0.0, step))
    # Where the series takes over from erfc, differences across the seam say nothing.
    seam_s = sigma_s * (sigma_s / LATE_MEAN_S - 5.0 * math.sqrt(2.0))
    assume(abs(residual_s - seam_s) > 2 * step)
    scale = 1.0 / sigma_s
    assert here[1] == pytest.approx((high[0] - low[0]) / (2 * step), rel=5e-3, abs=5e-3 * scale)
    assert here[2] == pytest.approx((high[1] - low[1]) / (2 * step), rel=2e-2, abs=2e-2 * scale**2)


@given(sigmas_s)
def test_the_density_has_no_seam_where_the_series_takes_over(sigma_s: float) -> None:
    seam_s = sigma_s * (sigma_s / LATE_MEAN_S - 5.0 * math.sqrt(2.0))
    before, after = (arrival_log_density(seam_s + move * sigma_s, sigma_s) for move in (-1e-9, 1e-9))
    assert after[0] == pytest.approx(before[0], abs=1e-4)
    assert after[1] * sigma_s == pytest.approx(before[1] * sigma_s, abs=1e-2)


@given(st.floats(1e-4, 0.02), st.floats(2.0, 1_000.0))
def test_an_early_arrival_is_punished_more_than_one_as_late(sigma_s: float, sigmas: float) -> None:
    late_s = sigmas * sigma_s
    assume(late_s < 0.2)
    assert arrival_log_density(-late_s, sigma_s)[0] < arrival_log_density(late_s, sigma_s)[0]


@given(sigmas_s, st.floats(-1e3, 1e3))
def test_no_residual_weighs_less_than_chance_and_all_is_finite(sigma_s: float, residual_s: float) -> None:
    density, slope, second, share = arrival_log_density(residual_s, sigma_s)
    assert density >= math.log(FLOOR_SHARE * FLOOR_DENSITY_HZ) - 1e-9
    assert math.isfinite(slope)
    assert math.isfinite(second)
    assert 0.0 <= share <= 1.0


@given(st.floats(1e-4, 0.02))
def test_the_core_is_sure_of_a_small_residual_and_gives_up_a_large_one(sigma_s: float) -> None:
    assert arrival_log_density(0.0, sigma_s)[3] > 0.7
    assert arrival_log_density(12 * sigma_s, sigma_s)[3] < 0.1
    assert arrival_log_density(-12 * sigma_s, sigma_s)[3] < 0.1


@given(thetas)
@settings(deadline=None)
def test_predicted_times_are_those_of_the_path(theta: Floats) -> None:
    times, _ = predict(theta)
    paths = NODES - theta[[0, 1, 6]]
    distances = np.linalg.norm(paths, axis=1)
    assume(distances.min() > 1.0)
    speeds = theta[3] + (paths[:, :2] @ theta[4:6]) / distances
    assert times == pytest.approx(theta[2] + distances / speeds, rel=1e-12)


@given(thetas)
@settings(deadline=None)
def test_predicted_slopes_are_those_of_differences(theta: Floats) -> None:
    _, slopes = predict(theta)
    assume(np.linalg.norm(NODES - theta[[0, 1, 6]], axis=1).min() > 1.0)
    for unknown in range(UNKNOWNS):
        move = np.zeros(UNKNOWNS)
        move[unknown] = 1e-4
        ahead, behind = (predict(theta + sign * move)[0] for sign in (1, -1))
        assert slopes[:, unknown] == pytest.approx((ahead - behind) / 2e-4, rel=1e-4, abs=1e-7)


@given(thetas, st.integers(0, 50))
@settings(max_examples=50, deadline=None)
def test_the_gradient_of_the_posterior_is_that_of_differences(theta: Floats, seed: int) -> None:
    problem, _ = a_problem(seed)
    assume(np.linalg.norm(NODES[:, :2] - theta[:2], axis=1).min() > 5.0)
    _, gradient, information = posterior(problem, theta)
    for unknown, step in enumerate((1e-3, 1e-3, 1e-6, 1e-4, 1e-4, 1e-4, 1e-3)):
        move = np.zeros(UNKNOWNS)
        move[unknown] = step
        ahead, behind = (posterior(problem, theta + sign * move)[0] for sign in (1, -1))
        scale = 1e-3 * np.abs(problem.sigmas_s[0] ** -1) * (1.0 if unknown == 2 else 1 / 300.0)
        assert gradient[unknown] == pytest.approx((ahead - behind) / (2 * step), rel=2e-2, abs=max(scale, 1e-3))
    assert np.allclose(information, information.T)
    assert np.linalg.eigvalsh(information).min() > -1e-6 * np.abs(information).max()


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_maximum_has_no_slope_and_no_point_nearby_is_higher(seed: int) -> None:
    problem, theta = a_problem(seed)
    value = maximise(problem, PATH_SIGMA_S, theta, scratch())
    _, gradient, information = posterior(problem, theta)
    step = np.linalg.solve(information + 1e-9 * np.eye(UNKNOWNS), gradient)
    # In standard deviations of the unknowns.
    assert math.sqrt(step @ information @ step) < 0.02
    rng = np.random.default_rng(seed)
    for _ in range(20):
        nearby = theta + rng.normal(0, 1, UNKNOWNS) * np.array([1, 1, 0.002, 0.5, 0.5, 0.5, 1.0])
        assert posterior(problem, nearby)[0] <= value + 1e-3


@given(thetas, st.integers(0, 50))
@settings(max_examples=50, deadline=None)
def test_the_way_to_the_maximum_never_leads_down(theta: Floats, seed: int) -> None:
    problem, _ = a_problem(seed)
    before = posterior(problem, theta)[0]
    memory = scratch()
    after = maximise(problem, PATH_SIGMA_S, theta, memory)
    assert after >= before
    assert after == posterior(problem, theta)[0]
    assert memory.information == pytest.approx(posterior(problem, theta)[2])
    assert np.isfinite(theta).all()


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_inverse_and_determinant_are_those_of_numpy(seed: int) -> None:
    problem, theta = a_problem(seed)
    memory, covariance = scratch(), np.empty((UNKNOWNS, UNKNOWNS))
    maximise(problem, PATH_SIGMA_S, theta, memory)
    information = memory.information.copy()
    invert(problem, information, covariance, memory)
    assert covariance == pytest.approx(np.linalg.inv(information), rel=1e-4)
    assert log_determinant(problem, information, memory) == pytest.approx(np.linalg.slogdet(information)[1], abs=1e-4)

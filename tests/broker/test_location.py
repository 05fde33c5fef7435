"""Location, against closed forms, the Cramer-Rao bound and its own statements."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from soundranger_broker.acoustics import travel_time_s
from soundranger_broker.location import CHI2_95_2D, Location, Medium, ellipse95, locate

Floats = NDArray[np.float64]
SPEED_MPS = 340.0
# As good as known: what is left is the pure geometry.
STILL = Medium(SPEED_MPS, 1e-3, 1e-3)
# What the associator takes where a node knows its temperature.
AIR = Medium(SPEED_MPS, 1.8, 2.5)


def network(rng: np.random.Generator, count: int, side_m: float = 1000.0) -> Floats:
    """Return nodes (n, 3) on a jittered grid, as a person would cover a square."""
    columns = math.ceil(math.sqrt(count))
    cells = rng.permutation(columns**2)[:count]
    flat = (np.c_[cells % columns, cells // columns] + rng.uniform(0.15, 0.85, (count, 2))) * side_m / columns
    nodes: Floats = np.c_[flat, rng.uniform(0.0, 10.0, count)]
    return nodes


def level(nodes: Floats) -> Floats:
    """Return nodes at the height of the sources of these tests: where heights differ, that of the source is unknown."""
    return nodes * [1.0, 1.0, 0.0] + [0.0, 0.0, 5.0]


def times_of(nodes: Floats, place_m: Floats, speed_mps: float = SPEED_MPS, wind: Floats | None = None) -> Floats:
    blowing = np.zeros(2) if wind is None else wind
    times: Floats = travel_time_s(nodes - place_m, speed_mps, float(blowing[0]), float(blowing[1]))
    return times


def find(nodes: Floats, times_s: Floats, sigma_s: float = 0.001, medium: Medium = STILL) -> Location:
    return locate(nodes, times_s, np.full(len(nodes), sigma_s), medium)


def error_m(found: Location, place_m: Floats) -> float:
    return float(np.hypot(*(found.theta[:2] - place_m[:2])))


def bound(nodes: Floats, place_m: Floats, sigma_s: float) -> Floats:
    """Return the Cramer-Rao covariance (2, 2) of a place from Gaussian arrivals in still air."""
    path = place_m - nodes
    slopes = np.c_[path[:, :2] / np.linalg.norm(path, axis=1)[:, None] / SPEED_MPS, np.ones(len(nodes))]
    covariance: Floats = np.linalg.inv(slopes.T @ slopes / sigma_s**2)[:2, :2]
    return covariance


def mahalanobis2(found: Location, place_m: Floats) -> float:
    off = found.theta[:2] - place_m[:2]
    return float(off @ np.linalg.solve(found.covariance[:2, :2], off))


@pytest.mark.parametrize("count", [4, 5, 6, 8, 12, 30])
def test_without_noise_the_place_is_found_to_a_few_centimetres(count: int) -> None:
    rng = np.random.default_rng(count)
    worst = []
    for _ in range(20):
        nodes, place = level(network(rng, count)), np.array([*rng.uniform(200, 800, 2), 5.0])
        found = find(nodes, times_of(nodes, place) + 3.0)
        # Four arrivals can have two solutions even without noise; which one is meant nobody can tell, but it is said.
        told = any(np.hypot(*(other[:2] - place[:2])) < 1.0 for other in found.alternatives)
        if not (told and count == 4):
            worst.append(error_m(found, place))
            assert found.theta[2] == pytest.approx(3.0, abs=1e-3)
    assert len(worst) >= 17
    assert max(worst) < 0.05


def test_on_gaussian_arrivals_the_spread_is_that_of_the_cramer_rao_bound() -> None:
    rng = np.random.default_rng(7)
    ratios = []
    for _ in range(400):
        nodes, place = network(rng, 10), np.array([*rng.uniform(100, 900, 2), 5.0])
        found = find(nodes, times_of(nodes, place) + rng.normal(0, 0.002, 10), 0.002)
        off = found.theta[:2] - place[:2]
        ratios.append(off @ np.linalg.solve(bound(nodes, place, 0.002), off))
    # The median of a chi-square of two degrees of freedom is 2 ln 2; robustness may cost a few per cent.
    spread_over_bound = math.sqrt(float(np.median(ratios)) / (2 * math.log(2)))
    assert 0.9 < spread_over_bound < 1.12


@pytest.mark.parametrize("count", [5, 8, 12])
def test_the_95_per_cent_ellipse_holds_the_truth_about_as_often(count: int) -> None:
    rng = np.random.default_rng([8, count])
    inside = 0
    for _ in range(300):
        nodes, place = network(rng, count), np.array([*rng.uniform(0, 1000, 2), 5.0])
        speed = SPEED_MPS + rng.normal(0, AIR.speed_sigma_mps)
        times = times_of(nodes, place, speed, rng.normal(0, AIR.wind_sigma_mps, 2))
        found = find(nodes, times + rng.normal(0, 0.002, count), 0.002, AIR)
        inside += mahalanobis2(found, place) <= CHI2_95_2D
    # Two standard deviations of a count of 300 are 2.5 %.
    assert 0.91 < inside / 300 <= 1.0


def test_the_ellipse_is_no_larger_than_it_has_to_be() -> None:
    rng = np.random.default_rng(9)
    shares = []
    for _ in range(200):
        nodes, place = network(rng, 10), np.array([*rng.uniform(100, 900, 2), 5.0])
        found = find(nodes, times_of(nodes, place) + rng.normal(0, 0.002, 10), 0.002)
        stated = np.linalg.det(found.covariance[:2, :2]) ** 0.25
        shares.append(stated / np.linalg.det(bound(nodes, place, 0.002)) ** 0.25)
    assert 0.95 < float(np.median(shares)) < 1.4


def test_one_of_eight_arrivals_that_is_late_barely_moves_the_place() -> None:
    rng = np.random.default_rng(10)
    clean, spoilt = [], []
    for _ in range(200):
        nodes, place = network(rng, 8), np.array([*rng.uniform(100, 900, 2), 5.0])
        times = times_of(nodes, place) + rng.normal(0, 0.001, 8)
        clean.append(error_m(find(nodes, times), place))
        times[rng.integers(8)] += 0.3
        found = find(nodes, times)
        spoilt.append(error_m(found, place))
    assert np.percentile(spoilt, 95) < 3.0
    assert np.median(spoilt) < 2 * np.median(clean)


def test_the_late_arrival_is_told_from_those_that_count() -> None:
    rng = np.random.default_rng(11)
    nodes, place = network(rng, 8), np.array([400.0, 600.0, 5.0])
    times = times_of(nodes, place) + rng.normal(0, 0.001, 8)
    times[3] += 0.3
    found = find(nodes, times)
    assert found.weights[3] < 0.01
    assert np.delete(found.weights, 3).min() > 0.5
    assert found.residuals_s[3] == pytest.approx(0.3, abs=0.02)


def test_two_of_eight_arrivals_that_are_late_cost_little_from_where_the_search_starts() -> None:
    rng = np.random.default_rng(12)
    errors, inside = [], 0
    for _ in range(200):
        nodes, place = network(rng, 8), np.array([*rng.uniform(200, 800, 2), 5.0])
        times = times_of(nodes, place) + rng.normal(0, 0.001, 8)
        times[rng.choice(8, 2, replace=False)] += rng.uniform(0.02, 0.3, 2)
        start = np.array([*(place[:2] + rng.normal(0, 5, 2)), rng.normal(0, 0.01)])
        found = locate(nodes, times, np.full(8, 0.001), STILL, start)
        errors.append(error_m(found, place))
        inside += mahalanobis2(found, place) <= CHI2_95_2D
    assert np.median(errors) < 0.6
    assert np.percentile(errors, 95) < 3.0
    assert inside / 200 > 0.9


@pytest.mark.parametrize(("count", "late", "gross"), [(8, 1, 0.01), (8, 2, 0.03), (12, 3, 0.01)])
def test_late_arrivals_mislead_no_location_that_has_no_start(count: int, late: int, gross: float) -> None:
    rng = np.random.default_rng([12, count, late])
    errors = []
    for _ in range(200):
        nodes, place = level(network(rng, count)), np.array([*rng.uniform(0, 1000, 2), 5.0])
        times = times_of(nodes, place) + rng.normal(0, 0.001, count)
        times[rng.choice(count, late, replace=False)] += 0.3
        errors.append(error_m(find(nodes, times), place))
    assert np.percentile(errors, 95) < 3.0
    assert np.mean(np.array(errors) > 15.0) <= gross


def test_three_arrivals_name_the_other_place_that_they_fit() -> None:
    nodes = np.array([[0.0, 0, 5], [800, 0, 5], [300, 700, 5]])
    place = np.array([-120.0, -60.0, 5.0])
    found = find(nodes, times_of(nodes, place))
    places = [found.theta[:2], *found.alternatives[:, :2]]
    assert min(np.hypot(*(one - place[:2])) for one in places) < 5.0
    assert len(places) == 2
    assert 0.0 < found.alternatives[0, 2] < 1.0


def test_a_mirror_image_has_half_of_the_probability() -> None:
    nodes = np.c_[np.linspace(0, 1000, 6), np.zeros(6), np.full(6, 5.0)]
    found = find(nodes, times_of(nodes, np.array([430.0, 300.0, 5.0])))
    assert found.alternatives == pytest.approx(np.array([[430.0, -found.theta[1], 0.5]]), abs=0.1)


def test_arrivals_to_spare_leave_no_alternative() -> None:
    rng = np.random.default_rng(17)
    for _ in range(50):
        nodes, place = network(rng, 8), np.array([*rng.uniform(200, 800, 2), 5.0])
        assert len(find(nodes, times_of(nodes, place) + rng.normal(0, 0.001, 8)).alternatives) == 0


def test_unknown_wind_and_temperature_are_carried_by_the_ellipse_from_outside_the_network() -> None:
    rng = np.random.default_rng(13)
    inside, sizes = 0, []
    for _ in range(200):
        nodes, place = network(rng, 8), np.array([1400.0, rng.uniform(0, 1000), 5.0])
        speed = SPEED_MPS + rng.normal(0, AIR.speed_sigma_mps)
        times = times_of(nodes, place, speed, rng.normal(0, AIR.wind_sigma_mps, 2))
        times += rng.normal(0, 0.0005, 8)
        found = find(nodes, times, 0.0005, AIR)
        inside += mahalanobis2(found, place) <= CHI2_95_2D
        sizes.append(ellipse95(found.covariance[:2, :2])[0])
    assert inside / 200 > 0.88
    still = find(nodes, times_of(nodes, place), 0.0005, STILL)
    assert np.median(sizes) > 1.5 * ellipse95(still.covariance[:2, :2])[0]


def test_enough_arrivals_tell_the_wind() -> None:
    rng = np.random.default_rng(14)
    nodes, place, wind = network(rng, 25), np.array([500.0, 500.0, 5.0]), np.array([6.0, -3.0])
    times = times_of(nodes, place, 343.0, wind) + rng.normal(0, 0.0002, 25)
    found = find(nodes, times, 0.0002, AIR)
    assert found.theta[3:] == pytest.approx([343.0, *wind], abs=0.7)
    assert error_m(found, place) < 0.5


def test_path_errors_that_no_node_states_show_in_the_ellipse() -> None:
    rng = np.random.default_rng(15)
    quiet, rough, inside = [], [], 0
    for _ in range(150):
        nodes, place = network(rng, 12), np.array([*rng.uniform(100, 900, 2), 5.0])
        times = times_of(nodes, place) + rng.normal(0, 0.0005, 12)
        quiet.append(find(nodes, times, 0.0005).path_sigma_s)
        found = find(nodes, times + rng.normal(0, 0.006, 12), 0.0005)
        rough.append(found.path_sigma_s)
        inside += mahalanobis2(found, place) <= CHI2_95_2D
    assert np.median(quiet) < 0.001
    assert 0.003 < np.median(rough) < 0.012
    assert inside / 150 > 0.88


def test_nodes_on_a_line_see_both_sides_alike() -> None:
    nodes = np.c_[np.linspace(0, 1000, 6), np.zeros(6), np.full(6, 5.0)]
    times, sigmas = times_of(nodes, np.array([430.0, 300.0, 5.0])), np.full(6, 0.001)
    north, south = (locate(nodes, times, sigmas, STILL, np.array([425.0, side, 0.0])) for side in (295.0, -295.0))
    assert north.theta[:2] == pytest.approx([430.0, 300.0], abs=0.1)
    assert south.theta[:2] == pytest.approx([430.0, -300.0], abs=0.1)
    assert north.log_evidence == pytest.approx(south.log_evidence, abs=1e-6)


def test_nodes_on_a_line_without_a_start_do_not_crash() -> None:
    nodes = np.c_[np.linspace(0, 1000, 6), np.zeros(6), np.full(6, 5.0)]
    found = find(nodes, times_of(nodes, np.array([430.0, 300.0, 5.0])))
    assert np.isfinite(found.theta).all()
    assert np.isfinite(found.covariance).all()


@pytest.mark.parametrize("count", [3, 4, 7])
def test_nodes_at_one_place_know_nearly_nothing(count: int) -> None:
    nodes = np.tile([100.0, 200.0, 5.0], (count, 1))
    found = find(nodes, np.full(count, 1.0))
    assert np.isfinite(found.theta).all()
    assert np.isfinite(found.covariance).all()
    assert ellipse95(found.covariance[:2, :2])[0] > 500.0


def test_three_arrivals_fit_a_place_exactly() -> None:
    nodes = np.array([[0.0, 0, 5], [800, 0, 5], [300, 700, 5]])
    place = np.array([350.0, 250.0, 5.0])
    found = locate(nodes, times_of(nodes, place), np.full(3, 0.001), STILL, np.array([345.0, 255.0, 0.0]))
    assert error_m(found, place) < 1.0
    assert np.abs(found.residuals_s).max() < 1e-3


def test_two_arrivals_are_refused() -> None:
    with pytest.raises(ValueError, match="three"):
        find(np.zeros((2, 3)), np.zeros(2))


def test_a_start_near_the_place_leads_where_the_closed_form_leads() -> None:
    rng = np.random.default_rng(16)
    nodes, place = network(rng, 8), np.array([300.0, 700.0, 5.0])
    times = times_of(nodes, place) + rng.normal(0, 0.001, 8)
    start = np.array([320.0, 690.0, 0.02])
    started = locate(nodes, times, np.full(8, 0.001), STILL, start)
    assert started.theta[:2] == pytest.approx(find(nodes, times).theta[:2], abs=1e-2)


@given(st.integers(0, 10_000), st.floats(0, 2 * math.pi), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
@settings(max_examples=60, deadline=None)
def test_turning_and_moving_the_world_turns_and_moves_the_result(
    seed: int, angle: float, east_m: float, north_m: float
) -> None:
    rng = np.random.default_rng(seed)
    nodes, place = network(rng, 9), np.array([*rng.uniform(200, 800, 2), 5.0])
    times = times_of(nodes, place) + rng.normal(0, 0.001, 9)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    moved = nodes @ turn.T + np.array([east_m, north_m, 0.0])
    here, there = find(nodes, times, medium=AIR), find(moved, times, medium=AIR)
    assert there.theta[:2] == pytest.approx(turn[:2, :2] @ here.theta[:2] + [east_m, north_m], abs=0.05)
    turned = turn[:2, :2] @ here.covariance[:2, :2] @ turn[:2, :2].T
    assert there.covariance[:2, :2] == pytest.approx(turned, rel=0.05, abs=0.05 * np.trace(turned))


@given(st.integers(0, 10_000), st.permutations(range(9)), st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_the_order_of_arrivals_and_the_start_of_time_do_not_matter(seed: int, order: list[int], later_s: float) -> None:
    rng = np.random.default_rng(seed)
    nodes, place = network(rng, 9), np.array([*rng.uniform(200, 800, 2), 5.0])
    times = times_of(nodes, place) + rng.normal(0, 0.001, 9)
    here, there = find(nodes, times), find(nodes[order], times[order] + later_s)
    assert there.theta[:2] == pytest.approx(here.theta[:2], abs=0.01)
    assert there.theta[2] == pytest.approx(here.theta[2] + later_s, abs=1e-4)
    assert there.residuals_s == pytest.approx(here.residuals_s[order], abs=1e-4)


@given(
    st.integers(3, 8).flatmap(
        lambda count: st.tuples(
            st.lists(st.tuples(*[st.floats(-3_000, 3_000)] * 2, st.floats(-50, 300)), min_size=count, max_size=count),
            st.lists(st.floats(-10, 10), min_size=count, max_size=count),
            st.lists(st.floats(1e-4, 0.5), min_size=count, max_size=count),
        )
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_arrives_the_result_is_finite_and_its_ellipse_a_covariance(
    given_arrivals: tuple[list[tuple[float, float, float]], list[float], list[float]],
) -> None:
    places, times, sigmas = (np.array(part) for part in given_arrivals)
    found = locate(places, times, sigmas, AIR)
    assert np.isfinite(found.theta).all()
    assert math.isfinite(found.log_evidence)
    assert np.linalg.eigvalsh(found.covariance[:2, :2]).min() > 0.0
    assert found.covariance[2, 2] > 0.0


@given(st.floats(0.1, 1e3), st.floats(0.1, 1e3), st.floats(0, 179.9))
def test_axes_and_bearing_of_the_ellipse_are_those_of_the_closed_form(
    first_m: float, second_m: float, bearing_deg: float
) -> None:
    major, minor = max(first_m, second_m), min(first_m, second_m)
    along = np.array([math.sin(math.radians(bearing_deg)), math.cos(math.radians(bearing_deg))])
    across = np.array([along[1], -along[0]])
    covariance = major**2 * np.outer(along, along) + minor**2 * np.outer(across, across)
    a, b, c = covariance[0, 0], covariance[1, 1], covariance[0, 1]
    root = math.sqrt((a - b) ** 2 / 4 + c**2)
    semi_major, semi_minor, bearing = ellipse95(covariance)
    assert semi_major == pytest.approx(math.sqrt(-2 * math.log(0.05) * ((a + b) / 2 + root)), rel=1e-6)
    assert semi_minor == pytest.approx(minor * 2.4477, rel=1e-3)
    assert 0.0 <= bearing <= 180.0
    if major > 1.01 * minor:
        apart = abs(bearing - bearing_deg) % 180.0
        assert min(apart, 180.0 - apart) < 0.1


def test_a_long_ellipse_to_the_north_east_bears_45_degrees() -> None:
    assert ellipse95(np.array([[2.0, 1.0], [1.0, 2.0]])) == pytest.approx(
        (2.4477 * math.sqrt(3), 2.4477, 45.0), rel=1e-4
    )

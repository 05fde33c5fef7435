"""What settled bangs say of how uneven the ways of sound are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from soundranger_broker.bang import Bang
from soundranger_broker.geodesy import Frame
from soundranger_broker.given import Given
from soundranger_broker.location import ANY_LATE, ANY_PATH, CHI2_95_2D, Location, Medium, locate
from soundranger_broker.patherrors import MOST_BANGS, PathErrors
from soundranger_broker.solver import LATE_MEAN_S, LATE_SHARE, LATE_SHARES, PATH_SIGMAS_S

STILL = Medium(340.0, 1e-3, 1e-3)
SIGMA_S = 0.001


def some_nodes(rng: np.random.Generator, count: int = 8) -> NDArray[np.float64]:
    nodes: NDArray[np.float64] = np.c_[rng.uniform(0.0, 1000.0, (count, 2)), np.zeros(count)]
    return nodes


def heard(
    errors: PathErrors, path_sigma_s: float, rng: np.random.Generator, count: int = 8, late_share: float = 0.0
) -> tuple[Location, bool]:
    """Return where a bang amid some nodes is located with what is known, and whether the ellipse holds it."""
    nodes, place = some_nodes(rng, count), rng.uniform(200.0, 800.0, 2)
    times = np.linalg.norm(nodes[:, :2] - place, axis=1) / STILL.speed_mps
    times += rng.normal(0.0, np.hypot(SIGMA_S, path_sigma_s), count)
    times += (rng.random(count) < late_share) * rng.exponential(LATE_MEAN_S, count)
    start = np.array([*place, 0.0])
    location = locate(nodes, times, np.full(count, SIGMA_S), STILL, start, None, errors.shares, errors.late_shares)
    off = location.theta[:2] - place
    return location, bool(off @ np.linalg.solve(location.covariance[:2, :2], off) < CHI2_95_2D)


def taught(path_sigma_s: float, bangs: int, seed: int = 1, late_share: float = 0.0) -> PathErrors:
    rng, errors = np.random.default_rng(seed), PathErrors()
    for _ in range(bangs):
        location, _ = heard(errors, path_sigma_s, rng, late_share=late_share)
        given = Given(STILL, path_shares=errors.shares, late_shares=errors.late_shares)
        errors.observe(Bang((), location, 0, 0.0, 20.0, (), Frame(48.0, 11.0), given))
    return errors


@pytest.mark.parametrize("path_sigma_s", [0.0, 0.004, 0.016])
def test_bangs_find_the_path_errors_of_their_network(path_sigma_s: float) -> None:
    shares = np.array(taught(path_sigma_s, 60).shares)
    assert shares.sum() == pytest.approx(1.0)
    assert np.sqrt(shares @ PATH_SIGMAS_S**2) == pytest.approx(path_sigma_s, abs=0.002)


def test_before_any_bang_every_path_error_is_as_likely() -> None:
    assert PathErrors().shares == ANY_PATH


def test_in_a_field_ellipses_become_smaller_and_stay_right() -> None:
    errors, rng = taught(0.0, 60), np.random.default_rng(2)
    found = [heard(errors, 0.0, rng, 5) for _ in range(200)]
    sizes = [
        [np.linalg.det(heard(known, 0.0, np.random.default_rng(seed), 5)[0].covariance[:2, :2]) for seed in range(20)]
        for known in (errors, PathErrors())
    ]
    assert 2.0 * np.median(sizes[0]) < np.median(sizes[1])
    assert np.mean([inside for _, inside in found]) > 0.9


def test_in_a_field_ellipses_hold_no_more_than_they_say() -> None:
    errors, rng = taught(0.0, 60), np.random.default_rng(2)
    assert np.mean([heard(errors, 0.0, rng, 5)[1] for _ in range(1000)]) <= 0.99


def test_bangs_find_how_many_arrivals_are_late() -> None:
    field, town = taught(0.0, 60), taught(0.0, 60, late_share=0.4)
    assert field.late_shares[0] > 0.9
    assert np.dot(town.late_shares, LATE_SHARES) > 5.0 * np.dot(field.late_shares, LATE_SHARES)


def test_before_any_bang_each_share_of_late_arrivals_is_as_likely() -> None:
    assert PathErrors().late_shares == ANY_LATE
    assert np.dot(ANY_LATE, LATE_SHARES) == pytest.approx(LATE_SHARE)


def test_a_field_that_becomes_a_town_is_seen_as_one() -> None:
    rng, errors = np.random.default_rng(4), taught(0.0, 60)
    for _ in range(2 * MOST_BANGS):
        location, _ = heard(errors, 0.008, rng)
        given = Given(STILL, path_shares=errors.shares, late_shares=errors.late_shares)
        errors.observe(Bang((), location, 0, 0.0, 20.0, (), Frame(48.0, 11.0), given))
    assert np.argmax(errors.shares) == np.argmin(np.abs(PATH_SIGMAS_S - 0.008))

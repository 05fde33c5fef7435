"""What settled bangs say of the air."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from soundranger_broker import air
from soundranger_broker.bang import Bang
from soundranger_broker.geodesy import Frame
from soundranger_broker.given import Given
from soundranger_broker.location import Medium, locate

NOW_NS = 1_767_225_600_000_000_000
HOUR_NS = 3_600_000_000_000
STATED = Medium(340.0, 1.8, 2.5)
NODES = np.array([[x, y, 0.0] for x in (-600.0, 0.0, 600.0) for y in (-600.0, 50.0, 600.0)])
TRUTH = np.array([342.5, 2.0, -3.0])
SIGMA_S = 0.001


def bang(
    place: tuple[float, float], given: Medium, rng: np.random.Generator, truth: NDArray[np.float64] = TRUTH
) -> Bang:
    way = NODES[:, :2] - place
    distances = np.hypot(*way.T)
    times = distances / (truth[0] + way @ truth[1:] / distances) + rng.normal(0.0, SIGMA_S, len(NODES))
    location = locate(NODES, times, np.full(len(NODES), SIGMA_S), given, np.array([*place, 0.0]))
    return Bang((), location, NOW_NS, 0.0, 20.0, (), Frame(48.0, 11.0), Given(given))


def taught(bangs: int, seed: int = 1) -> air.Air:
    rng = np.random.default_rng(seed)
    known = air.stated_air(STATED, NOW_NS)
    for place in rng.uniform(-500.0, 500.0, (bangs, 2)):
        known = air.learnt(known, bang((place[0], place[1]), air.medium([known]), rng))
    return known


def test_bangs_find_the_speed_of_sound_and_the_wind() -> None:
    known = taught(20)
    assert known.mean == pytest.approx(TRUTH, abs=0.6)
    off = known.mean - TRUTH
    assert off @ np.linalg.inv(known.covariance) @ off < 16.3  # chi-square of 3 at 99.9 %
    assert np.sqrt(np.diag(known.covariance)).max() < 0.5


def test_two_bangs_of_one_look_count_as_much_as_one_after_the_other() -> None:
    rng = np.random.default_rng(3)
    first, second = (bang(place, STATED, rng) for place in ((100.0, 200.0), (-300.0, 50.0)))
    known = air.stated_air(STATED, NOW_NS)
    both, swapped = (air.learnt(air.learnt(known, one), two) for one, two in ((first, second), (second, first)))
    assert both.mean == pytest.approx(swapped.mean)
    assert np.linalg.det(both.covariance) < np.linalg.det(air.learnt(known, first).covariance)


def test_what_was_learnt_fades_to_what_is_stated() -> None:
    later = air.drifted(taught(10), STATED, NOW_NS + 1000 * HOUR_NS)
    assert later.mean == pytest.approx(STATED.mean, abs=0.01)
    assert later.covariance == pytest.approx(np.linalg.inv(STATED.precision), abs=0.01)


def test_the_air_follows_the_thermometers() -> None:
    known = taught(10)
    warmer = air.drifted(known, replace(STATED, speed_mps=346.0), NOW_NS)
    assert warmer.mean[0] == pytest.approx(known.mean[0] + 6.0)
    assert warmer.covariance[0, 0] > known.covariance[0, 0]


def test_a_medium_gives_the_covariance_back() -> None:
    known = taught(5)
    assert np.linalg.inv(air.medium([known]).precision) == pytest.approx(known.covariance)


def told(windy_mps: float, seed: int = 4) -> tuple[air.Air, ...]:
    """Return the airs after a bang a minute for an hour, while the wind from the west grows to `windy_mps`."""
    rng = np.random.default_rng(seed)
    airs = air.stated_airs(STATED, NOW_NS)
    for minute, place in enumerate(rng.uniform(-500.0, 500.0, (60, 2))):
        now_ns = NOW_NS + minute * HOUR_NS // 60
        airs = tuple(air.drifted(one, STATED, now_ns) for one in airs)
        wind = np.array([0.0, windy_mps * minute / 60, 0.0])
        heard = bang((place[0], place[1]), air.medium(airs), rng, TRUTH + wind)
        airs = tuple(air.learnt(one, heard) for one in airs)
    return airs


def test_on_a_calm_day_the_air_is_known_better_than_on_a_changeable_one() -> None:
    calm, changeable = told(0.0), told(4.0)
    assert max(calm, key=lambda one: one.log_weight).changeable == min(air.CHANGEABLE)
    assert max(changeable, key=lambda one: one.log_weight).changeable == max(air.CHANGEABLE)
    assert 2.0 * air.medium(calm).wind_sigma_mps < air.medium(changeable).wind_sigma_mps
    for airs, truth in ((calm, TRUTH), (changeable, TRUTH + np.array([0.0, 4.0, 0.0]))):
        off = air.medium(airs).mean - truth
        assert off @ air.medium(airs).precision @ off < 16.3  # chi-square of 3 at 99.9 %


def test_the_air_of_all_weathers_is_their_mean_and_spreads_as_far_as_they_differ() -> None:
    known = taught(5)
    other = replace(known, mean=known.mean + np.array([2.0, 0.0, 0.0]))
    both = air.medium([known, other])
    assert both.mean == pytest.approx(known.mean + np.array([1.0, 0.0, 0.0]))
    assert np.linalg.inv(both.precision) == pytest.approx(known.covariance + np.diag([1.0, 0.0, 0.0]))
